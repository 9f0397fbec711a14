"""Batch normalisation by its definition, channel by channel, in double precision.

    out[r, c] = (input[r, c] − μ_c) · invstd_c · weight_c + bias_c,   invstd_c = 1 / √(σ²_c + eps)
In training μ and σ² are the mean and the biased variance of the channel over all rows, in
evaluation the running statistics. `mean[0, c] + mean[1, c]` is μ_c: the second row holds what
rounding took from the first.
"""

from __future__ import annotations

import math

import numpy as np


def _or(array, c, default):
    return default if array is None else float(array[c])


def _invert(variance, eps):
    """1 / √(variance + eps), infinite for 0."""
    total = variance + eps
    return math.inf if total == 0 else math.nan if total < 0 else 1 / math.sqrt(total)


def _centred(input, mean, r, c):
    return float(input[r, c]) - float(mean[0, c]) - float(mean[1, c])


def batch_norm_statistics(
    mean, invstd, running_mean, running_var, batches, input, momentum, eps, scratch
):
    """μ = Σ x / rows, σ² = Σ (x − μ)² / rows

    running ← (1 − momentum)·running + momentum·(μ, Σ (x − μ)² / (rows − 1))
    """
    rows, C = input.shape
    for c in range(C):
        mu = sum(float(input[r, c]) for r in range(rows)) / rows
        squares = sum((float(input[r, c]) - mu) ** 2 for r in range(rows))
        mean[0, c] = mu
        mean[1, c] = mu - float(mean[0, c])
        invstd[c] = _invert(squares / rows, eps)
        if running_mean is not None:
            unbiased = squares / (rows - 1)
            running_mean[c] = (1 - momentum) * float(running_mean[c]) + momentum * mu
            running_var[c] = (1 - momentum) * float(running_var[c]) + momentum * unbiased
    if batches is not None:
        batches[()] += 1


def batch_norm_running(mean, invstd, running_mean, running_var, eps):
    """The statistics of evaluation."""
    for c in range(invstd.size):
        mean[0, c] = running_mean[c]
        mean[1, c] = 0
        invstd[c] = _invert(float(running_var[c]), eps)


def batch_norm_fold(
    out_weight, out_bias, weight, bias, running_mean, running_var, scale, shift, eps, seen, scratch
):
    """(Σ input·weight + bias − μ_c) · invstd_c · scale_c + shift_c as one sum and one bias"""
    for c in range(out_bias.size):
        factor = _invert(float(running_var[c]), eps) * _or(scale, c, 1.0)
        for r in range(weight.shape[0]):
            out_weight[r, c] = float(weight[r, c]) * factor
        out_bias[c] = (_or(bias, c, 0.0) - float(running_mean[c])) * factor + _or(shift, c, 0.0)


def batch_norm_forward(out, input, mean, invstd, weight, bias, scratch):
    """out[r, c] = (input[r, c] − μ_c) · invstd_c · weight_c + bias_c"""
    for r, c in np.ndindex(input.shape):
        normal = _centred(input, mean, r, c) * float(invstd[c])
        out[r, c] = normal * _or(weight, c, 1.0) + _or(bias, c, 0.0)


def batch_norm_backward_affine(grad_weight, grad_bias, grad_output, input, mean, invstd, scratch):
    """∂out / ∂weight_c = (input[r, c] − μ_c) · invstd_c, ∂out / ∂bias_c = 1"""
    rows, C = input.shape
    for c in range(C):
        weight_total = bias_total = 0.0
        for r in range(rows):
            g = float(grad_output[r, c])
            weight_total += g * _centred(input, mean, r, c) * float(invstd[c])
            bias_total += g
        grad_weight[c] = weight_total
        grad_bias[c] = bias_total


def batch_norm_backward_input(
    grad_input, grad_output, input, mean, invstd, weight, grad_weight, grad_bias, training, scratch
):
    """∂out[k] / ∂input[r] = weight·invstd·(δ_kr − 1/rows − x̂_k·x̂_r/rows), x̂ = (x − μ)·invstd

    Summed over k with grad_output[k], the second term gives the mean of grad_output and the third
    x̂_r times the mean of grad_output·x̂. In evaluation μ and invstd do not depend on the input, and
    only the first term remains.
    """
    for r, c in np.ndindex(input.shape):
        total = float(grad_output[r, c])
        if training:
            normal = _centred(input, mean, r, c) * float(invstd[c])
            total -= (float(grad_bias[c]) + normal * float(grad_weight[c])) / len(input)
        grad_input[r, c] = total * float(invstd[c]) * _or(weight, c, 1.0)


def batch_norm_backward_relu(
    grad_input, grad_sums, grad_output, input, mean, invstd, weight, grad_weight, grad_bias, scratch
):
    """batch_norm_backward_input; then ∂ max(z, 0) / ∂z = 1 where input = max(z, 0) is not 0, else 0

    grad_sums[c] = Σ_r grad_input[r, c]
    """
    batch_norm_backward_input(
        grad_input, grad_output, input, mean, invstd, weight, grad_weight, grad_bias, True, scratch
    )
    rows, C = input.shape
    for c in range(C):
        total = 0.0
        for r in range(rows):
            if input[r, c] <= 0:
                grad_input[r, c] = 0
            total += float(grad_input[r, c])
        grad_sums[c] = total
