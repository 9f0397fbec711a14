"""Checks of values on the GPU, which the host learns of later.

A kernel that meets a bad value (a class out of range, a box outside its batch) says where, and the
kernels after it skip what they cannot do. The host does not wait: what was bad is kept in a ledger
in device memory, which the host reads when it waits for the GPU anyway; it raises then what the CPU
raises at once. A ledger has many entries and is read by one copy.

A replay makes the checks of its step anew. An entry of a recorded step therefore keeps the first
bad value until it was read, whatever replays follow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from . import memory
from .array import DeviceArray
from .driver import driver
from .recording import current

ENTRIES = 64  # a loop that never waits is made to wait after so many checks
VALUES = 7  # at most so many values explain what is bad
CELLS = 1 + VALUES  # int64 numbers of an entry: 1 + the place of what is bad, or 0; and its values

Refuse = Callable[[int, Sequence[int | float]], None]
"""Called with the place of a bad value, counted in rows, and the values of that row; raises."""


class Row(NamedTuple):
    """What an entry tells of. width: the number of values, which are float64 or else int64."""

    refuse: Refuse
    width: int
    floating: bool


class Ledger:
    """Entries for up to ENTRIES checks. keeps: whether an entry keeps what it has found."""

    def __init__(self, keeps: bool) -> None:
        self.keeps = keeps
        with memory.lasting():
            self._cells = memory.empty((ENTRIES, CELLS), np.dtype(np.int64))
        self._rows: list[Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def entry(self, row: Row) -> DeviceArray:
        """(CELLS,) int64, for the next check."""
        self._rows.append(row)
        return self._cells[len(self._rows) - 1]

    def clear(self) -> None:
        """Nothing bad was found so far."""
        nothing = np.zeros((ENTRIES, CELLS), np.int64)
        driver().upload(self._cells.pointer, nothing.ctypes.data, nothing.nbytes)

    def read(self) -> None:
        """Wait for the GPU, and raise for the first check that has found something."""
        found = np.empty((len(self), CELLS), np.int64)
        memory.to_host(self._cells[: len(self)], found)
        if self.keeps and found[:, 0].any():
            self.clear()
        for row, entry in zip(self._rows, found, strict=True):
            if entry[0]:
                values = entry[1:].view(np.float64) if row.floating else entry[1:]
                row.refuse(int(entry[0]) - 1, values[: row.width].tolist())


_lock = threading.Lock()
_pending: list[Ledger] = []
_open: Ledger | None = None  # the last of those pending, of checks outside recordings


def defer(row: Row) -> tuple[DeviceArray, bool]:
    """The entry that the next launch shall fill and `run` reads, and whether it keeps what it has
    found."""
    if (recording := current.recording) is not None:
        if not recording.ledgers or len(recording.ledgers[-1]) == ENTRIES:
            recording.ledgers.append(Ledger(keeps=True))
        return recording.ledgers[-1].entry(row), True
    global _open
    with _lock:
        full = _open is not None and len(_open) == ENTRIES
    if full:
        run()
    with _lock:
        if _open is None:
            _open = Ledger(keeps=False)
            _pending.append(_open)
        return _open.entry(row), False


def add(ledgers: list[Ledger]) -> None:
    """Those of a recorded step, after a replay."""
    with _lock:
        _pending.extend(each for each in ledgers if each not in _pending)


def run() -> None:
    """Wait for the GPU, then raise the first error that one of the checks has found."""
    if driver().capturing:
        return
    global _open
    memory.synchronize()
    with _lock:
        waiting, _open = _pending[:], None
        _pending.clear()
    for ledger in waiting:
        ledger.read()
