"""Weight gradient of convolution: a correlation, with a tile of the weight in registers.

    dW[kh, kw, k, c] = Σ_{n, oh, ow} X[n, oh·s − p + kh·d, ow·s − p + kw·d, k] · grad[n, oh, ow, c]
The register tile is PIXELS weight rows (tap, k) × VECTORS vectors of channels c; it stays in
registers while a block of output pixels passes by. Arrays as in direct.py.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from ....geometry import Conv2dDims
from .._jit import helper, kernel
from .._simd import PIXELS, VECTOR_BYTES
from .._tasks import tasks
from .chunks import add_chunks, partial_sums
from .direct_tile import correlate_tile


def _make_correlate(vectors: int):
    """The weight-gradient kernel whose register tile is `vectors` vectors of channels wide."""

    @kernel
    def correlate(span, partial, source, grad_output, taps, row_offsets, strides, groups,
                  parts, block_images, block_rows, images_last):  # fmt: skip
        # 2·N·H_out·W_out·C_out·taps·K flop. Parallel over (chunk of images, part of the rows of
        # the weight): each task owns its rows of partial[chunk].
        chunks, T, R, C_out = partial.shape
        N, H, W, C_in = source.shape
        H_out, W_out = grad_output.shape[1:3]
        C_group, K = C_out // groups, R
        width = vectors * (VECTOR_BYTES // partial.itemsize)
        row_blocks = (R + PIXELS - 1) // PIXELS
        image_steps = H * W * C_in, H_out * W_out * C_out
        row_steps = strides[0] * W * C_in, W_out * C_out
        col_steps = strides[1] * C_in, C_out
        # The longest axis is the innermost loop.
        if images_last:
            axes = row_steps, col_steps, image_steps
        else:
            axes = image_steps, row_steps, col_steps
        source_steps = axes[0][0], axes[1][0], axes[2][0]
        grad_steps = axes[0][1], axes[1][1], axes[2][1]
        for task in tasks(span, chunks * parts):
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
                                if images_last:
                                    counts = rows, ow_hi - ow_lo, images
                                else:
                                    counts = images, rows, ow_hi - ow_lo
                                correlate_tile(
                                    PIXELS, vectors,
                                    partial, ((chunk * T + t) * R + r) * C_out + c0, C_out, True,
                                    source,
                                    ((n * H + source_row) * W + source_col) * C_in
                                    + c // C_group * K,
                                    row_offsets, r,
                                    grad_output, ((n * H_out + oh) * W_out + ow_lo) * C_out + c0,
                                    counts, source_steps, grad_steps,
                                    min(PIXELS, R - r), min(width, c + C_group - c0),
                                )  # fmt: skip

    return correlate


_correlate = {vectors: _make_correlate(vectors) for vectors in (1, 2)}


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
def _pad(span, padded, input, top, left):
    """Copy each image into a frame of zeros. Parallel over the rows of all frames."""
    N, H_pad, W_pad, C = padded.shape
    H, W = input.shape[1:3]
    lines, frames = input.reshape(N, H, W * C), padded.reshape(N, H_pad, W_pad * C)
    for task in tasks(span, N * H_pad):
        n, h = task // H_pad, task % H_pad - top
        if 0 <= h < H:
            _framed_line(frames[n, h + top], lines[n, h], left * C)
        else:
            frames[n, h + top] = 0


class _Taps(NamedTuple):
    taps: np.ndarray  # (T, 6): oh_lo, oh_hi, ow_lo, ow_hi, source row and column of output (0, 0)
    row_offsets: np.ndarray  # (R,): source element of each weight row
    block_images: int
    block_rows: int
    images_last: bool  # whether images are the innermost of the loops over the pixels of a block


def frame_size(dims: Conv2dDims) -> tuple[int, int]:
    """Of the input padded so that every output pixel has all its taps."""
    return (
        (dims.H_out - 1) * dims.stride_h + (dims.kH - 1) * dims.dilation_h + 1,
        (dims.W_out - 1) * dims.stride_w + (dims.kW - 1) * dims.dilation_w + 1,
    )


@lru_cache(maxsize=4096)
def _taps(dims: Conv2dDims, framed: bool) -> _Taps:
    """framed: the input is padded, and the rows of a tile are all taps of all channels."""
    d = dims
    K = d.C_in // d.groups
    if framed:
        kh, kw, k = np.indices((d.kH, d.kW, K)).reshape(3, -1)
        row_offsets = (kh * d.dilation_h * frame_size(d)[1] + kw * d.dilation_w) * K + k
        taps = [(0, d.H_out, 0, d.W_out, 0, 0)]
    else:
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
    # Pixels that fit the first-level cache, but not so few that adding their sum costs more.
    block = max(96, 8192 // max(1, d.C_in + min(d.C_out, 2 * VECTOR_BYTES // 4)))
    images = max(1, min(d.N, block // (d.H_out * d.W_out)))
    return _Taps(
        np.array(taps, dtype=np.int64),
        row_offsets.astype(np.int64),
        images,
        max(1, min(d.H_out, block // d.W_out)),
        images > d.W_out,
    )


def _valid(size: int, out: int, stride: int, origin: int) -> tuple[int, int]:
    """Range of the outputs o whose source position o·stride + origin lies inside [0, size)."""
    low = max(0, -(origin // stride))
    return low, max(low, min(out, (size - 1 - origin) // stride + 1))


def correlate(grad_weight, grad_output, input, scratch, dims, plan):
    framed = plan.algorithm == "few channels"
    table = _taps(dims, framed)
    partial = partial_sums(grad_weight, scratch, plan.chunks)
    if framed:
        shape = dims.N, *frame_size(dims), dims.C_in
        first = plan.chunks * grad_weight.size
        padded = scratch[first : first + prod(shape)].reshape(shape)
        _pad(padded, input, dims.top, dims.left)
        input = padded
    _correlate[plan.vectors](
        partial.reshape(plan.chunks, len(table.taps), -1, dims.C_out), input, grad_output,
        table.taps, table.row_offsets, (dims.stride_h, dims.stride_w), dims.groups, plan.parts,
        table.block_images, table.block_rows, table.images_last,
    )  # fmt: skip
    add_chunks(grad_weight, partial)
