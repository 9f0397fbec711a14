"""Optimiser steps and gradient clipping: one pass over the parameters and their state.

Every kernel is memory work. All parameters of a step go through one kernel, which gets a table of
addresses and one of numbers, a row for each parameter. The arrays are cut into pieces of fixed
length; each piece is one task, worked on by a vectorised loop and owned by one thread, so results
do not depend on the threads.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ._jit import helper, kernel, serial_kernel
from ._table import array_at, element_address, identities
from ._tasks import elements, light_tasks, tasks, whole

_PIECE = 8192


@lru_cache(maxsize=256)
def _pieces(sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(row, start, stop) of every piece, (P, 3); and the sizes."""
    pieces = [
        (row, start, min(start + _PIECE, size))
        for row, size in enumerate(sizes)
        for start in range(0, size, _PIECE)
    ]
    return np.array(pieces, np.int64).reshape(-1, 3), np.array(sizes, np.int64)


def _distinct_options(options):
    return {id(option): option for option in options}.values()


@serial_kernel
def _resolve(table, sizes, itemsize):
    """Put addresses of elements in the place of array objects, in all columns but the last.
    Returns whether no two of the first column, the parameters, share memory."""
    rows, columns = table.shape
    for row in range(rows):
        for column in range(columns - 1):
            table[row, column] = element_address(table[row, column])
    for i in range(rows):
        for j in range(i):
            first, second = (i, j) if table[i, 0] <= table[j, 0] else (j, i)
            if table[first, 0] + sizes[first] * itemsize > table[second, 0]:
                return False
    return True


def _run(kernel, numbers, options, params, *columns):
    """kernel(…) with a table that has a row for each parameter: the addresses of the parameter, of
    what is its own in the columns (0 for None), and which of the distinct options it has.

    All is done by one thread if parameters must go one after the other.
    """
    places: dict[int, int] = {}
    owners = [places.setdefault(id(option), len(places)) for option in options]
    table = np.array([*map(identities, (params, *columns)), owners], np.int64).T.copy()
    sizes = tuple([param.size for param in params])
    like, (pieces, lengths) = params[0], _pieces(sizes)
    # Small parameters are many pieces: what counts is their elements.
    elements = -(-sum(sizes) // max(1, len(pieces)))
    if not _resolve(table, lengths, like.itemsize):
        elements = 0
    kernel(table, np.array(numbers, np.float64), pieces, elements, like)


# SGD ----------------------------------------------------------------------------------------


@helper
def _sgd_piece(param, grad, lr, weight_decay, sign):
    T = param.dtype.type
    lr, weight_decay, sign = T(lr), T(weight_decay), T(sign)
    for i in range(param.size):
        param[i] -= lr * (sign * grad[i] + weight_decay * param[i])


@helper
def _momentum_piece(param, buffer, grad, lr, keep, take, weight_decay, nesterov, sign):
    # b ← keep·b + take·g, and p ← p − lr·b, or with Nesterov's momentum p ← p − lr·(g + nesterov·b)
    T = param.dtype.type
    lr, keep, take, weight_decay, sign = T(lr), T(keep), T(take), T(weight_decay), T(sign)
    nesterov = T(nesterov)
    if nesterov != 0:
        for i in range(param.size):
            g = sign * grad[i] + weight_decay * param[i]
            b = keep * buffer[i] + take * g
            buffer[i] = b
            param[i] -= lr * (g + nesterov * b)
    else:
        for i in range(param.size):
            b = keep * buffer[i] + take * (sign * grad[i] + weight_decay * param[i])
            buffer[i] = b
            param[i] -= lr * b


@helper
def _sgd_row(table, numbers, piece, like):
    # Per element 4 flop and 12 bytes in float32; with momentum 8 flop and 20 bytes.
    row, start, stop = piece
    lr, keep, take, weight_decay, nesterov, sign = numbers[table[row, 3]]
    param = array_at(table[row, 0], start, stop, like)
    grad = array_at(table[row, 2], start, stop, like)
    if table[row, 1] == 0:
        _sgd_piece(param, grad, lr, weight_decay, sign)
    else:
        buffer = array_at(table[row, 1], start, stop, like)
        _momentum_piece(param, buffer, grad, lr, keep, take, weight_decay, nesterov, sign)


@kernel
def _sgd(span, table, numbers, pieces, elements, like):
    for piece in light_tasks(span, len(pieces), elements):
        _sgd_row(table, numbers, pieces[piece], like)


def sgd_update(params, momentum_buffers, grads, options):
    numbers = []
    for o in _distinct_options(options):
        # At the first step the buffer holds nothing yet, and 0·NaN would be NaN.
        keep, take = (0.0, 1.0) if o.first else (o.momentum, 1.0 - o.dampening)
        nesterov = o.momentum if o.nesterov else 0.0
        numbers.append((o.lr, keep, take, o.weight_decay, nesterov, -1.0 if o.maximize else 1.0))
    for buffer, o in zip(momentum_buffers, options, strict=True):
        if o.first:
            buffer[...] = 0
    _run(_sgd, numbers, options, params, momentum_buffers, grads)


# Adam ---------------------------------------------------------------------------------------


@helper
def _adam_piece(param, m, v, grad, scale, beta1, beta2, eps, keep, decay, sign):
    T = param.dtype.type
    one_less_beta1, one_less_beta2 = T(1.0 - beta1), T(1.0 - beta2)
    scale, beta1, beta2, eps = T(scale), T(beta1), T(beta2), T(eps)
    keep, decay, sign = T(keep), T(decay), T(sign)
    for i in range(param.size):
        g = sign * grad[i] + decay * param[i]
        m_new = beta1 * m[i] + one_less_beta1 * g
        v_new = beta2 * v[i] + one_less_beta2 * (g * g)
        m[i] = m_new
        v[i] = v_new
        param[i] = keep * param[i] - scale * m_new / (math.sqrt(v_new) + eps)


@helper
def _amsgrad_piece(param, m, v, largest, grad, scale, beta1, beta2, eps, keep, decay, sign):
    T = param.dtype.type
    one_less_beta1, one_less_beta2 = T(1.0 - beta1), T(1.0 - beta2)
    scale, beta1, beta2, eps = T(scale), T(beta1), T(beta2), T(eps)
    keep, decay, sign = T(keep), T(decay), T(sign)
    for i in range(param.size):
        g = sign * grad[i] + decay * param[i]
        m_new = beta1 * m[i] + one_less_beta1 * g
        v_new = beta2 * v[i] + one_less_beta2 * (g * g)
        m[i] = m_new
        v[i] = v_new
        old = largest[i]
        # NaN wins on either side.
        top = old if v_new <= old or old != old else v_new
        largest[i] = top
        param[i] = keep * param[i] - scale * m_new / (math.sqrt(top) + eps)


@helper
def _adam_row(table, numbers, piece, like):
    # Per element about 14 flop, a square root, a division and 28 bytes in float32.
    row, start, stop = piece
    scale, beta1, beta2, eps, keep, decay, sign = numbers[table[row, 5]]
    param = array_at(table[row, 0], start, stop, like)
    m = array_at(table[row, 1], start, stop, like)
    v = array_at(table[row, 2], start, stop, like)
    grad = array_at(table[row, 4], start, stop, like)
    if table[row, 3] == 0:
        _adam_piece(param, m, v, grad, scale, beta1, beta2, eps, keep, decay, sign)
    else:
        largest = array_at(table[row, 3], start, stop, like)
        _amsgrad_piece(param, m, v, largest, grad, scale, beta1, beta2, eps, keep, decay, sign)


@kernel
def _adam(span, table, numbers, pieces, elements, like):
    for piece in light_tasks(span, len(pieces), elements):
        _adam_row(table, numbers, pieces[piece], like)


def adam_update(params, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, grads, options):
    numbers = []
    for o in _distinct_options(options):
        # lr/c1 · m / (√v/√c2 + ε) = scale · m / (√v + ε·√c2), scale = lr·√c2/c1: one division.
        # Decay is 'keep' of the parameter (AdamW) or 'decay' into the gradient (Adam); the other
        # one is neutral.
        root = math.sqrt(o.bias_correction2)
        keep, decay = (1.0 - o.lr * o.weight_decay, 0.0) if o.decoupled else (1.0, o.weight_decay)
        scale = o.lr * root / o.bias_correction1
        sign = -1.0 if o.maximize else 1.0
        numbers.append((scale, o.beta1, o.beta2, o.eps * root, keep, decay, sign))
    _run(_adam, numbers, options, params, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, grads)


# Clipping -----------------------------------------------------------------------------------


@helper
def _piece_power_sum(values, norm_type):
    # float64: squares of float32 gradients neither overflow nor lose their sum.
    total = 0.0
    if norm_type == 2.0:
        for i in range(values.size):
            total += np.float64(values[i]) * np.float64(values[i])
    elif norm_type == 1.0:
        for i in range(values.size):
            total += abs(np.float64(values[i]))
    elif norm_type == math.inf:
        for i in range(values.size):
            magnitude = abs(np.float64(values[i]))
            if not magnitude <= total and total == total:
                total = magnitude
    else:
        for i in range(values.size):
            total += abs(np.float64(values[i])) ** norm_type
    return total


# 2 flop an element for norm_type 2. Parallel over pieces of fixed length, whose sums are added in
# order: deterministic.
@kernel
def _power_sum(span, out, input, scratch, norm_type):
    pieces = -(-input.size // _PIECE)
    for piece in tasks(span, pieces):
        lo, hi = piece * _PIECE, min((piece + 1) * _PIECE, input.size)
        scratch[piece] = _piece_power_sum(input[lo:hi], norm_type)
    if whole(span):
        out[0] = _combine(scratch[:pieces], norm_type)


@helper
def _combine(sums, norm_type):
    total = 0.0
    for k in range(sums.size):
        if norm_type != math.inf:
            total += sums[k]
        elif not sums[k] <= total and total == total:
            total = sums[k]
    return total


def power_sum_workspace(size):
    return -(-size // _PIECE)


def power_sum(out, input, scratch, norm_type):
    _power_sum(out, input, scratch, float(norm_type))


@serial_kernel
def _total_norm(out, sums, norm_type):
    total = _combine(sums, norm_type)
    if norm_type == 2.0:
        total = math.sqrt(total)
    elif norm_type != math.inf:
        total = total ** (1.0 / norm_type)
    out[0] = total


def total_norm(out, sums, norm_type):
    _total_norm(out, sums, float(norm_type))


# 1 flop and 8 bytes an element in float32. Parallel over elements, each written once.
@kernel
def _clip_to_norm(span, values, norm, max_norm):
    factor = max_norm / (np.float64(norm[0]) + 1e-6)
    scale = values.dtype.type(1.0 if factor > 1.0 else factor)
    for i in elements(span, values.size):
        values[i] *= scale


def clip_to_norm(values, norm, max_norm):
    _clip_to_norm(values, norm, float(max_norm))


@kernel
def _clip_to_value(span, values, limit):
    high = values.dtype.type(limit)
    for i in elements(span, values.size):
        x = values[i]
        values[i] = high if x > high else (-high if x < -high else x)


def clip_to_value(values, limit):
    _clip_to_value(values, float(limit))
