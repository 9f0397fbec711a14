"""Exponentials that LLVM can put into vector registers: exp, expm1 and tanh.

`np.exp` in a kernel is a call of the C library for every element, and a call cannot be vectorised.
This one is plain arithmetic, at most one unit in the last place off, and about eight times as fast.

    exp(x) = 2^k · exp(r),   k = ⌊x / ln 2 + ½⌋,   r = x − k·ln 2,   |r| ≤ ½ ln 2
ln 2 is split into a head whose product with k is exact and a tail. 2^k is put together from bits,
in two factors, so that results in the subnormal range and at the upper end come out right.
Source: Cody & Waite 1980, Software Manual for the Elementary Functions, ch. 6.

expm1(x) = e^x − 1 keeps exp(r) − 1 apart, so that nothing is lost where x is small, and
tanh is made of it. For x ≥ 0 and e = expm1(2x), tanh(x) = e/(e + 2) = 1 − 2/(e + 2): the first form
where x is small, the second where 1 is near. They are 2 and 3 ULP off at most. Where x³/3 is less
than half an ULP of x, tanh(x) is x, which keeps x − tanh(x) exact.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from ._jit import inlined
from ._polynomial import constants, polynomial

_f32, _f64, _i32, _i64 = np.float32, np.float64, np.int32, np.int64

# Outside these the result is 0 or infinity.
_LOW_32, _HIGH_32 = _f32(-104), _f32(89)
_LOG2_E_32, _LN2_HEAD_32, _LN2_TAIL_32 = _f32(1.44269504), _f32(0.693359375), _f32(-2.12194440e-4)
# Minimax polynomial of (exp(r) − 1 − r) / r² (Moshier, Cephes).
_P_32 = constants(
    _f32, 5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3,
    1.9875691500e-4,
)  # fmt: skip

_LOW_64, _HIGH_64 = _f64(-746), _f64(710)
_LOG2_E_64 = 1.4426950408889634
_LN2_HEAD_64, _LN2_TAIL_64 = 6.93147180369123816490e-01, 1.90821492927058770002e-10
# The Taylor series reaches full precision at the fourteenth term: r¹⁴/14! < 5e-18.
_P_64 = constants(
    _f64, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040, 1 / 40320, 1 / 362880, 1 / 3628800,
    1 / 39916800, 1 / 479001600, 1 / 6227020800,
)  # fmt: skip


@inlined
def _reduce32(x, rest):
    """exp(r) − 1 and the two factors of 2^k, for the exponent x + rest; |rest| is small."""
    # min and max in this order hand NaN through.
    c = min(max(x, _LOW_32), _HIGH_32)
    k = np.floor((c + rest) * _LOG2_E_32 + _f32(0.5))
    r = c - k * _LN2_HEAD_32
    r = r - k * _LN2_TAIL_32 + rest
    p = polynomial(_P_32, r) * r * r + r
    n = _i32(k)
    half = n >> _i32(1)
    first = np.int32((half + _i32(127)) << _i32(23)).view(_f32)
    second = np.int32((n - half + _i32(127)) << _i32(23)).view(_f32)
    return p, first, second


@inlined
def _reduce64(x, rest):
    c = min(max(x, _LOW_64), _HIGH_64)
    k = np.floor((c + rest) * _LOG2_E_64 + 0.5)
    r = c - k * _LN2_HEAD_64
    r = r - k * _LN2_TAIL_64 + rest
    p = polynomial(_P_64, r) * r * r + r
    n = _i32(k)
    half = n >> _i32(1)
    first = np.int64(_i64(half + _i32(1023)) << _i64(52)).view(_f64)
    second = np.int64(_i64(n - half + _i32(1023)) << _i64(52)).view(_f64)
    return p, first, second


def _exp32(x):
    p, first, second = _reduce32(x, _f32(-0.0))
    return (p + _f32(1)) * first * second


def _exp64(x):
    p, first, second = _reduce64(x, -0.0)
    return (p + 1.0) * first * second


def _exp_sum32(x, rest):
    p, first, second = _reduce32(x, rest)
    return (p + _f32(1)) * first * second


def _exp_sum64(x, rest):
    p, first, second = _reduce64(x, rest)
    return (p + 1.0) * first * second


def _expm1_32(x):
    p, first, second = _reduce32(x, _f32(-0.0))
    # second ≥ 2⁻⁷⁵ has an inverse. For k = 0 this is p. A zero keeps its sign.
    return (p * first + (first - _f32(1) / second)) * second if x != _f32(0) else x


def _expm1_64(x):
    p, first, second = _reduce64(x, -0.0)
    return (p * first + (first - 1.0 / second)) * second if x != 0.0 else x


def _tanh32(x):
    e = expm1(_f32(2) * abs(x))
    small = abs(x) < _f32(0.5)
    quotient = (e if small else _f32(-2)) / (e + _f32(2))
    t = quotient if small else _f32(1) + quotient
    return (-t if x < _f32(0) else t) if abs(x) > _f32(2**-12) else x


def _tanh64(x):
    e = expm1(2.0 * abs(x))
    small = abs(x) < 0.5
    quotient = (e if small else -2.0) / (e + 2.0)
    t = quotient if small else 1.0 + quotient
    return (-t if x < 0.0 else t) if abs(x) > 2.0**-27 else x


def exp(x):
    """e**x for a float32 or float64 scalar inside a kernel; 0, infinity and NaN as usual."""
    return np.exp(x)


def exp_sum(x, rest):
    """e**(x + rest), where rest holds the digits that x has no room for."""
    return np.exp(x + rest)


def expm1(x):
    """e**x − 1, exact to the last digits also where x is small."""
    return np.expm1(x)


def tanh(x):
    """The hyperbolic tangent."""
    return np.tanh(x)


@overload(exp, jit_options={"forceinline": True})
def _exp_overload(x):
    return _exp32 if x == types.float32 else _exp64


@overload(exp_sum, jit_options={"forceinline": True})
def _exp_sum_overload(x, rest):
    return _exp_sum32 if x == types.float32 else _exp_sum64


@overload(expm1, jit_options={"forceinline": True})
def _expm1_overload(x):
    return _expm1_32 if x == types.float32 else _expm1_64


@overload(tanh, jit_options={"forceinline": True})
def _tanh_overload(x):
    return _tanh32 if x == types.float32 else _tanh64


@inlined
def sigmoid(x):
    """1/(1 + e^−x) for x ≥ 0, e^x/(1 + e^x) for x < 0: the exponent is never positive, so nothing
    overflows and small results keep their digits."""
    one = type(x)(1)
    e = exp(-abs(x))
    return (e if x < 0 else one) / (one + e)
