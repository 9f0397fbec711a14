"""Copies between channels-last and channels-first memory: transposes of many small matrices.

NumPy copies such an array element by element in the source's order; here tiles that fit the
first-level cache are read and written by whole lines.
"""

from __future__ import annotations

from numba import prange

from ._jit import kernel

_TILE = 16


@kernel
def _transpose(out, input):
    # out[b, c, r] = input[b, r, c]. Parallel over blocks of rows r of one b. Each task owns its
    # columns of out.
    B, R, C = input.shape
    blocks = (R + _TILE - 1) // _TILE
    for task in prange(B * blocks):
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


def copy_transposed(out, input) -> bool:
    """Copy if `out` and `input` are the two layouts of a batch of matrices; False otherwise.

    Channels-last (N, C, H, W) against C order is the case that matters: matrices (H·W, C).
    """
    if out.dtype != input.dtype or out.size == 0:
        return False
    groups = _merged_axes(out, input)
    if len(groups) == 2:
        groups.insert(0, (1, groups[0][0] * groups[0][1], groups[0][0] * groups[0][1]))
    if len(groups) != 3:
        return False
    (B, out_b, input_b), (C, out_c, input_c), (R, out_r, input_r) = groups
    if (out_b, out_c, out_r) != (R * C, R, 1) or (input_b, input_c, input_r) != (R * C, 1, C):
        return False
    order = sorted(range(out.ndim), key=lambda axis: -out.strides[axis])
    source = sorted(range(out.ndim), key=lambda axis: -input.strides[axis])
    _transpose(out.transpose(order).reshape(B, C, R), input.transpose(source).reshape(B, R, C))
    return True


def _merged_axes(out, input) -> list[tuple[int, int, int]]:
    """(size, stride in out, stride in input) in elements, outermost of `out` first.

    Axes of size 1 are dropped; axes that follow one another in both arrays become one.
    """
    item = out.itemsize
    axes = sorted(
        (
            (size, out_stride // item, input_stride // item)
            for size, out_stride, input_stride in zip(
                out.shape, out.strides, input.strides, strict=True
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
