"""Sorting: the positions of the elements of each row in order.

A merge sort that moves only positions. Every element works out alone where it goes: its rank in its
own sorted run is known, a binary search gives the rank in the neighbouring run, and the sum is its
place in the merged one. So rows of any length, few or many, keep all threads busy, and nothing
needs padding, shared memory or a barrier.
"""

from __future__ import annotations

from ._device import cuda, device
from ._index import arithmetic, index_bits
from ._launch import kernel, launch, over
from ._span import span

_RUN = 32  # elements that are sorted by counting, before the first merge


@device
def _before(left, right, descending):
    """Whether left must come before right. NaN counts as the largest number."""
    if left != left or right != right:
        return right == right if descending else left == left
    return left > right if descending else left < right


@kernel
def _sort_runs(_, bits, run):
    # R·n·run comparisons. Each thread owns the element whose rank it counts; a run is in cache, and
    # all its threads read the same element of it. Of equal elements the first comes first.
    index, divide, _ = arithmetic(bits)

    def sort_runs(order, keys, total, n, descending):
        for at in span(cuda.grid(1), total, cuda.gridsize(1)):
            row = index(divide(at, n) * n)
            i = index(at - row)
            start = index(divide(i, run) * run)
            key, place = keys[at], start
            for other in range(start, min(start + run, n)):
                first = _before(keys[row + other], key, descending)
                if first or (other < i and not _before(key, keys[row + other], descending)):
                    place += 1
            order[row + place] = i

    return sort_runs


@kernel
def _merge(_, bits):
    # R·n·log₂(width) comparisons: two sorted runs of `width` become one. Each thread owns one
    # position and moves it.
    #
    # An element of the left run follows the elements of the right one that must come before it; one
    # of the right run also those of the left one that equal it. So the sort is stable.
    index, divide, _ = arithmetic(bits)

    def merge(merged, order, keys, total, n, width, descending):
        for at in span(cuda.grid(1), total, cuda.gridsize(1)):
            row = index(divide(at, n) * n)
            place = index(at - row)
            start = index(divide(place, 2 * width) * (2 * width))
            middle = min(start + width, n)
            from_left = place < middle
            position = order[at]
            key = keys[row + position]
            # How many elements of the other run, [first, low), precede.
            first = middle if from_left else start
            low, high = first, min(start + 2 * width, n) if from_left else middle
            while low < high:
                half = (low + high) >> 1
                other = keys[row + order[row + half]]
                precedes = not _before(key, other, descending)
                if from_left:
                    precedes = _before(other, key, descending)
                if precedes:
                    low = half + 1
                else:
                    high = half
            rank = place - start if from_left else place - middle
            merged[row + start + rank + low - first] = position

    return merge


def argsort_forward_workspace(shape) -> int:
    return shape[0] * shape[1]


def argsort_forward(indices, input, scratch, descending):
    total, n = input.size, input.shape[1]
    bits = index_bits(2 * total)
    widths = []
    while _RUN << len(widths) < n:
        widths.append(_RUN << len(widths))
    # To and fro between the two arrays, so that the last merge ends in `indices`.
    order, merged = (scratch, indices) if len(widths) % 2 else (indices, scratch)
    launch(_sort_runs(input.dtype, bits, _RUN), over(total), order, input, total, n, descending)
    for width in widths:
        variant = _merge(input.dtype, bits)
        launch(variant, over(total), merged, order, input, total, n, width, descending)
        order, merged = merged, order
