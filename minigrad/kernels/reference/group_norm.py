"""Normalisation over groups of channels by its definition.

With x over the L positions and the channels of group g of sample n, M numbers in all:
    mean[n, g] = Σ x / M,   invstd[n, g] = 1 / √(Σ (x − mean)² / M + eps)
    out = (x − mean) · invstd · weight[c] + bias[c]
Layer normalisation is the case of one group. Source: Wu & He 2018, "Group Normalization".
"""

from __future__ import annotations

import math

import numpy as np


def _places(input, mean, n, g):
    """Every (n, i, c) of group g."""
    _, L, C = input.shape
    size = C // mean.shape[1]
    return [(n, i, c) for i in range(L) for c in range(g * size, (g + 1) * size)]


def _inverse_root(x):
    return 1 / math.sqrt(x) if x > 0 else math.inf if x == 0 else math.nan


def group_norm_forward(out, mean, invstd, input, weight, bias, eps, scratch):
    for n, g in np.ndindex(mean.shape):
        places = _places(input, mean, n, g)
        count = max(len(places), 1)
        mean[n, g] = math.fsum(input[place] for place in places) / count
        variance = math.fsum((float(input[p]) - mean[n, g]) ** 2 for p in places) / count
        invstd[n, g] = _inverse_root(variance + eps)
        for place in places:
            c = place[2]
            normal = (float(input[place]) - mean[n, g]) * invstd[n, g]
            scaled = normal if weight is None else normal * weight[c]
            out[place] = scaled if bias is None else scaled + bias[c]


def _input_gradient(grad_input, grad_output, input, weight, mean, invstd):
    """dx = invstd · (w·g − mean(w·g) − x̂ · mean(w·g·x̂)) with x̂ = (x − mean) · invstd"""
    for n, g in np.ndindex(mean.shape):
        places = _places(input, mean, n, g)
        count = max(len(places), 1)
        normal = {p: (float(input[p]) - mean[n, g]) * invstd[n, g] for p in places}
        scaled = {
            p: float(grad_output[p]) * (1.0 if weight is None else float(weight[p[2]]))
            for p in places
        }
        first = math.fsum(scaled.values()) / count
        second = math.fsum(scaled[p] * normal[p] for p in places) / count
        for p in places:
            grad_input[p] = invstd[n, g] * (scaled[p] - first - normal[p] * second)


def _affine_gradients(grad_weight, grad_bias, grad_output, input, mean, invstd):
    """dw[c] = Σ g · x̂,  db[c] = Σ g"""
    N, L, C = input.shape
    G = mean.shape[1]
    for c in range(C):
        g = c // (C // G)
        total_weight = total_bias = 0.0
        for n, i in np.ndindex(N, L):
            normal = (float(input[n, i, c]) - mean[n, g]) * invstd[n, g]
            total_weight += float(grad_output[n, i, c]) * normal
            total_bias += float(grad_output[n, i, c])
        grad_weight[c], grad_bias[c] = total_weight, total_bias


def group_norm_backward(
    grad_input, grad_weight, grad_bias, grad_output, input, weight, mean, invstd, scratch
):
    if grad_input is not None:
        _input_gradient(grad_input, grad_output, input, weight, mean, invstd)
    if grad_weight is not None:
        _affine_gradients(grad_weight, grad_bias, grad_output, input, mean, invstd)
