"""Losses that compare distributions, by their formulas, element by element."""

from __future__ import annotations

import math

import numpy as np

from .activation import _exp, _map, _sigmoid

# Least divisor of a slope: 1e-12 rounded to float32, which torch has for float64 too.
_LEAST = float(np.float32(1e-12))


def binary_cross_entropy_forward(out, input, target):
    """−t · ln x − (1 − t) · ln(1 − x), a logarithm below −100 counting as −100"""

    def limited_log(x):
        return max(math.log(x), -100) if x > 0 else -100

    def loss(x, t):
        rest = max(math.log1p(-x), -100) if x < 1 else -100
        return -t * limited_log(x) - (1 - t) * rest

    _map(out, loss, input, target)


def binary_cross_entropy_backward_input(grad_input, grad_output, input, target):
    """(x − t) / (x · (1 − x)), the divisor at least _LEAST"""

    def slope(g, x, t):
        return g * (x - t) / max((1 - x) * x, _LEAST)

    _map(grad_input, slope, grad_output, input, target)


def _softplus(x):
    """ln(1 + e^x)"""
    return (max(x, 0.0) + math.log1p(math.exp(-abs(x)))) if x == x else x


def binary_cross_entropy_with_logits_forward(out, input, target, pos_weight):
    """−p · t · ln σ(x) − (1 − t) · ln(1 − σ(x)) = (1 − t) · x + (1 + (p − 1) · t) · ln(1 + e^−x)"""

    def loss(x, t, p):
        return (1 - t) * x + (1 + (p - 1) * t) * _softplus(-x)

    _map(out, loss, input, target, pos_weight)


def binary_cross_entropy_with_logits_backward_input(
    grad_input, grad_output, input, target, pos_weight
):
    def slope(g, x, t, p):
        return g * ((p * t + 1 - t) * _sigmoid(x) - p * t)

    _map(grad_input, slope, grad_output, input, target, pos_weight)


def binary_cross_entropy_with_logits_backward_target(
    grad_target, grad_output, input, target, pos_weight
):
    def slope(g, x, t, p):
        return g * ((p - 1) * _softplus(-x) - x)

    _map(grad_target, slope, grad_output, input, target, pos_weight)


def _log(t):
    return math.log(t) if t > 0 else -math.inf if t == 0 else math.nan


def kl_div_forward(out, input, target, log_target):
    """t · (ln t − x), 0 where t is 0; for a target given as ln t, e^target · (target − x)"""

    def loss(x, t):
        if log_target:
            return _exp(t) * (t - x)
        return (0.0 if t == 0 else t * _log(t)) - t * x

    _map(out, loss, input, target)


def kl_div_backward_input(grad_input, grad_output, target, log_target):
    _map(grad_input, lambda g, t: -g * (_exp(t) if log_target else t), grad_output, target)


def kl_div_backward_target(grad_target, grad_output, input, target, log_target):
    def slope(g, x, t):
        if log_target:
            return g * _exp(t) * (t - x + 1)
        return g * (_log(t) + 1 - x) if t != 0 else math.nan

    _map(grad_target, slope, grad_output, input, target)
