"""Sums and maxima over the threads of a block, in an order that the block's size alone decides."""

from __future__ import annotations

import numpy as np

from ._device import cuda, device, isnan

SUM, PRODUCT, MAX = 0, 1, 2


@device
def fold(shared, value, tile, depth, lane, kind):
    """The sum, product or maximum over the lanes of each column, for all of them; the maximum of
    NaN and anything is NaN. Where columns and lanes are: _middle.py. shared: one number a thread.

    All threads of the block take part. The order is a tree: rounding grows with log₂ depth only.
    """
    at = cuda.threadIdx.x
    first = at - lane * tile if lane < depth else at
    shared[at] = value
    cuda.syncthreads()
    left = depth
    while left > 1:
        half = (left + 1) >> 1
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


@device
def block_sum(partial, value, threads):
    """Σ value over the block's threads, for all of them. partial: shared, `threads` long."""
    return fold(partial, value, 1, threads, cuda.threadIdx.x, SUM)


@device
def block_max(partial, value, threads):
    """The largest value of the block's threads, NaN if one is NaN, for all of them."""
    return fold(partial, value, 1, threads, cuda.threadIdx.x, MAX)


@device
def add_compensated(total, rest, value):
    """(total + value rounded, rest + what rounding took): total + rest is the sum to the last bits,
    however many terms it has, without wider arithmetic. Source: Knuth, TAOCP vol. 2, §4.2.2."""
    larger = total + value
    share = larger - total
    lost = (total - (larger - share)) + (value - share)
    # Of an infinity nothing is lost, though inf − inf is NaN.
    return larger, rest + lost if lost == lost else rest


@device
def exact_sum(total, rest):
    """What add_compensated has summed up, in float64: once a thread, where that costs little."""
    return np.float64(total) + np.float64(rest)


@device
def block_scan(partial, value, threads):
    """(Σ value over the threads before this one, over all of them), for integers, whose order does
    not matter. partial: shared, `threads` long."""
    at = cuda.threadIdx.x
    partial[at] = value
    cuda.syncthreads()
    reach = 1
    while reach < threads:
        before = partial[at - reach] if at >= reach else 0
        cuda.syncthreads()
        partial[at] += before
        cuda.syncthreads()
        reach *= 2
    before, total = partial[at] - value, partial[threads - 1]
    cuda.syncthreads()
    return before, total
