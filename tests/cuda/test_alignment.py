"""Kernels that move 16 bytes at a time give the same bits for arrays that start in between."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim

SIZE = 5003  # three pieces of an optimizer's step; the last vector is not whole

STEPS = {
    "sgd": lambda params: optim.SGD(params, lr=0.1),
    "momentum": lambda params: optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda params: optim.Adam(params, lr=0.1, weight_decay=0.01),
    "amsgrad": lambda params: optim.Adam(params, lr=0.1, amsgrad=True),
}


def _from_element(first: int, numbers: np.ndarray) -> mg.Tensor:
    padded = np.concatenate([np.zeros(first, numbers.dtype), numbers.reshape(-1)])
    tensor = mg.tensor(padded, device="cuda")[first:].reshape(numbers.shape).detach()
    assert bool(tensor.array.pointer % 16) is bool(first)
    return tensor


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", STEPS.values(), ids=STEPS)
def test_optimizer_steps(make: Callable[..., optim.Optimizer], dtype: type) -> None:
    draw = np.random.default_rng(0)
    start, *grads = (draw.standard_normal(SIZE).astype(dtype) for _ in range(3))
    results = []
    for place in (mg.tensor, lambda x: _from_element(0, x), lambda x: _from_element(1, x)):
        param = place(start).requires_grad_()
        optimizer = make([param])
        for grad in grads:
            param.grad = place(grad)
            optimizer.step()
        results.append(param.detach().cpu().numpy())
    on_cpu, aligned, between = results
    np.testing.assert_array_equal(between, aligned)
    np.testing.assert_allclose(aligned, on_cpu, rtol=0, atol=50 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("channels", [slice(4, 12), slice(1, 9), slice(0, 7)])
def test_copies_of_channels(channels: slice, first: int, dtype: type) -> None:
    numbers = np.arange(5 * 3 * 12).reshape(5, 3, 12).astype(dtype)
    view = _from_element(first, numbers)[:, :, channels]
    np.testing.assert_array_equal(view.contiguous().cpu().numpy(), numbers[:, :, channels])
    target = mg.zeros(*numbers.shape, device="cuda", dtype=view.dtype)
    target[:, :, channels] = view
    expected = np.zeros_like(numbers)
    expected[:, :, channels] = numbers[:, :, channels]
    np.testing.assert_array_equal(target.cpu().numpy(), expected)
