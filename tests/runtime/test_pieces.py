"""Free memory: pieces never overlap, grow together, and are cut where least is left over."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.runtime.pieces import Pieces

SEGMENTS = [(1000, 400), (1500, 500)]


def of(*pieces: tuple[int, int]) -> Pieces:
    made = Pieces()
    for piece in pieces:
        made.join(*piece)
    return made


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 200)), max_size=60))
def test_every_byte_is_free_or_lent_once(steps):
    pieces, lent = of(*SEGMENTS), []
    for place, size in steps:
        if place < len(lent) // 2:
            pieces.join(*lent.pop(place))
        elif start := pieces.cut(size):
            lent.append((start, size))
        else:
            assert all(held < size for _, held in pieces)
        places = sorted([*pieces, *lent])
        assert sum(size for _, size in places) == 900
        for (start, size), (following, _) in pairwise(places):
            assert start + size <= following
        ends = {start + size for start, size in pieces}
        assert not ends & {start for start, _ in pieces}, "neighbours that are free are one piece"
    for piece in lent:
        pieces.join(*piece)
    assert list(pieces) == SEGMENTS


def test_the_smallest_piece_that_holds_it_is_cut():
    pieces = of((1000, 30), (2000, 10), (3000, 20), (4000, 10))
    assert pieces.cut(15) == 3000
    assert list(pieces) == [(1000, 30), (2000, 10), (3015, 5), (4000, 10)]
    assert pieces.cut(10) == 2000
    assert pieces.cut(31) == 0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2)])
def test_neighbours_become_one_in_any_order(order):
    parts = [(1000, 10), (1010, 20), (1030, 30)]
    assert list(of(*[parts[i] for i in order])) == [(1000, 60)]


def test_hints_that_lead_nowhere_are_dropped():
    """An exception left them."""
    pieces = of((1000, 100))
    pieces._by_size += [(200, 5000), (300, 1000)]
    pieces._starts[700] = 600
    assert pieces.cut(150) == 0
    assert pieces.cut(100) == 1000
    pieces.join(700, 10)
    assert list(pieces) == [(700, 10)]


@pytest.mark.parametrize("place", ["_sizes", "_starts"])
def test_an_exception_amid_a_call_lends_nothing_twice(place):
    class Interrupted(dict):
        def pop(self, *args: Any) -> Any:
            raise KeyboardInterrupt

        __setitem__ = pop

    for call in (lambda p: p.cut(60), lambda p: p.join(1100, 10), lambda p: p.join(1990, 10)):
        pieces = of((1000, 100), (2000, 50))
        whole = getattr(pieces, place)
        setattr(pieces, place, Interrupted(whole))
        with pytest.raises(KeyboardInterrupt):
            call(pieces)
        setattr(pieces, place, whole)
        lent = [(start, 5) for _ in range(60) if (start := pieces.cut(5))]
        assert len({start for start, _ in lent}) == len(lent)
        places = sorted(lent)
        assert all(a + n <= b for (a, n), (b, _) in pairwise(places))
