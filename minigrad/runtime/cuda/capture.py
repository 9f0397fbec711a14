"""CUDA graphs: recording what a stretch of host code queues, and queueing it again at once.

Source: CUDA graphs, https://docs.nvidia.com/cuda/cuda-programming-guide/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..recording import current
from . import checks, memory
from .driver import Driver
from .recording import Recording


class Graph:
    """A recorded stretch of work, with all memory that it uses.

    graph = Graph()            # or, for a function: recorded(run)
    with graph.warm_up():      # as often as it takes until all is compiled and allocated
        ...
    with graph.record():
        ...
    graph.replay()

    A thread records its own work only; the work of others on the device waits until the recording
    is done. index: the device's number, by default the current one's.
    """

    def __init__(self, index: int | None = None) -> None:
        self._memory = memory.of(index)
        self._driver: Driver = self._memory.driver
        self.pool = memory.Pool(self._memory)
        self._graph: Any = None
        self._replayed = False
        self._recording = Recording(self._driver)

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """Work inside runs, with memory from the graph's pool."""
        with memory.allocate_from(self.pool):
            yield

    @contextmanager
    def record(self) -> Iterator[None]:
        """Work inside is recorded and does not run. If it raises, nothing is recorded, and what it
        changed on the host is put back as far as the recording knows of it."""
        checks.run(self._driver.index)
        recording, driver = Recording(self._driver), self._driver
        graph: Any = None
        with memory.allocate_from(self.pool):
            driver.begin_capture()
            current.recording = recording
            try:
                yield
                graph = driver.end_capture()
                recording.refuse_replaced()
            except BaseException:
                if driver.capturing:  # a capture that an error invalidated has no graph
                    with suppress(Exception):
                        graph = driver.end_capture()
                if graph is not None:
                    driver.free_graph(graph)
                recording.take_back()
                raise
            finally:
                current.recording = None
        for ledger in recording.ledgers:
            ledger.clear()
        self._graph, self._recording = graph, recording

    def finish(self, tensors: Iterable[Any]) -> None:
        """tensors: of the recording, that the user is going to get: they lie where they are."""

    def is_valid(self) -> bool:
        """Whether a replay still works on the memory that is meant."""
        return self._recording.is_valid()

    def replay(self) -> None:
        """Queue everything, with fresh values in the tables; those of the first replay are what
        the recorded calls had computed already."""
        with self._driver.turn:  # no other thread's replay between tables and work
            if self._replayed:
                for hook in self._recording.hooks:
                    hook()
            self._replayed = True
            for table in self._recording.tables:
                table.copy()
            self._driver.replay(self._graph)
            checks.add(self._recording.ledgers)

    def __del__(self) -> None:
        if hasattr(self, "_recording"):
            if self._graph is not None:
                self._driver.discard(self._driver.free_graph, self._graph)
            self.pool.retire()


def recorded(run: Callable[[], Any], warm_ups: int = 2) -> Graph:
    """A graph of what `run` queues, which first runs a few times as it is."""
    graph = Graph()
    for _ in range(warm_ups):
        with graph.warm_up():
            run()
    with graph.record():
        run()
    return graph
