"""Functions of one value: the formulas of compiled/unary.py, vectorised where it pays."""

from __future__ import annotations

import math

from ..compiled import unary
from ._erf import erfc_and_gauss
from ._map import launchers, pointwise

globals().update(launchers(unary))

_SQRT_HALF = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)


@pointwise
def gelu_forward(x):
    # x·Φ(x), Φ(x) = ½·erfc(−x/√2): no digits are lost in the left tail.
    real = type(x)
    tail, _ = erfc_and_gauss(-x * real(_SQRT_HALF))
    return x * real(0.5) * tail


@pointwise
def gelu_backward_input(grad_output, x):
    # y = x·Φ(x): dy/dx = Φ(x) + x·φ(x), φ(x) = e^(−x²/2)/√(2π)
    real = type(x)
    tail, gauss = erfc_and_gauss(-x * real(_SQRT_HALF))
    return grad_output * (real(0.5) * tail + x * (real(_DENSITY) * gauss))
