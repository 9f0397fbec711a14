"""Operations whose kernels the few cases of an emulated GPU may miss give the CPU's results.

CI compiles what was launched and refuses a kernel that never was, so each needs a sure case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn


def _leaf(device: str, *shape: int, low: float = -2.0, high: float = 2.0) -> mg.Tensor:
    drawn = np.random.default_rng(3).uniform(low, high, shape).astype(np.float32)
    return mg.tensor(drawn, device=device, requires_grad=True)


def _with_gradient(function: Callable[..., mg.Tensor], *inputs: mg.Tensor) -> list[Any]:
    out = function(*inputs)
    (out * out).sum().backward()
    return [out, *(x.grad for x in inputs)]


def _kl_div(device: str) -> list[Any]:
    x, t = (_leaf(device, 3, 4, low=-3, high=-0.1) for _ in range(2))
    return _with_gradient(lambda x, t: F.kl_div(x, t, reduction="sum", log_target=True), x, t)


def _put(device: str, count: int) -> mg.Tensor:
    """Of equal positions the last one wins."""
    target = mg.zeros(40, 2, device=device)
    positions = mg.tensor(np.random.default_rng(1).integers(0, 40, count), device=device)
    target[positions] = mg.arange(2.0 * count, device=device).reshape(count, 2)
    return target


def _clipped(device: str) -> mg.Tensor:
    x = _leaf(device, 9)
    (x * x * x).sum().backward()
    nn.utils.clip_grad_value_([x], 0.5)
    assert x.grad is not None
    return x.grad


def _drawn(draw: Callable[[], mg.Tensor]) -> mg.Tensor:
    mg.manual_seed(5)
    return draw()


def _converted(device: str) -> list[mg.Tensor]:
    """Floats to integers, within their range and beyond it."""
    values = [
        np.nan,
        np.inf,
        -np.inf,
        1e30,
        -1e30,
        2.0**63,
        -(2.0**63),
        2.0**32 + 257,
        300,
        -1,
        -0.5,
    ]
    return [
        mg.tensor(values, dtype=source, device=device).to(target)
        for source in (mg.float32, mg.float64) for target in (mg.int64, mg.uint8)
    ]  # fmt: skip


CASES: dict[str, Callable[[str], Any]] = {
    "gelu by tanh": lambda d: _with_gradient(lambda x: F.gelu(x, approximate="tanh"), _leaf(d, 7)),
    "kl_div of logarithms": _kl_div,
    "sum of bools": lambda d: (
        mg.tensor([True, False], device=d) + mg.tensor([True, True], device=d)
    ),
    "take one row often": lambda d: _with_gradient(
        lambda x: x[mg.tensor([2] * 90 + [0], device=d)], _leaf(d, 3, 2)
    ),
    "mask": lambda d: _leaf(d, 5, 3)[_leaf(d, 5, 3) > 0],
    "put few": lambda d: _put(d, 3),
    "put many": lambda d: _put(d, 300),
    "single losses": lambda d: [
        F.mse_loss(_leaf(d, 6), _leaf(d, 6) * 2, reduction="none"),
        F.l1_loss(_leaf(d, 6), _leaf(d, 6) * 2, reduction="none"),
        F.smooth_l1_loss(_leaf(d, 6), _leaf(d, 6) * 2, reduction="none"),
    ],
    "clip_grad_value_": _clipped,
    "rand": lambda d: _drawn(lambda: mg.rand(21, device=d)),
    "randn": lambda d: _drawn(lambda: mg.randn(21, device=d)),
    "randn of doubles": lambda d: _drawn(lambda: mg.randn(9, device=d, dtype=mg.float64)),
    "randint": lambda d: _drawn(lambda: mg.randint(-3, 9, (21,), device=d)),
    "randperm": lambda d: _drawn(lambda: mg.randperm(60, device=d)),
    "dropout": lambda d: _drawn(lambda: F.dropout(_leaf(d, 30), 0.4)),
}

EQUAL_BITS: dict[str, Callable[[str], Any]] = {
    "linspace": lambda d: [
        mg.linspace(-1.3, 2.7, 999, device=d, dtype=dtype) for dtype in (mg.float32, mg.float64)
    ],
    "arange": lambda d: [
        mg.arange(-1.3, 2.7, 0.0037, device=d, dtype=dtype) for dtype in (mg.float32, mg.float64)
    ],
    "arange of ints": lambda d: mg.arange(2**55 + 1, 2**55 + 90, 3, device=d),
    "conversion to integers": _converted,
}


@pytest.mark.parametrize("name", EQUAL_BITS)
def test_bits_are_the_cpus(name: str) -> None:
    there, here = (EQUAL_BITS[name](device) for device in ("cuda", "cpu"))
    pairs = zip(there, here, strict=True) if isinstance(there, list) else [(there, here)]
    for mine, theirs in pairs:
        assert mine.is_cuda
        np.testing.assert_array_equal(mine.cpu().numpy(), theirs.numpy(), strict=True)


@pytest.mark.parametrize("name", CASES)
def test_results_are_the_cpus(name: str) -> None:
    results = []
    for device in ("cpu", "cuda"):
        found = CASES[name](device)
        tensors = found if isinstance(found, list) else [found]
        assert all(t.device.type == device for t in tensors)
        results.append([t.detach().cpu().numpy() for t in tensors])
    for there, here in zip(results[1], results[0], strict=True):
        assert there.dtype == here.dtype
        np.testing.assert_allclose(there, here, rtol=2e-6, atol=2e-6)
