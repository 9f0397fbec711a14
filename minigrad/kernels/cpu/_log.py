"""Logarithms that LLVM can put into vector registers: see _exp.py for why. At most 2 ULP off.

    x = 2^k · m,  √½ ≤ m < √2,   ln x = k·ln 2 + ln(1 + f),  f = m − 1
    ln(1 + f) = 2·artanh(s) = f − f²/2 + s·(f²/2 + R(s²)),  s = f / (2 + f)
m and k are cut out of the bits of x. ln(1 + x) does the same to u = 1 + x, and makes good what the
addition rounded off, c = x − (u − 1), by adding c / u ≈ ln(u + c) − ln u.
Source: Ng 1993, Sun's fdlibm, e_log.c and s_log1p.c.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from ._jit import inlined
from ._polynomial import constants, polynomial

_f32, _f64, _i32, _i64 = np.float32, np.float64, np.int32, np.int64

_LN2_HEAD_32, _LN2_TAIL_32 = _f32(6.9313812256e-01), _f32(9.0580006145e-06)
_R_32 = constants(_f32, 0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841)
_LN2_HEAD_64, _LN2_TAIL_64 = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_R_64 = constants(
    _f64,
    6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01,
    2.222219843214978396e-01, 1.818357216161805012e-01, 1.531383769920937332e-01,
    1.479819860511658591e-01,
)  # fmt: skip

# Bits of √½, of what lies between it and 1, of a mantissa; a factor that makes normal numbers of
# the subnormal ones, and what it adds to k.
_ROOT_32, _GAP_32, _MANTISSA_32 = _i32(0x3F3504F3), _i32(0x3F800000 - 0x3F3504F3), _i32(0x7FFFFF)
_NORMAL_32, _LIFT_32, _LIFT_BITS_32 = _f32(2.0**-126), _f32(2.0**25), _f32(25)
_ROOT_64, _GAP_64 = _i64(0x3FE6A09E << 32), _i64((0x3FF00000 - 0x3FE6A09E) << 32)
_MANTISSA_64 = _i64((1 << 52) - 1)
_NORMAL_64, _LIFT_64, _LIFT_BITS_64 = 2.0**-1022, 2.0**54, 54.0


@inlined
def _split32(x):
    """k and f of a positive number that is not subnormal."""
    bits = np.int32(_f32(x).view(_i32) + _GAP_32)
    k = _f32(np.int32((bits >> _i32(23)) - _i32(127)))
    return k, np.int32((bits & _MANTISSA_32) + _ROOT_32).view(_f32) - _f32(1)


@inlined
def _split64(x):
    bits = np.int64(_f64(x).view(_i64) + _GAP_64)
    k = _f64(np.int32((bits >> _i64(52)) - _i64(1023)))
    return k, np.int64((bits & _MANTISSA_64) + _ROOT_64).view(_f64) - 1.0


@inlined
def _join32(k, f, c):
    """k·ln 2 + ln(1 + f) + c."""
    s = f / (_f32(2) + f)
    half = _f32(0.5) * f * f
    series = s * (half + s * s * polynomial(_R_32, s * s))
    return series + (k * _LN2_TAIL_32 + c) - half + f + k * _LN2_HEAD_32


@inlined
def _join64(k, f, c):
    s = f / (2.0 + f)
    half = 0.5 * f * f
    series = s * (half + s * s * polynomial(_R_64, s * s))
    return series + (k * _LN2_TAIL_64 + c) - half + f + k * _LN2_HEAD_64


def _log32(x):
    small = x < _NORMAL_32
    k, f = _split32(x * _LIFT_32 if small else x)
    result = _join32(k - _LIFT_BITS_32 if small else k, f, _f32(0))
    result = result if x < _f32(np.inf) else x
    return result if x > _f32(0) else _f32(-np.inf) if x == _f32(0) else _f32(np.nan)


def _log64(x):
    small = x < _NORMAL_64
    k, f = _split64(x * _LIFT_64 if small else x)
    result = _join64(k - _LIFT_BITS_64 if small else k, f, 0.0)
    result = result if x < np.inf else x
    return result if x > 0.0 else -np.inf if x == 0.0 else np.nan


def _log1p32(x):
    u = _f32(1) + x
    k, f = _split32(u)
    c = _f32(1) - (u - x) if u > _f32(2) else x - (u - _f32(1))
    result = _join32(k, f, c / u)
    result = result if x < _f32(np.inf) and x != _f32(0) else x
    return result if u > _f32(0) else _f32(-np.inf) if u == _f32(0) else _f32(np.nan)


def _log1p64(x):
    u = 1.0 + x
    k, f = _split64(u)
    c = 1.0 - (u - x) if u > 2.0 else x - (u - 1.0)
    result = _join64(k, f, c / u)
    result = result if x < np.inf and x != 0.0 else x
    return result if u > 0.0 else -np.inf if u == 0.0 else np.nan


def log(x):
    """ln x for a float32 or float64 scalar inside a kernel; −∞ at 0, NaN below."""
    return np.log(x)


def log1p(x):
    """ln(1 + x), exact to the last digits also where x is small."""
    return np.log1p(x)


@overload(log, jit_options={"forceinline": True})
def _log_overload(x):
    return _log32 if x == types.float32 else _log64


@overload(log1p, jit_options={"forceinline": True})
def _log1p_overload(x):
    return _log1p32 if x == types.float32 else _log1p64
