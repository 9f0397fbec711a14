"""Elementwise operations: the formulas of compiled/elementwise.py, sums, powers and copies."""

from __future__ import annotations

import numpy as np

from ..compiled import elementwise
from ._jit import helper
from ._map import launchers, pointwise
from .transpose import copy_transposed

globals().update(launchers(elementwise))

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
