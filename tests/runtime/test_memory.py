"""The allocator: no live memory is handed out twice, freed memory is."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import Tensor
from minigrad.runtime import memory

FLOAT32 = np.dtype(np.float32)


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


def test_statistics_count_bytes_and_blocks():
    memory.reset_peak_memory_stats()
    start = memory.memory_stats()
    a = memory.empty((1000,), FLOAT32)
    b = memory.empty((1024,), FLOAT32)
    assert memory.memory_allocated() - start.allocated == 4000 + 4096
    assert memory.memory_reserved() - start.reserved == 2 * 4096
    del a, b
    now = memory.memory_stats()
    assert now.allocated == start.allocated
    assert now.max_allocated - start.allocated == 4000 + 4096
    assert now.reserved - start.reserved == 2 * 4096
    assert (now.fresh - start.fresh, now.reused - start.reused) == (2, 0)
    b = memory.empty((1024,), FLOAT32)
    now = memory.memory_stats()
    assert (now.fresh - start.fresh, now.reused - start.reused) == (2, 1)
    memory.empty_cache()
    assert memory.memory_reserved() - start.reserved == 4096
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


@pytest.fixture
def nothing_to_spare(monkeypatch):
    """No more may be reserved than was ever alive at one time."""
    monkeypatch.setattr(memory, "_most", memory.memory_allocated())
    monkeypatch.setattr(memory, "_KEPT", 1)


def test_a_smaller_array_takes_a_larger_block_rather_than_more_memory(nothing_to_spare):
    # Arrays that are alive already, of other tests, have rounded sizes.
    start = memory.memory_reserved() - memory.memory_allocated()
    array = memory.empty((1000,), FLOAT32)
    first = address(array)
    del array
    near = memory.empty((800,), FLOAT32)
    assert address(near) == first
    assert memory.memory_reserved() - memory.memory_allocated() - start < 4096


def test_a_kept_block_of_more_than_twice_the_size_is_given_back_instead(nothing_to_spare):
    start = memory.memory_reserved()
    array = memory.empty((4000,), FLOAT32)
    del array
    small = memory.empty((1600,), FLOAT32)
    assert memory.memory_reserved() - start == memory.size_class(small.nbytes)


def test_while_little_is_kept_each_size_has_its_own_blocks(monkeypatch):
    """So that a loop over one shape finds, from its second step on, what it left behind."""
    monkeypatch.setattr(memory, "_most", 10**6)
    array = memory.empty((1000,), FLOAT32)
    first = address(array)
    del array
    assert address(memory.empty((900,), FLOAT32)) != first
    assert address(memory.empty((1000,), FLOAT32)) == first


def test_arrays_of_ever_new_sizes_do_not_pile_up():
    memory.reset_peak_memory_stats()
    start = memory.memory_stats()
    for step in range(200):
        arrays = [memory.empty((2**k + 61 * step % 2**k,), FLOAT32) for k in range(16, 20)]
        del arrays
    now = memory.memory_stats()
    most = max(memory._most, now.max_allocated)
    assert now.reserved - start.reserved <= memory._KEPT * most
    assert now.reused > now.fresh - start.fresh


def test_the_block_unused_longest_is_given_back_first(monkeypatch):
    monkeypatch.setattr(memory, "_most", 10**6)
    young, old = memory.empty((4000,), FLOAT32), memory.empty((1000,), FLOAT32)
    kept = address(young)
    del old
    held = memory.empty((9000,), FLOAT32)  # fresh memory is what time is counted in
    del young
    size = memory.size_class(4 * 40_000)
    monkeypatch.setattr(memory, "_KEPT", 1)
    monkeypatch.setattr(memory, "_most", memory.memory_reserved() + size - 1)  # a byte too much
    other = memory.empty((40_000,), FLOAT32)
    assert [size for size, blocks in memory._free.items() if blocks] == [16384]
    assert address(memory.empty((4000,), FLOAT32)) == kept
    del held, other


def test_kept_blocks_are_given_back_when_the_system_has_no_more(monkeypatch):
    array = memory.empty((1000,), FLOAT32)
    del array
    real, requests = memory._Block, []

    def scarce(size: int) -> Any:
        requests.append(size)
        if len(requests) == 1:
            assert any(memory._free.values())
            raise MemoryError
        assert not any(memory._free.values())
        return real(size)

    monkeypatch.setattr(memory, "_Block", scarce)
    assert memory.empty((5000,), FLOAT32).shape == (5000,)
    assert len(requests) == 2


def test_an_allocation_amid_an_allocation_does_no_harm(monkeypatch):
    """As a signal handler makes it, or the finalizer of an object that the collector finds."""
    inner: list[np.ndarray] = []
    start = memory.memory_allocated()
    keep = [memory.empty((1000,), FLOAT32) for _ in range(4)]
    keep.clear()
    for name in ("_sort_in", "_kept", "_fresh", "size_class"):
        real = getattr(memory, name)

        def interrupted(*args: Any, name: str = name, real: Any = real) -> Any:
            with monkeypatch.context() as undisturbed:
                undisturbed.setattr(memory, name, real)
                inner.append(memory.empty((1000,), FLOAT32))
                inner.append(memory.empty((1000,), FLOAT32))
                del inner[0]
            return real(*args)

        with monkeypatch.context() as disturbed:
            disturbed.setattr(memory, name, interrupted)
            outer = [memory.empty((1000,), FLOAT32) for _ in range(3)]
        arrays = outer + inner
        assert len({address(a) for a in arrays}) == len(arrays)
        assert memory.memory_allocated() - start == 4000 * len(arrays)
        del outer, arrays
        inner.clear()
    assert memory.memory_allocated() == start


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
