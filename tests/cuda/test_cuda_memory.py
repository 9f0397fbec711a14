"""The GPU's allocator: reuse, views that outlive their arrays, pools of captured steps."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import minigrad as mg
from minigrad.runtime.cuda import memory


@pytest.fixture(autouse=True)
def _clean() -> None:
    gc.collect()
    mg.cuda.empty_cache()


def _array(n: int = 4096):
    return memory.empty((n,), np.dtype(np.float32))


def test_a_freed_block_is_used_again() -> None:
    array = _array()
    address = array.pointer
    del array
    assert _array().pointer == address


def test_a_view_keeps_its_block() -> None:
    array = _array()
    address, view = array.pointer, array[8:].reshape(2, -1)
    del array
    assert _array().pointer != address
    del view
    assert _array().pointer == address


def test_figures_count_what_lives() -> None:
    before = mg.cuda.memory_allocated()
    mg.cuda.reset_peak_memory_stats()
    array = _array(1000)
    assert mg.cuda.memory_allocated() == before + 4000
    del array
    assert mg.cuda.memory_allocated() == before
    assert mg.cuda.max_memory_allocated() == before + 4000
    assert mg.cuda.memory_reserved() > 0
    mg.cuda.empty_cache()


def test_a_pools_blocks_are_nobody_elses() -> None:
    pool = memory.Pool()
    with memory.allocate_from(pool):
        array = _array()
    address = array.pointer
    del array
    assert _array().pointer != address
    with memory.allocate_from(pool):
        assert _array().pointer == address


def test_a_training_loop_takes_no_fresh_memory() -> None:
    x = mg.randn(8, 3, device="cuda", requires_grad=True)
    reserved = []
    for _ in range(4):
        x.grad = None
        (x * x).exp().sum().backward()
        reserved.append(mg.cuda.memory_reserved())
    assert len(set(reserved[1:])) == 1


def test_the_device_tells_how_much_of_its_memory_is_free() -> None:
    free, total = mg.cuda.mem_get_info()
    assert 0 < free <= total


def test_a_full_device_names_the_figures(monkeypatch) -> None:
    def full(nbytes: int) -> int:
        raise MemoryError

    monkeypatch.setattr(memory.driver(), "allocate", full)
    with pytest.raises(MemoryError, match=r"shape \(123456,\).*bytes"):
        _array(123456)


def test_a_retired_pools_blocks_are_everybodys() -> None:
    pool = memory.Pool()
    with memory.allocate_from(pool):
        free, lent = _array(), _array()
    addresses = {free.pointer, lent.pointer}
    del free
    mg.cuda.memory_stats()  # sorts the block in
    pool.retire()
    del lent
    first, second = _array(), _array()
    assert {first.pointer, second.pointer} == addresses
