"""Elementwise operations of two tensors."""

from __future__ import annotations

from numpy import fmod as remainder
from numpy import log, power

from . import pointwise


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
