"""Tensors as (rows, C) arrays: one axis last, all others one dimension.

For the channels of a channels-last activation and for the last axis of a C-ordered tensor that is
a view; otherwise the axis is moved there by one copy.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from ..device import Device
from ..engine import Tensor
from ..layout import contiguous
from ..runtime.allocation import allocate

Shape = tuple[int, ...]


def to_rows(tensor: Tensor, axis: int) -> np.ndarray:
    """The C-ordered (rows, C) array whose columns run along `axis`, counted from the front."""
    moved = tensor.array
    if axis != moved.ndim - 1:
        moved = moved.transpose(_to_last(axis, moved.ndim)[0])
    shape = math.prod(moved.shape[:-1]), moved.shape[-1]
    return contiguous(moved, tensor.device).reshape(shape)


def empty_rows(
    shape: Shape, axis: int, dtype: np.dtype, device: Device
) -> tuple[Tensor, np.ndarray]:
    """An uninitialised tensor whose `axis` lies innermost in memory, and its (rows, C) array."""
    rest = shape[:axis] + shape[axis + 1 :]
    array = allocate((*rest, shape[axis]), dtype, device)
    view = array if axis == len(rest) else array.transpose(_to_last(axis, len(shape))[1])
    return Tensor(view, device), array.reshape(math.prod(rest), shape[axis])


@cache
def _to_last(axis: int, ndim: int) -> tuple[Shape, Shape]:
    """The order of axes that puts `axis` last, and its inverse."""
    order = (*[a for a in range(ndim) if a != axis], axis)
    return order, tuple([order.index(a) for a in range(ndim)])
