"""Prefetching: an iterator whose items a background thread makes ahead."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

_PATIENCE = 0.1  # seconds


class Prefetcher:
    """make(item) for each item in order, at most `ahead` of them waiting.

    An exception in the thread is raised here, where its item was due. The thread ends when the
    items are used up, on `close()`, and when the iterator is no longer referred to.
    """

    def __init__(self, make: Callable[[Any], Any], items: Iterable[Any], ahead: int) -> None:
        self._results: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._slots = threading.Semaphore(ahead)
        stop = threading.Event()
        # The thread does not refer to this object, or it would never be collected.
        thread = threading.Thread(
            target=_produce,
            args=(make, items, self._slots, self._results, stop),
            name="minigrad-prefetch",
            daemon=True,
        )
        self.close = weakref.finalize(self, _shut_down, thread, self._slots, stop)
        thread.start()

    def __iter__(self) -> Prefetcher:
        return self

    def __next__(self) -> Any:
        if not self.close.alive:
            raise StopIteration
        kind, value = self._results.get()
        if kind == "item":
            self._slots.release()
            return value
        self.close()
        if kind == "error":
            raise value
        raise StopIteration


def _produce(
    make: Callable[[Any], Any],
    items: Iterable[Any],
    slots: threading.Semaphore,
    results: queue.SimpleQueue[tuple[str, Any]],
    stop: threading.Event,
) -> None:
    try:
        for item in items:
            slots.acquire()
            if stop.is_set():
                return
            results.put(("item", make(item)))
        results.put(("end", None))
    except BaseException as error:  # whatever it is, the consumer waits for it
        results.put(("error", error))


def _shut_down(thread: threading.Thread, slots: threading.Semaphore, stop: threading.Event) -> None:
    stop.set()
    slots.release()
    # It ends with the item that it is making, for which nobody shall wait long. And the collector
    # may run in the very thread that shall end.
    if thread is not threading.current_thread():
        thread.join(_PATIENCE)
