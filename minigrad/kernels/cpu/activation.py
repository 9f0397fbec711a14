"""Activations with parameters, on flat arrays: one pass over memory, as in elementwise.py.

Backward passes read the input, not the output: at the ends of the range the output has lost the
digits that the slope needs.
"""

from __future__ import annotations

import math

from numba import prange

from ._erf import erfc_and_gauss
from ._exp import exp, expm1, tanh
from ._jit import inlined, kernel
from ._log import log1p
from ._operand import at, operand
from ._simd import whole_registers


@kernel
def _leaky_relu(out, input, slope):
    zero = out.dtype.type(0)
    for i in prange(out.size):
        x = input[i]
        out[i] = x if x > zero else slope * x


def leaky_relu_forward(out, input, negative_slope):
    _leaky_relu(out, input, out.dtype.type(negative_slope))


@kernel
def _leaky_relu_backward(grad_input, grad_output, input, slope):
    zero = grad_input.dtype.type(0)
    for i in prange(grad_input.size):
        g = at(grad_output, i)
        grad_input[i] = g if input[i] > zero else slope * g


def leaky_relu_backward_input(grad_input, grad_output, input, negative_slope):
    slope = grad_input.dtype.type(negative_slope)
    _leaky_relu_backward(grad_input, operand(grad_output), input, slope)


@kernel
def _elu(out, input, negative, scale, input_scale):
    zero = out.dtype.type(0)
    for i in prange(out.size):
        whole_registers()
        x = input[i]
        out[i] = negative * expm1(input_scale * x) if x <= zero else scale * x


def elu_forward(out, input, alpha, scale, input_scale):
    dtype = out.dtype.type
    _elu(out, input, dtype(alpha * scale), dtype(scale), dtype(input_scale))


@kernel
def _elu_backward(grad_input, grad_output, input, negative, scale, input_scale):
    # y = a·(e^(b·x) − 1): dy/dx = a·b·e^(b·x)
    zero = grad_input.dtype.type(0)
    for i in prange(grad_input.size):
        whole_registers()
        x = input[i]
        slope = negative * exp(input_scale * x) if x <= zero else scale
        grad_input[i] = at(grad_output, i) * slope


def elu_backward_input(grad_input, grad_output, input, alpha, scale, input_scale):
    dtype = grad_input.dtype.type
    _elu_backward(
        grad_input, operand(grad_output), input,
        dtype(alpha * scale * input_scale), dtype(scale), dtype(input_scale),
    )  # fmt: skip


_SQRT_HALF = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)
_TANH_SCALE, _TANH_CUBE = math.sqrt(2 / math.pi), 0.044715


@kernel
def _gelu(out, input):
    # x·Φ(x), Φ(x) = ½·erfc(−x/√2): no digits are lost in the left tail.
    dtype = out.dtype.type
    for i in prange(out.size):
        whole_registers()
        x = input[i]
        tail, _ = erfc_and_gauss(-x * dtype(_SQRT_HALF))
        out[i] = x * dtype(0.5) * tail


@kernel
def _gelu_tanh(out, input):
    dtype = out.dtype.type
    for i in prange(out.size):
        whole_registers()
        x = input[i]
        t = tanh(dtype(_TANH_SCALE) * (x + dtype(_TANH_CUBE) * x * x * x))
        out[i] = dtype(0.5) * x * (dtype(1) + t)


def gelu_forward(out, input, approximate):
    (_gelu_tanh if approximate else _gelu)(out, input)


@kernel
def _gelu_backward(grad_input, grad_output, input):
    # y = x·Φ(x): dy/dx = Φ(x) + x·φ(x), φ(x) = e^(−x²/2)/√(2π)
    dtype = grad_input.dtype.type
    for i in prange(grad_input.size):
        whole_registers()
        x = input[i]
        tail, gauss = erfc_and_gauss(-x * dtype(_SQRT_HALF))
        slope = dtype(0.5) * tail + x * (dtype(_DENSITY) * gauss)
        grad_input[i] = at(grad_output, i) * slope


@kernel
def _gelu_tanh_backward(grad_input, grad_output, input):
    # y = ½x(1 + t), t = tanh u: dy/dx = ½(1 + t) + ½x(1 − t²)·du/dx
    dtype = grad_input.dtype.type
    for i in prange(grad_input.size):
        whole_registers()
        x = input[i]
        t = tanh(dtype(_TANH_SCALE) * (x + dtype(_TANH_CUBE) * x * x * x))
        inner = dtype(_TANH_SCALE) * (dtype(1) + dtype(3 * _TANH_CUBE) * x * x)
        slope = dtype(0.5) * (dtype(1) + t) + dtype(0.5) * x * (dtype(1) - t * t) * inner
        grad_input[i] = at(grad_output, i) * slope


def gelu_backward_input(grad_input, grad_output, input, approximate):
    backward = _gelu_tanh_backward if approximate else _gelu_backward
    backward(grad_input, operand(grad_output), input)


@inlined
def _sigmoid(x, one):
    """1/(1 + e^−x) with an exponent that is never positive, as in elementwise.sigmoid_forward."""
    e = exp(-abs(x))
    return (e if x < 0 else one) / (one + e)


@kernel
def silu_forward(out, input):
    one = out.dtype.type(1)
    for i in prange(out.size):
        whole_registers()
        out[i] = input[i] * _sigmoid(input[i], one)


@kernel
def _silu_backward(grad_input, grad_output, input):
    # y = x·s(x): dy/dx = s + x·s·(1 − s)
    one = grad_input.dtype.type(1)
    for i in prange(grad_input.size):
        whole_registers()
        x = input[i]
        s = _sigmoid(x, one)
        grad_input[i] = at(grad_output, i) * s * (one + x * (one - s))


def silu_backward_input(grad_input, grad_output, input):
    _silu_backward(grad_input, operand(grad_output), input)


@kernel
def _softplus(out, input, beta, threshold):
    # ln(1 + e^z) = max(z, 0) + ln(1 + e^−|z|): the exponent is never positive.
    zero = out.dtype.type(0)
    for i in prange(out.size):
        whole_registers()
        x = input[i]
        z = beta * x
        # NaN fails the first test and stays NaN in the second.
        positive = zero if z < zero else z
        out[i] = x if z > threshold else (positive + log1p(exp(-abs(z)))) / beta


def softplus_forward(out, input, beta, threshold):
    dtype = out.dtype.type
    _softplus(out, input, dtype(beta), dtype(threshold))


@kernel
def _softplus_backward(grad_input, grad_output, input, beta, threshold):
    # d ln(1 + e^(βx))/β / dx = s(βx)
    one = grad_input.dtype.type(1)
    for i in prange(grad_input.size):
        whole_registers()
        z = beta * input[i]
        slope = one if z > threshold else _sigmoid(z, one)
        grad_input[i] = at(grad_output, i) * slope


def softplus_backward_input(grad_input, grad_output, input, beta, threshold):
    dtype = grad_input.dtype.type
    _softplus_backward(grad_input, operand(grad_output), input, dtype(beta), dtype(threshold))
