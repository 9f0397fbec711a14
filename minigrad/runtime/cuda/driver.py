"""The one place that talks to the NVIDIA driver: memory, copies, launches, graphs.

`driver()` is the process's driver, or raises DeviceError that says what is missing. Everything is
queued on one stream at a time, so that work runs in the order in which it was asked for. It is one
of our own, which can be captured, while the default stream cannot.

Source: CUDA Driver API, https://docs.nvidia.com/cuda/cuda-driver-api/
"""

from __future__ import annotations

import threading
from importlib.util import find_spec
from typing import Any

from ...errors import DeviceError
from .turn import Turn

_OLDEST = 13000  # the driver's CUDA version that takes the compiler's cubins


class Driver:
    """A device, its primary context (which torch and others share) and one stream.

    Addresses are ints. Copies and launches return before they are done; `synchronize` waits.
    """

    def __init__(self, ordinal: int = 0) -> None:
        if find_spec("numba_cuda") is None or find_spec("cuda") is None:
            raise DeviceError(
                "cuda: the packages for NVIDIA GPUs are not installed; "
                'pip install "minigrad[cuda]" installs them'
            )
        from cuda.bindings import driver as api

        self._api = api
        try:
            self._call(api.cuInit, 0)
        except Exception as error:  # the loader's own errors differ between versions
            reason = str(error).removeprefix("cuda: ")
            raise DeviceError(f"cuda: no NVIDIA driver could be started: {reason}") from None
        if (found := self._call(api.cuDriverGetVersion)) < _OLDEST:
            raise DeviceError(
                f"cuda: the driver is for CUDA {found // 1000}, the kernels are compiled for CUDA "
                f"{_OLDEST // 1000}; install a newer driver"
            )
        count = self._call(api.cuDeviceGetCount)
        if ordinal >= count:
            raise DeviceError(f"cuda: the driver sees {count} devices, none of number {ordinal}")
        self.device_count, self.index = count, ordinal
        self._device = self._call(api.cuDeviceGet, ordinal)
        self._context = self._call(api.cuDevicePrimaryCtxRetain, self._device)
        self._call(api.cuCtxSetCurrent, self._context)
        self._threads = threading.local()
        attribute = api.CUdevice_attribute
        major = attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
        minor = attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
        self.compute_capability = (self._attribute(major), self._attribute(minor))
        name = self._call(api.cuDeviceGetName, 128, self._device)
        self.name = name.partition(b"\0")[0].decode()
        self.turn = Turn()
        self.stream = self._own = self.new_stream()
        self._before = self.stream

    def _attribute(self, attribute: Any) -> int:
        return self._call(self._api.cuDeviceGetAttribute, attribute, self._device)

    def _call(self, function: Any, *args: Any) -> Any:
        """The function's result; DeviceError with the driver's own words if it fails."""
        status, *results = function(*args)
        if status != self._api.CUresult.CUDA_SUCCESS:
            _, text = self._api.cuGetErrorString(status)
            message = text.decode() if text else status.name
            raise DeviceError(f"cuda: {function.__name__} failed: {message}")
        return results[0] if len(results) == 1 else results

    def enter_thread(self) -> None:
        """The context is a setting of each thread; the first call of a thread makes it current."""
        if not getattr(self._threads, "entered", False):
            self._call(self._api.cuCtxSetCurrent, self._context)
            self._threads.entered = True

    # Memory ---------------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> int:
        """MemoryError if the device has not that much."""
        self.enter_thread()
        status, address = self._api.cuMemAlloc(nbytes)
        if status == self._api.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise MemoryError(f"cuda: the device has no {nbytes} bytes left")
        if status != self._api.CUresult.CUDA_SUCCESS:
            raise DeviceError(f"cuda: cuMemAlloc of {nbytes} bytes failed: {status.name}")
        return int(address)

    def free(self, address: int) -> None:
        self.enter_thread()
        self._call(self._api.cuMemFree, address)

    def allocate_pinned(self, nbytes: int) -> int:
        """Host memory that the device copies from and to by itself."""
        self.enter_thread()
        return int(self._call(self._api.cuMemAllocHost, nbytes))

    def free_pinned(self, address: int) -> None:
        self.enter_thread()
        self._call(self._api.cuMemFreeHost, address)

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes."""
        self.enter_thread()
        free, total = self._call(self._api.cuMemGetInfo)
        return int(free), int(total)

    def is_pinned(self, address: int) -> bool:
        """Whether the driver knows this host memory, whoever pinned it."""
        self.enter_thread()
        kind = self._api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
        status, found = self._api.cuPointerGetAttribute(kind, address)
        host = int(self._api.CUmemorytype.CU_MEMORYTYPE_HOST)
        return status == self._api.CUresult.CUDA_SUCCESS and int(found) == host

    def upload(self, to: int, source: int, nbytes: int) -> None:
        self._queue(self._api.cuMemcpyHtoDAsync, to, source, nbytes)

    def download(self, to: int, source: int, nbytes: int) -> None:
        self._queue(self._api.cuMemcpyDtoHAsync, to, source, nbytes)

    def synchronize(self) -> None:
        self._queue(self._api.cuStreamSynchronize)

    def wait_unless_recorded(self) -> bool:
        """For finalizers: wait for the queued work. False, and no wait, while a step is recorded:
        what was queued before is done then, and a replay is refused once memory of its is gone."""
        return self._wait_unless_recorded(self._api.cuStreamSynchronize, self.stream)

    def wait_for_all_unless_recorded(self) -> bool:
        """The same for the work of every stream in the context, other libraries' too."""
        return self._wait_unless_recorded(self._api.cuCtxSynchronize)

    def _queue(self, function: Any, *args: Any, after: tuple[Any, ...] = ()) -> None:
        """A call that queues work on the stream, or waits for it. The stream is looked up in turn:
        a recording of another thread has its own."""
        with self.turn:
            self.enter_thread()
            self._call(function, *args, self.stream, *after)

    def _wait_unless_recorded(self, *wait: Any) -> bool:
        if not self.turn.enter_unless_recorded():
            return False
        try:
            self.enter_thread()
            self._call(*wait)
        finally:
            self.turn.leave()
        return True

    # Streams and events ---------------------------------------------------------------------

    def new_stream(self) -> int:
        self.enter_thread()
        flags = self._api.CUstream_flags.CU_STREAM_NON_BLOCKING
        return int(self._call(self._api.cuStreamCreate, flags))

    def free_stream(self, stream: int) -> None:
        self.enter_thread()
        self._call(self._api.cuStreamDestroy, stream)

    def use_stream(self, stream: int) -> None:
        """Work from here on goes to `stream`, where it waits for what was queued before."""
        with self.turn:
            mark = self.new_event()
            self.record_event(mark)
            self._call(self._api.cuStreamWaitEvent, stream, mark, 0)
            self.free_event(mark)
            self.stream = stream

    def new_event(self) -> Any:
        self.enter_thread()
        return self._call(self._api.cuEventCreate, 0)

    def free_event(self, event: Any) -> None:
        self.enter_thread()
        self._call(self._api.cuEventDestroy, event)

    def record_event(self, event: Any) -> None:
        """Mark the place that the queued work has reached."""
        self._queue(self._api.cuEventRecord, event)

    def wait_for_event(self, event: Any) -> None:
        self.enter_thread()
        self._call(self._api.cuEventSynchronize, event)

    def milliseconds_between(self, first: Any, second: Any) -> float:
        self.enter_thread()
        return float(self._call(self._api.cuEventElapsedTime, first, second))

    # Kernels --------------------------------------------------------------------------------

    def load(self, cubin: bytes, name: str) -> Any:
        """The kernel of that name; its module stays loaded."""
        self.enter_thread()
        module = self._call(self._api.cuModuleLoadData, cubin)
        return self._call(self._api.cuModuleGetFunction, module, name.encode())

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
            self._call(self._api.cuStreamBeginCapture, self.stream, mode)
        except BaseException:
            self.stream = self._before
            self.turn.stop_recording()
            raise

    def end_capture(self) -> Any:
        """The recorded graph. The capture is over also if this raises."""
        try:
            graph = self._call(self._api.cuStreamEndCapture, self.stream)
            try:
                return self._call(self._api.cuGraphInstantiate, graph, 0)
            finally:
                self._call(self._api.cuGraphDestroy, graph)
        finally:
            self.stream = self._before
            self.turn.stop_recording()

    def replay(self, graph: Any) -> None:
        self._queue(self._api.cuGraphLaunch, graph)

    def free_graph(self, graph: Any) -> None:
        self.enter_thread()
        self._call(self._api.cuGraphExecDestroy, graph)


_driver: Any = None
_lock = threading.Lock()


def started() -> bool:
    """Whether `driver()` was called with success."""
    return _driver is not None


def driver() -> Any:
    """The process's Driver, started by the first call."""
    global _driver
    if _driver is None:
        with _lock:
            if _driver is None:
                _driver = Driver()
    return _driver
