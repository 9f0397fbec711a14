"""Convolution along the rows of an image: for few channels, and windows that start a tap apart.

Where stride and dilation along a row are equal, the window of a pixel is that of its neighbour
moved on by one tap. A register tile of neighbouring pixels then reads every source element once for
all the taps that meet it (see _sliding.py), which matters when the channels of a pixel fill a
single vector: the tiles of conv.py would wait for loads. Arrays as in conv.py.

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
from numba import prange

from ...geometry import Conv2dDims
from ._jit import kernel
from ._simd import VECTOR_BYTES
from ._sliding import (
    OVERHANG,
    PIXELS,
    TAPS,
    WEIGHT_ROWS,
    slide_gradient_tile,
    slide_tile,
)


def _make_convolve(pixels: int, vectors: int):
    """The kernel whose register tile is `pixels` pixels × `vectors` vectors of channels."""

    @kernel
    def convolve(target, source, weight, bias, use_bias, relu, rows, row_steps, left, step):
        # 2·N·H·W·C·taps·K flop. Parallel over target rows, which the tasks own. The last tile of a
        # row moves back to end with it; what two tiles both compute is the same.
        N, H, W, C = target.shape
        H_src, W_src, K = source.shape[1:]
        kW = weight.shape[1]
        width = vectors * (VECTOR_BYTES // target.itemsize)
        weight_steps = (row_steps[0] * kW * K * C, K * C, C)
        # Position q of a row, tap t of pixel j where q = j + t, reads source column q·step − left.
        first, last = (left + step - 1) // step, (W_src + left + step - 1) // step
        for task in prange(N * H):
            n, i = task // H, task % H
            row_tap, row_taps, row_source = rows[i]
            for c0 in range(0, C, width):
                for start in range(0, W, pixels):
                    j = min(start, W - pixels)
                    slide_tile(
                        pixels, vectors, target, ((n * H + i) * W + j) * C + c0, C,
                        source, ((n * H_src + row_source) * W_src + j * step - left) * K, step * K,
                        (first - j, last - j), weight, row_tap * kW * K * C + c0, weight_steps,
                        bias, c0, use_bias, relu,
                        (row_taps, kW, K), row_steps[1] * W_src * K, min(width, C - c0),
                    )  # fmt: skip

    return convolve


# One vector wide for few channels, two for more; by the pixels of the tile.
_convolve = tuple(
    {pixels: _make_convolve(pixels, vectors) for pixels in tiles}
    for vectors, tiles in enumerate(PIXELS, start=1)
)


def tile_pixels(W: int, W_src: int, kW: int, left: int, step: int, vectors: int) -> int:
    """Pixels of the tile that covers rows of W pixels with little overlap; 0 if there is none."""
    first, last = -(-left // step), -(-(W_src + left) // step)
    if left < 0 or first > OVERHANG or W + kW - 1 - last > OVERHANG:
        return 0
    best = min(_convolve[vectors - 1], key=lambda pixels: -(-W // pixels) * pixels)
    covered = -(-W // best) * best
    return best if best <= W and covered * 8 <= W * 9 else 0


def convolve(target, source, weight, bias, relu, rows, left, step, pixels):
    """target = source ⋆ weight + bias; the tap 0 of column 0 reads source column −left."""
    wide = VECTOR_BYTES // target.itemsize < target.shape[3]
    _convolve[wide][pixels](
        target, source, weight, weight.reshape(-1) if bias is None else bias, bias is not None,
        relu, rows.positions, (rows.tap_step, rows.source_step), left, step,
    )  # fmt: skip


def _make_correlate(weight_rows: int):
    """The weight-gradient kernel whose register tile is `weight_rows` rows × TAPS vectors."""

    @kernel
    def correlate(partial, source, grad_output, tiles, table, before, parts, block):
        # 2·N·H_out·W_out·C_out·taps·K flop. Parallel over (chunk of output rows, part of the output
        # channels): each task owns its channels of partial[chunk].
        chunks, _, kW, K, C = partial.shape
        N, H, W = source.shape[:3]
        H_out, W_out = grad_output.shape[1:3]
        width = VECTOR_BYTES // partial.itemsize
        offsets, size = table.reshape(-1), table.shape[1]
        columns = (C + width - 1) // width
        for task in prange(chunks * parts):
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


class WeightPlan(NamedTuple):
    """How the weight gradient is cut: fixed by the shape alone, so that its bits are too."""

    tiles: np.ndarray  # (first weight row, weight rows, first output row, last one + 1)
    table: np.ndarray  # for each weight row (a, k), its place in the weight and in the source
    weight_rows: int  # of a tile, the key of _correlate
    chunks: int  # of output rows, each with its own partial sum
    parts: int  # of the output channels
    block: int  # output rows


def suits_weight(dims: Conv2dDims) -> bool:
    d = dims
    steps = d.stride_h, d.stride_w, d.dilation_h, d.dilation_w
    return (
        d.groups == 1
        and d.kW == TAPS
        and steps == (1, 1, 1, 1)
        and min(d.W, d.W_out) >= 8
        and d.left <= OVERHANG
    )


@lru_cache(maxsize=4096)
def weight_plan(dims: Conv2dDims) -> WeightPlan | None:
    if not suits_weight(dims):
        return None
    d = dims
    a, k = np.indices((d.kH, d.C_in)).reshape(2, -1)
    table = np.stack(((a * d.kW * d.C_in + k) * d.C_out, a * d.W * d.C_in + k))
    # All rows in one sequence, or those of one kernel row: near the top and bottom of the image
    # some kernel rows have no source, which leaves parts of the tiles that they share idle.
    size = table.shape[1]
    span = d.C_in if d.C_in >= max(WEIGHT_ROWS) - 1 else size
    # A tile takes as many steps as it has rows, and one.
    weight_rows = min(WEIGHT_ROWS, key=lambda rows: -(-span // rows) * (rows + 1))
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
    chunks = max(1, min(16, d.N * d.H_out * d.W_out // 1024))
    return WeightPlan(
        np.array(tiles, dtype=np.int64).reshape(-1, 4),
        table.astype(np.int64),
        weight_rows,
        chunks,
        min(-(-d.C_out // (VECTOR_BYTES // 4)), -(-16 // chunks)),
        max(1, 16384 // (d.W * d.C_in + d.W_out * min(d.C_out, VECTOR_BYTES // 4))),
    )


def correlate(partial, source, grad_output, dims, plan):
    """partial[chunk] = the weight gradient of a chunk of output rows."""
    _correlate[plan.weight_rows](
        partial, source, grad_output, plan.tiles, plan.table, (dims.top, dims.left), plan.parts,
        plan.block,
    )  # fmt: skip
