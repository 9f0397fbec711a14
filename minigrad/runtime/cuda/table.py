"""Numbers of the host that kernels read from device memory, fresh at every replay.

What is passed to a kernel by value is frozen in a captured step. A learning rate, a step count or
the stream of a random operation changes from step to step, so kernels read it from a table on the
device. While a step is captured, tables are only noted; before every replay the host computes
their values anew and queues their copies in front of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import memory
from .array import DeviceArray
from .driver import driver

Refill = Callable[[], np.ndarray]


class Table:
    """A device array and how its values are found.

    refill: computes the values of the next replay; None if they never change.
    """

    def __init__(self, values: np.ndarray, refill: Refill | None) -> None:
        self.values, self.refill = values, refill
        self.device = memory.empty(values.shape, values.dtype)

    def copy(self) -> None:
        """Queue the copy of fresh values. Memory that is not pinned is read before this returns."""
        values = self.values if self.refill is None else np.ascontiguousarray(self.refill())
        driver().upload(self.device.pointer, values.ctypes.data, values.nbytes)


_recorded: list[Table] | None = None


def upload(values: np.ndarray, refill: Refill | None = None) -> DeviceArray:
    """A device copy of `values`, for a launch that follows.

    refill: gives the values of the next step when this one is captured and replayed; what it reads
    (a learning rate, a generator) is read then.
    """
    table = Table(np.ascontiguousarray(values), refill)
    if _recorded is None:
        table.refill = None
        table.copy()
    else:
        _recorded.append(table)
    return table.device


def record() -> list[Table]:
    """From here on tables are noted in the list that is returned, and not copied."""
    global _recorded
    _recorded = []
    return _recorded


def stop_recording() -> None:
    global _recorded
    _recorded = None
