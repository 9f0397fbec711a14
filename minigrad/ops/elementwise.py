"""Elementwise functions of one value.

Arithmetic is in arithmetic.py, comparisons and logic in compare.py, copies in cast.py, updates in
place in inplace.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..dtypes import is_floating
from ..engine import Function, Tensor
from ..errors import ShapeError
from .arithmetic import product, quotient, refuse_bool, scaled
from .cast import to
from .operands import elementwise, floating_operands, takes_tensor
from .promotion import as_floating, check_fits, common_dtype


class Abs(Function):
    """y = |x|: dx = grad·sign(x), 0 at 0."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        ctx.save_for_backward(input)
        out, out_flat, (input_flat,) = elementwise("abs", input)
        kernels.get(out.device).elementwise.abs_forward(out_flat, input_flat)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        grad_input, grad_flat, (input_flat, upstream) = elementwise("abs", input, grad_output)
        kernels.get(input.device).elementwise.abs_backward_input(grad_flat, upstream, input_flat)
        return grad_input


class Exp(Function):
    """y = e^x: dx = grad·y."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        out, out_flat, (input_flat,) = elementwise("exp", input)
        kernels.get(out.device).elementwise.exp_forward(out_flat, input_flat)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        return product(out, grad_output)


class Log(Function):
    """y = ln x: dx = grad/x."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        ctx.save_for_backward(input)
        out, out_flat, (input_flat,) = elementwise("log", input)
        kernels.get(out.device).elementwise.log_forward(out_flat, input_flat)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        return quotient(grad_output, input)


class Sqrt(Function):
    """y = √x: dx = grad/(2y)."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        out, out_flat, (input_flat,) = elementwise("sqrt", input)
        kernels.get(out.device).elementwise.sqrt_forward(out_flat, input_flat)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        return quotient(grad_output, scaled(out, 2))


class Sigmoid(Function):
    """y = 1/(1 + e^−x): dx = grad·y·(1 − y)."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        out, out_flat, (input_flat,) = elementwise("sigmoid", input)
        kernels.get(out.device).elementwise.sigmoid_forward(out_flat, input_flat)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        grad_input, grad_flat, (out_flat, upstream) = elementwise("sigmoid", out, grad_output)
        kernels.get(out.device).elementwise.sigmoid_backward_input(grad_flat, upstream, out_flat)
        return grad_input


class Tanh(Function):
    """y = tanh x: dx = grad·(1 − y²)."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        out, out_flat, (input_flat,) = elementwise("tanh", input)
        kernels.get(out.device).elementwise.tanh_forward(out_flat, input_flat)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        grad_input, grad_flat, (out_flat, upstream) = elementwise("tanh", out, grad_output)
        kernels.get(out.device).elementwise.tanh_backward_input(grad_flat, upstream, out_flat)
        return grad_input


class ReLU(Function):
    """y = max(x, 0): dx = grad where y > 0, else 0."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        out, out_flat, (input_flat,) = elementwise("relu", input)
        kernels.get(out.device).elementwise.relu_forward(out_flat, input_flat)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        grad_input, grad_flat, (out_flat, grad_output_flat) = elementwise("relu", out, grad_output)
        kernels.get(out.device).elementwise.relu_backward_input(
            grad_flat, grad_output_flat, out_flat
        )
        return grad_input


class Clamp(Function):
    """y = min(max(x, low), high): dx = grad where low < x < high, else 0; also at a bound."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(input)
        ctx.bounds = low, high
        out, out_flat, (input_flat,) = elementwise("clamp", input)
        kernels.get(out.device).elementwise.clamp_forward(out_flat, input_flat, low, high)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        grad_input, grad_flat, (input_flat, upstream) = elementwise("clamp", input, grad_output)
        launch = kernels.get(input.device).elementwise
        launch.clamp_backward_input(grad_flat, upstream, input_flat, *ctx.bounds)
        return grad_input, None, None


@takes_tensor
def abs(input: Tensor) -> Tensor:
    """|input|. The derivative at 0 is 0."""
    refuse_bool("abs", input.dtype)
    return Abs.apply(input)


@takes_tensor
def exp(input: Tensor) -> Tensor:
    """e^input."""
    return Exp.apply(as_floating(input))


@takes_tensor
def log(input: Tensor) -> Tensor:
    """The natural logarithm: −∞ at 0, NaN below."""
    return Log.apply(as_floating(input))


@takes_tensor
def sqrt(input: Tensor) -> Tensor:
    """The square root: NaN below 0."""
    return Sqrt.apply(as_floating(input))


@takes_tensor
def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + e^−input), without overflow or loss of digits at either end."""
    return Sigmoid.apply(as_floating(input))


@takes_tensor
def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return Tanh.apply(as_floating(input))


def relu(input: Tensor) -> Tensor:
    """max(input, 0). The derivative at 0 is 0; NaN propagates."""
    floating_operands("relu", input=input)
    return ReLU.apply(input)


@takes_tensor
def clamp(input: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """input limited to [min, max]; max where min > max; NaN propagates. A bound may be None.

    The derivative is 1 inside and 0 outside and at the bounds themselves.
    """
    return Clamp.apply(*clamp_bounds("clamp", input, min, max))


def clamp_bounds(
    operation: str, input: Tensor, min: float | None, max: float | None
) -> tuple[Tensor, float, float]:
    """The input in the common dtype, and two bounds.

    A missing bound is NaN, beyond which nothing lies, or an integer dtype's extreme.
    """
    if min is None and max is None:
        raise ShapeError(f"{operation}: at least one of min and max must be given")
    min, max = (b.item() if isinstance(b, np.generic) else b for b in (min, max))
    for name, bound in (("min", min), ("max", max)):
        if bound is None:
            continue
        if not isinstance(bound, (int, float)):
            raise TypeError(f"{operation}: {name} must be a number, got {type(bound).__name__}")
        if bound != bound:
            raise ShapeError(f"{operation}: {name} must not be NaN")
    refuse_bool(operation, input.dtype)
    input = to(input, common_dtype(input.dtype, min, max))
    if is_floating(input.dtype):
        return input, np.nan if min is None else min, np.nan if max is None else max
    limits = np.iinfo(input.dtype)
    low = int(limits.min) if min is None else min
    high = int(limits.max) if max is None else max
    check_fits(operation, low, input.dtype)
    check_fits(operation, high, input.dtype)
    return input, low, high


class Sign(Function):
    """y = sign(x): constant wherever it has a derivative."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        out, out_flat, (input_flat,) = elementwise("sign", input)
        kernels.get(out.device).elementwise.sign_forward(out_flat, input_flat)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return scaled(grad_output, 0)


@takes_tensor
def sign(input: Tensor) -> Tensor:
    """1, −1 or 0; 0 for NaN. The gradient is 0 everywhere."""
    return Sign.apply(input)
