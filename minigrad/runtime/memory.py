"""A caching allocator over NumPy arrays.

Fresh memory is slow: the system clears every page when it is first touched, which costs more than
most elementwise kernels. A training step asks for the same sizes again and again, so a freed
block is kept and handed out again for a later array of its size class.

The block of an array is returned when nothing refers to its memory any more. That must hold for
views too, and NumPy makes a view of a view refer to the first *owner*, not to the array in
between. So the owner is a small object made for this one allocation, a ctypes array laid over the
block, which NumPy takes as a buffer, and which returns the block when it is deleted.

Any thread may allocate, and an owner may be deleted at any point of any thread, even amid an
allocation. So deleting takes no lock: it puts the block into a queue, which is atomic, and the
next allocation, which holds the lock, sorts the queue's blocks in.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np

from .forks import Rank, hold_over_forks

_ALIGNMENT = 64
_LARGEST = 2**62  # bytes; NumPy refuses more with a message that names no size
_SMALL = 3072  # bytes; below this, the system's allocator is faster
_CLASSES = 8  # sizes of blocks per power of two
# Blocks are kept for reuse while all blocks together are within this multiple of the most bytes
# that were ever alive at one time. Batches of one shape need about half of it; with images of many
# sizes it decides how often a step takes fresh memory.
_KEPT = 3


@dataclass(slots=True)
class MemoryStats:
    """What the memory of tensors and workspaces comes to. Arrays under 3 KiB are not counted.

    allocated: bytes of the arrays alive. max_allocated: the most since reset_peak_memory_stats.
    reserved: bytes held from the system: blocks in use and blocks kept for reuse.
    fresh, reused: how many arrays so far got memory from the system, or a kept block. A training
    loop over one shape takes no fresh memory after its first steps.
    """

    allocated: int = 0
    max_allocated: int = 0
    reserved: int = 0
    fresh: int = 0
    reused: int = 0


class _Block:
    """A piece of aligned memory and its address. lent: bytes of the array that has it."""

    __slots__ = ("address", "age", "lent", "memory", "owner", "size")

    def __init__(self, size: int) -> None:
        self.memory = np.empty(size + _ALIGNMENT, np.uint8)
        self.size = size
        self.address = self.memory.ctypes.data
        self.address += -self.address % _ALIGNMENT
        self.owner = _owner_class(size)
        self.lent = self.age = 0


# Reentrant: a signal handler, or the finalizer of a user's object, may allocate amid an
# allocation. No step under the lock relies on what a step before it has seen.
_lock = threading.RLock()
hold_over_forks(_lock, Rank.ALLOCATOR)
_stats = MemoryStats()
_most = 0  # bytes: as max_allocated, but never reset
_free: defaultdict[int, list[_Block]] = defaultdict(list)  # by size; the one freed last is the last
_returned: deque[_Block] = deque()


@cache
def _owner_class(size: int) -> Any:
    """The class of objects that each lend a block of `size` bytes to one array and its views."""

    class Owner(ctypes.Array):
        _type_, _length_ = ctypes.c_ubyte, size
        __slots__ = ("block",)
        block: _Block

        def __del__(self, give_back: Callable[[_Block], None] = _returned.append) -> None:
            give_back(self.block)  # a default argument outlives the module's names at exit

    return Owner


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised C-ordered array, 64-byte aligned, from reused memory where there is some."""
    global _most
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < _SMALL:
        return np.empty(shape, dtype)
    if nbytes > _LARGEST:
        raise MemoryError(f"an array of shape {shape} and dtype {dtype.name} has {nbytes} bytes")
    size = size_class(nbytes)
    with _lock:
        if _returned:
            _sort_in()
        try:
            block = _free[size].pop()  # freed last: it may still be in the processor's cache
            _stats.reused += 1
        except IndexError:
            block = _fresh(size)
        block.lent = nbytes
        _stats.allocated += nbytes
        if _stats.allocated > _stats.max_allocated:
            _stats.max_allocated = _stats.allocated
            _most = max(_most, _stats.allocated)
        owner = block.owner.from_address(block.address)
        owner.block = block
    return np.ndarray(shape, dtype, owner)


@lru_cache(4096)
def size_class(nbytes: int) -> int:
    """Round up to eight steps per power of two: at most an eighth of a block is wasted."""
    step = max(_ALIGNMENT, 1 << max(nbytes.bit_length() - _CLASSES.bit_length(), 0))
    return -(-nbytes // step) * step


def _sort_in() -> None:
    """Move the blocks that were given back to where they are found again."""
    while _returned:
        try:
            block = _returned.popleft()
        except IndexError:  # a signal handler's allocation was faster
            return
        _stats.allocated -= block.lent
        block.age = _stats.fresh
        _free[block.size].append(block)


def _kept(size: int) -> _Block | None:
    """The block of this size that was freed last: it may still be in the processor's cache."""
    try:
        block = _free[size].pop()
    except IndexError:
        return None
    _stats.reused += 1
    return block


def _fresh(size: int) -> _Block:
    """A block from the system, unless enough are kept already.

    Arrays of changing sizes, as a data set of images of many sizes makes them, then share blocks:
    the next larger one serves, up to about twice the size. Failing that, those that lie unused
    longest are given back.
    """
    limit = _KEPT * max(_most, _stats.allocated + size) - size
    if _stats.reserved > limit:
        larger = size
        for _ in range(_CLASSES):
            larger = size_class(larger + 1)
            if block := _kept(larger):
                return block
        _release(limit)
    try:
        block = _Block(size)
    except MemoryError:
        _release(0)
        block = _Block(size)
    _stats.reserved += size
    _stats.fresh += 1
    return block


def _release(limit: float) -> None:
    """Give the kept blocks that lie unused longest back until `limit` bytes are reserved."""
    while _stats.reserved > limit:
        lists = [blocks for blocks in _free.values() if blocks]
        if not lists:
            return
        _stats.reserved -= min(lists, key=lambda blocks: blocks[0].age).pop(0).size


def memory_stats() -> MemoryStats:
    """All figures at this moment."""
    with _lock:
        _sort_in()
        return replace(_stats)


def memory_allocated() -> int:
    """Bytes of the arrays alive."""
    return memory_stats().allocated


def max_memory_allocated() -> int:
    """The most bytes alive at one time, since the start or `reset_peak_memory_stats`."""
    return memory_stats().max_allocated


def memory_reserved() -> int:
    """Bytes held from the system: blocks in use and blocks kept for reuse."""
    return memory_stats().reserved


def reset_peak_memory_stats() -> None:
    """`max_memory_allocated` starts again from what is alive now."""
    with _lock:
        _sort_in()
        _stats.max_allocated = _stats.allocated


def empty_cache() -> None:
    """Give the blocks kept for reuse back to the system."""
    with _lock:
        _sort_in()
        _release(0)
