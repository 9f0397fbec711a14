"""Reductions: many values to one, over any axes.

`dim` is an axis, several, or None for all; with keepdim the reduced axes stay as ones.
"""

from __future__ import annotations

import builtins
import math
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..dtypes import as_dtype, bool_, floating_dtype, int64, is_floating
from ..engine import Function, Tensor
from ..errors import ShapeError
from ._operands import scratch
from ._reduction import (
    Axes,
    Dim,
    Reduction,
    accumulator,
    axes_of,
    axis_of,
    expand_kept,
    reduction,
    sum_over,
)
from .arithmetic import add, maximum, minimum, mul, product, quotient, sub
from .cast import to
from .compare import eq, isfinite, isnan, logical_and, logical_or, where
from .elementwise import exp, log, sqrt


class MaxResult(NamedTuple):
    """What max and min return for one dim."""

    values: Tensor
    indices: Tensor


def _kept(grad: Tensor, axes: Axes, keepdim: bool) -> Tensor:
    """A result's gradient with its reduced axes as ones."""
    return grad if keepdim else Tensor(expand_kept(grad.data, axes), grad.device)


# Sums and moments ---------------------------------------------------------------------------


class Sum(Function):
    """y = scale · Σ_r x_r: dx_r = scale · grad for every r."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, axes: Axes, keepdim: bool, scale: float) -> Tensor:
        ctx.plan, ctx.keepdim, ctx.scale = reduction(input.data, axes), keepdim, scale
        return sum_over(input, axes, keepdim, scale)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        plan: Reduction = ctx.plan
        device = grad_output.device
        grad = _kept(grad_output, plan.axes, ctx.keepdim)
        if ctx.scale != 1:
            grad = mul(grad, ctx.scale)
        spread = plan.reduced(grad.data, device)[:, None, :]
        data, form = plan.empty_full(grad.dtype)
        kernels.get(device).copy_strided(form, np.broadcast_to(spread, plan.form))
        return Tensor(data, device), None, None, None


class Var(Function):
    """y = Σ_r (x_r − m)² / D with m the mean and D = R − correction: dx_r = grad·2(x_r − m)/D.

    The mean's own derivative drops out, because Σ_r (x_r − m) = 0.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, axes: Axes, keepdim: bool, correction: float) -> Tensor:
        out, ctx.mean, ctx.factor = _variance(input, axes, keepdim, correction)
        ctx.save_for_backward(input)
        ctx.axes, ctx.keepdim = axes, keepdim
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        grad = mul(_kept(grad_output, ctx.axes, ctx.keepdim), 2 * ctx.factor)
        return product(sub(input, ctx.mean), grad), None, None, None


class Std(Function):
    """y = √v with v the variance: dx = dv·grad/(2y); torch's choice at y = 0 is 0."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, axes: Axes, keepdim: bool, correction: float) -> Tensor:
        variance, ctx.mean, ctx.factor = _variance(input, axes, keepdim, correction)
        out = sqrt(variance)
        ctx.save_for_backward(input, out)
        ctx.axes, ctx.keepdim = axes, keepdim
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, out = ctx.saved_tensors
        grad = where(eq(out, 0), 0, quotient(grad_output, out))
        grad = mul(_kept(grad, ctx.axes, ctx.keepdim), ctx.factor)
        return product(sub(input, ctx.mean), grad), None, None, None


def _variance(
    input: Tensor, axes: Axes, keepdim: bool, correction: float
) -> tuple[Tensor, Tensor, float]:
    """The variance, the mean with its axes kept, and 1 / (R − correction)."""
    mean = sum_over(input, axes, True, _inverse(_count(input, axes)))
    factor = _inverse(builtins.max(_count(input, axes) - correction, 0))
    plan, device = reduction(input.data, axes), input.device
    backend = kernels.get(device)
    out = plan.empty_reduced(input.dtype)
    workspace = scratch(backend.sum_forward_workspace(plan.form), accumulator(input.dtype))
    center = plan.reduced(mean.data, device)
    backend.squared_deviation_forward(
        out, plan.array(input.data, device), center, workspace, factor
    )
    return plan.result(out, device, keepdim), mean, factor


def _count(input: Tensor, axes: Axes) -> int:
    return math.prod(input.shape[axis] for axis in axes)


def _inverse(count: float) -> float:
    return 1 / count if count else math.inf


def sum(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ over dim; 0 of nothing. Integers and bool are summed as int64.

    float32 is accumulated in float64. dtype: convert first.
    """
    axes = axes_of("sum", dim, input.ndim)
    if dtype is not None:
        input = to(input, as_dtype(dtype))
    return Sum.apply(input, axes, keepdim, 1)


def mean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over dim; NaN of nothing."""
    if dtype is not None:
        input = to(input, as_dtype(dtype))
    floating_dtype("mean", input=input.dtype)
    axes = axes_of("mean", dim, input.ndim)
    return Sum.apply(input, axes, keepdim, _inverse(_count(input, axes)))


def var(
    input: Tensor,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float = 1,
) -> Tensor:
    """The variance over dim: Σ (x − mean)² / (R − correction). unbiased=False is correction 0."""
    return Var.apply(*_moment_arguments("var", input, dim, unbiased, keepdim, correction))


def std(
    input: Tensor,
    dim: Dim | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float = 1,
) -> Tensor:
    """The standard deviation over dim, the root of `var`. Its derivative at 0 is 0."""
    return Std.apply(*_moment_arguments("std", input, dim, unbiased, keepdim, correction))


def _moment_arguments(
    operation: str,
    input: Tensor,
    dim: Dim | bool,
    unbiased: bool | None,
    keepdim: bool,
    correction: float,
) -> tuple[Tensor, Axes, bool, float]:
    floating_dtype(operation, input=input.dtype)
    if isinstance(dim, bool):  # torch's var(input, unbiased)
        dim, unbiased = None, dim
    if unbiased is not None:
        correction = int(unbiased)
    return input, axes_of(operation, dim, input.ndim), keepdim, correction


# Extrema ------------------------------------------------------------------------------------


class Select(Function):
    """values = the largest or least along one axis: the gradient goes to the one at `indices`."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, axes: Axes, keepdim: bool, largest: bool
    ) -> tuple[Tensor, Tensor]:
        plan, values, indices = _extremum(input, axes, largest)
        ctx.plan, ctx.keepdim, ctx.indices = plan, keepdim, indices
        device = input.device
        return plan.result(values, device, keepdim), plan.result(indices, device, keepdim)

    @staticmethod
    def backward(ctx: Any, grad_values: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        plan: Reduction = ctx.plan
        device = grad_values.device
        grad = plan.reduced(_kept(grad_values, plan.axes, ctx.keepdim).data, device)
        data, form = plan.empty_full(grad_values.dtype)
        kernels.get(device).take_backward_input(form, grad, ctx.indices)
        return Tensor(data, device), None, None, None


class Extremum(Function):
    """y = the largest or least over axes: the gradient is shared equally among all that equal it.

    share_nan: if y is NaN, all NaN share it (torch's full max); otherwise everything gets NaN.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, axes: Axes, keepdim: bool, largest: bool, share_nan: bool
    ) -> Tensor:
        plan, values, _ = _extremum(input, axes, largest)
        out = plan.result(values, input.device, True)
        ctx.save_for_backward(input, out)
        ctx.axes, ctx.keepdim, ctx.share_nan = axes, keepdim, share_nan
        return out if keepdim else plan.result(values, input.device, False)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, out = ctx.saved_tensors
        winners = eq(input, out)
        if ctx.share_nan:
            winners = logical_or(winners, logical_and(isnan(input), isnan(out)))
        count = to(sum_over(winners, ctx.axes, keepdim=True), input.dtype)
        share = quotient(_kept(grad_output, ctx.axes, ctx.keepdim), count)
        return product(to(winners, input.dtype), share), None, None, None, None


def _extremum(
    input: Tensor, axes: Axes, largest: bool, logical_order: bool = False
) -> tuple[Reduction, np.ndarray, np.ndarray]:
    """The plan, and (outer, inner) arrays of the extreme values and of their positions."""
    plan, indices = _extreme_positions(input, axes, largest, logical_order)
    values = plan.empty_reduced(input.dtype)
    array = plan.array(input.data, input.device)
    kernels.get(input.device).take_forward(values, array, indices)
    return plan, values, indices


def _extreme_positions(
    input: Tensor, axes: Axes, largest: bool, logical_order: bool
) -> tuple[Reduction, np.ndarray]:
    plan, backend = reduction(input.data, axes, logical_order), kernels.get(input.device)
    indices = plan.empty_reduced(int64)
    array = plan.array(input.data, input.device)
    if largest:
        workspace = scratch(backend.argmax_forward_workspace(plan.form), int64)
        backend.argmax_forward(indices, array, workspace)
    else:
        workspace = scratch(backend.argmin_forward_workspace(plan.form), int64)
        backend.argmin_forward(indices, array, workspace)
    return plan, indices


def _nonempty_axes(operation: str, input: Tensor, dim: Dim) -> Axes:
    axes = axes_of(operation, dim, input.ndim)
    if _count(input, axes) == 0:
        raise ShapeError(
            f"{operation}: the reduced axes {axes} of a tensor of shape {input.shape} must not be "
            "empty"
        )
    return axes


def amax(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The largest over dim; NaN wins. The gradient is shared equally among ties."""
    return Extremum.apply(input, _nonempty_axes("amax", input, dim), keepdim, True, False)


def amin(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The least over dim; NaN wins. The gradient is shared equally among ties."""
    return Extremum.apply(input, _nonempty_axes("amin", input, dim), keepdim, False, False)


def max(input: Tensor, dim: int | Tensor | None = None, keepdim: bool = False) -> Any:
    """The largest of all; or, with dim, (values, indices) along it; with a tensor, maximum.

    Indices: the first of equals; NaN wins. The gradient of the full maximum is shared equally
    among ties, that of max along dim goes to the element at `indices`.
    """
    if isinstance(dim, Tensor):
        return maximum(input, dim)
    return _max_or_min("max", input, dim, keepdim, True)


def min(input: Tensor, dim: int | Tensor | None = None, keepdim: bool = False) -> Any:
    """The least of all; or, with dim, (values, indices) along it; with a tensor, minimum.

    As `max` in all else.
    """
    if isinstance(dim, Tensor):
        return minimum(input, dim)
    return _max_or_min("min", input, dim, keepdim, False)


def _max_or_min(
    operation: str, input: Tensor, dim: int | None, keepdim: bool, largest: bool
) -> Any:
    if dim is None:
        axes = _nonempty_axes(operation, input, None)
        return Extremum.apply(input, axes, False, largest, True)
    axis_of(operation, dim, input.ndim)
    axes = _nonempty_axes(operation, input, dim)
    return MaxResult(*Select.apply(input, axes, keepdim, largest))


def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The position (int64) of the largest along dim, or in the flattened tensor; the first of
    equals, and the first NaN if there is one."""
    return _position("argmax", input, dim, keepdim, True)


def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The position (int64) of the least along dim, or in the flattened tensor; the first of
    equals, and the first NaN if there is one."""
    return _position("argmin", input, dim, keepdim, False)


def _position(
    operation: str, input: Tensor, dim: int | None, keepdim: bool, largest: bool
) -> Tensor:
    if dim is not None:
        axis_of(operation, dim, input.ndim)
    axes = _nonempty_axes(operation, input, dim)
    plan, indices = _extreme_positions(input, axes, largest, logical_order=True)
    return plan.result(indices, input.device, keepdim)


def all(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether all are not zero; True of nothing."""
    return _any_or_all("all", input, dim, keepdim)


def any(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether any is not zero; False of nothing."""
    return _any_or_all("any", input, dim, keepdim)


def _any_or_all(operation: str, input: Tensor, dim: Dim, keepdim: bool) -> Tensor:
    """Of truth values, `any` is the largest and `all` the least."""
    axes, truth = axes_of(operation, dim, input.ndim), to(input.detach(), bool_)
    if _count(input, axes):
        plan, values, _ = _extremum(truth, axes, largest=operation == "any")
    else:
        plan = reduction(truth.data, axes)
        values = plan.empty_reduced(bool_)
        kernels.get(input.device).fill(values.reshape(-1), operation == "all")
    return plan.result(values, input.device, keepdim)


# Products, running sums, log-sum-exp -----------------------------------------------------------


class Prod(Function):
    """y = Π_r x_r: dx_r = grad · Π_{q ≠ r} x_q."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, axes: Axes, keepdim: bool) -> Tensor:
        ctx.plan, ctx.keepdim = reduction(input.data, axes), keepdim
        ctx.save_for_backward(input)
        out = ctx.plan.empty_reduced(input.dtype)
        kernels.get(input.device).prod_forward(out, ctx.plan.array(input.data, input.device))
        return ctx.plan.result(out, input.device, keepdim)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        plan: Reduction = ctx.plan
        device = input.device
        grad = plan.reduced(_kept(grad_output, plan.axes, ctx.keepdim).data, device)
        data, form = plan.empty_full(input.dtype)
        kernels.get(device).prod_backward_input(form, grad, plan.array(input.data, device))
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
    plan = reduction(input.data, (axis,) if input.ndim else ())
    data, form = plan.empty_full(input.dtype)
    array = plan.array(input.data, input.device)
    kernels.get(input.device).cumsum_forward(form, array, reverse)
    return Tensor(data, input.device)


class LogSumExp(Function):
    """y = ln Σ_r e^x_r = m + ln Σ_r e^(x_r − m) with m the maximum: dx_r = grad·e^(x_r − y)."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, axes: Axes, keepdim: bool) -> Tensor:
        if _count(input, axes):
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
        return kept if keepdim else Tensor(kept.data.reshape(shape), kept.device)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, kept = ctx.saved_tensors
        grad = _kept(grad_output, ctx.axes, ctx.keepdim)
        return product(exp(sub(input, kept)), grad), None, None


def prod(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The product over dim; 1 of nothing. Integers and bool are multiplied as int64."""
    axes = axes_of("prod", dim, input.ndim)
    if dtype is None and not is_floating(input.dtype):
        dtype = int64
    return Prod.apply(input if dtype is None else to(input, as_dtype(dtype)), axes, keepdim)


def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running sums along dim. Integers and bool are summed as int64."""
    axis = axis_of("cumsum", dim, input.ndim)
    if dtype is None and not is_floating(input.dtype):
        dtype = int64
    return CumSum.apply(input if dtype is None else to(input, as_dtype(dtype)), axis)


def logsumexp(input: Tensor, dim: Dim, keepdim: bool = False) -> Tensor:
    """ln Σ e^input over dim, without overflow; −∞ of nothing."""
    floating_dtype("logsumexp", input=input.dtype)
    return LogSumExp.apply(input, axes_of("logsumexp", dim, input.ndim), keepdim)
