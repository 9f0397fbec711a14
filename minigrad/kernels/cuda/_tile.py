"""Products of matrices, tile by tile: what the kernels of matmul.py and conv.py have in common.

A block of threads owns a tile of `rows` × `cols` results, so each of them has one owner. Along the
sum it goes in steps of `depth`: the threads fetch a (rows, depth) panel of the left matrix and a
(depth, cols) panel of the right one into shared memory, where each number is used cols or rows
times, and every thread keeps part_rows × part_cols results in registers, so that a number read from
shared memory is used several times as well. There are two pairs of panels: while one is multiplied,
the next is on its way from memory, and one barrier a step suffices.

A kernel differs from the next only in where the numbers of a panel lie in memory; it says so
between `place`, which of them a thread fetches, and `advance`:

    for step in range(steps + 1):
        left_next[…], right_next[…] = panels number `step`, 0 outside the matrices
        advance(step, sums, left_panels, right_panels, left_next, right_next)

**Few results with long sums**, a weight gradient above all, leave most of the GPU idle. Such sums
are cut into `splits` spans whose results go to scratch memory; `combine` adds them in order. How a
sum is cut follows from the sizes alone, and so do its bits.

**Tensor cores** multiply panels whose numbers were rounded to TF32 (_ptx.py). A part is then a
warp's. The rest of a kernel stays as it is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...backends import cuda as settings
from ...runtime.cuda.array import DeviceArray
from ...runtime.cuda.driver import driver
from ._device import cuda, device
from ._index import index_bits, index_type
from ._launch import kernel, launch, over
from ._ptx import (
    LANES,
    MMA_COLS,
    MMA_DEPTH,
    MMA_ROWS,
    multiply_accumulate,
    sum_col,
    sum_row,
    to_tf32,
)

TENSOR_CORES_SINCE = 80  # with TF32


class Tile(NamedTuple):
    """part: the results of one thread, on tensor cores of one warp, which 32 threads are."""

    rows: int
    cols: int
    depth: int
    part_rows: int
    part_cols: int
    tensor: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """The constants of a kernel."""
        return self[:5]

    @property
    def threads(self) -> int:
        parts = (self.rows // self.part_rows) * (self.cols // self.part_cols)
        return parts * LANES if self.tensor else parts

    def blocks(self, rows: int, cols: int) -> int:
        """How many tiles cover a matrix."""
        return -(-rows // self.rows) * -(-cols // self.cols)


# What a tile's area costs, relative to that of the first: the larger, the less memory is read.
_SINGLE_TILES = {
    Tile(128, 128, 8, 8, 8): 1.0,
    Tile(64, 64, 16, 4, 4): 1.5,
    Tile(32, 32, 16, 4, 4): 2.0,
}
_TILES = {
    "single": _SINGLE_TILES,
    # The largest one's sums, with indices of 64 bits, take more registers than there are.
    "double": dict(list(_SINGLE_TILES.items())[1:]),
    "tensor": {
        Tile(128, 64, 16, 32, 32, tensor=True): 1.0,
        Tile(64, 32, 16, 32, 16, tensor=True): 1.5,
    },
}

# Blocks that keep a GPU busy, about two for each multiprocessor of a large one. A constant, lest
# results depend on the device.
_BLOCKS = 264
_LEAST_SPAN = 64  # terms of a sum that are worth a block


class Plan(NamedTuple):
    """How a product is shared out."""

    tile: Tile
    blocks: int
    splits: int
    span: int

    @property
    def shape(self) -> tuple[tuple[int], tuple[int]]:
        return (self.blocks * self.splits,), (self.tile.threads,)


def plan(rows: int, cols: int, terms: int, batch: int, dtype: np.dtype) -> Plan:
    """For `batch` products of (rows, terms) by (terms, cols)."""
    kind = "tensor" if on_tensor_cores(dtype) else "double" if dtype.char == "d" else "single"
    return _plan(kind, rows, cols, terms, batch)


@lru_cache(1024)  # a network asks for the same few at every step
def _plan(kind: str, rows: int, cols: int, terms: int, batch: int) -> Plan:
    tiles = _TILES[kind]

    def cost(tile: Tile) -> float:
        # A multiprocessor without a block costs as much as one with it.
        blocks = max(batch * tile.blocks(rows, cols), _BLOCKS // 2)
        return blocks * tile.rows * tile.cols * tiles[tile]

    tile = min(tiles, key=cost)
    blocks = batch * tile.blocks(rows, cols)
    splits = max(1, min(_BLOCKS // max(blocks, 1), terms // _LEAST_SPAN))
    span = max(tile.depth, -(-terms // (splits * tile.depth)) * tile.depth)
    return Plan(tile, blocks, max(1, -(-terms // span)), span)


def on_tensor_cores(dtype: np.dtype) -> bool:
    """Whether products in this dtype are rounded to TF32."""
    return (
        settings.allow_tf32
        and dtype.char == "f"
        and driver().lowest_compute_capability >= divmod(TENSOR_CORES_SINCE, 10)
    )


def scratch_size(rows: int, cols: int, terms: int, batch: int, results: int) -> int:
    """Elements of scratch that `plan` needs for `results` numbers in all, in any dtype."""
    splits = max(_plan(kind, rows, cols, terms, batch).splits for kind in _TILES)
    return results * splits if splits > 1 else 0


Shape3 = tuple[int, int, int]


def panel_sizes(tile: Tile) -> tuple[tuple[int, int], int, int, Shape3, Shape3]:
    """How many numbers a thread sums up (i by j of them), fetches for the left panel and for the
    right one; the shapes of the panels, two of each. Their lines, one for each term of the sum, are
    padded so that the threads of a warp find what they read in different banks."""
    rows, cols, depth, part_rows, part_cols, tensor = tile
    padding = 8 if tensor else 4
    products = part_rows // MMA_ROWS * (part_cols // MMA_COLS)
    return (
        (products, 4) if tensor else (part_rows, part_cols),
        rows * depth // tile.threads,
        cols * depth // tile.threads,
        (2, depth, rows + padding),
        (2, depth, cols + padding),
    )


@device
def place(i, side, depth, threads, along_side):
    """(position along the panel's side, along the sum) of the i-th number that a thread fetches.
    Neighbouring threads are neighbours along the one or the other: what is contiguous in memory."""
    thread = np.uint32(cuda.threadIdx.x)
    if along_side:
        return np.uint32(thread % side), np.uint32(thread // side + i * (threads // side))
    return np.uint32(thread // depth + i * (threads // depth)), np.uint32(thread % depth)


@device
def spread(part, i, length, parts):
    """Where the i-th row (column) of a part lies in the tile. A part is made of runs of four, which
    are one read from shared memory; `parts` of them side by side, so that reads do not collide."""
    run = min(length, 4)
    return np.uint32((i // run * parts + part) * run + i % run)


def tile_functions(tile: Tile, left_along_side: bool, right_along_side: bool):
    """(advance, row_of, col_of): device functions for kernels with this tile, whose panels
    are fetched along their sides or along the sum. sums[i·len(j) + j] of a thread is the result in
    row_of(i, j), col_of(i, j) of the tile."""
    rows, cols, depth, part_rows, part_cols, tensor = tile
    threads = tile.threads
    down, across = rows // part_rows, cols // part_cols
    _, lefts, rights, _, _ = panel_sizes(tile)

    @device
    def advance(step, sums, left_panels, right_panels, left_next, right_next):
        """Put the fetched numbers into the panels of this step and multiply those of the last."""
        if step > 0:
            multiply(sums, left_panels, right_panels, (step - 1) & 1)
        for i in range(lefts):
            row, k = place(i, rows, depth, threads, left_along_side)
            left_panels[step & 1, k, row] = to_tf32(left_next[i]) if tensor else left_next[i]
        for i in range(rights):
            col, k = place(i, cols, depth, threads, right_along_side)
            right_panels[step & 1, k, col] = to_tf32(right_next[i]) if tensor else right_next[i]
        cuda.syncthreads()

    if tensor:
        multiply, row_of, col_of = _on_tensor_cores(depth, part_rows, part_cols, across)
    else:
        multiply, row_of, col_of = _on_threads(depth, part_rows, part_cols, down, across)
    return advance, row_of, col_of


def _on_threads(depth: int, part_rows: int, part_cols: int, down: int, across: int):
    """multiply, row_of and col_of for parts of one thread."""

    @device
    def row_of(i, j):
        return spread(np.uint32(cuda.threadIdx.x) // across, i, part_rows, down)

    @device
    def col_of(i, j):
        return spread(np.uint32(cuda.threadIdx.x) % across, j, part_cols, across)

    @device
    def multiply_line(sums, left_panels, right_panels, panel, k):
        for i in range(part_rows):
            for j in range(part_cols):
                factor = right_panels[panel, k, col_of(i, j)]
                sums[i * part_cols + j] += left_panels[panel, k, row_of(i, j)] * factor

    @device
    def multiply(sums, left_panels, right_panels, panel):
        for k in range(0, depth, 2):  # two lines a round, which the compiler would not do by itself
            multiply_line(sums, left_panels, right_panels, panel, np.uint32(k))
            multiply_line(sums, left_panels, right_panels, panel, np.uint32(k + 1))

    return multiply, row_of, col_of


def _on_tensor_cores(depth: int, part_rows: int, part_cols: int, across: int):
    """multiply, row_of and col_of for parts of one warp, which consist of products that are one
    instruction; each of them leaves a thread four sums."""
    products_across = part_cols // MMA_COLS
    products = part_rows // MMA_ROWS * products_across

    @device
    def product_row(product):
        warp = np.uint32(cuda.threadIdx.x) // LANES
        return np.uint32(warp // across * part_rows + product // products_across * MMA_ROWS)

    @device
    def product_col(product):
        warp = np.uint32(cuda.threadIdx.x) // LANES
        return np.uint32(warp % across * part_cols + product % products_across * MMA_COLS)

    @device
    def row_of(i, j):
        return np.uint32(product_row(i) + sum_row(j))

    @device
    def col_of(i, j):
        return np.uint32(product_col(i) + sum_col(j))

    @device
    def multiply(sums, left_panels, right_panels, panel):
        for k in range(0, depth, MMA_DEPTH):
            for product in range(products):
                multiply_accumulate(
                    sums, 4 * product, left_panels, right_panels, panel, k,
                    product_row(product), product_col(product),
                )  # fmt: skip

    return multiply, row_of, col_of


@device
def finish(total, bias, channel, relu, zero):
    """What is stored of a sum. bias: an array or None; with relu, NaN stays NaN."""
    if bias is not None:
        total = total + bias[channel]
    return zero if relu and total < zero else total


@kernel
def _combine(real, bits):
    """out = Σ parts, one after the other, with bias and relu. Memory-bound: each number is read
    once, by neighbours from neighbouring places. Every thread owns its elements of out."""
    index = index_type(bits)

    def combine(out, parts, bias, relu, elements, splits, channels):
        for i in range(cuda.grid(1), elements, cuda.gridsize(1)):
            total = parts[index(i)]
            for split in range(1, splits):
                total += parts[index(index(split) * index(elements) + index(i))]
            channel = index(index(i) % index(channels))
            out[index(i)] = finish(total, bias, channel, relu, real(0))

    return combine


def combine(
    out: DeviceArray,
    parts: DeviceArray,
    bias: DeviceArray | None,
    relu: bool,
    splits: int,
) -> None:
    """out from the results of each span, which lie in `parts` one after the other."""
    variant = _combine(out.dtype, index_bits(parts.size))
    launch(variant, over(out.size), out, parts, bias, relu, out.size, splits, out.shape[-1])
