"""Sampling at the points of a grid, on channels-last arrays: kernels/formulas.py states which cells
a point reads, and with which weights.
"""

from __future__ import annotations

from ..formulas import grid_position, grid_tap
from ._device import cuda
from ._index import arithmetic, index_bits
from ._launch import kernel, launch, over
from ._span import span
from .elementwise import fill


@kernel
def _grid_sample(real, bits):
    # 2·N·H_out·W_out·C·taps² flop. Each thread owns its result, neighbours along the channels.
    index, divide, _ = arithmetic(bits)

    def grid_sample(out, input, grid, taps, padding, align_corners, n_out, H, W, C, points):
        for at in span(cuda.grid(1), n_out, cuda.gridsize(1)):
            point = divide(at, C)
            n, c = divide(point, points), index(at - point * C)
            x, _ = grid_position(grid[2 * point], W, taps, padding, align_corners, real)
            y, _ = grid_position(grid[2 * point + 1], H, taps, padding, align_corners, real)
            total = real(0)
            for i in range(taps):
                h, weight_h, _ = grid_tap(y, i, H, taps, padding, align_corners, real)
                for j in range(taps):
                    w, weight_w, _ = grid_tap(x, j, W, taps, padding, align_corners, real)
                    if h >= 0 and w >= 0:
                        value = input[index(((n * H + h) * W + w) * C + c)]
                        total += weight_h * weight_w * value
            out[at] = total

    return grid_sample


def grid_sample_forward(out, input, grid, taps, padding, align_corners):
    (_, H, W, C), (_, H_out, W_out, _) = input.shape, out.shape
    launch(
        _grid_sample(out.dtype, index_bits(out.size, input.size, grid.size)), over(out.size),
        out, input, grid, taps, padding, bool(align_corners), out.size, H, W, C, H_out * W_out,
    )  # fmt: skip


_SHARES = 64  # of an image's cells, at most
_ENOUGH_THREADS = 2**17


@kernel
def _grid_sample_backward_input(real, bits):
    # Every point is read by all the threads that share its image, each of which adds to those of
    # its taps that are its cells, in the order of the points. Thread (n, share, c) owns the cells
    # of that image and channel whose number is `share` modulo `shares`, a power of two.
    index, _, unravel = arithmetic(bits)

    def grid_sample_backward_input(
        grad_input, grad_output, grid, taps, padding, align_corners, tasks, shares, H, W, C, points
    ):
        for task in span(cuda.grid(1), tasks, cuda.gridsize(1)):
            _, n, share, c = unravel(task, tasks, shares, C)
            for point in range(n * points, (n + 1) * points):
                x, _ = grid_position(grid[2 * point], W, taps, padding, align_corners, real)
                y, _ = grid_position(grid[2 * point + 1], H, taps, padding, align_corners, real)
                for i in range(taps):
                    h, weight_h, _ = grid_tap(y, i, H, taps, padding, align_corners, real)
                    for j in range(taps):
                        w, weight_w, _ = grid_tap(x, j, W, taps, padding, align_corners, real)
                        cell = index(h * W + w)
                        if h >= 0 and w >= 0 and cell & (shares - 1) == share:
                            grad = grad_output[index(point * C + c)]
                            cell = index((n * H * W + cell) * C + c)
                            grad_input[cell] += weight_h * weight_w * grad

    return grid_sample_backward_input


def grid_sample_backward_input(grad_input, grad_output, grid, taps, padding, align_corners):
    (N, H, W, C), (_, H_out, W_out, _) = grad_input.shape, grad_output.shape
    fill(grad_input.reshape(-1), 0)
    shares = 1
    while shares < min(_SHARES, H * W) and 2 * shares * N * C <= _ENOUGH_THREADS:
        shares *= 2
    bits = index_bits(grad_input.size, grad_output.size, grid.size)
    launch(
        _grid_sample_backward_input(grad_input.dtype, bits), over(N * shares * C),
        grad_input, grad_output, grid, taps, padding, bool(align_corners), N * shares * C, shares,
        H, W, C, H_out * W_out,
    )  # fmt: skip


@kernel
def _grid_sample_backward_grid(real, bits):
    # 2·N·H_out·W_out·C·taps² flop. Each thread owns its point.
    index, divide, _ = arithmetic(bits)

    def grid_sample_backward_grid(
        grad_grid, grad_output, input, grid, taps, padding, align_corners, n_points, H, W, C, points
    ):
        for point in span(cuda.grid(1), n_points, cuda.gridsize(1)):
            n = divide(point, points)
            x, slope_x = grid_position(grid[2 * point], W, taps, padding, align_corners, real)
            y, slope_y = grid_position(grid[2 * point + 1], H, taps, padding, align_corners, real)
            grad_x, grad_y = real(0), real(0)
            for i in range(taps):
                h, weight_h, slope_h = grid_tap(y, i, H, taps, padding, align_corners, real)
                for j in range(taps):
                    w, weight_w, slope_w = grid_tap(x, j, W, taps, padding, align_corners, real)
                    if h >= 0 and w >= 0:
                        dot = real(0)
                        cell = index(((n * H + h) * W + w) * C)
                        for c in range(C):
                            dot += grad_output[index(point * C + c)] * input[index(cell + c)]
                        grad_x += weight_h * slope_w * dot
                        grad_y += slope_h * weight_w * dot
            grad_grid[2 * point] = grad_x * slope_x
            grad_grid[2 * point + 1] = grad_y * slope_y

    return grid_sample_backward_grid


def grid_sample_backward_grid(grad_grid, grad_output, input, grid, taps, padding, align_corners):
    (N, H, W, C), (_, H_out, W_out, _) = input.shape, grad_output.shape
    n_points = N * H_out * W_out
    bits = index_bits(input.size, grad_output.size, grid.size)
    launch(
        _grid_sample_backward_grid(input.dtype, bits), over(n_points), grad_grid, grad_output,
        input, grid, taps, padding, bool(align_corners), n_points, H, W, C, H_out * W_out,
    )  # fmt: skip
