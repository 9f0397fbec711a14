"""Activations with parameters, by their formulas: see _map.py for the loops around them.

Backward passes read the input, not the output: at the ends of the range the output has lost the
digits that the slope needs.
"""

from __future__ import annotations

import math

from ._device import erfc, exp, expm1, log1p, tanh
from ._map import apply, pointwise
from .elementwise import sigmoid


@pointwise
def _leaky_relu(real):
    return lambda x, slope: x if x > real(0) else slope * x


def leaky_relu_forward(out, input, negative_slope):
    apply(_leaky_relu, out, input, negative_slope)


@pointwise
def _leaky_relu_backward(real):
    return lambda g, x, slope: g if x > real(0) else slope * g


def leaky_relu_backward_input(grad_input, grad_output, input, negative_slope):
    apply(_leaky_relu_backward, grad_input, grad_output, input, negative_slope)


@pointwise
def _elu(real):
    def elu(x, negative, scale, input_scale):
        return negative * expm1(input_scale * x) if x <= real(0) else scale * x

    return elu


def elu_forward(out, input, alpha, scale, input_scale):
    apply(_elu, out, input, alpha * scale, scale, input_scale)


@pointwise
def _elu_backward(real):
    # y = a·(e^(b·x) − 1): dy/dx = a·b·e^(b·x)
    def elu_backward(g, x, negative, scale, input_scale):
        return g * (negative * exp(input_scale * x) if x <= real(0) else scale)

    return elu_backward


def elu_backward_input(grad_input, grad_output, input, alpha, scale, input_scale):
    negative = alpha * scale * input_scale
    apply(_elu_backward, grad_input, grad_output, input, negative, scale, input_scale)


_SQRT_HALF = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)
_TANH_SCALE, _TANH_CUBE = math.sqrt(2 / math.pi), 0.044715


@pointwise
def _gelu(real):
    # x·Φ(x), Φ(x) = ½·erfc(−x/√2): no digits are lost in the left tail.
    return lambda x: x * real(0.5) * erfc(-x * real(_SQRT_HALF))


@pointwise
def _gelu_tanh(real):
    def gelu_tanh(x):
        t = tanh(real(_TANH_SCALE) * (x + real(_TANH_CUBE) * x * x * x))
        return real(0.5) * x * (real(1) + t)

    return gelu_tanh


def gelu_forward(out, input, approximate):
    apply(_gelu_tanh if approximate else _gelu, out, input)


@pointwise
def _gelu_backward(real):
    # y = x·Φ(x): dy/dx = Φ(x) + x·φ(x), φ(x) = e^(−x²/2)/√(2π)
    def gelu_backward(g, x):
        density = real(_DENSITY) * exp(real(-0.5) * x * x)
        return g * (real(0.5) * erfc(-x * real(_SQRT_HALF)) + x * density)

    return gelu_backward


@pointwise
def _gelu_tanh_backward(real):
    # y = ½x(1 + t), t = tanh u: dy/dx = ½(1 + t) + ½x(1 − t²)·du/dx
    def gelu_tanh_backward(g, x):
        t = tanh(real(_TANH_SCALE) * (x + real(_TANH_CUBE) * x * x * x))
        inner = real(_TANH_SCALE) * (real(1) + real(3 * _TANH_CUBE) * x * x)
        return g * (real(0.5) * (real(1) + t) + real(0.5) * x * (real(1) - t * t) * inner)

    return gelu_tanh_backward


def gelu_backward_input(grad_input, grad_output, input, approximate):
    backward = _gelu_tanh_backward if approximate else _gelu_backward
    apply(backward, grad_input, grad_output, input)


@pointwise
def _silu(real):
    return lambda x: x * sigmoid(x, real(1))


def silu_forward(out, input):
    apply(_silu, out, input)


@pointwise
def _silu_backward(real):
    # y = x·s(x): dy/dx = s + x·s·(1 − s)
    def silu_backward(g, x):
        s = sigmoid(x, real(1))
        return g * s * (real(1) + x * (real(1) - s))

    return silu_backward


def silu_backward_input(grad_input, grad_output, input):
    apply(_silu_backward, grad_input, grad_output, input)


@pointwise
def _softplus(real):
    # ln(1 + e^z) = max(z, 0) + ln(1 + e^−|z|): the exponent is never positive.
    def softplus(x, beta, threshold):
        z = beta * x
        # NaN fails the first test and stays NaN in the second.
        positive = real(0) if z < real(0) else z
        return x if z > threshold else (positive + log1p(exp(-abs(z)))) / beta

    return softplus


def softplus_forward(out, input, beta, threshold):
    apply(_softplus, out, input, beta, threshold)


@pointwise
def _softplus_backward(real):
    # d ln(1 + e^(βx))/β / dx = s(βx)
    def softplus_backward(g, x, beta, threshold):
        z = beta * x
        return g * (real(1) if z > threshold else sigmoid(z, real(1)))

    return softplus_backward


def softplus_backward_input(grad_input, grad_output, input, beta, threshold):
    apply(_softplus_backward, grad_input, grad_output, input, beta, threshold)
