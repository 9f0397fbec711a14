"""Elementwise operations by their formulas, and copies: see _map.py for the loop around them."""

from __future__ import annotations

import numpy as np

from ._jit import helper
from ._log import log
from ._map import pointwise
from .transpose import copy_transposed

# Below this many elements, NumPy's own copy is as fast as ours.
_SMALL = 4096


# Memory -------------------------------------------------------------------------------------


def fill(out, value):
    out[...] = value


def copy_strided(out, input):
    if out.dtype == input.dtype:
        if out.size < _SMALL or not copy_transposed(out, input):
            np.copyto(out, input)
        return
    with np.errstate(all="ignore"):  # numbers that the dtype cannot hold
        if input.dtype.kind == "f" and out.dtype.kind in "iu":
            _copy_whole_parts(out, input)
        else:
            np.copyto(out, input, casting="unsafe")


def _copy_whole_parts(out, input):
    """Integers of floats, in pieces that stay in the cache, by way of int64. What that cannot hold
    becomes −2⁶³, and −2³¹ for int32: processors do not agree about it."""
    limit = 2**31 if out.dtype == np.int32 else 2**63
    pieces = np.nditer(
        [out, input], ["external_loop", "buffered", "zerosize_ok"], [["writeonly"], ["readonly"]],
        [np.int64, input.dtype], casting="unsafe",
    )  # fmt: skip
    with pieces:
        for whole, piece in pieces:
            np.copyto(whole, piece, casting="unsafe")
            whole[~((piece >= -limit) & (piece < limit))] = -limit


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
    # y = a / b: dy/db = −a / b² = −y / b.
    return -grad_output * out / right


@helper
def _integer_power(base, exponent):
    """base^exponent; for a negative exponent the integer part of the quotient."""
    if exponent < 0:
        sign = -1 if exponent % 2 else 1
        return 1 if base == 1 else sign if base == -1 else 0
    result = 1
    while exponent > 0:
        if exponent % 2:
            result *= base
        base *= base
        exponent //= 2
    return result


@pointwise
def _pow(left, right):
    return left**right


@pointwise
def _integer_pow(left, right):
    return _integer_power(np.int64(left), np.int64(right))


def pow_forward(out, left, right):
    (_pow if out.dtype.kind == "f" else _integer_pow)(out, left, right)


@pointwise
def pow_backward_left(grad_output, left, right):
    # y = a^b: dy/da = b·a^(b − 1), which is 0 for b = 0, also where a^(−1) is infinite.
    zero, one = type(left)(0), type(left)(1)
    return zero if right == zero else grad_output * (right * left ** (right - one))


@pointwise
def pow_backward_right(grad_output, left, right):
    # y = a^b: dy/db = a^b·ln a, which is 0 at a = 0 as long as a^b is finite, so for b ≥ 0.
    zero = type(left)(0)
    if left == zero and right >= zero:
        return zero
    return grad_output * (left**right * log(left))


@pointwise
def fmod_forward(left, right):
    return np.fmod(left, right)


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
