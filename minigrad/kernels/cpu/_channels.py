"""Sums of channels over the rows of (rows, C) arrays, in vectors of MANY channels.

A vector of float64 sums stays in registers while a block of lines is walked down, and in memory
between the blocks: added in memory, an element would cost five accesses of eight bytes.

A table has a row for each sum and each constant of a channel, `width` places long, which is the
length of a line: whole rows of the array, so that place j belongs to channel j % C. The last vector
of a line may overlap the one before. Its first `skip` lanes, which that one has added, stay as they
were.
"""

from __future__ import annotations

from math import lcm

from ._jit import helper, inlined
from ._simd import whole_registers
from ._vector import (
    add,
    from_lane,
    load,
    multiply_add,
    select,
    store,
    subtract,
    widen,
)

MANY = 16
_LONGEST = 512
# Elements of a block: they stay in the first-level cache.
_BLOCK = 4096


def sum_width(C: int) -> int:
    """Elements of a line: the fewest rows that are whole vectors, or one row of more than MANY."""
    whole = lcm(C, MANY)
    return whole if whole <= _LONGEST else C


@inlined
def block_size(width):
    """Elements of a block of whole lines."""
    return max(1, _BLOCK // width) * width


def _make_sums(lanes: int):
    @inlined
    def add_sums(sums, c, skip, input, start, lines):
        # Places c to c + lanes of every line.
        before = total = load(lanes, sums, c)
        for line in range(lines):
            total = add(total, widen(load(lanes, input, start + line * sums.size + c)))
        store(sums, c, select(from_lane(lanes, skip), total, before))

    return add_sums


_sums_many, _sums_one = _make_sums(MANY), _make_sums(1)


@helper
def add_sums(sums, input, start, end):
    """Add elements start to end of the flat input to the sums of their places in the line."""
    whole_registers()
    width = sums.size
    lines = (end - start) // width
    for place in range(0, width, MANY):
        c = min(place, width - MANY)
        _sums_many(sums, c, place - c, input, start, lines)
    rest = start + lines * width
    for c in range(end - rest):
        _sums_one(sums, c, 0, input, rest, 1)


def _make_moments(lanes: int):
    @inlined
    def add_moments(table, c, skip, input, start, lines):
        # Places c to c + lanes of every line; table: (shift, Σ (x − shift), Σ (x − shift)²).
        width = table.shape[1]
        shift, own = load(lanes, table, c), from_lane(lanes, skip)
        before = total = load(lanes, table, width + c)
        squares_before = squares = load(lanes, table, 2 * width + c)
        for line in range(lines):
            d = subtract(widen(load(lanes, input, start + line * width + c)), shift)
            total = add(total, d)
            squares = multiply_add(d, d, squares)
        store(table, width + c, select(own, total, before))
        store(table, 2 * width + c, select(own, squares, squares_before))

    return add_moments


_moments_many, _moments_one = _make_moments(MANY), _make_moments(1)


@helper
def add_moments(table, input, start, end, first, last):
    """Add elements start to end of the flat input, in columns `first` to `last` of every line; all
    columns if the last line is shorter."""
    whole_registers()
    width = table.shape[1]
    lines = (end - start) // width
    for place in range(first, last, MANY):
        c = min(place, last - MANY)
        _moments_many(table, c, place - c, input, start, lines)
    rest = start + lines * width
    for c in range(end - rest):
        _moments_one(table, c, 0, input, rest, 1)


def _make_products(lanes: int):
    @inlined
    def add_products(table, c, skip, grad_output, input, start, lines):
        # As above; table: (μ, Σ g, Σ g·(x − μ)).
        width = table.shape[1]
        centre, own = load(lanes, table, c), from_lane(lanes, skip)
        before = grads = load(lanes, table, width + c)
        products_before = products = load(lanes, table, 2 * width + c)
        for line in range(lines):
            at = start + line * width + c
            grad = widen(load(lanes, grad_output, at))
            grads = add(grads, grad)
            d = subtract(widen(load(lanes, input, at)), centre)
            products = multiply_add(grad, d, products)
        store(table, width + c, select(own, grads, before))
        store(table, 2 * width + c, select(own, products, products_before))

    return add_products


_products_many, _products_one = _make_products(MANY), _make_products(1)


@helper
def add_products(table, grad_output, input, start, end, first, last):
    """As `add_moments`, for the sums of g and g·(x − μ)."""
    whole_registers()
    width = table.shape[1]
    lines = (end - start) // width
    for place in range(first, last, MANY):
        c = min(place, last - MANY)
        _products_many(table, c, place - c, grad_output, input, start, lines)
    rest = start + lines * width
    for c in range(end - rest):
        _products_one(table, c, 0, grad_output, input, rest, 1)
