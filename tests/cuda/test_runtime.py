"""The runtime's promises: what may change after a call, and what other threads, finalizers and
libraries do meanwhile."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.kernels.cuda import _checks
from minigrad.runtime.cuda import driver as driver_module
from minigrad.runtime.cuda import memory, staging, table
from minigrad.runtime.cuda.capture import Graph
from minigrad.runtime.cuda.driver import driver
from minigrad.testing import ptx

cu = pytest.importorskip("cuda.bindings.driver")


def _read(array: Any) -> np.ndarray:
    out = np.empty(array.shape, array.dtype)
    memory.to_host(array, out)
    return out


# Host memory that is copied ---------------------------------------------------------------------


@pytest.fixture
def _read_late() -> Iterator[None]:
    """Copies read pageable memory as late as CUDA allows; a GPU may do so or not."""
    if not ptx.installed():
        yield
        return
    from minigrad.testing.ptx.calls import system

    before, system.pageable = system.pageable, "late"
    yield
    system.pageable = before


@pytest.mark.parametrize(
    "nbytes", [1, 40, staging._BUFFER_BYTES, staging._BUFFER_BYTES + 1, 5 * staging._BUFFER_BYTES]
)
@pytest.mark.usefixtures("_read_late")
def test_host_memory_may_change_once_it_was_copied(nbytes: int) -> None:
    source = (np.arange(nbytes) * 7 % 251).astype(np.uint8)
    expected = source.copy()
    there = memory.to_device(source)
    source[:] = 255
    np.testing.assert_array_equal(_read(there), expected)


@pytest.mark.usefixtures("_read_late")
def test_numbers_for_kernels_may_change_once_they_were_copied() -> None:
    values = np.arange(4.0)
    there = table.upload(values)
    values[:] = -1
    assert _read(there).tolist() == [0, 1, 2, 3]


@pytest.mark.usefixtures("_read_late")
def test_many_copies_share_few_pinned_buffers(monkeypatch) -> None:
    uploads = staging.Uploads(driver())
    pinned = []
    allocate = driver().allocate_pinned
    monkeypatch.setattr(driver(), "allocate_pinned", lambda n: pinned.append(n) or allocate(n))
    sizes = [staging._BUFFER_BYTES * 2 // 3, 24, 100] * 8
    there = []
    for k, size in enumerate(sizes):
        there.append(memory.empty((size,), np.dtype(np.uint8)))
        uploads.staged(there[-1].pointer, np.full(size, k, np.uint8))
    assert [set(_read(array)) for array in there] == [{k} for k in range(len(sizes))]
    assert 1 <= len(pinned) <= staging._BUFFERS


def test_pinned_memory_is_given_back_although_nobody_waits(monkeypatch) -> None:
    gpu, alive = driver(), set()
    allocate, free = gpu.allocate_pinned, gpu.free_pinned

    def allocating(nbytes: int) -> int:
        address = allocate(nbytes)
        alive.add(address)
        return address

    def freeing(address: int) -> None:
        alive.discard(address)
        free(address)

    monkeypatch.setattr(gpu, "allocate_pinned", allocating)
    monkeypatch.setattr(gpu, "free_pinned", freeing)
    most = 0
    for k in range(20):
        x = mg.full((1000,), float(k)).pin_memory().to("cuda", non_blocking=True)
        most = max(most, len(alive))
        gpu.is_reached(_marked(gpu))  # time goes by
    assert most <= 5
    assert x[7].item() == 19


def _marked(gpu: Any) -> Any:
    gpu.record_event(gpu._order)
    return gpu._order


# Other libraries --------------------------------------------------------------------------------


def _set_current(context: Any) -> None:
    (status,) = cu.cuCtxSetCurrent(context)
    assert status == cu.CUresult.CUDA_SUCCESS


@pytest.mark.parametrize("theirs", ["none", "another device's"])
def test_work_goes_to_our_device_whatever_context_is_current(theirs: str) -> None:
    if theirs != "none" and mg.cuda.device_count() < 2:
        pytest.skip("there is only one GPU; MINIGRAD_EMULATED_GPU=1 emulates two")
    x = mg.ones(3, device="cuda:0")
    context = cu.CUcontext(0) if theirs == "none" else driver(1)._context
    _set_current(context)
    try:
        assert (x + mg.tensor([1.0, 2.0, 3.0], device="cuda:0")).tolist() == [2, 3, 4]
        if theirs != "none":
            assert cu.cuCtxGetCurrent()[1] == context
    finally:
        _set_current(driver(0)._context)


def test_a_launch_asks_for_the_context_once(monkeypatch) -> None:
    """The eager path: a question and the launch, when no other library has changed the context."""
    x = mg.ones(4, device="cuda")
    y = x.exp()
    called: list[str] = []

    class Spy:
        def __getattr__(self, name: str) -> Any:
            function = getattr(cu, name)
            if not name.startswith("cu"):
                return function

            def spied(*args: Any) -> Any:
                called.append(name)
                return function(*args)

            spied.__name__ = name
            return spied

    monkeypatch.setattr(driver(), "_api", Spy())
    del y
    x.exp()
    assert called == ["cuCtxGetCurrent", "cuLaunchKernel"]


def test_changing_streams_makes_no_events(monkeypatch) -> None:
    made: list[int] = []
    create = cu.cuEventCreate
    monkeypatch.setattr(cu, "cuEventCreate", lambda flags: made.append(flags) or create(flags))
    side = mg.cuda.Stream()
    for _ in range(3):
        with mg.cuda.stream(side):
            y = mg.ones(2, device="cuda") + 1
    assert made == []
    assert y.tolist() == [2, 2]
    mg.cuda.Event()
    driver().new_event(timed=False)
    assert made == [0, int(cu.CUevent_flags.CU_EVENT_DISABLE_TIMING)]


# Versions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("found", "toolkit"), [(12000, 12), (12080, 12), (13000, 12), (13010, 13)])
def test_a_driver_loads_kernels_of_its_cuda_and_older(
    found: int, toolkit: int, monkeypatch
) -> None:
    monkeypatch.setattr(cu, "cuDriverGetVersion", lambda: (cu.CUresult.CUDA_SUCCESS, found))
    monkeypatch.setattr(driver_module, "_toolkit_version", lambda: toolkit)
    assert driver_module.Driver(0).name == driver().name


@pytest.mark.parametrize(
    ("found", "toolkit", "words"),
    [
        (12080, 13, r'CUDA 12\.8.*CUDA 13.*"minigrad\[cuda12\]", or .*CUDA 13 \(580 or newer\)'),
        (11040, 12, r"CUDA 11\.4.*CUDA 12.*; install an NVIDIA driver for CUDA 12 \(525 or newer"),
    ],
)
def test_an_older_driver_is_told_what_to_install(
    found: int, toolkit: int, words: str, monkeypatch
) -> None:
    monkeypatch.setattr(cu, "cuDriverGetVersion", lambda: (cu.CUresult.CUDA_SUCCESS, found))
    monkeypatch.setattr(driver_module, "_toolkit_version", lambda: toolkit)
    with pytest.raises(mg.DeviceError, match=words):
        driver_module.Driver(0)


# Finalizers and threads -------------------------------------------------------------------------


def test_memory_is_released_while_finalizers_run(monkeypatch) -> None:
    """A step that is collected meanwhile retires its pool, a user's object allocates."""
    gc.collect()
    mg.cuda.empty_cache()
    sizes = (1000, 5000, 9000)
    kept = [memory.empty((n,), np.dtype(np.float32)) for n in sizes]
    pool = memory.Pool()
    with memory.allocate_from(pool):
        kept.append(memory.empty((70_000,), np.dtype(np.float32)))
    kept.clear()
    mg.cuda.memory_stats()  # sorts the blocks in
    free, freed = driver().free, []

    def freeing(address: int) -> None:
        if not freed:
            pool.retire()
            memory.empty((30_000,), np.dtype(np.float32))
        freed.append(address)
        free(address)

    monkeypatch.setattr(driver(), "free", freeing)
    reserved = mg.cuda.memory_reserved()
    mg.cuda.empty_cache()
    mg.cuda.empty_cache()
    assert len(freed) == len(set(freed)) == 5
    assert mg.cuda.memory_reserved() <= reserved - 4 * (sum(sizes) + 70_000)


@pytest.mark.parametrize(
    ("make", "free"),
    [
        (mg.cuda.Event, "free_event"),
        (mg.cuda.Stream, "free_stream"),
        (lambda: memory.empty_pinned((3,), np.dtype(np.float32)), "free_pinned"),
    ],
    ids=["event", "stream", "pinned memory"],
)
def test_finalizers_leave_the_driver_to_later_calls(
    make: Callable[[], Any], free: str, monkeypatch
) -> None:
    mg.cuda.synchronize()
    kept, calls = [make()], []
    function = getattr(driver(), free)
    monkeypatch.setattr(driver(), free, lambda handle: calls.append(handle) or function(handle))
    graph = Graph()
    with graph.record():
        kept.clear()
        gc.collect()
        driver().free_discarded()
        assert calls == []
    mg.cuda.synchronize()
    assert len(calls) == 1


def test_a_check_is_read_only_once_it_was_launched(monkeypatch) -> None:
    """Another thread waits for the GPU while this one is about to queue a check."""
    x, index = mg.arange(4.0, device="cuda"), mg.tensor([1, 9], device="cuda")
    x[mg.tensor([0, 1], device="cuda")]
    mg.cuda.synchronize()
    launch, errors, threads = _checks.launch, [], []

    def synchronize() -> None:
        try:
            mg.cuda.synchronize()
        except mg.TargetError as error:
            errors.append(str(error))

    def late(*args: Any) -> None:
        threads.append(threading.Thread(target=synchronize))
        threads[0].start()
        threads[0].join(timeout=0.3)
        launch(*args)

    monkeypatch.setattr(_checks, "launch", late)
    x[index]
    threads[0].join()
    synchronize()
    assert len(errors) == 1
    assert "index 9 is out of range" in errors[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork processes")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told_why_it_has_no_gpu() -> None:
    driver()
    child = os.fork()
    if child == 0:
        reason = mg.cuda.why_unavailable() or ""
        os._exit(0 if "forked" in reason else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
