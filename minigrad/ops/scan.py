"""Scans: running products, maxima, minima and log-sum-exps along an axis; differences.

A scan after Hillis and Steele: in step k each element takes in the one 2^k places before, so that
log2(n) passes do it, and the composition has the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..arguments import check_int
from ..dtypes import as_dtype, bool_, floating_dtype, int64, is_floating
from ..engine import Tensor
from .arithmetic import add, maximum, minimum, mul, sub
from .cast import clone, to
from .compare import bitwise_or, eq, isnan, logical_xor, where
from .creation import arange
from .division import div
from .functions import logaddexp
from .join import cat
from .operands import takes_tensor
from .rearrange import movedim
from .reduce import sum
from .reduction import axis_of
from .select import gather, narrow
from .shape import broadcast_to, real_axis, reshape

__all__ = ["cummax", "cummin", "cumprod", "diff", "logcumsumexp", "trapezoid", "trapz"]


class RunningResult(NamedTuple):
    """What cummax and cummin return."""

    values: Tensor
    indices: Tensor


def _scan(combine: Callable[[Tensor, Tensor], Tensor], input: Tensor, axis: int) -> Tensor:
    """combine of all elements up to each one along an axis, for an associative function."""
    n = input.shape[axis] if input.ndim else 1
    reach, result = 1, input
    while reach < n:
        early, late = narrow(result, axis, 0, n - reach), narrow(result, axis, reach, n - reach)
        result = cat([narrow(result, axis, 0, reach), combine(early, late)], axis)
        reach *= 2
    return clone(result) if result is input else result


@takes_tensor
def cumprod(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running products along dim. Integers and bool are multiplied as int64."""
    axis = axis_of("cumprod", dim, input.ndim)
    if dtype is None and not is_floating(input.dtype):
        dtype = int64
    return _scan(mul, input if dtype is None else to(input, as_dtype(dtype)), axis)


@takes_tensor
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """ln of the running sums of e^input along dim, without overflow."""
    floating_dtype("logcumsumexp", input=input.dtype)
    return _scan(logaddexp, input, axis_of("logcumsumexp", dim, input.ndim))


@takes_tensor
def cummax(input: Tensor, dim: int) -> RunningResult:
    """Running maxima along dim, and the position of each: the last of equals; NaN wins."""
    return _running_extremum("cummax", maximum, input, dim)


@takes_tensor
def cummin(input: Tensor, dim: int) -> RunningResult:
    """Running minima along dim, and the position of each: the last of equals; NaN wins."""
    return _running_extremum("cummin", minimum, input, dim)


def _running_extremum(
    operation: str, choose: Callable[[Tensor, Tensor], Tensor], input: Tensor, dim: int
) -> RunningResult:
    axis = axis_of(operation, dim, input.ndim)
    if input.ndim == 0:
        return RunningResult(clone(input), to(input.detach() * 0, int64))
    values = input.detach()
    extreme = _scan(choose, values, axis)
    numbers = arange(input.shape[axis], device=input.device)
    numbers = reshape(numbers, (input.shape[axis],) + (1,) * (input.ndim - axis - 1))
    reached = bitwise_or(eq(values, extreme), isnan(values))
    positions = where(reached, broadcast_to(numbers, input.shape), 0)
    indices = _scan(maximum, positions, axis)
    return RunningResult(gather(input, axis, indices), indices)


@takes_tensor
def diff(
    input: Tensor,
    n: int = 1,
    dim: int = -1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
) -> Tensor:
    """The n-th differences of neighbours along dim; of bool, whether they differ."""
    axis = real_axis("diff", dim, input)
    if check_int("diff", "n", n, 0) == 0:
        return clone(input)
    parts = [part for part in (prepend, input, append) if part is not None]
    result = cat(parts, axis) if len(parts) > 1 else input
    for _ in range(min(n, result.shape[axis])):
        length = max(result.shape[axis] - 1, 0)
        late, early = narrow(result, axis, 1, length), narrow(result, axis, 0, length)
        result = logical_xor(late, early) if result.dtype == bool_ else sub(late, early)
    return clone(result) if result is input else result


def trapezoid(
    y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1
) -> Tensor:
    """The integral along dim by the trapezoidal rule: Σ (yᵢ + yᵢ₊₁) / 2 · (xᵢ₊₁ − xᵢ), of samples y
    at the places x (one-dimensional, or as y), by default at distances of dx, which is 1."""
    if not isinstance(y, Tensor):
        raise TypeError(f"trapezoid: y must be a Tensor, got {type(y).__name__}")
    if x is not None and dx is not None:
        raise TypeError("trapezoid: x gives the distances; leave dx out")
    heights = movedim(y, real_axis("trapezoid", dim, y), -1)
    length = max(heights.shape[-1] - 1, 0)
    pairs = add(narrow(heights, -1, 1, length), narrow(heights, -1, 0, length))
    if x is None:
        return mul(sum(pairs, -1), (1 if dx is None else dx) / 2)
    if x.ndim > 1:
        x = movedim(reshape(x, (1,) * (y.ndim - x.ndim) + x.shape), dim, -1)
    return div(sum(mul(pairs, diff(x)), -1), 2)


trapz = trapezoid
