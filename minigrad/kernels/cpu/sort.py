"""Sorting: the positions of the elements of each row in order."""

from __future__ import annotations

from ._jit import helper, kernel
from ._tasks import tasks


@helper
def _before(left, right, descending):
    """Whether left must come before right. NaN counts as the largest number."""
    if left != left or right != right:
        return right == right if descending else left == left
    return left > right if descending else left < right


@helper
def _merge(merged, order, keys, start, middle, end, descending):
    """Two sorted runs of `order` become one; of equals, the left run's come first."""
    left, right = start, middle
    for place in range(start, end):
        take_left = left < middle
        if take_left and right < end:
            take_left = not _before(keys[order[right]], keys[order[left]], descending)
        if take_left:
            merged[place] = order[left]
            left += 1
        else:
            merged[place] = order[right]
            right += 1


def argsort_forward_workspace(shape) -> int:
    return shape[0] * shape[1]


@kernel
def argsort_forward(span, indices, input, scratch, descending):
    # Merge sort from runs of one: n·log₂(n) comparisons a row, moving only positions. Parallel over
    # rows: each task owns its row of indices and of scratch, between which the runs go to and fro.
    rows, n = input.shape
    for r in tasks(span, rows):
        order, merged = indices[r], scratch[r * n : (r + 1) * n]
        for i in range(n):
            order[i] = i
        width, moves = 1, 0
        while width < n:
            for start in range(0, n, 2 * width):
                middle, end = min(start + width, n), min(start + 2 * width, n)
                _merge(merged, order, input[r], start, middle, end, descending)
            order, merged = merged, order
            width, moves = 2 * width, moves + 1
        if moves % 2 == 1:
            for i in range(n):
                merged[i] = order[i]
