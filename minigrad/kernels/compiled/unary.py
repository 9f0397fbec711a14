"""Functions of one value.

A backward pass reads x, the input, or y, the output. An activation's reads the input unless the
slope is exact in terms of the output: at the ends of the range the output has lost the digits.
"""

from __future__ import annotations

import math
from math import erf

from numpy import arctan as atan
from numpy import ceil, cos, exp, expm1, floor, log, log1p, rint, sign, sin, sqrt, tanh, trunc

from . import helper, pointwise, sigmoid


@pointwise
def abs_forward(x):
    return abs(x)


@pointwise
def abs_backward_input(grad_output, x):
    # d|x|/dx = sign(x), 0 at 0.
    return grad_output * type(x)(sign(x))


@pointwise
def sign_forward(x):
    return sign(x)


@pointwise
def exp_forward(x):
    return exp(x)


@pointwise
def expm1_forward(x):
    return expm1(x)


@pointwise
def log_forward(x):
    return log(x)


@pointwise
def log1p_forward(x):
    return log1p(x)


@pointwise
def sqrt_forward(x):
    return sqrt(x)


@pointwise
def sin_forward(x):
    return sin(x)


@pointwise
def cos_forward(x):
    return cos(x)


@pointwise
def atan_forward(x):
    return atan(x)


@pointwise
def erf_forward(x):
    return erf(x)


@pointwise
def floor_forward(x):
    return floor(x)


@pointwise
def ceil_forward(x):
    return ceil(x)


@pointwise
def trunc_forward(x):
    return trunc(x)


@pointwise
def round_forward(x):
    return rint(x)


@pointwise
def clamp_forward(x, low, high):
    # A bound of NaN is no bound.
    raised = low if x < low else x
    return high if raised > high else raised


@pointwise
def clamp_backward_input(grad_output, x, low, high):
    # y = x inside the bounds, constant outside; at a bound torch chooses 0, and so for NaN.
    return type(x)(0) if x <= low or x >= high or x != x else grad_output


# Activations --------------------------------------------------------------------------------


@pointwise
def sigmoid_forward(x):
    return sigmoid(x)


@pointwise
def sigmoid_backward_input(grad_output, y):
    # y = 1/(1 + e^−x): dy/dx = y·(1 − y).
    return grad_output * (type(y)(1) - y) * y


@pointwise
def tanh_forward(x):
    return tanh(x)


@pointwise
def tanh_backward_input(grad_output, y):
    # y = tanh x: dy/dx = 1 − y².
    return grad_output * (type(y)(1) - y * y)


@pointwise
def relu_forward(x):
    # NaN stays NaN: it is not less than zero.
    zero = type(x)(0)
    return zero if x < zero else x


@pointwise
def relu_backward_input(grad_output, y):
    # y = max(x, 0): dy/dx = 1 where y > 0, else 0. At x = 0 torch chooses 0.
    zero = type(y)(0)
    return zero if y <= zero else grad_output


@pointwise
def leaky_relu_forward(x, negative_slope):
    return x if x > type(x)(0) else negative_slope * x


@pointwise
def leaky_relu_backward_input(grad_output, x, negative_slope):
    return grad_output if x > type(x)(0) else negative_slope * grad_output


@pointwise
def elu_forward(x, height, rate, scale):
    return height * expm1(rate * x) if x <= type(x)(0) else scale * x


@pointwise
def elu_backward_input(grad_output, x, slope, rate, scale):
    # y = a·(e^(b·x) − 1): dy/dx = a·b·e^(b·x)
    return grad_output * (slope * exp(rate * x) if x <= type(x)(0) else scale)


# Twice √(2/π): ½(1 + tanh u) is σ(2u), and as such exact far out on the left, too.
_TANH_SCALE, _TANH_CUBE = math.sqrt(8 / math.pi), 0.044715


@helper
def _gelu_tanh_argument(x):
    real = type(x)
    return real(_TANH_SCALE) * (x + real(_TANH_CUBE) * x * x * x)


@pointwise
def gelu_tanh_forward(x):
    return x * sigmoid(_gelu_tanh_argument(x))


@pointwise
def gelu_tanh_backward_input(grad_output, x):
    # y = x·σ(v): dy/dx = σ(v) + x·σ(v)·σ(−v)·dv/dx
    real = type(x)
    v = _gelu_tanh_argument(x)
    inner = real(_TANH_SCALE) * (real(1) + real(3 * _TANH_CUBE) * x * x)
    s = sigmoid(v)
    return grad_output * (s + x * s * sigmoid(-v) * inner)


@pointwise
def silu_forward(x):
    return x * sigmoid(x)


@pointwise
def silu_backward_input(grad_output, x):
    # y = x·s(x): dy/dx = s + x·s·(1 − s)
    one = type(x)(1)
    s = sigmoid(x)
    return grad_output * s * (one + x * (one - s))


@pointwise
def hardswish_forward(x):
    # NaN fails both tests and stays NaN.
    real = type(x)
    gate = real(0) if x <= real(-3) else real(6) if x >= real(3) else x + real(3)
    return x * gate / real(6)


@pointwise
def hardswish_backward_input(grad_output, x):
    # y = x·(x + 3)/6 between −3 and 3: dy/dx = x/3 + ½. At −3 torch chooses 0, at 3 it chooses 1.
    real = type(x)
    inside = grad_output * (x / real(3) + real(0.5))
    return real(0) if x <= real(-3) else grad_output if x >= real(3) else inside


@pointwise
def hardsigmoid_forward(x):
    # NaN fails both tests and stays NaN.
    real = type(x)
    return (real(0) if x <= real(-3) else real(6) if x >= real(3) else x + real(3)) / real(6)


@pointwise
def hardsigmoid_backward_input(grad_output, x):
    # y = (x + 3)/6 between −3 and 3, constant outside: at either of them torch chooses 0.
    real = type(x)
    return grad_output / real(6) if abs(x) < real(3) else real(0)


@pointwise
def softplus_forward(x, beta, threshold):
    # ln(1 + e^z) = max(z, 0) + ln(1 + e^−|z|): the exponent is never positive.
    zero = type(x)(0)
    z = beta * x
    # NaN fails the first test and stays NaN in the second.
    positive = zero if z < zero else z
    return x if z > threshold else (positive + log1p(exp(-abs(z)))) / beta


@pointwise
def softplus_backward_input(grad_output, x, beta, threshold):
    # d ln(1 + e^(βx))/β / dx = s(βx)
    z = beta * x
    return grad_output * (type(x)(1) if z > threshold else sigmoid(z))


@helper
def _mish(x):
    """(e, c, n, d): e = e^−|x|, tanh(ln(1 + e^x)) = n/d, c = e for x < 0, else e².

    tanh(ln(1 + u)) = (u² + 2u)/(u² + 2u + 2) with u = e^x, or after division by u² for x ≥ 0: the
    exponent is never positive.
    """
    one, two = type(x)(1), type(x)(2)
    e = exp(-abs(x))
    if x < type(x)(0):
        n = e * (e + two)
        return e, e, n, n + two
    n = one + two * e
    return e, e * e, n, n + two * e * e


@pointwise
def mish_forward(x):
    _, _, n, d = _mish(x)
    return x * (n / d)


@pointwise
def mish_backward_input(grad_output, x):
    # y = x·t, t = n/d: dy/dx = t + x·(1 − t²)·s(x), of which (1 − t²)·s(x) = 4c·(1 + e)/d²
    real = type(x)
    e, c, n, d = _mish(x)
    return grad_output * (n / d + x * (real(4) * c * (real(1) + e) / (d * d)))
