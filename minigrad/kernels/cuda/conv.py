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

Groups with few channels would leave a tile empty: for these, one filter for each channel above all,
see _narrow.py.
"""

from __future__ import annotations

from math import gcd

import numpy as np

from ...geometry import Conv2dDims
from ...runtime.cuda.array import DeviceArray
from . import _narrow as narrow
from ._device import cuda, device
from ._index import index_bits, index_type
from ._launch import kernel, kernel_since, launch
from ._tile import (
    TENSOR_CORES_SINCE,
    Tile,
    combine,
    finish,
    panel_sizes,
    place,
    plan,
    scratch_size,
    tile_functions,
)

_OUTSIDE = -(2**30)  # a row that no tap brings into the image


@device
def _forward_axis(phase, kernel, stride, before, dilation):
    """(first tap, number of taps, from one to the next; what target 0 reads through the first tap,
    how far the next tap and the next target move it)"""
    return 0, kernel, 1, -before, dilation, stride


@device
def _adjoint_axis(phase, kernel, stride, before, dilation):
    """The same for the targets phase, phase + stride, …"""
    first = 0
    while first < kernel and (phase + before - first * dilation) % stride != 0:
        first += 1
    step = 1
    while step * dilation % stride != 0:
        step += 1
    taps = (kernel - first + step - 1) // step
    origin = (phase + before - first * dilation) // stride
    return first, taps, step, origin, -(step * dilation // stride), 1


def _convolve_kernel(real, tile, bits, adjoint):
    index, int32 = index_type(bits), np.int32
    axis = _adjoint_axis if adjoint else _forward_axis
    advance, row_of, col_of = tile_functions(tile, False, not adjoint)
    (sums_i, sums_j), lefts, rights, left_shape, right_shape = panel_sizes(tile)
    sum_count = sums_i * sums_j
    tile_rows, tile_cols, depth, threads = *tile[:3], tile.threads

    def convolve(
        target, source, weight, bias, splits, span, relu, N, C_in, H, W, C_out, kH, kW,
        H_out, W_out, stride_h, stride_w, top, left, dilation_h, dilation_w, groups,
    ):  # fmt: skip
        # 2·N·H_out·W_out·C_out·taps·K flop. A block owns the tile (pixels of one phase, channels of
        # one group), of one span of its sum.
        left_panels = cuda.shared.array(left_shape, real, 16)
        right_panels = cuda.shared.array(right_shape, real, 16)
        # Of each pixel of the tile: the source pixel of the first tap, and where its channels start
        # in the source's image and in the target.
        first_h = cuda.shared.array(tile_rows, int32)
        first_w = cuda.shared.array(tile_rows, int32)
        image_start = cuda.shared.array(tile_rows, index)
        target_start = cuda.shared.array(tile_rows, index)
        left_next = cuda.local.array(lefts, real)
        right_next = cuda.local.array(rights, real)
        sums = cuda.local.array(sum_count, real)
        for i in range(sum_count):
            sums[i] = real(0)

        C_target, H_target, W_target = (C_in, H, W) if adjoint else (C_out, H_out, W_out)
        C_source, H_source, W_source = (C_out, H_out, W_out) if adjoint else (C_in, H, W)
        C, K = C_target // groups, C_source // groups
        phases_h = min(stride_h, H_target) if adjoint else 1
        phases_w = min(stride_w, W_target) if adjoint else 1
        most_pixels = N * ((H_target + phases_h - 1) // phases_h)
        most_pixels *= (W_target + phases_w - 1) // phases_w

        # From the block's number to what it owns
        across = (C + tile_cols - 1) // tile_cols
        down = (most_pixels + tile_rows - 1) // tile_rows
        block = cuda.blockIdx.x
        first_col, block = block % across * tile_cols, block // across
        first_pixel, block = block % down * tile_rows, block // down
        phase_w, block = block % phases_w, block // phases_w
        phase_h, block = block % phases_h, block // phases_h
        g, split = block % groups, block // groups

        # Its taps and pixels
        axis_h = axis(phase_h, kH, stride_h, top, dilation_h)
        axis_w = axis(phase_w, kW, stride_w, left, dilation_w)
        tap_h, taps_h, next_h, origin_h, move_h, shift_h = axis_h
        tap_w, taps_w, next_w, origin_w, move_w, shift_w = axis_w
        rows = (H_target - phase_h + phases_h - 1) // phases_h
        cols = (W_target - phase_w + phases_w - 1) // phases_w
        for r in range(cuda.threadIdx.x, tile_rows, threads):
            pixel = first_pixel + r
            i, j = pixel // cols % rows, pixel % cols
            n = pixel // (rows * cols)
            first_h[r] = origin_h + i * shift_h if n < N else _OUTSIDE
            first_w[r] = origin_w + j * shift_w
            image_start[r] = index(n * H_source * W_source * C_source + g * K)
            at = (n * H_target + phase_h + i * phases_h) * W_target + phase_w + j * phases_w
            target_start[r] = index(at * C_target + g * C)
        cuda.syncthreads()

        # The term whose numbers this thread fetches along the sum: tap (a, b), source channel k
        start, end = split * span, min(split * span + span, taps_h * taps_w * K)
        term = start + cuda.threadIdx.x % depth
        k = int32(term % K)
        b = int32(term // K % max(taps_w, 1))
        a = int32(term // K // max(taps_w, 1))
        w_step, k_step = index(W_source), index(C_source)

        for step in range(max((end - start + depth - 1) // depth, 0) + 1):
            for i in range(lefts):
                r, _ = place(i, tile_rows, depth, threads, False)
                h, w = int32(first_h[r] + a * move_h), int32(first_w[r] + b * move_w)
                inside = h >= 0 and h < H_source and w >= 0 and w < W_source and term < end
                left_next[i] = real(0)
                if inside:
                    pixel = index(index(index(h) * w_step) + index(w))
                    left_next[i] = source[index(image_start[r] + index(pixel * k_step) + index(k))]
            for i in range(rights):
                place_col, place_k = place(i, tile_cols, depth, threads, not adjoint)
                col = first_col + place_col
                if adjoint:
                    tap = (tap_h + a * next_h) * kW + tap_w + b * next_w
                    at = index(index(tap * C + col) * index(C_out)) + index(g * K + k)
                    found = col < C and term < end
                else:
                    row = start + step * depth + place_k
                    at = index(index(row) * index(C_out)) + index(g * C + col)
                    found = col < C and row < end
                right_next[i] = weight[index(at)] if found else real(0)
            advance(step, sums, left_panels, right_panels, left_next, right_next)
            term += depth
            k = int32(k + depth)
            while k >= K:
                k = int32(k - K)
                b = int32(b + 1)
                if b == taps_w:
                    a, b = int32(a + 1), int32(0)

        out_start = index(index(split) * index(index(N * H_target) * index(W_target * C_target)))
        for i in range(sums_i):
            for j in range(sums_j):
                row, col = row_of(i, j), first_col + col_of(i, j)
                if first_h[row] != _OUTSIDE and col < C:
                    at = index(out_start + target_start[row] + index(col))
                    channel = index(g * C + col)
                    target[at] = finish(sums[i * sums_j + j], bias, channel, relu, real(0))

    return convolve


@kernel
def _convolve(real, rows, cols, depth, part_rows, part_cols, bits, adjoint):
    tile = Tile(rows, cols, depth, part_rows, part_cols)
    return _convolve_kernel(real, tile, bits, adjoint)


@kernel_since(TENSOR_CORES_SINCE)
def _convolve_tf32(real, rows, cols, depth, part_rows, part_cols, bits, adjoint):
    tile = Tile(rows, cols, depth, part_rows, part_cols, tensor=True)
    return _convolve_kernel(real, tile, bits, adjoint)


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


def _run_convolve(target, source, weight, bias, scratch, dims, relu, adjoint) -> None:
    if narrow.suits(dims):
        narrow.convolve(target, source, weight, bias, dims, relu, adjoint)
        return
    share = plan(*_convolve_sizes(dims, adjoint), target.dtype)
    make = _convolve_tf32 if share.tile.tensor else _convolve
    split = share.splits > 1
    out = scratch if split else target
    bits = index_bits(out.size, source.size, weight.size)
    launch(
        make(target.dtype, *share.tile.sizes, bits, adjoint), share.shape,
        out, source, weight, None if split else bias, share.splits, share.span,
        relu and not split, *dims,
    )  # fmt: skip
    if split:
        combine(target, scratch, bias, relu, share.splits)


def conv2d_forward_workspace(dims: Conv2dDims) -> int:
    return _convolve_workspace(dims, adjoint=False)


def conv2d_forward(
    out: DeviceArray,
    input: DeviceArray,
    weight: DeviceArray,
    bias: DeviceArray | None,
    scratch: DeviceArray | None,
    dims: Conv2dDims,
    relu: bool,
) -> None:
    _run_convolve(out, input, weight, bias, scratch, dims, relu, adjoint=False)


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
    _run_convolve(grad_input, grad_output, weight, None, scratch, dims, False, adjoint=True)


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
    _run_convolve(out, input, weight, bias, scratch, dims, False, adjoint=True)
