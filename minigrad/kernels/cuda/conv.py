"""Convolution on channels-last arrays: implicit GEMM, tile by tile (_tile.py).

Arrays: input (N, H, W, C_in), weight (kH, kW, C_in/groups, C_out), output (N, H_out, W_out, C_out),
all C-ordered. Nothing is unfolded in memory; g is a group.

**Forward and input gradient are one kernel.** A row of the product is a target pixel, a column a
target channel, and the sum runs over taps and source channels:

    target[n, i, j, c] = bias[c] + Σ_(a, b) Σ_k source[n, row(i, a), col(j, b), k] · weight[a, b, …]

Forward reads row(i, a) = i·stride − top + a·dilation. The input gradient is the adjoint: target i
receives from the output o with i + top = o·stride + a·dilation, if there is one. Targets that are
`stride` apart share their taps; such a phase is a convolution of stride 1 with every other tap, and
each of its taps is worth its work. A block owns a tile of one phase.

The gradients of weight and bias are in conv_weight.py.

`_run_convolve` chooses between this and two others. Groups with few channels, one filter for each
channel above all, would leave a tile empty: _narrow.py. Where neighbouring pixels share what their
taps read and the images are large enough to keep the GPU busy, a patch of the source in shared
memory takes fewer instructions: _direct.py.
"""

from __future__ import annotations

from math import gcd

import numpy as np

from ...geometry import Conv2dDims
from ...runtime.cuda.array import DeviceArray
from ..protocol import UNLIMITED, Repacking
from . import _direct as direct
from . import _narrow as narrow
from ._device import cuda, device, limited
from ._index import index_bits, index_type
from ._launch import kernel, kernel_since, launch
from ._ptx import vectors
from ._span import quotient
from ._span import span as span_of
from ._tile import (
    TENSOR_CORES_SINCE,
    Tile,
    biased,
    combine,
    plan,
    scratch_size,
    split_off,
    tile_functions,
    vector_width,
)

_OUTSIDE = -(2**30)  # a row that no tap brings into the image


@device
def _forward_axis(phase, kernel, stride, before, dilation):
    """(first tap, number of taps, from one to the next; what target 0 reads through the first tap,
    how far the next tap and the next target move it)"""
    return np.int32(0), kernel, np.int32(1), np.int32(-before), dilation, stride


@device
def _adjoint_axis(phase, kernel, stride, before, dilation):
    """The same for the targets phase, phase + stride, …"""
    int32 = np.int32
    reach = int32(phase + before)
    first = int32(0)
    while first < kernel and _remainder(int32(reach - first * dilation), stride) != 0:
        first = int32(first + 1)
    step = int32(1)
    while _remainder(int32(step * dilation), stride) != 0:
        step = int32(step + 1)
    taps = quotient(int32(max(int32(kernel - first), 0) + step - 1), step)
    reach = int32(reach - first * dilation)
    origin = quotient(reach, stride) if reach >= 0 else int32(-quotient(int32(-reach), stride))
    return first, taps, step, origin, int32(-quotient(int32(step * dilation), stride)), int32(1)


@device
def _remainder(a, b):
    """Of the absolute value of a, by b > 0."""
    size = np.int32(abs(a))
    return np.int32(size - quotient(size, b) * b)


def _convolve_kernel(real, tile, left_width, right_width, bits, adjoint):
    index, int32, uint32 = index_type(bits), np.int32, np.uint32
    count = int32 if bits == 32 else np.int64
    axis = _adjoint_axis if adjoint else _forward_axis
    tiles = tile_functions(tile, real, False, not adjoint, left_width, right_width)
    advance, row_of, col_of = tiles.advance, tiles.row_of, tiles.col_of
    place_left, place_right = tiles.place_left, tiles.place_right
    fetch_left, fetch_right = tiles.fetch_left, tiles.fetch_right
    sums_i, sums_j, sum_count = tiles.sums_i, tiles.sums_j, tiles.sums_i * tiles.sums_j
    lefts, rights = tiles.left.fetches, tiles.right.fetches
    left_length, right_length = lefts * left_width, rights * right_width
    left_size, right_size = 2 * tiles.left.size, 2 * tiles.right.size
    # Of neighbouring results in a thread's part
    stored = 1 if adjoint or tile.tensor else right_width
    _, store = vectors(stored)
    tile_rows, tile_cols, depth, threads = *tile[:3], tile.threads

    def convolve(
        target, source, weight, bias, splits, span, least, most, N, C_in, H, W, C_out, kH, kW,
        H_out, W_out, stride_h, stride_w, top, left, dilation_h, dilation_w, groups,
    ):  # fmt: skip
        # 2·N·H_out·W_out·C_out·taps·K flop. A block owns the tile (pixels of one phase, channels of
        # one group), of one span of its sum.
        left_panels = cuda.shared.array(left_size, real, 16)
        right_panels = cuda.shared.array(right_size, real, 16)
        # Of each pixel of the tile: the source pixel of the first tap, where its channels start in
        # the source and in the target.
        first_h = cuda.shared.array(tile_rows, int32)
        first_w = cuda.shared.array(tile_rows, int32)
        source_start = cuda.shared.array(tile_rows, index)
        target_start = cuda.shared.array(tile_rows, index)
        left_next = cuda.local.array(left_length, real)
        right_next = cuda.local.array(right_length, real)
        sums = cuda.local.array(sum_count, real)
        for i in range(sum_count):
            sums[i] = real(0)

        C_target, H_target, W_target = (C_in, H, W) if adjoint else (C_out, H_out, W_out)
        C_source, H_source, W_source = (C_out, H_out, W_out) if adjoint else (C_in, H, W)
        C, K = quotient(C_target, groups), quotient(C_source, groups)
        phases_h = min(stride_h, H_target) if adjoint else int32(1)
        phases_w = min(stride_w, W_target) if adjoint else int32(1)
        most_rows = quotient(int32(H_target + phases_h - 1), phases_h)
        most_cols = quotient(int32(W_target + phases_w - 1), phases_w)

        # From the block's number to what it owns
        block = int32(cuda.blockIdx.x)
        first_col, block = split_off(block, C, tile_cols)
        first_pixel, block = split_off(block, count(N * most_rows * most_cols), tile_rows)
        phase_w, block = split_off(block, phases_w, 1)
        phase_h, block = split_off(block, phases_h, 1)
        g, split = split_off(block, groups, 1)

        # Its taps and pixels
        axis_h = axis(phase_h, kH, stride_h, top, dilation_h)
        axis_w = axis(phase_w, kW, stride_w, left, dilation_w)
        tap_h, taps_h, next_h, origin_h, move_h, shift_h = axis_h
        tap_w, taps_w, next_w, origin_w, move_w, shift_w = axis_w
        rows = quotient(int32(H_target - phase_h + phases_h - 1), phases_h)
        cols = quotient(int32(W_target - phase_w + phases_w - 1), phases_w)
        for r in range(cuda.threadIdx.x, tile_rows, threads):
            pixel = count(first_pixel + r)
            line = quotient(pixel, cols)
            n = int32(quotient(line, rows))
            i, j = int32(line - n * rows), int32(pixel - line * cols)
            h, w = int32(origin_h + i * shift_h), int32(origin_w + j * shift_w)
            first_h[r] = h if n < N else int32(_OUTSIDE)
            first_w[r] = w
            line = index(index(n) * index(H_source) + index(h))
            at = index(line * index(W_source) + index(w))
            source_start[r] = index(at * index(C_source) + index(g * K))
            line = index(index(n) * index(H_target) + index(phase_h + i * phases_h))
            at = index(line * index(W_target) + index(phase_w + j * phases_w))
            target_start[r] = index(at * index(C_target) + index(g * C))
        cuda.syncthreads()

        # Of the rows that this thread fetches
        h_of = cuda.local.array(lefts, int32)
        w_of = cuda.local.array(lefts, int32)
        start_of = cuda.local.array(lefts, index)
        for i in range(lefts):
            r, _ = place_left(i)
            h_of[i] = first_h[r] if r < tile_rows else int32(_OUTSIDE)
            w_of[i] = first_w[r] if r < tile_rows else int32(0)
            start_of[i] = source_start[r] if r < tile_rows else index(0)

        # The term whose numbers this thread fetches along the sum: tap (a, b), source channel k
        start = count(split * span)
        end = count(min(start + span, taps_h * taps_w * K))
        steps = quotient(count(max(end - start, 0) + depth - 1), depth)
        _, thread_term = place_left(0)
        term = count(start + thread_term)
        tap = int32(quotient(term, max(K, 1)))
        k = int32(term - tap * K)
        a = quotient(tap, max(taps_w, 1))
        b = int32(tap - a * taps_w)

        for step in span_of(0, count(steps + 1), 1):
            h_move = int32(a * move_h) if term < end else int32(_OUTSIDE)
            w_move = int32(b * move_w)
            line = index(index(h_move) * index(W_source) + index(w_move))
            move = index(line * index(C_source) + index(k))
            for i in range(lefts):
                h, w = uint32(h_of[i] + h_move), uint32(w_of[i] + w_move)
                inside = (h < uint32(H_source)) & (w < uint32(W_source))
                fetch_left(left_next, i * left_width, source, index(start_of[i] + move), inside)
            for i in range(rights):
                place_col, place_k = place_right(i)
                col = int32(first_col + place_col)
                if adjoint:
                    tap = int32((tap_h + a * next_h) * kW + tap_w + b * next_w)
                    line = index(index(tap) * index(C) + index(col))
                    at = index(line * index(C_out) + index(g * K + k))
                    found = (col < C) & (term < end)
                else:
                    row = count(start + step * depth + place_k)
                    at = index(index(row) * index(C_out) + index(g * C + col))
                    found = (col < C) & (row < end)
                fetch_right(right_next, i * right_width, weight, at, found)
            advance(step, sums, left_panels, right_panels, left_next, right_next)
            term = count(term + depth)
            k = int32(k + depth)
            while k >= K:
                k = int32(k - K)
                b = int32(b + 1)
                if b == taps_w:
                    a, b = int32(a + 1), int32(0)

        for i in range(sums_i):
            for j in range(sums_j):
                channel = index(g * C + min(int32(first_col + col_of(i, j)), int32(C - 1)))
                at = i * sums_j + j
                sums[at] = limited(biased(sums[at], bias, channel), least, most)
        line = index(index(split) * index(N) * index(H_target))
        out_start = index(index(line * index(W_target)) * index(C_target))
        for i in range(sums_i):
            for j in range(0, sums_j, stored):
                row, col = row_of(i, j), int32(first_col + col_of(i, j))
                if first_h[row] != _OUTSIDE and col < C:
                    at = index(out_start + target_start[row] + index(col))
                    store(target, at, sums, i * sums_j + j)

    return convolve


@kernel
def _convolve(
    real, rows, cols, depth, part_rows, part_cols, left_width, right_width, bits, adjoint
):
    tile = Tile(rows, cols, depth, part_rows, part_cols)
    return _convolve_kernel(real, tile, left_width, right_width, bits, adjoint)


@kernel_since(TENSOR_CORES_SINCE)
def _convolve_tf32(
    real, rows, cols, depth, part_rows, part_cols, left_width, right_width, bits, adjoint
):
    tile = Tile(rows, cols, depth, part_rows, part_cols, tensor=True)
    return _convolve_kernel(real, tile, left_width, right_width, bits, adjoint)


def _convolve_sizes(d: Conv2dDims, adjoint: bool) -> tuple[int, int, int, int]:
    """(rows, cols, terms, batch) of the product, with the pixels and taps of the largest phase."""
    if not adjoint:
        terms = d.kH * d.kW * (d.C_in // d.groups)
        return d.N * d.H_out * d.W_out, d.C_out // d.groups, terms, d.groups
    phases_h, phases_w = min(d.stride_h, d.H), min(d.stride_w, d.W)
    pixels = d.N * -(-d.H // max(phases_h, 1)) * -(-d.W // max(phases_w, 1))
    taps_h = -(-d.kH // (d.stride_h // gcd(d.stride_h, d.dilation_h)))
    taps_w = -(-d.kW // (d.stride_w // gcd(d.stride_w, d.dilation_w)))
    terms = taps_h * taps_w * (d.C_out // d.groups)
    return pixels, d.C_in // d.groups, terms, d.groups * phases_h * phases_w


def _convolve_workspace(dims: Conv2dDims, adjoint: bool) -> int:
    d = dims
    if narrow.suits(d):
        return 0
    size = d.N * d.H * d.W * d.C_in if adjoint else d.N * d.H_out * d.W_out * d.C_out
    return scratch_size(*_convolve_sizes(d, adjoint), size)


def _run_convolve(target, source, weight, bias, scratch, dims, bounds, adjoint) -> None:
    if narrow.suits(dims):
        narrow.convolve(target, source, weight, bias, dims, bounds, adjoint)
        return
    share = plan(*_convolve_sizes(dims, adjoint), target.dtype)
    if not share.tile.tensor:
        found = direct.plan(dims, adjoint, target.itemsize)
        if found is not None and found.cost < share.cost:
            direct.convolve(target, source, weight, bias, dims, bounds, adjoint, found.block)
            return
    make = _convolve_tf32 if share.tile.tensor else _convolve
    split = share.splits > 1
    out = scratch if split else target
    bits = index_bits(out.size, source.size, weight.size)
    by_source = (dims.C_out if adjoint else dims.C_in) // dims.groups
    left_width = vector_width(by_source, source)
    if adjoint:
        right_width = vector_width(by_source, weight)
    else:
        right_width = vector_width(dims.C_out // dims.groups, weight, out)
    launch(
        make(target.dtype, *share.tile.sizes, left_width, right_width, bits, adjoint), share.shape,
        out, source, weight, None if split else bias, share.splits, share.span,
        *(UNLIMITED if split else bounds), *dims,
    )  # fmt: skip
    if split:
        combine(target, scratch, bias, bounds, share.splits)


def conv2d_forward_workspace(dims: Conv2dDims) -> int:
    return _convolve_workspace(dims, adjoint=False)


def conv2d_forward(
    out: DeviceArray,
    input: DeviceArray,
    weight: DeviceArray,
    bias: DeviceArray | None,
    repacked: None,
    scratch: DeviceArray | None,
    dims: Conv2dDims,
    bounds: tuple[float, float],
) -> None:
    _run_convolve(out, input, weight, bias, scratch, dims, bounds, adjoint=False)


def conv2d_repacking(dims: Conv2dDims) -> Repacking:
    return Repacking(0, ())


def conv2d_repack(
    repacked: DeviceArray,
    seen: DeviceArray,
    weight: DeviceArray,
    source: DeviceArray,
    dims: Conv2dDims,
) -> None:
    """Weights are read as they lie."""


def conv2d_backward_input_workspace(dims: Conv2dDims) -> int:
    return _convolve_workspace(dims, adjoint=True)


def conv2d_backward_input(
    grad_input: DeviceArray,
    grad_output: DeviceArray,
    weight: DeviceArray,
    scratch: DeviceArray,
    dims: Conv2dDims,
) -> None:
    """∂out[n, oh, ow, co] / ∂input[n, h, w, c] = weight[kh, kw, ci, co] where a tap joins them."""
    _run_convolve(grad_input, grad_output, weight, None, scratch, dims, UNLIMITED, adjoint=True)


def conv_transpose2d_forward_workspace(dims: Conv2dDims) -> int:
    return _convolve_workspace(dims, adjoint=True)


def conv_transpose2d_forward(
    out: DeviceArray,
    input: DeviceArray,
    weight: DeviceArray,
    bias: DeviceArray | None,
    scratch: DeviceArray,
    dims: Conv2dDims,
) -> None:
    _run_convolve(out, input, weight, bias, scratch, dims, UNLIMITED, adjoint=True)
