"""Elementwise operations, one element at a time.

Arrays are flat unless said otherwise. Division by zero, overflow and NaN follow IEEE 754 silently,
which is what `errstate` asks of NumPy's scalars.
"""

from __future__ import annotations

import numpy as np

_ieee = np.errstate(all="ignore")


@_ieee
def fill(out, value):
    """out[i] = value"""
    for i in range(out.size):
        out[i] = value


@_ieee
def copy_strided(out, input):
    """out[index] = input[index], converted to out's dtype. Any shape.

    The int64 of a float is its whole part; of NaN, and of what does not fit, it is −2⁶³, as on x86.
    A uint8 is the lowest byte of the int64.
    """
    for index in np.ndindex(out.shape):
        value = input[index]
        if input.dtype.kind == "f" and out.dtype.kind in "iu":
            value = np.int64(value if -(2.0**63) <= value < 2.0**63 else -(2.0**63))
        out[index] = value.astype(out.dtype)


# Arithmetic ---------------------------------------------------------------------------------


@_ieee
def add_forward(out, left, right, alpha):
    """out[i] = left[i] + alpha · right[i]"""
    alpha = np.asarray(alpha).astype(out.dtype)[()]
    for i in range(out.size):
        out[i] = left[i] + alpha * right[i]


@_ieee
def mul_forward(out, left, right):
    """out[i] = left[i] · right[i]"""
    for i in range(out.size):
        out[i] = left[i] * right[i]


@_ieee
def div_forward(out, left, right):
    """out[i] = left[i] / right[i]"""
    for i in range(out.size):
        out[i] = left[i] / right[i]


@_ieee
def div_backward_right(grad_right, grad_output, out, right):
    """∂(a/b)/∂b = −a/b² = −out/b"""
    for i in range(grad_right.size):
        grad_right[i] = -grad_output[i] * out[i] / right[i]


@_ieee
def pow_forward(out, left, right):
    """out[i] = left[i]^right[i]; integers truncate a quotient (negative exponent) towards 0."""
    for i in range(out.size):
        if out.dtype.kind == "f":
            out[i] = left[i] ** right[i]
        elif right[i] >= 0:
            out[i] = np.int64(left[i]) ** np.int64(right[i])
        else:
            out[i] = left[i] ** (-right[i] % 2) if abs(left[i]) == 1 else 0


@_ieee
def pow_backward_left(grad_left, grad_output, left, right):
    """∂a^b/∂a = b·a^(b − 1), 0 for b = 0"""
    for i in range(grad_left.size):
        a, b = left[i], right[i]
        grad_left[i] = 0 if b == 0 else grad_output[i] * (b * a ** (b - 1))


@_ieee
def pow_backward_right(grad_right, grad_output, left, right):
    """∂a^b/∂b = a^b · ln a, 0 at a = 0 for b ≥ 0"""
    for i in range(grad_right.size):
        a, b = left[i], right[i]
        grad_right[i] = 0 if a == 0 and b >= 0 else grad_output[i] * (a**b * np.log(a))


def maximum_forward(out, left, right):
    """out[i] = max(left[i], right[i]); NaN wins."""
    for i in range(out.size):
        out[i] = left[i] if left[i] > right[i] or left[i] != left[i] else right[i]


def minimum_forward(out, left, right):
    """out[i] = min(left[i], right[i]); NaN wins."""
    for i in range(out.size):
        out[i] = left[i] if left[i] < right[i] or left[i] != left[i] else right[i]


@_ieee
def winner_backward(grad_input, grad_output, larger, smaller):
    """∂max(a, b)/∂a = 1 where a > b, ½ where a = b, 0 where a < b; 1 where one is NaN"""
    for i in range(grad_input.size):
        if larger[i] < smaller[i]:
            grad_input[i] = 0
        elif larger[i] == smaller[i]:
            grad_input[i] = grad_output[i] / 2
        else:
            grad_input[i] = grad_output[i]


# Functions of one value -----------------------------------------------------------------------


@_ieee
def abs_forward(out, input):
    """out[i] = |input[i]|"""
    for i in range(out.size):
        out[i] = abs(input[i])


def _sign(x):
    return int(x > 0) - int(x < 0)


def sign_forward(out, input):
    """out[i] = 1, −1 or 0 (also for NaN)"""
    for i in range(out.size):
        out[i] = _sign(input[i])


@_ieee
def abs_backward_input(grad_input, grad_output, input):
    """∂|x|/∂x = sign(x)"""
    for i in range(grad_input.size):
        grad_input[i] = grad_output[i] * _sign(input[i])


@_ieee
def exp_forward(out, input):
    """out[i] = e^input[i]"""
    for i in range(out.size):
        out[i] = np.exp(input[i])


@_ieee
def log_forward(out, input):
    """out[i] = ln input[i]"""
    for i in range(out.size):
        out[i] = np.log(input[i])


@_ieee
def sqrt_forward(out, input):
    """out[i] = √input[i]"""
    for i in range(out.size):
        out[i] = np.sqrt(input[i])


@_ieee
def sigmoid_forward(out, input):
    """out[i] = 1 / (1 + e^−x), written as e^x / (1 + e^x) for x < 0 so that e^−x cannot overflow"""
    for i in range(out.size):
        x = input[i]
        out[i] = np.exp(x) / (1 + np.exp(x)) if x < 0 else 1 / (1 + np.exp(-x))


@_ieee
def sigmoid_backward_input(grad_input, grad_output, out):
    """∂y/∂x = y·(1 − y)"""
    for i in range(grad_input.size):
        grad_input[i] = grad_output[i] * (1 - out[i]) * out[i]


@_ieee
def tanh_forward(out, input):
    """out[i] = tanh input[i]"""
    for i in range(out.size):
        out[i] = np.tanh(input[i])


@_ieee
def tanh_backward_input(grad_input, grad_output, out):
    """∂y/∂x = 1 − y²"""
    for i in range(grad_input.size):
        grad_input[i] = grad_output[i] * (1 - out[i] ** 2)


def relu_forward(out, input):
    """out[i] = max(input[i], 0); NaN stays NaN."""
    for i in range(out.size):
        out[i] = 0 if input[i] < 0 else input[i]


def relu_backward_input(grad_input, grad_output, out):
    """grad_input[i] = grad_output[i] if out[i] > 0 else 0"""
    for i in range(grad_input.size):
        grad_input[i] = 0 if out[i] <= 0 else grad_output[i]


def clamp_forward(out, input, low, high):
    """out[i] = min(max(input[i], low), high); NaN stays NaN, and a bound of NaN is no bound."""
    for i in range(out.size):
        x = low if input[i] < low else input[i]
        out[i] = high if x > high else x


def clamp_backward_input(grad_input, grad_output, input, low, high):
    """grad_output[i] where low < input[i] < high, else 0; a bound of NaN is no bound"""
    for i in range(grad_input.size):
        x = input[i]
        grad_input[i] = 0 if x <= low or x >= high or x != x else grad_output[i]


# Comparisons and logic ------------------------------------------------------------------------


def eq_forward(out, left, right):
    """out[i] = left[i] == right[i]"""
    for i in range(out.size):
        out[i] = left[i] == right[i]


def ne_forward(out, left, right):
    """out[i] = left[i] ≠ right[i]"""
    for i in range(out.size):
        out[i] = left[i] != right[i]


def lt_forward(out, left, right):
    """out[i] = left[i] < right[i]"""
    for i in range(out.size):
        out[i] = left[i] < right[i]


def le_forward(out, left, right):
    """out[i] = left[i] ≤ right[i]"""
    for i in range(out.size):
        out[i] = left[i] <= right[i]


def bitwise_and_forward(out, left, right):
    """out[i] = left[i] AND right[i], bit by bit"""
    for i in range(out.size):
        out[i] = left[i] & right[i]


def bitwise_or_forward(out, left, right):
    """out[i] = left[i] OR right[i], bit by bit"""
    for i in range(out.size):
        out[i] = left[i] | right[i]


def bitwise_xor_forward(out, left, right):
    """out[i] = left[i] XOR right[i], bit by bit"""
    for i in range(out.size):
        out[i] = left[i] ^ right[i]


def where_forward(out, condition, left, right):
    """out[i] = left[i] if condition[i] else right[i]"""
    for i in range(out.size):
        out[i] = left[i] if condition[i] else right[i]
