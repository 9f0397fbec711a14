"""Losses. Arrays of classification losses are (rows, C), one row a position, C the classes.

Sums over rows are cut into chunks fixed by the shape and accumulated in float64: the same bits for
any number of threads, and no loss of accuracy over many rows.
"""

from __future__ import annotations

from math import log

import numpy as np

from ..formulas import ABSOLUTE, SMOOTH, SQUARED, difference_loss
from ._jit import helper, inlined, kernel, serial_kernel
from ._map import at
from ._rows import chunk_count, exp_of, exp_rows, row_sum, row_tasks, scale_row
from ._simd import whole_registers
from ._tasks import elements, light_tasks, tasks, whole

# Class indices ------------------------------------------------------------------------------


def class_targets_workspace(rows: int) -> int:
    return 2 * chunk_count(rows)


def class_targets(first_bad, total_weight, target, weight, classes, ignore_index, scratch):
    partial = scratch.reshape(-1, 2)
    _scan_targets(first_bad, total_weight, partial, target, weight, classes, ignore_index)


@kernel
def _scan_targets(span, first_bad, total_weight, partial, target, weight, classes, ignore_index):
    # Parallel over chunks; partial[chunk] = (first bad position or −1, Σ weight[target]).
    chunks = partial.shape[0]
    for chunk in tasks(span, chunks):
        bad, total = -1, 0.0
        for i in range(chunk * target.size // chunks, (chunk + 1) * target.size // chunks):
            t = target[i]
            if t != ignore_index:
                if t < 0 or t >= classes:
                    bad = i if bad < 0 else bad
                elif weight is None:
                    total += 1.0
                else:
                    total += np.float64(weight[t])
        partial[chunk, 0] = bad
        partial[chunk, 1] = total
    if whole(span):
        bad, total = -1, 0.0
        for chunk in range(chunks):
            if bad < 0:
                bad = int(partial[chunk, 0])
            total += partial[chunk, 1]
        first_bad[0] = bad
        total_weight[0] = total


@kernel
def cross_entropy_forward(
    span, losses, probabilities, input, target, weight, ignore_index, smoothing
):
    # One exp an element; input is read once from memory. Parallel over blocks of rows; each task
    # owns its rows: deterministic.
    rows, C = input.shape
    dtype = input.dtype.type
    parts, block = row_tasks(rows, C)
    for task in tasks(span, parts):
        end = (task + 1) * rows // parts
        for first in range(task * rows // parts, end, block):
            last = min(first + block, end)
            exp_rows(probabilities, losses, input, first, last)
            for r in range(first, last):
                total = row_sum(probabilities[r])
                scale_row(probabilities[r], dtype(1 / total))
                t = target[r]
                if t == ignore_index:
                    losses[r] = 0
                    continue
                # −log p_c = (max − x_c) + log Σ exp(x − max)
                maximum, log_total = np.float64(losses[r]), log(total)
                loss = (maximum - np.float64(input[r, t])) + log_total
                if weight is not None:
                    loss *= np.float64(weight[t])
                if smoothing > 0:
                    uniform = 0.0
                    for c in range(C):
                        term = (maximum - np.float64(input[r, c])) + log_total
                        uniform += term if weight is None else term * np.float64(weight[c])
                    loss = (1 - smoothing) * loss + smoothing / C * uniform
                losses[r] = loss


@helper
def _scaled_row(out, row, factor):
    whole_registers()
    for c in range(row.size):
        out[c] = row[c] * factor


@kernel
def cross_entropy_backward_input(
    span, grad_input, grad_output, divisor, probabilities, target, weight, ignore_index, smoothing
):
    # loss = (1−ε)·w_t·(−log p_t) + ε/C·Σ_k w_k·(−log p_k), and ∂(−log p_k)/∂x_c = p_c − δ_kc:
    #   gx_c = g·(p_c·((1−ε)·w_t + ε/C·Σ_k w_k) − (1−ε)·w_t·δ_tc − ε/C·w_c), g = grad / divisor.
    # Parallel over blocks of rows; each task owns its rows.
    rows, C = probabilities.shape
    dtype = probabilities.dtype.type
    parts, _ = row_tasks(rows, C)
    step = 0 if grad_output.size == 1 else 1
    all_weights = np.float64(C) if weight is None else row_sum(weight)
    for task in tasks(span, parts):
        for r in range(task * rows // parts, (task + 1) * rows // parts):
            t = target[r]
            if t == ignore_index:
                for c in range(C):
                    grad_input[r, c] = 0
                continue
            g = np.float64(grad_output[r * step]) / np.float64(divisor[0])
            hard = (1 - smoothing) * g
            if weight is not None:
                hard *= np.float64(weight[t])
            if smoothing == 0:
                factor = dtype(hard)
                _scaled_row(grad_input[r], probabilities[r], factor)
                grad_input[r, t] = (probabilities[r, t] - dtype(1)) * factor
            else:
                soft = smoothing / C * g
                factor, share = dtype(hard + soft * all_weights), dtype(soft)
                for c in range(C):
                    w = dtype(1) if weight is None else weight[c]
                    grad_input[r, c] = probabilities[r, c] * factor - share * w
                grad_input[r, t] -= dtype(hard)


# Class probabilities ------------------------------------------------------------------------


@kernel
def soft_cross_entropy_forward(span, losses, log_probabilities, input, target, weight, smoothing):
    # As cross_entropy_forward, with q = (1−ε)·target + ε/C and −Σ_c w_c·q_c·log p_c a row.
    rows, C = input.shape
    dtype = input.dtype.type
    parts, block = row_tasks(rows, C)
    for task in tasks(span, parts):
        end = (task + 1) * rows // parts
        for first in range(task * rows // parts, end, block):
            last = min(first + block, end)
            exp_rows(log_probabilities, losses, input, first, last)
            for r in range(first, last):
                log_total = dtype(log(row_sum(log_probabilities[r])))
                loss = 0.0
                for c in range(C):
                    log_p = (input[r, c] - losses[r]) - log_total
                    log_probabilities[r, c] = log_p
                    q = (1 - smoothing) * np.float64(target[r, c]) + smoothing / C
                    if weight is not None:
                        q *= np.float64(weight[c])
                    loss -= q * np.float64(log_p)
                losses[r] = loss


@kernel
def soft_cross_entropy_backward_input(
    span, grad_input, grad_output, divisor, log_probabilities, target, weight, smoothing
):
    # ∂(−log p_k)/∂x_c = p_c − δ_kc, so gx_c = g·(p_c·Σ_k w_k·q_k − w_c·q_c), g = grad / divisor.
    rows, C = log_probabilities.shape
    dtype = log_probabilities.dtype.type
    parts, block = row_tasks(rows, C)
    step = 0 if grad_output.size == 1 else 1
    for task in tasks(span, parts):
        end = (task + 1) * rows // parts
        for first in range(task * rows // parts, end, block):
            last = min(first + block, end)
            probabilities = grad_input[first:last].reshape(-1)
            logs = log_probabilities[first:last].reshape(-1)
            exp_of(probabilities, logs)
            for r in range(first, last):
                g = np.float64(grad_output[r * step]) / np.float64(divisor[0])
                total = 0.0
                for c in range(C):
                    q = (1 - smoothing) * np.float64(target[r, c]) + smoothing / C
                    total += q if weight is None else q * np.float64(weight[c])
                factor = dtype(g * total)
                for c in range(C):
                    q = (1 - smoothing) * np.float64(target[r, c]) + smoothing / C
                    if weight is not None:
                        q *= np.float64(weight[c])
                    grad_input[r, c] = grad_input[r, c] * factor - dtype(g * q)


@kernel
def soft_cross_entropy_backward_target(
    span, grad_target, grad_output, divisor, log_probabilities, weight, smoothing
):
    # ∂loss/∂target_c = −(1−ε)·w_c·log p_c
    rows, C = log_probabilities.shape
    dtype = log_probabilities.dtype.type
    parts, _ = row_tasks(rows, C)
    step = 0 if grad_output.size == 1 else 1
    for task in tasks(span, parts):
        for r in range(task * rows // parts, (task + 1) * rows // parts):
            factor = -(1 - smoothing) * np.float64(grad_output[r * step]) / np.float64(divisor[0])
            for c in range(C):
                f = dtype(factor if weight is None else factor * np.float64(weight[c]))
                grad_target[r, c] = f * log_probabilities[r, c]


# Negative log-likelihood --------------------------------------------------------------------


@kernel
def nll_loss_forward(span, losses, input, target, weight, ignore_index):
    # One gather a row. Parallel over rows.
    for r in light_tasks(span, target.size, 1):
        t = target[r]
        if t == ignore_index:
            losses[r] = 0
        elif weight is None:
            losses[r] = -input[r, t]
        else:
            losses[r] = -weight[t] * input[r, t]


@kernel
def nll_loss_backward_input(span, grad_input, grad_output, divisor, target, weight, ignore_index):
    # loss = −w_t·x_t: gx_c = −g·w_t·δ_tc, g = grad / divisor.
    rows, C = grad_input.shape
    step = 0 if grad_output.size == 1 else 1
    for r in light_tasks(span, rows, C):
        for c in range(C):
            grad_input[r, c] = 0
        t = target[r]
        if t != ignore_index:
            g = -np.float64(grad_output[r * step]) / np.float64(divisor[0])
            grad_input[r, t] = g if weight is None else g * np.float64(weight[t])


# Losses of a difference ---------------------------------------------------------------------

_loss = inlined(difference_loss)


@inlined
def _slope(kind, d, beta):
    """f′(d). At 0 the absolute value has the slope 0; NaN has the slope NaN."""
    if kind == SQUARED:
        return d + d
    if kind == SMOOTH and abs(d) < beta:
        return d / beta
    return np.sign(d)


@inlined
def _loss_sum(kind, input, target, beta, half):
    whole_registers()
    total = 0.0
    for i in range(input.size):
        total += np.float64(_loss(kind, input[i] - target[i], beta, half))
    return total


def _make_difference_loss(kind: int):
    """Three kernels of one loss f(input − target), flat arrays, parallel over elements."""

    @kernel
    def forward(span, out, input, target, beta):
        b, half = out.dtype.type(beta), out.dtype.type(beta / 2)
        for i in elements(span, out.size):
            out[i] = _loss(kind, input[i] - target[i], b, half)

    @kernel
    def total(span, partial, input, target, beta):
        # partial[chunk] = Σ f over the chunk, in float64.
        chunks = partial.size
        b, half = input.dtype.type(beta), input.dtype.type(beta / 2)
        for chunk in tasks(span, chunks):
            first, last = chunk * input.size // chunks, (chunk + 1) * input.size // chunks
            partial[chunk] = _loss_sum(kind, input[first:last], target[first:last], b, half)

    @kernel
    def backward(span, grad_input, grad_output, input, target, divisor, beta):
        # grad_output: an array, or the gradient of the total.
        dtype = grad_input.dtype.type
        b, d = dtype(beta), dtype(divisor)
        for i in elements(span, grad_input.size):
            grad_input[i] = _slope(kind, input[i] - target[i], b) * (at(grad_output, i) / d)

    return forward, total, backward


_squared_error, _squared_error_sum, _squared_error_backward = _make_difference_loss(SQUARED)
_absolute_error, _absolute_error_sum, _absolute_error_backward = _make_difference_loss(ABSOLUTE)
_smooth_error, _smooth_error_sum, _smooth_error_backward = _make_difference_loss(SMOOTH)
_KERNELS = {
    SQUARED: (_squared_error, _squared_error_sum, _squared_error_backward),
    ABSOLUTE: (_absolute_error, _absolute_error_sum, _absolute_error_backward),
    SMOOTH: (_smooth_error, _smooth_error_sum, _smooth_error_backward),
}


def _upstream(grad_output, input):
    """The gradient of each loss, or that of their total as a number."""
    return grad_output if grad_output.size == input.size > 1 else grad_output[0]


def loss_total_workspace(size: int) -> int:
    return chunk_count(size)


def difference_loss_forward(out, input, target, kind, beta):
    forward, _, _ = _KERNELS[kind]
    forward(out, input, target, float(beta))


def difference_loss_total(out, input, target, divisor, kind, beta, scratch):
    _, total, _ = _KERNELS[kind]
    total(scratch, input, target, float(beta))
    _finish_total(out, scratch, float(divisor))


def difference_loss_backward_input(grad_input, grad_output, input, target, divisor, kind, beta):
    # ∂f(x − y)/∂x = f′(x − y)
    _, _, backward = _KERNELS[kind]
    backward(grad_input, _upstream(grad_output, input), input, target, divisor, float(beta))


# Totals -------------------------------------------------------------------------------------


def loss_total(out, losses, divisor, scratch):
    if scratch.size == 1:  # too few to be worth waking the threads
        scratch = losses
    else:
        _sum_losses(scratch, losses)
    _finish_total(out, scratch, float(divisor[0]))


@kernel
def _sum_losses(span, partial, losses):
    chunks = partial.size
    for chunk in tasks(span, chunks):
        partial[chunk] = row_sum(
            losses[chunk * losses.size // chunks : (chunk + 1) * losses.size // chunks]
        )


@serial_kernel
def _finish_total(out, partial, divisor):
    out[0] = row_sum(partial) / divisor
