"""Reduction plans: how a tensor is brought before a reduction launcher, and sums that undo
broadcasting.

A launcher reduces the middle axis of a C-ordered (outer, R, inner) array. If the reduced axes are
neighbours in memory, that array is a view; otherwise they are moved to the end by one copy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from .. import kernels
from ..device import Device
from ..dtypes import float64, int64, is_floating
from ..engine import Tensor
from ..errors import DTypeError, ShapeError
from ..layout import contiguous, memory_order
from ..runtime.allocation import allocate
from .operands import scratch, widened

Dim = int | tuple[int, ...] | list[int] | None
Axes = tuple[int, ...]


def axes_of(operation: str, dim: Dim, ndim: int) -> Axes:
    """The axes that `dim` names, all for None, counted from 0 and in ascending order."""
    dims = () if dim is None else tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    axes = tuple(axis_of(operation, axis, ndim) for axis in dims)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{operation}: dim names an axis twice, got {dim!r}")
    if not dims:
        return tuple(range(ndim))
    # A zero-dimensional tensor accepts 0 and −1 although it has no axis.
    return tuple(sorted(axes)) if ndim else ()


def axis_of(operation: str, dim: int, ndim: int) -> int:
    """One axis, counted from 0."""
    # An array has an __index__ too, which fails unless it has one element.
    if type(dim) is not int and (
        isinstance(dim, (bool, np.ndarray, Tensor)) or not hasattr(dim, "__index__")
    ):
        raise DTypeError(f"{operation}: dim must be an int or several, got {dim!r}")
    axis, limit = dim.__index__(), max(ndim, 1)
    if not -limit <= axis < limit:
        raise ShapeError(
            f"{operation}: dim must be in [{-limit}, {limit - 1}] for a tensor of {ndim} "
            f"dimensions, got {dim}"
        )
    return axis % limit


@dataclass(frozen=True)
class Reduction:
    """The (outer, R, inner) form of one shape, seen through one order of its axes.

    order: all axes, outermost first, as the form lays them out. axes: the reduced ones.
    """

    shape: tuple[int, ...]
    axes: Axes
    order: tuple[int, ...]
    form: tuple[int, int, int]

    def array(self, data: np.ndarray, device: Device) -> np.ndarray:
        """`data`, of the full shape, as the C-ordered form: a view where possible."""
        return contiguous(data.transpose(self.order), device).reshape(self.form)

    def empty_full(self, dtype: np.dtype, device: Device) -> tuple[np.ndarray, np.ndarray]:
        """An uninitialised array of the full shape, and its form."""
        stored = allocate(tuple(self.shape[axis] for axis in self.order), dtype, device)
        return stored.transpose(_inverse(self.order)), stored.reshape(self.form)

    def empty_reduced(self, dtype: np.dtype, device: Device) -> np.ndarray:
        """An uninitialised (outer, inner) array for the result."""
        return allocate((self.form[0], self.form[2]), dtype, device)

    def reduced(self, data: np.ndarray, device: Device) -> np.ndarray:
        """(outer, inner) of an array with the reduced axes kept as ones."""
        return contiguous(data.transpose(self.order), device).reshape(self.form[0], self.form[2])

    def result(self, stored: np.ndarray, device: Device, keepdim: bool) -> Tensor:
        """The tensor of an (outer, inner) array."""
        sizes, inverse, with_ones = self._kept_axes
        array = stored.reshape(sizes).transpose(inverse)
        return Tensor(array.reshape(with_ones) if keepdim else array, device)

    @cached_property
    def _kept_axes(self) -> tuple[Axes, Axes, Axes]:
        """The kept axes' sizes as they lie in memory, the way back to their logical order, and the
        shape with the reduced axes as ones."""
        kept = tuple([axis for axis in self.order if axis not in self.axes])
        sizes = tuple([self.shape[axis] for axis in kept])
        with_ones = tuple([1 if a in self.axes else n for a, n in enumerate(self.shape)])
        return sizes, _inverse(kept), with_ones


def reduction(data: np.ndarray, axes: Axes, logical_order: bool = False) -> Reduction:
    """How to reduce `axes` of an array. logical_order: several axes count in C order."""
    order = memory_order(data)
    if order is None or (logical_order and len(axes) > 1):
        order = tuple(range(data.ndim))
    return _planned(data.shape, axes, order)


@lru_cache(maxsize=1024)
def _planned(shape: tuple[int, ...], axes: Axes, order: Axes) -> Reduction:
    ndim = len(shape)
    places = [k for k, axis in enumerate(order) if axis in axes and shape[axis] != 1]
    within = order[places[0] : places[-1] + 1] if places else ()
    if any(axis not in axes and shape[axis] != 1 for axis in within):
        order = (*(a for a in order if a not in axes), *(a for a in order if a in axes))
        places = list(range(ndim - len(axes), ndim))
    sizes = [shape[axis] for axis in order]
    first, last = (places[0], places[-1] + 1) if places else (ndim, ndim)
    form = (math.prod(sizes[:first]), math.prod(sizes[first:last]), math.prod(sizes[last:]))
    return Reduction(shape, axes, order, form)


@lru_cache(maxsize=1024)
def _inverse(axes: Axes) -> Axes:
    """The permutation that puts `axes`, in the order of memory, back into their logical order."""
    return tuple(int(place) for place in np.argsort(axes))


def expand_kept(array: np.ndarray, axes: Axes) -> np.ndarray:
    """Axes of size one where reduced axes have been: free."""
    sizes = iter(array.shape)
    total = array.ndim + len(axes)
    return array.reshape([1 if axis in axes else next(sizes) for axis in range(total)])


def kept_axes(grad: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    """A result's gradient with its reduced axes as ones."""
    return grad if keepdim else Tensor(expand_kept(grad.array, axes), grad.device)


def count_of(input: Tensor, axes: Axes) -> int:
    """How many elements one result is made of."""
    return math.prod(input.shape[axis] for axis in axes)


def accumulator(dtype: np.dtype) -> np.dtype:
    """What sums are computed in."""
    return float64 if is_floating(dtype) else int64


def sum_over(tensor: Tensor, axes: Axes, keepdim: bool, scale: float = 1) -> Tensor:
    """scale · Σ over axes, in the tensor's dtype; int64 for integers. Nothing is recorded."""
    tensor = widened(tensor)
    plan, device = reduction(tensor.array, axes), tensor.device
    launch, total = kernels.get(device).reduce, accumulator(tensor.dtype)
    out = plan.empty_reduced(tensor.dtype if is_floating(tensor.dtype) else int64, device)
    workspace = scratch(launch.sum_forward_workspace(plan.form), total, device)
    launch.sum_forward(out, plan.array(tensor.array, device), workspace, scale)
    return plan.result(out, device, keepdim)


def unbroadcast(grad: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The gradient of an operand of `shape` from that of its broadcast form.

    b[i] appears in out[k, i] for every k, so db[i] = Σ_k grad[k, i].
    """
    if grad.shape == shape:
        return grad
    extra = grad.ndim - len(shape)
    axes = tuple(
        axis
        for axis in range(grad.ndim)
        if axis < extra or (shape[axis - extra] == 1 and grad.shape[axis] != 1)
    )
    total = sum_over(grad, axes, keepdim=True)
    return Tensor(total.array.reshape(shape), total.device)
