"""Sums over the rows of a matrix: the gradient of a bias."""

from __future__ import annotations

import numpy as np

from ...runtime.cuda.array import DeviceArray
from ._device import cuda, size
from ._launch import kernel, launch
from ._tile import index_bits, index_type

_COLS = size(32, simulated=2)  # of a block, next to one another in memory
_LANES = size(8, simulated=4)  # rows that a block reads at a time
_MAX_CHUNKS = size(256, simulated=3)
_CHUNK_ROWS = size(64, simulated=4)  # rows that are worth a block


@kernel
def _column_sums(real, cols_each, lanes, bits):
    """out[chunk, c] = Σ values[r, c] over the chunk's rows; also through relu, see below.

    One addition a number, so memory-bound: neighbouring threads read neighbouring columns. Each
    column of a block has `lanes` threads, whose sums, in float64, are added in their order."""
    index = index_type(bits)
    shape = (lanes, cols_each)

    def column_sums(out, values, passed, relu_out, zero, rows, cols, rows_each):
        """passed, relu_out: arrays or None; if given, values count where relu_out is above 0, and
        what counts is stored in `passed`. zero: 0 in the type of the sums."""
        sums = cuda.shared.array(shape, np.float64)
        lane, at = cuda.threadIdx.x // cols_each, cuda.threadIdx.x % cols_each
        tiles = (cols + cols_each - 1) // cols_each
        chunk, col = cuda.blockIdx.x // tiles, cuda.blockIdx.x % tiles * cols_each + at
        total = zero
        if col < cols:
            first = chunk * rows_each
            for row in range(first + lane, min(first + rows_each, rows), lanes):
                i = index(index(row) * index(cols) + index(col))
                value = values[i]
                if relu_out is not None:
                    # NaN passes: relu(NaN) is NaN.
                    value = real(0) if relu_out[i] <= real(0) else value
                    passed[i] = value
                total += np.float64(value)
        sums[lane, at] = total
        cuda.syncthreads()
        if lane == 0 and col < cols:
            for other in range(1, lanes):
                total += sums[other, at]
            out[index(index(chunk) * index(cols) + index(col))] = total

    return column_sums


def _chunks(rows: int) -> tuple[int, int]:
    """How many, and rows of each."""
    chunks = max(1, min(rows // _CHUNK_ROWS, _MAX_CHUNKS))
    rows_each = max(1, -(-rows // chunks))
    return max(1, -(-rows // rows_each)), rows_each


def column_sums_workspace(rows: int, cols: int) -> int:
    chunks, _ = _chunks(rows)
    return chunks * cols if chunks > 1 else 0


def column_sums(
    out: DeviceArray,
    values: DeviceArray,
    scratch: DeviceArray,
    rows: int,
    cols: int,
    passed: DeviceArray | None = None,
    relu_out: DeviceArray | None = None,
) -> None:
    """out (cols,) from values (rows, cols). scratch is float64. First over chunks of rows, then
    over the chunks."""
    chunks, rows_each = _chunks(rows)
    sums = out if chunks == 1 else scratch
    _launch(sums, values, passed, relu_out, rows, cols, chunks, rows_each)
    if chunks > 1:
        _launch(out, scratch, None, None, chunks, cols, 1, chunks)


def _launch(out, values, passed, relu_out, rows, cols, chunks, rows_each) -> None:  # fmt: skip
    variant = _column_sums(values.dtype, _COLS, _LANES, index_bits(values))
    shape = (chunks * -(-cols // _COLS),), (_COLS * _LANES,)
    zero = np.float64(0)
    launch(variant, shape, out, values, passed, relu_out, zero, rows, cols, rows_each)
