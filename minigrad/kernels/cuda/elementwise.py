"""Elementwise operations by their formulas: see _map.py for the loops around them.

Constants are of the kernel's type, because a float64 literal would take float32 work through
float64. Copies between any strides are in _copy.py.
"""

from __future__ import annotations

import numpy as np

from ._copy import copy
from ._device import cuda, device, exp, log, power, sqrt, tanh, through_relu
from ._launch import kernel, launch, over
from ._map import apply, pointwise, scalar, step
from ._span import span


def copy_strided(out, input):
    copy(out, input)


@kernel
def _fill(real):
    def fill(out, out_step, value, n):
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            out[i * out_step] = value

    return fill


def fill(out, value):
    launch(_fill(out.dtype), over(out.size), out, step(out), scalar(value, out.dtype), out.size)


# Arithmetic ---------------------------------------------------------------------------------


@pointwise
def _add(real):
    return lambda left, right, alpha: left + alpha * right


@pointwise
def _add_bools(real):
    # A sum of bools is their OR, as a product is their AND.
    return lambda left, right, alpha: left | right if alpha else left


def add_forward(out, left, right, alpha):
    apply(_add_bools if out.dtype.kind == "b" else _add, out, left, right, alpha)


@pointwise
def _mul(real):
    return lambda left, right: left * right


def mul_forward(out, left, right):
    apply(_mul, out, left, right)


@pointwise
def _div(real):
    return lambda left, right: left / right


def div_forward(out, left, right):
    apply(_div, out, left, right)


@pointwise
def _div_backward_right(real):
    # y = a / b: dy/db = −a / b² = −y / b.
    return lambda g, out, right: -g * out / right


def div_backward_right(grad_right, grad_output, out, right):
    apply(_div_backward_right, grad_right, grad_output, out, right)


@pointwise
def _pow(real):
    return lambda left, right: power(left, right)


@pointwise
def _integer_pow(real):
    """base^exponent by squaring; for a negative exponent the integer part of the quotient."""

    def integer_pow(left, right):
        base, exponent = np.int64(left), np.int64(right)
        if exponent < 0:
            odd = exponent & np.int64(1)
            if base == 1 or (base == -1 and odd == 0):
                return np.int64(1)
            return np.int64(-1) if base == -1 else np.int64(0)
        result = np.int64(1)
        while exponent > 0:
            if exponent & np.int64(1):
                result *= base
            base *= base
            exponent >>= np.int64(1)
        return result

    return integer_pow


def pow_forward(out, left, right):
    apply(_pow if out.dtype.kind == "f" else _integer_pow, out, left, right)


@pointwise
def _pow_backward_left(real):
    # y = a^b: dy/da = b·a^(b − 1), which is 0 for b = 0, also where a^(−1) is infinite.
    def pow_backward_left(g, a, b):
        return real(0) if b == real(0) else g * (b * power(a, b - real(1)))

    return pow_backward_left


def pow_backward_left(grad_left, grad_output, left, right):
    apply(_pow_backward_left, grad_left, grad_output, left, right)


@pointwise
def _pow_backward_right(real):
    # y = a^b: dy/db = a^b·ln a, which is 0 at a = 0 as long as a^b is finite, so for b ≥ 0.
    def pow_backward_right(g, a, b):
        return real(0) if a == real(0) and b >= real(0) else g * (power(a, b) * log(a))

    return pow_backward_right


def pow_backward_right(grad_right, grad_output, left, right):
    apply(_pow_backward_right, grad_right, grad_output, left, right)


@pointwise
def _maximum(real):
    # A NaN on the left fails every comparison but `a != a`; one on the right is the other branch.
    return lambda a, b: a if a > b or a != a else b


def maximum_forward(out, left, right):
    apply(_maximum, out, left, right)


@pointwise
def _minimum(real):
    return lambda a, b: a if a < b or a != a else b


def minimum_forward(out, left, right):
    apply(_minimum, out, left, right)


@pointwise
def _winner_backward(real):
    # d max(a, b)/da = 1 where a > b, ½ at a tie, 0 where a < b. A NaN leaves the gradient whole.
    return lambda g, a, b: real(0) if a < b else real(0.5) * g if a == b else g


def winner_backward(grad_input, grad_output, larger, smaller):
    apply(_winner_backward, grad_input, grad_output, larger, smaller)


# Functions of one value -----------------------------------------------------------------------


@pointwise
def _abs(real):
    return lambda x: abs(x)


def abs_forward(out, input):
    apply(_abs, out, input)


@pointwise
def _sign(real):
    return lambda x: real(x > real(0)) - real(x < real(0))


def sign_forward(out, input):
    apply(_sign, out, input)


@pointwise
def _abs_backward_input(real):
    # d|x|/dx = sign(x), 0 at 0.
    return lambda g, x: g * (real(x > real(0)) - real(x < real(0)))


def abs_backward_input(grad_input, grad_output, input):
    apply(_abs_backward_input, grad_input, grad_output, input)


@pointwise
def _exp(real):
    return lambda x: exp(x)


def exp_forward(out, input):
    apply(_exp, out, input)


@pointwise
def _log(real):
    return lambda x: log(x)


def log_forward(out, input):
    apply(_log, out, input)


@pointwise
def _sqrt(real):
    return lambda x: sqrt(x)


def sqrt_forward(out, input):
    apply(_sqrt, out, input)


@device
def sigmoid(x, one):
    """1/(1 + e^−x) for x ≥ 0, e^x/(1 + e^x) for x < 0: the exponent is never positive, so nothing
    overflows and small results keep their digits. one: of x's type."""
    e = exp(-abs(x))
    return (e if x < 0 else one) / (one + e)


@pointwise
def _sigmoid(real):
    return lambda x: sigmoid(x, real(1))


def sigmoid_forward(out, input):
    apply(_sigmoid, out, input)


@pointwise
def _sigmoid_backward_input(real):
    # y = 1/(1 + e^−x): dy/dx = y·(1 − y).
    return lambda g, y: g * (real(1) - y) * y


def sigmoid_backward_input(grad_input, grad_output, out):
    apply(_sigmoid_backward_input, grad_input, grad_output, out)


@pointwise
def _tanh(real):
    return lambda x: tanh(x)


def tanh_forward(out, input):
    apply(_tanh, out, input)


@pointwise
def _tanh_backward_input(real):
    # y = tanh x: dy/dx = 1 − y².
    return lambda g, y: g * (real(1) - y * y)


def tanh_backward_input(grad_input, grad_output, out):
    apply(_tanh_backward_input, grad_input, grad_output, out)


@pointwise
def _relu(real):
    # NaN stays NaN: it is not less than zero.
    return lambda x: real(0) if x < real(0) else x


def relu_forward(out, input):
    apply(_relu, out, input)


@pointwise
def _relu_backward_input(real):
    # y = max(x, 0): dy/dx = 1 where y > 0, else 0. At x = 0 torch chooses 0.
    return lambda g, y: through_relu(g, y, real(0))


def relu_backward_input(grad_input, grad_output, out):
    apply(_relu_backward_input, grad_input, grad_output, out)


@pointwise
def _clamp(real):
    # A bound of NaN is no bound.
    def clamp(x, low, high):
        raised = low if x < low else x
        return high if raised > high else raised

    return clamp


def clamp_forward(out, input, low, high):
    apply(_clamp, out, input, low, high)


@pointwise
def _clamp_backward_input(real):
    # y = x inside the bounds, constant outside; at a bound torch chooses 0, and so for NaN.
    return lambda g, x, low, high: real(0) if x <= low or x >= high or x != x else g


def clamp_backward_input(grad_input, grad_output, input, low, high):
    apply(_clamp_backward_input, grad_input, grad_output, input, low, high)


# Comparisons and logic ------------------------------------------------------------------------


@pointwise
def _eq(real):
    return lambda left, right: left == right


def eq_forward(out, left, right):
    apply(_eq, out, left, right)


@pointwise
def _ne(real):
    return lambda left, right: left != right


def ne_forward(out, left, right):
    apply(_ne, out, left, right)


@pointwise
def _lt(real):
    return lambda left, right: left < right


def lt_forward(out, left, right):
    apply(_lt, out, left, right)


@pointwise
def _le(real):
    return lambda left, right: left <= right


def le_forward(out, left, right):
    apply(_le, out, left, right)


@pointwise
def _and(real):
    return lambda left, right: left & right


def bitwise_and_forward(out, left, right):
    apply(_and, out, left, right)


@pointwise
def _or(real):
    return lambda left, right: left | right


def bitwise_or_forward(out, left, right):
    apply(_or, out, left, right)


@pointwise
def _xor(real):
    return lambda left, right: left ^ right


def bitwise_xor_forward(out, left, right):
    apply(_xor, out, left, right)


@pointwise
def _where(real):
    return lambda condition, left, right: left if condition else right


def where_forward(out, condition, left, right):
    apply(_where, out, condition, left, right)
