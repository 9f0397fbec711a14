"""The stand-in for the driver: what a program sees of it through cuda.bindings.

MINIGRAD_EMULATED_GPU=1 python -m pytest tests/ptx
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minigrad.runtime.cuda.driver import driver
from minigrad.testing import ptx

if not ptx.installed():
    pytest.skip("needs MINIGRAD_EMULATED_GPU=1", allow_module_level=True)

from cuda.bindings import driver as cu

SCALE = b"""
.version 8.0
.target sm_90
.address_size 64

.visible .entry scale(
    .param .u64 out, .param .u64 input, .param .f32 factor, .param .u32 n
)
{
    .reg .pred %p<2>;
    .reg .f32 %f<4>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<6>;

    ld.param.u64 %rd1, [out];
    ld.param.u64 %rd2, [input];
    ld.param.f32 %f1, [factor];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %tid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %ctaid.x;
    mad.lo.s32 %r5, %r4, %r3, %r2;
    setp.ge.s32 %p1, %r5, %r1;
    @%p1 bra DONE;
    mul.wide.s32 %rd3, %r5, 4;
    add.s64 %rd4, %rd2, %rd3;
    ld.global.f32 %f2, [%rd4];
    mul.f32 %f3, %f2, %f1;
    add.s64 %rd5, %rd1, %rd3;
    st.global.f32 [%rd5], %f3;
DONE:
    ret;
}
"""
TYPES = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float, ctypes.c_int32)
N = 5
GLOBAL, RELAXED = (
    cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL,
    cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED,
)


def status(function: Any, *args: Any) -> str:
    return function(*args)[0].name.removeprefix("CUDA_ERROR_")


def call(function: Any, *args: Any) -> Any:
    result, *values = function(*args)
    assert result == cu.CUresult.CUDA_SUCCESS, cu.cuGetErrorString(result)[1]
    return values[0] if len(values) == 1 else values


class Device:
    """A device's context with one stream, `count` numbers on the device, as many pinned."""

    def __init__(self, ordinal: int) -> None:
        self.context = call(cu.cuDevicePrimaryCtxRetain, ordinal)
        with self:
            self.stream, self.other = (call(cu.cuStreamCreate, 1) for _ in range(2))
            self.input, self.out = (int(call(cu.cuMemAlloc, 4 * N)) for _ in range(2))
            self.scale = call(cu.cuModuleGetFunction, call(cu.cuModuleLoadData, SCALE), b"scale")
            self.pinned = call(cu.cuMemAllocHost, 4 * N)
        self.host = np.frombuffer((ctypes.c_float * N).from_address(self.pinned), np.float32)
        self.host[:] = range(N)

    def __enter__(self) -> Device:
        call(cu.cuCtxPushCurrent, self.context)
        return self

    def __exit__(self, *_: object) -> None:
        call(cu.cuCtxPopCurrent)

    def upload(self, stream: Any = None) -> None:
        call(
            cu.cuMemcpyHtoDAsync,
            self.input,
            self.pinned,
            4 * N,
            self.stream if stream is None else stream,
        )

    def launch(self, factor: float = 2.0, n: int = N, stream: Any = None) -> Any:
        values = (self.out, self.input, factor, n)
        return cu.cuLaunchKernel(
            self.scale,
            1,
            1,
            1,
            32,
            1,
            1,
            0,
            self.stream if stream is None else stream,
            (values, TYPES),
            0,
        )

    def fill(self, address: int, byte: int, stream: Any) -> None:
        call(cu.cuMemsetD8Async, address, byte, 4 * N, stream)

    def read(self, address: int, stream: Any = None) -> np.ndarray:
        numbers = np.zeros(N, np.float32)
        call(
            cu.cuMemcpyDtoHAsync,
            numbers.ctypes.data,
            address,
            4 * N,
            self.stream if stream is None else stream,
        )
        return numbers

    def bytes_at(self, address: int, stream: Any = None) -> set[int]:
        return set(self.read(address, stream).view(np.uint8).tolist())


@pytest.fixture
def devices() -> Iterator[list[Device]]:
    call(cu.cuInit, 0)
    both = [Device(0), Device(1)]
    yield both
    for ordinal, device in enumerate(both):
        with device:
            call(cu.cuCtxSynchronize)
            for address in device.input, device.out:
                call(cu.cuMemFree, address)
            call(cu.cuMemFreeHost, device.pinned)
            for stream in device.stream, device.other:
                call(cu.cuStreamDestroy, stream)
        call(cu.cuDevicePrimaryCtxRelease, ordinal)


@pytest.fixture
def gpu(devices) -> Iterator[Device]:
    with devices[0] as device:
        yield device


@pytest.fixture
def schedule() -> Iterator[Any]:
    """ptx.install with other choices; the session's come back afterwards."""
    from minigrad.testing.ptx.calls import system

    before = system.order, system.pageable
    yield lambda **choices: ptx.install(len(system.devices), **choices)
    system.order, system.pageable = before


# Kernels and their parameters ---------------------------------------------------------------


def test_the_driver_class_runs_a_kernel() -> None:
    gpu, x, y = driver(), np.arange(N, dtype=np.float32), np.zeros(N, np.float32)
    assert gpu.name == "Emulated GPU (PTX)"
    assert gpu.compute_capability == (9, 0)
    address = gpu.allocate(x.nbytes)
    gpu.upload(address, x.ctypes.data, x.nbytes)
    gpu.launch(gpu.load(SCALE, "scale"), (1,), (32,), ((address, address, 3.0, N), TYPES))
    gpu.download(y.ctypes.data, address, y.nbytes)
    gpu.free(address)
    assert y.tolist() == [0, 3, 6, 9, 12]


@pytest.mark.parametrize(
    ("values", "types", "given"),
    [
        ((1, 2, 3.0), TYPES[:3], r"3 arguments of \[8, 8, 4\]"),
        ((1, 2, 3.0, 4, 5), (*TYPES, ctypes.c_int8), r"5 arguments of \[8, 8, 4, 4, 1\]"),
        ((1, 2, 3.0, 4), (*TYPES[:3], ctypes.c_int64), r"4 arguments of \[8, 8, 4, 8\]"),
    ],
)
def test_arguments_of_another_number_or_size_are_refused(gpu, values, types, given) -> None:
    expected = r"scale: 4 parameters of \[8, 8, 4, 4\] bytes expected, "
    with pytest.raises(ptx.Fault, match=expected + given):
        cu.cuLaunchKernel(gpu.scale, 1, 1, 1, 1, 1, 1, 0, gpu.stream, (values, types), 0)


def test_parameters_are_read_from_the_launch_s_pointers_when_it_is_called(gpu) -> None:
    cells = np.zeros(4, np.uint64)
    cells[0], cells[1], cells[3] = gpu.out, gpu.input, N
    cells.view(np.float32)[4] = 5.0
    pointers = cells.ctypes.data + 8 * np.arange(4, dtype=np.uint64)
    gpu.upload()
    call(cu.cuLaunchKernel, gpu.scale, 1, 1, 1, 32, 1, 1, 0, gpu.stream, pointers.ctypes.data, 0)
    cells[:] = 0
    assert gpu.read(gpu.out).tolist() == [0, 5, 10, 15, 20]


def test_the_parameters_of_a_function_are_told(gpu) -> None:
    found = [call(cu.cuFuncGetParamInfo, gpu.scale, i) for i in range(4)]
    assert found == [[0, 8], [8, 8], [16, 4], [20, 4]]
    assert status(cu.cuFuncGetParamInfo, gpu.scale, 4) == "INVALID_VALUE"


def test_a_grid_that_no_gpu_takes_is_refused(gpu) -> None:
    arguments = (gpu.out, gpu.input, 1.0, N), TYPES
    for grid, block in ((1, 1025), (0, 1), (1, 0)):
        shape = grid, 1, 1, block, 1, 1
        found = status(cu.cuLaunchKernel, gpu.scale, *shape, 0, gpu.stream, arguments, 0)
        assert found == "INVALID_VALUE"


def test_modules_are_ptx_and_end_when_unloaded(gpu) -> None:
    assert status(cu.cuModuleLoadData, b"\x7fELF") == "INVALID_IMAGE"
    assert status(cu.cuModuleLoadData, b".version 8.0\nnonsense") == "INVALID_PTX"
    module = call(cu.cuModuleLoadData, SCALE)
    assert status(cu.cuModuleGetFunction, module, b"shift") == "NOT_FOUND"
    gpu.scale = call(cu.cuModuleGetFunction, module, b"scale")
    call(cu.cuModuleUnload, module)
    assert gpu.launch()[0] == cu.CUresult.CUDA_ERROR_INVALID_HANDLE


def test_a_function_that_is_not_emulated_is_not_found() -> None:
    with pytest.raises(Exception, match="cuMemAllocManaged"):
        cu.cuMemAllocManaged(8, 1)


# When queued work runs ----------------------------------------------------------------------


def test_nothing_runs_before_something_waits(gpu) -> None:
    gpu.upload()
    gpu.launch()
    call(cu.cuMemcpyDtoHAsync, gpu.pinned, gpu.out, 4 * N, gpu.stream)
    assert gpu.host.tolist() == [0, 1, 2, 3, 4]
    call(cu.cuStreamSynchronize, gpu.stream)
    assert gpu.host.tolist() == [0, 2, 4, 6, 8]


def test_pinned_memory_is_read_when_the_copy_runs(gpu) -> None:
    gpu.upload()
    gpu.host[:] = 7
    assert gpu.read(gpu.input).tolist() == [7] * N


@pytest.mark.parametrize(("pageable", "found"), [("staged", 1), ("late", 7)])
def test_pageable_memory_is_read_at_the_call_or_late(gpu, schedule, pageable, found) -> None:
    schedule(pageable=pageable)
    numbers = np.ones(N, np.float32)
    call(cu.cuMemcpyHtoDAsync, gpu.input, numbers.ctypes.data, 4 * N, gpu.stream)
    numbers[:] = 7
    assert gpu.read(gpu.input).tolist() == [found] * N


def test_another_stream_s_work_is_seen_only_after_a_wait(gpu) -> None:
    gpu.fill(gpu.out, 1, gpu.stream)
    assert gpu.bytes_at(gpu.out, gpu.other) == {0xFF}
    event = call(cu.cuEventCreate, 0)
    gpu.fill(gpu.out, 2, gpu.stream)
    call(cu.cuEventRecord, event, gpu.stream)
    gpu.fill(gpu.out, 3, gpu.stream)
    call(cu.cuStreamWaitEvent, gpu.other, event, 0)
    assert gpu.bytes_at(gpu.out, gpu.other) == {2}
    call(cu.cuEventDestroy, event)


@pytest.mark.parametrize(("order", "last"), [("forward", 2), ("reverse", 1)])
def test_independent_streams_run_in_the_order_that_was_chosen(gpu, schedule, order, last) -> None:
    schedule(order=order)
    gpu.fill(gpu.out, 1, gpu.stream)
    gpu.fill(gpu.out, 2, gpu.other)
    call(cu.cuCtxSynchronize)
    assert gpu.bytes_at(gpu.out) == {last}


def test_the_default_stream_waits_for_blocking_ones_and_they_for_it(gpu) -> None:
    blocking = call(cu.cuStreamCreate, 0)
    gpu.fill(gpu.out, 1, blocking)
    gpu.fill(gpu.input, 1, gpu.stream)
    between = call(cu.cuMemAlloc, 4 * N)
    call(cu.cuMemcpyDtoDAsync, between, gpu.out, 4 * N, 0)
    assert gpu.bytes_at(int(between), blocking) == {1}
    assert gpu.bytes_at(gpu.input, 0) == {0xFF}
    call(cu.cuMemFree, between)
    call(cu.cuStreamDestroy, blocking)


def test_a_query_finds_work_done_the_second_time(gpu) -> None:
    event = call(cu.cuEventCreate, 0)
    call(cu.cuEventQuery, event)
    gpu.fill(gpu.out, 1, gpu.stream)
    call(cu.cuEventRecord, event, gpu.stream)
    assert [status(cu.cuEventQuery, event) for _ in range(2)] == ["NOT_READY", "CUDA_SUCCESS"]
    gpu.fill(gpu.out, 2, gpu.stream)
    found = [status(cu.cuStreamQuery, gpu.stream) for _ in range(2)]
    assert found == ["NOT_READY", "CUDA_SUCCESS"]
    call(cu.cuEventDestroy, event)


def test_events_measure_time_unless_made_without(gpu) -> None:
    start, end, untimed = (call(cu.cuEventCreate, flags) for flags in (0, 0, 2))
    assert status(cu.cuEventElapsedTime, start, end) == "INVALID_HANDLE"
    for event in start, end, untimed:
        call(cu.cuEventRecord, event, gpu.stream)
    assert status(cu.cuEventElapsedTime, start, end) == "NOT_READY"
    call(cu.cuEventSynchronize, end)
    assert call(cu.cuEventElapsedTime, start, end) > 0
    call(cu.cuEventSynchronize, untimed)
    assert status(cu.cuEventElapsedTime, start, untimed) == "INVALID_HANDLE"
    for event in start, end, untimed:
        call(cu.cuEventDestroy, event)
    assert status(cu.cuEventQuery, start) == "INVALID_HANDLE"


def test_pinned_memory_is_known_to_the_driver(gpu) -> None:
    kind = cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
    assert int(call(cu.cuPointerGetAttribute, kind, gpu.pinned)) == 1
    assert int(call(cu.cuPointerGetAttribute, kind, gpu.out)) == 2
    pageable = np.ones(1).ctypes.data
    assert status(cu.cuPointerGetAttribute, kind, pageable) == "INVALID_VALUE"


# Faults -------------------------------------------------------------------------------------


def test_a_fault_is_reported_by_what_waits_and_by_all_after_until_raised(gpu) -> None:
    gpu.upload()
    call(gpu.launch, 2.0, N + 1)
    gpu.fill(gpu.out, 1, gpu.stream)
    result = cu.cuStreamSynchronize(gpu.stream)[0]
    assert result == cu.CUresult.CUDA_ERROR_LAUNCH_FAILED
    text = cu.cuGetErrorString(result)[1].decode()
    assert "scale, line" in text
    assert "outside a live allocation" in text
    assert gpu.launch()[0] == result
    with pytest.raises(ptx.Fault) as raised:
        ptx.raise_faults()
    assert str(raised.value) == text
    ptx.raise_faults()
    assert gpu.bytes_at(gpu.out) != {1}


def test_an_error_of_the_machine_itself_is_raised_to_the_test(gpu, monkeypatch) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise KeyError("opcode")

    monkeypatch.setattr("minigrad.testing.ptx.machine.launch", broken)
    gpu.launch()
    result = cu.cuStreamSynchronize(gpu.stream)[0]
    assert cu.cuGetErrorString(result)[1] == b"KeyError: 'opcode'"
    with pytest.raises(KeyError, match="opcode"):
        ptx.raise_faults()


def _outside(address: int) -> str:
    """The fault of an access to one of N numbers; which is first depends on the order."""
    numbers = "|".join(f"{address + 4 * i:#x}" for i in range(N))
    return f"4 bytes at ({numbers}), outside a live allocation"


def test_memory_is_freed_once_and_not_used_afterwards(gpu) -> None:
    gpu.upload()
    address, gpu.out = gpu.out, int(call(cu.cuMemAlloc, 4 * N))
    call(cu.cuMemFree, address)
    assert status(cu.cuMemFree, address) == "INVALID_VALUE"
    assert status(cu.cuMemFree, gpu.pinned) == "INVALID_VALUE"
    kept, gpu.out = gpu.out, address
    gpu.launch()
    gpu.out = kept
    assert status(cu.cuStreamSynchronize, gpu.stream) == "LAUNCH_FAILED"
    with pytest.raises(ptx.Fault, match=_outside(address)):
        ptx.raise_faults()


def test_freeing_memory_waits_for_its_device(gpu) -> None:
    gpu.upload()
    gpu.launch()
    call(cu.cuMemcpyDtoHAsync, gpu.pinned, gpu.out, 4 * N, gpu.stream)
    call(cu.cuMemFree, gpu.input)
    gpu.input = int(call(cu.cuMemAlloc, 4 * N))
    assert gpu.host.tolist() == [0, 2, 4, 6, 8]


def test_pinned_memory_freed_under_a_queued_copy_is_a_fault(gpu) -> None:
    pinned = call(cu.cuMemAllocHost, 4 * N)
    call(cu.cuMemcpyHtoDAsync, gpu.input, pinned, 4 * N, gpu.stream)
    call(cu.cuMemFreeHost, pinned)
    assert status(cu.cuStreamSynchronize, gpu.stream) == "ILLEGAL_ADDRESS"
    with pytest.raises(ptx.Fault, match="20 bytes was still queued when its pinned memory"):
        ptx.raise_faults()


def test_memory_that_the_device_has_not_is_refused(gpu) -> None:
    _, total = call(cu.cuMemGetInfo)
    assert status(cu.cuMemAlloc, total + 1) == "OUT_OF_MEMORY"
    assert status(cu.cuMemAlloc, 0) == "INVALID_VALUE"


# Several devices ----------------------------------------------------------------------------


def test_the_current_context_is_each_thread_s_own(devices) -> None:
    found = []

    def look() -> None:
        found.append((int(call(cu.cuCtxGetCurrent)), status(cu.cuMemAlloc, 8)))
        call(cu.cuCtxSetCurrent, devices[1].context)
        found.append(int(call(cu.cuCtxGetDevice)))

    with devices[0]:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert int(call(cu.cuCtxGetDevice)) == 0
    assert found == [(0, "INVALID_CONTEXT"), 1]


def test_what_belongs_to_another_device_is_refused(devices) -> None:
    first, second = devices
    with second:
        found = first.launch()[0]
        assert found == cu.CUresult.CUDA_ERROR_INVALID_HANDLE
        assert (
            b"scale of device 0 in a stream of device 0 while device 1 is current"
            in (cu.cuGetErrorString(found)[1])
        )
        event = call(cu.cuEventCreate, 0)
        assert status(cu.cuEventRecord, event, first.stream) == "INVALID_HANDLE"
        call(cu.cuEventRecord, event, second.stream)
        call(cu.cuStreamWaitEvent, first.stream, event, 0)
        call(cu.cuEventDestroy, event)


def test_a_kernel_cannot_read_another_device_s_memory(devices) -> None:
    first, second = devices
    assert call(cu.cuDeviceCanAccessPeer, 0, 1) == 0
    with first:
        assert status(cu.cuCtxEnablePeerAccess, second.context, 0) == "PEER_ACCESS_UNSUPPORTED"
        own, first.input = first.input, second.input
        call(first.launch)
        first.input = own
        assert status(cu.cuCtxSynchronize) == "LAUNCH_FAILED"
    with second:
        call(cu.cuCtxSynchronize)
    with pytest.raises(ptx.Fault, match=_outside(second.input)):
        ptx.raise_faults()


def test_copies_between_devices_are_told_both_contexts(devices) -> None:
    first, second = devices
    with first:
        first.upload()
        wrong = second.out, first.context, first.input, first.context, 4 * N, first.stream
        assert status(cu.cuMemcpyPeerAsync, *wrong) == "INVALID_VALUE"
        right = second.out, second.context, first.input, first.context, 4 * N, first.stream
        call(cu.cuMemcpyPeerAsync, *right)
        direct = second.out, first.input, 4 * N, first.stream
        assert status(cu.cuMemcpyDtoDAsync, *direct) == "INVALID_VALUE"
        event = call(cu.cuEventCreate, 2)
        call(cu.cuEventRecord, event, first.stream)
    with second:
        call(cu.cuStreamWaitEvent, second.stream, event, 0)
        assert second.read(second.out).tolist() == [0, 1, 2, 3, 4]
        call(cu.cuEventDestroy, event)


# Capture ------------------------------------------------------------------------------------


def test_a_graph_replays_with_the_parameters_of_its_capture(gpu, schedule) -> None:
    schedule(order="forward")  # "both" runs every launch twice
    call(cu.cuStreamBeginCapture, gpu.stream, RELAXED)
    assert int(call(cu.cuStreamIsCapturing, gpu.stream)) == 1
    gpu.upload()
    call(gpu.launch, 3.0)
    graph = call(cu.cuStreamEndCapture, gpu.stream)
    assert gpu.bytes_at(gpu.out) == {0xFF}
    executable = call(cu.cuGraphInstantiate, graph, 0)
    call(cu.cuGraphDestroy, graph)
    launches = ptx.totals().launches
    for numbers in [1, 2, 3, 4, 5], [5, 4, 3, 2, 1]:
        gpu.host[:] = numbers
        call(cu.cuGraphLaunch, executable, gpu.stream)
        assert gpu.read(gpu.out).tolist() == [3 * x for x in numbers]
    assert ptx.totals().launches == launches + 2
    call(cu.cuGraphExecDestroy, executable)
    assert status(cu.cuGraphLaunch, executable, gpu.stream) == "INVALID_HANDLE"


def test_two_replays_on_two_streams_run_one_after_the_other(gpu) -> None:
    call(cu.cuStreamBeginCapture, gpu.stream, RELAXED)
    gpu.launch()
    graph = call(cu.cuStreamEndCapture, gpu.stream)
    executable = call(cu.cuGraphInstantiate, graph, 0)
    gpu.upload()
    call(cu.cuGraphLaunch, executable, gpu.stream)
    call(cu.cuGraphLaunch, executable, gpu.other)
    assert gpu.read(gpu.out, gpu.other).tolist() == [0, 2, 4, 6, 8]
    call(cu.cuGraphExecDestroy, executable)
    call(cu.cuGraphDestroy, graph)


@pytest.mark.parametrize("operation", ["stream", "query", "context", "free", "upload", "read"])
def test_what_waits_during_a_capture_ends_it(gpu, operation) -> None:
    numbers = np.zeros(N, np.float32)
    data = numbers.ctypes.data
    calls = {
        "stream": (cu.cuStreamSynchronize, gpu.stream),
        "query": (cu.cuStreamQuery, gpu.stream),
        "context": (cu.cuCtxSynchronize,),
        "free": (cu.cuMemFree, gpu.out),
        "upload": (cu.cuMemcpyHtoDAsync, gpu.input, data, 4 * N, gpu.stream),
        "read": (cu.cuMemcpyDtoHAsync, data, gpu.out, 4 * N, gpu.stream),
    }
    call(cu.cuStreamBeginCapture, gpu.stream, RELAXED)
    assert status(*calls[operation]) == "STREAM_CAPTURE_UNSUPPORTED"
    assert int(call(cu.cuStreamIsCapturing, gpu.stream)) == 2
    assert gpu.launch()[0] == cu.CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    assert status(cu.cuStreamEndCapture, gpu.stream) == "STREAM_CAPTURE_INVALIDATED"
    assert status(cu.cuStreamEndCapture, gpu.stream) == "ILLEGAL_STATE"
    assert gpu.launch()[0] == cu.CUresult.CUDA_SUCCESS


def test_events_do_not_cross_a_capture_s_border(gpu) -> None:
    inside, outside = (call(cu.cuEventCreate, 2) for _ in range(2))
    call(cu.cuEventRecord, outside, gpu.other)
    call(cu.cuStreamBeginCapture, gpu.stream, RELAXED)
    call(cu.cuEventRecord, inside, gpu.stream)
    call(cu.cuStreamWaitEvent, gpu.stream, inside, 0)
    assert status(cu.cuStreamWaitEvent, gpu.other, inside, 0) == "NOT_SUPPORTED"
    assert status(cu.cuStreamWaitEvent, gpu.stream, outside, 0) == "STREAM_CAPTURE_ISOLATION"
    assert status(cu.cuStreamEndCapture, gpu.stream) == "STREAM_CAPTURE_INVALIDATED"
    assert status(cu.cuEventSynchronize, inside) == "CAPTURED_EVENT"
    for event in inside, outside:
        call(cu.cuEventDestroy, event)


def test_memory_is_allocated_during_a_relaxed_capture_only(gpu) -> None:
    call(cu.cuStreamBeginCapture, gpu.stream, RELAXED)
    address = call(cu.cuMemAlloc, 8)
    call(cu.cuGraphDestroy, call(cu.cuStreamEndCapture, gpu.stream))
    call(cu.cuMemFree, address)
    call(cu.cuStreamBeginCapture, gpu.stream, GLOBAL)
    assert status(cu.cuMemAlloc, 8) == "STREAM_CAPTURE_UNSUPPORTED"
    assert status(cu.cuStreamEndCapture, gpu.stream) == "STREAM_CAPTURE_INVALIDATED"


def test_a_capture_ends_in_its_own_thread_unless_relaxed(gpu) -> None:
    found = []

    def end() -> None:
        with gpu:
            found.append(status(cu.cuStreamEndCapture, gpu.stream))

    for mode in GLOBAL, RELAXED:
        call(cu.cuStreamBeginCapture, gpu.stream, mode)
        thread = threading.Thread(target=end)
        thread.start()
        thread.join()
        if mode == GLOBAL:
            call(cu.cuGraphDestroy, call(cu.cuStreamEndCapture, gpu.stream))
    assert found == ["STREAM_CAPTURE_WRONG_THREAD", "CUDA_SUCCESS"]


def test_the_default_stream_is_not_captured_and_not_used_beside_a_captured_one(gpu) -> None:
    assert status(cu.cuStreamBeginCapture, 0, RELAXED) == "STREAM_CAPTURE_UNSUPPORTED"
    blocking = call(cu.cuStreamCreate, 0)
    call(cu.cuStreamBeginCapture, blocking, RELAXED)
    assert status(cu.cuMemsetD8Async, gpu.out, 0, 4, 0) == "STREAM_CAPTURE_IMPLICIT"
    call(cu.cuStreamDestroy, blocking)


# The process --------------------------------------------------------------------------------


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_host_cannot_read_a_device_address() -> None:
    done = _python(
        "import ctypes\n"
        "from minigrad.testing import ptx\n"
        "ptx.install()\n"
        "from minigrad.runtime.cuda.driver import driver\n"
        "address = driver().allocate(512)\n"
        "print('allocated', flush=True)\n"
        "ctypes.string_at(address, 1)\n"
    )
    assert done.stdout == "allocated\n"
    assert done.returncode == -11  # SIGSEGV


def test_a_context_released_as_often_as_retained_is_destroyed_with_all_in_it() -> None:
    done = _python(
        "from minigrad.testing import ptx\n"
        "ptx.install()\n"
        "from cuda.bindings import driver as cu\n"
        "cu.cuInit(0)\n"
        "contexts = [cu.cuDevicePrimaryCtxRetain(0)[1] for _ in range(2)]\n"
        "cu.cuCtxSetCurrent(contexts[0])\n"
        "stream = cu.cuStreamCreate(1)[1]\n"
        "for _ in contexts:\n"
        "    cu.cuDevicePrimaryCtxRelease(0)\n"
        "    print(cu.cuStreamSynchronize(stream)[0].name)\n"
    )
    assert done.stdout.split() == ["CUDA_SUCCESS", "CUDA_ERROR_CONTEXT_IS_DESTROYED"]


def test_install_beside_a_loaded_driver_is_refused() -> None:
    done = _python(
        "import ctypes, tempfile\n"
        "from minigrad.testing import ptx\n"
        "from minigrad.testing.ptx.elf import shared_library\n"
        "with tempfile.NamedTemporaryFile() as file:\n"
        "    file.write(shared_library('libcuda.so.1', {'cuInit': 1}))\n"
        "    file.flush()\n"
        "    library = ctypes.CDLL(file.name)\n"
        "ptx.install()\n"
    )
    assert "RuntimeError: install: this process has already loaded a driver" in done.stderr


def test_install_again_changes_choices_but_not_the_number_of_devices(schedule) -> None:
    schedule(order="7")
    with pytest.raises(RuntimeError, match="has 2 emulated devices, not 3"):
        ptx.install(devices=3)
    with pytest.raises(ValueError, match="order"):
        schedule(order="sideways")
    with pytest.raises(ValueError, match='"staged" or "late", got \'soon\''):
        schedule(pageable="soon")
