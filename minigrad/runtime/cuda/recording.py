"""Capture state: what is noted while a thread records a stretch of work, besides the work itself.

A replay repeats launches at the addresses of the recording. What it cannot repeat is noted here:
numbers that the host computes anew (table.py), checks to look at (checks.py), and the memory that
was there before, which must still be the one that is meant when the recording is replayed.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import GraphError
from .array import DeviceArray

if TYPE_CHECKING:
    from .checks import Ledger
    from .driver import Driver
    from .table import Table

serials = itertools.count()  # of the arrays' owners, in the order in which they were made


class Recording:
    """tables, hooks: what is computed anew before each replay. ledgers: of the value checks.
    conditions: a replay does what it should only while all of them hold. undo: what puts the host's
    state back if the recording fails. keys: streams of random operations. driver: of the device
    whose work is recorded."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.tables: list[Table] = []
        self.hooks: list[Callable[[], None]] = []
        self.conditions: list[Callable[[], bool]] = []
        self.undo: list[Callable[[], None]] = []
        self.ledgers: list[Ledger] = []
        self.keys: dict[tuple[int, int], list[int]] = {}
        self._start = next(serials)
        self._outside: dict[int, tuple[weakref.ref[Any], tuple[int, ...]]] = {}
        self._gone: list[weakref.ref[Any]] = []

    def is_older(self, array: Any) -> bool:
        """Whether the array's memory was there before the recording."""
        return getattr(array.owner, "serial", -1) < self._start

    def touch(self, array: DeviceArray) -> None:
        """A recorded launch reads or writes the array."""
        if array.driver is not self.driver:
            raise GraphError(
                f"a captured step must stay on one device, cuda:{self.driver.index}, but it uses "
                f"a tensor of shape {array.shape} on cuda:{array.driver.index}"
            )
        owner = array.owner
        if owner is not None and getattr(owner, "serial", -1) < self._start:
            self._outside.setdefault(
                id(owner), (weakref.ref(owner, self._gone.append), array.shape)
            )

    def replaced(self) -> list[tuple[int, ...]]:
        """Shapes of arrays from outside that it uses and that are gone."""
        return [shape for owner, shape in self._outside.values() if owner() is None]

    def is_valid(self) -> bool:
        """Whether memory from outside that it uses is still in use there, and conditions hold."""
        return not self._gone and all(condition() for condition in self.conditions)


class _Current(threading.local):
    recording: Recording | None = None


current = _Current()
