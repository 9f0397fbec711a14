"""Matrix products: left (B, M, K) · right (B, K, N) → (B, M, N), tile by tile (_tile.py).

**All three products are one kernel.** A factor is stored with the terms of the sum next to one
another, or with its other index, the rows or columns of the result:

    out[m, n]        = Σ_k left[m, k] · right[k, n]          left along the sum, right by columns
    grad_left[m, k]  = Σ_n grad_output[m, n] · right[k, n]   both along the sum
    grad_right[k, n] = Σ_m left[m, k] · grad_output[m, n]    left by rows, right by columns

which decides only how neighbouring threads share out the fetching of a panel.
"""

from __future__ import annotations

from ...geometry import MatmulDims
from ...runtime.cuda.array import DeviceArray
from ._device import cuda
from ._index import index_bits, index_type
from ._launch import kernel, kernel_since, launch
from ._tile import (
    TENSOR_CORES_SINCE,
    Tile,
    combine,
    finish,
    panel_sizes,
    place,
    plan,
    scratch_size,
    tile_functions,
)
from .reduce import sum_forward, sum_forward_workspace


def _product_kernel(real, tile, bits, left_by_rows, right_by_cols):
    """left_by_rows: left is stored (terms, rows), not (rows, terms); right_by_cols: right is stored
    (terms, cols), not (cols, terms)."""
    index = index_type(bits)
    advance, row_of, col_of = tile_functions(tile, left_by_rows, right_by_cols)
    (sums_i, sums_j), lefts, rights, left_shape, right_shape = panel_sizes(tile)
    sum_count = sums_i * sums_j
    tile_rows, tile_cols, depth, threads = *tile[:3], tile.threads

    def product(out, left, right, bias, batch, rows, cols, terms, splits, span):
        # 2·batch·rows·cols·terms flop. A block owns one tile of one matrix, of one span of its sum.
        left_panels = cuda.shared.array(left_shape, real, 16)
        right_panels = cuda.shared.array(right_shape, real, 16)
        left_next = cuda.local.array(lefts, real)
        right_next = cuda.local.array(rights, real)
        sums = cuda.local.array(sum_count, real)
        for i in range(sum_count):
            sums[i] = real(0)

        across, down = (cols + tile_cols - 1) // tile_cols, (rows + tile_rows - 1) // tile_rows
        block = cuda.blockIdx.x
        first_col, block = block % across * tile_cols, block // across
        first_row, block = block % down * tile_rows, block // down
        b, split = block % batch, block // batch
        R, C, T = index(rows), index(cols), index(terms)
        left_start, right_start = index(index(b) * index(R * T)), index(index(b) * index(T * C))
        start, end = split * span, min(split * span + span, terms)

        for step in range((end - start + depth - 1) // depth + 1):
            for i in range(lefts):
                place_row, place_k = place(i, tile_rows, depth, threads, left_by_rows)
                row, k = index(first_row + place_row), index(start + step * depth + place_k)
                at = index(k * R + row) if left_by_rows else index(row * T + k)
                left_next[i] = left[index(left_start + at)] if row < R and k < end else real(0)
            for i in range(rights):
                place_col, place_k = place(i, tile_cols, depth, threads, right_by_cols)
                col, k = index(first_col + place_col), index(start + step * depth + place_k)
                at = index(k * C + col) if right_by_cols else index(col * T + k)
                right_next[i] = right[index(right_start + at)] if col < C and k < end else real(0)
            advance(step, sums, left_panels, right_panels, left_next, right_next)

        out_start = index(index(split * batch + b) * index(R * C))
        for i in range(sums_i):
            for j in range(sums_j):
                row, col = index(first_row + row_of(i, j)), index(first_col + col_of(i, j))
                if row < R and col < C:
                    at = index(out_start + index(row * C + col))
                    out[at] = finish(sums[i * sums_j + j], bias, col, False, real(0))

    return product


@kernel
def _product(real, rows, cols, depth, part_rows, part_cols, bits, left_by_rows, right_by_cols):
    tile = Tile(rows, cols, depth, part_rows, part_cols)
    return _product_kernel(real, tile, bits, left_by_rows, right_by_cols)


@kernel_since(TENSOR_CORES_SINCE)
def _product_tf32(real, rows, cols, depth, part_rows, part_cols, bits, left_by_rows, right_by_cols):
    tile = Tile(rows, cols, depth, part_rows, part_cols, tensor=True)
    return _product_kernel(real, tile, bits, left_by_rows, right_by_cols)


def _multiply(out, left, right, bias, scratch, sizes, left_by_rows, right_by_cols) -> None:
    """sizes: (batch, rows, cols, terms) of the product."""
    batch, rows, cols, terms = sizes
    share = plan(rows, cols, terms, batch, out.dtype)
    make = _product_tf32 if share.tile.tensor else _product
    bits = index_bits(left.size, right.size, out.size * share.splits)
    variant = make(out.dtype, *share.tile.sizes, bits, left_by_rows, right_by_cols)
    split = share.splits > 1
    launch(
        variant, share.shape, scratch if split else out, left, right, None if split else bias,
        *sizes, share.splits, share.span,
    )  # fmt: skip
    if split:
        combine(out, scratch, bias, False, share.splits)


def matmul_forward_workspace(dims: MatmulDims) -> int:
    return scratch_size(dims.M, dims.N, dims.K, dims.B, dims.B * dims.M * dims.N)


def matmul_forward(
    out: DeviceArray,
    left: DeviceArray,
    right: DeviceArray,
    bias: DeviceArray | None,
    scratch: DeviceArray,
    dims: MatmulDims,
) -> None:
    sizes = dims.B, dims.M, dims.N, dims.K
    _multiply(out, left, right, bias, scratch, sizes, left_by_rows=False, right_by_cols=True)


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
