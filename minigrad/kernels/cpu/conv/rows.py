"""Convolution along the rows of an image: for few channels, and windows that start a tap apart.

Where stride and dilation along a row are equal, the window of a pixel is that of its neighbour
moved on by one tap. A register tile of neighbouring pixels then reads every source element once for
all the taps that meet it (see rows_tile.py), which matters when the channels of a pixel fill a
single vector: the tiles of direct.py would wait for loads. Arrays as in direct.py.

**The weight gradient**
    dW[a, t, k, c] = Σ_{n, i, j} source[n, i − top + a, j − left + t, k] · grad[n, i, j, c]
keeps in registers the sums of all three taps t of a row, for a few weight rows r = (a, k), while a
block of output rows passes by. Chunks of output rows have a partial sum each.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ....geometry import Conv2dDims
from .._jit import kernel
from .._simd import VECTOR_BYTES
from .._tasks import tasks
from .chunks import add_chunks, partial_sums
from .panels import weight_steps
from .rows_tile import PIXELS, WEIGHT_ROWS, slide_gradient_tile, slide_tile


def _make_convolve(pixels: int, vectors: int):
    """The kernel whose register tile is `pixels` pixels × `vectors` vectors of channels."""

    @kernel
    def convolve(span, target, source, weight, weight_steps, bias, use_bias, bounds, columns,
                 rows, row_steps, left, step, kW):  # fmt: skip
        # 2·N·H·W·C·taps·K flop. Parallel over (block of columns, target row): each task owns its
        # columns of its row. The last tile of a row moves back to end with it; what two tiles both
        # compute is the same.
        N, H, W, C = target.shape
        H_src, W_src, K = source.shape[1:]
        width = vectors * (VECTOR_BYTES // target.itemsize)
        # Position q of a row, tap t of pixel j where q = j + t, reads source column q·step − left.
        first, last = (left + step - 1) // step, (W_src + left + step - 1) // step
        for task in tasks(span, (C + columns - 1) // columns * N * H):
            block, line = task // (N * H), task % (N * H)
            n, i = line // H, line % H
            row_tap, row_taps, row_source = rows[i]
            for c0 in range(block * columns, min((block + 1) * columns, C), width):
                for start in range(0, W, pixels):
                    j = min(start, W - pixels)
                    slide_tile(
                        pixels, vectors, target, ((n * H + i) * W + j) * C + c0, C,
                        source, ((n * H_src + row_source) * W_src + j * step - left) * K, step * K,
                        (first - j, last - j),
                        weight, row_tap * weight_steps[0] + c0 * weight_steps[3], weight_steps,
                        bias, c0, use_bias, bounds,
                        (row_taps, kW, K), row_steps[1] * W_src * K, min(width, C - c0),
                    )  # fmt: skip

    return convolve


_convolve = {
    (pixels, vectors): _make_convolve(pixels, vectors)
    for vectors, tiles in enumerate(PIXELS, start=1)
    for pixels in tiles
}


def convolve(target, source, weight, bias, use_bias, bounds, scratch, dims, axes, plan):
    rows, cols, before = axes
    _convolve[plan.tile, plan.vectors](
        target, source, weight, weight_steps(weight, plan.panel), bias, use_bias, bounds,
        plan.columns, rows.positions, rows.steps, before[1], cols.steps[1], dims.kW,
    )  # fmt: skip


def _make_correlate(weight_rows: int):
    """The weight-gradient kernel whose register tile is `weight_rows` rows × TAPS vectors."""

    @kernel
    def correlate(span, partial, source, grad_output, tiles, table, before, parts, block):
        # 2·N·H_out·W_out·C_out·taps·K flop. Parallel over (chunk of output rows, part of the output
        # channels): each task owns its channels of partial[chunk].
        chunks, _, kW, K, C = partial.shape
        N, H, W = source.shape[:3]
        H_out, W_out = grad_output.shape[1:3]
        width = VECTOR_BYTES // partial.itemsize
        offsets, size = table.reshape(-1), table.shape[1]
        columns = (C + width - 1) // width
        for task in tasks(span, chunks * parts):
            chunk, part = task // parts, task % parts
            c_first = columns * part // parts * width
            c_end = min(columns * (part + 1) // parts * width, C)
            partial[chunk, :, :, :, c_first:c_end] = 0
            line, end = chunk * N * H_out // chunks, (chunk + 1) * N * H_out // chunks
            while line < end:
                n, first = line // H_out, line % H_out
                # A block of rows stays in the first-level cache while all tiles pass over it.
                last = min(first + block, H_out, first + end - line)
                line += last - first
                for c0 in range(c_first, c_end, width):
                    for t in range(len(tiles)):
                        row, rows, low, high = tiles[t]
                        i = max(first, low)
                        slide_gradient_tile(
                            weight_rows, partial, chunk * size * kW * C + c0, K * C,
                            source, (n * H + i - before[0]) * W * K, (W * K, K), offsets, row, size,
                            grad_output, (n * H_out + i) * W_out * C + c0, (W_out * C, C),
                            min(last, high) - i, before[1], (W, W_out), rows,
                            min(width, c_end - c0),
                        )  # fmt: skip

    return correlate


_correlate = {rows: _make_correlate(rows) for rows in WEIGHT_ROWS}


class _GradientTiles(NamedTuple):
    tiles: np.ndarray  # (first weight row, weight rows, first output row, last one + 1)
    table: np.ndarray  # for each weight row (a, k), its place in the weight and in the source
    block: int  # output rows


def tile_span(dims: Conv2dDims) -> int:
    """Weight rows that tiles cut up: all in one sequence, or those of one kernel row. Near the top
    and bottom of the image some kernel rows have no source, which leaves parts of the tiles that
    they share idle."""
    return dims.C_in if dims.C_in >= max(WEIGHT_ROWS) - 1 else dims.kH * dims.C_in


@lru_cache(maxsize=4096)
def _gradient_tiles(dims: Conv2dDims, weight_rows: int) -> _GradientTiles:
    d = dims
    a, k = np.indices((d.kH, d.C_in)).reshape(2, -1)
    table = np.stack(((a * d.kW * d.C_in + k) * d.C_out, a * d.W * d.C_in + k))
    size, span = table.shape[1], tile_span(d)
    tiles = []
    for start in range(0, size, span):
        for row in range(start, start + span, weight_rows):
            rows = range(row, min(row + weight_rows, start + span))
            # Weight row (a, k) takes part at output rows from top − a to H + top − a.
            ends = {min(max(0, end + d.top - a[r]), d.H_out) for r in rows for end in (0, d.H)}
            for low, high in pairwise(sorted(ends)):
                valid = [r for r in rows if 0 <= low - d.top + a[r] < d.H]
                if valid:
                    tiles.append((valid[0], len(valid), low, high))
    return _GradientTiles(
        np.array(tiles, dtype=np.int64).reshape(-1, 4),
        table.astype(np.int64),
        max(1, 16384 // (d.W * d.C_in + d.W_out * min(d.C_out, VECTOR_BYTES // 4))),
    )


def correlate(grad_weight, grad_output, input, scratch, dims, plan):
    partial = partial_sums(grad_weight, scratch, plan.chunks)
    cut = _gradient_tiles(dims, plan.tile)
    _correlate[plan.tile](
        partial.reshape(plan.chunks, *grad_weight.shape), input, grad_output, cut.tiles, cut.table,
        (dims.top, dims.left), plan.parts, cut.block,
    )  # fmt: skip
    add_chunks(grad_weight, partial)
