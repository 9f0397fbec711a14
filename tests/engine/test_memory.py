"""The allocator: no live memory is handed out twice, freed memory is."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    t.data[...] = np.arange(1000)
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
        if array.nbytes >= 1024:
            assert address(array) % 64 == 0
    assert all((array == index).all() for index, array in enumerate(arrays))


@given(st.integers(1, 2**40))
def test_size_classes_waste_at_most_an_eighth(nbytes):
    size = memory._size_class(nbytes)
    assert nbytes <= size <= max(nbytes * 9 / 8, nbytes + 64)
    assert memory._size_class(size) == size


def test_stats_count_live_peak_and_cached_bytes():
    live = memory.stats.live
    memory.reset_peak()
    a = memory.empty((1024,), FLOAT32)
    b = memory.empty((1024,), FLOAT32)
    assert memory.stats.live - live == 2 * 4096
    del a, b
    assert memory.stats.live == live
    assert memory.stats.peak - live == 2 * 4096
    assert memory.stats.cached == 2 * 4096
    memory.empty_cache()
    assert memory.stats.cached == 0


def test_scalars_and_empty_arrays_work():
    assert memory.empty((), FLOAT32).shape == ()
    assert memory.empty((0, 5), FLOAT32).shape == (0, 5)


def test_threads_do_not_share_live_memory():
    failures: list[str] = []
    live = memory.stats.live
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        generator = np.random.default_rng(number)
        kept: list[np.ndarray] = []
        for _ in range(300):
            array = memory.empty((int(generator.integers(300, 320)),), FLOAT32)
            array[...] = number
            kept.append(array)
            if len(kept) > 5:
                kept.pop(int(generator.integers(5)))
            if any((k != number).any() for k in kept):
                failures.append(f"thread {number} lost its values")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert memory.stats.live == live
