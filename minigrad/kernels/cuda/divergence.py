"""Losses that compare distributions, by their formulas: see _map.py for the loops around them."""

from __future__ import annotations

import math

import numpy as np

from ._device import device, exp, log, log1p
from ._map import apply, pointwise
from .elementwise import sigmoid

# Least divisor of a slope: 1e-12 rounded to float32, which torch has for float64 too.
_LEAST = float(np.float32(1e-12))


@pointwise
def _binary(real):
    # −t·ln x − (1 − t)·ln(1 − x), no logarithm below −100
    low = real(-100)

    def binary(x, t):
        log_x = log(x) if x > real(0) else low
        log_rest = log1p(-x) if x < real(1) else low
        return (t - real(1)) * max(log_rest, low) - t * max(log_x, low)

    return binary


def binary_cross_entropy_forward(out, input, target):
    apply(_binary, out, input, target)


@pointwise
def _binary_backward_input(real):
    # dl/dx = (1 − t)/(1 − x) − t/x = (x − t)/(x·(1 − x)), whose divisor is kept off 0
    return lambda g, x, t: g * (x - t) / max((real(1) - x) * x, real(_LEAST))


def binary_cross_entropy_backward_input(grad_input, grad_output, input, target):
    apply(_binary_backward_input, grad_input, grad_output, input, target)


@device
def _softplus(x, zero):
    """ln(1 + e^x), with an exponent that is never positive. zero: of x's type."""
    # NaN fails the test and stays NaN.
    positive = zero if x < zero else x
    return positive + log1p(exp(-abs(x)))


@pointwise
def _logits(real):
    # −p·t·ln σ − (1 − t)·ln(1 − σ) = (1 − t)·x + (1 + (p − 1)·t)·ln(1 + e^−x)
    def logits(x, t, p):
        one = real(1)
        return (one - t) * x + (one + (p - one) * t) * _softplus(-x, real(0))

    return logits


def binary_cross_entropy_with_logits_forward(out, input, target, pos_weight):
    apply(_logits, out, input, target, pos_weight)


@pointwise
def _logits_backward_input(real):
    # d ln(1 + e^−x)/dx = σ − 1:  dl/dx = (p·t + 1 − t)·σ − p·t, which is σ − t for p = 1
    def logits_backward_input(g, x, t, p):
        return g * ((p * t + real(1) - t) * sigmoid(x, real(1)) - p * t)

    return logits_backward_input


def binary_cross_entropy_with_logits_backward_input(
    grad_input, grad_output, input, target, pos_weight
):
    apply(_logits_backward_input, grad_input, grad_output, input, target, pos_weight)


@pointwise
def _logits_backward_target(real):
    # dl/dt = −x + (p − 1)·ln(1 + e^−x)
    return lambda g, x, p: g * ((p - real(1)) * _softplus(-x, real(0)) - x)


def binary_cross_entropy_with_logits_backward_target(
    grad_target, grad_output, input, target, pos_weight
):
    apply(_logits_backward_target, grad_target, grad_output, input, pos_weight)


@pointwise
def _kl_div(real):
    # p·(ln p − x), 0·ln 0 being 0
    return lambda x, t: (real(0) if t == real(0) else t * log(t)) - t * x


@pointwise
def _kl_div_of_logs(real):
    # The target is ln p.
    return lambda x, t: exp(t) * (t - x)


def kl_div_forward(out, input, target, log_target):
    apply(_kl_div_of_logs if log_target else _kl_div, out, input, target)


@pointwise
def _kl_div_backward_input(real):
    # l = p·(ln p − x): dl/dx = −p
    return lambda g, t: -g * t


@pointwise
def _kl_div_of_logs_backward_input(real):
    return lambda g, t: -g * exp(t)


def kl_div_backward_input(grad_input, grad_output, target, log_target):
    backward = _kl_div_of_logs_backward_input if log_target else _kl_div_backward_input
    apply(backward, grad_input, grad_output, target)


@pointwise
def _kl_div_backward_target(real):
    # l = t·ln t − t·x: dl/dt = ln t + 1 − x, which has no value at 0
    def kl_div_backward_target(g, x, t):
        return real(math.nan) if t == real(0) else g * (log(t) + real(1) - x)

    return kl_div_backward_target


@pointwise
def _kl_div_of_logs_backward_target(real):
    # l = e^t·(t − x): dl/dt = e^t·(t − x + 1)
    return lambda g, x, t: g * exp(t) * (t - x + real(1))


def kl_div_backward_target(grad_target, grad_output, input, target, log_target):
    backward = _kl_div_of_logs_backward_target if log_target else _kl_div_backward_target
    apply(backward, grad_target, grad_output, input, target)
