"""What the table cannot ask of pooling, because torch fails there or does not say."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad import Tensor
from minigrad.device import Device
from minigrad.ops.pool import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d

devices = pytest.mark.parametrize("device", [Device("cpu"), Device("reference")], ids=str)


@devices
def test_max_pool2d_window_that_steps_over_the_input_has_no_position_and_no_gradient(
    device: Device,
) -> None:
    # Taps at rows −1 and 3 of three rows: torch returns position 3, outside the plane.
    input = Tensor(np.ones((2, 17, 3, 1), np.float32), device, requires_grad=True)
    out, indices = max_pool2d(input, (2, 1), 1, (1, 0), (4, 1), return_indices=True)
    np.testing.assert_array_equal(out.array, np.full((2, 17, 1, 1), -np.inf))
    np.testing.assert_array_equal(indices.array, np.full((2, 17, 1, 1), -1))
    out.backward(Tensor(np.full(out.shape, 5, np.float32), device))
    np.testing.assert_array_equal(input.grad.array, np.zeros(input.shape))


@devices
@pytest.mark.parametrize("pool", [adaptive_avg_pool2d, adaptive_max_pool2d])
def test_adaptive_pooling_to_nothing_has_gradient_zero(pool, device: Device) -> None:
    # torch's backward pass refuses the empty gradient.
    input = Tensor(np.ones((2, 3, 4, 5)), device, requires_grad=True)
    out = pool(input, (0, 2))
    assert out.shape == (2, 3, 0, 2)
    out.backward(Tensor(np.empty(out.shape), device))
    np.testing.assert_array_equal(input.grad.array, np.zeros(input.shape))


@devices
def test_adaptive_avg_pool2d_takes_an_input_without_channels(device: Device) -> None:
    input = Tensor(np.ones((2, 0, 4, 5)), device)
    assert adaptive_avg_pool2d(input, 2).shape == (2, 0, 2, 2)


@devices
@pytest.mark.parametrize("shape", [(1, 3, 1, 20_000), (1, 3, 20_000, 1), (1, 3, 150, 140)])
def test_average_of_many_terms_is_the_float64_average_rounded_once(
    shape: tuple[int, ...], device: Device
) -> None:
    values = np.random.default_rng(0).uniform(0.5, 1.5, shape).astype(np.float32)
    expected = values.mean((2, 3), dtype=np.float64, keepdims=True)
    for out in (
        adaptive_avg_pool2d(Tensor(values, device), 1),
        avg_pool2d(Tensor(values, device), shape[2:]),
    ):
        np.testing.assert_allclose(out.array, expected, rtol=2.0**-24 * 1.0001)


@devices
def test_gradient_after_relu_goes_to_one_of_many_zeros(device: Device) -> None:
    # Windows of equal zeros are common after ReLU.
    input = Tensor(np.zeros((1, 16, 4, 4), np.float32), device, requires_grad=True)
    max_pool2d(input, 2).backward(Tensor(np.ones((1, 16, 2, 2), np.float32), device))
    expected = np.zeros(input.shape)
    expected[:, :, ::2, ::2] = 1
    np.testing.assert_array_equal(input.grad.array, expected)


# Whole vectors of channels, vectors that overlap, and single channels; one image, whose rows are
# cut into groups, and many.
@pytest.mark.parametrize("C", [1, 6, 16, 19, 40])
@pytest.mark.parametrize("N", [1, 20])
@pytest.mark.parametrize(
    "options", [(2, 2), (3, 2, 1), (3, 1, 1), (2, 3), (5, 2, 2)], ids="{0[0]} by {0[1]}".format
)
def test_gradients_of_overlapping_windows_and_gaps_are_those_of_the_definition(
    C: int, N: int, options: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(C)
    images = rng.integers(-3, 3, (N, C, 13, 9)).astype(np.float32)
    kernel_size, stride, padding = (*options, 0)[:3]

    for pool in (max_pool2d, avg_pool2d):
        input = Tensor(images, requires_grad=True)
        out = pool(input, kernel_size, stride, padding)
        grad = rng.integers(-4, 5, out.shape).astype(np.float32)
        out.backward(Tensor(grad))
        expected = np.zeros(images.shape)
        for oh, ow in np.ndindex(out.shape[2:]):
            h, w = oh * stride - padding, ow * stride - padding
            window = (..., slice(max(h, 0), h + kernel_size), slice(max(w, 0), w + kernel_size))
            here = grad[:, :, oh, ow, None, None]
            if pool is avg_pool2d:
                expected[window] += here / kernel_size**2
                continue
            cells = images[window]
            first = cells.reshape(N, C, -1).argmax(axis=2)[:, :, None]
            chosen = np.arange(cells[0, 0].size) == first
            expected[window] += here * chosen.reshape(cells.shape)
        np.testing.assert_allclose(input.grad.array, expected, rtol=1e-6, atol=1e-6)
