"""The error function, its complement and the normal distribution: see _exp.py for why.

For a = |x|, t = 1 / (a + K) and s = 1 − 2K·t, which maps all a ≥ 0 into [−1, 1):
    erfc(a) = e^(−a²) · F(s) · t,   F(s) = (a + K)·e^(a²)·erfc(a), smooth: a polynomial.
a² has twice as many digits as a number holds, so it is split: a² = h² + (a − h)(a + h), h the upper
half of a's digits, whose square is exact. Near 0, erf(x) = x·E(x²), with another polynomial. The
polynomials interpolate at Chebyshev's points. erfc is at most 8 ULP off, erf 3.

The normal distribution's tail Q(u) = erfc(u/√2)/2, u = |x|, is made without rounding u/√2, which
would cost 100 ULP far out: u² = e + (u² − e), e the rounded square, and the rest is what a fused
multiply-add leaves of it. float32 has its own polynomial, of t = 1/(u + 3) itself, and an e^(−u²/2)
that need not serve other arguments: Q is at most 4 ULP off.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from ._exp import exp_sum
from ._jit import inlined
from ._polynomial import constants, polynomial

_f32, _f64, _i32, _i64 = np.float32, np.float64, np.int32, np.int64

# erfc is 0 from _END on. Below _NEAR erf has its own polynomial.
_END_32, _END_64, _NEAR = _f32(10.2), 27.4, 0.85
_UPPER_32, _UPPER_64 = _i32(-(1 << 12)), _i64(-(1 << 27))

_K_32, _K_64 = _f32(3), 4.0
_F_32 = constants(
    _f32, 1.07400691, -0.883394461, 0.590228425, -0.310466608, 0.119527222, -0.0268366764,
    -1.21696444e-3, 3.07808344e-3, -4.9907124e-4, -3.33824523e-4,
)  # fmt: skip
_F_64 = constants(
    _f64, 1.0959956610004911, -0.97654872908088212, 0.77320870226523757, -0.54085383131322087,
    0.33085158787798144, -0.17401093724042113, 0.076381514910031865, -0.02637005333259295,
    6.1120556474577692e-3, -2.8095893389232165e-4, -4.5505263319824668e-4,
    1.7681318676550248e-4, -3.6353475616702569e-6, -1.8862142713143609e-5,
    4.6947477298983207e-6, 1.4269165175648341e-6, -8.4647778423561035e-7,
    -7.9153436712943423e-8, 1.2410344017656976e-7, 3.5552403768999815e-9,
    -1.5227620695619131e-8, -7.0988623893647018e-10, 8.8527297268815402e-10,
)  # fmt: skip
_E_32 = constants(
    _f32, 1.12837916, -0.376125748, 0.112827491, -0.0268037567, 5.05298519e-3, -6.32550161e-4
)
_E_64 = constants(
    _f64, 1.1283791670955126, -0.37612638903183346, 0.11283791670932595, -0.026866170640255645,
    5.2239775712698197e-3, -8.5483235066777634e-4, 1.2055190337021296e-4, -1.4921921653420798e-5,
    1.6399123262977373e-6, -1.5697115571004142e-7, 1.0675693706713948e-8,
)  # fmt: skip


# The normal distribution in float32: 2³²·e^(r/2) for |r| ≤ ln 2, and (u + 3)·e^(u²/2)·Q(u) / 2³².
# So e^(−u²/2) is never subnormal while its exponent is put together.
_NORMAL_END_32, _NORMAL_K_32 = _f32(14.5), _f32(3)
_HALF_EXP_32 = constants(_f32, *(
    c * 2.0**32
    for c in (1, 0.5, 0.12499998, 0.020833014, 0.002604268, 2.617389e-4, 2.16184e-5)
))  # fmt: skip
_NORMAL_32 = constants(_f32, *(
    c * 2.0**-32 for c in (
        0.398869345, 1.20191783, 3.04117276, 9.6402589, -12.4301874, 157.176691, -586.645284,
        840.320072, -441.751567,
    )
))  # fmt: skip
_STEPS_32, _STEP_HEAD_32, _STEP_TAIL_32 = constants(
    _f32, -0.5 / math.log(2), -2 * 0.693359375, 2 * 2.12194440e-4
)
_DENSITY, _DENSITY_32 = constants(
    _f64, 1 / math.sqrt(2 * math.pi), 2.0**-32 / math.sqrt(2 * math.pi)
)
_DENSITY_32, _SQRT_HALF = _f32(_DENSITY_32), math.sqrt(0.5)


@intrinsic
def _fma(typing_context, a, b, c):
    """a·b + c, rounded once."""

    def codegen(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return a(a, b, c), codegen


def _normal_tail32(x):
    u = min(abs(x), _NORMAL_END_32)
    square = u * u
    # −u²/2 = k·ln 2 + r/2; k is the integer next to it.
    n = _i32(_fma(square, _STEPS_32, _f32(-0.5)))
    k = _f32(n)
    r = _fma(k, _STEP_TAIL_32, _fma(k, _STEP_HEAD_32, -square)) - _fma(u, u, -square)
    mantissa = _f32(polynomial(_HALF_EXP_32, r)).view(_i32)
    gauss = np.int32(mantissa + (n << _i32(23))).view(_f32)
    t = _f32(1) / (u + _NORMAL_K_32)
    # NaN is lost where bits are added.
    density = gauss * _DENSITY_32 if x == x else x
    return gauss * (polynomial(_NORMAL_32, t) * t), density


def _normal_tail64(x):
    u = min(abs(x), 39.0)
    square = u * u
    gauss = exp_sum(-0.5 * square, -0.5 * _fma(u, u, -square))
    t = 1.0 / (u * _SQRT_HALF + _K_64)
    return gauss * (0.5 * polynomial(_F_64, 1.0 - 2.0 * _K_64 * t) * t), gauss * _DENSITY


@inlined
def _tail32(x):
    """erfc(|x|)."""
    a = abs(x)
    a = _END_32 if a > _END_32 else a
    upper = np.int32(_f32(a).view(_i32) & _UPPER_32).view(_f32)
    gauss = exp_sum(-upper * upper, (upper - a) * (upper + a))
    t = _f32(1) / (a + _K_32)
    return gauss * (polynomial(_F_32, _f32(1) - _f32(2) * _K_32 * t) * t)


@inlined
def _tail64(x):
    a = abs(x)
    a = _END_64 if a > _END_64 else a
    upper = np.int64(_f64(a).view(_i64) & _UPPER_64).view(_f64)
    gauss = exp_sum(-upper * upper, (upper - a) * (upper + a))
    t = 1.0 / (a + _K_64)
    return gauss * (polynomial(_F_64, 1.0 - 2.0 * _K_64 * t) * t)


def _erf32(x):
    far = _f32(1) - _tail32(x)
    near = x * polynomial(_E_32, x * x)
    return near if abs(x) < _f32(_NEAR) else -far if x < _f32(0) else far


def _erf64(x):
    far = 1.0 - _tail64(x)
    near = x * polynomial(_E_64, x * x)
    return near if abs(x) < _NEAR else -far if x < 0.0 else far


def erf(x):
    """2/√π · ∫₀ˣ e^(−t²) dt for a float32 or float64 scalar inside a kernel."""
    raise TypeError("only inside kernels")


def normal_tail(x):
    """(Q(|x|), φ(x)) of the normal distribution: φ(x) = e^(−x²/2)/√(2π), Q(u) = ∫ᵤ^∞ φ."""
    raise TypeError("only inside kernels")


@overload(erf, jit_options={"forceinline": True})
def _erf_overload(x):
    return _erf32 if x == types.float32 else _erf64


@overload(normal_tail, jit_options={"forceinline": True})
def _normal_tail_overload(x):
    return _normal_tail32 if x == types.float32 else _normal_tail64
