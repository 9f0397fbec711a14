"""A caching allocator over NumPy arrays.

Fresh memory is slow: the system clears every page when it is first touched, which costs more than
most elementwise kernels. A training step asks for the same sizes again and again, so a freed
block is kept and handed out again for the next array of its size class.

The block of an array is returned when nothing refers to its memory any more. That must hold for
views too, and NumPy makes a view of a view refer to the first *owner*, not to the array in
between. So the owner is a small object made for this one allocation, from which NumPy takes the
address by the array interface, and which returns the block when it is deleted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

_ALIGNMENT = 64
_LARGEST = 2**62  # bytes; NumPy refuses more with a message that names no size
_SMALL = 1024  # bytes; below this, NumPy's own small-block cache is as good


@dataclass
class MemoryStats:
    """Bytes in live arrays, the largest that has been, and bytes kept for reuse."""

    live: int = 0
    peak: int = 0
    cached: int = 0


stats = MemoryStats()


class _Block:
    """A piece of aligned memory and its address."""

    __slots__ = ("address", "memory", "size")

    def __init__(self, size: int) -> None:
        self.memory = np.empty(size + _ALIGNMENT, np.uint8)
        self.size = size
        self.address = self.memory.ctypes.data
        self.address += -self.address % _ALIGNMENT


_free: dict[int, list[_Block]] = {}


class _Owner:
    """Lends a block to one array and its views."""

    __slots__ = ("__array_interface__", "block")

    def __init__(self, block: _Block, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.block = block
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "data": (block.address, False),
            "shape": shape,
            "typestr": dtype.str,
        }

    def __del__(self, stats: MemoryStats = stats, free: dict[int, list[_Block]] = _free) -> None:
        # The module's names are bound as defaults: they outlive the module at exit.
        size = self.block.size
        stats.live -= size
        stats.cached += size
        free.setdefault(size, []).append(self.block)


def _size_class(nbytes: int) -> int:
    """Round up to eight steps per power of two: at most an eighth of a block is wasted."""
    step = max(_ALIGNMENT, 1 << max(nbytes.bit_length() - 4, 0))
    return -(-nbytes // step) * step


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised C-ordered array, 64-byte aligned, from reused memory where there is some."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < _SMALL:
        return np.empty(shape, dtype)
    if nbytes > _LARGEST:
        raise MemoryError(f"an array of shape {shape} and dtype {dtype.name} has {nbytes} bytes")
    size = _size_class(nbytes)
    try:
        block = _free[size].pop()
        stats.cached -= size
    except (KeyError, IndexError):
        block = _Block(size)
    stats.live += size
    stats.peak = max(stats.peak, stats.live)
    return np.asarray(_Owner(block, shape, dtype))


def empty_cache() -> None:
    """Give the blocks kept for reuse back to the system."""
    _free.clear()
    stats.cached = 0


def reset_peak() -> None:
    stats.peak = stats.live
