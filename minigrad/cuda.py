"""NVIDIA GPUs, under torch.cuda's names.

    x = mg.randn(64, 3, 32, 32, device="cuda")
    model.to("cuda")

Work on the GPU is queued and runs while Python goes on; `item`, `tolist`, `cpu` and printing wait
for it, `synchronize` does nothing else. All work is queued in the order of the program, on one
stream unless `stream` says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import DeviceError, GraphError
from .runtime.cuda import checks, memory
from .runtime.cuda.driver import driver
from .runtime.cuda.memory import Stats


def why_unavailable() -> str | None:
    """What is missing for "cuda" to work; None if nothing is."""
    try:
        driver()
    except DeviceError as error:
        return str(error)
    return None


def is_available() -> bool:
    """Whether "cuda" works here; `why_unavailable()` says why not."""
    return why_unavailable() is None


def device_count() -> int:
    """The GPUs that the driver sees, of which the first one is used; 0 without a driver."""
    return driver().device_count if is_available() else 0


def current_device() -> int:
    """The number of the GPU in use: 0."""
    driver()
    return 0


def get_device_name(device: Any = None) -> str:
    """Such as "NVIDIA H200"."""
    return driver().name


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability, such as (9, 0)."""
    return driver().compute_capability


def synchronize() -> None:
    """Wait until all queued work is done; raises what value checks on the GPU have found."""
    checks.run()


# Streams and events -------------------------------------------------------------------------


class Stream:
    """A queue of work. handle: the CUstream, for other libraries; with a handle of theirs, such as
    `torch.cuda.current_stream().cuda_stream`, it stands for their queue."""

    def __init__(self, handle: int | None = None) -> None:
        self._own = handle is None
        self.handle = driver().new_stream() if handle is None else handle

    def __del__(self) -> None:
        if getattr(self, "_own", False):
            driver().free_stream(self.handle)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.handle == self.handle

    def __hash__(self) -> int:
        return hash(self.handle)


def current_stream() -> Stream:
    """Where work is queued."""
    return Stream(driver().stream)


@contextmanager
def stream(stream: Stream) -> Iterator[None]:
    """Work inside is queued on `stream`, so that it stands in order with what another library
    queues there. It waits for minigrad's work before it, and minigrad's work after it waits for it.
    """
    if driver().capturing:
        raise GraphError("stream: a captured step must stay on one stream")
    before = driver().stream
    driver().use_stream(stream.handle)
    try:
        yield
    finally:
        driver().use_stream(before)


class Event:
    """A mark in the queue, for measuring: record two, synchronize the second, ask for the time."""

    def __init__(self) -> None:
        self._event = driver().new_event()

    def record(self) -> None:
        """Mark the work queued so far."""
        if driver().capturing:
            raise GraphError("Event: a captured step cannot be marked inside; record around it")
        driver().record_event(self._event)

    def synchronize(self) -> None:
        """Wait until the work before the mark is done."""
        driver().wait_for_event(self._event)

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this mark to `end`, both of which must have been reached."""
        return driver().milliseconds_between(self._event, end._event)

    def __del__(self) -> None:
        if hasattr(self, "_event"):
            driver().free_event(self._event)


# Memory -------------------------------------------------------------------------------------


def memory_stats() -> Stats:
    """Bytes of the arrays alive and of the memory held, and the most of each so far."""
    return memory.stats()


def memory_allocated() -> int:
    """Bytes of the arrays alive."""
    return memory.stats().allocated


def max_memory_allocated() -> int:
    """The most bytes alive at one time since the start or `reset_peak_memory_stats`."""
    return memory.stats().max_allocated


def memory_reserved() -> int:
    """Bytes held from the driver: in use, or kept for reuse."""
    return memory.stats().reserved


def reset_peak_memory_stats() -> None:
    """The maxima start again from what is alive now."""
    memory.reset_peaks()


def mem_get_info() -> tuple[int, int]:
    """Free and total bytes of the device."""
    return driver().memory_info()


def empty_cache() -> None:
    """Give the memory kept for reuse back to the driver."""
    memory.release()
