"""Division with rounding, and what it leaves: floor and truncated quotients, fmod, remainder.

Floating remainders are exact. Integers are divided through float64, and what that rounds away is
divided once more, so that quotients of any two int64 are exact as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import float64, int64, is_floating
from ..engine import Function, Tensor
from .arithmetic import add, mul, pow, product, quotient, refuse_bool, scaled, sub
from .arithmetic import div as true_divide
from .cast import to
from .compare import bitwise_and, eq, ge, integer_operands, lt, ne, where
from .extrema import any
from .operands import pointwise
from .promotion import Operand, operands
from .reduction import unbroadcast
from .unary import clamp, floor, round, trunc

__all__ = [
    "bitwise_left_shift", "bitwise_right_shift", "div", "divide", "floor_divide", "fmod",
    "remainder", "true_divide",
]  # fmt: skip


def _fmod(left: Tensor, right: Tensor) -> Tensor:
    return pointwise("fmod", lambda launch: launch.fmod_forward, left, right)


def _unlike(rest: Tensor, right: Tensor) -> Tensor:
    """Whether a remainder is not 0 and has another sign than the divisor."""
    return bitwise_and(ne(rest, 0), ne(lt(rest, 0), lt(right, 0)))


def _floor_quotient(left: Tensor, right: Tensor) -> Tensor:
    """⌊a/b⌋ of floating numbers, exact where it fits the dtype: from (a − fmod(a, b))/b, which is
    whole but for rounding."""
    rest = _fmod(left, right)
    whole = quotient(sub(left, rest), right)
    whole = round(where(_unlike(rest, right), sub(whole, 1), whole))
    return where(eq(right, 0), quotient(left, right), whole)


class WholeQuotient(Function):
    """y = ⌊a/b⌋, or its integer part: constant wherever it has a derivative."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, floored: bool) -> Tensor:
        ctx.shapes = left.shape, right.shape
        return _floor_quotient(left, right) if floored else trunc(quotient(left, right))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        zero = scaled(grad_output, 0)
        left, right = (unbroadcast(zero, shape) for shape in ctx.shapes)
        return left, right, None


class Remainder(Function):
    """y = a − n·b with n = ⌊a/b⌋ or its integer part: da = grad, db = −n·grad."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, floored: bool) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.floored = floored
        rest = _fmod(left, right)
        return where(_unlike(rest, right), add(rest, right), rest) if floored else rest

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        grad_right = None
        if ctx.needs_input_grad[1]:
            whole = _floor_quotient(left, right) if ctx.floored else trunc(quotient(left, right))
            grad_right = unbroadcast(scaled(product(grad_output, whole), -1), right.shape)
        return unbroadcast(grad_output, left.shape), grad_right, None


def _integer_parts(
    operation: str, left: Tensor, right: Tensor, other: Operand, floored: bool
) -> tuple[Tensor, Tensor]:
    """Quotient and remainder of integers, in their dtype. other: right as the user gave it."""
    refuse_bool(operation, left.dtype)
    # Of a number that is known here: nothing waits for a GPU.
    zero = other == 0 if isinstance(other, (int, np.integer)) else bool(any(eq(right, 0)))
    if zero:
        raise RuntimeError(f"{operation}: division by zero of integers ({left.dtype.name})")
    dividend, divisor = to(left, int64), to(right, int64)
    real = to(right, float64)
    whole = to(floor(quotient(to(dividend, float64), real)), int64)
    # A float64 holds 53 digits of 64: what is left is divided again.
    rest = sub(dividend, mul(whole, divisor))
    whole = add(whole, to(floor(quotient(to(rest, float64), real)), int64))
    rest = sub(dividend, mul(whole, divisor))
    # −7/2^62 + 1 is 1 in float64: one too many.
    excess = to(_unlike(rest, divisor), int64)
    whole, rest = sub(whole, excess), add(rest, mul(excess, divisor))
    if not floored:
        behind = bitwise_and(ne(rest, 0), ne(lt(dividend, 0), lt(divisor, 0)))
        whole = add(whole, to(behind, int64))
        rest = sub(rest, mul(to(behind, int64), divisor))
    return to(whole, left.dtype), to(rest, left.dtype)


def div(input: Operand, other: Operand, *, rounding_mode: str | None = None) -> Tensor:
    """input / other, with broadcasting. rounding_mode: None for the quotient itself, of integers as
    float32; 'floor' for the largest whole number below, 'trunc' for the integer part."""
    if rounding_mode is None:
        return true_divide(input, other)
    if rounding_mode not in ("floor", "trunc"):
        raise RuntimeError(
            f"div: rounding_mode must be None, 'floor' or 'trunc', got {rounding_mode!r:.80}"
        )
    left, right = operands("div", input, other)
    if is_floating(left.dtype):
        return WholeQuotient.apply(left, right, rounding_mode == "floor")
    return _integer_parts("div", left, right, other, rounding_mode == "floor")[0]


divide = div


def floor_divide(input: Operand, other: Operand) -> Tensor:
    """⌊input / other⌋, with broadcasting; RuntimeError where an integer is divided by 0."""
    return div(input, other, rounding_mode="floor")


def fmod(input: Operand, other: Operand) -> Tensor:
    """input − n·other with n the integer part of input/other: it has the input's sign."""
    return _remainder("fmod", input, other, floored=False)


def remainder(input: Operand, other: Operand) -> Tensor:
    """input − n·other with n = ⌊input/other⌋: it has the divisor's sign, as Python's %."""
    return _remainder("remainder", input, other, floored=True)


def _remainder(operation: str, input: Operand, other: Operand, floored: bool) -> Tensor:
    left, right = operands(operation, input, other)
    if is_floating(left.dtype):
        return Remainder.apply(left, right, floored)
    return _integer_parts(operation, left, right, other, floored)[1]


# Shifts ----------------------------------------------------------------------------------------


def _shifted(operation: str, input: Operand, other: Operand, left: bool) -> Tensor:
    """In int64, in two steps, since 2^63 is no int64. A shift that is negative or by all bits of
    the dtype counts as one by 64 bits."""
    value, count = integer_operands(operation, input, other)
    bits = value.dtype.itemsize * 8
    own, count = value.dtype, to(count, int64)
    count = where(bitwise_and(ge(count, 0), lt(count, bits)), count, 64)
    moved = to(value, int64)
    for step in (clamp(count, None, 62), clamp(sub(count, 62), 0, None)):
        moved = (mul if left else floor_divide)(moved, pow(2, step))
    return to(moved, own)


def bitwise_left_shift(input: Operand, other: Operand) -> Tensor:
    """input · 2^other of integers, without the bits that the dtype cannot hold; 0 where other is
    negative or all bits are gone."""
    return _shifted("bitwise_left_shift", input, other, True)


def bitwise_right_shift(input: Operand, other: Operand) -> Tensor:
    """⌊input / 2^other⌋ of integers; −1 or 0 where other is negative or all bits are gone."""
    return _shifted("bitwise_right_shift", input, other, False)
