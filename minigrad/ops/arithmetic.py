"""Arithmetic on two operands: tensors that broadcast together, or a tensor and a number."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np

from ..dtypes import bool_, float32, float64, int64, is_floating
from ..engine import Function, Tensor
from ..errors import DTypeError
from .cast import to
from .operands import broadcast_shape, kept, pointwise, takes_tensor
from .promotion import Operand, check_fits, operands
from .reduction import unbroadcast

__all__ = ["add", "maximum", "minimum", "mul", "neg", "pow", "reciprocal", "square", "sub"]

# What backward passes are made of: nothing here is recorded.


def scaled(tensor: Tensor, factor: float) -> Tensor:
    """factor · tensor, in the tensor's dtype."""
    return tensor if factor == 1 else mul(tensor, factor)


def product(left: Tensor, right: Tensor) -> Tensor:
    """left · right, with broadcasting."""
    return pointwise("mul", lambda launch: launch.mul_forward, left, right)


def quotient(left: Tensor, right: Tensor) -> Tensor:
    """left / right, with broadcasting."""
    return pointwise("div", lambda launch: launch.div_forward, left, right)


# Arithmetic ---------------------------------------------------------------------------------


class Add(Function):
    """y = a + alpha·b: da = grad, db = alpha·grad."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, alpha: float) -> Tensor:
        ctx.shapes, ctx.alpha = (left.array.shape, right.array.shape), alpha
        return pointwise("add", lambda launch: launch.add_forward, left, right, numbers=(alpha,))

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
        needs_left, needs_right = ctx.needs_input_grad
        ctx.shapes = left.array.shape, right.array.shape
        ctx.save_for_backward(kept(left) if needs_right else None, right if needs_left else None)
        return product(left, right)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        grad_left = grad_right = None
        if ctx.needs_input_grad[0]:
            grad_left = unbroadcast(product(grad_output, right), ctx.shapes[0])
        if ctx.needs_input_grad[1]:
            grad_right = unbroadcast(product(grad_output, left), ctx.shapes[1])
        return grad_left, grad_right


class Div(Function):
    """y = a/b: da = grad/b, db = −grad·a/b² = −grad·y/b."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        needs_left, needs_right = ctx.needs_input_grad
        ctx.shapes = left.shape, right.shape
        # Not the result, of which the right gradient is a function, too: it may change in place.
        ctx.save_for_backward(
            kept(left) if needs_right else None, right if needs_left or needs_right else None
        )
        return quotient(left, right)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        grad_left = grad_right = None
        if ctx.needs_input_grad[0]:
            grad_left = unbroadcast(quotient(grad_output, right), ctx.shapes[0])
        if ctx.needs_input_grad[1]:
            operands = grad_output, quotient(left, right), right
            full = pointwise("div", lambda launch: launch.div_backward_right, *operands)
            grad_right = unbroadcast(full, right.shape)
        return grad_left, grad_right


class Pow(Function):
    """y = a^b: da = grad·b·a^(b − 1), 0 for b = 0; db = grad·y·ln a, 0 at a = 0 for b ≥ 0."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        if True in ctx.needs_input_grad:
            ctx.save_for_backward(left, right)
        return pointwise("pow", lambda launch: launch.pow_forward, left, right)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        operands = grad_output, left, right
        grad_left = grad_right = None
        if ctx.needs_input_grad[0]:
            full = pointwise("pow", lambda launch: launch.pow_backward_left, *operands)
            grad_left = unbroadcast(full, left.shape)
        if ctx.needs_input_grad[1]:
            full = pointwise("pow", lambda launch: launch.pow_backward_right, *operands)
            grad_right = unbroadcast(full, right.shape)
        return grad_left, grad_right


class Extreme(Function):
    """y = max(a, b) or min(a, b): the gradient goes to that one, half to each at a tie."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, largest: bool) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.largest = largest
        if largest:
            return pointwise("maximum", lambda launch: launch.maximum_forward, left, right)
        return pointwise("minimum", lambda launch: launch.minimum_forward, left, right)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        operands = ctx.saved_tensors
        grads: list[Tensor | None] = [None] * 3
        for place, (winner, loser) in enumerate((operands, operands[::-1])):
            if ctx.needs_input_grad[place]:
                # grad where the first is larger than the second, half of it where they are equal.
                order = (winner, loser) if ctx.largest else (loser, winner)
                full = pointwise(
                    "maximum", lambda launch: launch.winner_backward, grad_output, *order
                )
                grads[place] = unbroadcast(full, winner.shape)
        return tuple(grads)


def number_first(operation: str, name: str, *args: Any) -> Any:
    """The arguments (number, *tensors) of torch's old signatures, which optimizers of before 2020
    call: deprecated, for (*tensors, name=number)."""
    if isinstance(args[0], Tensor) or not all(isinstance(each, Tensor) for each in args[1:]):
        raise TypeError(f"{operation}: takes {len(args) - 1} operands, and {name} by its name")
    depth, frame = 2, sys._getframe(2)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("minigrad."):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(
        f"{operation}(number, tensor, …) is deprecated, use {operation}(tensor, …, {name}=number)",
        UserWarning,
        stacklevel=depth + 1,
    )
    return args


def add(input: Operand, other: Operand, *old: Any, alpha: float = 1) -> Tensor:
    """input + alpha·other, with broadcasting."""
    if old:
        alpha, other = number_first("add", "alpha", other, *old)
    left, right = operands("add", input, other)
    return Add.apply(left, right, as_alpha("add", alpha, left.dtype))


def sub(input: Operand, other: Operand, *old: Any, alpha: float = 1) -> Tensor:
    """input − alpha·other, with broadcasting."""
    if old:
        alpha, other = number_first("sub", "alpha", other, *old)
    left, right = operands("sub", input, other)
    for operand in (input, other):
        if isinstance(operand, (bool, Tensor)):
            refuse_bool("sub", bool_ if isinstance(operand, bool) else operand.dtype)
    alpha = as_alpha("sub", alpha, left.dtype)
    broadcast_shape("sub", left.shape, right.shape)
    return Add.apply(left, right, -alpha)


def as_alpha(operation: str, alpha: Any, dtype: np.dtype) -> Any:
    """A number, which may be a tensor's or an array's, that a tensor of this dtype is multiplied
    by."""
    if not isinstance(alpha, (int, float)):
        if not isinstance(alpha, (Tensor, np.number)) or alpha.ndim:
            raise TypeError(f"{operation}: alpha must be a number, got {type(alpha).__name__}")
        alpha = alpha.item()
    if is_floating(dtype):
        return alpha
    if isinstance(alpha, float):
        raise DTypeError(
            f"{operation}: alpha must be an int for tensors of dtype {dtype.name}, got {alpha!r}"
        )
    check_fits(f"{operation}: alpha", alpha, int64)
    check_fits(f"{operation}: −alpha", -alpha, int64)  # what sub multiplies by
    return alpha


def refuse_bool(operation: str, dtype: np.dtype) -> None:
    if dtype == bool_:
        raise DTypeError(f"{operation}: not defined for dtype bool; use ~ or logical_not to invert")


def mul(input: Operand, other: Operand) -> Tensor:
    """input · other, with broadcasting."""
    return Mul.apply(*operands("mul", input, other))


def div(input: Operand, other: Operand) -> Tensor:
    """input / other, with broadcasting. Integers are divided as the default dtype."""
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
        if left.dtype == float32 and 2**24 < abs(exponent) < 2**53:
            # float32 would round it, perhaps from odd to even.
            return to(pow(to(left, float64), exponent), float32)
    return Pow.apply(left, right)


def maximum(input: Operand, other: Operand) -> Tensor:
    """The larger of two values, with broadcasting; NaN propagates."""
    return Extreme.apply(*operands("maximum", input, other), True)


def minimum(input: Operand, other: Operand) -> Tensor:
    """The smaller of two values, with broadcasting; NaN propagates."""
    return Extreme.apply(*operands("minimum", input, other), False)


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
