"""Softmax and its logarithm by their definitions, row by row.

    softmax(x)_c = exp(x_c − m) / Σ_k exp(x_k − m),    m = max_k x_k
Subtracting m changes nothing but the range: no exponential overflows.
"""

from __future__ import annotations

import math

import numpy as np


def _exp(value):
    return math.inf if value == math.inf else math.exp(value)


def log_softmax_row(row):
    """The list of x_c − m − log Σ_k exp(x_k − m), in double precision."""
    values = [float(value) for value in row]
    if not values:
        return []
    maximum = max(values)
    if any(math.isnan(value) for value in values) or math.isinf(maximum):
        return [math.nan] * len(values)
    log_total = math.log(sum(_exp(value - maximum) for value in values))
    return [value - maximum - log_total for value in values]


def softmax_forward(out, input, scratch):
    """out[r, c] = exp(input[r, c]) / Σ_k exp(input[r, k])"""
    for r in range(out.shape[0]):
        for c, log_probability in enumerate(log_softmax_row(input[r])):
            out[r, c] = _exp(log_probability)


def softmax_backward_input(grad_input, grad_output, out):
    """∂out_k / ∂input_c = out_k·(δ_kc − out_c)"""
    for r, c in np.ndindex(out.shape):
        total = 0.0
        for k in range(out.shape[1]):
            delta = 1.0 if k == c else 0.0
            total += float(grad_output[r, k]) * float(out[r, k]) * (delta - float(out[r, c]))
        grad_input[r, c] = total


def log_softmax_forward(out, input, scratch):
    """out[r, c] = input[r, c] − log Σ_k exp(input[r, k])"""
    for r in range(out.shape[0]):
        for c, log_probability in enumerate(log_softmax_row(input[r])):
            out[r, c] = log_probability


def log_softmax_backward_input(grad_input, grad_output, out):
    """∂out_k / ∂input_c = δ_kc − exp(out_c)"""
    for r, c in np.ndindex(out.shape):
        total = 0.0
        for k in range(out.shape[1]):
            delta = 1.0 if k == c else 0.0
            total += float(grad_output[r, k]) * (delta - _exp(float(out[r, c])))
        grad_input[r, c] = total
