"""Operator fusion: batch normalisation and then an activation, by the definitions of either.

z[r, c] = (input[r, c] − μ_c) · invstd_c · weight_c + bias_c, rounded as batch_norm_forward does
out[r, c] = min(max(z, low), high) with bounds (low, high), of which NaN is none; else z·sigmoid(z)
"""

from __future__ import annotations

import numpy as np

from .norm import _centred, _or
from .unary import clamp_forward, silu_backward_input, silu_forward


def _normal(input, mean, invstd, weight, bias, r, c):
    normal = _centred(input, mean, r, c) * float(invstd[c])
    return input.dtype.type(normal * _or(weight, c, 1.0) + _or(bias, c, 0.0))


def _slope(z, bounds):
    """∂out / ∂z, 0 at a bound; for NaN 1 as relu's, but with two bounds 0 as clamp's"""
    if bounds is None:
        return silu_backward_input.formula(1.0, float(z))
    low, high = bounds
    return 0.0 if z <= low or z >= high or (z != z and high == high) else 1.0


def batch_norm_activation_forward(out, input, mean, invstd, weight, bias, bounds, scratch):
    for r, c in np.ndindex(input.shape):
        z = float(_normal(input, mean, invstd, weight, bias, r, c))
        out[r, c] = silu_forward.formula(z) if bounds is None else clamp_forward.formula(z, *bounds)


def batch_norm_activation_backward_affine(
    grad_weight, grad_bias, grad_output, input, mean, invstd, weight, bias, bounds, scratch
):
    """∂z / ∂weight_c = (input[r, c] − μ_c) · invstd_c, ∂z / ∂bias_c = 1"""
    rows, C = input.shape
    for c in range(C):
        weight_total = bias_total = 0.0
        for r in range(rows):
            slope = _slope(_normal(input, mean, invstd, weight, bias, r, c), bounds)
            g = float(grad_output[r, c]) * slope if slope else 0.0
            weight_total += g * _centred(input, mean, r, c) * float(invstd[c])
            bias_total += g
        grad_weight[c] = weight_total
        grad_bias[c] = bias_total


def batch_norm_activation_backward_input(
    grad_input, grad_output, input, mean, invstd, weight, bias, grad_weight, grad_bias, training,
    bounds, scratch,
):  # fmt: skip
    """As batch_norm_backward_input, from the gradient of z."""
    for r, c in np.ndindex(input.shape):
        slope = _slope(_normal(input, mean, invstd, weight, bias, r, c), bounds)
        total = float(grad_output[r, c]) * slope if slope else 0.0
        if training:
            normal = _centred(input, mean, r, c) * float(invstd[c])
            total -= (float(grad_bias[c]) + normal * float(grad_weight[c])) / len(input)
        grad_input[r, c] = total * float(invstd[c]) * _or(weight, c, 1.0)
