"""Elementwise operations by their formulas: see _map.py for the loop around them.

Copies between any strides are in _copy.py.
"""

from __future__ import annotations

import numpy as np

from ._copy import copy
from ._device import cuda, log, power, remainder
from ._launch import kernel, launch, over
from ._map import pointwise, scalar, step
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
def _add(left, right, alpha):
    return left + alpha * right


@pointwise
def _add_bools(left, right, alpha):
    # A sum of bools is their OR, as a product is their AND.
    return left | right if alpha else left


def add_forward(out, left, right, alpha):
    (_add_bools if out.dtype.kind == "b" else _add)(out, left, right, alpha)


@pointwise
def mul_forward(left, right):
    return left * right


@pointwise
def div_forward(left, right):
    return left / right


@pointwise
def div_backward_right(grad_output, out, right):
    # y = a / b: dy/db = −a / b² = −y / b.
    return -grad_output * out / right


@pointwise
def _pow(left, right):
    return power(left, right)


@pointwise
def _integer_pow(left, right):
    """left^right by squaring; for a negative exponent the integer part of the quotient."""
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


def pow_forward(out, left, right):
    (_pow if out.dtype.kind == "f" else _integer_pow)(out, left, right)


@pointwise
def pow_backward_left(grad_output, left, right):
    # y = a^b: dy/da = b·a^(b − 1), which is 0 for b = 0, also where a^(−1) is infinite.
    zero, one = type(left)(0), type(left)(1)
    return zero if right == zero else grad_output * (right * power(left, right - one))


@pointwise
def pow_backward_right(grad_output, left, right):
    # y = a^b: dy/db = a^b·ln a, which is 0 at a = 0 as long as a^b is finite, so for b ≥ 0.
    zero = type(left)(0)
    if left == zero and right >= zero:
        return zero
    return grad_output * (power(left, right) * log(left))


@pointwise
def fmod_forward(left, right):
    return remainder(left, right)


@pointwise
def maximum_forward(left, right):
    # A NaN on the left fails every comparison but the last; one on the right is the other branch.
    return left if left > right or left != left else right


@pointwise
def minimum_forward(left, right):
    return left if left < right or left != left else right


@pointwise
def winner_backward(grad_output, larger, smaller):
    # d max(a, b)/da = 1 where a > b, ½ at a tie, 0 where a < b. A NaN leaves the gradient whole.
    zero, half = type(larger)(0), type(larger)(0.5)
    tied = half * grad_output if larger == smaller else grad_output
    return zero if larger < smaller else tied


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
