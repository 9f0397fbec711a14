"""Sampling at the points of a grid by its definition.

    out[n, oh, ow, c] = Σ over taps i, j of weight_h[i] · weight_w[j] · input[n, h[i], w[j], c]

where the grid's point (x, y) at (n, oh, ow) says which cells (h, w) its taps are, and the weights.
"""

from __future__ import annotations

import numpy as np

from ..formulas import grid_position, grid_tap


def _samples(grid, shape, taps, padding, align_corners):
    """Every ((n, oh, ow), (n, h, w), weight, its derivatives by x and y)."""
    real = grid.dtype.type
    N, H, W, _ = shape
    for n, oh, ow in np.ndindex(N, *grid.shape[1:3]):
        x, y = grid[n, oh, ow]
        x, slope_x = grid_position(x, W, taps, padding, align_corners, real)
        y, slope_y = grid_position(y, H, taps, padding, align_corners, real)
        for i in range(taps):
            h, weight_h, slope_h = grid_tap(y, i, H, taps, padding, align_corners, real)
            for j in range(taps):
                w, weight_w, slope_w = grid_tap(x, j, W, taps, padding, align_corners, real)
                if h >= 0 and w >= 0:
                    slopes = weight_h * slope_w * slope_x, slope_h * slope_y * weight_w
                    yield (n, oh, ow), (n, h, w), weight_h * weight_w, slopes


def grid_sample_forward(out, input, grid, taps, padding, align_corners):
    out[...] = 0
    for point, cell, weight, _ in _samples(grid, input.shape, taps, padding, align_corners):
        out[point] += weight * input[cell]


def grid_sample_backward_input(grad_input, grad_output, grid, taps, padding, align_corners):
    """∂out[point] / ∂input[cell] = weight"""
    grad_input[...] = 0
    for point, cell, weight, _ in _samples(grid, grad_input.shape, taps, padding, align_corners):
        grad_input[cell] += weight * grad_output[point]


def grid_sample_backward_grid(grad_grid, grad_output, input, grid, taps, padding, align_corners):
    """∂out[point] / ∂x = Σ ∂weight/∂x · input[cell]"""
    grad_grid[...] = 0
    for point, cell, _, slopes in _samples(grid, input.shape, taps, padding, align_corners):
        dot = (grad_output[point] * input[cell]).sum()
        grad_grid[point][0] += slopes[0] * dot
        grad_grid[point][1] += slopes[1] * dot
