"""How threads share work along the middle axis of C-ordered (outer, R, inner) arrays.

Every reduction here has this form: rows (rows, C) along C are (rows, C, 1), channels (rows, C)
over the rows are (1, rows, C). R is cut into chunks; a task is one outer index and one chunk. A
block takes `tile` neighbouring columns of inner, for one task or several, and `depth` threads, the
lanes, share each column of a task:

    thread = (task in the block · depth + lane) · tile + column

Lane k takes the rows k, k + depth, … of the chunk. So neighbouring threads read neighbouring
addresses, whether inner is 1 (then they lie along R) or large, and short rows share a block.

A plan follows from the shape alone, and lanes are combined in a tree: results do not depend on
scheduling.
"""

from __future__ import annotations

from typing import NamedTuple

from ._device import THREADS, Blocks, cuda, device, isnan, size
from ._launch import kernel, launch

WIDE = size(512, simulated=16)  # threads of a block that has long rows to itself

_TILE = size(64, simulated=4)  # columns: at least 256 neighbouring bytes, where there are as many
_PER_LANE = 4  # elements, at least

SUM, PRODUCT, MAX = 0, 1, 2


class Plan(NamedTuple):
    """cut: what kernels get of it. shape: grid and block."""

    threads: int
    chunks: int
    cut: tuple[int, ...]
    shape: tuple[Blocks, Blocks]


def _plan(outer: int, R: int, inner: int, chunk: int, most: int) -> Plan:
    """chunk: elements of a tile's columns in a chunk, at least. most: blocks for the whole."""
    columns = max(_TILE, THREADS * _PER_LANE // max(R, 1))
    tiles = -(-inner // min(inner, columns, THREADS))
    tile = -(-inner // tiles)
    chunks = max(1, min(R * tile // chunk, most // (outer * tiles)))
    threads = WIDE if R * tile // chunks >= 16 * WIDE else THREADS
    depth = max(1, min(threads // tile, -(-R // (chunks * _PER_LANE))))
    tasks = outer * chunks
    blocks = -(-tasks // (threads // (tile * depth))) * tiles
    return Plan(threads, chunks, (tile, tiles, depth, chunks, tasks), ((blocks,), (threads,)))


def reduction(outer: int, R: int, inner: int) -> Plan:
    """In two stages, if it has more than one chunk; outer and inner are not 0."""
    return _plan(outer, R, inner, size(4096, simulated=32), size(512, simulated=6))


def whole(outer: int, R: int, inner: int) -> Plan:
    """In one chunk."""
    return _plan(outer, R, inner, 1, 1)


def spread(outer: int, R: int, inner: int) -> Plan:
    """For work on each element with values that belong to its column: a thread loads them once."""
    return _plan(outer, R, inner, size(1024, simulated=16), size(16384, simulated=6))


@device
def place(tile, tiles, depth, tasks, inner, threads):
    """(task, column, lane) of this thread. One that has no part gets task −1 and lane = depth."""
    at = cuda.threadIdx.x
    groups = threads // (tile * depth)
    group, lane = at // tile // depth, at // tile % depth
    task = cuda.blockIdx.x // tiles * groups + group
    column = cuda.blockIdx.x % tiles * tile + at % tile
    if group >= groups or task >= tasks or column >= inner:
        return -1, column, depth
    return task, column, lane


@device
def fold(shared, value, tile, depth, lane, kind):
    """The sum, product or maximum over the lanes of each column, for all of them; the maximum of
    NaN and anything is NaN. shared: one number a thread. All threads of the block take part."""
    at = cuda.threadIdx.x
    first = at - lane * tile if lane < depth else at
    shared[at] = value
    cuda.syncthreads()
    left = depth
    while left > 1:
        half = (left + 1) // 2
        if lane < left - half:
            other = shared[at + half * tile]
            if kind == SUM:
                shared[at] += other
            elif kind == PRODUCT:
                shared[at] *= other
            elif other > shared[at] or isnan(other):
                shared[at] = other
        cuda.syncthreads()
        left = half
    total = shared[first]
    cuda.syncthreads()
    return total


@kernel
def _column_totals(real, threads):
    def column_totals(first, second, partial, scale, R, C, tile, tiles, depth, chunks, tasks):
        # One addition an element, for two sums at a time. A block owns its tile of columns.
        shared = cuda.shared.array(threads, real)
        task, c, lane = place(tile, tiles, depth, tasks, C, threads)
        total = other = real(0)
        if task >= 0:
            for r in range(lane, R, depth):
                total += partial[r * C + c]
                if second is not None:
                    other += partial[(R + r) * C + c]
        total = fold(shared, total, tile, depth, lane, SUM)
        if second is not None:
            other = fold(shared, other, tile, depth, lane, SUM)
        if lane == 0:
            first[c] = total if scale is None else total * scale[c]
            if second is not None:
                second[c] = other

    return column_totals


def column_totals(first, second, partial, scale, R, C):
    """first[c] = scale[c] · Σ_r partial[0, r, c] and second[c] = Σ_r partial[1, r, c].

    The second stage of sums over rows; partial (2, R, C), or (1, R, C) if second is None. A scale
    of None is 1.
    """
    plan = whole(1, R, C)
    variant = _column_totals(partial.dtype, plan.threads)
    launch(variant, plan.shape, first, second, partial, scale, R, C, *plan.cut)
