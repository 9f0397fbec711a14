"""Deferred error checks: checks of values on the GPU, which the host learns of later.

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
from .driver import Driver
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
    """Entries for up to ENTRIES checks on a device. keeps: whether an entry keeps what it has
    found."""

    def __init__(self, index: int, keeps: bool) -> None:
        self.index, self.keeps = index, keeps
        with memory.lasting(index):
            self._cells = memory.empty((ENTRIES, CELLS), np.dtype(np.int64), index)
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
        memory.of(self.index).uploads.staged(self._cells.pointer, nothing)

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
_open: dict[int, Ledger] = {}  # by device, of those pending: for checks outside recordings


def defer(row: Row, driver: Driver) -> tuple[DeviceArray, bool]:
    """The entry that the next launch shall fill and `run` reads, and whether it keeps what it has
    found. The caller has the device's turn until it has launched: nobody may read in between."""
    if (recording := current.recording) is not None:
        if not recording.ledgers or len(recording.ledgers[-1]) == ENTRIES:
            recording.ledgers.append(Ledger(driver.index, keeps=True))
        return recording.ledgers[-1].entry(row), True
    ledger = _open.get(driver.index)
    if ledger is not None and len(ledger) == ENTRIES:
        run(driver.index)
        ledger = None
    if ledger is None:
        ledger = _open[driver.index] = Ledger(driver.index, keeps=False)
        with _lock:
            _pending.append(ledger)
    return ledger.entry(row), False


def add(ledgers: list[Ledger]) -> None:
    """Those of a recorded step, after a replay."""
    with _lock:
        _pending.extend(each for each in ledgers if each not in _pending)


def run(index: int | None = None) -> None:
    """Wait for a device, by default the current one, then raise the first error that one of its
    checks has found."""
    if current.recording is not None:
        return
    device = memory.of(index)
    index = device.driver.index
    with device.driver.turn:
        device.synchronize()
        _open.pop(index, None)
        with _lock:
            waiting = [ledger for ledger in _pending if ledger.index == index]
            _pending[:] = [ledger for ledger in _pending if ledger.index != index]
    for ledger in waiting:
        ledger.read()
