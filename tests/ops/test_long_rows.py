"""Rows longer than the operation table's, where kernels take other paths: blocks and vectors."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad
import minigrad.nn.functional as F

torch = pytest.importorskip("torch")

TOLERANCE = {np.float32: 3e-6, np.float64: 1e-13}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
WIDTHS = pytest.mark.parametrize("C", [63, 64, 65, 127, 128, 1000])


def _close(ours, theirs, dtype):
    ours, theirs = ours.detach().numpy(), theirs.detach().numpy()
    scale = max(1.0, float(np.nanmax(np.abs(theirs), initial=0, where=np.isfinite(theirs))))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[dtype] * scale)


@DTYPES
@WIDTHS
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_long_rows_and_its_gradient(name: str, C: int, dtype: type) -> None:
    rng = np.random.default_rng(C)
    x = (5 * rng.standard_normal((9, C))).astype(dtype)
    for row in range(5):  # the maximum at either end, in the middle, and where vectors end
        x[row, (0, C - 1, C // 2, 15, 62)[row]] = 40
    x[5, 7], x[6, C - 1], x[7, :] = np.nan, np.inf, -np.inf
    g = rng.standard_normal(x.shape).astype(dtype)
    a = minigrad.from_numpy(x.copy()).requires_grad_()
    b = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    ours, theirs = getattr(F, name)(a, 1), getattr(torch, name)(b, 1)
    _close(ours, theirs, dtype)
    ours.backward(minigrad.from_numpy(g))
    theirs.backward(torch.from_numpy(g.astype(np.float64)))
    _close(a.grad, b.grad, dtype)


@DTYPES
@WIDTHS
@pytest.mark.parametrize("offset", [0, 300])
def test_layer_norm_of_long_rows_and_its_gradients(C: int, dtype: type, offset: int) -> None:
    rng = np.random.default_rng(C)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in ((37, C), (C,), (C,))]
    arrays[0] += offset
    g = rng.standard_normal((37, C)).astype(dtype)
    ours = [minigrad.from_numpy(each.copy()).requires_grad_() for each in arrays]
    theirs = [torch.from_numpy(each.astype(np.float64)).requires_grad_() for each in arrays]
    a = F.layer_norm(ours[0], (C,), *ours[1:])
    b = torch.nn.functional.layer_norm(theirs[0], (C,), *theirs[1:])
    a.backward(minigrad.from_numpy(g))
    b.backward(torch.from_numpy(g.astype(np.float64)))
    _close(a, b, np.float32 if offset else dtype)
    if not offset or dtype is np.float32:
        for mine, its in zip(ours, theirs, strict=True):
            _close(mine.grad, its.grad, dtype)


def test_layer_norm_bias_of_several_axes_without_weight() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4) ** 2
    bias = minigrad.ones(3, 4).requires_grad_()
    F.layer_norm(minigrad.from_numpy(x), (3, 4), None, bias).sum().backward()
    np.testing.assert_array_equal(bias.grad.numpy(), np.full((3, 4), 2, np.float32))


@DTYPES
@pytest.mark.parametrize(("shape", "dim"), [((1 << 17,), 0), ((300, 700), 0), ((3, 5000), 1)])
def test_sums_of_many_terms_are_those_of_float64(shape, dim: int, dtype: type) -> None:
    x = (np.random.default_rng(0).standard_normal(shape) + 3).astype(dtype)
    exact = x.astype(np.float64)
    tolerance = 3e-7 if dtype is np.float32 else 1e-14
    for name in ("sum", "mean"):
        result = getattr(minigrad.from_numpy(x), name)(dim).numpy()
        np.testing.assert_allclose(result, getattr(exact, name)(dim), rtol=tolerance)
    variance = minigrad.from_numpy(x).var(dim).numpy()
    np.testing.assert_allclose(variance, exact.var(dim, ddof=1), rtol=tolerance)


def test_sums_of_large_integers_are_exact() -> None:
    x = np.full((2000, 3), 2**50 + 1, np.int64)
    assert minigrad.from_numpy(x).sum().item() == 6000 * (2**50 + 1)
    assert minigrad.from_numpy(x).sum(0).tolist() == [2000 * (2**50 + 1)] * 3


def test_tanh_near_one_leaves_the_gradient_that_torch_leaves() -> None:
    """1 − tanh² is made of the last digits of tanh, which must not round to 1 too early."""
    x = np.linspace(7.5, 9.5, 4001, dtype=np.float32)
    mine = minigrad.tensor(x, requires_grad=True)
    minigrad.tanh(mine).sum().backward()
    theirs = torch.tensor(x, requires_grad=True)
    torch.tanh(theirs).sum().backward()
    np.testing.assert_allclose(mine.grad.numpy(), theirs.grad.numpy(), rtol=0, atol=1.2e-7)
    assert ((mine.grad.numpy() == 0) == (x > 9.01)).mean() > 0.98


def test_layer_norm_of_one_number_has_no_gradient() -> None:
    rng = np.random.default_rng(0)
    x = minigrad.tensor(rng.standard_normal((50, 1)).astype(np.float32), requires_grad=True)
    weight = minigrad.tensor(np.array([1.2334534], np.float32))
    out = minigrad.nn.functional.layer_norm(x, (1,), weight)
    out.backward(minigrad.tensor(rng.standard_normal((50, 1)).astype(np.float32)))
    np.testing.assert_array_equal(x.grad.numpy(), 0)
