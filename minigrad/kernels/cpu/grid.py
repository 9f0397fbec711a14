"""Sampling at the points of a grid, on channels-last arrays: the inner loops run over channels.

Forward and the grid's gradient are parallel over (image, row of points), each task owning its
results. The input's gradient is parallel over (image, block of channels): each task owns those
channels of that image and goes through the image's points in order.
"""

from __future__ import annotations

from ..formulas import grid_position, grid_tap
from ._jit import helper, kernel
from ._tasks import tasks

# Channels of one task of the input's gradient.
_BLOCK = 16


@helper
def _add_scaled(target, source, scale):
    for c in range(len(target)):
        target[c] += source[c] * scale


@helper
def _dot(left, right, zero):
    total = zero
    for c in range(len(left)):
        total += left[c] * right[c]
    return total


@kernel
def grid_sample_forward(span, out, input, grid, taps, padding, align_corners):
    # 2·N·H_out·W_out·C·taps² flop.
    N, H_out, W_out, _ = out.shape
    H, W = input.shape[1:3]
    real = input.dtype.type
    for task in tasks(span, N * H_out):
        n, oh = task // H_out, task % H_out
        for ow in range(W_out):
            x, _ = grid_position(grid[n, oh, ow, 0], W, taps, padding, align_corners, real)
            y, _ = grid_position(grid[n, oh, ow, 1], H, taps, padding, align_corners, real)
            total = out[n, oh, ow]
            total[:] = 0
            for i in range(taps):
                h, weight_h, _ = grid_tap(y, i, H, taps, padding, align_corners, real)
                for j in range(taps):
                    w, weight_w, _ = grid_tap(x, j, W, taps, padding, align_corners, real)
                    if h >= 0 and w >= 0:
                        _add_scaled(total, input[n, h, w], weight_h * weight_w)


@kernel
def grid_sample_backward_input(span, grad_input, grad_output, grid, taps, padding, align_corners):
    # 2·N·H_out·W_out·C·taps² flop.
    N, H, W, C = grad_input.shape
    _, H_out, W_out, _ = grad_output.shape
    real = grad_input.dtype.type
    blocks = (C + _BLOCK - 1) // _BLOCK
    for task in tasks(span, N * blocks):
        n, first = task // blocks, task % blocks * _BLOCK
        last = min(first + _BLOCK, C)
        image = grad_input[n, :, :, first:last]
        image[...] = 0
        for point in range(H_out * W_out):
            oh, ow = point // W_out, point % W_out
            x, _ = grid_position(grid[n, oh, ow, 0], W, taps, padding, align_corners, real)
            y, _ = grid_position(grid[n, oh, ow, 1], H, taps, padding, align_corners, real)
            grad = grad_output[n, oh, ow, first:last]
            for i in range(taps):
                h, weight_h, _ = grid_tap(y, i, H, taps, padding, align_corners, real)
                for j in range(taps):
                    w, weight_w, _ = grid_tap(x, j, W, taps, padding, align_corners, real)
                    if h >= 0 and w >= 0:
                        _add_scaled(image[h, w], grad, weight_h * weight_w)


@kernel
def grid_sample_backward_grid(
    span, grad_grid, grad_output, input, grid, taps, padding, align_corners
):
    # 2·N·H_out·W_out·C·taps² flop.
    N, H_out, W_out, _ = grad_output.shape
    H, W = input.shape[1:3]
    real = input.dtype.type
    for task in tasks(span, N * H_out):
        n, oh = task // H_out, task % H_out
        for ow in range(W_out):
            x, slope_x = grid_position(grid[n, oh, ow, 0], W, taps, padding, align_corners, real)
            y, slope_y = grid_position(grid[n, oh, ow, 1], H, taps, padding, align_corners, real)
            grad_x, grad_y = real(0), real(0)
            for i in range(taps):
                h, weight_h, slope_h = grid_tap(y, i, H, taps, padding, align_corners, real)
                for j in range(taps):
                    w, weight_w, slope_w = grid_tap(x, j, W, taps, padding, align_corners, real)
                    if h >= 0 and w >= 0:
                        dot = _dot(grad_output[n, oh, ow], input[n, h, w], real(0))
                        grad_x += weight_h * slope_w * dot
                        grad_y += slope_h * weight_w * dot
            grad_grid[n, oh, ow, 0] = grad_x * slope_x
            grad_grid[n, oh, ow, 1] = grad_y * slope_y
