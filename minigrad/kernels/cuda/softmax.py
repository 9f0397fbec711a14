"""Softmax and its logarithm over the last axis of (rows, C) arrays.

The lanes of _middle.py share a row; short rows share a block, a long row has one to itself. What a
row needs a second and third time comes from the cache.
"""

from __future__ import annotations

import math

from ._device import cuda, device, exp, isnan, log
from ._launch import kernel, launch
from ._middle import place, whole
from ._reduce import MAX, SUM, fold
from ._span import span


@device
def row_maximum(shared, input, base, first, C, depth, lane, low):
    """The largest of input[base …], for all lanes; NaN if one is NaN. low: −∞."""
    largest = low
    for c in span(first, C, depth):
        x = input[base + c]
        if x > largest or isnan(x):
            largest = x
    return fold(shared, largest, 1, depth, lane, MAX)


@device
def row_exp_sum(shared, input, base, first, C, depth, lane, maximum, zero):
    """Σ exp(input − maximum), for all lanes. A row with NaN, with +∞, or of −∞ alone becomes NaN
    where it meets ∞ − ∞, as in torch."""
    total = zero
    for c in span(first, C, depth):
        total += exp(input[base + c] - maximum)
    return fold(shared, total, 1, depth, lane, SUM)


def softmax_forward_workspace(rows: int, C: int) -> int:
    return 0


log_softmax_forward_workspace = softmax_forward_workspace


@kernel
def _softmax(real, threads, logarithm):
    def softmax(out, input, C, tile, tiles, depth, groups, outer, rows):
        # Two exp an element, one for the logarithm. The lanes of a row own it.
        shared = cuda.shared.array(threads, real)
        r, _, lane = place(tile, tiles, depth, groups, outer, 1)
        base, first = r * C, lane if r >= 0 else C
        maximum = row_maximum(shared, input, base, first, C, depth, lane, real(-math.inf))
        total = row_exp_sum(shared, input, base, first, C, depth, lane, maximum, real(0))
        log_total = log(total) if logarithm else real(0)
        for c in span(first, C, depth):
            # (x − max) is subtracted first: it is exact where x is near the maximum.
            x = input[base + c] - maximum
            out[base + c] = x - log_total if logarithm else exp(x) / total

    return softmax


@kernel
def _softmax_backward(real, threads, logarithm):
    def softmax_backward(grad_input, grad_output, out, C, tile, tiles, depth, groups, outer, rows):
        # y = softmax(x): ∂y_k/∂x_c = y_k·(δ_kc − y_c), so
        #   gx_c = Σ_k g_k·y_k·(δ_kc − y_c) = y_c·(g_c − Σ_k g_k·y_k).
        # y = x − log Σ exp x: ∂y_k/∂x_c = δ_kc − exp(y_c), so gx_c = g_c − exp(y_c)·Σ_k g_k.
        # The lanes of a row own it.
        shared = cuda.shared.array(threads, real)
        r, _, lane = place(tile, tiles, depth, groups, outer, 1)
        base, first = r * C, lane if r >= 0 else C
        total = real(0)
        for c in span(first, C, depth):
            g = grad_output[base + c]
            total += g if logarithm else g * out[base + c]
        total = fold(shared, total, 1, depth, lane, SUM)
        for c in span(first, C, depth):
            g, y = grad_output[base + c], out[base + c]
            grad_input[base + c] = g - exp(y) * total if logarithm else y * (g - total)

    return softmax_backward


def _run(kernel, logarithm, *arrays):
    rows, C = arrays[0].shape
    if arrays[0].size:
        plan = whole(rows, C, 1)
        variant = kernel(arrays[0].dtype, plan.threads, logarithm)
        launch(variant, plan.shape, *arrays, C, *plan.cut)


def softmax_forward(out, input, scratch):
    _run(_softmax, 0, out, input)


def log_softmax_forward(out, input, scratch):
    _run(_softmax, 1, out, input)


def softmax_backward_input(grad_input, grad_output, out):
    _run(_softmax_backward, 0, grad_input, grad_output, out)


def log_softmax_backward_input(grad_input, grad_output, out):
    _run(_softmax_backward, 1, grad_input, grad_output, out)
