"""The driver's stand-in where kernels run in Numba's CUDA simulator: its memory is the host's.

What the driver queues on a stream happens here at once, and what it captures is kept as a list of
calls, so that allocators, launches and captured steps are exercised without a GPU.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .turn import Turn


class SimulatedDriver:
    """`driver.Driver` on the host's memory."""

    name = "CUDA simulator"
    compute_capability = (9, 0)
    device_count = 1

    def __init__(self) -> None:
        self.turn = Turn()
        self.stream = self._own = self._before = self._streams = 1
        self._memory: dict[int, np.ndarray] = {}
        self._recorded: list[Callable[[], object]] | None = None

    def _do(self, call: Callable[[], object]) -> None:
        """Queue a call: it runs now, or at every replay."""
        with self.turn:
            if self._recorded is None:
                call()
            else:
                self._recorded.append(call)

    # Memory ---------------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> int:
        block = np.empty(max(nbytes, 1) + 256, np.uint8)
        address = block.ctypes.data
        address += -address % 256
        self._memory[address] = block
        return address

    def free(self, address: int) -> None:
        del self._memory[address]

    allocate_pinned = allocate
    free_pinned = free

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes."""
        return 1 << 30, 1 << 30

    def upload(self, to: int, source: int, nbytes: int) -> None:
        self._do(lambda: ctypes.memmove(to, source, nbytes))

    download = upload

    def is_pinned(self, address: int) -> bool:
        """There are no other libraries here that could have pinned it."""
        return False

    def synchronize(self) -> None:
        """Everything happened already, but it may be another thread's turn."""
        with self.turn:
            pass

    def wait_unless_recorded(self) -> bool:
        """Everything happened already."""
        if not self.turn.enter_unless_recorded():
            return False
        self.turn.leave()
        return True

    wait_for_all_unless_recorded = wait_unless_recorded

    # Streams and events ---------------------------------------------------------------------

    def new_stream(self) -> int:
        self._streams += 1
        return self._streams

    def free_stream(self, stream: int) -> None:
        """There is nothing behind a stream here."""

    def use_stream(self, stream: int) -> None:
        self.stream = stream

    def new_event(self) -> list[float]:
        return []

    def free_event(self, event: list[float]) -> None:
        event.clear()

    def record_event(self, event: list[float]) -> None:
        self._do(lambda: event.__setitem__(slice(None), [time.perf_counter()]))

    def wait_for_event(self, event: list[float]) -> None:
        """It happened already."""

    def milliseconds_between(self, first: list[float], second: list[float]) -> float:
        return 1e3 * (second[0] - first[0])

    # Kernels --------------------------------------------------------------------------------

    def launch(self, run: Any, grid: tuple[int, ...], block: tuple[int, ...], args: Any) -> None:
        """run: the simulator's kernel. args: flat NumPy arrays and numbers."""
        self._do(lambda: run[grid, block](*args))

    # Capture --------------------------------------------------------------------------------

    @property
    def capturing(self) -> bool:
        """Whether this thread's work is recorded."""
        return self.turn.recording

    def begin_capture(self) -> None:
        self.turn.start_recording()
        self._before, self.stream = self.stream, self._own
        self._recorded = []

    def end_capture(self) -> list[Callable[[], object]]:
        recorded, self._recorded = self._recorded or [], None
        self.stream = self._before
        self.turn.stop_recording()
        return recorded

    def replay(self, graph: list[Callable[[], object]]) -> None:
        with self.turn:
            for call in graph:
                call()

    def free_graph(self, graph: list[Callable[[], object]]) -> None:
        graph.clear()
