"""Sums and maxima over the threads of a block, in an order that the block's size alone decides."""

from __future__ import annotations

from ._device import cuda, device


@device
def block_sum(partial, value, threads):
    """Σ value over the block's threads, for all of them. partial: shared, `threads` long; threads
    is a power of two. The order is a tree, so rounding grows with log₂ threads only."""
    at = cuda.threadIdx.x
    partial[at] = value
    cuda.syncthreads()
    half = threads // 2
    while half > 0:
        if at < half:
            partial[at] += partial[at + half]
        cuda.syncthreads()
        half //= 2
    total = partial[0]
    cuda.syncthreads()
    return total


@device
def block_max(partial, value, threads):
    """The largest value of the block's threads, NaN if one is NaN, for all of them."""
    at = cuda.threadIdx.x
    partial[at] = value
    cuda.syncthreads()
    half = threads // 2
    while half > 0:
        if at < half:
            other = partial[at + half]
            if other > partial[at] or other != other:
                partial[at] = other
        cuda.syncthreads()
        half //= 2
    largest = partial[0]
    cuda.syncthreads()
    return largest


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
