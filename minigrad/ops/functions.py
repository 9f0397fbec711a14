"""Elementwise functions composed of others: trigonometric and hyperbolic functions, interpolation,
logarithms of sums, comparisons with a tolerance.

A function of one value is a `Unary` whose forward pass is a composition; its slope is a formula of
its own, which holds at the ends of the range as well.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from ..arguments import check_number
from ..device import same_device
from ..dtypes import bool_, float64, is_floating
from ..engine import Function, Tensor
from .arithmetic import (
    add,
    div,
    maximum,
    minimum,
    mul,
    neg,
    number_first,
    pow,
    product,
    quotient,
    square,
    sub,
)
from .cast import to
from .compare import bitwise_and, bitwise_or, eq, ge, gt, isfinite, isnan, le, lt, ne, where
from .extrema import all
from .operands import takes_tensor
from .promotion import Operand, as_floating, operands
from .reduction import unbroadcast
from .unary import Unary, abs, atan, clamp, cos, erf, exp, expm1, log, log1p, sign, sin, sqrt, trunc

__all__ = [
    "absolute", "acos", "acosh", "addcdiv", "addcmul", "allclose", "arccos", "arccosh", "arcsin",
    "arcsinh", "arctan", "arctan2", "arctanh", "asin", "asinh", "atan2", "atanh", "clamp_max",
    "clamp_min", "clip", "copysign", "cosh", "deg2rad", "equal", "erfinv", "exp2", "fix",
    "float_power", "fmax", "fmin", "frac", "greater", "greater_equal", "heaviside", "hypot",
    "isclose", "isneginf", "isposinf", "lerp", "less", "less_equal", "logaddexp", "logaddexp2",
    "logit", "multiply", "nan_to_num", "negative", "not_equal", "positive", "rad2deg", "sgn",
    "signbit", "sinc", "sinh", "subtract", "tan", "xlogy",
]  # fmt: skip

# Trigonometric and hyperbolic functions ------------------------------------------------------


class Tan(
    Unary,
    forward=lambda x: quotient(sin(x), cos(x)),
    gradient=lambda grad, y: product(grad, add(square(y), 1)),
    saves="output",
):
    """y = sin x / cos x: dx = grad·(1 + y²)."""


def _cathetus(x: Tensor) -> Tensor:
    """√(1 − x²), with the digits that 1 − x² would lose near ±1."""
    return sqrt(product(sub(1, x), add(x, 1)))


class Asin(
    Unary,
    forward=lambda x: mul(atan(quotient(x, add(_cathetus(x), 1))), 2),
    gradient=lambda grad, x: quotient(grad, _cathetus(x)),
):
    """y = 2·arctan(x / (1 + √(1 − x²))): dx = grad/√(1 − x²)."""


class Acos(
    Unary,
    forward=lambda x: mul(atan(sqrt(quotient(sub(1, x), add(x, 1)))), 2),
    gradient=lambda grad, x: neg(quotient(grad, _cathetus(x))),
):
    """y = 2·arctan √((1 − x)/(1 + x)): dx = −grad/√(1 − x²)."""


def _sinh(x: Tensor) -> Tensor:
    return mul(sub(expm1(x), expm1(neg(x))), 0.5)


def _cosh(x: Tensor) -> Tensor:
    return mul(add(exp(x), exp(neg(x))), 0.5)


class Sinh(Unary, forward=_sinh, gradient=lambda grad, x: product(grad, _cosh(x))):
    """y = (e^x − e^−x)/2: dx = grad·cosh x."""


class Cosh(Unary, forward=_cosh, gradient=lambda grad, x: product(grad, _sinh(x))):
    """y = (e^x + e^−x)/2: dx = grad·sinh x."""


def _asinh(x: Tensor) -> Tensor:
    # ln(|x| + √(x² + 1)), exact near 0; from 1e8 on √(x² + 1) is |x|, and x² might overflow.
    size = abs(x)
    small = clamp(size, max=1e8)
    near = log1p(add(small, quotient(square(small), add(sqrt(add(square(small), 1)), 1))))
    return product(sign(x), where(gt(size, 1e8), add(log(size), math.log(2)), near))


class Asinh(
    Unary, forward=_asinh, gradient=lambda grad, x: quotient(grad, sqrt(add(square(x), 1)))
):
    """y = sign(x)·ln(|x| + √(x² + 1)): dx = grad/√(x² + 1)."""


class Acosh(
    Unary,
    forward=lambda x: log1p(add(sub(x, 1), product(sqrt(sub(x, 1)), sqrt(add(x, 1))))),
    gradient=lambda grad, x: quotient(grad, product(sqrt(sub(x, 1)), sqrt(add(x, 1)))),
):
    """y = ln(x + √(x² − 1)): dx = grad/√(x² − 1)."""


class Atanh(
    Unary,
    forward=lambda x: mul(sub(log1p(x), log1p(neg(x))), 0.5),
    gradient=lambda grad, x: quotient(grad, product(sub(1, x), add(x, 1))),
):
    """y = ln((1 + x)/(1 − x))/2: dx = grad/(1 − x²)."""


tan = Tan.function("tan", "The tangent of an angle in radians.")
asin = arcsin = Asin.function("asin", "The angle whose sine is the input; NaN outside [−1, 1].")
acos = arccos = Acos.function("acos", "The angle whose cosine is the input; NaN outside [−1, 1].")
sinh = Sinh.function("sinh", "The hyperbolic sine (e^input − e^−input)/2.")
cosh = Cosh.function("cosh", "The hyperbolic cosine (e^input + e^−input)/2.")
asinh = arcsinh = Asinh.function("asinh", "The number whose hyperbolic sine is the input.")
acosh = arccosh = Acosh.function("acosh", "The inverse of the hyperbolic cosine; NaN below 1.")
atanh = arctanh = Atanh.function(
    "atanh", "The inverse of the hyperbolic tangent: ±∞ at ±1, NaN beyond."
)
arctan = atan


class Atan2(Function):
    """The angle of the point (x, y): dy = grad·x/(x² + y²), dx = −grad·y/(x² + y²); at 0 both 0."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(y, x)
        # Of y/x and x/y the one that is at most 1.
        steep = gt(abs(y), abs(x))
        numerator, denominator = where(steep, x, y), where(steep, y, x)
        ratio = quotient(numerator, where(eq(denominator, 0), 1, denominator))
        infinite = eq(abs(numerator), math.inf)  # and so are both
        angle = atan(where(infinite, product(sign(x), sign(y)), ratio))
        side = sub(1, mul(to(signbit(y), y.dtype), 2))
        behind = where(signbit(x), add(angle, mul(side, math.pi)), angle)
        return where(steep, sub(mul(side, math.pi / 2), angle), behind)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        y, x = ctx.saved_tensors
        squares = add(square(x), square(y))
        share = where(eq(squares, 0), 0, quotient(grad_output, squares))
        return unbroadcast(product(share, x), y.shape), unbroadcast(neg(product(share, y)), x.shape)


def atan2(input: Operand, other: Operand) -> Tensor:
    """The angle in radians, from −π to π, of the point with y = input and x = other."""
    return Atan2.apply(*operands("atan2", input, other, floating=True))


arctan2 = atan2


@takes_tensor
def deg2rad(input: Tensor) -> Tensor:
    """Degrees to radians."""
    return mul(as_floating(input), math.pi / 180)


@takes_tensor
def rad2deg(input: Tensor) -> Tensor:
    """Radians to degrees."""
    return mul(as_floating(input), 180 / math.pi)


@takes_tensor
def sinc(input: Tensor) -> Tensor:
    """sin(π·input) / (π·input); 1 at 0."""
    angle = mul(as_floating(input), math.pi)
    zero = eq(angle, 0)
    angle = where(zero, 1, angle)
    return where(zero, 1, div(sin(angle), angle))


# Powers and logarithms -----------------------------------------------------------------------


@takes_tensor
def exp2(input: Tensor) -> Tensor:
    """2^input."""
    return pow(2, as_floating(input))


@takes_tensor
def float_power(input: Tensor, exponent: Operand) -> Tensor:
    """input^exponent in float64."""
    wide = to(exponent, float64) if isinstance(exponent, Tensor) else exponent
    return pow(to(input, float64), wide)


@takes_tensor
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """ln(input / (1 − input)), the inverse of sigmoid. eps: first limit the input to
    [eps, 1 − eps]."""
    input = as_floating(input)
    if eps is not None:
        low, high = check_number("logit", "eps", eps), 1 - eps
        input = where(lt(input, low), low, where(gt(input, high), high, input))
    return log(div(input, sub(1, input)))


def _erfinv(y: Tensor) -> Tensor:
    """A first guess of a closed form (Winitzki 2008), and Newton's steps x − (erf x − y)/erf′ x."""
    start = to(y, float64)
    tail = log(product(sub(1, start), add(start, 1)))
    half = add(mul(tail, 0.5), 2 / (math.pi * 0.147))
    root = sqrt(sub(square(half), mul(tail, 1 / 0.147)))
    x = product(sign(start), sqrt(sub(root, half)))
    for _ in range(4):
        slope = mul(exp(neg(square(x))), 2 / math.sqrt(math.pi))
        x = where(isfinite(x), sub(x, quotient(sub(erf(x), start), slope)), x)
    return to(where(eq(abs(start), 1), mul(start, math.inf), x), y.dtype)


class Erfinv(
    Unary,
    forward=_erfinv,
    gradient=lambda grad, y: product(grad, mul(exp(square(y)), math.sqrt(math.pi) / 2)),
    saves="output",
):
    """y with erf y = x: dx = grad·√π/2·e^(y²)."""


erfinv = Erfinv.function("erfinv", "The inverse of `erf`: ±∞ at ±1, NaN beyond.")


def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """ln(e^input + e^other), without overflow."""
    left, right = operands("logaddexp", input, other)
    # Of two equal infinities the difference would be NaN.
    distance = where(eq(left, right), 0, sub(left, right))
    return add(maximum(left, right), log1p(exp(neg(abs(distance)))))


def logaddexp2(input: Tensor, other: Tensor) -> Tensor:
    """log₂(2^input + 2^other), without overflow."""
    return mul(logaddexp(mul(input, math.log(2)), mul(other, math.log(2))), 1 / math.log(2))


def hypot(input: Tensor, other: Tensor) -> Tensor:
    """√(input² + other²)."""
    left, right = operands("hypot", input, other)
    return sqrt(add(square(left), square(right)))


def xlogy(input: Operand, other: Operand) -> Tensor:
    """input · ln(other), 0 where input is 0; NaN where other is."""
    left, right = operands("xlogy", input, other, floating=True)
    # Where 0·ln other would be NaN.
    void = bitwise_and(eq(left, 0), bitwise_or(le(right, 0), eq(right, math.inf)))
    return mul(left, log(where(void, 1, right)))


# Parts and limits ----------------------------------------------------------------------------


@takes_tensor
def frac(input: Tensor) -> Tensor:
    """What follows the decimal point, with the input's sign."""
    return sub(input, trunc(input))


@takes_tensor
def signbit(input: Tensor) -> Tensor:
    """Whether the sign is minus, also of −0."""
    below = lt(input, 0)
    if not is_floating(input.dtype):
        return below
    return bitwise_or(below, eq(div(1, input.detach()), -math.inf))


def copysign(input: Tensor, other: Operand) -> Tensor:
    """input's magnitude with the sign of other."""
    left, right = operands("copysign", input, other, floating=True)
    return where(eq(signbit(left), signbit(right)), left, neg(left))


def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 where input is negative, 1 where it is positive, `values` where it is 0."""
    left, right = operands("heaviside", input, values)
    return where(eq(left, 0), right, to(gt(left, 0), left.dtype))


@takes_tensor
def nan_to_num(
    input: Tensor,
    nan: float | None = 0.0,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Tensor:
    """The input with NaN, ∞ and −∞ replaced, by default by 0 and the dtype's extremes."""
    if not is_floating(input.dtype):
        return input
    limits = np.finfo(input.dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    result = where(isnan(input), 0.0 if nan is None else nan, input)
    return where(isposinf(input), high, where(isneginf(input), low, result))


@takes_tensor
def isposinf(input: Tensor) -> Tensor:
    """Whether each element is ∞."""
    return eq(input, math.inf) if is_floating(input.dtype) else ne(input, input)


@takes_tensor
def isneginf(input: Tensor) -> Tensor:
    """Whether each element is −∞."""
    return eq(input, -math.inf) if is_floating(input.dtype) else ne(input, input)


@takes_tensor
def clamp_min(input: Tensor, min: Operand) -> Tensor:
    """input, at least min."""
    return maximum(input, min) if isinstance(min, Tensor) else clamp(input, min, None)


@takes_tensor
def clamp_max(input: Tensor, max: Operand) -> Tensor:
    """input, at most max."""
    return minimum(input, max) if isinstance(max, Tensor) else clamp(input, None, max)


def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The larger of two values; the other one where one is NaN."""
    left, right = operands("fmax", input, other)
    return where(isnan(right), left, where(isnan(left), right, maximum(left, right)))


def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two values; the other one where one is NaN."""
    left, right = operands("fmin", input, other)
    return where(isnan(right), left, where(isnan(left), right, minimum(left, right)))


# Several operands ----------------------------------------------------------------------------


def lerp(input: Tensor, end: Tensor, weight: Operand) -> Tensor:
    """input + weight·(end − input), exactly `end` where weight is the number 1."""
    if not isinstance(weight, Tensor) and (number := check_number("lerp", "weight", weight)) >= 0.5:
        return sub(end, mul(sub(end, input), 1 - number))
    return add(input, mul(sub(end, input), weight))


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *old: Any, value: float = 1) -> Tensor:
    """input + value·tensor1·tensor2."""
    if old:
        value, tensor1, tensor2 = number_first("addcmul", "value", tensor1, tensor2, *old)
    return add(input, mul(tensor1, tensor2), alpha=value)


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *old: Any, value: float = 1) -> Tensor:
    """input + value·tensor1/tensor2."""
    if old:
        value, tensor1, tensor2 = number_first("addcdiv", "value", tensor1, tensor2, *old)
    return add(input, div(tensor1, tensor2), alpha=value)


def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Tensor:
    """Whether |input − other| ≤ atol + rtol·|other|; equal infinities are close."""
    for name, value in (("rtol", rtol), ("atol", atol)):
        check_number("isclose", name, value, low=0)
    left, right = operands("isclose", input, other)
    close = eq(left, right)
    if left.dtype == bool_:
        return close
    if is_floating(left.dtype) and equal_nan:
        close = bitwise_or(close, bitwise_and(isnan(left), isnan(right)))
    distance = as_floating(abs(sub(left.detach(), right.detach())))
    allowed = add(mul(as_floating(abs(right.detach())), rtol), atol)
    return bitwise_or(close, bitwise_and(isfinite(distance), le(distance, allowed)))


def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> builtins.bool:
    """Whether all elements are close, see `isclose`."""
    return builtins.bool(all(isclose(input, other, rtol, atol, equal_nan)))


@takes_tensor
def equal(input: Tensor, other: Tensor) -> builtins.bool:
    """Whether both have the same shape and the same elements."""
    if not isinstance(other, Tensor):
        raise TypeError(f"equal: other must be a Tensor, got {type(other).__name__}")
    same_device("equal", input=input.device, other=other.device)
    return input.shape == other.shape and builtins.bool(all(eq(input.detach(), other.detach())))


@takes_tensor
def positive(input: Tensor) -> Tensor:
    """The input itself."""
    return input


# Other names ---------------------------------------------------------------------------------

absolute, clip, fix, negative, sgn = abs, clamp, trunc, neg, sign
multiply, subtract = mul, sub
greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne
