"""Activations with parameters. relu, sigmoid and tanh are in elementwise.py.

`inplace` is taken for torch's sake; the input stays as it is either way.
"""

from __future__ import annotations

import math
from typing import Any

from .. import kernels
from ..engine import Function, Tensor
from .arithmetic import neg
from .elementwise import Clamp
from .operands import elementwise, floating_operands

# Klambauer et al. 2017, "Self-normalizing neural networks".
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


class Activation(Function):
    """y = f(x; parameters) by the launchers <name>_forward and <name>_backward_input."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, name: str, parameters: tuple[float, ...]) -> Tensor:
        ctx.save_for_backward(input)
        ctx.name, ctx.parameters = name, parameters
        out, out_flat, (input_flat,) = elementwise(name, input)
        getattr(kernels.get(out.device).activation, f"{name}_forward")(
            out_flat, input_flat, *parameters
        )
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        grad_input, grad_flat, (input_flat, upstream) = elementwise(ctx.name, input, grad_output)
        backward = getattr(kernels.get(input.device).activation, f"{ctx.name}_backward_input")
        backward(grad_flat, upstream, input_flat, *ctx.parameters)
        return grad_input, None, None


def _number(operation: str, name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{operation}: {name} must be a number, got {value!r}")
    return float(value)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """input where it is positive, else negative_slope · input."""
    floating_operands("leaky_relu", input=input)
    slope = _number("leaky_relu", "negative_slope", negative_slope)
    return Activation.apply(input, "leaky_relu", (slope,))


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input where it is positive, else alpha · (e^input − 1)."""
    floating_operands("elu", input=input)
    return Activation.apply(input, "elu", (_number("elu", "alpha", alpha), 1.0, 1.0))


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input where it is positive, else alpha · (e^(input/alpha) − 1)."""
    floating_operands("celu", input=input)
    alpha = _number("celu", "alpha", alpha)
    if alpha == 0:
        raise ValueError("celu: alpha must not be 0")
    return Activation.apply(input, "elu", (alpha, 1.0, 1 / alpha))


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """1.0507 · input where it is positive, else 1.0507 · 1.6733 · (e^input − 1)."""
    floating_operands("selu", input=input)
    return Activation.apply(input, "elu", (_SELU_ALPHA, _SELU_SCALE, 1.0))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """input · Φ(input), Φ the normal distribution; approximate='tanh' takes a formula with tanh."""
    floating_operands("gelu", input=input)
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return Activation.apply(input, "gelu", (approximate == "tanh",))


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """input · sigmoid(input)."""
    floating_operands("silu", input=input)
    return Activation.apply(input, "silu", ())


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """ln(1 + e^(beta · input)) / beta; input itself where beta · input exceeds threshold."""
    floating_operands("softplus", input=input)
    parameters = _number("softplus", "beta", beta), _number("softplus", "threshold", threshold)
    if parameters[0] == 0:
        raise ValueError("softplus: beta must not be 0")
    return Activation.apply(input, "softplus", parameters)


def logsigmoid(input: Tensor) -> Tensor:
    """ln sigmoid(input), without overflow at either end."""
    floating_operands("logsigmoid", input=input)
    return neg(Activation.apply(neg(input), "softplus", (1.0, math.inf)))


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """input limited to [min_val, max_val]; the derivative at the bounds is 0."""
    floating_operands("hardtanh", input=input)
    low, high = _number("hardtanh", "min_val", min_val), _number("hardtanh", "max_val", max_val)
    if not low <= high:
        raise ValueError(f"hardtanh: min_val must not exceed max_val, got {low} and {high}")
    return Clamp.apply(input, low, high)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """input limited to [0, 6]; the derivative at the bounds is 0."""
    floating_operands("relu6", input=input)
    return Clamp.apply(input, 0.0, 6.0)
