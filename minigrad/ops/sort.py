"""Sorting along one axis. Always stable: equal elements keep their order."""

from __future__ import annotations

from typing import NamedTuple

from .. import kernels
from ..dtypes import int64
from ..engine import Tensor
from ..errors import DTypeError, ShapeError
from ._operands import scratch, takes_tensor
from ._reduction import axis_of
from ._rows import empty_rows, to_rows
from .select import gather, narrow
from .shape import reshape


class SortResult(NamedTuple):
    """What sort and topk return."""

    values: Tensor
    indices: Tensor


def _positions(operation: str, input: Tensor, dim: int, descending: bool) -> Tensor:
    """The positions along `dim` in order, of a tensor that has axes."""
    axis = axis_of(operation, dim, input.ndim)
    rows = to_rows(input, axis)
    out, indices = empty_rows(input.shape, axis, int64, input.device)
    backend = kernels.get(input.device)
    workspace = scratch(backend.argsort_forward_workspace(rows.shape), int64)
    backend.argsort_forward(indices, rows, workspace, bool(descending))
    return out


@takes_tensor
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The positions (int64) along dim that would sort it. Equal elements keep their order."""
    return sort(input, dim, descending, stable).indices


@takes_tensor
def sort(
    input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False
) -> SortResult:
    """The elements along dim in ascending or descending order, and where each came from.

    NaN counts as the largest number. Equal elements keep their order, whatever `stable` says.
    Each value's gradient goes to the element that it came from.
    """
    if input.ndim == 0:
        axis_of("sort", dim, 0)
        values, indices = sort(reshape(input, 1), 0)
        return SortResult(reshape(values, ()), reshape(indices, ()))
    indices = _positions("sort", input, dim, descending)
    return SortResult(gather(input, dim, indices), indices)


@takes_tensor
def topk(
    input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> SortResult:
    """The k largest (or least) elements along dim, in order, and where each came from.

    NaN counts as the largest number; of equal elements the first are taken. The result is in order
    whatever `sorted` says. Raises ShapeError if the axis has fewer than k elements.
    """
    axis = axis_of("topk", dim, input.ndim)
    if isinstance(k, bool) or not hasattr(k, "__index__"):
        raise DTypeError(f"topk: k must be an int, got {k!r}")
    size = input.shape[axis] if input.ndim else 1
    if not 0 <= k <= size:
        raise ShapeError(
            f"topk: k must be from 0 to the {size} elements along axis {axis} of a tensor of shape "
            f"{input.shape}, got {k}"
        )
    if input.ndim == 0:
        return sort(input)
    indices = narrow(_positions("topk", input, dim, largest), axis, 0, k)
    return SortResult(gather(input, dim, indices), indices)
