"""A caching allocator for GPU memory, and pools with fixed addresses for captured steps.

Asking the driver for memory takes long and may wait for the GPU, so a freed block is kept and
handed out again for an array of its size class. All work of a device is queued on one stream: what
still reads a block that is handed out again was queued before what will write it.

A captured step replays at the addresses of its capture. Its arrays come from a `Pool` of its own,
whose blocks nobody else gets and which keeps them while the step lives.

As on the CPU (runtime/memory.py), a view may outlive its array, so the block is lent to an owner
object that NumPy keeps as the base of every view. Finalizers run in any thread and amid anything,
also amid an allocation, so they take no lock and call no driver: a block, or a pool, only goes into
a queue, which is sorted in later; and no step under the lock relies on what a step before has seen.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...device import current_cuda
from ...errors import GraphError
from ..memory import size_class
from .array import DeviceArray
from .driver import Driver, driver, started
from .recording import current, serials
from .staging import Uploads

_SMALLEST = 512  # bytes of a block, at least


@dataclass(slots=True)
class Stats:
    """Bytes. allocated: of the arrays alive; reserved: held from the driver."""

    allocated: int = 0
    max_allocated: int = 0
    reserved: int = 0
    max_reserved: int = 0


def block_size(nbytes: int) -> int:
    """Bytes of the block for an array of `nbytes`: few sizes, so that blocks fit again. An emulated
    GPU takes exactly `nbytes` instead, and sees what reaches beyond."""
    return size_class(max(nbytes, _SMALLEST))


class _Block:
    """Memory at a fixed address. lent: bytes of the array that has it."""

    __slots__ = ("address", "lent", "pool", "size")

    def __init__(self, pool: Pool, address: int, size: int) -> None:
        self.pool, self.address, self.size, self.lent = pool, address, size, 0


class Pool:
    """Blocks of one device by size class. A block goes back to the pool it came from."""

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = memory or of()
        self.free: dict[int, list[_Block]] = {}
        self.retired = False

    def retire(self) -> None:
        """Its blocks are everybody's from now on, those still lent when they come back. For
        finalizers, too."""
        self.memory.returned.append(self)


class Memory:
    """A device's memory. returned: blocks given back, and pools that nobody needs any more."""

    def __init__(self, driver: Driver) -> None:
        self.driver, self.uploads = driver, Uploads(driver)
        self.returned: deque[_Block | Pool] = deque()
        self.stats = Stats()
        self._lock = threading.RLock()
        self.shared = Pool(self)

    def pool(self) -> Pool:
        """From which this thread's arrays come."""
        pool = _thread.pool
        return pool if pool is not None and pool.memory is self else self.shared

    def lend(self, shape: tuple[int, ...], dtype: np.dtype) -> _Block:
        nbytes = math.prod(shape) * dtype.itemsize
        size = block_size(nbytes)
        with self._lock:
            self._sort_in()
            pool = self.pool()
            try:
                block = pool.free[size].pop()
            except (KeyError, IndexError):
                block = None
            block = block or self._fresh(pool, size, shape, dtype)
            block.lent = nbytes
            stats = self.stats
            stats.allocated += nbytes
            if stats.allocated > stats.max_allocated:
                stats.max_allocated = stats.allocated
        return block

    def _sort_in(self) -> None:
        while self.returned:
            try:
                back = self.returned.popleft()
            except IndexError:  # a finalizer's allocation was faster
                return
            if isinstance(back, Pool):
                back.retired = True
                for block in _taken_from(back):
                    self._keep(block)
            else:
                self.stats.allocated -= back.lent
                self._keep(back)

    def _keep(self, block: _Block) -> None:
        if block.pool.retired:
            block.pool = self.shared
        block.pool.free.setdefault(block.size, []).append(block)

    def _fresh(self, pool: Pool, size: int, shape: tuple[int, ...], dtype: np.dtype) -> _Block:
        try:
            address = self.driver.allocate(size)
        except MemoryError:
            self._release()
            try:
                address = self.driver.allocate(size)
            except MemoryError:
                free, total = self.driver.memory_info()
                raise MemoryError(
                    f"cuda:{self.driver.index}: no memory for an array of shape {shape} and dtype "
                    f"{dtype.name} ({size} bytes): the device has {total} bytes, {free} of them "
                    f"free, and minigrad holds {self.stats.reserved}, of which "
                    f"{self.stats.allocated} are in use"
                ) from None
        self.stats.reserved += size
        self.stats.max_reserved = max(self.stats.max_reserved, self.stats.reserved)
        return _Block(pool, address, size)

    def _release(self) -> None:
        for block in _taken_from(self.shared):
            self.stats.reserved -= block.size
            self.driver.free(block.address)

    def release(self) -> None:
        """Give the blocks kept for reuse back to the driver."""
        if current.recording is not None:
            raise GraphError("a captured step must not give memory back to the driver")
        with self.driver.turn:
            self.synchronize()
            with self._lock:
                self._sort_in()
                self._release()

    def synchronize(self) -> None:
        """Wait until all queued work is done."""
        with self.driver.turn:
            self.driver.synchronize()
            self.uploads.release_finished()

    def figures(self) -> Stats:
        with self._lock:
            self._sort_in()
            return replace(self.stats)

    def reset_peaks(self) -> None:
        with self._lock:
            self._sort_in()
            self.stats.max_allocated, self.stats.max_reserved = (
                self.stats.allocated, self.stats.reserved,
            )  # fmt: skip


def _taken_from(pool: Pool) -> Iterator[_Block]:
    """Its unused blocks, which are taken from it one by one."""
    for size in list(pool.free):
        blocks = pool.free[size]
        while blocks:
            try:
                block = blocks.pop()
            except IndexError:  # a finalizer's allocation was faster
                break
            yield block


_memories: dict[int, Memory] = {}
_lock = threading.Lock()


def of(index: int | None = None) -> Memory:
    """The memory of a device, by default of the current one."""
    if index is None:
        index = current_cuda.index
    return _memories.get(index) or _start(index)


def _start(index: int) -> Memory:
    with _lock:
        if index not in _memories:
            _memories[index] = Memory(driver(index))
        return _memories[index]


class _Thread(threading.local):
    """pool: from which this thread allocates on the pool's device."""

    pool: Pool | None = None


_thread = _Thread()


class _Owner:
    """Lends a block to one array and its views."""

    __slots__ = ("__array_interface__", "__weakref__", "_give_back", "block", "serial")

    def __init__(
        self, memory: Memory, block: _Block, shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        self.block, self.serial, self._give_back = block, next(serials), memory.returned.append
        self.__array_interface__: dict[str, Any] = {
            "version": 3, "data": (block.address, False), "shape": shape, "typestr": dtype.str,
        }  # fmt: skip

    def __del__(self) -> None:
        self._give_back(self.block)


def empty(shape: tuple[int, ...], dtype: np.dtype, index: int | None = None) -> DeviceArray:
    """An uninitialised C-ordered array on a device, by default the current one. MemoryError names
    the figures if the device is full."""
    memory = of(index)
    block = memory.lend(shape, dtype)
    owner = _Owner(memory, block, shape, dtype)
    return DeviceArray(np.asarray(owner), memory.driver, block.address)


@contextmanager
def allocate_from(pool: Pool) -> Iterator[None]:
    """Arrays that this thread makes inside, on the pool's device, come from `pool`."""
    before, _thread.pool = _thread.pool, pool
    try:
        yield
    finally:
        _thread.pool = before


def lasting(index: int | None = None) -> AbstractContextManager[None]:
    """Arrays made inside on the device keep their values from replay to replay. Those of a
    recording do not: its pool gives a block to one array after the other, and every replay writes
    them all."""
    return nullcontext() if current.recording is None else allocate_from(of(index).shared)


# Copies -------------------------------------------------------------------------------------


class _Pinned:
    """Host memory at a fixed place, from which the device copies while the host goes on."""

    __slots__ = ("__array_interface__", "_address", "_driver")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._driver = driver()
        self._address = self._driver.allocate_pinned(max(math.prod(shape) * dtype.itemsize, 1))
        self.__array_interface__: dict[str, Any] = {
            "version": 3, "data": (self._address, False), "shape": shape, "typestr": dtype.str,
        }  # fmt: skip

    def __del__(self) -> None:
        if hasattr(self, "_address"):
            self._driver.discard(self._driver.free_pinned, self._address)


def empty_pinned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised C-ordered host array in pinned memory."""
    of().uploads.release_finished()
    return np.asarray(_Pinned(shape, dtype))


def is_pinned(array: np.ndarray) -> bool:
    """Whether the device reads this host memory by itself, ours or another library's."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    drivers = started()
    return isinstance(base, _Pinned) or (
        len(drivers) > 0 and drivers[0].is_pinned(array.ctypes.data)
    )


def to_device(array: np.ndarray, wait: bool = True, index: int | None = None) -> DeviceArray:
    """A copy of a C-ordered host array, which may change afterwards: memory that is not pinned is
    read before this returns, pinned memory only if it waits."""
    if current.recording is not None:
        raise GraphError(
            "a captured step must not copy from the host, whose memory a replay would read again: "
            "pass the tensor as an argument, or make it outside"
        )
    out = empty(array.shape, array.dtype, index)
    memory = of(out.driver.index)
    if not array.nbytes:
        return out
    if is_pinned(array):
        memory.uploads.from_pinned(out.pointer, array)
        if wait:
            memory.synchronize()
    else:
        memory.uploads.staged(out.pointer, array)
    return out


def to_host(array: DeviceArray, out: np.ndarray) -> None:
    """Copy a C-ordered device array into a C-ordered host array, and wait for it."""
    if current.recording is not None:
        raise GraphError(
            "a captured step must not read values on the host (item, tolist, printing, indexing by "
            "a mask): return the tensor, and read it outside"
        )
    if array.nbytes:
        array.driver.download(out.ctypes.data, array.pointer, array.nbytes)
    of(array.driver.index).synchronize()


def to_peer(array: DeviceArray, index: int | None) -> DeviceArray:
    """A copy of a C-ordered array on another device."""
    out = empty(array.shape, array.dtype, index)
    if current.recording is not None:
        raise GraphError(
            f"a captured step must stay on one device, and copies from {array.driver.index} to "
            f"{out.driver.index}"
        )
    if array.nbytes:
        array.driver.copy_to_peer(out.driver, out.pointer, array.pointer, array.nbytes)
    return out
