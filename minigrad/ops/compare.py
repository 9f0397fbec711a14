"""Comparisons, logic and selection. Results of comparisons are bool and have no gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from ..dtypes import bool_, is_floating
from ..engine import Function, Tensor
from ..errors import DTypeError
from ..kernels.protocol import Elementwise
from .cast import to
from .operands import pointwise, takes_tensor
from .promotion import Operand, operands, result_type, scalar
from .reduction import unbroadcast
from .unary import abs

__all__ = [
    "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "eq", "ge", "gt", "isfinite",
    "isinf", "isnan", "le", "logical_and", "logical_not", "logical_or", "logical_xor", "lt", "ne",
    "where",
]  # fmt: skip

# Comparisons --------------------------------------------------------------------------------


def eq(input: Operand, other: Operand) -> Tensor:
    """input == other; False for NaN."""
    left, right = operands("eq", input, other)
    return pointwise("eq", lambda launch: launch.eq_forward, left, right, dtype=bool_)


def ne(input: Operand, other: Operand) -> Tensor:
    """input != other; True for NaN."""
    left, right = operands("ne", input, other)
    return pointwise("ne", lambda launch: launch.ne_forward, left, right, dtype=bool_)


def lt(input: Operand, other: Operand) -> Tensor:
    """input < other; False for NaN."""
    left, right = operands("lt", input, other)
    return pointwise("lt", lambda launch: launch.lt_forward, left, right, dtype=bool_)


def le(input: Operand, other: Operand) -> Tensor:
    """input <= other; False for NaN."""
    left, right = operands("le", input, other)
    return pointwise("le", lambda launch: launch.le_forward, left, right, dtype=bool_)


def gt(input: Operand, other: Operand) -> Tensor:
    """input > other; False for NaN."""
    left, right = operands("gt", input, other)
    return pointwise("gt", _swapped(lambda launch: launch.lt_forward), left, right, dtype=bool_)


def ge(input: Operand, other: Operand) -> Tensor:
    """input >= other; False for NaN."""
    left, right = operands("ge", input, other)
    return pointwise("ge", _swapped(lambda launch: launch.le_forward), left, right, dtype=bool_)


def _swapped(launcher: Callable[[Elementwise], Any]) -> Callable[[Elementwise], Any]:
    """The launcher of b ∘ a, for one of a ∘ b."""
    return lambda launch: lambda out, left, right: launcher(launch)(out, right, left)


@takes_tensor
def isnan(input: Tensor) -> Tensor:
    """Whether each element is NaN, the one value unequal to itself."""
    return ne(input, input)


@takes_tensor
def isinf(input: Tensor) -> Tensor:
    """Whether each element is ∞ or −∞; never for integers."""
    if not is_floating(input.dtype):
        return ne(input, input)
    return eq(abs(input.detach()), np.inf)


@takes_tensor
def isfinite(input: Tensor) -> Tensor:
    """Whether each element is neither infinite nor NaN; always for integers."""
    if not is_floating(input.dtype):
        return eq(input, input)
    return lt(abs(input.detach()), np.inf)


# Logic --------------------------------------------------------------------------------------


def bitwise_and(input: Operand, other: Operand) -> Tensor:
    """input & other: bit by bit for integers, logical for bool."""
    left, right = integer_operands("bitwise_and", input, other)
    return pointwise("bitwise_and", lambda launch: launch.bitwise_and_forward, left, right)


def bitwise_or(input: Operand, other: Operand) -> Tensor:
    """input | other: bit by bit for integers, logical for bool."""
    left, right = integer_operands("bitwise_or", input, other)
    return pointwise("bitwise_or", lambda launch: launch.bitwise_or_forward, left, right)


def bitwise_xor(input: Operand, other: Operand) -> Tensor:
    """input ^ other: bit by bit for integers, logical for bool."""
    left, right = integer_operands("bitwise_xor", input, other)
    return pointwise("bitwise_xor", lambda launch: launch.bitwise_xor_forward, left, right)


@takes_tensor
def bitwise_not(input: Tensor) -> Tensor:
    """~input: every bit inverted, that is, differs from a number whose bits are all 1."""
    ones = {"b": True, "u": 255, "i": -1}
    return bitwise_xor(input, ones.get(input.dtype.kind, 0))


def integer_operands(operation: str, input: Operand, other: Operand) -> tuple[Tensor, Tensor]:
    left, right = operands(operation, input, other)
    if is_floating(left.dtype):
        raise DTypeError(
            f"{operation}: operands must be bool or integers, got {left.dtype.name}; "
            f"logical_and, logical_or and logical_not take any dtype"
        )
    return left, right


def _truth(operation: str, input: Tensor) -> Tensor:
    if not isinstance(input, Tensor):
        raise TypeError(f"{operation}: operands must be Tensors, got {type(input).__name__}")
    return to(input.detach(), bool_)


def logical_and(input: Tensor, other: Tensor) -> Tensor:
    """Whether both are not zero. Any dtypes."""
    return bitwise_and(_truth("logical_and", input), _truth("logical_and", other))


def logical_or(input: Tensor, other: Tensor) -> Tensor:
    """Whether at least one is not zero. Any dtypes."""
    return bitwise_or(_truth("logical_or", input), _truth("logical_or", other))


def logical_xor(input: Tensor, other: Tensor) -> Tensor:
    """Whether exactly one is not zero. Any dtypes."""
    return bitwise_xor(_truth("logical_xor", input), _truth("logical_xor", other))


@takes_tensor
def logical_not(input: Tensor) -> Tensor:
    """Whether the value is zero."""
    return bitwise_xor(_truth("logical_not", input), True)


# Selection ----------------------------------------------------------------------------------


class Where(Function):
    """y = a where c, else b: da = grad where c, else 0; db = 0 where c, else grad."""

    @staticmethod
    def forward(ctx: Any, condition: Tensor, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(condition)
        ctx.shapes = left.shape, right.shape
        return _select(condition, left, right)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (condition,) = ctx.saved_tensors
        zero = scalar("where", 0, grad_output.dtype, grad_output.device)
        grad_left = grad_right = None
        if ctx.needs_input_grad[1]:
            grad_left = unbroadcast(_select(condition, grad_output, zero), ctx.shapes[0])
        if ctx.needs_input_grad[2]:
            grad_right = unbroadcast(_select(condition, zero, grad_output), ctx.shapes[1])
        return None, grad_left, grad_right


def _select(condition: Tensor, left: Tensor, right: Tensor) -> Tensor:
    operands = condition, left, right
    return pointwise("where", lambda launch: launch.where_forward, *operands, dtype=left.dtype)


def where(condition: Tensor, input: Operand | None = None, other: Operand | None = None) -> Any:
    """input where condition is true, else other. All three broadcast; condition is bool.

    where(condition): the positions at which it is true, see `nonzero`.
    """
    if input is None and other is None:
        from .search import nonzero  # which is made of this

        return nonzero(condition, as_tuple=True)
    if not isinstance(condition, Tensor) or condition.dtype != bool_:
        got = getattr(condition, "dtype", type(condition).__name__)
        raise DTypeError(f"where: condition must be a bool Tensor, got {got}")
    if input is None or other is None:
        raise TypeError("where: with input, other must be given, and the other way round")
    if not isinstance(input, Tensor) and not isinstance(other, Tensor):
        dtype = result_type(input, other)
        input = scalar("where", cast("float", input), dtype, condition.device)
    left, right = operands("where", input, other)
    return Where.apply(condition, left, right)
