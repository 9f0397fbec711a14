"""Algorithm selection: the one place that decides how a convolution is computed.

The rules are asked from top to bottom, and the first that holds decides. K channels in, C out of
the sum at hand, so that the input gradient has C = C_in. "×" is the speed against "direct" in
float32 on one thread of an AMD EPYC with AVX2, N:C_in-C_out,size of a 3×3 convolution.

Result ("forward") and input gradient ("adjoint"):

    few channels  adjoint, no groups, kW > 1, C fills at most half a vector: all taps of a kernel
                  row share a vector.                       64:1-16,28 2.2×; 7×7 stem 8:3-64,64 2.2×
    winograd      3×3, stride and dilation 1, no groups, K, C ≥ 16, K·C ≥ 512, 128 tiles or more,
                  and the definition takes 1.5 times its products or more; but for the adjoint
                  32 → 16 where rows fit a vector. AVX-512: with it, bench.steps' network A runs at
                  0.9–1.1 times the rate of a matrix product.
                                                             64:64-64,8 1.2×; 64:32-32,16 0.9–1.0×
                  In precision "high" and float32 with tiles of 4×4, where there are 64 of them or
                  more with 0.7 times the products of 2×2 ones or less, and half of those of the
                  definition. On a Xeon with AVX-512, against what "highest" takes (the three
                  directions): 64:32-32,16 1.2–1.4×; 64:64-64,8 1.3–1.6×; 8:128-128,28 1.2–1.3×;
                  8:256-256,16 1.1–1.2×; 32:128-128,7 1.2–1.3×. With 14×14 pixels, of which 16×16
                  are computed, 0.9–1.1×, and so they keep 2×2.
    rows          no groups, stride = dilation along a row (adjoint: both 1), and a tile that covers
                  a row with an eighth or less done twice.
                                          64:1-16,28 1.15×; 64:3-16,32 1.15×; 16:16-16,32 1.05×
    depthwise     as many groups as channels in and out.                            16:64-64,16 20×
    direct        all else.

"rows" and "direct" read a weight of 65,536 elements or more packed into panels, and take its
columns in blocks of at most 768 KB (panels.py). On the Xeon, against before: 8:512-512,7 2.8–4×;
256→512 of stride 2, 8:…,14 2.5–3.5×; 8:256-256,7 2×.

Weight gradient ("weight"):

    depthwise     as above, if the table of tiles is not too large.                16:64-64,16 9×
    winograd      as above; again by the last two rows if not all of the result is finite.
                                                             64:64-64,8 1.4×; 64:32-32,16 0.9–1.2×
    rows          no groups, kernel 3 wide, stride and dilation 1, rows of 8 pixels or more; again
                  by the last two rows if not all is finite.  64:1-16,28 2.3×; 64:3-16,32 1.2×;
                                                                                 16:16-16,32 1.05×
    few channels  no groups and fewer channels than a tile has rows: its rows are all taps of all
                  channels.                                                 7×7 stem 8:3-64,64 1.8×
    direct        all else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from ....backends import cpu as settings
from ....dtypes import FLOATING, float32
from ....geometry import Conv2dDims
from ...protocol import Repacking
from .._simd import PIXELS, VECTOR_BYTES
from . import (
    depthwise,
    depthwise_tile,
    few_channels,
    panels,
    rows,
    rows_tile,
    weight,
    winograd,
)
from .winograd_tile import products

Algorithm = Literal["winograd", "rows", "depthwise", "few channels", "direct"]
Direction = Literal["forward", "adjoint", "weight"]


@dataclass(frozen=True)
class Plan:
    """An algorithm and its parameters: fixed by the shape and the dtype, so that the bits are."""

    algorithm: Algorithm
    workspace: int
    """Elements of scratch."""
    vectors: int = 1
    """Width of the register tile, in vectors of channels."""
    tile: int = 0
    """Of "rows": pixels of the register tile; of its weight gradient, rows of the weight. Of
    "winograd": pixels along a side of the image's tiles."""
    columns: int = 0
    """Of "direct" and "rows": output channels whose weight stays in the cache meanwhile."""
    panel: int = 0
    """Columns of the weight that are packed together; 0: it is read as it is."""
    chunks: int = 1
    """Partial sums of a weight gradient, over parts of the images or rows."""
    parts: int = 1
    """Tasks that share a chunk of a weight gradient: each has a part of its channels or rows."""
    exact: Plan | None = None
    """What computes the result again if some of it is not finite."""


@lru_cache(maxsize=8192)
def plan(dims: Conv2dDims, direction: Direction, dtype: np.dtype, fast: bool = False) -> Plan:
    """fast: whether float32 may take F(4×4, 3×3)."""
    lanes = VECTOR_BYTES // dtype.itemsize
    fast = fast and dtype == np.float32
    if direction == "weight":
        return _plan_weight(dims, lanes, fast)
    chosen = _plan_pixels(dims, direction == "adjoint", lanes, fast)
    if direction == "adjoint" and not chosen.panel:  # it reads the weight repacked
        return replace(chosen, workspace=chosen.workspace + _weight_size(dims))
    return chosen


@lru_cache(maxsize=8192)
def workspace(dims: Conv2dDims, direction: Direction, fast: bool) -> int:
    """Elements of scratch, enough for every dtype."""
    return max(plan(dims, direction, dtype, fast).workspace for dtype in FLOATING)


def workspace_now(dims: Conv2dDims, direction: Direction) -> int:
    """Elements of scratch in the precision that is set."""
    return workspace(dims, direction, settings.allow_fast_winograd)


def plan_within(dims: Conv2dDims, direction: Direction, dtype: np.dtype, scratch: Any) -> Plan:
    """The plan in the precision that is set; or in the other, if scratch was made when that was."""
    fast = settings.allow_fast_winograd
    chosen = plan(dims, direction, dtype, fast)
    return chosen if chosen.workspace <= scratch.size else plan(dims, direction, dtype, not fast)


def plan_now(dims: Conv2dDims, direction: Direction) -> Plan:
    """For float32, in the precision that is set."""
    return plan(dims, direction, float32, settings.allow_fast_winograd)


@lru_cache(maxsize=8192)
def repacking(chosen: Plan, dims: Conv2dDims) -> Repacking:
    """What a forward plan makes of its weight, where looking whether that has changed (19 GB/s) is
    much faster than making it anew: panels that fit a cache take as long."""
    size = _weight_size(dims)
    if chosen.algorithm == "winograd" and size >= 8192:
        form = "spread", chosen.tile, chosen.vectors
        return Repacking(winograd.spread_elements(dims.C_in, dims.C_out, chosen.tile), form)
    if chosen.panel and size >= 1 << 18:
        return Repacking(chosen.workspace, ("panels", chosen.panel))
    return Repacking(0, ())


def plan_of_repacked(dims: Conv2dDims, elements: int) -> Plan:
    """The plan that repacks a float32 weight into so many elements, in whichever precision: a
    recorded step keeps that of its recording."""
    plans = [plan(dims, "forward", float32, fast) for fast in (False, True)]
    return next(each for each in plans if repacking(each, dims).elements == elements)


def _plan_pixels(d: Conv2dDims, adjoint: bool, lanes: int, fast: bool) -> Plan:
    """For C channels of H × W pixels, from K channels."""
    H, W, C, K = (d.H, d.W, d.C_in, d.C_out) if adjoint else (d.H_out, d.W_out, d.C_out, d.C_in)
    vectors = _vectors(C // d.groups, lanes)
    if adjoint and d.groups == 1 < d.kW and 2 * C <= VECTOR_BYTES // 4:
        size = few_channels.convolve_workspace(d)
        return Plan("few channels", size, _vectors(d.kW * C, lanes))
    into_one_vector = adjoint and (K, C) == (32, 16) and _row_pixels(d, adjoint, vectors=1)
    outputs = _winograd_outputs(d, H, W, fast)
    if outputs and not (outputs == 2 and into_one_vector):
        return Plan("winograd", winograd.workspace(K, C, outputs), vectors, outputs)
    if _is_depthwise(d):
        return Plan("depthwise", 0, depthwise_tile.PIXEL_VECTORS)
    rows_of_weight, width = d.kH * d.kW * K, vectors * lanes
    columns, panel = C, 0
    if d.groups == 1:
        columns = panels.cached_columns(rows_of_weight, C, width)
        if rows_of_weight * C >= 65536:
            panel = width
    size = panels.panel_elements(rows_of_weight, C) if panel else 0
    pixels = _row_pixels(d, adjoint, vectors)
    algorithm: Algorithm = "rows" if pixels else "direct"
    return Plan(algorithm, size, vectors, pixels, columns, panel)


def _plan_weight(d: Conv2dDims, lanes: int, fast: bool) -> Plan:
    pixels, size = d.N * d.H_out * d.W_out, _weight_size(d)
    vectors = _vectors(d.C_out // d.groups, lanes)
    if _is_depthwise(d) and depthwise.gradient_tiles(d) is not None:
        vectors = depthwise_tile.TAP_VECTORS
        chunks, parts = _cut(pixels, d.N, -(-d.C_in // (vectors * VECTOR_BYTES // 4)))
        return Plan("depthwise", chunks * size, vectors, chunks=chunks, parts=parts)

    K = d.C_in // d.groups
    if d.groups == 1 and K < PIXELS:
        chunks, parts = _cut(pixels, d.N, -(-d.kH * d.kW * K // PIXELS))
        frame_h, frame_w = weight.frame_size(d)
        frames = d.N * frame_h * frame_w * d.C_in
        exact = Plan("few channels", chunks * size + frames, vectors, chunks=chunks, parts=parts)
    else:
        chunks, parts = _cut(pixels, d.N, d.kH * d.kW * -(-K // PIXELS))
        exact = Plan("direct", chunks * size, vectors, chunks=chunks, parts=parts)

    if outputs := _winograd_outputs(d, d.H_out, d.W_out, fast):
        # Each chunk's sums have to be added up: few, where they are large. Each part spreads the
        # whole input again.
        least = 4 if d.C_in * d.C_out <= 4096 else 2
        tiles = winograd.tile_count(d.N, d.H_out, d.W_out, outputs)
        chunks = max(least, min(16, tiles // (512 if outputs == 2 else 256)))
        parts = 2 if outputs == 2 and chunks < 4 and d.C_out >= 64 else 1
        needed = max(winograd.workspace(d.C_in, d.C_out, outputs, chunks), exact.workspace)
        return Plan("winograd", needed, vectors, outputs, chunks=chunks, parts=parts, exact=exact)
    if _weight_suits_rows(d):
        # A tile takes as many steps as it has rows, and one.
        span = rows.tile_span(d)
        tile = min(rows_tile.WEIGHT_ROWS, key=lambda tile: -(-span // tile) * (tile + 1))
        chunks, parts = _cut(pixels, 16, -(-d.C_out // (VECTOR_BYTES // 4)))
        needed = max(chunks * size, exact.workspace)
        return Plan("rows", needed, 1, tile, chunks=chunks, parts=parts, exact=exact)
    return exact


def _winograd_outputs(d: Conv2dDims, H: int, W: int, fast: bool) -> int:
    """The m of Winograd's F(m×m, 3×3) for results of H × W pixels; 0 if its saved products are not
    worth the transforms."""
    if (
        (d.kH, d.kW, d.stride_h, d.stride_w, d.dilation_h, d.dilation_w) != (3, 3, 1, 1, 1, 1)
        or d.groups > 1
        or min(d.C_in, d.C_out) < 16
        or d.C_in * d.C_out < 512
    ):
        return 0
    small, large = (winograd.tile_count(d.N, H, W, outputs) for outputs in (2, 4))
    # The definition visits 3 taps of a row, but 2 at either end; parts of tiles are lost where they
    # do not divide the image.
    exact = d.N * (3 * H - 2) * (3 * W - 2)
    fewer = 10 * products(4) * large <= 7 * products(2) * small
    if fast and large >= 64 and fewer and products(4) * large * 2 <= exact:
        return 4
    return 2 if small >= 128 and 2 * exact >= 3 * products(2) * small else 0


def _row_pixels(d: Conv2dDims, adjoint: bool, vectors: int) -> int:
    """Pixels of the tile that covers rows with little overlap; 0 if there is none."""
    step = d.stride_w
    if d.groups > 1 or step != d.dilation_w or (adjoint and step > 1):
        return 0
    W, W_src, left = (d.W, d.W_out, d.kW - 1 - d.left) if adjoint else (d.W_out, d.W, d.left)
    first, last = -(-left // step), -(-(W_src + left) // step)
    if left < 0 or max(first, W + d.kW - 1 - last) > rows_tile.OVERHANG:
        return 0
    best = min(rows_tile.PIXELS[vectors - 1], key=lambda pixels: -(-W // pixels) * pixels)
    covered = -(-W // best) * best
    return best if best <= W and covered * 8 <= W * 9 else 0


def _weight_suits_rows(d: Conv2dDims) -> bool:
    return (
        (d.kW, d.stride_h, d.stride_w, d.dilation_h, d.dilation_w) == (rows_tile.TAPS, 1, 1, 1, 1)
        and d.groups == 1
        and min(d.W, d.W_out) >= 8
        and d.left <= rows_tile.OVERHANG
    )


def _is_depthwise(d: Conv2dDims) -> bool:
    return 1 < d.groups == d.C_in == d.C_out


def _vectors(channels: int, lanes: int) -> int:
    """One for few channels, two for more."""
    return 1 + (channels > lanes)


def _cut(pixels: int, most_chunks: int, most_parts: int) -> tuple[int, int]:
    """(chunks, parts): a chunk sums at least 1024 pixels, so that adding up costs little; with the
    parts of all chunks there are some 16 tasks, whatever the threads."""
    chunks = max(1, min(16, most_chunks, pixels // 1024))
    return chunks, max(1, min(most_parts, -(-16 // chunks)))


def _weight_size(d: Conv2dDims) -> int:
    return d.kH * d.kW * (d.C_in // d.groups) * d.C_out
