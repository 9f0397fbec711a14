"""How threads share work along the middle axis of C-ordered (outer, R, inner) arrays.

Every reduction here has this form: rows (rows, C) along C are (rows, C, 1), channels (rows, C)
over the rows are (1, rows, C). R is cut into chunks. A block works on one chunk of `tile`
neighbouring columns of inner, at `groups` neighbouring outer indices o; `depth` threads, the lanes,
share each column:

    thread = (o's place in the block · depth + lane) · tile + column's place in the tile

Lane k takes the rows k, k + depth, … of the chunk. So neighbouring threads read neighbouring
addresses, whether inner is 1 (then they lie along R) or large, and short rows share a block.

A plan follows from the shape alone, and `fold` (_reduce.py) combines the lanes in a tree: results
do not depend on scheduling.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._device import THREADS, Blocks, cuda, device
from ._span import fit, quotient

WIDE = 512  # threads of a block that has long rows to itself

_TILE = 64  # columns: at least 256 neighbouring bytes, where there are as many
_PER_LANE = 4  # elements, at least
AT_ONCE = 4  # rows that a lane loads before it uses the first: memory answers late, but many


class Plan(NamedTuple):
    """cut: (tile, tiles, depth, groups, outer, rows of a chunk), as kernels get it. shape: grid and
    block; blockIdx.y is the chunk."""

    threads: int
    chunks: int
    cut: tuple[int, ...]
    shape: tuple[Blocks, Blocks]


def _plan(outer: int, R: int, inner: int, chunk: int, most: int, bits: int = 32) -> Plan:
    """chunk: elements of a tile's columns in a chunk, at least. most: blocks for the whole. bits:
    of the kernel's indices; with 64 it can need more registers than wide blocks have."""
    columns = max(_TILE, THREADS * _PER_LANE // max(R, 1))
    tiles = -(-inner // min(inner, columns, THREADS))
    tile = -(-inner // tiles)
    chunks = max(1, min(R * tile // chunk, most // (outer * tiles)))
    rows = max(1, -(-R // chunks))
    chunks = max(1, -(-R // rows))
    threads = WIDE if bits == 32 and rows * tile >= 16 * WIDE else THREADS
    depth = max(1, min(threads // tile, -(-rows // _PER_LANE)))
    groups = min(outer, threads // (tile * depth))
    grid = -(-outer // groups) * tiles, chunks
    return Plan(threads, chunks, (tile, tiles, depth, groups, outer, rows), (grid, (threads,)))


def reduction(outer: int, R: int, inner: int, bits: int = 32) -> Plan:
    """In two stages, if it has more than one chunk; outer and inner are not 0."""
    return _plan(outer, R, inner, 4096, 512, bits)


def whole(outer: int, R: int, inner: int) -> Plan:
    """In one chunk."""
    return _plan(outer, R, inner, 1, 1)


def spread(outer: int, R: int, inner: int, bits: int = 32) -> Plan:
    """For work on each element with values that belong to its column: a thread loads them once."""
    return _plan(outer, R, inner, 1024, 16384, bits)


@device
def place(tile, tiles, depth, groups, outer, inner):
    """(o, column, lane) of this thread, as wide as outer, inner and depth. A thread that has no
    part gets o = −1 and lane = depth."""
    at, block = cuda.threadIdx.x, cuda.blockIdx.x
    row = quotient(at, tile)
    group = quotient(row, depth)
    stripe = quotient(block, tiles)
    o = np.int64(stripe) * groups + group
    column = np.int64(block - stripe * tiles) * tile + (at - row * tile)
    if group >= groups or o >= outer or column >= inner:
        return fit(-1, outer), fit(column, inner), fit(depth, depth)
    return fit(o, outer), fit(column, inner), fit(row - group * depth, depth)


@device
def chunk_of(k, each, n):
    """[first, end) of the k-th chunk of `each` of n elements, as wide as n."""
    first, size = np.int64(k) * each, np.int64(n)
    return fit(min(first, size), n), fit(min(first + each, size), n)


@device
def rows_of(lane, rows, R):
    """The lane's first row in the block's chunk of `rows` rows, and the chunk's end, as wide as
    R."""
    first = np.int64(cuda.blockIdx.y) * rows
    return fit(first + lane, R), fit(min(first + rows, np.int64(R)), R)


@device
def load_rows(values, array, at, stride, r, depth, end):
    """values[k] = array[at + k·stride] for all k below AT_ONCE: of the rows r + k·depth, a stride
    apart. For those from `end` on, which is above r, row r's again."""
    for k in range(AT_ONCE):
        values[k] = array[at + k * stride if r + k * depth < end else at]
