"""Copies between any two strided arrays of one shape, with a conversion of dtype.

Contiguous arrays of one dtype are copied by the driver. Axes that follow one another in both arrays
become one, so most copies end with one to three axes. A copy that only exchanges the two innermost
axes, as between channels-last and C order, goes through tiles in shared memory, so that both its
reads and its writes are of neighbouring addresses; all others walk through `out` in order and read
where the elements are, in vectors of 16 bytes where both arrays consist of whole ones.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import Any

import numpy as np

from ...runtime.cuda.array import DeviceArray
from ...runtime.cuda.recording import current
from ._device import cuda, device
from ._index import arithmetic, index_bits
from ._launch import kernel, launch, over
from ._ptx import vectors
from ._span import quotient, span
from ._tile import vector_width

Axis = tuple[int, int, int]  # size, stride in out, stride in input; strides in elements
_NO_AXIS = (1, 0, 0)

_AXES = 4  # that a kernel goes through; the host goes through more
_TILE = 32
_ROWS = 8  # of a tile that a block's threads hold at a time
_NARROW = 16  # below this, most of a tile would be empty

# Ways to convert.
_DIRECT, _TO_BOOL, _WHOLE_PART = 0, 1, 2


def copy(out: DeviceArray, input: DeviceArray) -> None:
    if out.size == 0:
        return
    contiguous = out.flags.c_contiguous and input.flags.c_contiguous
    if contiguous and out.dtype == input.dtype and out.driver is input.driver:
        if current.recording is not None:
            current.recording.touch(out)
            current.recording.touch(input)
        out.driver.copy(out.pointer, input.pointer, out.nbytes)
        return
    start, lowest = 0, input
    if min((*out.strides, *input.strides), default=0) < 0:
        forward = _reversal(out)
        out, input = out[forward], input[forward]
        # Where the input still runs backwards, its first element is not the one of lowest address.
        lowest = input[_reversal(input)]
        start = (input.pointer - lowest.pointer) // input.itemsize
    axes = _merged_axes(out.shape, out.strides, out.itemsize, input.strides, input.itemsize)
    _copy_axes(out, lowest, 0, start, axes, _conversion_from(out, input))


def _copy_axes(
    out: DeviceArray,
    input: DeviceArray,
    out_start: int,
    start: int,
    axes: tuple[Axis, ...],
    way: int,
) -> None:
    if len(axes) > _AXES:
        count, out_stride, stride = axes[0]
        for i in range(count):
            _copy_axes(out, input, out_start + i * out_stride, start + i * stride, axes[1:], way)
    elif _exchanges_inner_axes(axes):
        (B, out_b, in_b), (C, out_c, _), (R, _, in_r) = [_NO_AXIS, *axes][-3:]
        tiles = B * -(-C // _TILE) * -(-R // _TILE)
        launch(
            _transpose(out.dtype, way, _TILE, _ROWS), ((tiles,), (_TILE, _ROWS)),
            out, input, out_start, start, C, R, out_b, out_c, in_b, in_r,
        )  # fmt: skip
    else:
        width = _vector_width(out, input, out_start, start, axes, way)
        if width > 1:
            axes = (*axes[:-1], (axes[-1][0] // width, width, width))
        n = math.prod(axis[0] for axis in axes)
        (_, outer_out, outer_in), *inner = axes or [_NO_AXIS]
        inner = inner[::-1] + [_NO_AXIS] * (_AXES - 1 - len(inner))
        launch(
            _copy(out.dtype, way, len(axes), index_bits(n), width), over(n),
            out, input, out_start, start, outer_out, outer_in, *itertools.chain(*inner), n,
        )  # fmt: skip


def _reversal(array: DeviceArray) -> tuple[slice, ...]:
    """The index that turns negative strides round."""
    return tuple(slice(None, None, -1 if stride < 0 else 1) for stride in array.strides)


@lru_cache(1024)  # a network makes the same few copies at every step
def _merged_axes(
    shape: tuple[int, ...],
    out_strides: tuple[int, ...],
    out_itemsize: int,
    strides: tuple[int, ...],
    itemsize: int,
) -> tuple[Axis, ...]:
    """Outermost of `out` first, without axes of size 1."""
    axes = sorted(
        (
            (size, out_stride // out_itemsize, stride // itemsize)
            for size, out_stride, stride in zip(shape, out_strides, strides, strict=True)
            if size != 1
        ),
        key=lambda axis: -axis[1],
    )
    merged: list[Axis] = []
    for size, out_stride, stride in axes:
        if merged and merged[-1][1:] == (size * out_stride, size * stride):
            merged[-1] = merged[-1][0] * size, out_stride, stride
        else:
            merged.append((size, out_stride, stride))
    return tuple(merged)


def _exchanges_inner_axes(axes: tuple[Axis, ...]) -> bool:
    """Whether the last axis is contiguous in out, the one before it in the input."""
    if not 2 <= len(axes) <= 3:
        return False
    (C, _, in_c), (R, out_r, in_r) = axes[-2:]
    return out_r == 1 == in_c and in_r != 0 and min(C, R) >= _NARROW


def _vector_width(
    out: DeviceArray, input: DeviceArray, out_start: int, start: int, axes: tuple[Axis, ...],
    way: int,
) -> int:  # fmt: skip
    """How many numbers a thread copies at a time: 16 bytes of them, or one."""
    if not axes or axes[-1][1:] != (1, 1) or way != _DIRECT:
        return 1
    if out.dtype != input.dtype or out.dtype.char not in "fd":
        return 1
    jumps = [stride for axis in axes[:-1] for stride in axis[1:]]
    return vector_width(math.gcd(axes[-1][0], out_start, start, *jumps), out, input)


def _conversion_from(out: DeviceArray, input: DeviceArray) -> int:
    if out.dtype.kind == "b" != input.dtype.kind:
        return _TO_BOOL
    return _WHOLE_PART if out.dtype.kind in "iu" and input.dtype.kind == "f" else _DIRECT


def _converted(real: Any, way: int) -> Any:
    """The function that converts one number."""
    if way == _TO_BOOL:
        return device(lambda x: bool(x))
    if way == _WHOLE_PART:
        # By way of int64, which has no number for NaN and for what is out of range: that becomes
        # the least one. The limit is a float32, so that none becomes float64.
        power = 31 if real is np.int32 else 63
        limit, least = np.float32(2.0**power), -(2**power)
        return device(lambda x: real(np.int64(x) if x >= -limit and x < limit else np.int64(least)))
    return device(lambda x: real(x))


# Parallel over elements in out's order. Axes are split off from the innermost, number 0; each takes
# a division.
@kernel
def _copy(real, way, axes, bits, width):
    converted = _converted(real, way)
    fetch, put = vectors(width)
    index, divide, _ = arithmetic(bits)

    def copy(
        out, input, out_start, start, outer_out, outer_in,
        size0, out0, in0, size1, out1, in1, size2, out2, in2, n,
    ):  # fmt: skip
        numbers = cuda.local.array(width, real)
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            to, source, rest = np.int64(out_start), np.int64(start), index(i)
            if axes > 1:
                outer = divide(rest, size0)
                to += (rest - outer * size0) * out0
                source += (rest - outer * size0) * in0
                rest = outer
            if axes > 2:
                outer = divide(rest, size1)
                to += (rest - outer * size1) * out1
                source += (rest - outer * size1) * in1
                rest = outer
            if axes > 3:
                outer = divide(rest, size2)
                to += (rest - outer * size2) * out2
                source += (rest - outer * size2) * in2
                rest = outer
            to, source = to + rest * outer_out, source + rest * outer_in
            if width > 1:
                fetch(numbers, 0, input, source, True)
                put(out, to, numbers, 0)
            else:
                out[to] = converted(input[source])

    return copy


# out[b, c, r] = input[b, r, c]. A block of (_TILE, _ROWS) threads owns a tile of one b: it reads
# along c, writes along r. The tile's rows are one element longer than needed, so that a column
# lies in as many banks of shared memory as a row.
@kernel
def _transpose(real, way, side, rows):
    converted, length = _converted(real, way), side + 1

    def transpose(out, input, out_start, start, C, R, out_b, out_c, in_b, in_r):
        tile = cuda.shared.array((side, length), real)
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        tiles_c, tiles_r = quotient(C + side - 1, side), quotient(R + side - 1, side)
        plane = quotient(cuda.blockIdx.x, tiles_r)
        b = quotient(plane, tiles_c)
        r0, c0 = (cuda.blockIdx.x - plane * tiles_r) * side, (plane - b * tiles_c) * side
        if c0 + x < C:
            for r in span(y, min(side, R - r0), rows):
                tile[r, x] = converted(input[start + b * in_b + (r0 + r) * in_r + c0 + x])
        cuda.syncthreads()
        if r0 + x < R:
            for c in span(y, min(side, C - c0), rows):
                out[out_start + b * out_b + (c0 + c) * out_c + r0 + x] = tile[x, c]

    return transpose
