"""Depthwise convolution: as many groups as channels, one filter each.

Arrays as in direct.py, with weight (kH, kW, 1, C). There is next to no arithmetic to win, nine
products an element for a 3×3 kernel, so what counts is that memory is read once and in whole lines:
a tile is a few neighbouring pixels with all their channels (see depthwise_tile.py), and the rows
that neighbouring targets share stay in the caches.

**Forward and input gradient are one kernel**, for the reason that axes.py gives.

**The weight gradient**
    dW[a, b, c] = Σ_{n, i, j} source[n, row(i, a), col(j, b), c] · grad[n, i, j, c]
keeps the sums of all taps in registers while it walks over output pixels. Pixels that use the same
taps form rectangles, a run of rows by a run of columns: nine of them for 3×3 with padding.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ....geometry import Conv2dDims
from .._jit import kernel
from .._simd import VECTOR_BYTES
from .._tasks import tasks
from .axes import forward_axes
from .chunks import add_chunks, partial_sums
from .depthwise_tile import (
    PIXEL_VECTORS,
    PIXELS,
    TAP_VECTORS,
    TAPS,
    window_gradient_tile,
    window_tile,
)

# Elements of the gradient that a tile of the weight gradient walks over: with what it reads of the
# source, they fit the first-level cache.
_BLOCK = 8192
_MAX_TILES = 1 << 14
# Columns of the table of tiles, before TAPS taps and TAPS source offsets.
_HEAD = 6


@kernel
def _convolve(span, target, source, weight, bias, use_bias, bounds,
              rows, row_steps, cols, col_runs, col_steps):  # fmt: skip
    # 2·N·H·W·C·taps flop. Parallel over target rows, which the tasks own.
    N, H, W, C = target.shape
    H_src, W_src = source.shape[1:3]
    kW = weight.shape[1]
    weight_steps = (row_steps[0] * kW * C, col_steps[0] * C)
    source_steps = (row_steps[1] * W_src * C, col_steps[1] * C)
    for task in tasks(span, N * H):
        n, i = task // H, task % H
        row_tap, row_taps, row_source = rows[i]
        for run in range(len(col_runs)):
            j, length, j_step, shift = col_runs[run]
            tap, taps, col_source = cols[j]
            target_at = ((n * H + i) * W + j) * C
            source_at = ((n * H_src + row_source) * W_src + col_source) * C
            weight_at = (row_tap * kW + tap) * C
            if length == 1:  # a column at the border
                window_tile(
                    1, PIXEL_VECTORS, target, target_at, 0, source, source_at, 0, weight, weight_at,
                    bias, use_bias, bounds, (row_taps, taps), source_steps, weight_steps, 1, C,
                )  # fmt: skip
                continue
            for step in range(0, length, PIXELS):
                window_tile(
                    PIXELS, PIXEL_VECTORS, target, target_at + step * j_step * C, j_step * C,
                    source, source_at + step * shift * C, shift * C, weight, weight_at,
                    bias, use_bias, bounds, (row_taps, taps), source_steps, weight_steps,
                    min(PIXELS, length - step), C,
                )  # fmt: skip


def convolve(target, source, weight, bias, use_bias, bounds, scratch, dims, axes, plan):
    rows, cols, _ = axes
    _convolve(
        target, source, weight, bias, use_bias, bounds,
        rows.positions, rows.steps, cols.positions, cols.runs, cols.steps,
    )  # fmt: skip


@lru_cache(maxsize=128)  # up to 3 MB each, where images and kernels are large
def gradient_tiles(dims: Conv2dDims) -> np.ndarray | None:
    """Rows (first output row, rows, first output column, columns, first source pixel, taps), then
    TAPS taps and TAPS source pixels of those, counted from the first. None if there are too many
    to keep a table.
    """
    d = dims
    rows, cols, _ = forward_axes(d)
    tiles: list[list[int]] = []
    for i0, row_length, _, row_shift in rows.runs.tolist():
        row_tap, row_taps, row_source = rows.positions[i0].tolist()
        for j, length, _, _ in cols.runs.tolist():
            tap, taps, col_source = cols.positions[j].tolist()
            block_rows = max(1, _BLOCK // (length * d.C_in))
            window = [(a, b) for a in range(row_taps) for b in range(taps)]
            for first in range(0, len(window), TAPS):
                part = window[first : first + TAPS]
                blank = [0] * (TAPS - len(part))
                index = [(row_tap + a) * d.kW + tap + b for a, b in part] + blank
                pixel = [a * d.dilation_h * d.W + b * d.dilation_w for a, b in part] + blank
                for i in range(0, row_length, block_rows):
                    source = (row_source + i * row_shift) * d.W + col_source
                    count = min(block_rows, row_length - i)
                    tiles.append([i0 + i, count, j, length, source, len(part), *index, *pixel])
                if len(tiles) > _MAX_TILES:
                    return None
    # Row blocks in order, so that what they share is still in the cache.
    tiles.sort(key=lambda tile: tile[0])
    return np.array(tiles, dtype=np.int64).reshape(-1, _HEAD + 2 * TAPS)


@kernel
def _correlate(span, partial, source, grad_output, tiles, strides, parts):
    """partial[chunk, tap, c]: the sums of a chunk of the images."""
    # 2·N·H_out·W_out·C·taps flop. Parallel over (chunk of images, part of the channels): each task
    # owns its channels of partial[chunk].
    chunks, taps, C = partial.shape
    N, H, W = source.shape[:3]
    H_out, W_out = grad_output.shape[1:3]
    width = TAP_VECTORS * (VECTOR_BYTES // partial.itemsize)
    widths = (C + width - 1) // width
    table, entries = tiles.reshape(-1), tiles.shape[1]
    for task in tasks(span, chunks * parts):
        chunk, part = task // parts, task % parts
        c = widths * part // parts * width
        channels = min(widths * (part + 1) // parts * width, C) - c
        partial[chunk, :, c : c + channels] = 0
        for n in range(chunk * N // chunks, (chunk + 1) * N // chunks):
            for t in range(len(tiles)):
                i, rows, j, cols = tiles[t, 0], tiles[t, 1], tiles[t, 2], tiles[t, 3]
                pixel, live = tiles[t, 4], tiles[t, 5]
                window_gradient_tile(
                    TAPS, TAP_VECTORS, partial, chunk * taps * C + c,
                    source, (n * H * W + pixel) * C + c, (strides[0] * W * C, strides[1] * C),
                    grad_output, ((n * H_out + i) * W_out + j) * C + c, (W_out * C, C),
                    (rows, cols), table, t * entries + _HEAD, t * entries + _HEAD + TAPS, C,
                    live, channels,
                )  # fmt: skip


def correlate(grad_weight, grad_output, input, scratch, dims, plan):
    partial = partial_sums(grad_weight, scratch, plan.chunks)
    _correlate(
        partial.reshape(plan.chunks, -1, dims.C_out), input, grad_output, gradient_tiles(dims),
        (dims.stride_h, dims.stride_w), plan.parts,
    )  # fmt: skip
    add_chunks(grad_weight, partial)
