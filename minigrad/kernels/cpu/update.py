"""Optimiser steps and gradient clipping: one pass over a parameter and its state.

Every kernel is memory work. An array is cut into pieces of fixed length; each piece is one task,
worked on by a vectorised loop and owned by one thread, so results do not depend on the threads.
Small arrays run on the calling thread: starting the others would cost more than the work.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ._jit import helper, kernel, serial_kernel

_PIECE = 8192
# A float32 element of Adam moves 28 bytes: 32768 of them take about as long as starting threads.
_PARALLEL_FROM = 32768


# SGD ----------------------------------------------------------------------------------------


@helper
def _sgd_piece(param, grad, lr, weight_decay, sign):
    T = param.dtype.type
    lr, weight_decay, sign = T(lr), T(weight_decay), T(sign)
    for i in range(param.size):
        param[i] -= lr * (sign * grad[i] + weight_decay * param[i])


@serial_kernel
def _sgd_serial(param, grad, lr, weight_decay, sign):
    _sgd_piece(param, grad, lr, weight_decay, sign)


# 4 flop and 12 bytes an element in float32. Parallel over pieces, each thread owns its pieces.
@kernel
def _sgd_parallel(param, grad, lr, weight_decay, sign):
    for piece in prange(-(-param.size // _PIECE)):
        lo, hi = piece * _PIECE, min((piece + 1) * _PIECE, param.size)
        _sgd_piece(param[lo:hi], grad[lo:hi], lr, weight_decay, sign)


@helper
def _momentum_piece(param, buffer, grad, lr, keep, take, weight_decay, momentum, nesterov, sign):
    # b ← keep·b + take·g; at the first step keep = 0 and take = 1, and b is zero.
    T = param.dtype.type
    lr, keep, take, weight_decay, sign = T(lr), T(keep), T(take), T(weight_decay), T(sign)
    momentum = T(momentum)
    if nesterov:
        for i in range(param.size):
            g = sign * grad[i] + weight_decay * param[i]
            b = keep * buffer[i] + take * g
            buffer[i] = b
            param[i] -= lr * (g + momentum * b)
    else:
        for i in range(param.size):
            b = keep * buffer[i] + take * (sign * grad[i] + weight_decay * param[i])
            buffer[i] = b
            param[i] -= lr * b


@serial_kernel
def _momentum_serial(param, buffer, grad, lr, keep, take, weight_decay, momentum, nesterov, sign):
    _momentum_piece(param, buffer, grad, lr, keep, take, weight_decay, momentum, nesterov, sign)


# 8 flop and 20 bytes an element in float32. Parallel over pieces, each thread owns its pieces.
@kernel
def _momentum_parallel(param, buffer, grad, lr, keep, take, weight_decay, momentum, nesterov, sign):
    for piece in prange(-(-param.size // _PIECE)):
        lo, hi = piece * _PIECE, min((piece + 1) * _PIECE, param.size)
        _momentum_piece(
            param[lo:hi], buffer[lo:hi], grad[lo:hi],
            lr, keep, take, weight_decay, momentum, nesterov, sign,
        )  # fmt: skip


def sgd_update(
    param, momentum_buffer, grad,
    lr, momentum, dampening, weight_decay, nesterov, maximize, first,
):  # fmt: skip
    parallel = param.size >= _PARALLEL_FROM
    lr, weight_decay, sign = float(lr), float(weight_decay), -1.0 if maximize else 1.0
    if momentum_buffer is None:
        run = _sgd_parallel if parallel else _sgd_serial
        run(param, grad, lr, weight_decay, sign)
        return
    if first:
        # The buffer holds nothing yet, and 0·NaN would be NaN.
        momentum_buffer[...] = 0
        keep, take = 0.0, 1.0
    else:
        keep, take = float(momentum), 1.0 - dampening
    run = _momentum_parallel if parallel else _momentum_serial
    run(
        param, momentum_buffer, grad,
        lr, keep, take, weight_decay, float(momentum), bool(nesterov), sign,
    )  # fmt: skip


# Adam ---------------------------------------------------------------------------------------


@helper
def _adam_piece(param, m, v, largest, grad, scale, beta1, beta2, eps, keep, decay, sign):
    # lr/c1 · m / (√v/√c2 + ε) = scale · m / (√v + ε·√c2), with scale = lr·√c2/c1: one division.
    # The caller passes ε·√c2 as eps. Decay is 'keep' of the parameter (AdamW) or 'decay' into the
    # gradient (Adam); the other one is neutral.
    T = param.dtype.type
    one_less_beta1, one_less_beta2 = T(1.0 - beta1), T(1.0 - beta2)
    scale, beta1, beta2, eps = T(scale), T(beta1), T(beta2), T(eps)
    keep, decay, sign = T(keep), T(decay), T(sign)
    if largest is None:
        for i in range(param.size):
            g = sign * grad[i] + decay * param[i]
            m_new = beta1 * m[i] + one_less_beta1 * g
            v_new = beta2 * v[i] + one_less_beta2 * (g * g)
            m[i] = m_new
            v[i] = v_new
            param[i] = keep * param[i] - scale * m_new / (math.sqrt(v_new) + eps)
    else:
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


@serial_kernel
def _adam_serial(param, m, v, largest, grad, scale, beta1, beta2, eps, keep, decay, sign):
    _adam_piece(param, m, v, largest, grad, scale, beta1, beta2, eps, keep, decay, sign)


# About 14 flop, a square root, a division and 28 bytes an element in float32. Parallel over
# pieces, each thread owns its pieces.
@kernel
def _adam_parallel(param, m, v, grad, scale, beta1, beta2, eps, keep, decay, sign):
    for piece in prange(-(-param.size // _PIECE)):
        lo, hi = piece * _PIECE, min((piece + 1) * _PIECE, param.size)
        _adam_piece(
            param[lo:hi], m[lo:hi], v[lo:hi], None, grad[lo:hi],
            scale, beta1, beta2, eps, keep, decay, sign,
        )  # fmt: skip


@kernel
def _amsgrad_parallel(param, m, v, largest, grad, scale, beta1, beta2, eps, keep, decay, sign):
    for piece in prange(-(-param.size // _PIECE)):
        lo, hi = piece * _PIECE, min((piece + 1) * _PIECE, param.size)
        _adam_piece(
            param[lo:hi], m[lo:hi], v[lo:hi], largest[lo:hi], grad[lo:hi],
            scale, beta1, beta2, eps, keep, decay, sign,
        )  # fmt: skip


def adam_update(
    param, exp_avg, exp_avg_sq, max_exp_avg_sq, grad,
    lr, beta1, beta2, eps, weight_decay, bias_correction1, bias_correction2, decoupled, maximize,
):  # fmt: skip
    root = math.sqrt(bias_correction2)
    keep, decay = (1.0 - lr * weight_decay, 0.0) if decoupled else (1.0, float(weight_decay))
    scalars = (
        lr * root / bias_correction1, float(beta1), float(beta2), eps * root,
        keep, decay, -1.0 if maximize else 1.0,
    )  # fmt: skip
    if param.size < _PARALLEL_FROM:
        _adam_serial(param, exp_avg, exp_avg_sq, max_exp_avg_sq, grad, *scalars)
    elif max_exp_avg_sq is None:
        _adam_parallel(param, exp_avg, exp_avg_sq, grad, *scalars)
    else:
        _amsgrad_parallel(param, exp_avg, exp_avg_sq, max_exp_avg_sq, grad, *scalars)


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
def _power_sum(out, input, scratch, norm_type):
    pieces = -(-input.size // _PIECE)
    for piece in prange(pieces):
        lo, hi = piece * _PIECE, min((piece + 1) * _PIECE, input.size)
        scratch[piece] = _piece_power_sum(input[lo:hi], norm_type)
    out[0] = _combine(scratch[:pieces], norm_type)


@serial_kernel
def _power_sum_small(out, input, norm_type):
    out[0] = _piece_power_sum(input, norm_type)


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
    if input.size <= _PIECE:
        _power_sum_small(out, input, float(norm_type))
    else:
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
def _clip_to_norm(values, norm, max_norm):
    factor = max_norm / (np.float64(norm[0]) + 1e-6)
    scale = values.dtype.type(1.0 if factor > 1.0 else factor)
    for i in prange(values.size):
        values[i] *= scale


def clip_to_norm(values, norm, max_norm):
    _clip_to_norm(values, norm, float(max_norm))


@kernel
def _clip_to_value(values, limit):
    high = values.dtype.type(limit)
    for i in prange(values.size):
        x = values[i]
        values[i] = high if x > high else (-high if x < -high else x)


def clip_to_value(values, limit):
    _clip_to_value(values, float(limit))
