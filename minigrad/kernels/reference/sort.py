"""Sorting by its definition: the order in which each next element is the first of the smallest."""

from __future__ import annotations


def _before(left, right, descending):
    """Whether left must come before right. NaN counts as the largest number."""
    left_nan, right_nan = left != left, right != right
    if left_nan or right_nan:
        return left_nan < right_nan if not descending else left_nan > right_nan
    return left > right if descending else left < right


def argsort_forward(indices, input, scratch, descending):
    """Insertion sort: each element moves in front of those that it must come before.

    Equal elements never pass one another, so the order is stable.
    """
    rows, n = input.shape
    for r in range(rows):
        order = []
        for i in range(n):
            place = len(order)
            while place > 0 and _before(input[r, i], input[r, order[place - 1]], descending):
                place -= 1
            order.insert(place, i)
        for place in range(n):
            indices[r, place] = order[place]
