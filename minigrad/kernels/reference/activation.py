"""Activations by their formulas, element by element, in double precision."""

from __future__ import annotations

import math


def _map(out, function, *arrays):
    for i in range(out.size):
        out[i] = function(*(float(array[i]) for array in arrays))


def _exp(x):
    return math.inf if x > 709 else math.exp(x)


def _sigmoid(x):
    return 1 / (1 + _exp(-x))


def leaky_relu_forward(out, input, negative_slope):
    """x where x > 0, else slope · x"""
    _map(out, lambda x: x if x > 0 else negative_slope * x, input)


def leaky_relu_backward_input(grad_input, grad_output, input, negative_slope):
    _map(grad_input, lambda g, x: g if x > 0 else negative_slope * g, grad_output, input)


def elu_forward(out, input, alpha, scale, input_scale):
    """scale · x where x > 0, else scale · alpha · (e^(input_scale · x) − 1)"""

    def elu(x):
        return scale * (alpha * math.expm1(input_scale * x) if x <= 0 else x)

    _map(out, elu, input)


def elu_backward_input(grad_input, grad_output, input, alpha, scale, input_scale):
    def slope(x):
        return scale * (alpha * input_scale * _exp(input_scale * x) if x <= 0 else 1)

    _map(grad_input, lambda g, x: g * slope(x), grad_output, input)


_TANH_SCALE, _TANH_CUBE = math.sqrt(2 / math.pi), 0.044715


def gelu_forward(out, input, approximate):
    """x · Φ(x), Φ the normal distribution; approximately x · ½(1 + tanh(√(2/π)(x + 0.044715x³)))"""

    def gelu(x):
        if approximate:
            return 0.5 * x * (1 + math.tanh(_TANH_SCALE * (x + _TANH_CUBE * x * x * x)))
        return x * 0.5 * math.erfc(-x / math.sqrt(2))

    _map(out, gelu, input)


def gelu_backward_input(grad_input, grad_output, input, approximate):
    """Φ(x) + x · φ(x), φ the normal density"""

    def slope(x):
        if approximate:
            t = math.tanh(_TANH_SCALE * (x + _TANH_CUBE * x * x * x))
            inner = _TANH_SCALE * (1 + 3 * _TANH_CUBE * x * x)
            return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner
        density = math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return 0.5 * math.erfc(-x / math.sqrt(2)) + x * density

    _map(grad_input, lambda g, x: g * slope(x), grad_output, input)


def silu_forward(out, input):
    """x / (1 + e^−x)"""
    _map(out, lambda x: x * _sigmoid(x), input)


def silu_backward_input(grad_input, grad_output, input):
    def slope(x):
        s = _sigmoid(x)
        return s * (1 + x * (1 - s))

    _map(grad_input, lambda g, x: g * slope(x), grad_output, input)


def softplus_forward(out, input, beta, threshold):
    """ln(1 + e^(beta · x)) / beta; x itself where beta · x > threshold"""

    def softplus(x):
        z = beta * x
        if z > threshold:
            return x
        return (max(z, 0.0) + math.log1p(math.exp(-abs(z)))) / beta if z == z else z

    _map(out, softplus, input)


def softplus_backward_input(grad_input, grad_output, input, beta, threshold):
    def slope(x):
        return 1.0 if beta * x > threshold else _sigmoid(beta * x)

    _map(grad_input, lambda g, x: g * slope(x), grad_output, input)
