"""Operator fusion: batch normalisation and then the maximum over windows, by the definitions of
either.

y[n, h, w, c] = (input[n, h, w, c] − μ_c) · invstd_c · weight_c + bias_c
out[n, oh, ow, c] = max over the cells (h, w) of window (oh, ow) of y[n, h, w, c]
"""

from __future__ import annotations

import math

from .norm import _or, batch_norm_backward_input, batch_norm_backward_relu
from .pool import _cells, _outputs, max_pool2d_backward_input


def _normal(input, mean, invstd, n, h, w, c):
    centred = float(input[n, h, w, c]) - float(mean[0, c]) - float(mean[1, c])
    return centred * float(invstd[c])


def batch_norm_max_pool2d_forward(out, window, input, mean, invstd, weight, bias, scratch, dims):
    """Equal values and NaN as in max_pool2d_forward."""
    rounded = out.dtype.type  # what is compared is what batch_norm_forward stores
    for n, oh, ow, c in _outputs(dims):
        best, position = -math.inf, None
        for kh, kw, h, w in _cells(dims, oh, ow):
            normal = _normal(input, mean, invstd, n, h, w, c)
            value = rounded(normal * _or(weight, c, 1.0) + _or(bias, c, 0.0))
            if position is None or value > best or math.isnan(value):
                best, position = value, kh * dims.kW + kw
        out[n, oh, ow, c] = best
        window[n, oh, ow, c] = 0 if position is None else position


def batch_norm_max_pool2d_backward_affine(
    grad_weight, grad_bias, grad_output, window, input, mean, invstd, scratch, dims
):
    """∂y / ∂weight_c = (input[n, h, w, c] − μ_c) · invstd_c, ∂y / ∂bias_c = 1, at the maxima"""
    weight_total, bias_total = [0.0] * dims.C, [0.0] * dims.C
    for n, oh, ow, c in _outputs(dims):
        g = float(grad_output[n, oh, ow, c])
        for kh, kw, h, w in _cells(dims, oh, ow):
            if window[n, oh, ow, c] == kh * dims.kW + kw:
                weight_total[c] += g * _normal(input, mean, invstd, n, h, w, c)
                bias_total[c] += g
    grad_weight[...] = weight_total
    grad_bias[...] = bias_total


def batch_norm_max_pool2d_backward_input(
    grad_input, grad_sums, grad_output, window, input, mean, invstd, weight, grad_weight, grad_bias,
    relu, scratch, dims,
):  # fmt: skip
    """Each maximum's gradient goes to its cell, and from there through batch norm, and relu before
    it."""
    max_pool2d_backward_input(grad_input, grad_output, window, dims)
    rows, input_rows = grad_input.reshape(-1, dims.C), input.reshape(-1, dims.C)
    arrays = rows, input_rows, mean, invstd, weight, grad_weight, grad_bias
    if relu:
        batch_norm_backward_relu(rows, grad_sums, *arrays, scratch)
        return
    batch_norm_backward_input(rows, *arrays, True, scratch)
    for c in range(dims.C):
        grad_sums[c] = sum(float(g) for g in rows[:, c])
