"""Normalisation over groups of channels, on (N, L, C) arrays: layer_norm has one group and L = 1.

The statistics of a group are float64 and need two passes, mean before variance; its numbers stay in
cache between them. Inner loops run over the channels of one group at one position, as slices.

Numbers are normalised in their own type, without losing digits where the mean μ is far from 0: with
c = μ rounded to that type, x − c is exact near c, and x̂ = (x − c)·r + (c − μ)·r.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numba import prange

from ._jit import helper, kernel, serial_kernel
from ._rows import chunk_count, row_sum


@helper
def _affine(mean, invstd, number):
    """(c, r, (c − μ)·r) of a group."""
    center = number(mean)
    return center, number(invstd), number((np.float64(center) - mean) * invstd)


# Sums that need fewer digits than the mean are taken in the numbers' own type over so many
# elements, a few to a lane, and these sums added up in float64.
_BLOCK = 256


@helper
def _block_squares(row, center):
    total = row.dtype.type(0)
    for j in range(len(row)):
        d = row[j] - center
        total += d * d
    return np.float64(total)


@helper
def _squares(row, center):
    """Σ (x − center)²."""
    total = 0.0
    for first in range(0, len(row), _BLOCK):
        total += _block_squares(row[first : first + _BLOCK], center)
    return total


@helper
def _normalise(out, row, weight, bias, center, scale, shift):
    for j in range(len(row)):
        out[j] = ((row[j] - center) * scale + shift) * weight[j] + bias[j]


def group_norm_forward(out, mean, invstd, input, weight, bias, eps):
    weight, bias = _or(weight, input, 1), _or(bias, input, 0)
    _forward(out, mean, invstd, input, weight, bias, float(eps))


def _or(parameter, input, value):
    """The parameter, or the number that it defaults to for every channel."""
    return np.full(input.shape[2], value, input.dtype) if parameter is None else parameter


@kernel
def _forward(out, mean, invstd, input, weight, bias, eps):
    # Three passes over cached data. Parallel over (n, g): each task owns its group.
    N, L, C = input.shape
    G, number = mean.shape[1], input.dtype.type
    K = C // G
    count = max(L * K, 1)
    for task in prange(N * G):
        n, g = task // G, task % G
        a, b = g * K, (g + 1) * K
        total = 0.0
        for i in range(L):
            total += row_sum(input[n, i, a:b])
        mean[n, g] = total / count
        center = number(mean[n, g])
        total = 0.0
        for i in range(L):
            total += _squares(input[n, i, a:b], center)
        # mean (x − μ)² = mean (x − c)² − (c − μ)². No x is nearer to μ than c, the nearest number,
        # so at most half is lost.
        variance = total / count - (np.float64(center) - mean[n, g]) ** 2
        invstd[n, g] = 1 / sqrt(variance + eps)
        center, scale, shift = _affine(mean[n, g], invstd[n, g], number)
        for i in range(L):
            _normalise(
                out[n, i, a:b], input[n, i, a:b], weight[a:b], bias[a:b], center, scale, shift
            )


@helper
def _block_gradient_sums(grad, row, weight, center, scale, shift):
    first = second = row.dtype.type(0)
    for j in range(len(row)):
        scaled = grad[j] * weight[j]
        first += scaled
        second += scaled * ((row[j] - center) * scale + shift)
    return np.float64(first), np.float64(second)


@helper
def _gradient_sums(grad, row, weight, center, scale, shift):
    """Σ w·g and Σ w·g·x̂ of one slice."""
    first = second = 0.0
    for a in range(0, len(row), _BLOCK):
        b = a + _BLOCK
        sums = _block_gradient_sums(grad[a:b], row[a:b], weight[a:b], center, scale, shift)
        first += sums[0]
        second += sums[1]
    return first, second


@helper
def _gradient(out, grad, row, weight, center, scale, shift, first, second):
    for j in range(len(row)):
        normal = (row[j] - center) * scale + shift
        out[j] = scale * (grad[j] * weight[j] - first - normal * second)


def group_norm_backward_input(grad_input, grad_output, input, weight, mean, invstd):
    _backward_input(grad_input, grad_output, input, _or(weight, input, 1), mean, invstd)


@kernel
def _backward_input(grad_input, grad_output, input, weight, mean, invstd):
    # x̂ = (x − μ)·r with μ, r functions of every x of the group:
    #   dx = r·(w·g − mean(w·g) − x̂·mean(w·g·x̂))
    # Two passes over cached data. Parallel over (n, g): each task owns its group.
    N, L, C = input.shape
    G, number = mean.shape[1], input.dtype.type
    K = C // G
    count = max(L * K, 1)
    for task in prange(N * G):
        n, g = task // G, task % G
        a, b = g * K, (g + 1) * K
        center, scale, shift = _affine(mean[n, g], invstd[n, g], number)
        first = second = 0.0
        for i in range(L):
            sums = _gradient_sums(
                grad_output[n, i, a:b], input[n, i, a:b], weight[a:b], center, scale, shift
            )
            first += sums[0]
            second += sums[1]
        for i in range(L):
            _gradient(
                grad_input[n, i, a:b], grad_output[n, i, a:b], input[n, i, a:b], weight[a:b],
                center, scale, shift, number(first / count), number(second / count),
            )  # fmt: skip


@helper
def _add_products(weight_sums, bias_sums, grad, row, center, scale, shift):
    for j in range(len(row)):
        weight_sums[j] += np.float64(grad[j] * ((row[j] - center) * scale + shift))
        bias_sums[j] += np.float64(grad[j])


@helper
def _add_four_products(weight_sums, bias_sums, grads, rows, affines):
    """The same for four rows at once, which are added up in their own type first."""
    g0, g1, g2, g3 = grads
    x0, x1, x2, x3 = rows
    (c0, r0, s0), (c1, r1, s1), (c2, r2, s2), (c3, r3, s3) = affines
    for j in range(len(x0)):
        first = g0[j] * ((x0[j] - c0) * r0 + s0) + g1[j] * ((x1[j] - c1) * r1 + s1)
        second = g2[j] * ((x2[j] - c2) * r2 + s2) + g3[j] * ((x3[j] - c3) * r3 + s3)
        weight_sums[j] += np.float64(first + second)
        bias_sums[j] += np.float64((g0[j] + g1[j]) + (g2[j] + g3[j]))


# Each chunk has sums for all channels, which are written and read again.
_MAX_CHUNKS = 16


def group_norm_backward_affine_workspace(shape) -> int:
    N, L, C = shape
    return min(_MAX_CHUNKS, chunk_count(N * L * C)) * 2 * C


def group_norm_backward_affine(grad_weight, grad_bias, grad_output, input, mean, invstd, scratch):
    partial = scratch.reshape(-1, 2, input.shape[2])
    _affine_sums(partial, grad_output, input, mean, invstd)
    _combine(grad_weight, grad_bias, partial)


@kernel
def _affine_sums(partial, grad_output, input, mean, invstd):
    # dw[c] = Σ g·x̂, db[c] = Σ g. Parallel over chunks of positions, fixed by the shape; each task
    # owns its partial sums.
    N, L, C = input.shape
    G, number = mean.shape[1], input.dtype.type
    K = C // G
    grads, rows = grad_output.reshape(N * L, C), input.reshape(N * L, C)
    chunks = partial.shape[0]
    for chunk in prange(chunks):
        partial[chunk] = 0
        start, stop = chunk * N * L // chunks, (chunk + 1) * N * L // chunks
        fours = stop - (stop - start) % 4
        for g in range(G):
            a, b = g * K, (g + 1) * K
            weight_sums, bias_sums = partial[chunk, 0, a:b], partial[chunk, 1, a:b]
            for i in range(start, fours, 4):
                n0, n1, n2, n3 = i // L, (i + 1) // L, (i + 2) // L, (i + 3) // L
                _add_four_products(
                    weight_sums, bias_sums,
                    (grads[i, a:b], grads[i + 1, a:b], grads[i + 2, a:b], grads[i + 3, a:b]),
                    (rows[i, a:b], rows[i + 1, a:b], rows[i + 2, a:b], rows[i + 3, a:b]),
                    (_affine(mean[n0, g], invstd[n0, g], number),
                     _affine(mean[n1, g], invstd[n1, g], number),
                     _affine(mean[n2, g], invstd[n2, g], number),
                     _affine(mean[n3, g], invstd[n3, g], number)),
                )  # fmt: skip
            for i in range(fours, stop):
                center, scale, shift = _affine(mean[i // L, g], invstd[i // L, g], number)
                _add_products(
                    weight_sums, bias_sums, grads[i, a:b], rows[i, a:b], center, scale, shift
                )


@helper
def _add(sums, row):
    for j in range(len(sums)):
        sums[j] += row[j]


@serial_kernel
def _combine(grad_weight, grad_bias, partial):
    """Sums of the chunks, in their order."""
    sums = partial[0].reshape(-1)
    for chunk in range(1, partial.shape[0]):
        _add(sums, partial[chunk].reshape(-1))
    grad_weight[:] = partial[0, 0]
    grad_bias[:] = partial[0, 1]
