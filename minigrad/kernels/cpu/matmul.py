"""Matrix products by register tiles, without a BLAS, whose threads would fight with ours.

All three products of a layer are one kernel, with other steps through its operands:
    out[b, r, c] = bias[c] + Σ_i left[b, r, i] · right[b, i, c]
A task makes a block of the columns for a part of the rows. It goes through the terms i in chunks:
the chunk of `right` is packed into panels one tile wide, which stay in the second-level cache while
all rows pass over them; of a strip of rows of `left` the chunk stays in the first-level cache while
it meets all panels of the block.

`left` is read as it is, but packed where its terms are far apart: for the gradient of `right`.
`right` is read as it is where few rows meet few columns.

A few rows are a matrix-vector product (GEMV), which takes as long as `right` takes to read: nothing
is packed, and eight terms at a time are added to all columns of a block.
"""

from __future__ import annotations

from functools import lru_cache
from math import nan
from typing import NamedTuple

from ...geometry import Conv2dDims, MatmulDims
from ...runtime.threads import MAX_THREADS, get_num_threads
from ..protocol import UNLIMITED
from . import conv_weight
from ._jit import helper, kernel
from ._product import add_row_product, copy_columns, pack_transposed, product_tile
from ._simd import PIXELS, VECTOR_BYTES, whole_registers
from ._table import array_at
from ._tasks import light_tasks, tasks, thread

_COLUMNS, _TERMS = 128, 1024  # of a block of right
_STRIP = 8 * PIXELS  # rows of left
# Between the rows of a packed strip: keeps the rows of a tile out of the same cache set.
_GAP = 16
# So few rows do not make up for packing, and take at most so many columns at a time, at least so
# many in each thread.
_FEW_ROWS, _ROW_COLUMNS, _LEAST_COLUMNS = 6, 512, 64
_LONG = 8192  # terms of theirs whose sum is made by itself
# Up to so many rows, `right` of up to so many columns is read where it lies: 1.1–1.7 times as fast.
# More columns: the terms' places in them fall into the same sets of the first-level cache.
_UNPACKED_ROWS, _UNPACKED_COLUMNS = 256, 256


class _Plan(NamedTuple):
    """How a product is cut: fixed by the shape alone, so that its bits are too."""

    pack_left: bool
    pack_right: bool
    row_parts: int
    panels: int  # elements that a thread needs for a packed block of right
    strip: int  # and for a packed strip of left


@lru_cache(maxsize=4096)
def _plan(B: int, rows: int, columns: int, terms: int, transposed: str) -> _Plan:
    """transposed: "", "left" or "right", which of them lies with its axes exchanged."""
    blocks = max(1, B * -(-columns // _COLUMNS))
    chunk = min(terms, _TERMS)
    return _Plan(
        transposed == "left",
        bool(transposed or columns % 32 or rows > _UNPACKED_ROWS or columns > _UNPACKED_COLUMNS),
        # Every part packs its block again, which its rows must make up for.
        max(1, min(-(-8 // blocks), rows // 32)),
        chunk * min(_COLUMNS, -(-columns // 32) * 32),
        (chunk + _GAP) * _STRIP if transposed == "left" else 0,
    )


def _make_multiply(vectors: int):
    """The kernel whose register tile is `vectors` vectors of columns wide."""
    most = vectors * (VECTOR_BYTES // 4)

    @kernel
    def multiply(
        span,
        out,
        left_matrix,
        right_matrix,
        bias,
        use_bias,
        bounds,
        terms,
        left_steps,
        right_steps,
        pack_left,
        pack_right,
        row_parts,
        panel_size,
        workspaces,
    ):
        # 2·B·rows·columns·terms flop. Parallel over (b, block of columns, part of the rows), whose
        # results a task owns. *_steps: elements from a row, or column, to the next, and from a
        # term to the next.
        B, rows, columns = out.shape
        width = vectors * (VECTOR_BYTES // out.itemsize)
        blocks = (columns + _COLUMNS - 1) // _COLUMNS
        tiles = (rows + PIXELS - 1) // PIXELS
        flat = out.reshape(-1)
        # By address, and so of one type with the workspace.
        left = array_at(left_matrix.ctypes.data, 0, left_matrix.size, out)
        right = array_at(right_matrix.ctypes.data, 0, right_matrix.size, out)
        for task in tasks(span, B * blocks * row_parts):
            place, part = task // row_parts, task % row_parts
            b, block = place // blocks, place % blocks
            panels = workspaces[thread(span), :panel_size]
            packed_rows = workspaces[thread(span), panel_size:]
            r_first = part * tiles // row_parts * PIXELS
            r_last = min((part + 1) * tiles // row_parts * PIXELS, rows)
            c_first, c_last = block * _COLUMNS, min((block + 1) * _COLUMNS, columns)
            for i in range(0, max(1, terms), _TERMS):
                count = min(_TERMS, terms - i)
                limits = bounds if i + count >= terms else (nan, nan)
                right_at = b * terms * columns + i * right_steps[1]
                for c in range(c_first, c_last if pack_right else c_first, width):
                    place_at, valid = (c - c_first) * count, min(width, c_last - c)
                    column_at = right_at + c * right_steps[0]
                    if valid < width:
                        # What an earlier use left there may be denormal, and multiplying that is
                        # fifty times as slow, though nobody reads the product.
                        panels[place_at : place_at + count * width] = 0
                    if right_steps[0] == 1:
                        copy_columns(
                            most, panels, place_at, width,
                            right, column_at, right_steps[1], count, valid,
                        )  # fmt: skip
                    else:
                        pack_transposed(
                            panels, place_at, width, right, column_at, right_steps[0], count, valid
                        )
                for r0 in range(r_first, r_last, _STRIP):
                    strip, strip_stride = left, left_steps[0]
                    strip_at = b * rows * terms + r0 * left_steps[0] + i * left_steps[1]
                    if pack_left:
                        pack_transposed(
                            packed_rows, 0, count + _GAP, left, strip_at, left_steps[1],
                            min(_STRIP, r_last - r0), count,
                        )  # fmt: skip
                        strip, strip_stride, strip_at = packed_rows, count + _GAP, 0
                    for c in range(c_first, c_last, width):
                        panel, panel_at, panel_stride = panels, (c - c_first) * count, width
                        if not pack_right:
                            panel, panel_at, panel_stride = right, right_at + c, columns
                        for r in range(r0, min(r0 + _STRIP, r_last), PIXELS):
                            product_tile(
                                PIXELS, vectors, flat, (b * rows + r) * columns + c, columns,
                                bias, c, use_bias, limits, i > 0,
                                strip, strip_at + (r - r0) * strip_stride, strip_stride,
                                panel, panel_at, panel_stride,
                                count, min(PIXELS, rows - r), min(width, c_last - c),
                            )  # fmt: skip

    return multiply


# One vector wide for few columns, two for more.
_multiply = (_make_multiply(1), _make_multiply(2))


@helper
def _limit(values, low, high):
    whole_registers()
    for i in range(values.size):
        raised = low if values[i] < low else values[i]
        values[i] = high if raised > high else raised


@kernel
def _multiply_rows(span, out, left, right, bias, use_bias, bounds, block, workspace, share):
    # 2·B·rows·columns·terms flop; right, which is most of the work, is read once. Parallel over
    # (b, block of columns), whose results a task owns; a column's sum is the same in any block.
    B, rows, columns = out.shape
    terms = right.shape[1]
    blocks = (columns + block - 1) // block
    flat, parts = out.reshape(-1), workspace[thread(span) * share :]
    low, high = out.dtype.type(bounds[0]), out.dtype.type(bounds[1])
    for task in light_tasks(span, B * blocks, rows * terms * block // 16):
        b, first = task // blocks, task % blocks * block
        count = min(block, columns - first)
        for r in range(rows):
            for c in range(first, first + count):
                out[b, r, c] = bias[c] if use_bias else 0
        for start in range(0, terms, _LONG):  # of a long sum parts are added, see product_tile
            sums, first_sum, stride = flat, b * rows * columns + first, columns
            if start > 0:
                sums, first_sum, stride = parts, 0, count
                parts[: rows * count] = 0
            i, stop = start, min(start + _LONG, terms)
            while i < stop:
                step = 8 if i + 8 <= stop else 1
                for r in range(rows):
                    to, row = first_sum + r * stride, (b * rows + r) * terms + i
                    at = (b * terms + i) * columns + first
                    if step == 8:
                        add_row_product(8, sums, to, left, row, right, at, columns, count)
                    else:
                        add_row_product(1, sums, to, left, row, right, at, columns, count)
                i += step
            for r in range(rows if start > 0 else 0):
                for c in range(count):
                    out[b, r, first + c] += parts[r * count + c]
        if low == low or high == high:
            for r in range(rows):
                row = (b * rows + r) * columns + first
                _limit(flat[row : row + count], low, high)


def _product(out, left, right, bias, scratch, terms, transposed="", bounds=UNLIMITED):
    """out = left · right + bias, one of them `transposed`, limited to `bounds`."""
    B, rows, columns = out.shape
    if out.size == 0:
        return
    if _has_few_rows(rows, transposed):
        flat = out.reshape(-1) if bias is None else bias
        block = _row_block(columns, get_num_threads())
        share = scratch.size // MAX_THREADS
        _multiply_rows(out, left, right, flat, bias is not None, bounds, block, scratch, share)
        return
    plan = _plan(B, rows, columns, terms, transposed)
    _multiply[VECTOR_BYTES // out.itemsize < columns](
        out, left, right, out.reshape(-1) if bias is None else bias, bias is not None, bounds,
        terms,
        (1, rows) if transposed == "left" else (terms, 1),
        (terms, 1) if transposed == "right" else (1, columns),
        plan.pack_left, plan.pack_right, plan.row_parts, plan.panels,
        scratch.reshape(MAX_THREADS, -1),
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _row_block(columns: int, threads: int) -> int:
    """The matrix is read fastest in long pieces of its rows: one for each thread."""
    share = -(-columns // (threads * _LEAST_COLUMNS)) * _LEAST_COLUMNS
    return min(share, _ROW_COLUMNS)


def _has_few_rows(rows: int, transposed: str) -> bool:
    return rows <= _FEW_ROWS and not transposed


def _workspace(B: int, rows: int, columns: int, terms: int, transposed: str = "") -> int:
    if _has_few_rows(rows, transposed):
        return MAX_THREADS * rows * _ROW_COLUMNS if terms > _LONG else 0
    plan = _plan(B, rows, columns, terms, transposed)
    return MAX_THREADS * (plan.panels + plan.strip)


@lru_cache(maxsize=4096)
def matmul_forward_workspace(dims) -> int:
    return _workspace(dims.B, dims.M, dims.N, dims.K)


def matmul_forward(out, left, right, bias, scratch, dims, bounds):
    _product(out, left, right, bias, scratch, dims.K, bounds=bounds)


@lru_cache(maxsize=4096)
def matmul_backward_left_workspace(dims) -> int:
    return _workspace(dims.B, dims.M, dims.K, dims.N, "right")


def matmul_backward_left(grad_left, grad_output, right, scratch, dims):
    # Y = L·R gives dL = dY·Rᵀ.
    _product(grad_left, grad_output, right, None, scratch, dims.N, "right")


def _few_results(dims: MatmulDims) -> bool:
    """Whether the gradient of `right` is so small that its terms, too, must be shared out."""
    return dims.M >= 2048 and dims.K * dims.N <= 16 * PIXELS * _COLUMNS


@lru_cache(maxsize=4096)
def _as_conv(dims: MatmulDims) -> Conv2dDims:
    """A 1×1 convolution of M images of one pixel with K channels."""
    sizes = {"N": dims.M, "C_in": dims.K, "C_out": dims.N, "top": 0, "left": 0}
    return Conv2dDims(**{field: sizes.get(field, 1) for field in Conv2dDims._fields})


def _pixels(array):
    """(rows, channels) as an NHWC array of one-pixel images."""
    return array.reshape(array.shape[0], 1, 1, array.shape[1])


@lru_cache(maxsize=4096)
def matmul_backward_right_workspace(dims) -> int:
    if _few_results(dims):
        return conv_weight.conv2d_backward_weight_workspace(_as_conv(dims))
    return _workspace(dims.B, dims.K, dims.N, dims.M, "left")


def matmul_backward_right(grad_right, grad_output, left, scratch, dims):
    # Y = L·R gives dR = Lᵀ·dY, for few results as the weight gradient of the convolution.
    if not _few_results(dims):
        _product(grad_right, left, grad_output, None, scratch, dims.M, "left")
        return
    for b in range(dims.B):
        conv_weight.conv2d_backward_weight(
            grad_right[b][None, None], _pixels(grad_output[b]), _pixels(left[b]), scratch,
            _as_conv(dims),
        )  # fmt: skip


@lru_cache(maxsize=4096)
def matmul_backward_bias_workspace(dims) -> int:
    return conv_weight.conv2d_backward_bias_workspace((dims.B * dims.M, 1, 1, dims.N))


def matmul_backward_bias(grad_bias, grad_output, scratch, dims):
    # db[n] = Σ_{b, m} dY[b, m, n]
    rows = grad_output.reshape(dims.B * dims.M, dims.N)
    conv_weight.conv2d_backward_bias(grad_bias, _pixels(rows), scratch)
