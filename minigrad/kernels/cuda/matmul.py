"""Matrix products: left (B, M, K) · right (B, K, N) → (B, M, N), tile by tile (_tile.py).

**All three products are one kernel.** A factor is stored with the terms of the sum next to one
another, or with its other index, the rows or columns of the result:

    out[m, n]        = Σ_k left[m, k] · right[k, n]          left along the sum, right by columns
    grad_left[m, k]  = Σ_n grad_output[m, n] · right[k, n]   both along the sum
    grad_right[k, n] = Σ_m left[m, k] · grad_output[m, n]    left by rows, right by columns

which decides only how neighbouring threads share out the fetching of a panel.
"""

from __future__ import annotations

import numpy as np

from ...geometry import MatmulDims
from ...runtime.cuda.array import DeviceArray
from ..protocol import UNLIMITED
from ._device import cuda, limited
from ._index import index_bits, index_type
from ._launch import kernel, kernel_since, launch
from ._ptx import vectors
from ._span import quotient
from ._span import span as span_of
from ._tile import (
    TENSOR_CORES_SINCE,
    Tile,
    biased,
    combine,
    plan,
    scratch_size,
    split_off,
    tile_functions,
    vector_width,
)
from .reduce import sum_forward, sum_forward_workspace


def _product_kernel(real, tile, left_width, right_width, bits, left_by_rows, right_by_cols):
    """left_by_rows: left is stored (terms, rows), not (rows, terms); right_by_cols: right is stored
    (terms, cols), not (cols, terms)."""
    index = index_type(bits)
    count = np.int32 if bits == 32 else np.int64
    tiles = tile_functions(tile, real, left_by_rows, right_by_cols, left_width, right_width)
    advance, row_of, col_of = tiles.advance, tiles.row_of, tiles.col_of
    place_left, place_right = tiles.place_left, tiles.place_right
    fetch_left, fetch_right = tiles.fetch_left, tiles.fetch_right
    sums_i, sums_j, sum_count = tiles.sums_i, tiles.sums_j, tiles.sums_i * tiles.sums_j
    lefts, rights = tiles.left.fetches, tiles.right.fetches
    left_length, right_length = lefts * left_width, rights * right_width
    left_size, right_size = 2 * tiles.left.size, 2 * tiles.right.size
    # Of neighbouring results in a thread's part
    stored = right_width if right_by_cols and not tile.tensor else 1
    _, store = vectors(stored)
    tile_rows, tile_cols, depth = tile[:3]

    def product(
        out, left, right, bias, least, most, batch, rows, cols, terms, splits, span
    ):  # fmt: skip
        # 2·batch·rows·cols·terms flop. A block owns one tile of one matrix, of one span of its sum.
        left_panels = cuda.shared.array(left_size, real, 16)
        right_panels = cuda.shared.array(right_size, real, 16)
        left_next = cuda.local.array(left_length, real)
        right_next = cuda.local.array(right_length, real)
        sums = cuda.local.array(sum_count, real)
        for i in range(sum_count):
            sums[i] = real(0)

        block = cuda.blockIdx.x
        first_col, block = split_off(block, cols, tile_cols)
        first_row, block = split_off(block, rows, tile_rows)
        b, split = split_off(block, batch, 1)
        R, C, T = index(rows), index(cols), index(terms)
        left_start, right_start = index(index(b) * index(R * T)), index(index(b) * index(T * C))
        start = count(split * span)
        end = count(min(start + span, terms))
        steps = quotient(count(end - start + depth - 1), depth)

        for step in span_of(0, count(steps + 1), 1):
            for i in range(lefts):
                place_row, place_k = place_left(i)
                row = count(first_row + place_row)
                k = count(start + step * depth + place_k)
                at = index(k) * R + index(row) if left_by_rows else index(row) * T + index(k)
                found = (row < rows) & (k < end)
                fetch_left(left_next, i * left_width, left, index(left_start + at), found)
            for i in range(rights):
                place_col, place_k = place_right(i)
                col = count(first_col + place_col)
                k = count(start + step * depth + place_k)
                at = index(k) * C + index(col) if right_by_cols else index(col) * T + index(k)
                found = (col < cols) & (k < end)
                fetch_right(right_next, i * right_width, right, index(right_start + at), found)
            advance(step, sums, left_panels, right_panels, left_next, right_next)

        for i in range(sums_i):
            for j in range(sums_j):
                col = index(min(count(first_col + col_of(i, j)), cols - 1))
                at = i * sums_j + j
                sums[at] = limited(biased(sums[at], bias, col), least, most)
        out_start = index(index(split * batch + b) * index(R * C))
        for i in range(sums_i):
            for j in range(0, sums_j, stored):
                row, col = count(first_row + row_of(i, j)), count(first_col + col_of(i, j))
                if row < rows and col < cols:
                    at = index(out_start + index(row) * C + index(col))
                    store(out, at, sums, i * sums_j + j)

    return product


@kernel
def _product(
    real, rows, cols, depth, part_rows, part_cols, left_width, right_width, bits,
    left_by_rows, right_by_cols,
):  # fmt: skip
    tile = Tile(rows, cols, depth, part_rows, part_cols)
    return _product_kernel(
        real, tile, left_width, right_width, bits, left_by_rows, right_by_cols
    )  # fmt: skip


@kernel_since(TENSOR_CORES_SINCE)
def _product_tf32(
    real, rows, cols, depth, part_rows, part_cols, left_width, right_width, bits,
    left_by_rows, right_by_cols,
):  # fmt: skip
    tile = Tile(rows, cols, depth, part_rows, part_cols, tensor=True)
    return _product_kernel(
        real, tile, left_width, right_width, bits, left_by_rows, right_by_cols
    )  # fmt: skip


def _multiply(
    out, left, right, bias, scratch, sizes, left_by_rows, right_by_cols, bounds=UNLIMITED
) -> None:
    """sizes: (batch, rows, cols, terms) of the product."""
    batch, rows, cols, terms = sizes
    share = plan(rows, cols, terms, batch, out.dtype)
    make = _product_tf32 if share.tile.tensor else _product
    bits = index_bits(left.size, right.size, out.size * share.splits)
    split = share.splits > 1
    result = scratch if split else out
    left_width = vector_width(rows if left_by_rows else terms, left)
    right_width = vector_width(*((cols, right, result) if right_by_cols else (terms, right)))
    variant = make(
        out.dtype, *share.tile.sizes, left_width, right_width, bits, left_by_rows, right_by_cols
    )
    launch(
        variant, share.shape, result, left, right, None if split else bias,
        *(UNLIMITED if split else bounds), *sizes, share.splits, share.span,
    )  # fmt: skip
    if split:
        combine(out, scratch, bias, bounds, share.splits)


def matmul_forward_workspace(dims: MatmulDims) -> int:
    return scratch_size(dims.M, dims.N, dims.K, dims.B, dims.B * dims.M * dims.N)


def matmul_forward(
    out: DeviceArray,
    left: DeviceArray,
    right: DeviceArray,
    bias: DeviceArray | None,
    scratch: DeviceArray,
    dims: MatmulDims,
    bounds: tuple[float, float],
) -> None:
    sizes = dims.B, dims.M, dims.N, dims.K
    _multiply(
        out, left, right, bias, scratch, sizes,
        left_by_rows=False, right_by_cols=True, bounds=bounds,
    )  # fmt: skip


def matmul_backward_left_workspace(dims: MatmulDims) -> int:
    return scratch_size(dims.M, dims.K, dims.N, dims.B, dims.B * dims.M * dims.K)


def matmul_backward_left(
    grad_left: DeviceArray,
    grad_output: DeviceArray,
    right: DeviceArray,
    scratch: DeviceArray,
    dims: MatmulDims,
) -> None:
    """out = left · right, so ∂L/∂left = ∂L/∂out · rightᵀ."""
    sizes = dims.B, dims.M, dims.K, dims.N
    _multiply(
        grad_left, grad_output, right, None, scratch, sizes, left_by_rows=False, right_by_cols=False
    )


def matmul_backward_right_workspace(dims: MatmulDims) -> int:
    return scratch_size(dims.K, dims.N, dims.M, dims.B, dims.B * dims.K * dims.N)


def matmul_backward_right(
    grad_right: DeviceArray,
    grad_output: DeviceArray,
    left: DeviceArray,
    scratch: DeviceArray,
    dims: MatmulDims,
) -> None:
    """out = left · right, so ∂L/∂right = leftᵀ · ∂L/∂out."""
    sizes = dims.B, dims.K, dims.N, dims.M
    _multiply(
        grad_right, left, grad_output, None, scratch, sizes, left_by_rows=True, right_by_cols=True
    )


def matmul_backward_bias_workspace(dims: MatmulDims) -> int:
    return sum_forward_workspace((1, dims.B * dims.M, dims.N))


def matmul_backward_bias(
    grad_bias: DeviceArray, grad_output: DeviceArray, scratch: DeviceArray, dims: MatmulDims
) -> None:
    """∂out[b, m, n] / ∂bias[n] = 1"""
    sum_forward(grad_bias, grad_output.reshape(1, dims.B * dims.M, dims.N), scratch, 1.0)
