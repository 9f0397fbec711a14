"""Losses that compare distributions."""

from __future__ import annotations

import numpy as np
from numpy import exp, log, log1p

from . import helper, pointwise, sigmoid

# Least divisor of a slope: 1e-12 rounded to float32, which torch has for float64 too.
_LEAST = float(np.float32(1e-12))


@pointwise
def binary_cross_entropy_forward(input, target):
    # −t·ln x − (1 − t)·ln(1 − x), no logarithm below −100
    real = type(input)
    one, low = real(1), real(-100)
    log_x = log(input) if input > real(0) else low
    log_rest = log1p(-input) if input < one else low
    return (target - one) * max(log_rest, low) - target * max(log_x, low)


@pointwise
def binary_cross_entropy_backward_input(grad_output, input, target):
    # dl/dx = (1 − t)/(1 − x) − t/x = (x − t)/(x·(1 − x)), whose divisor is kept off 0
    real = type(input)
    return grad_output * (input - target) / max((real(1) - input) * input, real(_LEAST))


@helper
def _softplus(x):
    """ln(1 + e^x), with an exponent that is never positive."""
    zero = type(x)(0)
    # NaN fails the test and stays NaN.
    positive = zero if x < zero else x
    return positive + log1p(exp(-abs(x)))


@pointwise
def binary_cross_entropy_with_logits_forward(input, target, pos_weight):
    # −p·t·ln σ − (1 − t)·ln(1 − σ) = (1 − t)·x + (1 + (p − 1)·t)·ln(1 + e^−x)
    one = type(input)(1)
    return (one - target) * input + (one + (pos_weight - one) * target) * _softplus(-input)


@pointwise
def binary_cross_entropy_with_logits_backward_input(grad_output, input, target, pos_weight):
    # d ln(1 + e^−x)/dx = σ − 1:  dl/dx = (p·t + 1 − t)·σ − p·t, which is σ − t for p = 1
    weighted = pos_weight * target
    return grad_output * ((weighted + type(input)(1) - target) * sigmoid(input) - weighted)


@pointwise
def _logits_backward_target(grad_output, input, pos_weight):
    # dl/dt = −x + (p − 1)·ln(1 + e^−x)
    return grad_output * ((pos_weight - type(input)(1)) * _softplus(-input) - input)


def binary_cross_entropy_with_logits_backward_target(
    grad_target, grad_output, input, target, pos_weight
):
    _logits_backward_target(grad_target, grad_output, input, pos_weight)


@pointwise
def _kl_div(input, target):
    zero = type(input)(0)
    return (zero if target == zero else target * log(target)) - target * input


@pointwise
def _kl_div_of_logs(input, target):
    return exp(target) * (target - input)


def kl_div_forward(out, input, target, log_target):
    (_kl_div_of_logs if log_target else _kl_div)(out, input, target)


@pointwise
def _kl_div_backward_input(grad_output, target):
    # l = p·(ln p − x): dl/dx = −p
    return -grad_output * target


@pointwise
def _kl_div_of_logs_backward_input(grad_output, target):
    return -grad_output * exp(target)


def kl_div_backward_input(grad_input, grad_output, target, log_target):
    backward = _kl_div_of_logs_backward_input if log_target else _kl_div_backward_input
    backward(grad_input, grad_output, target)


@pointwise
def _kl_div_backward_target(grad_output, input, target):
    # l = t·ln t − t·x: dl/dt = ln t + 1 − x, which has no value at 0
    real = type(input)
    return real(np.nan) if target == real(0) else grad_output * (log(target) + real(1) - input)


@pointwise
def _kl_div_of_logs_backward_target(grad_output, input, target):
    # l = e^t·(t − x): dl/dt = e^t·(t − x + 1)
    return grad_output * exp(target) * (target - input + type(input)(1))


def kl_div_backward_target(grad_target, grad_output, input, target, log_target):
    backward = _kl_div_of_logs_backward_target if log_target else _kl_div_backward_target
    backward(grad_target, grad_output, input, target)
