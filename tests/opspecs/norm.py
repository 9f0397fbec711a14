"""Batch normalisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.ops.norm import batch_norm
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import channels, floats, positive

EXTRA = st.sampled_from(((), (1,), (5,), (1, 1), (2, 3), (4, 4), (2, 1, 3)))


@st.composite
def batch_norm_cases(draw: st.DrawFn, smooth: bool = False) -> Case:
    """(N, C), (N, C, L), (N, C, H, W) and one axis more; every argument present or absent.

    A mean of up to 30 spreads. smooth: a spread well above eps, for numerical differentiation.
    """
    N, C, extra = draw(st.integers(0, 4)), draw(channels()), draw(EXTRA)
    training = draw(st.booleans()) and N * math.prod(extra) != 1
    mean = draw(st.sampled_from((0.0, 1.0, -30.0)))
    kinds = ("normal",) if smooth else ("normal", "ties")
    input = draw(floats((N, C, *extra), kinds=kinds)) + mean
    running = not training or draw(st.booleans())
    return Case(
        (
            input,
            draw(floats((C,))) if running else None,
            draw(positive((C,))) if running else None,
            draw(floats((C,))) if draw(st.booleans()) else None,
            draw(floats((C,))) if draw(st.booleans()) else None,
            training,
            draw(st.sampled_from((0.1, 0.0, 1.0, 0.37))),
            draw(st.sampled_from((1e-5, 1e-3, 0.5))),
        ),
        constant=frozenset({1, 2}),
    )


def _oracle(torch: Any, *args: Any) -> Any:
    return torch.nn.functional.batch_norm(*args)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape)


SPECS = [
    OpSpec(
        name="batch_norm",
        function=batch_norm,
        oracle=_oracle,
        cases=batch_norm_cases(),
        gradcheck_cases=batch_norm_cases(smooth=True),
        mutates=frozenset({1, 2}),
        errors=(
            ErrorCase(
                (ones(1, 3), ones(3), ones(3)), {"training": True},
                ShapeError, r"^batch_norm: .*more than one value per channel.*\(1, 3\)",
            ),
            ErrorCase(
                (ones(1, 3, 1, 1), None, None), {"training": True},
                ShapeError, r"^batch_norm: .*more than one value per channel.*\(1, 3, 1, 1\)",
            ),
            ErrorCase((ones(3), ones(3), ones(3)), {}, ShapeError, r"^batch_norm: input .*\(3,\)"),
            ErrorCase(
                (ones(2, 3), ones(2), ones(3)), {},
                ShapeError, r"^batch_norm: running_mean must have shape \(3,\).*got \(2,\)",
            ),
            ErrorCase(
                (ones(2, 3), ones(3), ones(3), ones(4)), {},
                ShapeError, r"^batch_norm: weight must have shape \(3,\).*got \(4,\)",
            ),
            ErrorCase(
                (ones(2, 3), ones(3), ones(3), ones(3), ones(4)), {},
                ShapeError, r"^batch_norm: bias must have shape \(3,\).*got \(4,\)",
            ),
            ErrorCase((ones(2, 3), None, None), {}, ValueError, r"^batch_norm: evaluation needs"),
            ErrorCase(
                (ones(2, 3), ones(3), None), {"training": True},
                ValueError, r"^batch_norm: running_mean and running_var must be given both",
            ),
            ErrorCase(
                (ones(2, 3), ones(3), ones(3)), {"training": True, "eps": 0.0},
                ValueError, r"^batch_norm: eps must be positive in training, got 0",
            ),
            ErrorCase(
                (ones(2, 3), ones(3), ones(3)), {"eps": -1.0},
                ValueError, r"^batch_norm: eps must be at least 0, got -1",
            ),
            ErrorCase(
                (ones(2, 3), ones(3), ones(3)), {"momentum": None},
                DTypeError, r"^batch_norm: momentum must be a number, got None",
            ),
            ErrorCase(
                (np.ones((2, 3), np.int64), None, None), {"training": True},
                DTypeError, r"^batch_norm: .*int64",
            ),
        ),
    ),
]  # fmt: skip
