"""Image resizing on channels-last arrays: vectors of channels, sums in registers."""

from __future__ import annotations

from ._jit import inlined, kernel
from ._tasks import tasks
from ._vector import load, multiply_add, splat, store

# Channels are taken so many at a time, then _FEW at a time, then all three of an image, or one by
# one.
_MANY, _FEW, _IMAGE = 16, 4, 3


def _make_blend(lanes: int):
    @inlined
    def blend(out, at, input, source, row, row_cells, row_weights, col, col_cells, col_weights,
              row_step, col_step):  # fmt: skip
        # row, col: the ranges of this output's entries.
        total = splat(lanes, out.dtype.type(0))
        for r in range(row[0], row[1]):
            from_row = source + row_cells[r] * row_step
            for k in range(col[0], col[1]):
                weight = splat(lanes, row_weights[r] * col_weights[k])
                value = load(lanes, input, from_row + col_cells[k] * col_step)
                total = multiply_add(value, weight, total)
        store(out, at, total)

    return blend


_blend_many, _blend_few, _blend_image, _blend_one = (
    _make_blend(n) for n in (_MANY, _FEW, _IMAGE, 1)
)


@kernel
def resample2d_forward(
    span, out, input, row_starts, row_cells, row_weights, col_starts, col_cells, col_weights
):
    # 2·N·H_out·W_out·C·taps flop. Parallel over (n, oh): each task owns its row of results.
    N, H_out, W_out, C = out.shape
    H, W = input.shape[1:3]
    many, few = C - C % _MANY, C - C % _FEW
    image = C if C - few == _IMAGE else few
    for task in tasks(span, N * H_out):
        n, oh = task // H_out, task % H_out
        row = (row_starts[oh], row_starts[oh + 1])
        source = n * H * W * C
        for ow in range(W_out):
            col = (col_starts[ow], col_starts[ow + 1])
            at = (task * W_out + ow) * C
            for c in range(0, many, _MANY):
                _blend_many(out, at + c, input, source + c, row, row_cells, row_weights,
                            col, col_cells, col_weights, W * C, C)  # fmt: skip
            for c in range(many, few, _FEW):
                _blend_few(out, at + c, input, source + c, row, row_cells, row_weights,
                           col, col_cells, col_weights, W * C, C)  # fmt: skip
            for c in range(few, image, _IMAGE):
                _blend_image(out, at + c, input, source + c, row, row_cells, row_weights,
                             col, col_cells, col_weights, W * C, C)  # fmt: skip
            for c in range(image, C):
                _blend_one(out, at + c, input, source + c, row, row_cells, row_weights,
                           col, col_cells, col_weights, W * C, C)  # fmt: skip
