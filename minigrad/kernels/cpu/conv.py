"""Convolution on channels-last arrays: implicit GEMM with a tile of results in registers.

Arrays: input (N, H, W, C_in), weight (kH, kW, C_in/groups, C_out), output (N, H_out, W_out, C_out),
all C-ordered. Nothing is unfolded in memory.

**Forward and input gradient are one kernel.** Both compute, for every target pixel, a sum over the
taps of a window in a source image:
    target[n, i, j, c] = bias[c]
        + Σ_{taps (a, b)} Σ_k source[n, row(i, a), col(j, b), k] · weight[a, b, k, c]
where the valid taps of row i form an arithmetic progression, and so do the source rows they read.
`_Axis` tables hold those progressions, for either direction, so that the kernel knows nothing of
stride, padding and dilation. Only valid taps are visited: no work is spent on padding.

**The register tile** is PIXELS target pixels × VECTORS vectors of channels. Its pixels are the same
position (i, j) in PIXELS different images, so they all share the same taps and there are no edge
cases; a batch smaller than that takes neighbouring columns with the same taps instead.

**The weight gradient** is a correlation: dW[a, b, k, c] = Σ_{n, i, j} source · grad, see below.

3×3 convolutions of stride 1 with enough channels take fewer products in winograd.py; one filter for
each channel, in groups of one, is depthwise.py.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np
from numba import prange

from ...geometry import Conv2dDims
from . import depthwise, winograd
from ._jit import helper, kernel
from ._rows import (
    chunk_count,
    combine_sums,
    fold_line,
    line_range,
    line_width,
    relu_gradient,
)
from ._simd import PIXELS, VECTOR_BYTES, convolve_tile, correlate_tile


class _Axis(NamedTuple):
    """Which taps each target position of one axis uses, and which source positions they read.

    positions[i] = (tap, taps, source): target i uses the `taps` taps that start at `tap`; the first
    of them reads `source`. From a tap to the next are `tap_step` in the kernel and `source_step` in
    the source.

    runs[r] = (target, length, target_step, source_shift): `length` positions, starting at `target`
    and `target_step` apart, that use the same taps, each reading `source_shift` further on than the
    one before.
    """

    positions: np.ndarray
    runs: np.ndarray
    tap_step: int
    source_step: int


def _axis(positions: list[tuple[int, int, int]], order: list[int], tap_step: int, source_step: int):
    """Join the positions, taken in `order`, into runs of equal taps and equal steps."""
    runs: list[list[int]] = []
    for target in order:
        tap, taps, source = positions[target]
        if runs:
            first, length, target_step, source_shift = runs[-1]
            previous = first + (length - 1) * target_step
            step = [target - previous, source - positions[previous][2]]
            same_taps = positions[first][:2] == (tap, taps)
            if same_taps and (length == 1 or step == [target_step, source_shift]):
                runs[-1] = [first, length + 1, *step]
                continue
        runs.append([target, 1, 0, 0])
    return _Axis(
        np.array(positions, dtype=np.int64).reshape(-1, 3),
        np.array(runs, dtype=np.int64).reshape(-1, 4),
        tap_step,
        source_step,
    )


def _forward_axis(size: int, out: int, kernel: int, stride: int, before: int, step: int) -> _Axis:
    """Output o reads input o·stride − before + t·step for every tap t where that is inside."""
    positions = []
    for o in range(out):
        origin = o * stride - before
        first = -(origin // step) if origin < 0 else 0
        last = min(kernel - 1, (size - 1 - origin) // step)
        taps = max(0, last - first + 1)
        positions.append((first, taps, origin + first * step) if taps else (0, 0, 0))
    return _axis(positions, list(range(out)), 1, step)


def _adjoint_axis(size: int, out: int, kernel: int, stride: int, before: int, step: int) -> _Axis:
    """Input i receives from output o through tap t when i + before = o·stride + t·step.

    Taps are counted backwards, u = kernel − 1 − t, so that o grows with u. Neighbours of one phase
    (i + before) mod stride share their taps, so runs are looked for phase by phase.
    """
    positions = []
    for i in range(size):
        taps = [
            (kernel - 1 - t, (i + before - t * step) // stride)
            for t in reversed(range(kernel))
            if (i + before - t * step) % stride == 0 and 0 <= i + before - t * step < out * stride
        ]
        tap, source = taps[0] if taps else (0, 0)
        positions.append((tap, len(taps), source))
    order = sorted(range(size), key=lambda i: ((i + before) % stride, i))
    tap_step = stride // gcd(stride, step)
    return _axis(positions, order, tap_step, tap_step * step // stride)


@lru_cache(maxsize=4096)
def _axes(dims: Conv2dDims, make_axis) -> tuple[_Axis, _Axis]:
    d = dims
    return (
        make_axis(d.H, d.H_out, d.kH, d.stride_h, d.top, d.dilation_h),
        make_axis(d.W, d.W_out, d.kW, d.stride_w, d.left, d.dilation_w),
    )


def _make_convolve(vectors: int):
    """The kernel whose register tile is `vectors` vectors of channels wide."""

    @kernel
    def convolve(target, source, weight, bias, use_bias, relu, groups,
                 rows, row_steps, cols, col_runs, col_steps):  # fmt: skip
        # 2·N·H·W·C·taps·K flop. Parallel over (block of images, target row): each task owns its
        # rows of the target, so every sum has one fixed order.
        N, H, W, C = target.shape
        H_src, W_src, C_src = source.shape[1:]
        kW, K = weight.shape[1:3]
        C_group = C // groups
        width = vectors * (VECTOR_BYTES // target.itemsize)
        # Taps of one row that are neighbours both in the source and in the weight are one
        # reduction over taps·K contiguous elements.
        contiguous = groups == 1 and col_steps[0] == 1 and col_steps[1] == 1
        weight_steps = (row_steps[0] * kW * K * C, col_steps[0] * K * C)
        source_steps = (row_steps[1] * W_src * C_src, col_steps[1] * C_src)
        for task in prange((N + PIXELS - 1) // PIXELS * H):
            n, i = task // H * PIXELS, task % H
            images = min(PIXELS, N - n)
            row_tap, row_taps, row_source = rows[i]
            for c in range(0, C, C_group):
                for c0 in range(c, c + C_group, width):
                    channels = min(width, c + C_group - c0)
                    for run in range(len(col_runs)):
                        j, length, j_step, shift = col_runs[run]
                        tap, taps, col_source = cols[j]
                        counts = (row_taps, 1, taps * K) if contiguous else (row_taps, taps, K)
                        target_at = ((n * H + i) * W + j) * C + c0
                        source_at = ((n * H_src + row_source) * W_src + col_source) * C_src
                        source_at += c // C_group * K
                        weight_at = (row_tap * kW + tap) * K * C + c0
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
                                weight, weight_at, C, bias, c0, use_bias, relu,
                                counts, source_steps, weight_steps,
                                min(PIXELS, pixels - step) if images == 1 else images, channels,
                            )  # fmt: skip

    return convolve


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
_convolve = (_make_convolve(1), _make_convolve(2))
_correlate = (_make_correlate(1), _make_correlate(2))


def _wide(channels: int, array: np.ndarray) -> bool:
    return channels > VECTOR_BYTES // array.itemsize


@kernel
def _repack_adjoint(repacked, weight, groups):
    """repacked[u, v, co, ci] = weight[kH−1−u, kW−1−v, ci, co], group by group."""
    kH, kW, K, C_out = weight.shape
    C_group = C_out // groups
    for tap in prange(kH * kW):
        u, v = tap // kW, tap % kW
        for group in range(groups):
            for co in range(C_group):
                for ci in range(K):
                    repacked[u, v, co, group * K + ci] = weight[
                        kH - 1 - u, kW - 1 - v, ci, group * C_group + co
                    ]


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


@lru_cache(maxsize=4096)
def _suits_winograd(dims: Conv2dDims, H: int, W: int) -> bool:
    """Whether Winograd's algorithm makes a result of height H and width W."""
    d = dims
    taps = d.kH, d.kW, d.stride_h, d.stride_w, d.dilation_h, d.dilation_w
    return winograd.suits(d.N, H, W, d.C_in, d.C_out, taps, d.groups)


@lru_cache(maxsize=4096)
def conv2d_forward_workspace(dims) -> int:
    if _suits_winograd(dims, dims.H_out, dims.W_out):
        return winograd.convolve_workspace(dims.C_in, dims.C_out)
    return 0


def conv2d_forward(out, input, weight, bias, scratch, dims, relu):
    if conv2d_forward_workspace(dims):
        winograd.convolve(out, input, weight, bias, relu, (dims.top, dims.left), scratch)
        return
    rows, cols = _axes(dims, _forward_axis)
    _run_convolve(out, input, weight, bias, relu, dims, rows, cols)


def _adjoint_elements(dims) -> int:
    return dims.kH * dims.kW * (dims.C_in // dims.groups) * dims.C_out


@lru_cache(maxsize=4096)
def conv_transpose2d_forward_workspace(dims) -> int:
    size = _adjoint_elements(dims)
    if _suits_winograd(dims, dims.H, dims.W):
        size += winograd.convolve_workspace(dims.C_out, dims.C_in)
    return size


def conv_transpose2d_forward(out, input, weight, bias, scratch, dims):
    # Y = X ⋆ W reads X[oh·s − p + kh·d] for tap kh, so in the adjoint X[ih] collects Y[oh]·W[kh]
    # over all (oh, kh) with oh·s + kh·d = ih + p: the adjoint axes, with (co, ci) swapped in W.
    K, size = dims.C_in // dims.groups, _adjoint_elements(dims)
    adjoint = scratch[:size].reshape(dims.kH, dims.kW, dims.C_out // dims.groups, dims.groups * K)
    _repack_adjoint(adjoint, weight, dims.groups)
    if scratch.size > size:
        # Stride 1: ih + p = oh + kh, and the reversed taps u = 2 − kh read from ih − (2 − p) on.
        before = 2 - dims.top, 2 - dims.left
        winograd.convolve(out, input, adjoint, bias, False, before, scratch[size:])
        return
    rows, cols = _axes(dims, _adjoint_axis)
    _run_convolve(out, input, adjoint, bias, False, dims, rows, cols)


conv2d_backward_input_workspace = conv_transpose2d_forward_workspace


def conv2d_backward_input(grad_input, grad_output, weight, scratch, dims):
    conv_transpose2d_forward(grad_input, grad_output, weight, None, scratch, dims)


def _run_convolve(target, source, weight, bias, relu, dims, rows, cols):
    if target.size == 0:
        return
    groups = dims.groups
    if depthwise.suits(dims):
        depthwise.convolve(
            target, source, weight, weight.reshape(-1) if bias is None else bias, bias is not None,
            relu, rows.positions, (rows.tap_step, rows.source_step),
            cols.positions, cols.runs, (cols.tap_step, cols.source_step),
        )  # fmt: skip
        return
    _convolve[_wide(target.shape[3] // groups, target)](
        target, source, weight, weight.reshape(-1) if bias is None else bias, bias is not None,
        relu, groups, rows.positions, (rows.tap_step, rows.source_step),
        cols.positions, cols.runs, (cols.tap_step, cols.source_step),
    )  # fmt: skip


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
    return depthwise.weight_plan(dims, *_axes(dims, _forward_axis))


@lru_cache(maxsize=4096)
def conv2d_backward_weight_workspace(dims) -> int:
    if by_channel := _depthwise_plan(dims):
        return by_channel.chunks * _adjoint_elements(dims)
    plan = _weight_plan(dims)
    size = plan.chunks * _adjoint_elements(dims)
    size += dims.N * plan.frame[0] * plan.frame[1] * dims.C_in
    if _suits_winograd(dims, dims.H_out, dims.W_out):
        return max(size, winograd.correlate_workspace(dims))
    return size


def conv2d_backward_weight(grad_weight, grad_output, input, scratch, dims):
    # dW[kh, kw, k, c] = Σ_{n, oh, ow} X[n, oh·s − p + kh·d, ow·s − p + kw·d, k]
    #                                    · grad[n, oh, ow, c]
    if dims.N == 0 or grad_weight.size == 0:
        grad_weight[...] = 0
        return
    suits = _suits_winograd(dims, dims.H_out, dims.W_out)
    if suits and winograd.correlate(grad_weight, input, grad_output, dims, scratch):
        return  # all finite
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
    _correlate[_wide(dims.C_out // dims.groups, grad_weight)](
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
