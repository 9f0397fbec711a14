"""A caching allocator over NumPy arrays.

Fresh memory is slow: the system clears every page when it is first touched, which costs more than
most elementwise kernels. So freed memory is kept, as pieces of a few large segments. A large piece
becomes one with its neighbours that are free, and an array gets the smallest that holds it: a
training step goes over little more memory than is alive at one time, which stays in the processor's
caches. (Blocks kept by their size made a step of network A go over 47 MB instead of 20, and take
12 % longer.) Small pieces are kept by size, which takes less time.

The memory of an array is returned when nothing refers to it any more. That must hold for views
too, and NumPy makes a view of a view refer to the first *owner*, not to the array in between. So
the owner is a small object made for this one allocation, a ctypes array laid over the memory, which
NumPy takes as a buffer, and whose deletion returns the memory.

Any thread may allocate, and an owner may be deleted at any point of any thread, even amid an
allocation. So deleting takes no lock: it puts the memory into a queue, which is atomic, and the
next allocation, which holds the lock, makes free pieces of it.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import threading
import weakref
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np

from .forks import Rank, hold_over_forks
from .pieces import Pieces

_ALIGNMENT = 64
_LARGEST = 2**62  # bytes; NumPy refuses more with a message that names no size
_SMALL = 3072  # bytes; below this, the system's allocator is faster
_LARGE = 1 << 19  # bytes; from here on, joining a piece with its neighbours is worth the time
_CLASSES = 8  # sizes of pieces per power of two
# Of a segment, at least; what is never touched takes no memory. With more arrays they are larger, a
# quarter of the most that were alive, so that there are few.
_SEGMENT = 32 << 20
# Segments without an array are kept while all together are within this multiple of the most bytes
# that were ever alive at one time.
_KEPT = 3


@dataclass(slots=True)
class MemoryStats:
    """What the memory of tensors and workspaces comes to. Arrays under 3 KiB are not counted.

    allocated: bytes of the arrays alive. max_allocated: the most since reset_peak_memory_stats.
    reserved: bytes of the segments held from the system; where no array has been since
    empty_cache, they are addresses without memory. fresh, reused: how many arrays so far made a new
    segment necessary, or found room. A training loop over one shape takes no fresh memory after its
    first steps.
    """

    allocated: int = 0
    max_allocated: int = 0
    reserved: int = 0
    fresh: int = 0
    reused: int = 0


class _Segment:
    """Memory of the system. A page behind its end belongs to it: two never touch, so pieces do not
    grow over their ends."""

    def __init__(self, size: int) -> None:
        # Not shared with a forked child, which is what Python's default would do.
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
        try:
            self._memory = mmap.mmap(-1, size + mmap.PAGESIZE, **private)
        except OSError as error:
            raise MemoryError(f"the system has no {size} bytes of memory: {error}") from error
        self.start = ctypes.addressof(ctypes.c_ubyte.from_buffer(self._memory))
        self.size = size
        self._advise("MADV_HUGEPAGE", 0, size)  # as NumPy does for large arrays

    def forget(self, start: int, size: int) -> None:
        """Give the pages that lie in so many bytes from there back."""
        page, offset = mmap.PAGESIZE, start - self.start
        first, last = -(-offset // page) * page, (offset + size) // page * page
        if first < last:
            self._advise("MADV_DONTNEED", first, last - first)

    def _advise(self, advice: str, start: int, length: int) -> None:
        if hasattr(mmap, advice):
            with suppress(OSError):  # where the system does not know it
                self._memory.madvise(getattr(mmap, advice), start, length)


# Reentrant for forks. A signal handler, or the finalizer of a user's object, may allocate amid an
# allocation of the same thread: it gets memory from elsewhere, see _is_amid.
_lock = threading.RLock()
hold_over_forks(_lock, Rank.ALLOCATOR)
_stats = MemoryStats()
_most = 0  # bytes: as max_allocated, but never reset
_segments: list[_Segment] = []

# What arrays have: (a reference to the owner, start, bytes, bytes of the array), by the reference's
# id. When the owner is deleted, the reference is put into the queue: by C code, into which no
# exception gets. All other memory is free, and found in the next two; what an exception amid a
# change has lost there, `_find_again` finds.
_lent: dict[int, tuple[weakref.ref[Any], int, int, int]] = {}
_by_size: defaultdict[int, list[int]] = defaultdict(list)  # the starts of small pieces
_pieces = Pieces()
_returned: deque[weakref.ref[Any]] = deque()


# Whether this thread is amid a change of the above already: they must not change now.
_is_amid: Callable[[], bool] = _lock._is_owned  # type: ignore[attr-defined]  # as Condition asks


@contextmanager
def _settled() -> Iterator[bool]:
    """What was returned is free. False amid a change, when nothing may be done."""
    amid = _is_amid()
    with _lock:
        if not amid:
            _sort_in()
        yield not amid


@cache
def _owner_class(size: int) -> Any:
    """The class of objects that each stand for `size` bytes, which one array and its views have."""

    class Owner(ctypes.Array):
        _type_, _length_ = ctypes.c_ubyte, size
        __slots__ = ("__weakref__",)
        memory = _segments  # outlives the module's names at exit, as long as there is an array

    return Owner


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised C-ordered array, 64-byte aligned, from reused memory where there is some."""
    global _most
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < _SMALL:
        return np.empty(shape, dtype)
    if nbytes > _LARGEST:
        raise MemoryError(f"an array of shape {shape} and dtype {dtype.name} has {nbytes} bytes")
    if _is_amid():
        memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
        return np.ndarray(shape, dtype, memory, -memory.ctypes.data % _ALIGNMENT)
    size = size_class(nbytes)
    with _lock:
        if _returned:
            _sort_in()
        try:
            start = _by_size[size].pop()  # returned last: it may still be in the caches
        except IndexError:
            start = _pieces.cut(size)
        if start:
            _stats.reused += 1
        else:
            start = _fresh(size)
        owner = _owner_class(size).from_address(start)
        reference = weakref.ref(owner, _returned.append)
        _lent[id(reference)] = reference, start, size, nbytes
        _stats.allocated += nbytes
        if _stats.allocated > _stats.max_allocated:
            _stats.max_allocated = _stats.allocated
            _most = max(_most, _stats.allocated)
    return np.ndarray(shape, dtype, owner)


@lru_cache(4096)
def size_class(nbytes: int) -> int:
    """Round up to eight steps per power of two: at most an eighth of a piece is wasted."""
    step = max(_ALIGNMENT, 1 << max(nbytes.bit_length() - _CLASSES.bit_length(), 0))
    return -(-nbytes // step) * step


def _sort_in() -> None:
    """Make what was given back free."""
    while _returned:
        # An exception may have come amid this before.
        lent = _lent.pop(id(_returned[0]), None)
        if lent is not None:
            _, start, size, nbytes = lent
            _stats.allocated -= nbytes
            if size < _LARGE:
                _by_size[size].append(start)
            else:
                _pieces.join(start, size)
        _returned.popleft()


def _fresh(size: int) -> int:
    """The address of so many bytes of a new segment, if there is no room after all."""
    _find_again()
    if start := _pieces.cut(size):
        return start
    limit = _KEPT * max(_most, _stats.allocated + size) - size
    if _stats.reserved > limit:
        _release(limit)
        _release_pages()
    try:
        segment = _Segment(max(size, _SEGMENT, _most // 4 // _ALIGNMENT * _ALIGNMENT))
    except MemoryError:
        _release(0)
        segment = _Segment(size)
    _segments.append(segment)
    _stats.reserved += segment.size
    _stats.fresh += 1
    if segment.size > size:
        _pieces.join(segment.start + size, segment.size - size)
    return segment.start


def _find_again() -> None:
    """All that no array has is free, small pieces joined."""
    global _pieces
    _pieces = Pieces()
    _by_size.clear()
    lent = sorted([(start, size) for _, start, size, _ in _lent.values()])
    _stats.allocated = sum([nbytes for *_, nbytes in _lent.values()])
    for segment in _segments:
        at, end = segment.start, segment.start + segment.size
        for start, size in lent[bisect_left(lent, (at,)) : bisect_left(lent, (end,))]:
            if at < start:
                _pieces.join(at, start - at)
            at = start + size
        if at < end:
            _pieces.join(at, end - at)


def _release(limit: float) -> None:
    """Give segments without an array back until `limit` bytes are reserved."""
    free = dict(_pieces)
    for segment in _segments[:]:
        if _stats.reserved > limit and free.get(segment.start) == segment.size:
            _pieces.take(segment.start)
            _segments.remove(segment)
            _stats.reserved -= segment.size


def _release_pages() -> None:
    """Give the memory of free pieces back, but keep their addresses."""
    segments = sorted(_segments, key=lambda segment: segment.start)
    starts = [segment.start for segment in segments]
    for start, size in _pieces:
        if size > mmap.PAGESIZE:
            segments[bisect_right(starts, start) - 1].forget(start, size)


def memory_stats() -> MemoryStats:
    """All figures at this moment."""
    with _settled():
        return replace(_stats)


def memory_allocated() -> int:
    """Bytes of the arrays alive."""
    return memory_stats().allocated


def max_memory_allocated() -> int:
    """The most bytes alive at one time, since the start or `reset_peak_memory_stats`."""
    return memory_stats().max_allocated


def memory_reserved() -> int:
    """Bytes of the segments held from the system."""
    return memory_stats().reserved


def reset_peak_memory_stats() -> None:
    """`max_memory_allocated` starts again from what is alive now."""
    with _settled():
        _stats.max_allocated = _stats.allocated


def empty_cache() -> None:
    """Give all memory in which no array lies back to the system: segments, and pages of others."""
    with _settled() as possible:
        if possible:
            _find_again()
            _release(0)
            _release_pages()
