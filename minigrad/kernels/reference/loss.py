"""Losses by their definitions, one row or one element at a time, in double precision.

Rows of classification losses are positions; x is a row of scores, p = softmax(x), w the weights of
the classes (1 where there are none).
"""

from __future__ import annotations

import math

import numpy as np

from ..formulas import SMOOTH, SQUARED, difference_loss
from .softmax import log_softmax_row


def _class_weight(weight, c):
    return 1.0 if weight is None else float(weight[c])


def _row_gradient(grad_output, divisor, r):
    """The gradient of one row's loss: `grad_output` is (rows,), or (1,) for a sum or mean."""
    return _divide(float(grad_output[r if grad_output.size > 1 else 0]), float(divisor[0]))


def _divide(total, divisor):
    """A mean over nothing is NaN."""
    return total / divisor if divisor else total * math.inf


# Class indices ------------------------------------------------------------------------------


def class_targets(first_bad, total_weight, target, weight, classes, ignore_index, scratch):
    """first_bad[0] = min {i : target[i] is no class} or −1; total_weight[0] = Σ_i w[target[i]]"""
    first_bad[0] = -1
    total = 0.0
    for i in range(target.size):
        if target[i] == ignore_index:
            continue
        if not 0 <= target[i] < classes:
            first_bad[0] = i
            break
        total += _class_weight(weight, target[i])
    total_weight[0] = total


def cross_entropy_forward(losses, probabilities, input, target, weight, ignore_index, smoothing):
    """losses[r] = (1−ε)·w_t·(−log p_t) + ε/C·Σ_c w_c·(−log p_c), 0 where t is ignored"""
    rows, C = input.shape
    for r in range(rows):
        log_p = log_softmax_row(input[r])
        for c in range(C):
            probabilities[r, c] = math.exp(log_p[c])
        losses[r] = 0
        t = target[r]
        if t != ignore_index:
            loss = (1 - smoothing) * _class_weight(weight, t) * -log_p[t]
            if smoothing > 0:
                for c in range(C):
                    loss += smoothing / C * _class_weight(weight, c) * -log_p[c]
            losses[r] = loss


def cross_entropy_backward_input(
    grad_input, grad_output, divisor, probabilities, target, weight, ignore_index, smoothing
):
    """∂(−log p_k) / ∂input_c = p_c − δ_kc"""
    rows, C = grad_input.shape
    for r in range(rows):
        t = target[r]
        for c in range(C):
            if t == ignore_index:
                grad_input[r, c] = 0
                continue
            total = 0.0
            for k in range(C):
                share = smoothing / C + (1 - smoothing if k == t else 0.0)
                delta = 1.0 if k == c else 0.0
                total += share * _class_weight(weight, k) * (float(probabilities[r, c]) - delta)
            grad_input[r, c] = _row_gradient(grad_output, divisor, r) * total


# Class probabilities ------------------------------------------------------------------------


def _smoothed(target, r, c, smoothing):
    return (1 - smoothing) * float(target[r, c]) + smoothing / target.shape[1]


def soft_cross_entropy_forward(losses, log_probabilities, input, target, weight, smoothing):
    """losses[r] = −Σ_c w_c·q_c·log p_c with q = (1−ε)·target + ε/C"""
    rows, C = input.shape
    for r in range(rows):
        log_p = log_softmax_row(input[r])
        loss = 0.0
        for c in range(C):
            log_probabilities[r, c] = log_p[c]
            loss -= _class_weight(weight, c) * _smoothed(target, r, c, smoothing) * log_p[c]
        losses[r] = loss


def soft_cross_entropy_backward_input(
    grad_input, grad_output, divisor, log_probabilities, target, weight, smoothing
):
    """∂(−log p_k) / ∂input_c = p_c − δ_kc"""
    for r, c in np.ndindex(grad_input.shape):
        total = 0.0
        for k in range(grad_input.shape[1]):
            delta = 1.0 if k == c else 0.0
            share = _class_weight(weight, k) * _smoothed(target, r, k, smoothing)
            total += share * (math.exp(log_probabilities[r, c]) - delta)
        grad_input[r, c] = _row_gradient(grad_output, divisor, r) * total


def soft_cross_entropy_backward_target(
    grad_target, grad_output, divisor, log_probabilities, weight, smoothing
):
    """∂loss / ∂target_c = −(1−ε)·w_c·log p_c"""
    for r, c in np.ndindex(grad_target.shape):
        slope = -(1 - smoothing) * _class_weight(weight, c) * float(log_probabilities[r, c])
        grad_target[r, c] = _row_gradient(grad_output, divisor, r) * slope


# Negative log-likelihood --------------------------------------------------------------------


def nll_loss_forward(losses, input, target, weight, ignore_index):
    """losses[r] = −w_t·input[r, t], 0 where t is ignored"""
    for r in range(target.size):
        t = target[r]
        losses[r] = 0 if t == ignore_index else -_class_weight(weight, t) * float(input[r, t])


def nll_loss_backward_input(grad_input, grad_output, divisor, target, weight, ignore_index):
    """∂loss / ∂input_c = −w_t·δ_tc"""
    grad_input[...] = 0
    for r in range(target.size):
        t = target[r]
        if t != ignore_index:
            grad_input[r, t] = -_class_weight(weight, t) * _row_gradient(grad_output, divisor, r)


# Losses of a difference ---------------------------------------------------------------------


def _differences(input, target):
    for i in range(input.size):
        yield i, float(input[i]) - float(target[i])


def _sign(d):
    return d if math.isnan(d) else float((d > 0) - (d < 0))


def _slope(kind, d, beta):
    """f′(d). At 0 the absolute value has the slope 0; NaN has the slope NaN."""
    if kind == SQUARED:
        return 2 * d
    return d / beta if kind == SMOOTH and abs(d) < beta else _sign(d)


def _scaled_gradient(grad_output, divisor, i):
    return float(grad_output[i if grad_output.size > 1 else 0]) / divisor


def difference_loss_forward(out, input, target, kind, beta):
    """out = f(input − target)"""
    for i, d in _differences(input, target):
        out[i] = difference_loss(kind, d, beta, beta / 2)


def difference_loss_total(out, input, target, divisor, kind, beta, scratch):
    """out[0] = Σ f(input − target) / divisor"""
    losses = (difference_loss(kind, d, beta, beta / 2) for _, d in _differences(input, target))
    out[0] = _divide(sum(losses), divisor)


def difference_loss_backward_input(grad_input, grad_output, input, target, divisor, kind, beta):
    """∂f / ∂input = f′(input − target)"""
    for i, d in _differences(input, target):
        grad_input[i] = _slope(kind, d, beta) * _scaled_gradient(grad_output, divisor, i)


# Totals -------------------------------------------------------------------------------------


def loss_total(out, losses, divisor, scratch):
    """out[0] = Σ losses / divisor[0]"""
    out[0] = _divide(sum(float(loss) for loss in losses), float(divisor[0]))
