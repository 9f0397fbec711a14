"""Implicit GEMM: convolution with a tile of results in registers; nothing is unfolded in memory.

Arrays, here and in all files of this package: input (N, H, W, C_in), weight (kH, kW, C_in/groups,
C_out), output (N, H_out, W_out, C_out), all C-ordered. The sum that a target pixel is, and the
tables that the kernel goes by, are in axes.py.

**The register tile** is PIXELS target pixels × VECTORS vectors of channels. Its pixels are the same
position (i, j) in PIXELS different images, so they all share the same taps and there are no edge
cases; a batch smaller than that takes neighbouring columns with the same taps instead.
"""

from __future__ import annotations

from .._jit import kernel
from .._simd import PIXELS, VECTOR_BYTES
from .._tasks import tasks
from .direct_tile import convolve_tile
from .panels import weight_steps


def _make_convolve(vectors: int):
    """The kernel whose register tile is `vectors` vectors of channels wide."""

    @kernel
    def convolve(span, target, source, weight, weight_steps, bias, use_bias, bounds, groups,
                 columns, rows, row_steps, cols, col_runs, col_steps):  # fmt: skip
        # 2·N·H·W·C·taps·K flop. Parallel over (block of columns, block of images, target row): each
        # task owns its columns of its rows of the target, so every sum has one fixed order.
        N, H, W, C = target.shape
        H_src, W_src, C_src = source.shape[1:]
        C_group, K = C // groups, C_src // groups
        width = vectors * (VECTOR_BYTES // target.itemsize)
        # Taps of one row that are neighbours both in the source and in the weight are one
        # reduction over taps·K contiguous elements.
        contiguous = groups == 1 and col_steps[0] == 1 and col_steps[1] == 1
        tap_steps = (row_steps[0] * weight_steps[0], col_steps[0] * weight_steps[1])
        source_steps = (row_steps[1] * W_src * C_src, col_steps[1] * C_src)
        lines = (N + PIXELS - 1) // PIXELS * H
        for task in tasks(span, (C + columns - 1) // columns * lines):
            block, line = task // lines, task % lines
            n, i = line // H * PIXELS, line % H
            images = min(PIXELS, N - n)
            row_tap, row_taps, row_source = rows[i]
            c_end = min((block + 1) * columns, C)
            # Several blocks there are only without groups.
            for c in range(block * columns, c_end, C_group):
                for c0 in range(c, min(c + C_group, c_end), width):
                    channels = min(width, min(c + C_group, c_end) - c0)
                    for run in range(len(col_runs)):
                        j, length, j_step, shift = col_runs[run]
                        tap, taps, col_source = cols[j]
                        counts = (row_taps, 1, taps * K) if contiguous else (row_taps, taps, K)
                        target_at = ((n * H + i) * W + j) * C + c0
                        source_at = ((n * H_src + row_source) * W_src + col_source) * C_src
                        source_at += c // C_group * K
                        weight_at = row_tap * weight_steps[0] + tap * weight_steps[1]
                        weight_at += c0 * weight_steps[3]
                        # The tile's pixels are one position in several images or, for a single
                        # image, neighbours of the run.
                        if images > 1:
                            positions, pixels = 1, images
                            target_stride, source_stride = H * W * C, H_src * W_src * C_src
                        else:
                            positions, pixels = PIXELS, length
                            target_stride, source_stride = j_step * C, shift * C_src
                        for step in range(0, length, positions):
                            convolve_tile(
                                PIXELS, vectors,
                                target, target_at + step * j_step * C, target_stride,
                                source, source_at + step * shift * C_src, source_stride,
                                weight, weight_at, weight_steps[2], bias, c0, use_bias, bounds,
                                counts, source_steps, tap_steps,
                                min(PIXELS, pixels - step) if images == 1 else images, channels,
                            )  # fmt: skip

    return convolve


_convolve = {vectors: _make_convolve(vectors) for vectors in (1, 2)}


def convolve(target, source, weight, bias, use_bias, bounds, scratch, dims, axes, plan):
    rows, cols, _ = axes
    _convolve[plan.vectors](
        target, source, weight, weight_steps(weight, plan.panel), bias, use_bias, bounds,
        dims.groups, plan.columns, rows.positions, rows.steps, cols.positions, cols.runs,
        cols.steps,
    )  # fmt: skip
