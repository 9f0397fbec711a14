"""NVIDIA GPUs, under torch.cuda's names.

    x = mg.randn(64, 3, 32, 32, device="cuda")
    model.to("cuda")

Work on the GPU is queued and runs while Python goes on; `item`, `tolist`, `cpu` and printing wait
for it, `synchronize` does nothing else. All work of a device is queued in the order of the program,
on one stream unless `stream` says otherwise.

With several GPUs, "cuda" is this thread's current one, which `set_device` chooses, at first number
0. Operations run where their tensors are; `x.to("cuda:1")` copies to another one. Wherever a
`device` may be named (a number, "cuda:1", a Device), None is the current one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from . import amp as amp
from .device import Device, as_device, current_cuda
from .device import manual_seed as _manual_seed
from .dtypes import bool_, float32, float64, int8, int16, int32, int64, uint8
from .engine.grad_mode import mode
from .errors import DeviceError
from .ops.creation import TypedConstructor
from .runtime.cuda import checks, memory
from .runtime.cuda.driver import Driver, driver, started
from .runtime.cuda.memory import Stats

DeviceLike = Device | str | int | None

# `from torch.cuda.amp import autocast` looks for a module here.
sys.modules[f"{__name__}.amp"] = amp


def _index(device: DeviceLike) -> int:
    if device is None:
        return current_cuda.index
    index = as_device(device).index
    if index is None:
        raise DeviceError(f"cuda: expected a GPU, got {device}")
    return index


def _driver(device: DeviceLike) -> Driver:
    return driver(_index(device))


def why_unavailable() -> str | None:
    """What is missing for "cuda" to work; None if nothing is."""
    try:
        driver()
    except (DeviceError, MemoryError) as error:
        return str(error)
    return None


def is_available() -> bool:
    """Whether "cuda" works here; `why_unavailable()` says why not."""
    return why_unavailable() is None


def device_count() -> int:
    """The GPUs that the driver sees; 0 without a driver."""
    return driver().device_count if is_available() else 0


def current_device() -> int:
    """The number of the GPU that "cuda" is in this thread."""
    return driver().index


def set_device(device: Device | str | int) -> None:
    """From here on, "cuda" is this GPU in this thread; other libraries in it, too, whose work goes
    to the thread's current context. Raises DeviceError if there is no such GPU."""
    chosen = _driver(device)
    chosen.make_current()
    current_cuda.index = chosen.index


class device:
    """Inside `with device(1):`, "cuda" is that GPU in this thread. None changes nothing."""

    def __init__(self, device: DeviceLike) -> None:
        self._driver = _driver(device)

    def __enter__(self) -> None:
        self._before, current_cuda.index = current_cuda.index, self._driver.index

    def __exit__(self, *_: object) -> None:
        current_cuda.index = self._before


def get_device_name(device: DeviceLike = None) -> str:
    """Such as "NVIDIA H200"."""
    return _driver(device).name


def get_device_capability(device: DeviceLike = None) -> tuple[int, int]:
    """The compute capability, such as (9, 0)."""
    return _driver(device).compute_capability


def synchronize(device: DeviceLike = None) -> None:
    """Wait until all queued work of a device is done; raises what value checks on it have found."""
    checks.run(_index(device))


# Streams and events -------------------------------------------------------------------------


class Stream:
    """A queue of a device's work. handle: the CUstream, for other libraries; with a handle of
    theirs, such as `torch.cuda.current_stream().cuda_stream`, it stands for their queue."""

    def __init__(self, handle: int | None = None, device: DeviceLike = None) -> None:
        self._driver, self._own = _driver(device), handle is None
        self.handle = self._driver.new_stream() if handle is None else handle
        self.device = as_device(self._driver.index)

    def __del__(self) -> None:
        if self._own and hasattr(self, "handle"):
            self._driver.discard(self._driver.free_stream, self.handle)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and (other.device, other.handle) == (
            self.device, self.handle,
        )  # fmt: skip

    def __hash__(self) -> int:
        return hash((self.device, self.handle))


def current_stream(device: DeviceLike = None) -> Stream:
    """Where work of a device is queued."""
    return Stream(_driver(device).stream, device)


@contextmanager
def stream(stream: Stream) -> Iterator[None]:
    """Work of the stream's device inside is queued on `stream`, so that it stands in order with
    what another library queues there. It waits for minigrad's work before it, and minigrad's work
    after it waits for it. The stream's device is the current one inside, as in torch.
    """
    mode.observer.refuse("stream: a captured step must stay on one stream")
    driver = stream._driver
    before = driver.stream
    driver.use_stream(stream.handle)
    try:
        with device(stream.device):
            yield
    finally:
        driver.use_stream(before)


class Event:
    """A mark in a device's queue, for measuring: record two, synchronize the second, ask for the
    time."""

    def __init__(self, device: DeviceLike = None) -> None:
        self._driver = _driver(device)
        self._event = self._driver.new_event(timed=True)

    def record(self) -> None:
        """Mark the work queued so far."""
        mode.observer.refuse("Event: a captured step cannot be marked inside; record around it")
        self._driver.record_event(self._event)

    def synchronize(self) -> None:
        """Wait until the work before the mark is done."""
        self._driver.wait_for_event(self._event)

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this mark to `end`, both of which must have been reached."""
        return self._driver.milliseconds_between(self._event, end._event)

    def __del__(self) -> None:
        if hasattr(self, "_event"):
            self._driver.discard(self._driver.free_event, self._event)


# Memory -------------------------------------------------------------------------------------


def memory_stats(device: DeviceLike = None) -> Stats:
    """Bytes of the arrays alive and of the memory held, and the most of each so far."""
    return memory.of(_index(device)).figures()


def memory_allocated(device: DeviceLike = None) -> int:
    """Bytes of the arrays alive."""
    return memory_stats(device).allocated


def max_memory_allocated(device: DeviceLike = None) -> int:
    """The most bytes alive at one time since the start or `reset_peak_memory_stats`."""
    return memory_stats(device).max_allocated


def memory_reserved(device: DeviceLike = None) -> int:
    """Bytes held from the driver: in use, or kept for reuse."""
    return memory_stats(device).reserved


def reset_peak_memory_stats(device: DeviceLike = None) -> None:
    """The maxima start again from what is alive now."""
    memory.of(_index(device)).reset_peaks()


def mem_get_info(device: DeviceLike = None) -> tuple[int, int]:
    """Free and total bytes of the device."""
    return _driver(device).memory_info()


def empty_cache() -> None:
    """Give the memory kept for reuse back to the driver, on every device that was used."""
    for each in started():
        memory.of(each.index).release()


# Seeds: one generator serves all devices ------------------------------------------------------


def manual_seed(seed: int) -> None:
    """`minigrad.manual_seed`, which seeds all devices."""
    _manual_seed(seed)


manual_seed_all = manual_seed


# torch's old constructors, which scripts name where they choose a device -----------------------

FloatTensor, DoubleTensor = TypedConstructor(float32, "cuda"), TypedConstructor(float64, "cuda")
LongTensor, IntTensor = TypedConstructor(int64, "cuda"), TypedConstructor(int32, "cuda")
ShortTensor, CharTensor = TypedConstructor(int16, "cuda"), TypedConstructor(int8, "cuda")
ByteTensor, BoolTensor = TypedConstructor(uint8, "cuda"), TypedConstructor(bool_, "cuda")
