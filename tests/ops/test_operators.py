"""Python's operators on tensors are torch's functions."""

from __future__ import annotations

import operator

import numpy as np
import pytest
import torch

from minigrad import Tensor

LEFT, RIGHT = np.arange(1.0, 7).reshape(2, 3), np.arange(2.0, 8).reshape(3, 2)


@pytest.mark.parametrize("symbol", ["matmul"])
def test_matrix_products(symbol) -> None:
    apply = getattr(operator, symbol)
    expected = apply(torch.tensor(LEFT), torch.tensor(RIGHT)).numpy()
    np.testing.assert_array_equal(apply(Tensor(LEFT), Tensor(RIGHT)).data, expected)
    np.testing.assert_array_equal(Tensor(LEFT).matmul(Tensor(RIGHT)).data, expected)


@pytest.mark.parametrize("symbol", ["add", "sub", "mul", "truediv", "pow", "lt", "ge", "eq"])
@pytest.mark.parametrize("other", [2, 2.5, "tensor"])
def test_elementwise_operators_on_either_side(symbol, other) -> None:
    apply = getattr(operator, symbol)
    ours, theirs = (Tensor(LEFT), torch.tensor(LEFT))
    pairs = [(ours, theirs)] * 2 if other == "tensor" else [(other, other), (ours, theirs)]
    for mine, torchs in (pairs, pairs[::-1]):
        expected = apply(mine[1], torchs[1])
        np.testing.assert_allclose(apply(mine[0], torchs[0]).data, expected.numpy(), rtol=1e-14)


@pytest.mark.parametrize("other", [2, np.ones((3, 2)), "x", None])
def test_a_product_with_what_is_no_tensor_is_refused(other) -> None:
    with pytest.raises(TypeError):
        Tensor(LEFT) @ other
