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

3×3 convolutions of stride 1 with enough channels take fewer products in winograd.py; few channels
go along rows in sliding.py; the input gradient of next to no channels is narrow.py; one filter for
each channel, in groups of one, is depthwise.py. The gradients of weight and bias are in
conv_weight.py.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np
from numba import prange

from ...geometry import Conv2dDims
from . import depthwise, narrow, sliding, winograd
from ._jit import kernel
from ._simd import PIXELS, VECTOR_BYTES, convolve_tile


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


def forward_axis(size: int, out: int, kernel: int, stride: int, before: int, step: int) -> _Axis:
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
def axes(dims: Conv2dDims, make_axis) -> tuple[_Axis, _Axis]:
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


# One vector wide for few channels, two for more.
_convolve = (_make_convolve(1), _make_convolve(2))


def wide(channels: int, array: np.ndarray) -> bool:
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


@lru_cache(maxsize=4096)
def suits_winograd(dims: Conv2dDims, H: int, W: int) -> bool:
    """Whether Winograd's algorithm makes a result of height H and width W."""
    d = dims
    taps = d.kH, d.kW, d.stride_h, d.stride_w, d.dilation_h, d.dilation_w
    return winograd.suits(d.N, H, W, d.C_in, d.C_out, taps, d.groups)


@lru_cache(maxsize=4096)
def _forward_tile(dims, lanes: int) -> int:
    """Pixels of the tile of sliding.py, 0 where it does not suit."""
    if dims.groups > 1 or dims.stride_w != dims.dilation_w:
        return 0
    vectors = 1 + (dims.C_out > lanes)
    return sliding.tile_pixels(dims.W_out, dims.W, dims.kW, dims.left, dims.stride_w, vectors)


@lru_cache(maxsize=4096)
def _adjoint_tile(dims, lanes: int) -> int:
    if dims.groups > 1 or (dims.stride_w, dims.dilation_w) != (1, 1):
        return 0
    vectors, left = 1 + (dims.C_in > lanes), dims.kW - 1 - dims.left
    return sliding.tile_pixels(dims.W, dims.W_out, dims.kW, left, 1, vectors)


@lru_cache(maxsize=4096)
def conv2d_forward_workspace(dims) -> int:
    if suits_winograd(dims, dims.H_out, dims.W_out):
        return winograd.convolve_workspace(dims.C_in, dims.C_out)
    return 0


def conv2d_forward(out, input, weight, bias, scratch, dims, relu):
    if conv2d_forward_workspace(dims):
        winograd.convolve(out, input, weight, bias, relu, (dims.top, dims.left), scratch)
        return
    rows, cols = axes(dims, forward_axis)
    pixels = _forward_tile(dims, VECTOR_BYTES // out.itemsize)
    if pixels:
        sliding.convolve(out, input, weight, bias, relu, rows, dims.left, dims.stride_w, pixels)
        return
    _run_convolve(out, input, weight, bias, relu, dims, rows, cols)


def _adjoint_elements(dims) -> int:
    return dims.kH * dims.kW * (dims.C_in // dims.groups) * dims.C_out


@lru_cache(maxsize=4096)
def conv_transpose2d_forward_workspace(dims) -> int:
    size = _adjoint_elements(dims)
    if narrow.suits_adjoint(dims):
        return size + narrow.adjoint_workspace(dims)
    # Into few channels, going along rows is faster and rounds less.
    few = dims.C_in <= 16 and dims.C_in * dims.C_out <= 512
    if suits_winograd(dims, dims.H, dims.W) and not (few and _adjoint_tile(dims, 16)):
        size += winograd.convolve_workspace(dims.C_out, dims.C_in)
    return size


def conv_transpose2d_forward(out, input, weight, bias, scratch, dims):
    # Y = X ⋆ W reads X[oh·s − p + kh·d] for tap kh, so in the adjoint X[ih] collects Y[oh]·W[kh]
    # over all (oh, kh) with oh·s + kh·d = ih + p: the adjoint axes, with (co, ci) swapped in W.
    rows, cols = axes(dims, _adjoint_axis)
    if narrow.suits_adjoint(dims):
        if out.size:
            narrow.convolve_adjoint(out, input, weight, bias, rows, dims, scratch)
        return
    K, size = dims.C_in // dims.groups, _adjoint_elements(dims)
    adjoint = scratch[:size].reshape(dims.kH, dims.kW, dims.C_out // dims.groups, dims.groups * K)
    _repack_adjoint(adjoint, weight, dims.groups)
    if scratch.size > size:
        # Stride 1: ih + p = oh + kh, and the reversed taps u = 2 − kh read from ih − (2 − p) on.
        before = 2 - dims.top, 2 - dims.left
        winograd.convolve(out, input, adjoint, bias, False, before, scratch[size:])
        return
    pixels = _adjoint_tile(dims, VECTOR_BYTES // out.itemsize)
    if pixels:
        left = dims.kW - 1 - dims.left
        sliding.convolve(out, input, adjoint, bias, False, rows, left, 1, pixels)
        return
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
    _convolve[wide(target.shape[3] // groups, target)](
        target, source, weight, weight.reshape(-1) if bias is None else bias, bias is not None,
        relu, groups, rows.positions, (rows.tap_step, rows.source_step),
        cols.positions, cols.runs, (cols.tap_step, cols.source_step),
    )  # fmt: skip
