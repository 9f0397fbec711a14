"""Activations with parameters. relu, sigmoid and tanh are in unary.py.

inplace: the result takes the place of the input, in memory and in the graph.
"""

from __future__ import annotations

import math
from typing import Any

from ..arguments import check_number
from ..engine import Tensor
from ..errors import ShapeError
from .arithmetic import add, div, mul, neg, sub
from .cast import to
from .compare import eq, gt, le, where
from .creation import arange
from .extrema import argmax
from .operands import floating_operands, takes_tensor
from .overwrite import applied, in_place
from .random import rand_like
from .shape import real_axis, reshape
from .softmax import softmax
from .unary import Clamp, Unary, abs, activated, log, sigmoid, sign, tanh

__all__ = [
    "celu", "celu_", "elu", "elu_", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid",
    "hardswish", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "logsigmoid", "mish",
    "prelu", "relu6", "rrelu", "rrelu_", "selu", "selu_", "silu", "softmin", "softplus",
    "softshrink", "softsign", "tanhshrink", "threshold", "threshold_",
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
    floating_operands("leaky_relu", "input", input)
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
    floating_operands("elu", "input", input)
    return activated(
        "elu", ELU, input, check_number("elu", "alpha", alpha), 1.0, 1.0, inplace=inplace
    )


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input where it is positive, else alpha · (e^(input/alpha) − 1)."""
    floating_operands("celu", "input", input)
    alpha = check_number("celu", "alpha", alpha)
    if alpha == 0:
        raise ValueError("celu: alpha must not be 0")
    return activated("celu", ELU, input, alpha, 1 / alpha, 1.0, inplace=inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """1.0507 · input where it is positive, else 1.0507 · 1.6733 · (e^input − 1)."""
    floating_operands("selu", "input", input)
    return activated(
        "selu", ELU, input, _SELU_ALPHA * _SELU_SCALE, 1.0, _SELU_SCALE, inplace=inplace
    )


class GELU(Unary, forward="gelu_forward", gradient="gelu_backward_input"):
    """y = x·Φ(x): dx = grad·(Φ(x) + x·φ(x)), φ the normal density."""


class GELUTanh(Unary, forward="gelu_tanh_forward", gradient="gelu_tanh_backward_input"):
    """y = ½x(1 + t), t = tanh u, u = √(2/π)·(x + 0.044715x³):
    dx = grad·(½(1 + t) + ½x(1 − t²)·u′)."""


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """input · Φ(input), Φ the normal distribution; approximate='tanh' takes a formula with tanh."""
    floating_operands("gelu", "input", input)
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return (GELUTanh if approximate == "tanh" else GELU).apply(input)


class SiLU(Unary, forward="silu_forward", gradient="silu_backward_input"):
    """y = x·s, s = sigmoid(x): dx = grad·(s + x·s·(1 − s))."""


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """input · sigmoid(input)."""
    floating_operands("silu", "input", input)
    return activated("silu", SiLU, input, inplace=inplace)


class Hardswish(Unary, forward="hardswish_forward", gradient="hardswish_backward_input"):
    """y = x·min(max(x + 3, 0), 6)/6: dx = grad·(x/3 + ½) between −3 and 3, 0 below, grad above."""


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """input · min(max(input + 3, 0), 6) / 6; the derivative is 0 at −3 and 1 at 3.

    Source: Howard et al. 2019, "Searching for MobileNetV3".
    """
    floating_operands("hardswish", "input", input)
    return activated("hardswish", Hardswish, input, inplace=inplace)


class Softplus(Unary, forward="softplus_forward", gradient="softplus_backward_input"):
    """y = ln(1 + e^(βx))/β, x past the threshold: dx = grad·sigmoid(βx), or grad."""


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """ln(1 + e^(beta · input)) / beta; input itself where beta · input exceeds threshold."""
    floating_operands("softplus", "input", input)
    parameters = (
        check_number("softplus", "beta", beta),
        check_number("softplus", "threshold", threshold),
    )
    if parameters[0] == 0:
        raise ValueError("softplus: beta must not be 0")
    return Softplus.apply(input, *parameters)


def logsigmoid(input: Tensor) -> Tensor:
    """ln sigmoid(input), without overflow at either end."""
    floating_operands("logsigmoid", "input", input)
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
    floating_operands("hardtanh", "input", input)
    low, high = (
        check_number("hardtanh", "min_val", min_val),
        check_number("hardtanh", "max_val", max_val),
    )
    if not low <= high:
        raise ValueError(f"hardtanh: min_val must not exceed max_val, got {low} and {high}")
    return activated("hardtanh", Hardtanh, input, low, high, inplace=inplace)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """input limited to [0, 6]; the derivative at the bounds is 0."""
    floating_operands("relu6", "input", input)
    return activated("relu6", Hardtanh, input, 0.0, 6.0, inplace=inplace)


class Hardsigmoid(Unary, forward="hardsigmoid_forward", gradient="hardsigmoid_backward_input"):
    """y = min(max(x + 3, 0), 6)/6: dx = grad/6 between −3 and 3, else 0."""


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(input + 3, 0), 6) / 6; the derivative at −3 and 3 is 0."""
    floating_operands("hardsigmoid", "input", input)
    return activated("hardsigmoid", Hardsigmoid, input, inplace=inplace)


class Mish(Unary, forward="mish_forward", gradient="mish_backward_input"):
    """y = x·t, t = tanh(ln(1 + e^x)): dx = grad·(t + x·(1 − t²)·sigmoid(x))."""


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """input · tanh(ln(1 + e^input)).

    Source: Misra 2019, "Mish: A Self Regularized Non-Monotonic Activation Function".
    """
    floating_operands("mish", "input", input)
    return activated("mish", Mish, input, inplace=inplace)


# Composed of other operations ---------------------------------------------------------------


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """input where it is positive, else weight · input.

    weight: one number, or one for each channel, (C,) for an input (N, C, …).
    """
    floating_operands("prelu", "input weight", input, weight)
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim > 1 or weight.array.size not in (1, channels):
        raise ShapeError(
            f"prelu: weight must hold 1 number or one for each of the {channels} channels of an "
            f"input of shape {input.shape}, got shape {weight.shape}"
        )
    slopes = reshape(weight, (-1, *(1,) * max(input.ndim - 2, 0)) if input.ndim else ())
    positive = gt(input, 0)
    # The zeros keep an infinite input out of the gradient of its channel's slope.
    return where(positive, input, mul(slopes, where(positive, 0, input)))


def rrelu(
    input: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """input where it is positive, else slope · input. In training every element draws its slope
    uniformly from [lower, upper); else it is their mean."""
    floating_operands("rrelu", "input", input)
    low, high = check_number("rrelu", "lower", lower), check_number("rrelu", "upper", upper)
    if not low <= high:
        raise ValueError(f"rrelu: lower must not exceed upper, got {low} and {high}")
    if not training:
        return leaky_relu(input, (low + high) / 2, inplace)
    slopes = where(gt(input, 0), 1, add(mul(rand_like(input), high - low), low))
    return applied("rrelu", lambda x: mul(x, slopes), input, inplace)


@takes_tensor
def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """input where it is above the threshold, else value; NaN stays."""
    limit = check_number("threshold", "threshold", threshold)
    check_number("threshold", "value", value)
    fill = value if input.dtype.kind == "f" else int(value)
    return applied("threshold", lambda x: where(le(x, limit), fill, x), input, inplace)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 where input is in [−lambd, lambd], else input."""
    floating_operands("hardshrink", "input", input)
    return where(le(abs(input.detach()), check_number("hardshrink", "lambd", lambd)), 0, input)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """input moved towards 0 by lambd; 0 where it is in [−lambd, lambd]."""
    floating_operands("softshrink", "input", input)
    size = check_number("softshrink", "lambd", lambd, low=0)
    outside = input.detach()
    return where(le(abs(outside), size), 0, sub(input, mul(sign(outside), size)))


def tanhshrink(input: Tensor) -> Tensor:
    """input − tanh(input)."""
    floating_operands("tanhshrink", "input", input)
    return sub(input, tanh(input))


def softsign(input: Tensor) -> Tensor:
    """input / (1 + |input|)."""
    floating_operands("softsign", "input", input)
    return div(input, add(abs(input), 1))


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a · sigmoid(b), a and b the halves of input along dim."""
    floating_operands("glu", "input", input)
    axis = real_axis("glu", dim, input)
    half, odd = divmod(input.shape[axis], 2)
    if odd:
        raise ShapeError(f"glu: axis {dim} must have an even size, got shape {input.shape}")
    before = (slice(None),) * axis
    return mul(input[(*before, slice(half))], sigmoid(input[(*before, slice(half, None))]))


def softmin(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """softmax(−input) along dim."""
    floating_operands("softmin", "input", input)
    return softmax(neg(input), dim, dtype)


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """softmax((logits + g) / tau) along dim, g from the standard Gumbel distribution.

    hard: one-hot at the maximum, with the gradient of the softmax. eps has no effect, as in torch.
    Source: Jang et al. 2017, "Categorical Reparameterization with Gumbel-Softmax".
    """
    floating_operands("gumbel_softmax", "logits", logits)
    axis = real_axis("gumbel_softmax", dim, logits)
    check_number("gumbel_softmax", "tau", tau)
    gumbel = neg(log(neg(log(rand_like(logits)))))
    soft = softmax(div(add(logits, gumbel), tau), axis)
    if not hard:
        return soft
    places = reshape(
        arange(soft.shape[axis], device=soft.device), (-1, *(1,) * (soft.ndim - axis - 1))
    )
    one_hot = to(eq(argmax(soft, axis, keepdim=True), places), soft.dtype)
    return add(sub(one_hot, soft.detach()), soft)


# The in-place forms that torch has names for.
celu_ = in_place(celu, direct=True)
elu_ = in_place(elu, direct=True)
hardtanh_ = in_place(hardtanh, direct=True)
leaky_relu_ = in_place(leaky_relu, direct=True)
selu_ = in_place(selu, direct=True)
rrelu_ = in_place(rrelu)
threshold_ = in_place(threshold)
