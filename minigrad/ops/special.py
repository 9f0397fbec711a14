"""Further elementwise functions: trigonometry, exact forms near zero, rounding.

Integer and bool tensors become float32 first, but for rounding, which leaves integers alone.
"""

from __future__ import annotations

import math
from typing import Any

from .. import kernels
from ..dtypes import is_floating
from ..engine import Function, Tensor
from .arithmetic import add, product, quotient, reciprocal, refuse_bool, scaled
from .cast import clone
from .elementwise import exp, log, sqrt
from .operands import elementwise, takes_tensor
from .promotion import as_floating


def _evaluated(name: str, input: Tensor) -> Tensor:
    """The launcher <name>_forward on a tensor, not recorded."""
    out, out_flat, (input_flat,) = elementwise(name, input)
    getattr(kernels.get(out.device).special, f"{name}_forward")(out_flat, input_flat)
    return out


class Special(Function):
    """y = f(x): dx = grad · f′(x), with f′ by name in _SLOPES."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, name: str) -> Tensor:
        ctx.save_for_backward(input)
        ctx.name = name
        return _evaluated(name, input)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        return _SLOPES[ctx.name](input, grad_output), None


def _erf_slope(x: Tensor, grad: Tensor) -> Tensor:
    # d erf(x)/dx = 2/√π · e^(−x²)
    return product(grad, scaled(exp(scaled(product(x, x), -1)), 2 / math.sqrt(math.pi)))


_SLOPES = {
    "sin": lambda x, grad: product(grad, _evaluated("cos", x)),
    "cos": lambda x, grad: scaled(product(grad, _evaluated("sin", x)), -1),
    "expm1": lambda x, grad: product(grad, exp(x)),
    "log1p": lambda x, grad: quotient(grad, add(x, 1)),
    "erf": _erf_slope,
    "floor": lambda x, grad: scaled(grad, 0),
    "ceil": lambda x, grad: scaled(grad, 0),
    "trunc": lambda x, grad: scaled(grad, 0),
    "round": lambda x, grad: scaled(grad, 0),
}


@takes_tensor
def sin(input: Tensor) -> Tensor:
    """The sine of an angle in radians."""
    return Special.apply(as_floating(input), "sin")


@takes_tensor
def cos(input: Tensor) -> Tensor:
    """The cosine of an angle in radians."""
    return Special.apply(as_floating(input), "cos")


@takes_tensor
def expm1(input: Tensor) -> Tensor:
    """e^input − 1, exact near 0."""
    return Special.apply(as_floating(input), "expm1")


@takes_tensor
def log1p(input: Tensor) -> Tensor:
    """ln(1 + input), exact near 0: −∞ at −1, NaN below."""
    return Special.apply(as_floating(input), "log1p")


@takes_tensor
def erf(input: Tensor) -> Tensor:
    """The error function 2/√π · ∫₀ˣ e^(−t²) dt."""
    return Special.apply(as_floating(input), "erf")


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


def _rounded(name: str, input: Tensor) -> Tensor:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}: input must be a Tensor, got {type(input).__name__}")
    refuse_bool(name, input.dtype)
    return Special.apply(input, name) if is_floating(input.dtype) else clone(input)


@takes_tensor
def floor(input: Tensor) -> Tensor:
    """The largest integer that is not above. The gradient is 0 everywhere."""
    return _rounded("floor", input)


@takes_tensor
def ceil(input: Tensor) -> Tensor:
    """The least integer that is not below. The gradient is 0 everywhere."""
    return _rounded("ceil", input)


@takes_tensor
def trunc(input: Tensor) -> Tensor:
    """The integer part. The gradient is 0 everywhere."""
    return _rounded("trunc", input)


@takes_tensor
def round(input: Tensor) -> Tensor:
    """The nearest integer, halves to the even one. The gradient is 0 everywhere."""
    return _rounded("round", input)
