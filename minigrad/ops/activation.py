"""Activations with parameters. relu, sigmoid and tanh are in unary.py.

`inplace` is taken for torch's sake; the input stays as it is either way.
"""

from __future__ import annotations

import math

from ..arguments import check_number
from ..engine import Tensor
from .arithmetic import neg
from .operands import floating_operands
from .unary import Clamp, Unary

__all__ = [
    "celu", "elu", "gelu", "hardtanh", "leaky_relu", "logsigmoid", "relu6", "selu", "silu",
    "softplus",
]  # fmt: skip

# Klambauer et al. 2017, "Self-normalizing neural networks".
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


class LeakyReLU(Unary, forward="leaky_relu_forward", gradient="leaky_relu_backward_input"):
    """y = x where x > 0, else slope·x: dx = grad or slope·grad."""


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """input where it is positive, else negative_slope · input."""
    floating_operands("leaky_relu", input=input)
    slope = check_number("leaky_relu", "negative_slope", negative_slope)
    return LeakyReLU.apply(input, slope)


class ELU(Unary, forward="elu_forward", gradient="elu_backward_input"):
    """y = scale·x where x > 0, else height·(e^(rate·x) − 1):
    dx = grad·scale or grad·height·rate·e^(rate·x)."""

    @staticmethod
    def slope_parameters(*parameters: float) -> tuple[float, ...]:
        height, rate, scale = parameters
        return height * rate, rate, scale


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input where it is positive, else alpha · (e^input − 1)."""
    floating_operands("elu", input=input)
    return ELU.apply(input, check_number("elu", "alpha", alpha), 1.0, 1.0)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input where it is positive, else alpha · (e^(input/alpha) − 1)."""
    floating_operands("celu", input=input)
    alpha = check_number("celu", "alpha", alpha)
    if alpha == 0:
        raise ValueError("celu: alpha must not be 0")
    return ELU.apply(input, alpha, 1 / alpha, 1.0)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """1.0507 · input where it is positive, else 1.0507 · 1.6733 · (e^input − 1)."""
    floating_operands("selu", input=input)
    return ELU.apply(input, _SELU_ALPHA * _SELU_SCALE, 1.0, _SELU_SCALE)


class GELU(Unary, forward="gelu_forward", gradient="gelu_backward_input"):
    """y = x·Φ(x): dx = grad·(Φ(x) + x·φ(x)), φ the normal density."""


class GELUTanh(Unary, forward="gelu_tanh_forward", gradient="gelu_tanh_backward_input"):
    """y = ½x(1 + t), t = tanh u, u = √(2/π)·(x + 0.044715x³):
    dx = grad·(½(1 + t) + ½x(1 − t²)·u′)."""


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """input · Φ(input), Φ the normal distribution; approximate='tanh' takes a formula with tanh."""
    floating_operands("gelu", input=input)
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return (GELUTanh if approximate == "tanh" else GELU).apply(input)


class SiLU(Unary, forward="silu_forward", gradient="silu_backward_input"):
    """y = x·s, s = sigmoid(x): dx = grad·(s + x·s·(1 − s))."""


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """input · sigmoid(input)."""
    floating_operands("silu", input=input)
    return SiLU.apply(input)


class Softplus(Unary, forward="softplus_forward", gradient="softplus_backward_input"):
    """y = ln(1 + e^(βx))/β, x past the threshold: dx = grad·sigmoid(βx), or grad."""


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """ln(1 + e^(beta · input)) / beta; input itself where beta · input exceeds threshold."""
    floating_operands("softplus", input=input)
    parameters = (
        check_number("softplus", "beta", beta),
        check_number("softplus", "threshold", threshold),
    )
    if parameters[0] == 0:
        raise ValueError("softplus: beta must not be 0")
    return Softplus.apply(input, *parameters)


def logsigmoid(input: Tensor) -> Tensor:
    """ln sigmoid(input), without overflow at either end."""
    floating_operands("logsigmoid", input=input)
    return neg(Softplus.apply(neg(input), 1.0, math.inf))


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """input limited to [min_val, max_val]; the derivative at the bounds is 0."""
    floating_operands("hardtanh", input=input)
    low, high = (
        check_number("hardtanh", "min_val", min_val),
        check_number("hardtanh", "max_val", max_val),
    )
    if not low <= high:
        raise ValueError(f"hardtanh: min_val must not exceed max_val, got {low} and {high}")
    return Clamp.apply(input, low, high)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """input limited to [0, 6]; the derivative at the bounds is 0."""
    floating_operands("relu6", input=input)
    return Clamp.apply(input, 0.0, 6.0)
