"""Arithmetic on two operands: tensors that broadcast together, or a tensor and a number."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..dtypes import bool_, int64, is_floating
from ..engine import Function, Tensor
from ..errors import DTypeError
from .operands import broadcast_shape, elementwise, takes_tensor
from .promotion import Operand, check_fits, operands
from .reduction import unbroadcast

# What backward passes are made of: nothing here is recorded.


def scaled(tensor: Tensor, factor: float) -> Tensor:
    """factor · tensor, in the tensor's dtype."""
    return tensor if factor == 1 else mul(tensor, factor)


def product(left: Tensor, right: Tensor) -> Tensor:
    """left · right, with broadcasting."""
    out, out_flat, (left_flat, right_flat) = elementwise("mul", left, right)
    kernels.get(out.device).elementwise.mul_forward(out_flat, left_flat, right_flat)
    return out


def quotient(left: Tensor, right: Tensor) -> Tensor:
    """left / right, with broadcasting."""
    out, out_flat, (left_flat, right_flat) = elementwise("div", left, right)
    kernels.get(out.device).elementwise.div_forward(out_flat, left_flat, right_flat)
    return out


# Arithmetic ---------------------------------------------------------------------------------


class Add(Function):
    """y = a + alpha·b: da = grad, db = alpha·grad."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, alpha: float) -> Tensor:
        ctx.shapes, ctx.alpha = (left.shape, right.shape), alpha
        out, out_flat, (left_flat, right_flat) = elementwise("add", left, right)
        kernels.get(out.device).elementwise.add_forward(out_flat, left_flat, right_flat, alpha)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        left_shape, right_shape = ctx.shapes
        grad_left = grad_right = None
        if ctx.needs_input_grad[0]:
            grad_left = unbroadcast(grad_output, left_shape)
        if ctx.needs_input_grad[1]:
            grad_right = scaled(unbroadcast(grad_output, right_shape), ctx.alpha)
        return grad_left, grad_right, None


class Mul(Function):
    """y = a·b: da = grad·b, db = grad·a."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return product(left, right)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        grad_left = grad_right = None
        if ctx.needs_input_grad[0]:
            grad_left = unbroadcast(product(grad_output, right), left.shape)
        if ctx.needs_input_grad[1]:
            grad_right = unbroadcast(product(grad_output, left), right.shape)
        return grad_left, grad_right


class Div(Function):
    """y = a/b: da = grad/b, db = −grad·a/b² = −grad·y/b."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.left_shape = left.shape
        out = quotient(left, right)
        ctx.save_for_backward(out, right)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        out, right = ctx.saved_tensors
        grad_left = grad_right = None
        if ctx.needs_input_grad[0]:
            grad_left = unbroadcast(quotient(grad_output, right), ctx.left_shape)
        if ctx.needs_input_grad[1]:
            full, full_flat, flats = elementwise("div", grad_output, out, right)
            kernels.get(full.device).elementwise.div_backward_right(full_flat, *flats)
            grad_right = unbroadcast(full, right.shape)
        return grad_left, grad_right


class Pow(Function):
    """y = a^b: da = grad·b·a^(b − 1), 0 for b = 0; db = grad·y·ln a, 0 at a = 0 for b ≥ 0."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        out, out_flat, (left_flat, right_flat) = elementwise("pow", left, right)
        kernels.get(out.device).elementwise.pow_forward(out_flat, left_flat, right_flat)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        launch = kernels.get(grad_output.device).elementwise
        grad_left = grad_right = None
        if ctx.needs_input_grad[0]:
            full, full_flat, flats = elementwise("pow", grad_output, left, right)
            launch.pow_backward_left(full_flat, *flats)
            grad_left = unbroadcast(full, left.shape)
        if ctx.needs_input_grad[1]:
            full, full_flat, flats = elementwise("pow", grad_output, left, right)
            launch.pow_backward_right(full_flat, *flats)
            grad_right = unbroadcast(full, right.shape)
        return grad_left, grad_right


class Maximum(Function):
    """y = max(a, b): the gradient goes to the larger, half to each at a tie."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        out, out_flat, (left_flat, right_flat) = elementwise("maximum", left, right)
        kernels.get(out.device).elementwise.maximum_forward(out_flat, left_flat, right_flat)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        return (
            _winner_grad(grad_output, left, right, left.shape) if ctx.needs_input_grad[0] else None,
            _winner_grad(grad_output, right, left, right.shape)
            if ctx.needs_input_grad[1]
            else None,
        )


class Minimum(Function):
    """y = min(a, b): the gradient goes to the smaller, half to each at a tie."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        out, out_flat, (left_flat, right_flat) = elementwise("minimum", left, right)
        kernels.get(out.device).elementwise.minimum_forward(out_flat, left_flat, right_flat)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        # a is the smaller where b is the larger.
        return (
            _winner_grad(grad_output, right, left, left.shape) if ctx.needs_input_grad[0] else None,
            _winner_grad(grad_output, left, right, right.shape)
            if ctx.needs_input_grad[1]
            else None,
        )


def _winner_grad(
    grad_output: Tensor, larger: Tensor, smaller: Tensor, shape: tuple[int, ...]
) -> Tensor:
    """grad_output where larger > smaller, half of it where they are equal, else 0."""
    full, full_flat, flats = elementwise("maximum", grad_output, larger, smaller)
    kernels.get(full.device).elementwise.winner_backward(full_flat, *flats)
    return unbroadcast(full, shape)


def add(input: Operand, other: Operand, *, alpha: float = 1) -> Tensor:
    """input + alpha·other, with broadcasting."""
    left, right = operands("add", input, other)
    check_alpha("add", alpha, left.dtype)
    return Add.apply(left, right, alpha)


def sub(input: Operand, other: Operand, *, alpha: float = 1) -> Tensor:
    """input − alpha·other, with broadcasting."""
    left, right = operands("sub", input, other)
    for operand in (input, other):
        if isinstance(operand, (bool, Tensor)):
            refuse_bool("sub", bool_ if isinstance(operand, bool) else operand.dtype)
    check_alpha("sub", alpha, left.dtype)
    broadcast_shape("sub", left.shape, right.shape)
    return Add.apply(left, right, -alpha)


def check_alpha(operation: str, alpha: float, dtype: np.dtype) -> None:
    if not isinstance(alpha, (int, float)):
        raise TypeError(f"{operation}: alpha must be a number, got {type(alpha).__name__}")
    if not is_floating(dtype) and not isinstance(alpha, float):
        check_fits(f"{operation}: alpha", alpha, int64)
        check_fits(f"{operation}: −alpha", -alpha, int64)  # what sub multiplies by
    if not is_floating(dtype) and isinstance(alpha, float):
        raise DTypeError(
            f"{operation}: alpha must be an int for tensors of dtype {dtype.name}, got {alpha!r}"
        )


def refuse_bool(operation: str, dtype: np.dtype) -> None:
    if dtype == bool_:
        raise DTypeError(f"{operation}: not defined for dtype bool; use ~ or logical_not to invert")


def mul(input: Operand, other: Operand) -> Tensor:
    """input · other, with broadcasting."""
    return Mul.apply(*operands("mul", input, other))


def div(input: Operand, other: Operand) -> Tensor:
    """input / other, with broadcasting. Integers are divided as float32."""
    return Div.apply(*operands("div", input, other, floating=True))


def pow(input: Operand, exponent: Operand) -> Tensor:
    """input^exponent, with broadcasting. A negative exponent of an integer tensor is an error."""
    left, right = operands("pow", input, exponent)
    if isinstance(exponent, (int, float)):
        if exponent == 2:
            return square(left)
        if exponent < 0 and not is_floating(left.dtype):
            raise DTypeError(
                f"pow: integers have no negative powers, got exponent {exponent} for dtype "
                f"{left.dtype.name}"
            )
    return Pow.apply(left, right)


def maximum(input: Operand, other: Operand) -> Tensor:
    """The larger of two values, with broadcasting; NaN propagates."""
    return Maximum.apply(*operands("maximum", input, other))


def minimum(input: Operand, other: Operand) -> Tensor:
    """The smaller of two values, with broadcasting; NaN propagates."""
    return Minimum.apply(*operands("minimum", input, other))


@takes_tensor
def neg(input: Tensor) -> Tensor:
    """−input."""
    refuse_bool("neg", input.dtype)
    # 0 − x would turn −0 into 0; for uint8, −1 wraps around to 255, and so does the product.
    if input.dtype == np.uint8:
        return Add.apply(scaled(input, 0), input, -1)
    return mul(input, -1)


@takes_tensor
def square(input: Tensor) -> Tensor:
    """input²; of bool as integers."""
    input, _ = operands("square", input, 1)
    return Mul.apply(input, input)


def reciprocal(input: Tensor) -> Tensor:
    """1 / input."""
    return div(1, input)
