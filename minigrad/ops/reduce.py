"""Reductions: many values to one, over any axes.

`dim` is an axis, several, or None for all; with keepdim the reduced axes stay as ones.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..dtypes import as_dtype, float64, floating_dtype, int64, is_floating
from ..engine import Function, Tensor
from ..errors import ShapeError
from .arithmetic import add, mul, product, quotient, sub
from .cast import to
from .compare import eq, isfinite, ne, where
from .extrema import amax
from .operands import scratch, takes_tensor, widened
from .reduction import (
    Axes,
    Dim,
    Reduction,
    accumulator,
    axes_of,
    axis_of,
    count_of,
    kept_axes,
    reduction,
    sum_over,
)
from .shape import reshape, sizes_of
from .unary import exp, log, sqrt

__all__ = [
    "count_nonzero", "cumsum", "logsumexp", "mean", "prod", "std", "std_mean", "sum", "var",
    "var_mean",
]  # fmt: skip

# Sums and moments ---------------------------------------------------------------------------


class Sum(Function):
    """y = scale · Σ_r x_r: dx_r = scale · grad for every r."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, axes: Axes, keepdim: bool, scale: float) -> Tensor:
        ctx.plan, ctx.keepdim, ctx.scale = reduction(input.array, axes), keepdim, scale
        return sum_over(input, axes, keepdim, scale)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        plan: Reduction = ctx.plan
        device = grad_output.device
        grad = kept_axes(grad_output, plan.axes, ctx.keepdim)
        if ctx.scale != 1:
            grad = mul(grad, ctx.scale)
        spread = plan.reduced(grad.array, device)[:, None, :]
        data, form = plan.empty_full(grad.dtype, grad.device)
        kernels.get(device).elementwise.copy_strided(form, np.broadcast_to(spread, plan.form))
        return Tensor(data, device), None, None, None


class Var(Function):
    """y = v = Σ_r (x_r − m)² / D with m the mean and D = R − correction, or with `root` y = √v:
    dx_r = dv·2(x_r − m)/D, where dv = grad or grad/(2y); torch's choice at y = 0 is 0.

    The mean's own derivative drops out, because Σ_r (x_r − m) = 0.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, axes: Axes, keepdim: bool, correction: float, root: bool
    ) -> Tensor:
        # In float64: the square of a float32 may be out of its range, whereas the root is not.
        dtype = float64 if root else input.dtype
        variance, ctx.mean, ctx.factor = _variance(input, axes, keepdim, correction, dtype)
        out = to(sqrt(variance), input.dtype) if root else variance
        ctx.save_for_backward(input, out if root else None)
        ctx.axes, ctx.keepdim = axes, keepdim
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, out = ctx.saved_tensors
        grad, factor = grad_output, 2 * ctx.factor
        if out is not None:
            grad, factor = where(eq(out, 0), 0, quotient(grad, out)), ctx.factor
        grad = mul(kept_axes(grad, ctx.axes, ctx.keepdim), factor)
        return product(sub(input, ctx.mean), grad), *(None,) * 4


def _variance(
    input: Tensor, axes: Axes, keepdim: bool, correction: float, dtype: np.dtype
) -> tuple[Tensor, Tensor, float]:
    """The variance in a dtype; the mean with its axes kept; and 1 / (R − correction)."""
    mean = sum_over(input, axes, True, _inverse(count_of(input, axes)))
    count = count_of(input, axes)
    # Of nothing NaN, whatever the correction.
    factor = _inverse(builtins.max(count - correction, 0) if count else 0)
    plan, device = reduction(input.array, axes), input.device
    launch = kernels.get(device).reduce
    out = plan.empty_reduced(dtype, input.device)
    workspace = scratch(launch.sum_forward_workspace(plan.form), accumulator(input.dtype), device)
    center = plan.reduced(mean.array, device)
    launch.squared_deviation_forward(
        out, plan.array(input.array, device), center, workspace, factor
    )
    return plan.result(out, device, keepdim), mean, factor


def _inverse(count: float) -> float:
    return 1 / count if count else math.inf


@takes_tensor
def sum(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ over dim; 0 of nothing. Integers and bool are summed as int64.

    float32 is accumulated in float64. dtype: that of the result; the input is converted first.
    """
    axes = axes_of("sum", dim, input.ndim)
    if dtype is None:
        return Sum.apply(input, axes, keepdim, 1)
    wanted = as_dtype(dtype)
    return to(Sum.apply(to(input, wanted), axes, keepdim, 1), wanted)


@takes_tensor
def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """Σ over the axes along which a tensor of shape `size` would repeat to have the input's."""
    wanted = sizes_of("sum_to_size", size)
    extra = input.ndim - len(wanted)
    if extra < 0 or any(n not in (1, m) for n, m in zip(wanted, input.shape[extra:], strict=True)):
        raise ShapeError(
            f"sum_to_size: a tensor of shape {wanted} does not broadcast to shape {input.shape}"
        )
    axes = tuple(
        axis for axis, n in enumerate(input.shape) if axis < extra or wanted[axis - extra] != n
    )
    return reshape(sum(input, axes, keepdim=True), wanted) if axes or extra else input


@takes_tensor
def mean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over dim; NaN of nothing."""
    if dtype is not None:
        input = to(input, as_dtype(dtype))
    floating_dtype("mean", input=input.dtype)
    return _mean(input, axes_of("mean", dim, input.ndim), keepdim)


@takes_tensor
def var(
    input: Tensor,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The variance over dim: Σ (x − mean)² / (R − correction). unbiased=False is correction 0."""
    return Var.apply(*_moment_arguments("var", input, dim, unbiased, keepdim, correction), False)


@takes_tensor
def std(
    input: Tensor,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The standard deviation over dim, the root of `var`. Its derivative at 0 is 0."""
    return Var.apply(*_moment_arguments("std", input, dim, unbiased, keepdim, correction), True)


@takes_tensor
def var_mean(
    input: Tensor,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(var, mean) over dim."""
    arguments = _moment_arguments("var_mean", input, dim, unbiased, keepdim, correction)
    return Var.apply(*arguments, False), _mean(*arguments[:3])


@takes_tensor
def std_mean(
    input: Tensor,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(std, mean) over dim."""
    arguments = _moment_arguments("std_mean", input, dim, unbiased, keepdim, correction)
    return Var.apply(*arguments, True), _mean(*arguments[:3])


def _mean(input: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    return Sum.apply(input, axes, keepdim, _inverse(count_of(input, axes)))


def _moment_arguments(
    operation: str,
    input: Tensor,
    dim: Dim | bool,
    unbiased: bool | None,
    keepdim: bool,
    correction: float | None,
) -> tuple[Tensor, Axes, bool, float]:
    floating_dtype(operation, input=input.dtype)
    if isinstance(dim, bool):  # torch's var(input, unbiased)
        dim, unbiased = None, dim
    if unbiased is not None and not isinstance(unbiased, (bool, np.bool_)):
        raise TypeError(f"{operation}: unbiased must be a bool or None, got {unbiased!r:.80}")
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    correction = check_number(operation, "correction", correction)
    if not math.isfinite(correction):
        raise ValueError(f"{operation}: correction must be finite, got {correction}")
    return input, axes_of(operation, dim, input.ndim), keepdim, correction


@takes_tensor
def count_nonzero(input: Tensor, dim: Dim = None) -> Tensor:
    """How many are not 0 (int64); NaN is not 0."""
    axes = axes_of("count_nonzero", dim, input.ndim)
    return sum_over(ne(input.detach(), 0), axes, keepdim=False)


# Products, running sums, log-sum-exp -----------------------------------------------------------


class Prod(Function):
    """y = Π_r x_r: dx_r = grad · Π_{q ≠ r} x_q."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, axes: Axes, keepdim: bool) -> Tensor:
        ctx.plan, ctx.keepdim = reduction(input.array, axes), keepdim
        ctx.save_for_backward(input)
        out = ctx.plan.empty_reduced(input.dtype, input.device)
        kernels.get(input.device).reduce.prod_forward(
            out, ctx.plan.array(input.array, input.device)
        )
        return ctx.plan.result(out, input.device, keepdim)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        plan: Reduction = ctx.plan
        device = input.device
        grad = plan.reduced(kept_axes(grad_output, plan.axes, ctx.keepdim).array, device)
        data, form = plan.empty_full(input.dtype, input.device)
        kernels.get(device).reduce.prod_backward_input(form, grad, plan.array(input.array, device))
        return Tensor(data, device), None, None


class CumSum(Function):
    """y_r = Σ_{q ≤ r} x_q: dx_q = Σ_{r ≥ q} grad_r, the running sum from the other end."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, axis: int) -> Tensor:
        ctx.axis = axis
        return _running_sum(input, axis, reverse=False)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return _running_sum(grad_output, ctx.axis, reverse=True), None


def _running_sum(input: Tensor, axis: int, reverse: bool) -> Tensor:
    plan = reduction(input.array, (axis,) if input.ndim else ())
    data, form = plan.empty_full(input.dtype, input.device)
    array = plan.array(input.array, input.device)
    kernels.get(input.device).reduce.cumsum_forward(form, array, reverse)
    return Tensor(data, input.device)


class LogSumExp(Function):
    """y = ln Σ_r e^x_r = m + ln Σ_r e^(x_r − m) with m the maximum: dx_r = grad·e^(x_r − y)."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, axes: Axes, keepdim: bool) -> Tensor:
        if count_of(input, axes):
            shift = amax(input, axes if axes else None, keepdim=True)
            # An infinite maximum would give ∞ − ∞.
            shift = where(isfinite(shift), shift, 0)
            total = sum_over(exp(sub(input, shift)), axes, keepdim=True)
            kept = add(log(total), shift)
        else:
            kept = log(sum_over(input, axes, keepdim=True))
        ctx.save_for_backward(input, kept)
        ctx.axes, ctx.keepdim = axes, keepdim
        shape = [size for axis, size in enumerate(kept.shape) if axis not in axes]
        return kept if keepdim else Tensor(kept.array.reshape(shape), kept.device)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, kept = ctx.saved_tensors
        grad = kept_axes(grad_output, ctx.axes, ctx.keepdim)
        return product(exp(sub(input, kept)), grad), None, None


@takes_tensor
def prod(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The product over dim; 1 of nothing. Integers and bool are multiplied as int64."""
    axes = axes_of("prod", dim, input.ndim)
    input, dtype = _accumulated(input, dtype)
    return to(Prod.apply(input, axes, keepdim), dtype)


@takes_tensor
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running sums along dim. Integers and bool are summed as int64."""
    axis = axis_of("cumsum", dim, input.ndim)
    input, dtype = _accumulated(input, dtype)
    return to(CumSum.apply(input, axis), dtype)


def _accumulated(input: Tensor, dtype: Any) -> tuple[Tensor, np.dtype]:
    """The input in the dtype in which its products or running sums are computed, and the result's:
    the dtype that is asked for, else the input's if that is floating, else int64."""
    own = input.dtype if is_floating(input.dtype) else int64
    wanted = own if dtype is None else as_dtype(dtype)
    return widened(to(input, wanted)), wanted


@takes_tensor
def logsumexp(input: Tensor, dim: Dim, keepdim: bool = False) -> Tensor:
    """ln Σ e^input over dim, without overflow; −∞ of nothing."""
    floating_dtype("logsumexp", input=input.dtype)
    return LogSumExp.apply(input, axes_of("logsumexp", dim, input.ndim), keepdim)
