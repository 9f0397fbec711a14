"""Normalisation over groups of channels, on (N, L, C) arrays: layer_norm has one group and L = 1.

The statistics of a group are float64 sums over the distance from its first number (why that is
enough: norm.py); the group stays in cache until it is normalised. Inner loops run over the channels
of one group at one position, as slices.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from ._jit import helper, kernel
from ._rows import chunk_count
from ._simd import whole_registers
from ._tasks import light_tasks, tasks


@helper
def _moments(row, shift):
    """Σ (x − shift) and Σ (x − shift)²."""
    whole_registers()
    total = squares = 0.0
    for j in range(len(row)):
        d = np.float64(row[j]) - shift
        total += d
        squares += d * d
    return total, squares


@helper
def _normalise(out, row, weight, bias, mean, invstd):
    whole_registers()
    for j in range(len(row)):
        normal = (np.float64(row[j]) - mean) * invstd
        out[j] = normal * weight[j] + bias[j]


def group_norm_forward(out, mean, invstd, input, weight, bias, eps):
    C = input.shape[2]
    _forward(out, mean, invstd, input, _or(weight, C, 1), _or(bias, C, 0), float(eps))


def _or(parameter, C, value):
    """The parameter, or the number that it defaults to for every channel."""
    return np.full(C, value, np.float64) if parameter is None else parameter.astype(np.float64)


@kernel
def _forward(span, out, mean, invstd, input, weight, bias, eps):
    # Two passes, the second over cached data. Parallel over (n, g): each task owns its group.
    N, L, C = input.shape
    G = mean.shape[1]
    K = C // G
    count = max(L * K, 1)
    for task in tasks(span, N * G):
        n, g = task // G, task % G
        a, b = g * K, (g + 1) * K
        shift = np.float64(input[n, 0, a]) if L * K > 0 else 0.0
        total = squares = 0.0
        for i in range(L):
            sums = _moments(input[n, i, a:b], shift)
            total += sums[0]
            squares += sums[1]
        d = total / count
        center = shift + d
        # Rounding alone may take the difference below zero. NaN stays.
        spread = squares - d * total
        scale = 1 / sqrt((0.0 if spread < 0 else spread) / count + eps)
        mean[n, g], invstd[n, g] = center, scale
        for i in range(L):
            _normalise(out[n, i, a:b], input[n, i, a:b], weight[a:b], bias[a:b], center, scale)


@helper
def _gradient_sums(grad, row, weight, mean):
    """Σ w·g and Σ w·g·(x − μ) of one slice."""
    whole_registers()
    first = second = 0.0
    for j in range(len(row)):
        scaled = np.float64(grad[j]) * weight[j]
        first += scaled
        second += scaled * (np.float64(row[j]) - mean)
    return first, second


@helper
def _gradient(out, grad, row, weight, mean, invstd, first, slope):
    whole_registers()
    for j in range(len(row)):
        d = np.float64(row[j]) - mean
        out[j] = invstd * (np.float64(grad[j]) * weight[j] - first - d * slope)


def group_norm_backward_input(grad_input, grad_output, input, weight, mean, invstd):
    C = input.shape[2]
    _backward_input(grad_input, grad_output, input, _or(weight, C, 1), mean, invstd)


@kernel
def _backward_input(span, grad_input, grad_output, input, weight, mean, invstd):
    # x̂ = (x − μ)·r with μ, r functions of every x of the group:
    #   dx = r·(w·g − mean(w·g) − x̂·mean(w·g·x̂)),   x̂·mean(w·g·x̂) = (x − μ)·r²·mean(w·g·(x − μ))
    # Two passes over cached data. Parallel over (n, g): each task owns its group.
    N, L, C = input.shape
    G = mean.shape[1]
    K = C // G
    count = max(L * K, 1)
    for task in tasks(span, N * G):
        n, g = task // G, task % G
        a, b = g * K, (g + 1) * K
        first = second = 0.0
        for i in range(L):
            sums = _gradient_sums(grad_output[n, i, a:b], input[n, i, a:b], weight[a:b], mean[n, g])
            first += sums[0]
            second += sums[1]
        slope = second / count * invstd[n, g] ** 2
        for i in range(L):
            _gradient(
                grad_input[n, i, a:b], grad_output[n, i, a:b], input[n, i, a:b], weight[a:b],
                mean[n, g], invstd[n, g], first / count, slope,
            )  # fmt: skip


@helper
def _add_affine(weight_sums, bias_sums, grad, row, mean, invstd):
    whole_registers()
    for j in range(len(row)):
        weight_sums[j] += np.float64(grad[j]) * (np.float64(row[j]) - mean) * invstd
        bias_sums[j] += np.float64(grad[j])


def group_norm_backward_affine_workspace(shape) -> int:
    N, L, C = shape
    return chunk_count(N * L * C) * 2 * C


def group_norm_backward_affine(grad_weight, grad_bias, grad_output, input, mean, invstd, scratch):
    partial = scratch.reshape(-1, 2, input.shape[2])
    _affine_sums(partial, grad_output, input, mean, invstd)
    _combine(grad_weight, grad_bias, partial)


@kernel
def _affine_sums(span, partial, grad_output, input, mean, invstd):
    # dw[c] = Σ g·x̂, db[c] = Σ g. Parallel over chunks of positions, fixed by the shape; each task
    # owns its partial sums.
    N, L, C = input.shape
    G = mean.shape[1]
    K = C // G
    chunks = partial.shape[0]
    for chunk in tasks(span, chunks):
        partial[chunk] = 0
        for row in range(chunk * N * L // chunks, (chunk + 1) * N * L // chunks):
            n, i = row // L, row % L
            for g in range(G):
                a, b = g * K, (g + 1) * K
                _add_affine(
                    partial[chunk, 0, a:b], partial[chunk, 1, a:b], grad_output[n, i, a:b],
                    input[n, i, a:b], mean[n, g], invstd[n, g],
                )  # fmt: skip


@kernel
def _combine(span, grad_weight, grad_bias, partial):
    """Sums of the chunks, in their order."""
    for c in light_tasks(span, grad_weight.size, 1):
        weight = bias = 0.0
        for chunk in range(partial.shape[0]):
            weight += partial[chunk, 0, c]
            bias += partial[chunk, 1, c]
        grad_weight[c], grad_bias[c] = weight, bias
