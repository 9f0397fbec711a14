"""Layout conversion: copies between channels-last and channels-first memory, transposes of many
small matrices.

NumPy copies such an array element by element in the source's order; here tiles that fit the
first-level cache are read and written by whole lines.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ._jit import kernel
from ._tasks import light_tasks

_TILE = 16


@kernel
def _transpose(span, out, input):
    # out[b, c, r] = input[b, r, c]. Parallel over blocks of rows r of one b. Each task owns its
    # columns of out.
    B, R, C = input.shape
    blocks = (R + _TILE - 1) // _TILE
    for task in light_tasks(span, B * blocks, _TILE * C):
        b, r0 = task // blocks, task % blocks * _TILE
        rows = min(_TILE, R - r0)
        for c0 in range(0, C, _TILE):
            columns = min(_TILE, C - c0)
            if rows == _TILE and columns == _TILE:
                for c in range(_TILE):
                    for r in range(_TILE):
                        out[b, c0 + c, r0 + r] = input[b, r0 + r, c0 + c]
            else:
                for c in range(columns):
                    for r in range(rows):
                        out[b, c0 + c, r0 + r] = input[b, r0 + r, c0 + c]


class _Matrices(NamedTuple):
    """The two layouts as matrices: the arrays' axes in memory order, and (B, C, R)."""

    out_axes: tuple[int, ...]
    input_axes: tuple[int, ...]
    B: int
    C: int
    R: int


def copy_transposed(out, input) -> bool:
    """Copy if `out` and `input` are the two layouts of a batch of matrices; False otherwise.

    Channels-last (N, C, H, W) against C order is the case that matters: matrices (H·W, C). Both
    arrays are of one shape and dtype.
    """
    found = _matrices(out.shape, out.strides, input.strides, out.itemsize)
    if found is None:
        return False
    B, C, R = found.B, found.C, found.R
    _transpose(
        out.transpose(found.out_axes).reshape(B, C, R),
        input.transpose(found.input_axes).reshape(B, R, C),
    )
    return True


@lru_cache(maxsize=4096)
def _matrices(shape, out_strides, input_strides, itemsize) -> _Matrices | None:
    if 0 in shape:
        return None
    groups = _merged_axes(shape, out_strides, input_strides, itemsize)
    if len(groups) == 2:
        groups.insert(0, (1, groups[0][0] * groups[0][1], groups[0][0] * groups[0][1]))
    if len(groups) != 3:
        return None
    (B, out_b, input_b), (C, out_c, input_c), (R, out_r, input_r) = groups
    if (out_b, out_c, out_r) != (R * C, R, 1) or (input_b, input_c, input_r) != (R * C, 1, C):
        return None
    out_axes = sorted(range(len(shape)), key=lambda axis: -out_strides[axis])
    input_axes = sorted(range(len(shape)), key=lambda axis: -input_strides[axis])
    return _Matrices(tuple(out_axes), tuple(input_axes), B, C, R)


def _merged_axes(shape, out_strides, input_strides, itemsize) -> list[tuple[int, int, int]]:
    """(size, stride in out, stride in input) in elements, outermost of `out` first.

    Axes of size 1 are dropped; axes that follow one another in both arrays become one.
    """
    axes = sorted(
        (
            (size, out_stride // itemsize, input_stride // itemsize)
            for size, out_stride, input_stride in zip(
                shape, out_strides, input_strides, strict=True
            )
            if size != 1
        ),
        key=lambda axis: -axis[1],
    )
    merged: list[tuple[int, int, int]] = []
    for size, out_stride, input_stride in axes:
        if merged:
            outer, outer_out, outer_input = merged[-1]
            if outer_out == size * out_stride and outer_input == size * input_stride:
                merged[-1] = (outer * size, out_stride, input_stride)
                continue
        merged.append((size, out_stride, input_stride))
    return merged
