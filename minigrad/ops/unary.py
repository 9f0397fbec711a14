"""Functions of one value, elementwise: y = f(x).

A `Unary` is the record of one: its two launchers, and what its slope is a function of. Activations
are in activation.py.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np

from .. import kernels
from ..arguments import check_int, check_number
from ..dtypes import NARROW, is_floating
from ..engine import Function, Tensor
from ..engine.gradient import zeros_like
from .arithmetic import add, maximum, minimum, product, quotient, reciprocal, refuse_bool, scaled
from .cast import clone, to
from .operands import (
    Overwritten,
    elementwise,
    floating_operands,
    kept,
    named,
    narrowed,
    takes_tensor,
    widened,
)
from .overwrite import in_place, overwrite
from .promotion import Operand, as_floating, check_fits, common_dtype

__all__ = [
    "abs", "atan", "ceil", "clamp", "cos", "erf", "exp", "expm1", "floor", "log", "log1p", "log2",
    "log10", "relu", "round", "rsqrt", "sigmoid", "sign", "sin", "sqrt", "tanh", "trunc",
]  # fmt: skip


class Unary(Function):
    """y = f(x; parameters), a record a subclass: `class Exp(Unary, forward="exp_forward", …)`.

    forward: f's launcher, one of `kernels.protocol.Unary`, or a function that computes f by others.
    gradient: the launcher of grad·f′, or a function of (grad[, saved]) that computes it by others.
    saves: what f′ is told by, "input" x or "output" y; "nothing" if it is constant.
    """

    _forward: ClassVar[str | Callable[..., Tensor]]
    _gradient: ClassVar[str | Callable[..., Tensor]]
    _saves: ClassVar[str]

    def __init_subclass__(
        cls,
        forward: str | Callable[..., Tensor],
        gradient: str | Callable[..., Tensor],
        saves: Literal["input", "output", "nothing"] = "input",
    ) -> None:
        cls._forward, cls._gradient, cls._saves = forward, gradient, saves

    @classmethod
    def forward(cls, ctx: Any, input: Tensor, *parameters: float) -> Tensor:
        ctx.parameters = parameters
        saved = input if cls._saves == "input" else None
        if saved is not None and type(input) is Overwritten:
            from_output = cls.has_slope_of_output(*parameters) or not ctx.needs_input_grad[0]
            saved = None if from_output else kept(input)
        compute = cls._forward
        out = compute(input) if callable(compute) else evaluate(compute, input, *parameters)
        if cls._saves != "nothing":
            ctx.save_for_backward(out if saved is None else saved)
        return out

    @classmethod
    def backward(cls, ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        gradient, parameters = cls._gradient, ctx.parameters
        if callable(gradient):
            return gradient(grad_output, *ctx.saved_tensors), *[None for _ in parameters]
        (saved,) = ctx.saved_tensors
        grad_input, grad_flat, (saved_flat, upstream) = elementwise(gradient, saved, grad_output)
        launch = getattr(kernels.get(saved.device).unary, gradient)
        if not parameters:
            launch(grad_flat, upstream, saved_flat)
            return (grad_input,)
        launch(grad_flat, upstream, saved_flat, *cls.slope_parameters(*parameters))
        return grad_input, *[None for _ in parameters]

    @staticmethod
    def has_slope_of_output(*parameters: float) -> bool:
        """Whether f′ told by the input has the same value at the output: then a change in place
        need not keep the input."""
        return False

    @staticmethod
    def slope_parameters(*parameters: float) -> tuple[float, ...]:
        """Those of f′, from those of f."""
        return parameters

    @classmethod
    def function(cls, name: str, text: str) -> Callable[[Tensor], Tensor]:
        """The public function, in floating arithmetic."""

        def function(input: Tensor) -> Tensor:
            return cls.apply(as_floating(input))

        return takes_tensor(named(function, name, text, cls.__module__))


def evaluate(forward: str, input: Tensor, *parameters: float) -> Tensor:
    """A launcher of `kernels.protocol.Unary` on a tensor, not recorded."""
    if (narrow := input.array.dtype) in NARROW:
        return narrowed(evaluate(forward, widened(input), *parameters), narrow)
    out, out_flat, (input_flat,) = elementwise(forward, input)
    getattr(kernels.get(out.device).unary, forward)(out_flat, input_flat, *parameters)
    return out


def _zero(grad: Tensor) -> Tensor:
    return zeros_like(grad)  # a product with 0 would be NaN for an infinite gradient


# Powers, logarithms, trigonometry -----------------------------------------------------------


class Abs(Unary, forward="abs_forward", gradient="abs_backward_input"):
    """y = |x|: dx = grad·sign(x), 0 at 0."""


@takes_tensor
def abs(input: Tensor) -> Tensor:
    """|input|. The derivative at 0 is 0."""
    refuse_bool("abs", input.dtype)
    return Abs.apply(input)


class Sign(Unary, forward="sign_forward", gradient=_zero, saves="nothing"):
    """y = sign(x): constant wherever it has a derivative."""


@takes_tensor
def sign(input: Tensor) -> Tensor:
    """1, −1 or 0; 0 for NaN. The gradient is 0 everywhere."""
    return Sign.apply(input)


class Exp(Unary, forward="exp_forward", gradient=lambda grad, y: product(y, grad), saves="output"):
    """y = e^x: dx = grad·y."""


class Expm1(Unary, forward="expm1_forward", gradient=lambda grad, x: product(grad, exp(x))):
    """y = e^x − 1: dx = grad·e^x."""


class Log(Unary, forward="log_forward", gradient=quotient):
    """y = ln x: dx = grad/x."""


class Log1p(Unary, forward="log1p_forward", gradient=lambda grad, x: quotient(grad, add(x, 1))):
    """y = ln(1 + x): dx = grad/(1 + x)."""


class Sqrt(
    Unary,
    forward="sqrt_forward",
    gradient=lambda grad, y: quotient(grad, scaled(y, 2)),
    saves="output",
):
    """y = √x: dx = grad/(2y)."""


class Sin(
    Unary,
    forward="sin_forward",
    gradient=lambda grad, x: product(grad, evaluate("cos_forward", x)),
):
    """y = sin x: dx = grad·cos x."""


class Cos(
    Unary,
    forward="cos_forward",
    gradient=lambda grad, x: scaled(product(grad, evaluate("sin_forward", x)), -1),
):
    """y = cos x: dx = −grad·sin x."""


class Atan(
    Unary,
    forward="atan_forward",
    gradient=lambda grad, x: quotient(grad, add(product(x, x), 1)),
):
    """y = arctan x: dx = grad/(1 + x²)."""


def _erf_gradient(grad: Tensor, x: Tensor) -> Tensor:
    return product(grad, scaled(exp(scaled(product(x, x), -1)), 2 / math.sqrt(math.pi)))


class Erf(Unary, forward="erf_forward", gradient=_erf_gradient):
    """y = erf x: dx = grad · 2/√π · e^(−x²)."""


exp: Callable[[Tensor], Tensor] = Exp.function("exp", "e^input.")
expm1 = Expm1.function("expm1", "e^input − 1, exact near 0.")
log = Log.function("log", "The natural logarithm: −∞ at 0, NaN below.")
log1p = Log1p.function("log1p", "ln(1 + input), exact near 0: −∞ at −1, NaN below.")
sqrt = Sqrt.function("sqrt", "The square root: NaN below 0.")
sin = Sin.function("sin", "The sine of an angle in radians.")
cos = Cos.function("cos", "The cosine of an angle in radians.")
atan = Atan.function("atan", "The angle in radians, from −π/2 to π/2, whose tangent is the input.")
erf = Erf.function("erf", "The error function 2/√π · ∫₀ˣ e^(−t²) dt.")


@takes_tensor
def log2(input: Tensor) -> Tensor:
    """The logarithm to base 2: −∞ at 0, NaN below."""
    return log(input) * (1 / math.log(2))


@takes_tensor
def log10(input: Tensor) -> Tensor:
    """The logarithm to base 10: −∞ at 0, NaN below."""
    return log(input) * (1 / math.log(10))


@takes_tensor
def rsqrt(input: Tensor) -> Tensor:
    """1 / √input: infinite at 0, NaN below."""
    return reciprocal(sqrt(input))


# Limits and rounding ------------------------------------------------------------------------


class Clamp(Unary, forward="clamp_forward", gradient="clamp_backward_input"):
    """y = min(max(x, low), high): dx = grad where low < x < high, else 0; also at a bound."""


@takes_tensor
def clamp(input: Tensor, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """input limited to [min, max]; max where min > max; NaN propagates. A bound may be None.

    The derivative is 1 inside and 0 outside and at the bounds themselves. A bound that is a tensor
    broadcasts, and has a gradient where it is the result: half of it where input equals it.
    """
    if any(isinstance(bound, (Tensor, np.ndarray)) for bound in (min, max)):
        refuse_bool("clamp", input.dtype)
        result = input if min is None else maximum(input, min)
        return result if max is None else minimum(result, max)
    return Clamp.apply(*clamp_bounds("clamp", input, min, max))


def clamp_bounds(operation: str, input: Tensor, min: Any, max: Any) -> tuple[Tensor, float, float]:
    """The input in the common dtype, and two bounds.

    A missing bound is NaN, beyond which nothing lies, or an integer dtype's extreme.
    """
    if min is None and max is None:
        raise ValueError(f"{operation}: at least one of min and max must be given")
    min, max = (b.item() if isinstance(b, np.generic) else b for b in (min, max))
    for name, bound in (("min", min), ("max", max)):
        if bound is None or isinstance(bound, bool):
            continue
        if math.isnan(check_number(operation, name, bound)):
            raise ValueError(f"{operation}: {name} must not be NaN")
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


class Floor(Unary, forward="floor_forward", gradient=_zero, saves="nothing"):
    """y = ⌊x⌋: constant wherever it has a derivative, as the next three."""


class Ceil(Unary, forward="ceil_forward", gradient=_zero, saves="nothing"):
    """y = ⌈x⌉."""


class Trunc(Unary, forward="trunc_forward", gradient=_zero, saves="nothing"):
    """y: the integer part of x."""


class Round(Unary, forward="round_forward", gradient=_zero, saves="nothing"):
    """y: the integer nearest to x."""


def _rounded(name: str, function: type[Unary], input: Tensor) -> Tensor:
    refuse_bool(name, input.dtype)
    return function.apply(input) if is_floating(input.dtype) else clone(input)


@takes_tensor
def floor(input: Tensor) -> Tensor:
    """The largest integer that is not above. The gradient is 0 everywhere."""
    return _rounded("floor", Floor, input)


@takes_tensor
def ceil(input: Tensor) -> Tensor:
    """The least integer that is not below. The gradient is 0 everywhere."""
    return _rounded("ceil", Ceil, input)


@takes_tensor
def trunc(input: Tensor) -> Tensor:
    """The integer part. The gradient is 0 everywhere."""
    return _rounded("trunc", Trunc, input)


@takes_tensor
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest integer, or multiple of 10^−decimals, halves to the even one. The gradient is 0
    everywhere."""
    check_int("round", "decimals", decimals)
    if decimals == 0 or not is_floating(input.dtype):
        return _rounded("round", Round, input)
    power = 10.0 ** builtins.abs(decimals)
    if decimals > 0:
        return _rounded("round", Round, input * power) / power
    return _rounded("round", Round, input / power) * power


# Activations that are methods of Tensor as well ---------------------------------------------


class Sigmoid(Unary, forward="sigmoid_forward", gradient="sigmoid_backward_input", saves="output"):
    """y = 1/(1 + e^−x): dx = grad·y·(1 − y)."""


class Tanh(Unary, forward="tanh_forward", gradient="tanh_backward_input", saves="output"):
    """y = tanh x: dx = grad·(1 − y²)."""


class ReLU(Unary, forward="relu_forward", gradient="relu_backward_input", saves="output"):
    """y = max(x, 0): dx = grad where y > 0, else 0."""


sigmoid = Sigmoid.function(
    "sigmoid", "1 / (1 + e^−input), without overflow or loss of digits at either end."
)
tanh = Tanh.function("tanh", "The hyperbolic tangent.")


def activated(
    operation: str, function: type[Function], input: Tensor, *parameters: Any, inplace: bool
) -> Tensor:
    """A Function of the input, or the input changed in place."""
    if inplace:
        return overwrite(operation + "_", input, function.apply, *parameters, direct=True)
    return function.apply(input, *parameters)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0). The derivative at 0 is 0; NaN propagates."""
    floating_operands("relu", "input", input)
    return activated("relu", ReLU, input, inplace=inplace)


relu_ = in_place(relu, direct=True)
