"""Batch normalisation of (rows, C) arrays and then an activation, in one pass over memory each way.

Only batch norm's input is read and kept: z, which the activation gets, is made of it again. The
lanes of _middle.py share a channel, as in norm.py.
"""

from __future__ import annotations

import math

import numpy as np

from ._columns import column_totals, keep_sum
from ._device import cuda, device
from ._launch import kernel, launch
from ._middle import AT_ONCE, load_rows, place, reduction, rows_of, spread
from ._reduce import add_compensated, exact_sum
from ._span import span
from .norm import change_of, gradient, normalised, scale_of, slopes_of
from .unary import sigmoid

_SILU = math.nan, math.nan


@device
def _activated(z, low, high, silu):
    if silu:
        return z * sigmoid(z)
    # NaN stays, and a bound of NaN is none.
    raised = low if z < low else z
    return high if raised > high else raised


@device
def _through(grad, z, low, high, silu, zero):
    if silu:
        # y = z·s(z): dy/dz = s + z·s·(1 − s)
        one = type(z)(1)
        s = sigmoid(z)
        return grad * s * (one + z * (one - s))
    # NaN passes as through relu, but not as through clamp.
    return zero if z <= low or z >= high or (z != z and high == high) else grad


def _numbers(bounds):
    """(low, high), and whether they stand for silu."""
    low, high = _SILU if bounds is None else bounds
    return (float(low), float(high)), int(bounds is None)


# Forward ------------------------------------------------------------------------------------


def batch_norm_activation_forward_workspace(rows: int, C: int) -> int:
    return 0


@kernel
def _forward(real, threads, silu):
    def forward(
        out, input, mean, invstd, weight, bias, low, high, rows, C,
        tile, tiles, depth, groups, outer, rows_each,
    ):  # fmt: skip
        # Four flop an element and the activation's, one pass over memory. Each thread owns rows of
        # one channel.
        values = cuda.local.array(AT_ONCE, real)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        if o >= 0:
            change = change_of(mean, invstd, weight, bias, real(0), c, C)
            first, end = rows_of(lane, rows_each, rows)
            stride = depth * C
            for r in span(first, end, AT_ONCE * depth):
                at = r * C + c
                load_rows(values, input, at, stride, r, depth, end)
                for k in range(AT_ONCE):
                    if r + k * depth < end:
                        z = normalised(values[k], change)
                        out[at + k * stride] = _activated(z, low, high, silu)

    return forward


def batch_norm_activation_forward(out, input, mean, invstd, weight, bias, bounds, scratch):
    rows, C = input.shape
    plan, (limits, silu) = spread(1, rows, C), _numbers(bounds)
    launch(
        _forward(out.dtype, plan.threads, silu), plan.shape, out, input, mean, invstd,
        weight, bias, *limits, rows, C, *plan.cut,
    )  # fmt: skip


# Backward -----------------------------------------------------------------------------------


def batch_norm_activation_backward_affine_workspace(rows: int, C: int) -> int:
    return 2 * reduction(1, rows, C).chunks * C


@kernel
def _products(real, threads, silu):
    def products(
        partial, grad_output, input, mean, invstd, weight, bias, low, high, rows, C,
        tile, tiles, depth, groups, outer, rows_each,
    ):  # fmt: skip
        # Eight flop an element and the slope's, one pass. A block owns partial[:, chunk, c], which
        # is (Σ gz·(x − μ), Σ gz).
        shared = cuda.shared.array(threads, np.float64)
        grads, values = cuda.local.array(AT_ONCE, real), cuda.local.array(AT_ONCE, real)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        total = rest = sum_g = rest_g = real(0)
        if o >= 0:
            change = change_of(mean, invstd, weight, bias, real(0), c, C)
            centre, centre_rest, _, _ = change
            first, end = rows_of(lane, rows_each, rows)
            stride = depth * C
            for r in span(first, end, AT_ONCE * depth):
                at = r * C + c
                load_rows(grads, grad_output, at, stride, r, depth, end)
                load_rows(values, input, at, stride, r, depth, end)
                for k in range(AT_ONCE):
                    if r + k * depth < end:
                        z = normalised(values[k], change)
                        g = _through(grads[k], z, low, high, silu, real(0))
                        distance = (values[k] - centre) - centre_rest
                        total, rest = add_compensated(total, rest, g * distance)
                        sum_g, rest_g = add_compensated(sum_g, rest_g, g)
        keep_sum(partial, 0, shared, exact_sum(total, rest), tile, depth, lane, c, C)
        keep_sum(partial, 1, shared, exact_sum(sum_g, rest_g), tile, depth, lane, c, C)

    return products


def batch_norm_activation_backward_affine(
    grad_weight, grad_bias, grad_output, input, mean, invstd, weight, bias, bounds, scratch
):
    # z = x̂·w + b, x̂ = (x − μ)·invstd: gw = Σ gz·x̂, gb = Σ gz.
    rows, C = input.shape
    plan, (limits, silu) = reduction(1, rows, C), _numbers(bounds)
    launch(
        _products(input.dtype, plan.threads, silu), plan.shape, scratch, grad_output, input, mean,
        invstd, weight, bias, *limits, rows, C, *plan.cut,
    )  # fmt: skip
    column_totals(grad_weight, grad_bias, scratch, invstd, plan.chunks, C)


def batch_norm_activation_backward_input_workspace(rows: int, C: int) -> int:
    return 0


@kernel
def _backward(real, threads, silu):
    def backward(
        grad_input, grad_output, input, mean, invstd, weight, bias, grad_weight, grad_bias,
        low, high, rows, C, tile, tiles, depth, groups, outer, rows_each,
    ):  # fmt: skip
        # As `gradient` says; without grad_weight the statistics do not depend on x: gx = w·s·gz.
        # Ten flop an element and the slope's, one pass. Each thread owns rows of one channel.
        grads, values = cuda.local.array(AT_ONCE, real), cuda.local.array(AT_ONCE, real)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        if o >= 0:
            change = change_of(mean, invstd, weight, bias, real(0), c, C)
            scale = scale_of(invstd, weight, c)
            if grad_weight is not None:
                slopes = slopes_of(mean, invstd, weight, grad_weight, grad_bias, real(rows), c, C)
            first, end = rows_of(lane, rows_each, rows)
            stride = depth * C
            for r in span(first, end, AT_ONCE * depth):
                at = r * C + c
                load_rows(grads, grad_output, at, stride, r, depth, end)
                load_rows(values, input, at, stride, r, depth, end)
                for k in range(AT_ONCE):
                    if r + k * depth < end:
                        x = values[k]
                        g = _through(grads[k], normalised(x, change), low, high, silu, real(0))
                        if grad_weight is not None:
                            g = gradient(g, x, slopes)
                        else:
                            g = g * scale
                        grad_input[at + k * stride] = g

    return backward


def batch_norm_activation_backward_input(
    grad_input, grad_output, input, mean, invstd, weight, bias, grad_weight, grad_bias, training,
    bounds, scratch,
):  # fmt: skip
    rows, C = input.shape
    plan, (limits, silu) = spread(1, rows, C), _numbers(bounds)
    if not training:
        grad_weight = grad_bias = None
    launch(
        _backward(input.dtype, plan.threads, silu), plan.shape, grad_input, grad_output, input,
        mean, invstd, weight, bias, grad_weight, grad_bias, *limits, rows, C, *plan.cut,
    )  # fmt: skip
