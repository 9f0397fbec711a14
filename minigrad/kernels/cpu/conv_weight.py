"""Gradients of a convolution's weight and bias, on channels-last arrays.

Arrays as in conv.py. The weight gradient is a correlation
    dW[kh, kw, k, c] = Σ_{n, oh, ow} X[n, oh·s − p + kh·d, ow·s − p + kw·d, k] · grad[n, oh, ow, c]
whose register tile is PIXELS weight rows (tap, k) × VECTORS vectors of channels c; it stays in
registers while a block of output pixels passes by. Chunks of the images have a partial sum each, so
that threads share the work without sharing results, and the chunks are added in their order.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
from numba import prange

from ...geometry import Conv2dDims
from . import depthwise, sliding, winograd
from ._jit import helper, kernel
from ._rows import (
    chunk_count,
    combine_sums,
    fold_line,
    line_range,
    line_width,
    relu_gradient,
)
from ._simd import PIXELS, VECTOR_BYTES, correlate_tile
from .conv import axes, forward_axis, suits_winograd, wide


def _make_correlate(vectors: int):
    """The weight-gradient kernel whose register tile is `vectors` vectors of channels wide."""

    @kernel
    def correlate(partial, source, grad_output, taps, row_offsets, strides, groups,
                  parts, block_images, block_rows):  # fmt: skip
        # 2·N·H_out·W_out·C_out·taps·K flop. Parallel over (chunk of images, part of the rows of
        # the weight): each task owns its rows of partial[chunk].
        chunks, T, R, C_out = partial.shape
        N, H, W, C_in = source.shape
        H_out, W_out = grad_output.shape[1:3]
        C_group, K = C_out // groups, R
        width = vectors * (VECTOR_BYTES // partial.itemsize)
        row_blocks = (R + PIXELS - 1) // PIXELS
        for task in prange(chunks * parts):
            chunk, part = task // parts, task % parts
            first, last = part * T * row_blocks // parts, (part + 1) * T * row_blocks // parts
            for block in range(first, last):
                r = block % row_blocks * PIXELS
                partial[chunk, block // row_blocks, r : r + PIXELS] = 0
            n_end = (chunk + 1) * N // chunks
            # A block of pixels stays in the first-level cache while all tiles pass over it.
            for n in range(chunk * N // chunks, n_end, block_images):
                images = min(block_images, n_end - n)
                for oh0 in range(0, H_out, block_rows):
                    for c in range(0, C_out, C_group):
                        for c0 in range(c, c + C_group, width):
                            for block in range(first, last):
                                t, r = block // row_blocks, block % row_blocks * PIXELS
                                oh_lo, oh_hi, ow_lo, ow_hi, row, col = taps[t]
                                oh = max(oh0, oh_lo)
                                rows = min(oh0 + block_rows, oh_hi) - oh
                                source_row = row + oh * strides[0]
                                source_col = col + ow_lo * strides[1]
                                correlate_tile(
                                    PIXELS, vectors,
                                    partial, ((chunk * T + t) * R + r) * C_out + c0, C_out,
                                    source,
                                    ((n * H + source_row) * W + source_col) * C_in
                                    + c // C_group * K,
                                    row_offsets, r,
                                    grad_output, ((n * H_out + oh) * W_out + ow_lo) * C_out + c0,
                                    (images, rows, ow_hi - ow_lo),
                                    (H * W * C_in, strides[0] * W * C_in, strides[1] * C_in),
                                    (H_out * W_out * C_out, W_out * C_out, C_out),
                                    min(PIXELS, R - r), min(width, c + C_group - c0),
                                )  # fmt: skip

    return correlate


# One vector wide for few channels, two for more.
_correlate = (_make_correlate(1), _make_correlate(2))


@helper
def _framed_line(padded, line, before):
    """padded = zeros, with line[j] at before + j; what lies past either end is cut off."""
    first = min(max(0, before), padded.size)
    last = max(first, min(padded.size, before + line.size))
    padded[:first] = 0
    inner, source = padded[first:last], line[first - before : last - before]
    for j in range(inner.size):
        inner[j] = source[j]
    padded[last:] = 0


@kernel
def _pad(padded, input, top, left):
    """Copy each image into a frame of zeros. Parallel over the rows of all frames."""
    N, H_pad, W_pad, C = padded.shape
    H, W = input.shape[1:3]
    lines, frames = input.reshape(N, H, W * C), padded.reshape(N, H_pad, W_pad * C)
    for task in prange(N * H_pad):
        n, h = task // H_pad, task % H_pad - top
        if 0 <= h < H:
            _framed_line(frames[n, h + top], lines[n, h], left * C)
        else:
            frames[n, h + top] = 0


@kernel
def _sum_chunks(out, partial):
    """out[i] = Σ_chunk partial[chunk, i], in the order of the chunks."""
    for i in prange(out.size):
        total = partial[0, i]
        for chunk in range(1, partial.shape[0]):
            total += partial[chunk, i]
        out[i] = total


class _WeightPlan(NamedTuple):
    """How the weight gradient is cut: fixed by the shape alone, so that its bits are too."""

    taps: np.ndarray  # (T, 6): oh_lo, oh_hi, ow_lo, ow_hi, source row and column of output (0, 0)
    row_offsets: np.ndarray  # (R,): source element of each weight row
    frame: tuple[int, int]  # size of the padded input, (0, 0) where the input serves as it is
    chunks: int  # of images, each with its own partial sum
    parts: int  # of the weight's rows
    block_images: int
    block_rows: int


@lru_cache(maxsize=4096)
def _weight_plan(dims: Conv2dDims) -> _WeightPlan:
    d = dims
    K = d.C_in // d.groups
    pixels = d.H_out * d.W_out
    if d.groups == 1 and K < PIXELS:
        # Few input channels: the rows of a tile are all taps of all channels, and the input is
        # padded first, so that every output pixel has all of them.
        frame = (
            (d.H_out - 1) * d.stride_h + (d.kH - 1) * d.dilation_h + 1,
            (d.W_out - 1) * d.stride_w + (d.kW - 1) * d.dilation_w + 1,
        )
        kh, kw, k = np.indices((d.kH, d.kW, K)).reshape(3, -1)
        row_offsets = (kh * d.dilation_h * frame[1] + kw * d.dilation_w) * K + k
        taps = [(0, d.H_out, 0, d.W_out, 0, 0)]
    else:
        frame = (0, 0)
        row_offsets = np.arange(K)
        taps = [
            (
                *_valid(d.H, d.H_out, d.stride_h, row),
                *_valid(d.W, d.W_out, d.stride_w, col),
                row,
                col,
            )
            for row in (kh * d.dilation_h - d.top for kh in range(d.kH))
            for col in (kw * d.dilation_w - d.left for kw in range(d.kW))
        ]
    # A chunk sums at least 1024 pixels, so that adding up the partial sums costs little.
    chunks = max(1, min(16, d.N, d.N * pixels // 1024))
    row_blocks = len(taps) * -(-len(row_offsets) // PIXELS) or 1
    block = max(1, 8192 // max(1, d.C_in + min(d.C_out, 2 * VECTOR_BYTES // 4)))
    return _WeightPlan(
        np.array(taps, dtype=np.int64),
        row_offsets.astype(np.int64),
        frame,
        chunks,
        min(row_blocks, -(-16 // chunks)),
        max(1, block // pixels),
        max(1, min(d.H_out, block // d.W_out)),
    )


def _valid(size: int, out: int, stride: int, origin: int) -> tuple[int, int]:
    """Range of the outputs o whose source position o·stride + origin lies inside [0, size)."""
    low = max(0, -(origin // stride))
    return low, max(low, min(out, (size - 1 - origin) // stride + 1))


@lru_cache(maxsize=128)  # up to 3 MB each, where images and kernels are large
def _depthwise_plan(dims: Conv2dDims) -> depthwise.WeightPlan | None:
    if not depthwise.suits(dims):
        return None
    return depthwise.weight_plan(dims, *axes(dims, forward_axis))


def _elements(dims) -> int:
    return dims.kH * dims.kW * (dims.C_in // dims.groups) * dims.C_out


@lru_cache(maxsize=4096)
def conv2d_backward_weight_workspace(dims) -> int:
    if by_channel := _depthwise_plan(dims):
        return by_channel.chunks * _elements(dims)
    plan = _weight_plan(dims)
    size = plan.chunks * _elements(dims)
    size += dims.N * plan.frame[0] * plan.frame[1] * dims.C_in
    if suits_winograd(dims, dims.H_out, dims.W_out):
        return max(size, winograd.correlate_workspace(dims))
    if along_rows := sliding.weight_plan(dims):
        return max(size, along_rows.chunks * _elements(dims))
    return size


def conv2d_backward_weight(grad_weight, grad_output, input, scratch, dims):
    # dW[kh, kw, k, c] = Σ_{n, oh, ow} X[n, oh·s − p + kh·d, ow·s − p + kw·d, k]
    #                                    · grad[n, oh, ow, c]
    if dims.N == 0 or grad_weight.size == 0:
        grad_weight[...] = 0
        return
    suits = suits_winograd(dims, dims.H_out, dims.W_out)
    if suits and winograd.correlate(grad_weight, input, grad_output, dims, scratch):
        return  # all finite
    if not suits and (along_rows := sliding.weight_plan(dims)):
        shape = along_rows.chunks, dims.kH, dims.kW, dims.C_in, dims.C_out
        partial = scratch[: prod(shape)].reshape(shape)
        sliding.correlate(partial, input, grad_output, dims, along_rows)
        _sum_chunks(grad_weight.reshape(-1), partial.reshape(along_rows.chunks, -1))
        if np.isfinite(grad_weight).all():
            return
    if by_channel := _depthwise_plan(dims):
        partial = scratch.reshape(by_channel.chunks, -1, dims.C_out)
        depthwise.correlate(
            partial, input, grad_output, by_channel.tiles, (dims.stride_h, dims.stride_w),
            by_channel.parts,
        )  # fmt: skip
        _sum_chunks(grad_weight.reshape(-1), partial.reshape(by_channel.chunks, -1))
        return
    plan = _weight_plan(dims)
    partial_size = plan.chunks * grad_weight.size
    shape = (plan.chunks, len(plan.taps), len(plan.row_offsets), dims.C_out)
    partial = (scratch[:partial_size] if plan.chunks > 1 else grad_weight).reshape(shape)
    if plan.frame[0]:
        padded = scratch[partial_size:].reshape(dims.N, *plan.frame, dims.C_in)
        _pad(padded, input, dims.top, dims.left)
        input = padded
    _correlate[wide(dims.C_out // dims.groups, grad_weight)](
        partial, input, grad_output, plan.taps, plan.row_offsets, (dims.stride_h, dims.stride_w),
        dims.groups, plan.parts, plan.block_images, plan.block_rows,
    )  # fmt: skip
    if plan.chunks > 1:
        _sum_chunks(grad_weight.reshape(-1), partial.reshape(plan.chunks, -1))


@helper
def _add_line(sums, line):
    for j in range(line.size):
        sums[j] += np.float64(line[j])


@kernel
def _column_sums(partial, grad_output, C):
    # One flop an element, one pass. Parallel over chunks of lines (see _rows.py); each task owns
    # partial[chunk], whose first C places become the sums of the channels.
    chunks, width = partial.shape
    for chunk in prange(chunks):
        sums = partial[chunk]
        sums[:] = 0
        start, end = line_range(chunk, chunks, grad_output.size, width)
        for at in range(start, end, width):
            _add_line(sums, grad_output[at : min(at + width, end)])
        fold_line(sums, C)


@lru_cache(maxsize=4096)
def conv2d_backward_bias_workspace(shape) -> int:
    N, H_out, W_out, C_out = shape
    return chunk_count(N * H_out * W_out * C_out) * line_width(C_out)


def conv2d_backward_bias(grad_bias, grad_output, scratch):
    # db[c] = Σ_{n, oh, ow} grad[n, oh, ow, c]
    C_out = grad_bias.size
    partial = scratch.reshape(-1, line_width(C_out))
    _column_sums(partial, grad_output.reshape(-1), C_out)
    combine_sums(grad_bias, partial)


@kernel
def _relu_column_sums(partial, grad_input, grad_output, out, C):
    # As _column_sums, with relu's gradient on the way.
    chunks, width = partial.shape
    for chunk in prange(chunks):
        sums = partial[chunk]
        sums[:] = 0
        start, end = line_range(chunk, chunks, out.size, width)
        for at in range(start, end, width):
            place = slice(at, min(at + width, end))
            relu_gradient(sums, grad_input[place], grad_output[place], out[place])
        fold_line(sums, C)


def conv2d_backward_relu(grad_input, grad_bias, grad_output, out, scratch):
    # y = max(z + b, 0): dz = grad where y > 0, else 0; db[c] = Σ dz
    C_out = grad_bias.size
    partial = scratch.reshape(-1, line_width(C_out))
    _relu_column_sums(
        partial, grad_input.reshape(-1), grad_output.reshape(-1), out.reshape(-1), C_out
    )
    combine_sums(grad_bias, partial)
