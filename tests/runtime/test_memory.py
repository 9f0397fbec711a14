"""The allocator: no live memory is handed out twice, freed memory is."""

from __future__ import annotations

import gc
import mmap
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import Tensor
from minigrad.runtime import memory
from minigrad.runtime.pieces import Pieces

FLOAT32 = np.dtype(np.float32)
LARGE = memory._LARGE


@pytest.fixture(autouse=True)
def _empty_cache():
    gc.collect()
    memory.empty_cache()
    yield
    memory.empty_cache()


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_freed_memory_is_reused():
    array = memory.empty((1000,), FLOAT32)
    first = address(array)
    del array
    assert address(memory.empty((1000,), FLOAT32)) == first


def test_memory_of_one_shape_and_dtype_serves_another_of_the_same_size():
    array = memory.empty((500, 2), FLOAT32)
    first = address(array)
    del array
    array = memory.empty((500,), np.dtype(np.float64))
    assert address(array) == first
    assert array.shape == (500,)
    assert array.dtype == np.float64


def test_live_memory_is_never_handed_out():
    arrays = [memory.empty((1000,), FLOAT32) for _ in range(20)]
    for index, array in enumerate(arrays):
        array[...] = index
    assert len({address(a) for a in arrays}) == 20
    assert all((array == index).all() for index, array in enumerate(arrays))


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[1:],
        lambda a: a.reshape(10, 100)[3:, ::7],
        lambda a: a[10:20][5:],
        lambda a: a.view(np.int32),
        lambda a: np.broadcast_to(a, (2, 1000)),
        lambda a: memoryview(a),
    ],
    ids=["slice", "reshape", "slice of slice", "reinterpret", "broadcast", "buffer"],
)
def test_a_view_keeps_memory_alive_when_the_array_is_gone(view):
    array = memory.empty((1000,), FLOAT32)
    array[...] = np.arange(1000)
    kept = view(array)
    before = np.array(kept)
    del array
    others = [memory.empty((1000,), FLOAT32) for _ in range(5)]
    for other in others:
        other[...] = -1
    np.testing.assert_array_equal(np.array(kept), before)


def test_an_array_taken_from_a_tensor_outlives_it():
    t = Tensor(memory.empty((1000,), FLOAT32))
    t.array[...] = np.arange(1000)
    kept = t.numpy()[1:]
    del t
    other = memory.empty((1000,), FLOAT32)
    other[...] = -1
    np.testing.assert_array_equal(kept, np.arange(1, 1000))


@given(st.lists(st.integers(0, 5000), max_size=20), st.sampled_from([np.float32, np.float64]))
def test_arrays_are_aligned_contiguous_and_apart(sizes, dtype):
    arrays = [memory.empty((size,), np.dtype(dtype)) for size in sizes]
    for index, array in enumerate(arrays):
        array[...] = index
        assert array.flags.c_contiguous
        assert array.flags.writeable
        if array.nbytes >= 3072:
            assert address(array) % 64 == 0
    assert all((array == index).all() for index, array in enumerate(arrays))


@given(st.integers(1, 2**40))
def testsize_classes_waste_at_most_an_eighth(nbytes):
    size = memory.size_class(nbytes)
    assert nbytes <= size <= max(nbytes * 9 / 8, nbytes + 64)
    assert memory.size_class(size) == size


def test_statistics_count_bytes_and_segments():
    memory.reset_peak_memory_stats()
    start = memory.memory_stats()
    a = memory.empty((1000,), FLOAT32)
    b = memory.empty((LARGE // 4,), FLOAT32)
    assert memory.memory_allocated() - start.allocated == 4000 + LARGE
    del a, b
    now = memory.memory_stats()
    assert now.allocated == start.allocated
    assert now.max_allocated - start.allocated == 4000 + LARGE
    fresh, reused = now.fresh - start.fresh, now.reused - start.reused
    assert fresh + reused == 2
    b = memory.empty((LARGE // 4,), FLOAT32)
    now = memory.memory_stats()
    assert (now.fresh - start.fresh, now.reused - start.reused) == (fresh, reused + 1)
    del b
    memory.empty_cache()
    assert memory.memory_reserved() == start.reserved
    memory.reset_peak_memory_stats()
    assert memory.max_memory_allocated() == start.allocated


def test_the_public_names_are_in_the_runtime_package():
    start = mg.runtime.memory_allocated()
    x = mg.empty(1000)
    assert mg.runtime.memory_allocated() - start == 4000
    assert mg.runtime.memory_reserved() >= 4000
    del x
    assert mg.runtime.memory_stats().allocated == start


def test_arrays_of_ever_new_sizes_do_not_pile_up():
    memory.reset_peak_memory_stats()
    start = memory.memory_stats()
    for step in range(200):
        arrays = [memory.empty((2**k + 61 * step % 2**k,), FLOAT32) for k in range(16, 20)]
        del arrays
    now = memory.memory_stats()
    assert now.fresh - start.fresh <= 2
    assert now.reserved - start.reserved <= 2 * memory._SEGMENT


@pytest.fixture
def no_segments(monkeypatch):
    """As in a process that has not allocated yet."""
    for name, value in {
        "_segments": [], "_pieces": Pieces(), "_by_size": defaultdict(list), "_lent": {},
        "_most": 0, "_stats": memory.MemoryStats(),
    }.items():  # fmt: skip
        monkeypatch.setattr(memory, name, value)
    yield
    gc.collect()
    memory.empty_cache()  # what was lent here goes back here
    assert not memory._segments


def nbytes(size: int) -> np.ndarray:
    return memory.empty((size,), np.dtype(np.uint8))


def test_small_pieces_make_room_before_a_new_segment(no_segments):
    arrays = [memory.empty((1000,), FLOAT32) for _ in range(memory._SEGMENT // 4096)]
    arrays.clear()
    large = nbytes(memory._SEGMENT)
    assert memory.memory_stats().fresh == 1
    assert memory.memory_reserved() == memory._SEGMENT
    del large


def test_segments_without_arrays_are_given_back_when_too_much_is_kept(no_segments, monkeypatch):
    held = nbytes(memory._SEGMENT)
    gone = nbytes(2 * memory._SEGMENT)
    del gone
    nbytes(3 * memory._SEGMENT)
    assert memory.memory_reserved() == 6 * memory._SEGMENT
    monkeypatch.setattr(memory, "_KEPT", 1)
    nbytes(5 * memory._SEGMENT)
    assert memory.memory_reserved() == 6 * memory._SEGMENT
    del held


def test_segments_are_given_back_when_the_system_has_no_more(no_segments, monkeypatch):
    nbytes(memory._SEGMENT)
    real, requests = memory._Segment, []

    def scarce(size: int) -> Any:
        requests.append(size)
        if len(requests) == 1:
            raise MemoryError
        assert not memory._segments
        return real(size)

    monkeypatch.setattr(memory, "_Segment", scarce)
    nbytes(2 * memory._SEGMENT)
    assert requests == [2 * memory._SEGMENT] * 2


def test_more_than_there_is(no_segments):
    with pytest.raises(MemoryError, match="the system has no"):
        nbytes(2**61)
    assert nbytes(5000).size == 5000


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux what it holds")
def test_empty_cache_gives_pages_between_arrays_back(no_segments):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    first, large, last = nbytes(4096), nbytes(memory._SEGMENT // 2), nbytes(4096)
    for array in (first, large, last):
        array[...] = 1
    del large
    before = resident()
    memory.empty_cache()
    assert before - resident() > memory._SEGMENT // 2 - 2**22
    assert first.all()
    assert last.all()
    assert memory.memory_reserved() == memory._SEGMENT


@pytest.mark.parametrize(
    "place",
    ["_sort_in", "_fresh", "_find_again", "_release", "_release_pages", "_Segment", "_owner_class"],
)
def test_an_allocation_amid_another_does_no_harm(no_segments, monkeypatch, place):
    """As a signal handler makes it, or the finalizer of an object that the collector finds."""
    real, inner = getattr(memory, place), []

    def interrupted(*args: Any) -> Any:
        inner.extend([memory.empty((1000,), FLOAT32), nbytes(2 * memory._SEGMENT)])
        for array in inner:
            array[...] = 7
        del inner[0]
        memory.empty_cache()
        assert memory.memory_stats().allocated >= 0
        return real(*args)

    nbytes(memory._SEGMENT // 2)
    held = nbytes(4 * LARGE)
    with monkeypatch.context() as disturbed:
        disturbed.setattr(memory, place, interrupted)
        disturbed.setattr(memory, "_KEPT", 1)
        outer = [nbytes(n * memory._SEGMENT // 2) for n in (1, 2, 3)]
        memory.empty_cache()
    assert inner
    for array in [held, *outer]:
        array[...] = 3
    assert all((array == 7).all() for array in inner)
    assert memory.memory_allocated() == held.nbytes + sum(array.nbytes for array in outer)
    del held, outer, array


def test_what_exceptions_lose_is_found_again(no_segments):
    """Ctrl-C amid thousands of allocations costs no memory, and lends none twice."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("the system has no timers")
    alive: list[np.ndarray] = []
    unheard = 0

    def work() -> None:
        draw, end = np.random.default_rng(len(alive)), time.perf_counter() + 0.02
        while time.perf_counter() < end:  # nobody hears what comes amid a finalizer
            array = nbytes(int(draw.choice([4000, 60_000, LARGE, 3 * LARGE])))
            array[:: array.size - 1] = 1
            alive.append(array)
            del alive[: max(0, len(alive) - int(draw.integers(1, 20)))]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(300):
            with suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.001)
                work()
                unheard += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert unheard < 100
    places = sorted((address(array), array.nbytes) for array in alive)
    assert all(a + n <= b for (a, n), (b, _) in pairwise(places))
    assert memory.memory_reserved() <= 2 * memory._SEGMENT
    alive.clear()
    memory.empty_cache()


def test_an_array_may_be_used_when_the_interpreter_has_torn_down_its_modules():
    """By an object that is finalised last, or a thread that is still running."""
    program = """
import os, sys
import minigrad as mg

class Late:
    def __init__(self):
        self.bytes = memoryview(mg.zeros(10**6).array).cast("B")

    def __del__(self, write=os.write):
        self.bytes[:3] = b"yes"
        write(1, self.bytes[:3])

sys.late = Late()
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, b"yes"), done.stderr


def test_scalars_and_empty_arrays_work():
    assert memory.empty((), FLOAT32).shape == ()
    assert memory.empty((0, 5), FLOAT32).shape == (0, 5)


def test_threads_do_not_share_live_memory():
    failures: list[str] = []
    live = memory.memory_allocated()
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        generator = np.random.default_rng(number)
        kept: list[np.ndarray] = []
        for _ in range(300):
            array = memory.empty((int(generator.integers(1300, 1320)),), FLOAT32)
            array[...] = number
            kept.append(array)
            cycle: list[Any] = [array]  # freed when, and in the thread in which, the collector runs
            cycle.append(cycle)
            if len(kept) > 5:
                kept.pop(int(generator.integers(5)))
            if any((k != number).any() for k in kept):
                failures.append(f"thread {number} lost its values")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert not failures
    assert memory.memory_allocated() == live
