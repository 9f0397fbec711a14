"""Elementwise operations by their formulas: see _map.py for the loop around them."""

from __future__ import annotations

import numpy as np

from ._map import pointwise


def fill(out, value):
    """out[i] = value"""
    for i in range(out.size):
        out[i] = value


@np.errstate(all="ignore")
def copy_strided(out, input):
    """out[index] = input[index], converted to out's dtype. Any shape.

    The int64 of a float is its whole part; of NaN, and of what does not fit, it is −2⁶³, as on x86,
    and −2³¹ for int32. Smaller integers are the lowest bytes of the int64.
    """
    limit = 2.0**31 if out.dtype == np.int32 else 2.0**63
    whole = input.dtype.kind == "f" and out.dtype.kind in "iu"
    for index in np.ndindex(out.shape):
        value = input[index]
        if whole:
            value = np.int64(value if -limit <= value < limit else -limit)
        out[index] = value.astype(out.dtype)


# Arithmetic ---------------------------------------------------------------------------------


@pointwise
def add_forward(left, right, alpha):
    return left + alpha * right


@pointwise
def mul_forward(left, right):
    return left * right


@pointwise
def div_forward(left, right):
    return left / right


@pointwise
def div_backward_right(grad_output, out, right):
    """∂(a/b)/∂b = −a/b² = −out/b"""
    return -grad_output * out / right


@pointwise
def pow_forward(left, right):
    """left^right; integers truncate a quotient (negative exponent) towards 0"""
    if left.dtype.kind == "f":
        return left**right
    if right >= 0:
        return np.int64(left) ** np.int64(right)
    return left ** (-right % 2) if abs(left) == 1 else 0


@pointwise
def pow_backward_left(grad_output, left, right):
    """∂a^b/∂a = b·a^(b − 1), 0 for b = 0"""
    return 0 if right == 0 else grad_output * (right * left ** (right - 1))


@pointwise
def pow_backward_right(grad_output, left, right):
    """∂a^b/∂b = a^b · ln a, 0 at a = 0 for b ≥ 0"""
    return 0 if left == 0 and right >= 0 else grad_output * (left**right * np.log(left))


@pointwise
def fmod_forward(left, right):
    """left − n·right, n the integer part of the exact quotient"""
    return np.fmod(left, right)


@pointwise
def maximum_forward(left, right):
    """max(left, right); NaN wins"""
    return left if left > right or left != left else right


@pointwise
def minimum_forward(left, right):
    """min(left, right); NaN wins"""
    return left if left < right or left != left else right


@pointwise
def winner_backward(grad_output, larger, smaller):
    """∂max(a, b)/∂a = 1 where a > b, ½ where a = b, 0 where a < b; 1 where one is NaN"""
    if larger < smaller:
        return 0
    return grad_output / 2 if larger == smaller else grad_output


# Comparisons and logic ------------------------------------------------------------------------


@pointwise
def eq_forward(left, right):
    return left == right


@pointwise
def ne_forward(left, right):
    return left != right


@pointwise
def lt_forward(left, right):
    return left < right


@pointwise
def le_forward(left, right):
    return left <= right


@pointwise
def bitwise_and_forward(left, right):
    return left & right


@pointwise
def bitwise_or_forward(left, right):
    return left | right


@pointwise
def bitwise_xor_forward(left, right):
    return left ^ right


@pointwise
def where_forward(condition, left, right):
    return left if condition else right
