"""The lesson runs, each step agrees with the last, and the shapes are the right ones."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from examples import convolution_from_scratch as lesson


def test_every_step_agrees_with_the_one_before(capsys) -> None:
    found = lesson.main()
    assert set(found) == {"loops", "unfold", "layer", "by hand", "kernel"}
    assert max(found.values()) < 1e-12
    printed = capsys.readouterr().out
    assert "(3, 1024, 768) → (16, 511, 383)" in printed
    assert "(3, 1920, 1080) → (16, 959, 539)" in printed
    assert "expects 3 input channels" in printed
    assert "gradcheck" in printed


@pytest.mark.parametrize(
    ("size", "expected"), [(1024, 511), (768, 383), (1920, 959), (1080, 539), (3, 1), (5, 2)]
)
def test_output_size_subtracts_the_kernel_before_dividing(size, expected) -> None:
    assert lesson.output_size(size, 5, 2, 1) == expected


def test_a_wrong_step_is_reported() -> None:
    with pytest.raises(AssertionError, match=r"a step: 0.1 is more than"):
        lesson.report("a step", "the last", 0.1)


def test_my_conv2d_refuses_what_its_kernel_does_not_fit() -> None:
    x, weight = mg.tensor(np.zeros((1, 8, 9, 9))), mg.tensor(np.zeros((4, 3, 5, 5)))
    with pytest.raises(mg.ShapeError, match="matmul"):
        lesson.MyConv2d.apply(x, weight, mg.tensor(np.zeros(4)), 2, 1)
