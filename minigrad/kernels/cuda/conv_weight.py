"""Gradients of a convolution's weight and bias, on channels-last arrays. Names as in conv.py.

The weight gradient is a product (_tile.py) with a row for every tap and input channel, a column for
every output channel, and sums over output pixels:

    grad_weight[a, b, k, c] = Σ_(n, oh, ow) input[n, row(oh, a), col(ow, b), k] · grad[n, oh, ow, c]

Few channels and depthwise convolution: see _narrow.py.
"""

from __future__ import annotations

import numpy as np

from ...geometry import Conv2dDims
from ...runtime.cuda.array import DeviceArray
from . import _narrow as narrow
from ._columns import relu_sums
from ._device import cuda
from ._index import index_bits, index_type
from ._launch import kernel, kernel_since, launch
from ._tile import (
    TENSOR_CORES_SINCE,
    Tile,
    combine,
    panel_sizes,
    place,
    plan,
    scratch_size,
    tile_functions,
)
from .reduce import sum_forward, sum_forward_workspace


def _correlate_kernel(real, tile, bits):
    index, int32 = index_type(bits), np.int32
    advance, row_of, col_of = tile_functions(tile, True, True)
    (sums_i, sums_j), lefts, rights, left_shape, right_shape = panel_sizes(tile)
    sum_count = sums_i * sums_j
    tile_rows, tile_cols, depth, threads = *tile[:3], tile.threads
    stride = threads // tile_rows  # pixels from one that a thread fetches to the next

    def correlate(
        grad_weight, grad_output, input, splits, span, N, C_in, H, W, C_out, kH, kW,
        H_out, W_out, stride_h, stride_w, top, left, dilation_h, dilation_w, groups,
    ):  # fmt: skip
        # 2·N·H_out·W_out·C_out·taps·K flop. A block owns the tile (taps and input channels, output
        # channels of one group), of one span of pixels.
        left_panels = cuda.shared.array(left_shape, real, 16)
        right_panels = cuda.shared.array(right_shape, real, 16)
        left_next = cuda.local.array(lefts, real)
        right_next = cuda.local.array(rights, real)
        sums = cuda.local.array(sum_count, real)
        for i in range(sum_count):
            sums[i] = real(0)

        C, K = C_out // groups, C_in // groups
        rows = kH * kW * K
        across, down = (C + tile_cols - 1) // tile_cols, (rows + tile_rows - 1) // tile_rows
        block = cuda.blockIdx.x
        first_col, block = block % across * tile_cols, block // across
        first_row, block = block % down * tile_rows, block // down
        g, split = block % groups, block // groups
        start, end = split * span, min(split * span + span, N * H_out * W_out)

        # The row and the first pixel whose numbers this thread fetches
        thread = int32(cuda.threadIdx.x)
        row = first_row + thread % tile_rows
        tap, channel = row // K, index(g * K + row % K)
        tap_h, tap_w = int32(tap // kW * dilation_h - top), int32(tap % kW * dilation_w - left)
        pixel = start + thread // tile_rows
        oh, ow = int32(pixel // W_out % H_out), int32(pixel % W_out)
        n = int32(pixel // W_out // H_out)

        for step in range((end - start + depth - 1) // depth + 1):
            for i in range(lefts):
                h, w = int32(oh * stride_h + tap_h), int32(ow * stride_w + tap_w)
                inside = h >= 0 and h < H and w >= 0 and w < W and row < rows and pixel < end
                left_next[i] = real(0)
                if inside:
                    line = index(index(index(n) * index(H)) + index(h))
                    at = index(index(line * index(W)) + index(w))
                    left_next[i] = input[index(index(at * index(C_in)) + channel)]
                pixel += stride
                ow = int32(ow + stride)
                while ow >= W_out:
                    ow = int32(ow - W_out)
                    oh = int32(oh + 1)
                    if oh == H_out:
                        n, oh = int32(n + 1), int32(0)
            for i in range(rights):
                place_col, place_k = place(i, tile_cols, depth, threads, True)
                col, k = first_col + place_col, start + step * depth + place_k
                at = index(index(k) * index(C_out)) + index(g * C + col)
                right_next[i] = grad_output[index(at)] if col < C and k < end else real(0)
            advance(step, sums, left_panels, right_panels, left_next, right_next)

        out_start = index(index(split) * index(index(rows) * index(C_out)))
        for i in range(sums_i):
            for j in range(sums_j):
                out_row, col = first_row + row_of(i, j), first_col + col_of(i, j)
                if out_row < rows and col < C:
                    at = index(index(out_row) * index(C_out)) + index(g * C + col)
                    grad_weight[index(out_start + index(at))] = sums[i * sums_j + j]

    return correlate


@kernel
def _correlate(real, rows, cols, depth, part_rows, part_cols, bits):
    return _correlate_kernel(real, Tile(rows, cols, depth, part_rows, part_cols), bits)


@kernel_since(TENSOR_CORES_SINCE)
def _correlate_tf32(real, rows, cols, depth, part_rows, part_cols, bits):
    tile = Tile(rows, cols, depth, part_rows, part_cols, tensor=True)
    return _correlate_kernel(real, tile, bits)


# Launchers ---------------------------------------------------------------------------------------


def _correlate_sizes(d: Conv2dDims) -> tuple[int, int, int, int]:
    rows = d.kH * d.kW * (d.C_in // d.groups)
    return rows, d.C_out // d.groups, d.N * d.H_out * d.W_out, d.groups


def conv2d_backward_weight_workspace(dims: Conv2dDims) -> int:
    d = dims
    if narrow.suits(d):
        return narrow.correlate_workspace(d)
    return scratch_size(*_correlate_sizes(d), d.kH * d.kW * (d.C_in // d.groups) * d.C_out)


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
    share = plan(*_correlate_sizes(dims), input.dtype)
    make = _correlate_tf32 if share.tile.tensor else _correlate
    split = share.splits > 1
    out = scratch if split else grad_weight
    bits = index_bits(out.size, grad_output.size, input.size)
    launch(
        make(input.dtype, *share.tile.sizes, bits), share.shape,
        out, grad_output, input, share.splits, share.span, *dims,
    )  # fmt: skip
    if split:
        combine(grad_weight, scratch, None, False, share.splits)


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
