"""Numbers of the host that kernels read from device memory, fresh at every replay.

What is passed to a kernel by value is frozen in a captured step. A learning rate, a step count or
the stream of a random operation changes from step to step, so it goes through a table: the host
writes it to pinned memory, the stream copies that to the device, and a replay copies it again.
`minigrad.capture` calls `refill` of each table before it replays.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np

from . import memory
from .array import DeviceArray
from .driver import driver


class Table:
    """A host array in pinned memory and its copy on the device.

    refill: computes the values of the next replay; None if they never change.
    """

    def __init__(self, values: np.ndarray, refill: Callable[[], np.ndarray] | None) -> None:
        self.refill = refill
        self._address = driver().allocate_pinned(max(values.nbytes, 1))
        content = (ctypes.c_char * max(values.nbytes, 1)).from_address(self._address)
        self._host = np.frombuffer(content, np.uint8, values.nbytes).view(values.dtype)
        self._host = self._host.reshape(values.shape)
        self._host[...] = values
        self.device = memory.empty(values.shape, values.dtype)
        driver().upload(self.device.pointer, self._address, values.nbytes)

    def update(self) -> None:
        """Before a replay: the host's part."""
        if self.refill is not None:
            self._host[...] = self.refill()

    def __del__(self) -> None:
        driver().free_pinned(self._address)


_recorded: list[Table] | None = None


def upload(values: np.ndarray, refill: Callable[[], np.ndarray] | None = None) -> DeviceArray:
    """A device copy of `values`, for a launch that follows.

    refill: gives the values of the next step when this one is captured and replayed; what it reads
    (a learning rate, a generator) is read then.
    """
    if _recorded is None:
        # Pageable memory is read before the call returns: nothing has to be kept.
        return memory.to_device(np.ascontiguousarray(values))
    table = Table(np.ascontiguousarray(values), refill)
    _recorded.append(table)
    return table.device


def record() -> list[Table]:
    """From here on tables are kept, for a capture, in the list that is returned."""
    global _recorded
    _recorded = []
    return _recorded


def stop_recording() -> None:
    global _recorded
    _recorded = None
