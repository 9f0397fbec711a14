"""Functions of one value: the formulas of compiled/unary.py, by libdevice's mathematics."""

from __future__ import annotations

import math

from ..compiled import unary
from ._device import erfc, exp
from ._map import launchers, pointwise

_shared = launchers(unary)
globals().update(_shared)
sigmoid = _shared["sigmoid"]

_SQRT_HALF = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)


@pointwise
def gelu_forward(x):
    # x·Φ(x), Φ(x) = ½·erfc(−x/√2): no digits are lost in the left tail.
    real = type(x)
    return x * real(0.5) * erfc(-x * real(_SQRT_HALF))


@pointwise
def gelu_backward_input(grad_output, x):
    # y = x·Φ(x): dy/dx = Φ(x) + x·φ(x), φ(x) = e^(−x²/2)/√(2π)
    real = type(x)
    density = real(_DENSITY) * exp(real(-0.5) * x * x)
    return grad_output * (real(0.5) * erfc(-x * real(_SQRT_HALF)) + x * density)
