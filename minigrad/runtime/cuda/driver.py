"""CUDA driver: the one place that talks to the NVIDIA driver: memory, copies, launches, graphs.

`driver()` is the current device's driver, `driver(1)` that of the second device; each is started by
the first call, or raises DeviceError that says what is missing. Work of a device is queued on one
stream at a time, so that it runs in the order in which it was asked for. It is one of our own,
which can be captured, while the default stream cannot.

Source: CUDA Driver API, https://docs.nvidia.com/cuda/cuda-driver-api/
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

from ...device import current_cuda
from ...errors import DeviceError
from .turn import Turn

_FIRST_NVIDIA_DRIVER = {12: 525, 13: 580}  # by the major version of CUDA


class _NotReadyError(DeviceError):
    """What was asked about is not done yet."""


class Driver:
    """A device, its primary context (which torch and others share) and one stream.

    index: the device's number. Addresses are ints. Copies and launches return before they are done;
    `synchronize` waits.
    """

    def __init__(self, index: int) -> None:
        self._api = api = _load_bindings()
        self._success = (api.CUresult.CUDA_SUCCESS,)  # what a call without results returns
        self.index, self.device_count = index, self._call(api.cuDeviceGetCount)
        if not 0 <= index < self.device_count:
            raise DeviceError(
                f"cuda:{index}: the driver sees {self.device_count} devices, numbered from 0"
            )
        self._device = self._call(api.cuDeviceGet, index)
        self._context = self._call(api.cuDevicePrimaryCtxRetain, self._device)
        self.compute_capability = self._capability(self._device)
        # What is chosen by it must not differ between devices.
        self.lowest_compute_capability = min(
            self._capability(self._call(api.cuDeviceGet, i)) for i in range(self.device_count)
        )
        name = self._call(api.cuDeviceGetName, 128, self._device)
        self.name = name.partition(b"\0")[0].decode()
        self.turn = Turn()
        self.stream = self._own = self.new_stream()
        self._before = self.stream
        self._order = self.new_event(timed=False)  # of streams
        self._discarded: deque[tuple[Any, Any]] = deque()

    def __repr__(self) -> str:
        return f"Driver({self.index})"

    def _capability(self, device: Any) -> tuple[int, int]:
        attribute, ask = self._api.CUdevice_attribute, self._api.cuDeviceGetAttribute
        major = attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
        minor = attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
        return self._call(ask, major, device), self._call(ask, minor, device)

    def _call(self, function: Any, *args: Any) -> Any:
        returned = function(*args)
        return None if returned == self._success else _result(self._api, function, returned)

    def _call_here(self, function: Any, *args: Any) -> Any:
        """The call in our context. The current context is a setting of each thread, which other
        libraries change (torch by `set_device`), and which is theirs again afterwards."""
        _, found = self._api.cuCtxGetCurrent()
        if found == self._context:
            return self._call(function, *args)
        if not int(found):  # a thread without one
            self.make_current()
            return self._call(function, *args)
        self._call(self._api.cuCtxPushCurrent, self._context)
        try:
            return self._call(function, *args)
        finally:
            self._call(self._api.cuCtxPopCurrent)

    def make_current(self) -> None:
        """This thread's calls need no change of context from here on, those of other libraries go
        to this device."""
        self._call(self._api.cuCtxSetCurrent, self._context)

    # What finalizers give back --------------------------------------------------------------

    def discard(self, free: Any, handle: Any) -> None:
        """For finalizers: call free(handle) later. They run in any thread and amid any call, also
        while a step is recorded and while Python shuts down, so they must not call the driver."""
        self._discarded.append((free, handle))

    def free_discarded(self) -> None:
        """Unless another thread queues or records at the moment; then later."""
        while self._discarded and self.turn.enter_if_free():
            try:
                free, handle = self._discarded.popleft()
                free(handle)
            finally:
                self.turn.leave()

    # Memory ---------------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> int:
        """MemoryError if the device has not that much."""
        self.free_discarded()
        return int(self._call_here(self._api.cuMemAlloc, nbytes))

    def free(self, address: int) -> None:
        self._call_here(self._api.cuMemFree, address)

    def allocate_pinned(self, nbytes: int) -> int:
        """Host memory that the device copies from and to by itself."""
        self.free_discarded()
        return int(self._call_here(self._api.cuMemAllocHost, nbytes))

    def free_pinned(self, address: int) -> None:
        self._call_here(self._api.cuMemFreeHost, address)

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes."""
        free, total = self._call_here(self._api.cuMemGetInfo)
        return int(free), int(total)

    def is_pinned(self, address: int) -> bool:
        """Whether the driver knows this host memory, whoever pinned it."""
        kind = self._api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
        try:
            found = self._call_here(self._api.cuPointerGetAttribute, kind, address)
        except DeviceError:  # unknown memory is not pinned
            return False
        return int(found) == int(self._api.CUmemorytype.CU_MEMORYTYPE_HOST)

    def upload(self, to: int, source: int, nbytes: int) -> None:
        """From pinned memory, which must stay as it is until the copy is done: see memory.py."""
        self._queue(self._api.cuMemcpyHtoDAsync, to, source, nbytes)

    def download(self, to: int, source: int, nbytes: int) -> None:
        self._queue(self._api.cuMemcpyDtoHAsync, to, source, nbytes)

    def copy(self, to: int, source: int, nbytes: int) -> None:
        """Within the device."""
        self._queue(self._api.cuMemcpyDtoDAsync, to, source, nbytes)

    def copy_to_peer(self, peer: Driver, to: int, source: int, nbytes: int) -> None:
        """To memory of another device, in order with the work of both."""
        first, second = sorted((self, peer), key=lambda each: each.index)  # no deadlock
        with first.turn, second.turn:
            self._wait_for(peer)
            self._call_here(
                self._api.cuMemcpyPeerAsync, to, peer._context, source, self._context, nbytes,
                self.stream,
            )  # fmt: skip
            peer._wait_for(self)

    def _wait_for(self, other: Driver) -> None:
        """What is queued from here on runs after what is queued on the other device."""
        other.record_event(other._order)
        self._queue_wait(self.stream, other._order)

    def synchronize(self) -> None:
        self._queue(self._api.cuStreamSynchronize)
        self.free_discarded()

    def wait_unless_recorded(self) -> bool:
        """For finalizers: wait for the queued work. False, and no wait, while a step is recorded:
        what was queued before is done then, and a replay is refused once memory of its is gone."""
        return self._unless_recorded(self.synchronize)

    def wait_for_all_unless_recorded(self) -> bool:
        """The same for the work of every stream in the context, other libraries' too."""
        return self._unless_recorded(partial(self._call_here, self._api.cuCtxSynchronize))

    def _queue(self, function: Any, *args: Any, after: tuple[Any, ...] = ()) -> None:
        """A call that queues work on the stream, or waits for it. The stream is looked up in turn:
        a recording of another thread has its own."""
        with self.turn:
            self._call_here(function, *args, self.stream, *after)

    def queue(self, function: Any, *args: Any) -> None:
        """A call of another library that queues work on the stream, which is its last argument."""

        def call(*given: Any) -> Any:
            function(*given)
            return self._success

        self._queue(call, *args)

    def _unless_recorded(self, wait: Callable[[], None]) -> bool:
        if not self.turn.enter_unless_recorded():
            return False
        try:
            wait()
        finally:
            self.turn.leave()
        return True

    # Streams and events ---------------------------------------------------------------------

    def new_stream(self) -> int:
        flags = self._api.CUstream_flags.CU_STREAM_NON_BLOCKING
        return int(self._call_here(self._api.cuStreamCreate, flags))

    def free_stream(self, stream: int) -> None:
        self._call_here(self._api.cuStreamDestroy, stream)

    def use_stream(self, stream: int) -> None:
        """Work from here on goes to `stream`, where it waits for what was queued before."""
        with self.turn:
            self.record_event(self._order)
            self._queue_wait(stream, self._order)
            self.stream = stream

    def _queue_wait(self, stream: int, event: Any) -> None:
        """Until what the event marks now; it may be recorded anew afterwards."""
        self._call_here(self._api.cuStreamWaitEvent, stream, event, 0)

    def new_event(self, timed: bool) -> Any:
        """timed: for `milliseconds_between`; costs time when it is recorded."""
        flags = self._api.CUevent_flags
        kind = flags.CU_EVENT_DEFAULT if timed else flags.CU_EVENT_DISABLE_TIMING
        return self._call_here(self._api.cuEventCreate, int(kind))

    def free_event(self, event: Any) -> None:
        self._call_here(self._api.cuEventDestroy, event)

    def record_event(self, event: Any) -> None:
        """Mark the place that the queued work has reached."""
        self._queue(self._api.cuEventRecord, event)

    def wait_for_event(self, event: Any) -> None:
        self._call_here(self._api.cuEventSynchronize, event)

    def is_reached(self, event: Any) -> bool:
        """Whether the work before the mark is done."""
        try:
            self._call_here(self._api.cuEventQuery, event)
        except _NotReadyError:
            return False
        return True

    def milliseconds_between(self, first: Any, second: Any) -> float:
        return float(self._call_here(self._api.cuEventElapsedTime, first, second))

    # Kernels --------------------------------------------------------------------------------

    def load(self, cubin: bytes, name: str) -> Any:
        """The kernel of that name; its module stays loaded."""
        module = self._call_here(self._api.cuModuleLoadData, cubin)
        return self._call_here(self._api.cuModuleGetFunction, module, name.encode())

    def launch(
        self, function: Any, grid: tuple[int, ...], block: tuple[int, ...], args: int
    ) -> None:
        """args: the address of a list of the arguments' addresses."""
        gx, gy, gz = (*grid, 1, 1)[:3]
        bx, by, bz = (*block, 1, 1)[:3]
        self._queue(self._api.cuLaunchKernel, function, gx, gy, gz, bx, by, bz, 0, after=(args, 0))

    # Capture --------------------------------------------------------------------------------

    @property
    def capturing(self) -> bool:
        """Whether this thread's work is recorded."""
        return self.turn.recording

    def begin_capture(self) -> None:
        """From here on, this thread's work is recorded instead of run; other threads' waits.

        On our own stream: one of another library may be the default stream, which has no capture.
        """
        self.turn.start_recording()
        try:
            self._before = self.stream
            if self.stream != self._own:
                self.use_stream(self._own)
            # Relaxed: memory that is asked for meanwhile is allocated at once, and not recorded.
            mode = self._api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
            self._call_here(self._api.cuStreamBeginCapture, self.stream, mode)
        except BaseException:
            self.stream = self._before
            self.turn.stop_recording()
            raise

    def end_capture(self) -> Any:
        """The recorded graph. The capture is over also if this raises."""
        try:
            graph = self._call_here(self._api.cuStreamEndCapture, self.stream)
            try:
                return self._call_here(self._api.cuGraphInstantiate, graph, 0)
            finally:
                self._call_here(self._api.cuGraphDestroy, graph)
        finally:
            self.stream = self._before
            self.turn.stop_recording()

    def replay(self, graph: Any) -> None:
        self._queue(self._api.cuGraphLaunch, graph)

    def free_graph(self, graph: Any) -> None:
        self._call_here(self._api.cuGraphExecDestroy, graph)


_ERRORS: dict[str, type[Exception]] = {
    "CUDA_ERROR_OUT_OF_MEMORY": MemoryError,
    "CUDA_ERROR_NOT_READY": _NotReadyError,
}


def _result(api: Any, function: Any, returned: tuple[Any, ...]) -> Any:
    """The function's result; or an error with the driver's own words, MemoryError for want of
    memory and else DeviceError."""
    status, *results = returned
    if status != api.CUresult.CUDA_SUCCESS:
        _, text = api.cuGetErrorString(status)
        message = f"cuda: {function.__name__} failed: {text.decode() if text else status.name}"
        raise _ERRORS.get(status.name, DeviceError)(message)
    return results[0] if len(results) == 1 else results


def _load_bindings() -> Any:
    """The module of the driver's functions, once it is known that kernels can run."""
    if find_spec("numba_cuda") is None or find_spec("cuda") is None:
        raise DeviceError(
            "cuda: the packages for NVIDIA GPUs are not installed; "
            'pip install "minigrad[cuda]" installs them'
        )
    from cuda.bindings import driver as api

    try:
        _result(api, api.cuInit, api.cuInit(0))
    except Exception as error:  # the loader's own errors differ between versions
        reason = str(error).removeprefix("cuda: ")
        raise DeviceError(f"cuda: no NVIDIA driver could be started: {reason}") from None
    found = _result(api, api.cuDriverGetVersion, api.cuDriverGetVersion())
    _check_versions(found, _toolkit_version())
    return api


def _toolkit_version() -> int:
    """The major version of the CUDA whose linker makes our cubins."""
    try:
        from cuda.bindings import nvjitlink

        return nvjitlink.version()[0]
    except Exception as error:  # the loader's own errors differ between versions
        raise DeviceError(
            f"cuda: nvJitLink, which links the kernels, could not be loaded ({error}); "
            'pip install "minigrad[cuda]" installs it'
        ) from None


def _check_versions(driver: int, toolkit: int) -> None:
    """A cubin runs with every driver of the CUDA version that it was made by, and with later ones.

    driver: as CUDA counts, 12040 for 12.4. toolkit: the major version.
    Source: https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
    """
    major, minor = driver // 1000, driver % 1000 // 10
    if major >= toolkit:
        return
    fix = f"install an NVIDIA driver for CUDA {toolkit}"
    if toolkit in _FIRST_NVIDIA_DRIVER:
        fix += f" ({_FIRST_NVIDIA_DRIVER[toolkit]} or newer)"
    if major in _FIRST_NVIDIA_DRIVER:
        fix = f'in a fresh environment pip install "minigrad[cuda{major}]", or {fix}'
    raise DeviceError(
        f"cuda: the NVIDIA driver is for CUDA {major}.{minor}, and the installed packages compile "
        f"for CUDA {toolkit}, whose kernels it cannot load; {fix}"
    )


_drivers: dict[int, Driver] = {}
_lock = threading.Lock()
_forked = False


def started() -> list[Driver]:
    """Those that `driver` was called for with success."""
    return list(_drivers.values())


def driver(index: int | None = None) -> Driver:
    """The Driver of a device, by default this thread's current one; started by the first call."""
    if index is None:
        index = current_cuda.index
    return _drivers.get(index) or _start(index)


def _start(index: int) -> Driver:
    if _forked:
        raise DeviceError(
            "cuda: this process was forked from one that uses the GPU, which CUDA does not allow; "
            'start it by "spawn", or before the GPU is used'
        )
    with _lock:
        if index not in _drivers:
            _drivers[index] = Driver(index)
        return _drivers[index]


def _leave_to_parent() -> None:
    global _forked
    _forked = _forked or bool(_drivers)
    _drivers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
