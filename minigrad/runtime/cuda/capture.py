"""Recording what a stretch of host code queues, and queueing it again at once.

Source: CUDA graphs, https://docs.nvidia.com/cuda/cuda-programming-guide/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from . import checks, memory, table
from .checks import Check
from .driver import driver
from .table import Table


class Graph:
    """A recorded stretch of work, with all memory that it uses.

    graph = Graph()
    with graph.warm_up():      # as often as it takes until all is compiled and allocated
        ...
    with graph.record():
        ...
    graph.replay()
    """

    def __init__(self) -> None:
        self.pool = memory.Pool()
        self._graph: Any = None
        self._replayed = False
        self._tables: list[Table] = []
        self._hooks: list[Callable[[], None]] = []
        self._checks: list[Check] = []

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """Work inside runs, with memory from the graph's pool."""
        with memory.allocate_from(self.pool):
            yield

    @contextmanager
    def record(self) -> Iterator[None]:
        """Work inside is recorded and does not run."""
        checks.run()
        with memory.allocate_from(self.pool):
            self._tables, self._hooks = table.record()
            try:
                driver().begin_capture()
                yield
            except BaseException:
                _abandon()
                raise
            else:
                self._graph = driver().end_capture()
                self._checks = checks.take()
            finally:
                table.stop_recording()

    def replay(self) -> None:
        """Queue everything, with fresh values in the tables; those of the first replay are what
        the recorded calls had computed already."""
        if self._replayed:
            for hook in self._hooks:
                hook()
        self._replayed = True
        for each in self._tables:
            each.copy()
        driver().replay(self._graph)
        checks.add(self._checks)

    def __del__(self) -> None:
        if self._graph is not None:
            driver().free_graph(self._graph)
            self._graph = None
        self.pool.retire()


def _abandon() -> None:
    """An error ended the recording: the stream must leave capture mode, whatever it says."""
    checks.take()
    with suppress(Exception):  # a capture that an error invalidated has no graph to free
        driver().free_graph(driver().end_capture())
