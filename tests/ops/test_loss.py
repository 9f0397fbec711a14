"""What the table cannot ask of losses: warnings, devices, fused forms, accuracy of long sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minigrad import DeviceError, GraphError, Tensor
from minigrad.device import Device
from minigrad.ops.divergence import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    kl_div,
)
from minigrad.ops.loss import cross_entropy, nll_loss
from minigrad.ops.pointwise_loss import huber_loss, l1_loss, mse_loss, smooth_l1_loss
from minigrad.ops.softmax import log_softmax, softmax

devices = pytest.mark.parametrize("device", [Device("cpu"), Device("reference")], ids=str)
differences = pytest.mark.parametrize("loss", [mse_loss, l1_loss, smooth_l1_loss, huber_loss])


def scores(*shape: int, device: Device | str = "cpu") -> Tensor:
    values = np.random.default_rng(7).standard_normal(shape)
    return Tensor(values, Device(str(device)), requires_grad=True)


@devices
@pytest.mark.parametrize("ignore_index", [-100, 1])
def test_all_targets_ignored_gives_nan_and_gradient_zero(device: Device, ignore_index: int) -> None:
    input = scores(3, 4, device=device)
    target = Tensor(np.full(3, ignore_index), device)
    loss = cross_entropy(input, target, ignore_index=ignore_index)
    loss.backward()
    assert np.isnan(loss.array)
    np.testing.assert_array_equal(input.grad.array, np.zeros((3, 4)))


@devices
def test_an_ignored_row_may_hold_anything(device: Device) -> None:
    """torch's gradient is NaN there; ours is 0, as for every ignored row."""
    values = np.array([[np.inf, -np.inf, np.nan], [1.0, 2.0, 3.0]])
    input = Tensor(values, device, requires_grad=True)
    loss = cross_entropy(input, Tensor(np.array([-100, 2]), device))
    loss.backward()
    np.testing.assert_allclose(loss.array, np.log(np.exp([-2.0, -1.0, 0.0]).sum()), rtol=1e-14)
    np.testing.assert_array_equal(input.grad.array[0], np.zeros(3))


@devices
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_cross_entropy_equals_nll_loss_of_log_softmax(device: Device, reduction: str) -> None:
    fused, composed = scores(5, 4, 3, device=device), scores(5, 4, 3, device=device)
    target = np.random.default_rng(1).integers(0, 4, (5, 3))
    target[2, 1] = -100
    weight = Tensor(np.array([0.5, 1.0, 2.0, 0.25]), device)
    target = Tensor(target, device)
    left = cross_entropy(fused, target, weight, reduction=reduction)
    right = nll_loss(log_softmax(composed, 1), target, weight, reduction=reduction)
    np.testing.assert_allclose(left.array, right.array, rtol=1e-13)
    gradient = Tensor(np.random.default_rng(2).standard_normal(left.shape), device)
    left.backward(gradient)
    right.backward(gradient)
    np.testing.assert_allclose(fused.grad.array, composed.grad.array, rtol=0, atol=1e-14)


@devices
def test_one_hot_probabilities_equal_indices(device: Device) -> None:
    indices = np.array([2, 0, 3])
    left, right = scores(3, 4, device=device), scores(3, 4, device=device)
    by_index = cross_entropy(left, Tensor(indices, device), label_smoothing=0.2)
    by_share = cross_entropy(right, Tensor(np.eye(4)[indices], device), label_smoothing=0.2)
    by_index.backward()
    by_share.backward()
    np.testing.assert_allclose(by_index.array, by_share.array, rtol=1e-14)
    np.testing.assert_allclose(left.grad.array, right.grad.array, rtol=0, atol=1e-15)


@devices
def test_uint8_targets_are_class_indices(device: Device) -> None:
    input, indices = scores(3, 4, device=device), np.array([2, 0, 3])
    as_bytes = cross_entropy(input, Tensor(indices.astype(np.uint8), device))
    np.testing.assert_array_equal(
        as_bytes.array, cross_entropy(input, Tensor(indices, device)).array
    )


@pytest.mark.parametrize("loss", [cross_entropy, nll_loss, mse_loss, l1_loss, smooth_l1_loss])
@pytest.mark.parametrize(
    ("flags", "reduction"),
    [
        ({"size_average": False}, "sum"),
        ({"size_average": True}, "mean"),
        ({"reduce": True}, "mean"),
        ({"reduce": False}, "none"),
        ({"reduce": False, "size_average": False}, "none"),
    ],
)
def test_deprecated_flags_warn_and_name_the_reduction(
    loss: Callable[..., Tensor], flags: dict[str, Any], reduction: str
) -> None:
    input = scores(3, 4)
    indices = loss in (cross_entropy, nll_loss)
    target = Tensor(np.array([0, 3, 1]) if indices else np.ones((3, 4)))
    with pytest.warns(UserWarning, match=rf"{loss.__name__}: .*reduction='{reduction}'"):
        old = loss(input, target, **flags)
    np.testing.assert_array_equal(old.array, loss(input, target, reduction=reduction).array)


def test_size_average_and_ignore_index_stand_where_torch_has_them() -> None:
    input, target = scores(3, 4), Tensor(np.array([0, 3, 1]))
    with pytest.warns(UserWarning, match="size_average"):
        loss = cross_entropy(input, target, None, False, 3)
    expected = cross_entropy(input, target, ignore_index=3, reduction="sum")
    np.testing.assert_array_equal(loss.array, expected.array)


@differences
def test_shapes_that_differ_and_broadcast_warn(loss: Callable[..., Tensor]) -> None:
    with pytest.warns(UserWarning, match=rf"{loss.__name__}: .*\(3, 1\).*\(2,\) differ"):
        loss(scores(3, 1), scores(2))


@pytest.mark.parametrize("loss", [cross_entropy, nll_loss])
def test_class_weights_that_require_gradients_are_refused(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(GraphError, match=rf"^{loss.__name__}: .*respect to weight"):
        loss(scores(3, 4), Tensor(np.array([0, 3, 1])), scores(4))


@pytest.mark.parametrize(
    ("loss", "argument"),
    [
        (binary_cross_entropy, "weight"),
        (binary_cross_entropy_with_logits, "weight"),
        (binary_cross_entropy_with_logits, "pos_weight"),
    ],
)
def test_binary_weights_that_require_gradients_are_refused(
    loss: Callable[..., Tensor], argument: str
) -> None:
    half = Tensor(np.full((3, 4), 0.5))
    with pytest.raises(GraphError, match=rf"^{loss.__name__}: .*respect to {argument}$"):
        loss(half, half, **{argument: scores(3, 4)})


@devices
def test_logits_of_a_thousand_neither_overflow_nor_lose_the_loss(device: Device) -> None:
    values, targets = [1000.0, -1000.0, 1000.0, -1000.0], [1.0, 0.0, 0.0, 1.0]
    input = Tensor(np.array(values, np.float32), device, requires_grad=True)
    target = Tensor(np.array(targets, np.float32), device)
    losses = binary_cross_entropy_with_logits(input, target, reduction="none")
    np.testing.assert_array_equal(losses.array, [0, 0, 1000, 1000])
    losses.sum().backward()
    np.testing.assert_array_equal(input.grad.array, [0, 0, 1, -1])


def test_kl_div_warns_of_the_mean_unless_the_deprecated_flags_chose_it() -> None:
    input, target = scores(3, 4), Tensor(np.full((3, 4), 0.25))
    with pytest.warns(UserWarning, match="kl_div: .*'batchmean' divides"):
        kl_div(input, target)
    with pytest.warns(UserWarning, match="size_average and reduce are deprecated") as caught:
        kl_div(input, target, size_average=True)
    assert [str(w.message) for w in caught if "batchmean" in str(w.message)] == []


@pytest.mark.parametrize("loss", [mse_loss, cross_entropy, kl_div, binary_cross_entropy])
def test_a_reduction_in_the_place_of_size_average_is_refused(loss: Callable[..., Tensor]) -> None:
    """torch takes it for true, and averages."""
    with pytest.raises(TypeError, match=rf"^{loss.__name__}: size_average must be .* got 'sum'"):
        loss(scores(3, 4), scores(3, 4), size_average="sum")


@pytest.mark.parametrize("loss", [cross_entropy, nll_loss])
def test_ignore_index_may_be_a_numpy_integer(loss: Callable[..., Tensor]) -> None:
    input, target = scores(3, 4), Tensor(np.array([0, 3, 1]))
    expected = loss(input, target, ignore_index=3).array
    np.testing.assert_array_equal(loss(input, target, ignore_index=np.int64(3)).array, expected)


@pytest.mark.parametrize("loss", [cross_entropy, nll_loss])
def test_targets_on_another_device_are_refused(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(DeviceError, match=rf"^{loss.__name__}: .*target on reference"):
        loss(scores(3, 4), Tensor(np.array([0, 3, 1]), Device("reference")))


def test_the_mean_of_a_million_float32_losses_is_exact_to_an_ulp() -> None:
    generator = np.random.default_rng(3)
    x = (generator.standard_normal(1_000_001) + 3).astype(np.float32)
    zeros = Tensor(np.zeros_like(x))
    exact = np.square(x.astype(np.float64))
    assert abs(mse_loss(Tensor(x), zeros).array - exact.mean()) <= np.spacing(np.float32(10))
    total = mse_loss(Tensor(x), zeros, reduction="sum").array
    assert abs(total - exact.sum()) <= np.spacing(np.float32(1e7))


def test_a_loss_far_below_float32_resolution_is_not_lost() -> None:
    """log(1 + 1e-9) is 0 in float32 arithmetic; the sum of exponentials is kept in float64."""
    input = Tensor(np.array([[0, -20.7]], np.float32))
    loss = cross_entropy(input, Tensor(np.array([0])))
    np.testing.assert_allclose(loss.array, np.log1p(np.exp(-20.7)), rtol=1e-5)


@devices
def test_softmax_without_dim_warns_and_takes_torchs_choice(device: Device) -> None:
    for shape, dim in (((3,), 0), ((3, 4), 1), ((2, 3, 4), 0), ((2, 3, 2, 2), 1)):
        input = scores(*shape, device=device)
        with pytest.warns(UserWarning, match=rf"softmax: .*dim={dim}"):
            out = softmax(input)
        np.testing.assert_array_equal(out.array, softmax(input, dim).array)


@devices
def test_softmax_converts_to_the_dtype_first(device: Device) -> None:
    input = Tensor(np.array([1, 2, 3]), device)
    out = softmax(input, 0, dtype=np.float64)
    assert out.dtype == np.float64
    np.testing.assert_allclose(out.array, np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum(), rtol=1e-15)
