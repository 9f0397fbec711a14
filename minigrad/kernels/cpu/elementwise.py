"""Elementwise kernels on flat arrays: one pass over memory, vectorised by Numba.

All are parallel over elements; each element has one owner. A scalar operand becomes a plain value
(see _operand.py), for which Numba compiles a second variant. Constants are converted to the array's
dtype, because a float64 literal would take float32 work through float64.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ._exp import exp, tanh
from ._jit import helper, kernel
from ._log import log
from ._operand import at, operand
from ._simd import whole_registers
from .transpose import copy_transposed

# Below this many elements, NumPy's own fill is faster than waking the threads.
_SMALL = 16384


def _as(value, array):
    """`value` as a scalar of the array's dtype."""
    return np.asarray(value).astype(array.dtype)[()]


# Memory -------------------------------------------------------------------------------------


@kernel
def _fill(out, value):
    for i in prange(out.size):
        out[i] = value


def fill(out, value):
    if out.size < _SMALL or not out.flags.c_contiguous:
        out[...] = value
    else:
        _fill(out, _as(value, out))


def copy_strided(out, input):
    if out.dtype == input.dtype:
        if out.size < _SMALL // 4 or not copy_transposed(out, input):
            np.copyto(out, input)
        return
    with np.errstate(all="ignore"):  # numbers that the dtype cannot hold
        if input.dtype.kind == "f" and out.dtype.kind in "iu":
            _copy_whole_parts(out, input)
        else:
            np.copyto(out, input, casting="unsafe")


def _copy_whole_parts(out, input):
    """Integers of floats, in pieces that stay in the cache, by way of int64. What that cannot hold
    becomes −2⁶³: processors do not agree about it."""
    pieces = np.nditer(
        [out, input], ["external_loop", "buffered", "zerosize_ok"], [["writeonly"], ["readonly"]],
        [np.int64, input.dtype], casting="unsafe",
    )  # fmt: skip
    with pieces:
        for whole, piece in pieces:
            np.copyto(whole, piece, casting="unsafe")
            whole[~((piece >= -(2.0**63)) & (piece < 2.0**63))] = -(2**63)


# Arithmetic ---------------------------------------------------------------------------------


@kernel
def _add(out, left, right, alpha):
    for i in prange(out.size):
        out[i] = at(left, i) + alpha * at(right, i)


def add_forward(out, left, right, alpha):
    _add(out, operand(left), operand(right), _as(alpha, out))


@kernel
def _mul(out, left, right):
    for i in prange(out.size):
        out[i] = at(left, i) * at(right, i)


def mul_forward(out, left, right):
    _mul(out, operand(left), operand(right))


@kernel
def _div(out, left, right):
    for i in prange(out.size):
        out[i] = at(left, i) / at(right, i)


def div_forward(out, left, right):
    _div(out, operand(left), operand(right))


@kernel
def _div_backward_right(grad_right, grad_output, out, right):
    # y = a / b: dy/db = −a / b² = −y / b.
    for i in prange(grad_right.size):
        grad_right[i] = -at(grad_output, i) * at(out, i) / at(right, i)


def div_backward_right(grad_right, grad_output, out, right):
    _div_backward_right(grad_right, operand(grad_output), operand(out), operand(right))


@kernel
def _pow(out, left, right):
    for i in prange(out.size):
        out[i] = at(left, i) ** at(right, i)


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


@kernel
def _integer_pow(out, left, right):
    for i in prange(out.size):
        out[i] = _integer_power(np.int64(at(left, i)), np.int64(at(right, i)))


def pow_forward(out, left, right):
    power = _pow if out.dtype.kind == "f" else _integer_pow
    power(out, operand(left), operand(right))


@kernel
def _pow_backward_left(grad_left, grad_output, left, right):
    # y = a^b: dy/da = b·a^(b − 1), which is 0 for b = 0, also where a^(−1) is infinite.
    zero, one = grad_left.dtype.type(0), grad_left.dtype.type(1)
    for i in prange(grad_left.size):
        a, b = at(left, i), at(right, i)
        grad_left[i] = zero if b == zero else at(grad_output, i) * (b * a ** (b - one))


def pow_backward_left(grad_left, grad_output, left, right):
    _pow_backward_left(grad_left, operand(grad_output), operand(left), operand(right))


@kernel
def _pow_backward_right(grad_right, grad_output, left, right):
    # y = a^b: dy/db = a^b·ln a, which is 0 at a = 0 as long as a^b is finite, so for b ≥ 0.
    zero = grad_right.dtype.type(0)
    for i in prange(grad_right.size):
        a, b = at(left, i), at(right, i)
        if a == zero and b >= zero:
            grad_right[i] = zero
        else:
            grad_right[i] = at(grad_output, i) * (a**b * log(a))


def pow_backward_right(grad_right, grad_output, left, right):
    _pow_backward_right(grad_right, operand(grad_output), operand(left), operand(right))


@kernel
def _maximum(out, left, right):
    # A NaN on the left fails every comparison but `a != a`; one on the right is the other branch.
    for i in prange(out.size):
        a, b = at(left, i), at(right, i)
        out[i] = a if a > b or a != a else b


def maximum_forward(out, left, right):
    _maximum(out, operand(left), operand(right))


@kernel
def _minimum(out, left, right):
    for i in prange(out.size):
        a, b = at(left, i), at(right, i)
        out[i] = a if a < b or a != a else b


def minimum_forward(out, left, right):
    _minimum(out, operand(left), operand(right))


@kernel
def _winner_backward(grad_input, grad_output, larger, smaller):
    # d max(a, b)/da = 1 where a > b, ½ at a tie, 0 where a < b. A NaN leaves the gradient whole.
    zero, half = grad_input.dtype.type(0), grad_input.dtype.type(0.5)
    for i in prange(grad_input.size):
        a, b, g = at(larger, i), at(smaller, i), at(grad_output, i)
        grad_input[i] = zero if a < b else half * g if a == b else g


def winner_backward(grad_input, grad_output, larger, smaller):
    _winner_backward(grad_input, operand(grad_output), operand(larger), operand(smaller))


# Functions of one value -----------------------------------------------------------------------


@kernel
def abs_forward(out, input):
    for i in prange(out.size):
        out[i] = abs(input[i])


@helper
def _sign(x):
    return int(x > 0) - int(x < 0)


@kernel
def sign_forward(out, input):
    for i in prange(out.size):
        out[i] = _sign(input[i])


@kernel
def _abs_backward_input(grad_input, grad_output, input):
    # d|x|/dx = sign(x), 0 at 0.
    for i in prange(grad_input.size):
        grad_input[i] = at(grad_output, i) * grad_input.dtype.type(_sign(input[i]))


def abs_backward_input(grad_input, grad_output, input):
    _abs_backward_input(grad_input, operand(grad_output), input)


@kernel
def exp_forward(out, input):
    for i in prange(out.size):
        whole_registers()
        out[i] = exp(input[i])


@kernel
def log_forward(out, input):
    for i in prange(out.size):
        whole_registers()
        out[i] = log(input[i])


@kernel
def sqrt_forward(out, input):
    for i in prange(out.size):
        whole_registers()
        out[i] = np.sqrt(input[i])


@kernel
def sigmoid_forward(out, input):
    # 1/(1 + e^−x) for x ≥ 0, e^x/(1 + e^x) for x < 0: the exponent is never positive, so nothing
    # overflows and small results keep their digits.
    one = out.dtype.type(1)
    for i in prange(out.size):
        whole_registers()
        x = input[i]
        e = exp(-abs(x))
        out[i] = (e if x < 0 else one) / (one + e)


@kernel
def _sigmoid_backward_input(grad_input, grad_output, out):
    # y = 1/(1 + e^−x): dy/dx = y·(1 − y).
    one = out.dtype.type(1)
    for i in prange(grad_input.size):
        grad_input[i] = at(grad_output, i) * (one - out[i]) * out[i]


def sigmoid_backward_input(grad_input, grad_output, out):
    _sigmoid_backward_input(grad_input, operand(grad_output), out)


@kernel
def tanh_forward(out, input):
    for i in prange(out.size):
        whole_registers()
        out[i] = tanh(input[i])


@kernel
def _tanh_backward_input(grad_input, grad_output, out):
    # y = tanh x: dy/dx = 1 − y².
    one = out.dtype.type(1)
    for i in prange(grad_input.size):
        grad_input[i] = at(grad_output, i) * (one - out[i] * out[i])


def tanh_backward_input(grad_input, grad_output, out):
    _tanh_backward_input(grad_input, operand(grad_output), out)


@kernel
def relu_forward(out, input):
    # NaN stays NaN: it is not less than zero.
    zero = out.dtype.type(0)
    for i in prange(out.size):
        out[i] = zero if input[i] < zero else input[i]


@kernel
def _relu_backward_input(grad_input, grad_output, out):
    # y = max(x, 0): dy/dx = 1 where y > 0, else 0. At x = 0 torch chooses 0.
    zero = out.dtype.type(0)
    for i in prange(grad_input.size):
        grad_input[i] = zero if out[i] <= zero else at(grad_output, i)


def relu_backward_input(grad_input, grad_output, out):
    _relu_backward_input(grad_input, operand(grad_output), out)


@kernel
def _clamp(out, input, low, high):
    # A bound of NaN is no bound.
    for i in prange(out.size):
        x = input[i]
        x = low if x < low else x
        out[i] = high if x > high else x


def clamp_forward(out, input, low, high):
    _clamp(out, input, _as(low, out), _as(high, out))


@kernel
def _clamp_backward_input(grad_input, grad_output, input, low, high):
    # y = x inside the bounds, constant outside; at a bound torch chooses 0, and so for NaN.
    zero = grad_input.dtype.type(0)
    for i in prange(grad_input.size):
        x = input[i]
        grad_input[i] = zero if x <= low or x >= high or x != x else at(grad_output, i)


def clamp_backward_input(grad_input, grad_output, input, low, high):
    _clamp_backward_input(
        grad_input, operand(grad_output), input, _as(low, input), _as(high, input)
    )


# Comparisons and logic ------------------------------------------------------------------------


@kernel
def _eq(out, left, right):
    for i in prange(out.size):
        out[i] = at(left, i) == at(right, i)


def eq_forward(out, left, right):
    _eq(out, operand(left), operand(right))


@kernel
def _ne(out, left, right):
    for i in prange(out.size):
        out[i] = at(left, i) != at(right, i)


def ne_forward(out, left, right):
    _ne(out, operand(left), operand(right))


@kernel
def _lt(out, left, right):
    for i in prange(out.size):
        out[i] = at(left, i) < at(right, i)


def lt_forward(out, left, right):
    _lt(out, operand(left), operand(right))


@kernel
def _le(out, left, right):
    for i in prange(out.size):
        out[i] = at(left, i) <= at(right, i)


def le_forward(out, left, right):
    _le(out, operand(left), operand(right))


@kernel
def _and(out, left, right):
    for i in prange(out.size):
        out[i] = at(left, i) & at(right, i)


def bitwise_and_forward(out, left, right):
    _and(out, operand(left), operand(right))


@kernel
def _or(out, left, right):
    for i in prange(out.size):
        out[i] = at(left, i) | at(right, i)


def bitwise_or_forward(out, left, right):
    _or(out, operand(left), operand(right))


@kernel
def _xor(out, left, right):
    for i in prange(out.size):
        out[i] = at(left, i) ^ at(right, i)


def bitwise_xor_forward(out, left, right):
    _xor(out, operand(left), operand(right))


@kernel
def _where(out, condition, left, right):
    for i in prange(out.size):
        out[i] = at(left, i) if at(condition, i) else at(right, i)


def where_forward(out, condition, left, right):
    _where(out, operand(condition), operand(left), operand(right))
