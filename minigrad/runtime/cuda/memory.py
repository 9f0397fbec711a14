"""A caching allocator for GPU memory, and pools with fixed addresses for captured steps.

Asking the driver for memory takes long and may wait for the GPU, so a freed block is kept and
handed out again for an array of its size class. All work is queued on one stream: what still reads
a block that is handed out again was queued before what will write it.

A captured step replays at the addresses of its capture. Its arrays come from a `Pool` of its own,
whose blocks nobody else gets and which keeps them while the step lives.

As on the CPU (runtime/memory.py), a view may outlive its array, so the block is lent to an owner
object that NumPy keeps as the base of every view; its deletion, in whatever thread, only puts the
block into a queue.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import GraphError
from ..memory import size_class
from .array import DeviceArray
from .driver import driver, started
from .recording import current, serials

_SMALLEST = 512  # bytes of a block, at least


@dataclass(slots=True)
class Stats:
    """Bytes. allocated: of the arrays alive; reserved: held from the driver."""

    allocated: int = 0
    max_allocated: int = 0
    reserved: int = 0
    max_reserved: int = 0


class _Block:
    __slots__ = ("address", "lent", "pool", "size")

    def __init__(self, pool: Pool, address: int, size: int) -> None:
        self.pool, self.address, self.size, self.lent = pool, address, size, 0


class Pool:
    """Blocks by size class. A block goes back to the pool it came from."""

    def __init__(self) -> None:
        self.free: dict[int, list[_Block]] = {}
        self.retired = False

    def retire(self) -> None:
        """Its blocks are everybody's from now on, those still lent when they come back."""
        with _lock:
            self.retired = True
            for size, blocks in self.free.items():
                _shared.free.setdefault(size, []).extend(blocks)
                for block in blocks:
                    block.pool = _shared
            self.free = {}

    def release(self) -> None:
        """Give the unused blocks back to the driver."""
        with _lock:
            _sort_in()
            for blocks in self.free.values():
                for block in blocks:
                    driver().free(block.address)
                    _stats.reserved -= block.size
            self.free.clear()


_lock = threading.RLock()
_stats = Stats()
_returned: deque[_Block] = deque()
_shared = Pool()


class _Current(threading.local):
    pool = _shared


_current = _Current()


class _Owner:
    """Lends a block to one array and its views."""

    __slots__ = ("__array_interface__", "__weakref__", "block", "serial")

    def __init__(self, block: _Block, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.block, self.serial = block, next(serials)
        self.__array_interface__: dict[str, Any] = {
            "version": 3, "data": (block.address, False), "shape": shape, "typestr": dtype.str,
        }  # fmt: skip

    def __del__(self, give_back: Any = _returned.append) -> None:
        give_back(self.block)


def block_size(nbytes: int) -> int:
    """Bytes of the block for an array of `nbytes`: few sizes, so that blocks fit again. An emulated
    GPU takes exactly `nbytes` instead, and sees what reaches beyond."""
    return size_class(max(nbytes, _SMALLEST))


def empty(shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
    """An uninitialised C-ordered array. MemoryError names the figures if the device is full."""
    nbytes = math.prod(shape) * dtype.itemsize
    size = block_size(nbytes)
    with _lock:
        _sort_in()
        pool = _current.pool
        blocks = pool.free.get(size)
        block = blocks.pop() if blocks else _fresh(pool, size, shape, dtype)
        block.lent = nbytes
        _stats.allocated += nbytes
        _stats.max_allocated = max(_stats.max_allocated, _stats.allocated)
    return DeviceArray(np.asarray(_Owner(block, shape, dtype)), block.address)


def _sort_in() -> None:
    while _returned:
        block = _returned.popleft()
        _stats.allocated -= block.lent
        if block.pool.retired:
            block.pool = _shared
        block.pool.free.setdefault(block.size, []).append(block)


def _fresh(pool: Pool, size: int, shape: tuple[int, ...], dtype: np.dtype) -> _Block:
    try:
        address = driver().allocate(size)
    except MemoryError:
        _shared.release()
        try:
            address = driver().allocate(size)
        except MemoryError:
            free, total = driver().memory_info()
            raise MemoryError(
                f"cuda: no memory for an array of shape {shape} and dtype {dtype.name} "
                f"({size} bytes): the device has {total} bytes, {free} of them free, and minigrad "
                f"holds {_stats.reserved}, of which {_stats.allocated} are in use"
            ) from None
    _stats.reserved += size
    _stats.max_reserved = max(_stats.max_reserved, _stats.reserved)
    return _Block(pool, address, size)


@contextmanager
def allocate_from(pool: Pool) -> Iterator[None]:
    """Arrays that this thread makes inside come from `pool`."""
    before, _current.pool = _current.pool, pool
    try:
        yield
    finally:
        _current.pool = before


def lasting() -> AbstractContextManager[None]:
    """Arrays made inside keep their values from replay to replay. Those of a recording do not: its
    pool gives a block to one array after the other, and every replay writes them all."""
    return allocate_from(_shared if current.recording is not None else _current.pool)


# Copies -------------------------------------------------------------------------------------


class _Pinned:
    """Host memory at a fixed place, from which the device copies while the host goes on."""

    __slots__ = ("__array_interface__", "address")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.address = driver().allocate_pinned(max(math.prod(shape) * dtype.itemsize, 1))
        self.__array_interface__: dict[str, Any] = {
            "version": 3, "data": (self.address, False), "shape": shape, "typestr": dtype.str,
        }  # fmt: skip

    def __del__(self) -> None:
        driver().free_pinned(self.address)


_in_flight: list[np.ndarray] = []  # pinned arrays that the device may still read


def empty_pinned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised C-ordered host array in pinned memory."""
    return np.asarray(_Pinned(shape, dtype))


def is_pinned(array: np.ndarray) -> bool:
    """Whether the device reads this host memory by itself, ours or another library's."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, _Pinned) or (started() and driver().is_pinned(array.ctypes.data))


def to_device(array: np.ndarray, wait: bool = True) -> DeviceArray:
    """A copy of a C-ordered host array, which may change afterwards: memory that is not pinned is
    read before this returns, pinned memory only if it waits."""
    if driver().capturing:
        raise GraphError(
            "a captured step must not copy from the host, whose memory a replay would read again: "
            "pass the tensor as an argument, or make it outside"
        )
    out = empty(array.shape, array.dtype)
    if array.nbytes:
        pinned = is_pinned(array)
        with driver().turn:
            driver().upload(out.pointer, array.ctypes.data, array.nbytes)
            if pinned:
                _in_flight.append(array)
        if pinned and wait:
            synchronize()
    return out


def synchronize() -> None:
    """Wait until all queued work is done."""
    with driver().turn:
        driver().synchronize()
        _in_flight.clear()


def to_host(array: DeviceArray, out: np.ndarray) -> None:
    """Copy a C-ordered device array into a C-ordered host array, and wait for it."""
    if driver().capturing:
        raise GraphError(
            "a captured step must not read values on the host (item, tolist, printing, indexing by "
            "a mask): return the tensor, and read it outside"
        )
    if array.nbytes:
        driver().download(out.ctypes.data, array.pointer, array.nbytes)
    synchronize()


# Figures ------------------------------------------------------------------------------------


def stats() -> Stats:
    with _lock:
        _sort_in()
        return replace(_stats)


def reset_peaks() -> None:
    with _lock:
        _sort_in()
        _stats.max_allocated, _stats.max_reserved = _stats.allocated, _stats.reserved


def release() -> None:
    """Give the blocks kept for reuse back to the driver."""
    if driver().capturing:
        raise GraphError("a captured step must not give memory back to the driver")
    synchronize()
    _shared.release()
