"""Functions of one value: the formulas of compiled/unary.py, vectorised where it pays."""

from __future__ import annotations

from ..compiled import unary
from ._erf import normal_tail
from ._map import launchers, pointwise

globals().update(launchers(unary))


@pointwise
def gelu_forward(x):
    # x·Φ(x) = max(x, 0) − |x|·Q(|x|): no digits are lost in the left tail. Q is 0 long before 100,
    # where x = +∞ ends: ∞·0 would be NaN, which it is at −∞, as in torch.
    real = type(x)
    tail, _ = normal_tail(x)
    return (real(-0.0) if x < real(0) else x) + min(x, max(-x, real(-100))) * tail


@pointwise
def gelu_backward_input(grad_output, x):
    # y = x·Φ(x): dy/dx = Φ(x) + x·φ(x), φ(x) = e^(−x²/2)/√(2π)
    real = type(x)
    tail, density = normal_tail(x)
    return grad_output * ((tail if x < real(0) else real(1) - tail) + x * density)
