"""Python's operators on tensors are torch's functions."""

from __future__ import annotations

import operator

import numpy as np
import pytest
import torch

from minigrad import Tensor

LEFT, RIGHT = np.arange(1.0, 7).reshape(2, 3), np.arange(2.0, 8).reshape(3, 2)


def test_matrix_products() -> None:
    expected = (torch.tensor(LEFT) @ torch.tensor(RIGHT)).numpy()
    np.testing.assert_array_equal((Tensor(LEFT) @ Tensor(RIGHT)).array, expected)
    np.testing.assert_array_equal(Tensor(LEFT).matmul(Tensor(RIGHT)).array, expected)


@pytest.mark.parametrize("symbol", ["add", "sub", "mul", "truediv", "pow", "lt", "ge", "eq"])
@pytest.mark.parametrize("other", [2, 2.5, "tensor"])
def test_elementwise_operators_on_either_side(symbol, other) -> None:
    apply = getattr(operator, symbol)
    ours, theirs = (Tensor(LEFT), torch.tensor(LEFT))
    mine, torchs = (ours, theirs) if other == "tensor" else (other, other)
    np.testing.assert_allclose(apply(ours, mine).array, apply(theirs, torchs).numpy(), rtol=1e-14)
    np.testing.assert_allclose(apply(mine, ours).array, apply(torchs, theirs).numpy(), rtol=1e-14)


@pytest.mark.parametrize("other", [2, np.ones((3, 2)), "x", None])
def test_a_product_with_what_is_no_tensor_is_refused(other) -> None:
    with pytest.raises(TypeError):
        Tensor(LEFT) @ other
