"""Functions of one value by their formulas: see _map.py for the loop around them.

f_forward(x, *parameters) is the function, f_backward_input(grad_output, x, *parameters) the slope
times grad_output. It is in terms of y = f(x) where y is what the formula calls it.
"""

from __future__ import annotations

import math

import numpy as np

from ._map import pointwise


@pointwise
def abs_forward(x):
    return abs(x)


def _sign(x):
    return int(x > 0) - int(x < 0)


@pointwise
def abs_backward_input(grad_output, x):
    return grad_output * _sign(x)


@pointwise
def sign_forward(x):
    """1, −1 or 0 (also for NaN)"""
    return _sign(x)


@pointwise
def exp_forward(x):
    return np.exp(x)


@pointwise
def expm1_forward(x):
    """e^x − 1"""
    return np.expm1(x)


@pointwise
def log_forward(x):
    return np.log(x)


@pointwise
def log1p_forward(x):
    """ln(1 + x)"""
    return np.log1p(x)


@pointwise
def sqrt_forward(x):
    return np.sqrt(x)


@pointwise
def sin_forward(x):
    return np.sin(x)


@pointwise
def cos_forward(x):
    return np.cos(x)


@pointwise
def atan_forward(x):
    return np.arctan(x)


@pointwise
def erf_forward(x):
    """2/√π · ∫₀ˣ e^(−t²) dt"""
    return math.erf(x)


@pointwise
def floor_forward(x):
    return np.floor(x)


@pointwise
def ceil_forward(x):
    return np.ceil(x)


@pointwise
def trunc_forward(x):
    return np.trunc(x)


@pointwise
def round_forward(x):
    """Halves to the even neighbour."""
    return np.rint(x)


@pointwise
def clamp_forward(x, low, high):
    """min(max(x, low), high); NaN stays NaN, and a bound of NaN is no bound"""
    x = low if x < low else x
    return high if x > high else x


@pointwise
def clamp_backward_input(grad_output, x, low, high):
    """grad_output where low < x < high, else 0"""
    return 0 if x <= low or x >= high or x != x else grad_output


# Activations --------------------------------------------------------------------------------


def sigmoid(x):
    """1 / (1 + e^−x), written as e^x / (1 + e^x) for x < 0: small results keep their digits"""
    return np.exp(x) / (1 + np.exp(x)) if x < 0 else 1 / (1 + np.exp(-x))


@pointwise
def sigmoid_forward(x):
    return sigmoid(x)


@pointwise
def sigmoid_backward_input(grad_output, y):
    return grad_output * (1 - y) * y


@pointwise
def tanh_forward(x):
    return np.tanh(x)


@pointwise
def tanh_backward_input(grad_output, y):
    return grad_output * (1 - y * y)


@pointwise
def relu_forward(x):
    """max(x, 0); NaN stays NaN"""
    return 0 if x < 0 else x


@pointwise
def relu_backward_input(grad_output, y):
    return 0 if y <= 0 else grad_output


@pointwise
def leaky_relu_forward(x, negative_slope):
    return x if x > 0 else negative_slope * x


@pointwise
def leaky_relu_backward_input(grad_output, x, negative_slope):
    return grad_output if x > 0 else negative_slope * grad_output


@pointwise
def elu_forward(x, height, rate, scale):
    """scale · x where x > 0, else height · (e^(rate · x) − 1)"""
    return height * np.expm1(rate * x) if x <= 0 else scale * x


@pointwise
def elu_backward_input(grad_output, x, slope, rate, scale):
    """slope: height · rate"""
    return grad_output * (slope * np.exp(rate * x) if x <= 0 else scale)


@pointwise
def gelu_forward(x):
    """x · Φ(x), Φ the normal distribution"""
    return x * 0.5 * math.erfc(-x / math.sqrt(2))


@pointwise
def gelu_backward_input(grad_output, x):
    """Φ(x) + x · φ(x), φ the normal density"""
    density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return grad_output * (0.5 * math.erfc(-x / math.sqrt(2)) + x * density)


_TANH_SCALE, _TANH_CUBE = math.sqrt(8 / math.pi), 0.044715


@pointwise
def gelu_tanh_forward(x):
    """x · ½(1 + tanh(√(2/π)(x + 0.044715x³))) = x · σ(√(8/π)(x + 0.044715x³))"""
    return x * sigmoid(_TANH_SCALE * (x + _TANH_CUBE * x * x * x))


@pointwise
def gelu_tanh_backward_input(grad_output, x):
    v = _TANH_SCALE * (x + _TANH_CUBE * x * x * x)
    inner = _TANH_SCALE * (1 + 3 * _TANH_CUBE * x * x)
    return grad_output * (sigmoid(v) + x * sigmoid(v) * sigmoid(-v) * inner)


@pointwise
def silu_forward(x):
    """x / (1 + e^−x)"""
    return x * sigmoid(x)


@pointwise
def silu_backward_input(grad_output, x):
    s = sigmoid(x)
    return grad_output * s * (1 + x * (1 - s))


@pointwise
def hardswish_forward(x):
    """x · min(max(x + 3, 0), 6) / 6"""
    return x * min(max(x + 3, 0), 6) / 6


@pointwise
def hardswish_backward_input(grad_output, x):
    """x/3 + ½ between −3 and 3, 0 below, 1 above"""
    return 0 if x <= -3 else grad_output if x >= 3 else grad_output * (x / 3 + 0.5)


@pointwise
def hardsigmoid_forward(x):
    """min(max(x + 3, 0), 6) / 6"""
    return min(max(x + 3, 0), 6) / 6


@pointwise
def hardsigmoid_backward_input(grad_output, x):
    """1/6 between −3 and 3, else 0"""
    return grad_output / 6 if -3 < x < 3 else 0


def softplus(x):
    """ln(1 + e^x), with an exponent that is never positive"""
    return (0 if x < 0 else x) + np.log1p(np.exp(-abs(x)))


@pointwise
def softplus_forward(x, beta, threshold):
    """ln(1 + e^(beta · x)) / beta; x itself where beta · x > threshold"""
    return x if beta * x > threshold else softplus(beta * x) / beta


@pointwise
def softplus_backward_input(grad_output, x, beta, threshold):
    return grad_output * (1 if beta * x > threshold else sigmoid(beta * x))


@pointwise
def mish_forward(x):
    """x · tanh(ln(1 + e^x))"""
    return x * np.tanh(softplus(x))


@pointwise
def mish_backward_input(grad_output, x):
    t = np.tanh(softplus(x))
    return grad_output * (t + x * sigmoid(x) * (1 - t * t))
