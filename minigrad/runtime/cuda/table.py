"""Argument tables: numbers of the host that kernels read from device memory, fresh at every replay.

What is passed to a kernel by value is frozen in a captured step. A learning rate, a step count or
the stream of a random operation changes from step to step, so kernels read it from a table on the
device. While a step is captured, tables are only noted; before every replay the host computes
their values anew, in place, and queues one copy for all of them in front of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import memory
from .array import DeviceArray
from .recording import current

Refill = Callable[[np.ndarray], None]
"""Writes the values of the next replay; finds those of the last one."""

_BYTES = 1 << 14  # of a table that several share
_ALIGNMENT = 16


class Table:
    """Device memory that a recorded step reads, and its image on the host. It has room for the
    values of many launches, which one copy brings to the device: before every replay, or, of
    constants, before the first one."""

    def __init__(self, nbytes: int, constant: bool, index: int) -> None:
        with memory.lasting(index):  # it is filled before the first launch of a replay
            self._device = memory.empty((nbytes,), np.dtype(np.uint8), index)
        self._uploads = memory.of(index).uploads
        self._host = np.zeros(nbytes, np.uint8)
        self._used = 0
        self._constant, self._copied = constant, False
        self._refills: list[tuple[Refill, np.ndarray]] = []

    def has_room(self, nbytes: int, constant: bool) -> bool:
        return constant is self._constant and self._used + nbytes <= self._host.size

    def add(self, values: np.ndarray, refill: Refill | None) -> DeviceArray:
        """The place of the values on the device."""
        place = slice(self._used, self._used + values.nbytes)
        self._used += -(-values.nbytes // _ALIGNMENT) * _ALIGNMENT
        host = self._host[place].view(values.dtype).reshape(values.shape)
        host[...] = values
        if refill is not None:
            self._refills.append((refill, host))
        return self._device[place].view(values.dtype).reshape(values.shape)

    def copy(self) -> None:
        """Queue the copy of fresh values, which are read before this returns."""
        if self._constant and self._copied:
            return
        self._copied = True
        for refill, host in self._refills:
            refill(host)
        self._uploads.staged(self._device.pointer, self._host[: self._used])


def random_key(seed: int, stream: int, index: int | None = None) -> DeviceArray:
    """(seed, stream) as (2,) uint64 on a device, fresh at every replay."""
    known = {} if current.recording is None else current.recording.keys
    numbers = known.get((seed, stream), [seed, stream])

    def refill(values: np.ndarray) -> None:
        values[:] = numbers

    return upload(np.array(numbers, np.uint64), refill, index)


def upload(
    values: np.ndarray, refill: Refill | None = None, index: int | None = None
) -> DeviceArray:
    """A copy of `values` on a device, by default the current one, for a launch that follows.

    refill: of a step that is captured and replayed, writes the values of the next one; what it
    reads (a learning rate, a generator) is read then.
    """
    values, constant = np.ascontiguousarray(values), refill is None
    if (recording := current.recording) is None:
        device = memory.empty(values.shape, values.dtype, index)
        memory.of(device.driver.index).uploads.staged(device.pointer, values)
        return device
    table = next(
        (each for each in recording.tables if each.has_room(values.nbytes, constant)), None
    )
    if table is None:
        table = Table(max(values.nbytes, _BYTES), constant, recording.driver.index)
        recording.tables.append(table)
    return table.add(values, refill)
