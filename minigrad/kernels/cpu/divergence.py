"""Losses that compare distributions, on flat arrays: one pass over memory, as in elementwise.py."""

from __future__ import annotations

import numpy as np
from numba import prange

from ._exp import exp
from ._jit import inlined, kernel
from ._log import log, log1p
from ._operand import at, operand

# Least divisor of a slope: 1e-12 rounded to float32, which torch has for float64 too.
_LEAST = float(np.float32(1e-12))


@kernel
def _binary(out, input, target):
    # −t·ln x − (1 − t)·ln(1 − x), no logarithm below −100
    zero, one, low = out.dtype.type(0), out.dtype.type(1), out.dtype.type(-100)
    for i in prange(out.size):
        x, t = at(input, i), at(target, i)
        log_x = log(x) if x > zero else low
        log_rest = log1p(-x) if x < one else low
        out[i] = (t - one) * max(log_rest, low) - t * max(log_x, low)


def binary_cross_entropy_forward(out, input, target):
    _binary(out, operand(input), operand(target))


@kernel
def _binary_backward_input(grad_input, grad_output, input, target):
    # dl/dx = (1 − t)/(1 − x) − t/x = (x − t)/(x·(1 − x)), whose divisor is kept off 0
    one, least = grad_input.dtype.type(1), grad_input.dtype.type(_LEAST)
    for i in prange(grad_input.size):
        x, t = at(input, i), at(target, i)
        grad_input[i] = at(grad_output, i) * (x - t) / max((one - x) * x, least)


def binary_cross_entropy_backward_input(grad_input, grad_output, input, target):
    _binary_backward_input(grad_input, operand(grad_output), operand(input), operand(target))


@inlined
def _softplus_and_sigmoid(x, zero, one):
    """ln(1 + e^−x) and 1/(1 + e^−x), with an exponent that is never positive."""
    e = exp(-abs(x))
    # NaN fails the test and stays in the first branch.
    positive = -x if not x >= zero else zero
    return positive + log1p(e), (e if x < zero else one) / (one + e)


@kernel
def _logits(out, input, target, pos_weight):
    # −p·t·ln σ − (1 − t)·ln(1 − σ) = (1 − t)·x + (1 + (p − 1)·t)·ln(1 + e^−x)
    zero, one = out.dtype.type(0), out.dtype.type(1)
    for i in prange(out.size):
        x, t = at(input, i), at(target, i)
        softplus, _ = _softplus_and_sigmoid(x, zero, one)
        out[i] = (one - t) * x + (one + (at(pos_weight, i) - one) * t) * softplus


def binary_cross_entropy_with_logits_forward(out, input, target, pos_weight):
    _logits(out, operand(input), operand(target), operand(pos_weight))


@kernel
def _logits_backward_input(grad_input, grad_output, input, target, pos_weight):
    # d ln(1 + e^−x)/dx = σ − 1:  dl/dx = (p·t + 1 − t)·σ − p·t, which is σ − t for p = 1
    zero, one = grad_input.dtype.type(0), grad_input.dtype.type(1)
    for i in prange(grad_input.size):
        t = at(target, i)
        weighted = at(pos_weight, i) * t
        _, sigmoid = _softplus_and_sigmoid(at(input, i), zero, one)
        grad_input[i] = at(grad_output, i) * ((weighted + one - t) * sigmoid - weighted)


def binary_cross_entropy_with_logits_backward_input(
    grad_input, grad_output, input, target, pos_weight
):
    _logits_backward_input(
        grad_input, operand(grad_output), operand(input), operand(target), operand(pos_weight)
    )


@kernel
def _logits_backward_target(grad_target, grad_output, input, pos_weight):
    # dl/dt = −x + (p − 1)·ln(1 + e^−x)
    zero, one = grad_target.dtype.type(0), grad_target.dtype.type(1)
    for i in prange(grad_target.size):
        x = at(input, i)
        softplus, _ = _softplus_and_sigmoid(x, zero, one)
        grad_target[i] = at(grad_output, i) * ((at(pos_weight, i) - one) * softplus - x)


def binary_cross_entropy_with_logits_backward_target(
    grad_target, grad_output, input, target, pos_weight
):
    _logits_backward_target(grad_target, operand(grad_output), operand(input), operand(pos_weight))


@kernel
def _kl_div(out, input, target, log_target):
    zero = out.dtype.type(0)
    for i in prange(out.size):
        x, t = at(input, i), at(target, i)
        if log_target:
            out[i] = exp(t) * (t - x)
        else:
            out[i] = (zero if t == zero else t * log(t)) - t * x


def kl_div_forward(out, input, target, log_target):
    _kl_div(out, operand(input), operand(target), log_target)


@kernel
def _kl_div_backward_input(grad_input, grad_output, target, log_target):
    # l = p·(ln p − x): dl/dx = −p
    for i in prange(grad_input.size):
        t = at(target, i)
        grad_input[i] = -at(grad_output, i) * (exp(t) if log_target else t)


def kl_div_backward_input(grad_input, grad_output, target, log_target):
    _kl_div_backward_input(grad_input, operand(grad_output), operand(target), log_target)


@kernel
def _kl_div_backward_target(grad_target, grad_output, input, target, log_target):
    # l = t·ln t − t·x: dl/dt = ln t + 1 − x, which has no value at 0; l = e^t·(t − x):
    # dl/dt = e^t·(t − x + 1)
    dtype = grad_target.dtype.type
    for i in prange(grad_target.size):
        x, t, g = at(input, i), at(target, i), at(grad_output, i)
        if log_target:
            grad_target[i] = g * exp(t) * (t - x + dtype(1))
        else:
            grad_target[i] = dtype(np.nan) if t == dtype(0) else g * (log(t) + dtype(1) - x)


def kl_div_backward_target(grad_target, grad_output, input, target, log_target):
    _kl_div_backward_target(
        grad_target, operand(grad_output), operand(input), operand(target), log_target
    )
