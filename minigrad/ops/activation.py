"""Activations with parameters. relu, sigmoid and tanh are in unary.py.

inplace: the result takes the place of the input, in memory and in the graph.
"""

from __future__ import annotations

import math

from ..arguments import check_number
from ..engine import Tensor
from .arithmetic import neg
from .operands import floating_operands
from .overwrite import in_place
from .unary import Clamp, Unary, activated

__all__ = [
    "celu", "celu_", "elu", "elu_", "gelu", "hardswish", "hardtanh", "hardtanh_", "leaky_relu",
    "leaky_relu_", "logsigmoid", "relu6", "selu", "selu_", "silu", "softplus",
]  # fmt: skip

# Klambauer et al. 2017, "Self-normalizing neural networks".
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


class LeakyReLU(Unary, forward="leaky_relu_forward", gradient="leaky_relu_backward_input"):
    """y = x where x > 0, else slope·x: dx = grad or slope·grad. y has the sign of x unless the
    slope is negative."""

    @staticmethod
    def has_slope_of_output(*parameters: float) -> bool:
        return parameters[0] >= 0


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """input where it is positive, else negative_slope · input."""
    floating_operands("leaky_relu", input=input)
    slope = check_number("leaky_relu", "negative_slope", negative_slope)
    return activated("leaky_relu", LeakyReLU, input, slope, inplace=inplace)


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
    return activated("elu", ELU, input, check_number("elu", "alpha", alpha), 1.0, 1.0, inplace=inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input where it is positive, else alpha · (e^(input/alpha) − 1)."""
    floating_operands("celu", input=input)
    alpha = check_number("celu", "alpha", alpha)
    if alpha == 0:
        raise ValueError("celu: alpha must not be 0")
    return activated("celu", ELU, input, alpha, 1 / alpha, 1.0, inplace=inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """1.0507 · input where it is positive, else 1.0507 · 1.6733 · (e^input − 1)."""
    floating_operands("selu", input=input)
    return activated("selu", ELU, input, _SELU_ALPHA * _SELU_SCALE, 1.0, _SELU_SCALE, inplace=inplace)


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
    return activated("silu", SiLU, input, inplace=inplace)


class Hardswish(Unary, forward="hardswish_forward", gradient="hardswish_backward_input"):
    """y = x·min(max(x + 3, 0), 6)/6: dx = grad·(x/3 + ½) between −3 and 3, 0 below, grad above."""


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """input · min(max(input + 3, 0), 6) / 6; the derivative is 0 at −3 and 1 at 3.

    Source: Howard et al. 2019, "Searching for MobileNetV3".
    """
    floating_operands("hardswish", input=input)
    return activated("hardswish", Hardswish, input, inplace=inplace)


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


class Hardtanh(Clamp, forward="clamp_forward", gradient="clamp_backward_input"):
    """As clamp, whose result lies between the bounds where the input does, and only there."""

    @staticmethod
    def has_slope_of_output(*parameters: float) -> bool:
        return True


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
    return activated("hardtanh", Hardtanh, input, low, high, inplace=inplace)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """input limited to [0, 6]; the derivative at the bounds is 0."""
    floating_operands("relu6", input=input)
    return activated("relu6", Hardtanh, input, 0.0, 6.0, inplace=inplace)


# The in-place forms that torch has names for.
celu_ = in_place(celu, direct=True)
elu_ = in_place(elu, direct=True)
hardtanh_ = in_place(hardtanh, direct=True)
leaky_relu_ = in_place(leaky_relu, direct=True)
selu_ = in_place(selu, direct=True)
