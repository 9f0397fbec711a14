"""What the table cannot ask of batch normalisation: accuracy, in-place updates, devices."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import DeviceError, GraphError, Tensor
from minigrad.device import Device
from minigrad.ops.norm import batch_norm

devices = pytest.mark.parametrize("device", [Device("cpu"), Device("reference")], ids=str)


def ulps(actual: np.ndarray, expected: np.ndarray) -> float:
    scale = np.abs(expected).max(axis=0).astype(actual.dtype)
    return float((np.abs(actual - expected) / np.spacing(scale)).max())


# One channel to a line, several lines to a chunk, a line longer than its limit, and a short end.
@pytest.mark.parametrize(("rows", "C"), [(50_001, 1), (9_001, 7), (700, 300)])
@pytest.mark.parametrize("mean", [0.0, 1e4, -3e5])
def test_float32_training_is_exact_to_a_few_ulps_whatever_the_mean(
    rows: int, C: int, mean: float
) -> None:
    generator = np.random.default_rng(rows)
    x = (generator.standard_normal((rows, C)) + mean).astype(np.float32)
    g = generator.standard_normal((rows, C)).astype(np.float32)
    input = Tensor(x, requires_grad=True)
    weight = Tensor(np.ones(C, np.float32), requires_grad=True)
    running_mean = Tensor(np.zeros(C, np.float32))
    running_var = Tensor(np.zeros(C, np.float32))
    out = batch_norm(input, running_mean, running_var, weight, None, training=True, momentum=1.0)
    out.backward(Tensor(g))

    centred = x - x.mean(axis=0, dtype=np.float64)
    variance = (centred**2).mean(axis=0)
    normal = centred / np.sqrt(variance + 1e-5)
    slope = (g * normal).mean(axis=0)
    grad = (g - g.mean(axis=0, dtype=np.float64) - normal * slope) / np.sqrt(variance + 1e-5)
    assert ulps(out.array, normal) < 3
    assert ulps(input.grad.array, grad) < 3
    assert ulps(running_mean.array[None], x.mean(axis=0, dtype=np.float64)[None]) < 2
    assert ulps(running_var.array[None], (variance * rows / (rows - 1))[None]) < 2
    # Σ g·x̂ has terms of size 1 that cancel: its error is that of the terms.
    assert np.abs(weight.grad.array - (g * normal).sum(axis=0)).max() < 1e-6 * rows**0.5


@pytest.mark.parametrize("outlier", [1e3, 1e8])
def test_statistics_are_exact_where_the_first_value_is_far_from_all_others(outlier: float) -> None:
    # Sums run over the distance from the first value, which is the outlier here.
    x = np.random.default_rng(0).standard_normal((20_000, 3))
    x[0] = outlier
    running_mean, running_var = Tensor(np.zeros(3)), Tensor(np.zeros(3))
    batch_norm(Tensor(x), running_mean, running_var, training=True, momentum=1.0)
    np.testing.assert_allclose(running_mean.array, x.mean(axis=0), rtol=1e-11)
    np.testing.assert_allclose(running_var.array, x.var(axis=0, ddof=1), rtol=1e-11)


@devices
def test_running_statistics_are_updated_through_views(device: Device) -> None:
    storage = np.zeros((2, 6), np.float32)
    running_mean = Tensor(storage[0, ::2], device)
    running_var = Tensor(storage[1, 1::2], device)
    x = np.array([[0, 1, 2], [2, 3, 8]], np.float32)
    batch_norm(Tensor(x, device), running_mean, running_var, training=True, momentum=0.5)
    np.testing.assert_array_equal(storage, [[0.5, 0, 1, 0, 2.5, 0], [0, 1, 0, 1, 0, 9]])


@devices
def test_updating_a_running_statistic_counts_as_a_change_in_place(device: Device) -> None:
    running_mean = Tensor(np.zeros(3), device)
    before = running_mean._version.value
    batch_norm(Tensor(np.eye(3), device), running_mean, Tensor(np.ones(3), device), training=True)
    assert running_mean._version.value > before


@devices
def test_evaluation_can_be_differentiated_after_the_statistics_moved(device: Device) -> None:
    running_mean, running_var = Tensor(np.zeros(2), device), Tensor(np.ones(2), device)
    input = Tensor(np.array([[1.0, 2.0], [5.0, 3.0]]), device, requires_grad=True)
    out = batch_norm(input, running_mean, running_var, eps=0.0)
    batch_norm(input.detach(), running_mean, running_var, training=True)
    out.backward(Tensor(np.ones((2, 2)), device))
    np.testing.assert_array_equal(input.grad.array, np.ones((2, 2)))


@devices
def test_an_empty_batch_leaves_the_running_statistics_alone(device: Device) -> None:
    running_mean, running_var = Tensor(np.full(3, 7.0), device), Tensor(np.full(3, 5.0), device)
    weight = Tensor(np.ones(3), device, requires_grad=True)
    input = Tensor(np.empty((0, 3, 2, 2)), device, requires_grad=True)
    out = batch_norm(input, running_mean, running_var, weight, training=True)
    out.backward(Tensor(np.empty((0, 3, 2, 2)), device))
    assert input.grad.shape == (0, 3, 2, 2)
    np.testing.assert_array_equal(weight.grad.array, np.zeros(3))
    np.testing.assert_array_equal(running_mean.array, np.full(3, 7.0))
    np.testing.assert_array_equal(running_var.array, np.full(3, 5.0))


def test_running_statistics_must_not_require_gradients() -> None:
    running_mean = Tensor(np.zeros(3), requires_grad=True)
    with pytest.raises(GraphError, match=r"^batch_norm: running_mean must not require gradients"):
        batch_norm(Tensor(np.ones((2, 3))), running_mean, Tensor(np.ones(3)))


def test_operands_on_two_devices_are_refused() -> None:
    weight = Tensor(np.ones(3), Device("reference"))
    with pytest.raises(DeviceError, match=r"^batch_norm: .*weight on reference"):
        batch_norm(Tensor(np.ones((2, 3))), None, None, weight, training=True)


@pytest.mark.parametrize("dtype", [mg.float32, mg.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("norm", ["group_norm", "layer_norm"])
def test_a_group_of_one_number_has_no_gradient_but_rounding(norm: str, dtype) -> None:
    """It is its own mean, so x̂ = 0 whatever x is: w·g·r − mean(w·g)·r cancels."""
    draw = np.random.default_rng(0)
    x = mg.tensor(draw.standard_normal((50, 1)) + 64, dtype=dtype, requires_grad=True)
    weight = mg.tensor(draw.standard_normal(1), dtype=dtype, requires_grad=True)
    argument = 1 if norm == "group_norm" else (1,)
    out = getattr(F, norm)(x, argument, weight=weight)
    upstream = draw.standard_normal((50, 1))
    out.backward(mg.tensor(upstream, dtype=dtype))
    np.testing.assert_array_equal(out.detach().numpy(), 0)
    np.testing.assert_array_equal(weight.grad.numpy(), 0)
    cancels = np.abs(upstream * weight.detach().numpy()) / math.sqrt(1e-5)
    assert np.all(np.abs(x.grad.numpy()) <= np.finfo(np.float64).eps * cancels)


# Few samples of many channels, whose groups are cut into parts; many samples of few, whose lines
# hold several positions and end short; channels that fill no whole vectors; one position.
@pytest.mark.parametrize(
    ("N", "C", "L", "groups"),
    [
        (1, 96, 50, 6),
        (2, 64, 7, 64),
        (130, 3, 11, 3),
        (3, 33, 40, 3),
        (5, 6, 301, 2),
        (40, 36, 1, 2),
    ],
)
@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_float32_group_norm_is_exact_to_a_few_ulps(
    N: int, C: int, L: int, groups: int, mean: float
) -> None:
    generator = np.random.default_rng(C)
    x = (generator.standard_normal((N, C, L)) + mean).astype(np.float32)
    g = generator.standard_normal((N, C, L)).astype(np.float32)
    w, b = generator.standard_normal((2, C)).astype(np.float32)
    input, weight, bias = (Tensor(array, requires_grad=True) for array in (x, w, b))
    out = F.group_norm(input, groups, weight, bias)
    out.backward(Tensor(g))

    grouped = x.reshape(N, groups, -1).astype(np.float64)
    centred = grouped - grouped.mean(axis=2, keepdims=True)
    root = 1 / np.sqrt((centred**2).mean(axis=2, keepdims=True) + 1e-5)
    normal = (centred * root).reshape(N, C, L)
    scaled = (w[:, None] * g.astype(np.float64)).reshape(N, groups, -1)
    slope = (scaled * centred * root).mean(axis=2, keepdims=True)
    grad = root * (scaled - scaled.mean(axis=2, keepdims=True) - centred * root * slope)
    # A few ULP of the largest: what cancels is as large as that.
    for actual, expected in (
        (out, normal * w[:, None] + b[:, None]),
        (input.grad, grad.reshape(N, C, L)),
        (weight.grad, (g * normal).sum(axis=(0, 2))),
        (bias.grad, g.sum(axis=(0, 2), dtype=np.float64)),
    ):
        assert np.abs(actual.array - expected).max() < 2**-23 * np.abs(expected).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layer_norm_of_single_numbers_is_its_bias(dtype: type) -> None:
    draws = np.random.default_rng(0)
    x, g = (Tensor(draws.normal(50, 20, (64, 1)).astype(dtype)) for _ in range(2))
    weight, bias = (Tensor(draws.normal(0, 2, 1).astype(dtype)) for _ in range(2))
    for t in (x, weight, bias):
        t.requires_grad = True
    out = F.layer_norm(x, (1,), weight, bias)
    out.backward(g)
    assert np.array_equal(out.array, np.broadcast_to(bias.array, (64, 1)))
    assert weight.grad is not None
    assert np.array_equal(weight.grad.array, [0])
    # weight·g/√eps less its mean.
    largest = np.abs(weight.array * g.array).max() / math.sqrt(1e-5)
    assert x.grad is not None
    assert np.abs(x.grad.array).max() <= 2 * np.finfo(dtype).eps * largest
