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
from .recording import current

Refill = Callable[[], np.ndarray]


class Table:
    """An array of a device and how its values are found.

    refill: computes the values of the next replay; None if they never change.
    """

    def __init__(self, values: np.ndarray, refill: Refill | None, index: int | None) -> None:
        self.values, self.refill = values, refill
        with memory.lasting(index):  # it is filled before the first launch of a replay
            self.device = memory.empty(values.shape, values.dtype, index)

    def copy(self) -> None:
        """Queue the copy of fresh values, which are read before this returns."""
        values = self.values if self.refill is None else np.ascontiguousarray(self.refill())
        memory.of(self.device.driver.index).uploads.staged(self.device.pointer, values)


def on_replay(hook: Callable[[], None]) -> None:
    """While a step is recorded: call `hook` before each replay, before tables are filled."""
    if current.recording is not None:
        current.recording.hooks.append(hook)


def drawn(key: tuple[int, int], redraw: Callable[[], tuple[int, int]]) -> None:
    """A random operation drew (seed, stream) from a generator. While a step is recorded: `redraw`
    gives what a replay uses instead; `random_key` finds it."""
    if current.recording is None:
        return
    numbers = current.recording.keys[key] = list(key)

    def again() -> None:
        numbers[:] = redraw()

    on_replay(again)


def random_key(seed: int, stream: int, index: int | None = None) -> DeviceArray:
    """(seed, stream) as (2,) uint64 on a device, fresh at every replay."""
    known = {} if current.recording is None else current.recording.keys
    numbers = known.get((seed, stream), [seed, stream])
    return upload(np.array(numbers, np.uint64), lambda: np.array(numbers, np.uint64), index)


def upload(
    values: np.ndarray, refill: Refill | None = None, index: int | None = None
) -> DeviceArray:
    """A copy of `values` on a device, by default the current one, for a launch that follows.

    refill: gives the values of the next step when this one is captured and replayed; what it reads
    (a learning rate, a generator) is read then.
    """
    table = Table(np.ascontiguousarray(values), refill, index)
    if current.recording is None:
        table.refill = None
        table.copy()
    else:
        current.recording.tables.append(table)
    return table.device
