"""Maximum and minimum reductions: the largest, the least, their positions, and what follows from
them: any and all.

`dim` and keepdim are as in reduce.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..dtypes import NARROW, bool_, int64, uint8
from ..engine import Function, Tensor
from ..errors import ShapeError
from ..runtime.allocation import allocate
from .arithmetic import maximum, minimum, product, quotient
from .cast import to
from .compare import eq, isnan, logical_and, logical_or
from .join import stack
from .operands import narrowed, scratch, takes_tensor, widened
from .reduction import (
    Axes,
    Dim,
    Reduction,
    axes_of,
    axis_of,
    count_of,
    kept_axes,
    reduction,
    sum_over,
)
from .transfer import check_rows

__all__ = ["all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "max", "min"]


class MaxResult(NamedTuple):
    """What max and min return for one dim."""

    values: Tensor
    indices: Tensor


class AminmaxResult(NamedTuple):
    """What aminmax returns."""

    min: Tensor
    max: Tensor


class Select(Function):
    """values = the largest or least along one axis: the gradient goes to the one at `indices`."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, axes: Axes, keepdim: bool, largest: bool
    ) -> tuple[Tensor, Tensor]:
        plan, values, indices = _extremum(input, axes, largest)
        ctx.plan, ctx.keepdim, device = plan, keepdim, input.device
        if ctx.needs_input_grad[0]:
            # A copy: backward writes at these positions, and the caller may change the others.
            ctx.indices = allocate(indices.shape, int64, device)
            kernels.get(device).elementwise.copy_strided(ctx.indices, indices)
        return plan.result(values, device, keepdim), plan.result(indices, device, keepdim)

    @staticmethod
    def backward(ctx: Any, grad_values: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        plan: Reduction = ctx.plan
        device = grad_values.device
        grad = plan.reduced(kept_axes(grad_values, plan.axes, ctx.keepdim).array, device)
        data, form = plan.empty_full(grad_values.dtype, grad_values.device)
        kernels.get(device).reduce.take_backward_input(form, grad, ctx.indices)
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
        share = quotient(kept_axes(grad_output, ctx.axes, ctx.keepdim), count)
        return product(to(winners, input.dtype), share), None, None, None, None


def _extremum(
    input: Tensor, axes: Axes, largest: bool, logical_order: bool = False
) -> tuple[Reduction, np.ndarray, np.ndarray]:
    """The plan, and (outer, inner) arrays of the extreme values and of their positions."""
    if (narrow := input.dtype) in NARROW:
        plan, wide, indices = _extremum(widened(input), axes, largest, logical_order)
        return plan, narrowed(Tensor(wide, input.device), narrow).array, indices
    plan, indices = _extreme_positions(input, axes, largest, logical_order)
    values = plan.empty_reduced(input.dtype, input.device)
    array = plan.array(input.array, input.device)
    kernels.get(input.device).reduce.take_forward(values, array, indices)
    return plan, values, indices


def _extreme_positions(
    input: Tensor, axes: Axes, largest: bool, logical_order: bool
) -> tuple[Reduction, np.ndarray]:
    input = widened(input)
    plan, launch = reduction(input.array, axes, logical_order), kernels.get(input.device).reduce
    indices = plan.empty_reduced(int64, input.device)
    array = plan.array(input.array, input.device)
    if largest:
        workspace = scratch(launch.argmax_forward_workspace(plan.form), int64, input.device)
        launch.argmax_forward(indices, array, workspace)
    else:
        workspace = scratch(launch.argmin_forward_workspace(plan.form), int64, input.device)
        launch.argmin_forward(indices, array, workspace)
    return plan, indices


def _nonempty_axes(operation: str, input: Tensor, dim: Dim) -> Axes:
    axes = axes_of(operation, dim, input.ndim)
    if count_of(input, axes) == 0:
        raise ShapeError(
            f"{operation}: the reduced axes {axes} of a tensor of shape {input.shape} must not be "
            "empty"
        )
    return axes


@takes_tensor
def amax(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The largest over dim; NaN wins. The gradient is shared equally among ties."""
    return Extremum.apply(input, _nonempty_axes("amax", input, dim), keepdim, True, False)


@takes_tensor
def amin(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The least over dim; NaN wins. The gradient is shared equally among ties."""
    return Extremum.apply(input, _nonempty_axes("amin", input, dim), keepdim, False, False)


@takes_tensor
def max(input: Tensor, dim: int | Tensor | None = None, keepdim: bool = False) -> Any:
    """The largest of all; or, with dim, (values, indices) along it; with a tensor, maximum.

    Indices: the first of equals; NaN wins. The gradient of the full maximum is shared equally
    among ties, that of max along dim goes to the element at `indices`.
    """
    if isinstance(dim, Tensor):
        return maximum(input, dim)
    return _max_or_min("max", input, dim, keepdim, True)


@takes_tensor
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


@takes_tensor
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> AminmaxResult:
    """(min, max) over one axis, or of all: `amin` and `amax`."""
    if dim is not None:
        axis_of("aminmax", dim, input.ndim)
    axes = _nonempty_axes("aminmax", input, dim)
    if not isinstance(keepdim, (bool, np.bool_)):
        raise TypeError(f"aminmax: keepdim must be a bool, got {keepdim!r:.80}")
    least = Extremum.apply(input, axes, keepdim, False, False)
    return AminmaxResult(least, Extremum.apply(input, axes, keepdim, True, False))


def check_ends(
    values: Tensor, hold: Callable[[Tensor, Tensor], Tensor], refuse: Callable[[Any, Any], None]
) -> None:
    """refuse(least, most), which raises, unless hold(least, most) of all values, which a NaN makes
    NaN: now, or for a GPU at the next synchronisation, and at each replay of a recorded step."""
    if values.array.size == 0:
        return
    least, most = amin(values.detach()), amax(values.detach())
    flag = to(hold(least, most), int64)  # 0 is the row to refuse, 1 none
    ends = stack([least, most]).array.reshape(1, 2)
    check_rows(flag.array.reshape(1), ends, values.device, lambda _, row: refuse(*row))


@takes_tensor
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The position (int64) of the largest along dim, or in the flattened tensor; the first of
    equals, and the first NaN if there is one."""
    return _position("argmax", input, dim, keepdim, True)


@takes_tensor
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


@takes_tensor
def all(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether all are not zero; True of nothing. Of uint8 a uint8."""
    return _any_or_all("all", input, dim, keepdim)


@takes_tensor
def any(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether any is not zero; False of nothing. Of uint8 a uint8."""
    return _any_or_all("any", input, dim, keepdim)


def _any_or_all(operation: str, input: Tensor, dim: Dim, keepdim: bool) -> Tensor:
    """Of truth values, `any` is the largest and `all` the least; of uint8 a uint8, as in torch."""
    truth, dtype = to(input.detach(), bool_), uint8 if input.dtype == uint8 else bool_
    if isinstance(dim, (tuple, list)) and not dim:
        return to(truth, dtype, copy=True)  # as torch: no axis is named, none is reduced
    axes = axes_of(operation, dim, input.ndim)
    if count_of(input, axes):
        plan, values, _ = _extremum(truth, axes, largest=operation == "any")
    else:
        plan = reduction(truth.array, axes)
        values = plan.empty_reduced(bool_, input.device)
        kernels.get(input.device).elementwise.fill(values.reshape(-1), operation == "all")
    return to(plan.result(values, input.device, keepdim), dtype)
