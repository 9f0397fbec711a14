"""Sorting along one axis. Always stable: equal elements keep their order."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .. import kernels
from ..arguments import check_int
from ..dtypes import int64, is_floating
from ..engine import Function, Tensor
from ..errors import ShapeError
from .arithmetic import sub
from .cast import clone
from .compare import bitwise_not, isnan, where
from .division import floor_divide
from .extrema import Extremum, argmax
from .operands import scratch, takes_tensor, widened
from .promotion import scalar
from .reduce import sum
from .reduction import axis_of
from .rows import empty_rows, to_rows
from .select import gather, narrow
from .shape import flatten, real_axis, reshape, squeeze
from .unary import clamp

__all__ = ["argsort", "kthvalue", "median", "msort", "nanmedian", "sort", "topk"]


class SortResult(NamedTuple):
    """What sort, topk, kthvalue and median along an axis return."""

    values: Tensor
    indices: Tensor


def _positions(input: Tensor, axis: int, descending: bool) -> Tensor:
    """The positions along an axis in order, of a tensor that has axes."""
    rows = to_rows(widened(input), axis)
    out, indices = empty_rows(input.shape, axis, int64, input.device)
    launch = kernels.get(input.device).sort
    workspace = scratch(launch.argsort_forward_workspace(rows.shape), int64, input.device)
    launch.argsort_forward(indices, rows, workspace, bool(descending))
    return out


def _check_count(operation: str, k: int, least: int, input: Tensor, axis: int) -> None:
    check_int(operation, "k", k)
    size = input.shape[axis] if input.ndim else 1
    if not least <= k <= size:
        raise ShapeError(
            f"{operation}: k must be from {least} to the {size} elements along axis {axis} of a "
            f"tensor of shape {input.shape}, got {k}"
        )


@takes_tensor
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The positions (int64) along dim that would sort it. Equal elements keep their order."""
    return _sort("argsort", input, dim, descending).indices


@takes_tensor
def sort(
    input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False
) -> SortResult:
    """The elements along dim in ascending or descending order, and where each came from.

    NaN counts as the largest number. Equal elements keep their order, whatever `stable` says.
    Each value's gradient goes to the element that it came from.
    """
    return _sort("sort", input, dim, descending)


def _sort(operation: str, input: Tensor, dim: int, descending: bool) -> SortResult:
    axis = axis_of(operation, dim, input.ndim)
    if input.ndim == 0:
        values, indices = sort(reshape(input, 1))
        return SortResult(reshape(values, ()), reshape(indices, ()))
    indices = _positions(input, axis, descending)
    return SortResult(gather(input, axis, indices), indices)


@takes_tensor
def msort(input: Tensor) -> Tensor:
    """The elements along the first axis in ascending order."""
    return sort(input, 0).values


@takes_tensor
def topk(
    input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> SortResult:
    """The k largest (or least) elements along dim, in order, and where each came from.

    NaN counts as the largest number; of equal elements the first are taken. The result is in order
    whatever `sorted` says. Raises ShapeError if the axis has fewer than k elements.
    """
    axis = axis_of("topk", dim, input.ndim)
    _check_count("topk", k, 0, input, axis)
    if input.ndim == 0:
        return sort(input)
    # A copy: the view would keep the positions of all elements in memory.
    indices = clone(narrow(_positions(input, axis, largest), axis, 0, int(k)))
    return SortResult(gather(input, axis, indices), indices)


@takes_tensor
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> SortResult:
    """The k-th smallest along dim, counted from 1, and where it came from.

    NaN counts as the largest number; of equal elements the first comes first.
    """
    axis = axis_of("kthvalue", dim, input.ndim)
    _check_count("kthvalue", k, 1, input, axis)
    if input.ndim == 0:
        return sort(input)
    return taken(input, axis, narrow(_positions(input, axis, False), axis, int(k) - 1, 1), keepdim)


def taken(input: Tensor, axis: int, index: Tensor, keepdim: bool) -> SortResult:
    """Values and indices of one position along an axis, kept in `index`."""
    values, indices = gather(input, axis, index), clone(index)
    if keepdim:
        return SortResult(values, indices)
    return SortResult(squeeze(values, axis), squeeze(indices, axis))


class Median(Function):
    """The middle of all elements: the gradient is shared equally among all that equal it."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        out = median(flatten(input), 0).values
        axes = tuple(range(input.ndim))
        ctx.save_for_backward(input, reshape(out, *(1 for _ in axes)))
        ctx.axes, ctx.keepdim, ctx.share_nan = axes, False, True
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return Extremum.backward(ctx, grad_output)[:1]


@takes_tensor
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle of all elements, the lower one of two; or, with dim, (values, indices) along it.

    NaN where there is one. The gradient of the full median is shared equally among all elements
    that equal it, that of median along dim goes to the element at `indices`. The median of no
    elements is NaN; ShapeError for integers, and along an empty axis.
    """
    if dim is None and input.array.size == 0 and is_floating(input.dtype):
        return scalar("median", math.nan, input.dtype, input.device)
    if dim is None and input.array.size:
        return Median.apply(input)
    axis = axis_of("median", 0 if dim is None else dim, input.ndim)
    size = input.array.size if dim is None else input.shape[axis] if input.ndim else 1
    if size == 0:
        raise ShapeError(
            f"median: the reduced axis {axis} of a tensor of shape {input.shape} must not be empty"
        )
    if input.ndim == 0:
        return sort(input)
    order = _positions(input, axis, False)
    middle = narrow(order, axis, (size - 1) // 2, 1)
    # The first NaN, if there is one, is where argmax finds the maximum.
    largest = argmax(input.detach(), axis, keepdim=True)
    index = where(isnan(gather(input.detach(), axis, largest)), largest, middle)
    return taken(input, axis, index, keepdim)


@takes_tensor
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """As `median`, of what is not NaN; NaN where there is nothing else."""
    if dim is None:
        kept = input[bitwise_not(isnan(input))] if is_floating(input.dtype) else input
        return median(kept)
    axis = real_axis("nanmedian", dim, input) if input.ndim else 0
    if input.ndim == 0 or not is_floating(input.dtype):
        return median(input, axis, keepdim)
    if input.shape[axis] == 0:
        raise ShapeError(
            f"nanmedian: axis {axis} of a tensor of shape {input.shape} must not be empty"
        )
    count = sum(bitwise_not(isnan(input)), axis, keepdim=True)
    middle = clamp(floor_divide(sub(count, 1), 2), 0, None)
    return taken(input, axis, gather(_positions(input, axis, False), axis, middle), keepdim)
