"""Normalisation over groups of channels, on (N, L, C) arrays: layer_norm has one group and L = 1.

A group, one of N·G, is L stretches of K = C/G neighbouring channels. The lanes of _middle.py share
its L·K numbers, counted position by position. Statistics need two passes, mean before variance;
what is read again comes from the cache. They are float64, in which most GPUs compute slowly: so
sums are compensated, only those of threads are added in float64, and the mean is used as two
numbers, as in norm.py.
"""

from __future__ import annotations

import numpy as np

from ._columns import column_totals, keep_sum
from ._device import cuda, device, sqrt
from ._launch import kernel, launch
from ._middle import place, reduction, rows_of, whole
from ._reduce import SUM, add_compensated, exact_sum, fold
from ._span import quotient, span


@device
def _group(o, lane, L, G, K):
    """Where the group begins, its first channel, and the lane's first (position, channel)."""
    if o < 0:
        return 0, 0, L, 0
    n, i = quotient(o, G), quotient(lane, K)
    channel = (o - n * G) * K
    return n * L * G * K + channel, channel, i, lane - i * K


@device
def _next(i, k, i_step, k_step, K):
    """i·K + k advanced by i_step·K + k_step."""
    i, k = i + i_step, k + k_step
    if k >= K:
        return i + 1, k - K
    return i, k


@device
def _centred(x, near, rest):
    """x − mean, for the mean near + rest."""
    return (x - near) - rest


@kernel
def _forward(real, threads):
    def forward(
        out, mean, invstd, input, weight, bias, eps, count, L, G, K,
        tile, tiles, depth, groups, outer, rows_each,
    ):  # fmt: skip
        # Three passes over cached data. The lanes of a group own it.
        shared = cuda.shared.array(threads, np.float64)
        o, _, lane = place(tile, tiles, depth, groups, outer, 1)
        base, channel, first_i, first_k = _group(o, lane, L, G, K)
        i_step, C = quotient(depth, K), G * K
        k_step = depth - i_step * K
        total = rest = real(0)
        i, k = first_i, first_k
        while i < L:
            total, rest = add_compensated(total, rest, input[base + i * C + k])
            i, k = _next(i, k, i_step, k_step, K)
        centre = fold(shared, exact_sum(total, rest), 1, depth, lane, SUM) / count
        near = real(centre)
        off = real(centre - np.float64(near))
        total = rest = real(0)
        i, k = first_i, first_k
        while i < L:
            d = _centred(input[base + i * C + k], near, off)
            total, rest = add_compensated(total, rest, d * d)
            i, k = _next(i, k, i_step, k_step, K)
        squares = fold(shared, exact_sum(total, rest), 1, depth, lane, SUM)
        invstd_wide = np.float64(1) / sqrt(squares / count + eps)
        if lane == 0:
            mean[o], invstd[o] = centre, invstd_wide
        scale = real(invstd_wide)
        i, k = first_i, first_k
        while i < L:
            y = _centred(input[base + i * C + k], near, off) * scale
            if weight is not None:
                y *= weight[channel + k]
            if bias is not None:
                y += bias[channel + k]
            out[base + i * C + k] = y
            i, k = _next(i, k, i_step, k_step, K)

    return forward


def group_norm_forward_workspace(shape) -> int:
    return 0


def group_norm_forward(out, mean, invstd, input, weight, bias, eps, scratch):
    if not mean.size:
        return
    L, G = input.shape[1], mean.shape[1]
    K = input.shape[2] // G
    plan = whole(mean.size, L * K, 1)
    # A group of nothing has the mean 0 and the variance 0.
    launch(
        _forward(out.dtype, plan.threads), plan.shape, out, mean, invstd, input, weight, bias,
        np.float64(eps), np.float64(max(L * K, 1)), L if K else 0, G, max(K, 1), *plan.cut,
    )  # fmt: skip


@kernel
def _backward_input(real, threads):
    def backward_input(
        grad_input, grad_output, input, weight, mean, invstd, L, G, K,
        tile, tiles, depth, groups, outer, rows_each,
    ):  # fmt: skip
        # x̂ = (x − μ)·r with μ, r functions of every x of the group:
        #   dx = r·(w·g − mean(w·g) − x̂·mean(w·g·x̂))
        # Two passes over cached data. The lanes of a group own it.
        shared = cuda.shared.array(threads, np.float64)
        o, _, lane = place(tile, tiles, depth, groups, outer, 1)
        base, channel, first_i, first_k = _group(o, lane, L, G, K)
        i_step, C = quotient(depth, K), G * K
        k_step = depth - i_step * K
        count = np.float64(L * K)
        near = off = scale = real(0)
        if o >= 0:
            near, scale = real(mean[o]), real(invstd[o])
            off = real(mean[o] - np.float64(near))
        sum_g = rest_g = total = rest = real(0)
        i, k = first_i, first_k
        while i < L:
            g = grad_output[base + i * C + k]
            if weight is not None:
                g *= weight[channel + k]
            sum_g, rest_g = add_compensated(sum_g, rest_g, g)
            normal = _centred(input[base + i * C + k], near, off) * scale
            total, rest = add_compensated(total, rest, g * normal)
            i, k = _next(i, k, i_step, k_step, K)
        first = real(fold(shared, exact_sum(sum_g, rest_g), 1, depth, lane, SUM) / count)
        second = real(fold(shared, exact_sum(total, rest), 1, depth, lane, SUM) / count)
        i, k = first_i, first_k
        while i < L:
            g = grad_output[base + i * C + k]
            if weight is not None:
                g *= weight[channel + k]
            normal = _centred(input[base + i * C + k], near, off) * scale
            grad_input[base + i * C + k] = scale * (g - first - normal * second)
            i, k = _next(i, k, i_step, k_step, K)

    return backward_input


def _launch_input_gradient(grad_input, grad_output, input, weight, mean, invstd):
    if not input.size:
        return
    L, G = input.shape[1], mean.shape[1]
    K = input.shape[2] // G
    plan = whole(mean.size, L * K, 1)
    launch(
        _backward_input(input.dtype, plan.threads), plan.shape, grad_input, grad_output, input,
        weight, mean, invstd, L, G, K, *plan.cut,
    )  # fmt: skip


@kernel
def _affine_sums(real, threads):
    def affine_sums(
        partial, grad_output, input, mean, invstd, rows, L, C, K,
        tile, tiles, depth, groups, outer, rows_each
    ):  # fmt: skip
        # dw[c] = Σ g·x̂, db[c] = Σ g over rows = N·L positions. A block owns partial[:, chunk, c].
        shared = cuda.shared.array(threads, np.float64)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        sum_g = rest_g = total = rest = real(0)
        if o >= 0:
            first, end = rows_of(lane, rows_each, rows)
            groups_each, channel_group = quotient(C, K), quotient(c, K)
            n, n_step = quotient(first, L), quotient(depth, L)
            i, i_step = first - n * L, depth - n_step * L
            for r in span(first, end, depth):
                group = n * groups_each + channel_group
                g = grad_output[r * C + c]
                sum_g, rest_g = add_compensated(sum_g, rest_g, g)
                normal = real(np.float64(input[r * C + c]) - mean[group]) * real(invstd[group])
                total, rest = add_compensated(total, rest, g * normal)
                n, i = _next(n, i, n_step, i_step, L)
        keep_sum(partial, 0, shared, exact_sum(total, rest), tile, depth, lane, c, C)
        keep_sum(partial, 1, shared, exact_sum(sum_g, rest_g), tile, depth, lane, c, C)

    return affine_sums


def _launch_affine_gradients(grad_weight, grad_bias, grad_output, input, mean, invstd, scratch):
    N, L, C = input.shape
    if not C:
        return
    plan = reduction(1, N * L, C)
    launch(
        _affine_sums(input.dtype, plan.threads), plan.shape, scratch, grad_output, input, mean,
        invstd, N * L, max(L, 1), C, C // max(mean.shape[1], 1), *plan.cut,
    )  # fmt: skip
    column_totals(grad_weight, grad_bias, scratch, None, plan.chunks, C)


def group_norm_backward_workspace(shape) -> int:
    N, L, C = shape
    return 2 * reduction(1, N * L, C).chunks * C if C else 0


def group_norm_backward(
    grad_input, grad_weight, grad_bias, grad_output, input, weight, mean, invstd, scratch
):
    if grad_input is not None:
        _launch_input_gradient(grad_input, grad_output, input, weight, mean, invstd)
    if grad_weight is not None:
        affine = grad_weight, grad_bias
        _launch_affine_gradients(*affine, grad_output, input, mean, invstd, scratch)
