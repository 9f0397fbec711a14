"""Capture state: what is noted while a thread records work of a GPU, besides the work itself:
tables of numbers (table.py), checks to look at (checks.py), and the memory that was there before,
which must still be the one that is meant when the recording is replayed.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from ...device import Device
from ...errors import GraphError
from .. import recording as base
from .array import DeviceArray

if TYPE_CHECKING:
    from .checks import Ledger
    from .driver import Driver
    from .table import Table

serials = itertools.count()  # of the arrays' owners, in the order in which they were made


class Recording(base.Recording):
    """tables: numbers that kernels read, fresh at every replay. ledgers: of the value checks.
    driver: of the device whose work is recorded."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self.driver = driver
        self.tables: list[Table] = []
        self.ledgers: list[Ledger] = []
        self._start = next(serials)

    def is_older(self, array: Any) -> bool:
        return isinstance(array, DeviceArray) and getattr(array.owner, "serial", -1) < self._start

    def check_device(self, device: Device, shape: tuple[int, ...]) -> None:
        if device.type != "cuda":
            raise GraphError(
                f"a captured step must compute on the GPU only, which a replay repeats, but it "
                f"used a tensor of shape {shape} on {device}"
            )

    def touch(self, array: DeviceArray) -> None:
        """A recorded launch reads or writes the array."""
        if array.driver is not self.driver:
            raise GraphError(
                f"a captured step must stay on one device, cuda:{self.driver.index}, but it uses "
                f"a tensor of shape {array.shape} on cuda:{array.driver.index}"
            )
        owner = array.owner
        if owner is not None and getattr(owner, "serial", -1) < self._start:
            self.note_outside(owner, array.shape)


class _Current:
    """The recording of this thread, if it records a GPU's work."""

    @property
    def recording(self) -> Recording | None:
        found = base.current.recording
        return found if isinstance(found, Recording) else None


current = _Current()
