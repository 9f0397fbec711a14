"""Norms of vectors: (Σ |x|^p)^(1/p) over any axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..dtypes import as_dtype, float64
from ..engine import Function, Tensor
from ..errors import DTypeError, ShapeError
from .arithmetic import add, div, mul, pow, product, quotient, sub
from .cast import to
from .compare import eq, gt, ne, where
from .extrema import Extremum
from .operands import floating_operands, scratch, takes_tensor
from .reduce import Sum
from .reduction import (
    Axes,
    Dim,
    accumulator,
    axes_of,
    axis_of,
    count_of,
    kept_axes,
    reduction,
    sum_over,
)
from .unary import abs, sign, sqrt

__all__ = ["dist", "norm", "renorm"]


class VectorNorm(Function):
    """y = (Σ |x|^p)^(1/p): dx = grad · sign(x)·|x|^(p−1) · y^(1−p), for p = 2 grad · x/y.

    torch's choice where x or y is 0 is 0. For p = 0, the number of x that are not 0, there is none.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, axes: Axes, keepdim: bool, p: float) -> Tensor:
        if p == 2:
            kept = sqrt(_sum_of_squares(input, axes))
        elif p == 0:
            kept = to(sum_over(ne(input, 0), axes, keepdim=True), input.dtype)
        else:
            kept = pow(sum_over(pow(abs(input), p), axes, keepdim=True), 1 / p)
        ctx.save_for_backward(input, kept)
        ctx.axes, ctx.keepdim, ctx.p = axes, keepdim, p
        shape = [size for axis, size in enumerate(kept.shape) if axis not in axes]
        return kept if keepdim else Tensor(kept.array.reshape(shape), kept.device)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.p == 0:
            return None, None, None, None
        input, kept = ctx.saved_tensors
        grad, p = kept_axes(grad_output, ctx.axes, ctx.keepdim), ctx.p
        if p == 2:
            direction, factor = input, quotient(grad, kept)
        else:
            powers = product(sign(input), pow(abs(input), p - 1))
            direction = where(eq(input, 0), 0, powers)
            factor = product(grad, pow(kept, 1 - p))
        return product(direction, where(eq(kept, 0), 0, factor)), None, None, None


def _sum_of_squares(input: Tensor, axes: Axes) -> Tensor:
    """Σ input², the reduced axes kept: the squared deviation from 0, added up in float64."""
    plan, device = reduction(input.array, axes), input.device
    backend = kernels.get(device)
    out, zero = (
        plan.empty_reduced(input.dtype, input.device),
        plan.empty_reduced(input.dtype, input.device),
    )
    backend.elementwise.fill(zero.reshape(-1), 0)
    workspace = scratch(
        backend.reduce.sum_forward_workspace(plan.form), accumulator(input.dtype), device
    )
    backend.reduce.squared_deviation_forward(
        out, plan.array(input.array, device), zero, workspace, 1
    )
    return plan.result(out, device, keepdim=True)


def vector_norm(
    x: Tensor, ord: float = 2, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """(Σ |x|^ord)^(1/ord) over dim, or over all axes.

    ord: any number; inf and −inf are the largest and the least magnitude, 0 counts what is not 0.
    The gradient is 0 where the norm is 0; of equal magnitudes each has its share for ±inf.
    dtype: convert first, to no narrower one. ShapeError for the norm of nothing where ord is
    negative or infinite.
    """
    return _norm("vector_norm", x, ord, dim, keepdim, dtype)


@takes_tensor
def norm(
    input: Tensor,
    p: float | str | None = "fro",
    dim: Dim = None,
    keepdim: bool = False,
    dtype: Any = None,
) -> Tensor:
    """(Σ |input|^p)^(1/p) over dim, or over all axes; 'fro' is p = 2. See `vector_norm`."""
    if isinstance(p, str) and p != "fro":
        raise ValueError(f"norm: p must be a number or 'fro', got {p!r}")
    return _norm("norm", input, 2 if p is None or isinstance(p, str) else p, dim, keepdim, dtype)


@takes_tensor
def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of input − other."""
    return _norm("dist", sub(input, other), p, None, False, None)


@takes_tensor
def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """The slices along dim, those whose p-norm is above maxnorm scaled to it."""
    axis = axis_of("renorm", dim, input.ndim)
    if input.ndim < 2 or check_number("renorm", "maxnorm", maxnorm) < 0:
        raise ShapeError(
            f"renorm: expects two axes at least and maxnorm from 0, got shape {input.shape} and "
            f"{maxnorm!r}"
        )
    rest = tuple([each for each in range(input.ndim) if each != axis])
    lengths = _norm("renorm", input, p, rest, True, None)
    scale = where(gt(lengths, maxnorm), div(maxnorm, add(lengths, 1e-7)), 1.0)
    return mul(input, scale)


def _norm(operation: str, input: Tensor, p: float, dim: Dim, keepdim: bool, dtype: Any) -> Tensor:
    floating_operands(operation, "input", input)
    if not isinstance(keepdim, (bool, np.bool_)):
        raise TypeError(f"{operation}: keepdim must be a bool, got {keepdim!r:.80}")
    order = check_number(operation, "the order", p)
    if math.isnan(order):
        raise ValueError(f"{operation}: the order must not be NaN")
    if dtype is not None:
        wanted = as_dtype(dtype)
        if wanted not in (float64, input.dtype):
            raise DTypeError(
                f"{operation}: {input.dtype.name} does not convert to {wanted.name} without loss"
            )
        input = to(input, wanted)
    axes = axes_of(operation, dim, input.ndim)
    if (order < 0 or order == math.inf) and count_of(input, axes) == 0:
        raise ShapeError(
            f"{operation}: for order {p} the reduced axes {axes} of a tensor of shape "
            f"{input.shape} must not be empty"
        )
    if math.isinf(order):
        return Extremum.apply(abs(input), axes, keepdim, order > 0, True)
    if order == 1:
        return Sum.apply(abs(input), axes, keepdim, 1)
    return VectorNorm.apply(input, axes, keepdim, order)
