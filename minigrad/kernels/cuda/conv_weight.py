"""Gradients of a convolution's weight and bias, on channels-last arrays. Names as in conv.py.

The weight gradient is a product (_tile.py) with a row for every tap and input channel, a column for
every output channel, and sums over output pixels:

    grad_weight[a, b, k, c] = Σ_(n, oh, ow) input[n, row(oh, a), col(ow, b), k] · grad[n, oh, ow, c]

Few channels in groups: see _narrow.py; a patch of the input in shared memory: _direct_weight.py.
"""

from __future__ import annotations

import numpy as np

from ...geometry import Conv2dDims
from ...runtime.cuda.array import DeviceArray
from ..protocol import UNLIMITED
from . import _direct_weight as direct
from . import _narrow as narrow
from ._columns import relu_sums
from ._device import cuda
from ._index import index_bits, index_type
from ._launch import kernel, kernel_since, launch
from ._ptx import vectors
from ._span import quotient
from ._span import span as span_of
from ._tile import (
    TENSOR_CORES_SINCE,
    Tile,
    combine,
    plan,
    scratch_size,
    split_off,
    tile_functions,
    vector_width,
)
from .reduce import sum_forward, sum_forward_workspace

_OUTSIDE = -(2**30)  # a row that no tap brings into the image


def _correlate_kernel(real, tile, left_width, right_width, bits):
    index, int32, uint32 = index_type(bits), np.int32, np.uint32
    count = int32 if bits == 32 else np.int64
    tiles = tile_functions(tile, real, True, True, left_width, right_width)
    advance, row_of, col_of = tiles.advance, tiles.row_of, tiles.col_of
    place_left, place_right = tiles.place_left, tiles.place_right
    fetch_left, fetch_right = tiles.fetch_left, tiles.fetch_right
    sums_i, sums_j, sum_count = tiles.sums_i, tiles.sums_j, tiles.sums_i * tiles.sums_j
    lefts, rights = tiles.left.fetches, tiles.right.fetches
    left_length, right_length = lefts * left_width, rights * right_width
    left_size, right_size = 2 * tiles.left.size, 2 * tiles.right.size
    stored = 1 if tile.tensor else right_width  # neighbouring results in a thread's part
    _, store = vectors(stored)
    tile_rows, tile_cols, depth = tile[:3]
    pixels = 2 * depth

    def correlate(
        grad_weight, grad_output, input, splits, span, N, C_in, H, W, C_out, kH, kW,
        H_out, W_out, stride_h, stride_w, top, left, dilation_h, dilation_w, groups,
    ):  # fmt: skip
        # 2·N·H_out·W_out·C_out·taps·K flop. A block owns the tile (taps and input channels, output
        # channels of one group), of one span of pixels.
        left_panels = cuda.shared.array(left_size, real, 16)
        right_panels = cuda.shared.array(right_size, real, 16)
        # Of each pixel of a step, while those of the next are written: what its first tap reads.
        first_h = cuda.shared.array(pixels, int32)
        first_w = cuda.shared.array(pixels, int32)
        pixel_start = cuda.shared.array(pixels, index)
        left_next = cuda.local.array(left_length, real)
        right_next = cuda.local.array(right_length, real)
        sums = cuda.local.array(sum_count, real)
        for i in range(sum_count):
            sums[i] = real(0)

        C, K = quotient(C_out, groups), quotient(C_in, groups)
        rows = int32(kH * kW * K)
        block = int32(cuda.blockIdx.x)
        first_col, block = split_off(block, C, tile_cols)
        first_row, block = split_off(block, rows, tile_rows)
        g, split = split_off(block, groups, 1)
        start = count(split * span)
        end = count(min(start + span, N * H_out * W_out))
        steps = quotient(count(end - start + depth - 1), depth)

        # The row whose numbers this thread fetches: a tap and a channel
        thread_row, _ = place_left(0)
        row = int32(first_row + thread_row)
        tap = quotient(row, K)
        channel = int32(g * K + row - tap * K)
        tap_line = quotient(tap, kW)
        tap_h = int32(tap_line * dilation_h) if row < rows else int32(_OUTSIDE)
        tap_w = int32((tap - tap_line * kW) * dilation_w)
        tap_start = index(index(tap_h) * index(W) + index(tap_w))
        tap_start = index(tap_start * index(C_in) + index(channel))

        # The pixel that this thread, one of the first, looks up for the others
        pixel = count(start + cuda.threadIdx.x)
        line = quotient(pixel, W_out)
        n = int32(quotient(line, H_out))
        oh, ow = int32(line - n * H_out), int32(pixel - line * W_out)

        for ahead in span_of(0, count(steps + 2), 1):
            step = count(ahead - 1)
            if ahead > 0:
                panel = uint32((step & 1) * depth)
                for i in range(lefts):
                    _, k = place_left(i)
                    k = uint32(panel + k)
                    h, w = uint32(first_h[k] + tap_h), uint32(first_w[k] + tap_w)
                    inside = (h < uint32(H)) & (w < uint32(W))
                    at = index(pixel_start[k] + tap_start)
                    fetch_left(left_next, i * left_width, input, at, inside)
                for i in range(rights):
                    place_col, place_k = place_right(i)
                    col = int32(first_col + place_col)
                    k = count(start + step * depth + place_k)
                    at = index(index(k) * index(C_out) + index(g * C + col))
                    found = (col < C) & (k < end)
                    fetch_right(right_next, i * right_width, grad_output, at, found)
            if cuda.threadIdx.x < depth:
                at = uint32((ahead & 1) * depth + cuda.threadIdx.x)
                h, w = int32(oh * stride_h - top), int32(ow * stride_w - left)
                first_h[at] = h if pixel < end else int32(_OUTSIDE)
                first_w[at] = w
                line = index(index(n) * index(H) + index(h))
                pixel_start[at] = index(index(line * index(W) + index(w)) * index(C_in))
                pixel = count(pixel + depth)
                ow = int32(ow + depth)
                while ow >= W_out:
                    ow = int32(ow - W_out)
                    oh = int32(oh + 1)
                    if oh == H_out:
                        n, oh = int32(n + 1), int32(0)
            if ahead > 0:
                advance(step, sums, left_panels, right_panels, left_next, right_next)
            else:
                cuda.syncthreads()

        out_start = index(index(split) * index(index(rows) * index(C_out)))
        for i in range(sums_i):
            for j in range(0, sums_j, stored):
                out_row = int32(first_row + row_of(i, j))
                col = int32(first_col + col_of(i, j))
                if out_row < rows and col < C:
                    at = index(index(out_row) * index(C_out) + index(g * C + col))
                    store(grad_weight, index(out_start + at), sums, i * sums_j + j)

    return correlate


@kernel
def _correlate(real, rows, cols, depth, part_rows, part_cols, left_width, right_width, bits):
    tile = Tile(rows, cols, depth, part_rows, part_cols)
    return _correlate_kernel(real, tile, left_width, right_width, bits)


@kernel_since(TENSOR_CORES_SINCE)
def _correlate_tf32(real, rows, cols, depth, part_rows, part_cols, left_width, right_width, bits):
    tile = Tile(rows, cols, depth, part_rows, part_cols, tensor=True)
    return _correlate_kernel(real, tile, left_width, right_width, bits)


# Launchers ---------------------------------------------------------------------------------------


def _correlate_sizes(d: Conv2dDims) -> tuple[int, int, int, int]:
    rows = d.kH * d.kW * (d.C_in // d.groups)
    return rows, d.C_out // d.groups, d.N * d.H_out * d.W_out, d.groups


def conv2d_backward_weight_workspace(dims: Conv2dDims) -> int:
    d = dims
    if narrow.suits(d):
        return narrow.correlate_workspace(d)
    results = d.kH * d.kW * (d.C_in // d.groups) * d.C_out
    size = scratch_size(*_correlate_sizes(d), results, by_rows=True)
    shares = [direct.plan(d, itemsize) for itemsize in (4, 8)]
    return max(size, *(share.splits * results for share in shares if share is not None), 0)


def conv2d_backward_weight(
    grad_weight: DeviceArray,
    grad_output: DeviceArray,
    input: DeviceArray,
    scratch: DeviceArray,
    dims: Conv2dDims,
) -> None:
    """∂out[n, oh, ow, co] / ∂weight[kh, kw, ci, co] = input[n, h, w, c]"""
    if narrow.suits(dims):
        narrow.correlate(grad_weight, grad_output, input, scratch, dims)
        return
    share = plan(*_correlate_sizes(dims), input.dtype, by_rows=True)
    if not share.tile.tensor:
        found = direct.plan(dims, input.itemsize)
        if found is not None and found.cost < share.cost:
            direct.correlate(grad_weight, grad_output, input, scratch, dims, found)
            return
    make = _correlate_tf32 if share.tile.tensor else _correlate
    split = share.splits > 1
    out = scratch if split else grad_weight
    bits = index_bits(out.size, grad_output.size, input.size)
    left_width = vector_width(dims.C_in // dims.groups, input)
    right_width = vector_width(dims.C_out // dims.groups, grad_output, out)
    launch(
        make(input.dtype, *share.tile.sizes, left_width, right_width, bits), share.shape,
        out, grad_output, input, share.splits, share.span, *dims,
    )  # fmt: skip
    if split:
        combine(grad_weight, scratch, None, UNLIMITED, share.splits)


def conv2d_backward_bias_workspace(shape: tuple[int, int, int, int]) -> int:
    N, H_out, W_out, C_out = shape
    return sum_forward_workspace((1, N * H_out * W_out, C_out))


def conv2d_backward_bias(
    grad_bias: DeviceArray, grad_output: DeviceArray, scratch: DeviceArray
) -> None:
    """∂out[n, oh, ow, co] / ∂bias[co] = 1"""
    N, H_out, W_out, C_out = grad_output.shape
    sum_forward(grad_bias, grad_output.reshape(1, N * H_out * W_out, C_out), scratch, 1.0)


def conv2d_backward_relu(
    grad_input: DeviceArray,
    grad_bias: DeviceArray,
    grad_output: DeviceArray,
    out: DeviceArray,
    scratch: DeviceArray,
) -> None:
    """∂ max(z, 0) / ∂z = 1 where the maximum is not 0, else 0; ∂z / ∂bias[co] = 1"""
    N, H_out, W_out, C_out = out.shape
    relu_sums(grad_input, grad_bias, grad_output, out, scratch, N * H_out * W_out, C_out)
