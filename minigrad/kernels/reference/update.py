"""Optimiser steps and gradient clipping, one element at a time.

Arithmetic is IEEE's: infinities and NaN come out without a warning, which is what `errstate` asks
of NumPy's scalars.
"""

from __future__ import annotations

import math

import numpy as np

_ieee = np.errstate(all="ignore")


def sgd_update(params, momentum_buffers, grads, options):
    for arrays in zip(params, momentum_buffers, grads, options, strict=True):
        _sgd(*arrays)


@_ieee
def _sgd(param, momentum_buffer, grad, o):
    """g = ±grad + weight_decay·param;  b ← momentum·b + (1 − dampening)·g, at first b ← g;
    param ← param − lr·(g + momentum·b if nesterov, else b). Without momentum b is g."""
    for i in range(param.size):
        g = -grad[i] if o.maximize else grad[i]
        g = g + o.weight_decay * param[i]
        if momentum_buffer is not None:
            b = g if o.first else o.momentum * momentum_buffer[i] + (1 - o.dampening) * g
            momentum_buffer[i] = b
            g = g + o.momentum * b if o.nesterov else b
        param[i] = param[i] - o.lr * g


def adam_update(params, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, grads, options):
    for arrays in zip(params, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, grads, options, strict=True):
        _adam(*arrays)


@_ieee
def _adam(param, exp_avg, exp_avg_sq, max_exp_avg_sq, grad, o):
    """m ← β₁·m + (1 − β₁)·g;  v ← β₂·v + (1 − β₂)·g²;  with c₁ = 1 − β₁ᵗ, c₂ = 1 − β₂ᵗ:
    param ← param − (lr / c₁)·m / (√v / √c₂ + ε).

    Decay: decoupled, param ← (1 − lr·weight_decay)·param first; else g ← g + weight_decay·param.
    With max_exp_avg_sq (AMSGrad), its running maximum of v takes v's place.
    """
    for i in range(param.size):
        g = -grad[i] if o.maximize else grad[i]
        if o.decoupled:
            param[i] = param[i] * (1 - o.lr * o.weight_decay)
        else:
            g = g + o.weight_decay * param[i]
        exp_avg[i] = o.beta1 * exp_avg[i] + (1 - o.beta1) * g
        exp_avg_sq[i] = o.beta2 * exp_avg_sq[i] + (1 - o.beta2) * (g * g)
        v = exp_avg_sq[i]
        if max_exp_avg_sq is not None:
            # NaN wins, as in torch.maximum.
            if not v <= max_exp_avg_sq[i] and max_exp_avg_sq[i] == max_exp_avg_sq[i]:
                max_exp_avg_sq[i] = v
            v = max_exp_avg_sq[i]
        root = v**0.5 if v >= 0 else v  # √NaN is NaN; v is never negative
        denominator = root / o.bias_correction2**0.5 + o.eps
        if denominator == 0:  # eps = 0: what division by zero gives
            step = exp_avg[i] * math.inf
        else:
            step = exp_avg[i] / denominator
        param[i] = param[i] - (o.lr / o.bias_correction1) * step


@_ieee
def power_sum(out, input, scratch, norm_type):
    """out = Σ |input[i]|^norm_type;  for norm_type = ∞, out = max |input[i]|."""
    total = 0.0
    for value in input:
        magnitude = abs(float(value))
        if math.isinf(norm_type):
            # NaN replaces, and is never replaced.
            total = magnitude if not magnitude <= total and total == total else total
        else:
            total += np.power(magnitude, norm_type)
    out[0] = total


@_ieee
def total_norm(out, sums, norm_type):
    """out = (Σ sums[k])^(1/norm_type);  for norm_type = ∞, out = max sums[k]."""
    total = 0.0
    for value in sums:
        if math.isinf(norm_type):
            total = value if not value <= total and total == total else total
        else:
            total += value
    out[0] = total if math.isinf(norm_type) else total ** (1 / norm_type)


@_ieee
def clip_to_norm(values, norm, max_norm):
    """values[i] ← values[i] · min(1, max_norm / (norm + 1e-6)).  NaN in norm spreads."""
    factor = max_norm / (float(norm[0]) + 1e-6)
    for i in range(values.size):
        values[i] = values[i] * (1.0 if factor > 1 else factor)


@_ieee
def clip_to_value(values, limit):
    """values[i] ← values[i] limited to [−limit, limit];  NaN stays NaN."""
    for i in range(values.size):
        if values[i] > limit:
            values[i] = limit
        elif values[i] < -limit:
            values[i] = -limit
