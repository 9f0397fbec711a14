"""Memory order: which axis of an array lies outermost in memory, and arrays in such orders."""

from __future__ import annotations

import enum
import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from . import kernels
from .device import Device
from .runtime.allocation import allocate

# Memory order of axes, outermost first: the channels-last order of (N, C, H, W).
CHANNELS_LAST = (0, 2, 3, 1)
# The inverse: from an (N, H, W, C) array to its (N, C, H, W) view.
FROM_NHWC = (0, 3, 1, 2)

Order = tuple[int, ...]


class MemoryFormat(enum.Enum):
    """torch's names of memory orders: C order; that of the tensor itself; CHANNELS_LAST."""

    contiguous_format = enum.auto()
    preserve_format = enum.auto()
    channels_last = enum.auto()

    def __repr__(self) -> str:
        return f"minigrad.{self.name}"


@functools.cache
def c_axes(ndim: int) -> Order:
    """C order: the last axis lies innermost."""
    return tuple(range(ndim))


def memory_order(array: np.ndarray) -> Order | None:
    """Axes from outermost to innermost if the array fills its memory without gaps, else None."""
    if array.flags.c_contiguous:
        return c_axes(array.ndim)
    if array.ndim == 4 and array.transpose(CHANNELS_LAST).flags.c_contiguous:
        return CHANNELS_LAST
    order = axes_by_stride(array)
    return order if array.transpose(order).flags.c_contiguous else None


def axes_by_stride(array: np.ndarray) -> Order:
    """Axes from the one whose neighbours lie farthest apart to the one where they lie closest."""
    return tuple(sorted(range(array.ndim), key=lambda axis: -array.strides[axis]))


def order_of(array: np.ndarray) -> Order:
    """The memory order, or C order if there are gaps."""
    return memory_order(array) or c_axes(array.ndim)


def empty_array(
    shape: tuple[int, ...], dtype: np.dtype, device: Device, order: Order | None = None
) -> np.ndarray:
    """Uninitialised array of `shape` whose axes lie in memory in `order` (default: C order)."""
    if order is None or len(shape) < 2 or order == c_axes(len(shape)):
        return allocate(shape, dtype, device)
    in_memory, inverse = _permutation(order)
    return allocate(in_memory(shape), dtype, device).transpose(inverse)


@functools.cache
def _permutation(order: Order) -> tuple[Callable[[Order], Order], Order]:
    """What puts sizes of at least two axes into this order, and the inverse order."""
    return operator.itemgetter(*order), tuple([order.index(axis) for axis in range(len(order))])


def broadcast(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A view of the array with this shape. NumPy's own is read-only, which is another type to a
    compiled kernel, and another compilation: it is for elements that are repeated."""
    if array.size == math.prod(shape):
        return array.reshape(shape)
    return np.broadcast_to(array, shape)


def contiguous(array: np.ndarray, device: Device) -> np.ndarray:
    """The array itself if C-ordered, else a C-ordered copy."""
    flags = array.flags
    if flags.c_contiguous and flags.writeable:
        return array
    out = allocate(array.shape, array.dtype, device)
    kernels.get(device).elementwise.copy_strided(out, array)
    return out


def flat(array: np.ndarray, order: Order, device: Device) -> np.ndarray:
    """The elements in memory order `order` as one dimension: a view where possible, else a copy."""
    return contiguous(array.transpose(order), device).reshape(-1)


def strided(array: Any, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """A view of a vector without gaps, whose strides count elements."""
    steps = tuple([step * array.itemsize for step in strides])
    if isinstance(array, np.ndarray):
        return np.ndarray(shape, array.dtype, array, strides=steps)
    return array.strided(shape, steps)
