"""Losses that compare distributions, by their formulas: see _map.py for the loop around them."""

from __future__ import annotations

import math

import numpy as np

from ._map import pointwise
from .unary import sigmoid, softplus

# Least divisor of a slope: 1e-12 rounded to float32, which torch has for float64 too.
_LEAST = float(np.float32(1e-12))


@pointwise
def binary_cross_entropy_forward(input, target):
    """−t · ln x − (1 − t) · ln(1 − x), a logarithm below −100 counting as −100"""
    log = max(math.log(input), -100) if input > 0 else -100
    log_rest = max(math.log1p(-input), -100) if input < 1 else -100
    return -target * log - (1 - target) * log_rest


@pointwise
def binary_cross_entropy_backward_input(grad_output, input, target):
    """(x − t) / (x · (1 − x)), the divisor at least _LEAST"""
    return grad_output * (input - target) / max((1 - input) * input, _LEAST)


@pointwise
def binary_cross_entropy_with_logits_forward(input, target, pos_weight):
    """−p · t · ln σ(x) − (1 − t) · ln(1 − σ(x)) = (1 − t) · x + (1 + (p − 1) · t) · ln(1 + e^−x)"""
    return (1 - target) * input + (1 + (pos_weight - 1) * target) * softplus(-input)


@pointwise
def binary_cross_entropy_with_logits_backward_input(grad_output, input, target, pos_weight):
    weighted = pos_weight * target
    return grad_output * ((weighted + 1 - target) * sigmoid(input) - weighted)


@pointwise
def binary_cross_entropy_with_logits_backward_target(grad_output, input, target, pos_weight):
    return grad_output * ((pos_weight - 1) * softplus(-input) - input)


@pointwise
def kl_div_forward(input, target, log_target):
    """t · (ln t − x), 0 where t is 0; for a target given as ln t, e^target · (target − x)"""
    if log_target:
        return np.exp(target) * (target - input)
    return (0 if target == 0 else target * np.log(target)) - target * input


@pointwise
def kl_div_backward_input(grad_output, target, log_target):
    return -grad_output * (np.exp(target) if log_target else target)


@pointwise
def kl_div_backward_target(grad_output, input, target, log_target):
    if log_target:
        return grad_output * np.exp(target) * (target - input + 1)
    return grad_output * (np.log(target) + 1 - input) if target != 0 else math.nan
