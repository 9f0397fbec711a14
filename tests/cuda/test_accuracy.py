"""Sums on a GPU, some of them compensated rather than wide, keep the digits that the CPU keeps."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F


def _ulps(actual: mg.Tensor, expected: np.ndarray) -> float:
    """The largest error in units in the last place of a channel's largest number."""
    scale = np.abs(expected).max(axis=0).astype(np.float32)
    return float((np.abs(actual.cpu().numpy() - expected) / np.spacing(scale)).max())


# Chunks with several rows a lane, and a short end.
@pytest.mark.parametrize(("rows", "C"), [(9_001, 7), (700, 96)])
@pytest.mark.parametrize("mean", [0.0, -3e5])
def test_batch_norm_is_exact_to_a_few_ulps_whatever_the_mean(
    rows: int, C: int, mean: float
) -> None:
    generator = np.random.default_rng(rows)
    x = (generator.standard_normal((rows, C)) + mean).astype(np.float32)
    x[0] += 1000  # the value that sums are distances from
    g = generator.standard_normal((rows, C)).astype(np.float32)
    input = mg.tensor(x, device="cuda", requires_grad=True)
    weight = mg.ones(C, device="cuda", requires_grad=True)
    running_mean, running_var = mg.zeros(C, device="cuda"), mg.zeros(C, device="cuda")
    out = F.batch_norm(input, running_mean, running_var, weight, None, training=True, momentum=1.0)
    out.backward(mg.tensor(g, device="cuda"))

    centred = x - x.mean(axis=0, dtype=np.float64)
    variance = (centred**2).mean(axis=0)
    normal = centred / np.sqrt(variance + 1e-5)
    slope = (g * normal).mean(axis=0)
    grad = (g - g.mean(axis=0, dtype=np.float64) - normal * slope) / np.sqrt(variance + 1e-5)
    assert _ulps(out.detach(), normal) < 3
    assert _ulps(input.grad, grad) < 3
    assert _ulps(running_mean[None], x.mean(axis=0, dtype=np.float64)[None]) < 2
    assert _ulps(running_var[None], (variance * rows / (rows - 1))[None]) < 2
    # Σ g·x̂ has terms of size 1 that cancel: its error is that of the terms.
    assert np.abs(weight.grad.cpu().numpy() - (g * normal).sum(axis=0)).max() < 1e-6 * rows**0.5


@pytest.mark.parametrize("mean", [0.0, -3e5])
def test_layer_norm_is_exact_to_a_few_ulps_whatever_the_mean(mean: float) -> None:
    generator = np.random.default_rng(0)
    x = (generator.standard_normal((3, 2_501)) + mean).astype(np.float32)
    g = generator.standard_normal(x.shape).astype(np.float32)
    input = mg.tensor(x, device="cuda", requires_grad=True)
    out = F.layer_norm(input, x.shape[1:])
    out.backward(mg.tensor(g, device="cuda"))

    centred = x - x.mean(axis=1, dtype=np.float64, keepdims=True)
    scale = 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    normal = centred * scale
    slope = (g * normal).mean(axis=1, keepdims=True)
    grad = scale * (g - g.mean(axis=1, dtype=np.float64, keepdims=True) - normal * slope)
    assert _ulps(out.detach().T, normal.T) < 3
    assert _ulps(input.grad.T, grad.T) < 3


def test_sums_are_exact_though_their_terms_cancel() -> None:
    draw = np.random.default_rng(0)
    x = (draw.standard_normal((9_001, 3)) * 1e4).astype(np.float32)
    x = np.concatenate([x, -x[::-1], np.full((1, 3), 1e-3, np.float32)])
    np.testing.assert_allclose(mg.tensor(x, device="cuda").sum(0).cpu().numpy(), 1e-3, rtol=1e-5)
