"""Products of matrices, tile by tile: what the kernels of matmul.py and conv.py have in common.

A block of threads owns a tile of `rows` × `cols` results, so each of them has one owner. Along the
sum it goes in steps of `depth`: the threads fetch a (rows, depth) panel of the left matrix and a
(depth, cols) panel of the right one into shared memory, where each number is used cols or rows
times, and every thread keeps part_rows × part_cols results in registers, so that a number read from
shared memory is used several times as well. There are two pairs of panels: while one is multiplied,
the next is on its way from memory, and one barrier a step suffices.

A panel's lines are what is contiguous in memory: along its side (rows or columns), or along the
sum. So it is fetched, stored and read in vectors of 16 bytes; only a matrix whose lines do not
start at multiples of 16 bytes is fetched number by number.

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
from typing import Any, NamedTuple

import numpy as np

from ...backends import cuda as settings
from ...runtime.cuda.array import DeviceArray
from ...runtime.cuda.driver import driver
from ._device import cuda, device, limited
from ._index import index_bits, index_type
from ._launch import kernel, launch
from ._ptx import (
    LANES,
    MMA_COLS,
    MMA_DEPTH,
    MMA_ROWS,
    multiply_accumulate,
    outer_products,
    sum_col,
    sum_row,
    to_tf32,
    vectors,
)
from ._span import fit, quotient
from ._span import span as span_of

TENSOR_CORES_SINCE = 80  # with TF32
VECTOR = 16  # bytes


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

    @property
    def step_instructions(self) -> float:
        """About how many instructions a thread executes in one step of `depth` terms."""
        fetched = (self.rows + self.cols) * self.depth / 4 / self.threads
        numbers = self.part_rows * self.part_cols * self.depth
        if self.tensor:  # one for a product of 16 × 8 × 8, six to read its factors
            return numbers / 1024 * 7 + FETCH * fetched + _LOOP
        reads = (self.part_rows + self.part_cols) * self.depth / 4
        return numbers + READ * reads + FETCH * fetched + _LOOP


# Instructions for a vector on its way to a panel, for reading one from there, which keeps shared
# memory busy for longer than its one instruction, and for a step.
FETCH, READ, _LOOP = 15, 2, 30


# The threads are a multiple of the rows, so that what they fetch along the rows is of one row each:
# all but that of 128 × 16.
_SINGLE_TILES = (
    Tile(128, 128, 16, 8, 8),
    Tile(64, 64, 16, 8, 4),
    Tile(128, 32, 16, 8, 4),
    Tile(128, 16, 16, 8, 4),
    Tile(96, 32, 16, 8, 4),  # rows of a 3×3 filter with 32 channels: 288
    Tile(96, 16, 16, 4, 4),
    Tile(64, 32, 16, 4, 4),
    Tile(64, 16, 16, 4, 4),
    Tile(32, 16, 16, 4, 4),
)
_TILES = {
    "single": _SINGLE_TILES,
    # More sums in float64 take more registers than there are.
    "double": tuple(tile for tile in _SINGLE_TILES if tile.part_rows == 4),
    "tensor": (
        Tile(128, 64, 16, 32, 32, tensor=True),
        Tile(64, 32, 16, 32, 16, tensor=True),
    ),
}

# Warps that keep a large GPU busy: 16 for each of 132 multiprocessors. A constant, lest results
# depend on the device.
WARPS = 2112
_LEAST_SPAN = 64  # terms of a sum that are worth a block
COMBINED = 6  # instructions that a split costs for each result, with its way through memory


class Plan(NamedTuple):
    """How a product is shared out. cost: about how many instructions that takes, of all threads."""

    cost: float
    tile: Tile
    blocks: int
    splits: int
    span: int

    @property
    def shape(self) -> tuple[tuple[int], tuple[int]]:
        return (self.blocks * self.splits,), (self.tile.threads,)


def plan(
    rows: int, cols: int, terms: int, batch: int, dtype: np.dtype, by_rows: bool = False
) -> Plan:
    """For `batch` products of (rows, terms) by (terms, cols). by_rows: with a tile whose threads
    are a multiple of its rows."""
    kind = "tensor" if on_tensor_cores(dtype) else "double" if dtype.char == "d" else "single"
    return _plan(kind, rows, cols, terms, batch, by_rows)


@lru_cache(1024)  # a network asks for the same few at every step
def _plan(kind: str, rows: int, cols: int, terms: int, batch: int, by_rows: bool) -> Plan:
    def share(tile: Tile) -> Plan:
        blocks = batch * tile.blocks(rows, cols)
        warps = max(blocks, 1) * (tile.threads // LANES)
        splits = max(1, min(WARPS // warps, terms // _LEAST_SPAN))
        span = max(tile.depth, -(-terms // (splits * tile.depth)) * tile.depth)
        splits = max(1, -(-terms // span))
        # Idle multiprocessors cost as much as busy ones.
        threads = max(blocks * splits * tile.threads, WARPS * LANES)
        steps = -(-span // tile.depth) + 1
        combined = COMBINED * splits * batch * rows * cols if splits > 1 else 0
        return Plan(threads * steps * tile.step_instructions + combined, tile, blocks, splits, span)

    tiles = [tile for tile in _TILES[kind] if not by_rows or tile.threads % tile.rows == 0]
    return min(map(share, tiles), key=lambda plan: plan.cost)


def on_tensor_cores(dtype: np.dtype) -> bool:
    """Whether products in this dtype are rounded to TF32."""
    return (
        settings.allow_tf32
        and dtype.char == "f"
        and driver().lowest_compute_capability >= divmod(TENSOR_CORES_SINCE, 10)
    )


def scratch_size(
    rows: int, cols: int, terms: int, batch: int, results: int, by_rows: bool = False
) -> int:
    """Elements of scratch that `plan` needs for `results` numbers in all, in any dtype."""
    splits = max(_plan(kind, rows, cols, terms, batch, by_rows).splits for kind in _TILES)
    return results * splits if splits > 1 else 0


def vector_width(length: int, *arrays: DeviceArray) -> int:
    """How many numbers one instruction may load from lines of this length: 16 bytes of them where
    each line of each array starts at a multiple of 16 bytes, else one."""
    width = VECTOR // arrays[0].dtype.itemsize
    aligned = length % width == 0 and all(each.pointer % VECTOR == 0 for each in arrays)
    return width if aligned else 1


class Panel(NamedTuple):
    """(side, depth) numbers of a matrix in shared memory. along_side: its lines are along the side,
    one for each term of the sum, else along the sum. width: what is fetched at a time."""

    side: int
    depth: int
    threads: int
    along_side: bool
    width: int
    tensor: bool

    @property
    def pitch(self) -> int:
        """From one line to the next: padded so that the threads of a warp find what they read in
        different banks."""
        if self.along_side:
            return self.side + (8 if self.tensor else 0)
        return self.depth + 4

    @property
    def size(self) -> int:
        return (self.depth if self.along_side else self.side) * self.pitch

    @property
    def strides(self) -> tuple[int, int]:
        """From a row (column) to the next, from a term of the sum to the next."""
        return (1, self.pitch) if self.along_side else (self.pitch, 1)

    @property
    def fetches(self) -> int:
        """Of each thread, `width` numbers each."""
        return -(-self.side * self.depth // (self.width * self.threads))

    def function(self) -> Any:
        """place(i): (position along the side, along the sum) of the first number of a thread's i-th
        fetch. It may lie beyond the panel. Neighbouring threads are neighbours on a line."""
        line = (self.side if self.along_side else self.depth) // self.width
        threads, width, along_side = self.threads, self.width, self.along_side
        whole = threads % line == 0  # all fetches of a thread are at one place of their lines

        @device
        def place(i):
            thread = np.uint32(cuda.threadIdx.x)
            if whole:
                across = np.uint32(thread % line * width)
                down = np.uint32(thread // line + i * (threads // line))
            else:
                thread = np.uint32(thread + i * threads)
                across, down = np.uint32(thread % line * width), np.uint32(thread // line)
            return (across, down) if along_side else (down, across)

        return place


class TileFunctions(NamedTuple):
    """Of kernels with one tile. sums[i·sums_j + j] of a thread is the result in row_of(i, j),
    col_of(i, j) of the tile."""

    sums_i: int
    sums_j: int
    left: Panel
    right: Panel
    place_left: Any
    place_right: Any
    fetch_left: Any
    fetch_right: Any
    advance: Any
    row_of: Any
    col_of: Any


def tile_functions(
    tile: Tile, real: Any, left_along_side: bool, right_along_side: bool,
    left_width: int, right_width: int,
) -> TileFunctions:  # fmt: skip
    """Device functions for kernels with this tile, whose panels are fetched along their sides or
    along the sum, in vectors of these widths."""
    rows, cols, depth, part_rows, part_cols, tensor = tile
    threads = tile.threads
    left = Panel(rows, depth, threads, left_along_side, left_width, tensor)
    right = Panel(cols, depth, threads, right_along_side, right_width, tensor)
    place_left, place_right = left.function(), right.function()
    (fetch_left, put_left), (fetch_right, put_right) = vectors(left_width), vectors(right_width)
    lefts, rights, left_size, right_size = left.fetches, right.fetches, left.size, right.size
    left_side, left_term = left.strides
    right_side, right_term = right.strides
    left_whole = lefts * threads * left_width == rows * depth
    right_whole = rights * threads * right_width == cols * depth

    @device
    def advance(step, sums, left_panels, right_panels, left_next, right_next):
        """Put the fetched numbers into the panels of this step and multiply those of the last."""
        if step > 0:
            last = np.uint32((step - 1) & 1)
            multiply(sums, left_panels, last * left_size, right_panels, last * right_size)
        if tensor:
            for i in range(lefts * left_width):
                left_next[i] = to_tf32(left_next[i])
            for i in range(rights * right_width):
                right_next[i] = to_tf32(right_next[i])
        left_start = np.uint32((step & 1) * left_size)
        right_start = np.uint32((step & 1) * right_size)
        for i in range(lefts):
            row, k = place_left(i)
            if left_whole or (row < rows and k < depth):
                at = np.uint32(left_start + row * left_side + k * left_term)
                put_left(left_panels, at, left_next, i * left_width)
        for i in range(rights):
            col, k = place_right(i)
            if right_whole or (col < cols and k < depth):
                at = np.uint32(right_start + col * right_side + k * right_term)
                put_right(right_panels, at, right_next, i * right_width)
        cuda.syncthreads()

    if tensor:
        multiply, row_of, col_of = _on_tensor_cores(tile, left, right)
        sums_i, sums_j = part_rows // MMA_ROWS * (part_cols // MMA_COLS), 4
    else:
        multiply, row_of, col_of = _on_threads(tile, left, right, VECTOR // np.dtype(real).itemsize)
        sums_i, sums_j = part_rows, part_cols
    return TileFunctions(
        sums_i, sums_j, left, right, place_left, place_right, fetch_left, fetch_right,
        advance, row_of, col_of,
    )  # fmt: skip


def _on_threads(tile: Tile, left: Panel, right: Panel, width: int) -> tuple[Any, Any, Any]:
    """multiply, row_of and col_of for parts of one thread. Lines along the side are shared out in
    vectors, lines along the sum one by one, so that the reads of a warp do not collide."""
    across = tile.cols // tile.part_cols

    def shares(panel: Panel, parts: int) -> tuple[int, tuple[int, int, int]]:
        """From a thread's first number to its neighbour's; the strides of its numbers."""
        side, term = panel.strides
        if panel.along_side:
            return width * side, (side, width * parts * side, term)
        return side, (parts * side, width * parts * side, term)

    down = tile.rows // tile.part_rows
    left_step, left_strides = shares(left, down)
    right_step, right_strides = shares(right, across)
    products = outer_products(
        tile.part_rows, tile.part_cols, tile.depth, width, left_strides, right_strides
    )
    row_run, col_run = left.along_side, right.along_side

    @device
    def spread(part, i, parts, runs):
        if runs:
            return np.uint32((i // width * parts + part) * width + i % width)
        return np.uint32(i * parts + part)

    @device
    def row_of(i, j):
        return spread(np.uint32(cuda.threadIdx.x) // across, i, down, row_run)

    @device
    def col_of(i, j):
        return spread(np.uint32(cuda.threadIdx.x) % across, j, across, col_run)

    @device
    def multiply(sums, left_panels, left_start, right_panels, right_start):
        thread = np.uint32(cuda.threadIdx.x)
        left_at = np.uint32(left_start + thread // across * left_step)
        right_at = np.uint32(right_start + thread % across * right_step)
        products(sums, left_panels, left_at, right_panels, right_at)

    return multiply, row_of, col_of


def _on_tensor_cores(tile: Tile, left: Panel, right: Panel) -> tuple[Any, Any, Any]:
    """multiply, row_of and col_of for parts of one warp, which consist of products that are one
    instruction; each of them leaves a thread four sums."""
    depth, part_rows, part_cols = tile.depth, tile.part_rows, tile.part_cols
    across = tile.cols // part_cols
    products_across = part_cols // MMA_COLS
    products = part_rows // MMA_ROWS * products_across
    left_strides, right_strides = left.strides, right.strides

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
    def multiply(sums, left_panels, left_start, right_panels, right_start):
        for k in range(0, depth, MMA_DEPTH):
            for product in range(products):
                left_at = left_start + product_row(product) * left_strides[0] + k * left_strides[1]
                right_at = right_start + product_col(product) * right_strides[0]
                multiply_accumulate(
                    sums, 4 * product, left_panels, left_at, left_strides,
                    right_panels, right_at + k * right_strides[1], right_strides,
                )  # fmt: skip

    return multiply, row_of, col_of


@device
def split_off(block, length, tile):
    """A block's number counts the tiles of a length first: (where its tile starts, as wide as the
    length; what else the number counts)."""
    tiles = quotient(fit(length + tile - 1, length), tile)
    rest = quotient(block, tiles)
    return fit((block - rest * tiles) * tile, length), rest


@device
def biased(total, bias, channel):
    """bias: an array or None."""
    return total if bias is None else total + bias[channel]


@kernel
def _combine(real, width, lanes, bits):
    """out = Σ parts + bias, limited. Memory-bound: each number is read once, by neighbours from
    neighbouring places, `width` at a time. `lanes` threads share the parts of an element: each adds
    up every lanes-th of them, then the first adds the lanes' sums, in order."""
    index, uint32 = index_type(bits), np.uint32
    columns = _COMBINING // lanes
    size = _COMBINING * width
    fetch, put = vectors(width)

    def combine(out, parts, bias, least, most, elements, splits, channels):
        panel = cuda.shared.array(size, real, 16)
        total, part = cuda.local.array(width, real), cuda.local.array(width, real)
        thread = uint32(cuda.threadIdx.x)
        lane = uint32(thread // columns) if lanes > 1 else uint32(0)
        column = uint32(thread % columns)
        first = index((index(cuda.blockIdx.x) * index(columns) + index(column)) * index(width))
        inside = first < elements
        at = index(index(lane) * index(elements) + first)
        fetch(total, 0, parts, at, inside)
        if inside:
            for _ in span_of(lane + lanes, splits, lanes):
                at = index(at + index(lanes) * index(elements))
                fetch(part, 0, parts, at, True)
                for c in range(width):
                    total[c] += part[c]
        if lanes > 1:
            put(panel, uint32(thread * width), total, 0)
            cuda.syncthreads()
        if inside and lane == 0:
            for other in range(1, lanes):
                fetch(part, 0, panel, uint32((other * columns + column) * width), True)
                for c in range(width):
                    total[c] += part[c]
            for c in range(width):
                at = index(first + index(c))
                channel = index(at - quotient(at, channels) * channels) if bias is not None else at
                total[c] = limited(biased(total[c], bias, channel), least, most)
            put(out, first, total, 0)

    return combine


_COMBINING = 128  # threads of a block


def combine(
    out: DeviceArray,
    parts: DeviceArray,
    bias: DeviceArray | None,
    bounds: tuple[float, float],
    splits: int,
) -> None:
    """out from the results of each span, which lie in `parts` one after the other."""
    width = vector_width(out.size, out, parts)
    lanes = 1 if splits <= 16 else 8 if splits <= 128 else 32
    variant = _combine(out.dtype, width, lanes, index_bits(parts.size))
    shape = (-(-out.size * lanes // (_COMBINING * width)),), (_COMBINING,)
    launch(variant, shape, out, parts, bias, *bounds, out.size, splits, out.shape[-1])
