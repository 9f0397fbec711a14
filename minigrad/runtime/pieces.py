"""Free memory as pieces that are cut and joined: best fit, as in Knuth, The Art of Computer
Programming, vol. 1, 2.5. Numbers alone: what lies at the addresses is memory.py's business."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator


class Pieces:
    """Free pieces, none of which touches another.

    An exception amid these steps, as Ctrl-C is one, may cost a piece, but none is ever cut twice:
    `_sizes` alone says what is free, and the others where to look.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}  # by start
        self._starts: dict[int, int] = {}  # by end
        self._by_size: list[tuple[int, int]] = []  # (size, start), ascending

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(start, size) of each."""
        return iter(sorted(self._sizes.items()))

    def cut(self, size: int) -> int:
        """Where the smallest piece of so many bytes begins, whose rest stays free; 0 if none is."""
        while True:
            at = bisect_left(self._by_size, (size,))
            if at == len(self._by_size):
                return 0
            held, start = self._by_size.pop(at)
            if self._sizes.get(start) != held:
                continue  # an exception has left it
            del self._sizes[start]
            self._starts.pop(start + held, None)
            if held > size:
                self._add(start + size, held - size)
            return start

    def join(self, start: int, size: int) -> None:
        """So many bytes become free, one piece with what is free before and behind them."""
        before = self._starts.get(start, start)
        held = self.take(before)
        if before + held == start:
            start, size = before, held + size
        elif held:
            self._add(before, held)
        self._add(start, size + self.take(start + size))

    def take(self, start: int) -> int:
        """The piece that begins there is free no more. Returns its size; 0 if none does."""
        size = self._sizes.pop(start, 0)
        if size:
            self._starts.pop(start + size, None)
            at = bisect_left(self._by_size, (size, start))
            if self._by_size[at : at + 1] == [(size, start)]:
                del self._by_size[at]
        return size

    def _add(self, start: int, size: int) -> None:
        self._sizes[start] = size
        self._starts[start + size] = start
        insort(self._by_size, (size, start))
