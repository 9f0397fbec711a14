"""Softmax and its logarithm over the last axis of (rows, C) arrays.

Each block of rows is read from memory once and stays in cache while it is worked on.
"""

from __future__ import annotations

from math import log

import numpy as np

from ._jit import helper, kernel
from ._rows import exp_of, exp_rows, row_sum, row_tasks, scale_row
from ._simd import whole_registers
from ._tasks import tasks


def softmax_forward_workspace(rows: int, C: int) -> int:
    return rows


@kernel
def softmax_forward(span, out, input, scratch):
    # One exp an element. Parallel over blocks of rows; each task owns its rows: deterministic.
    rows, C = input.shape
    parts, block = row_tasks(rows, C)
    for task in tasks(span, parts):
        end = (task + 1) * rows // parts
        for first in range(task * rows // parts, end, block):
            last = min(first + block, end)
            exp_rows(out, scratch, input, first, last)
            for r in range(first, last):
                scale_row(out[r], out.dtype.type(1 / row_sum(out[r])))


@helper
def _dot(left, right):
    whole_registers()
    total = 0.0
    for c in range(left.size):
        total += np.float64(left[c]) * np.float64(right[c])
    return total


@helper
def _deviation(grad_input, out, grad_output, mean):
    whole_registers()
    for c in range(out.size):
        grad_input[c] = out[c] * (grad_output[c] - mean)


@kernel
def softmax_backward_input(span, grad_input, grad_output, out):
    # y = softmax(x): ∂y_k/∂x_c = y_k·(δ_kc − y_c), so
    # gx_c = Σ_k g_k·y_k·(δ_kc − y_c) = y_c·(g_c − Σ_k g_k·y_k).
    rows, C = out.shape
    parts, _ = row_tasks(rows, C)
    for task in tasks(span, parts):
        for r in range(task * rows // parts, (task + 1) * rows // parts):
            mean = out.dtype.type(_dot(grad_output[r], out[r]))
            _deviation(grad_input[r], out[r], grad_output[r], mean)


def log_softmax_forward_workspace(rows: int, C: int) -> int:
    return rows


@helper
def _subtract_both(out, row, maximum, log_total):
    whole_registers()
    for c in range(row.size):
        out[c] = (row[c] - maximum) - log_total


@helper
def _subtract_share(probabilities, grad_output, total):
    """In place, from the probabilities to the gradient."""
    whole_registers()
    for c in range(grad_output.size):
        probabilities[c] = grad_output[c] - probabilities[c] * total


@kernel
def log_softmax_forward(span, out, input, scratch):
    # As softmax_forward; `out` holds the exponentials until their sum is known.
    rows, C = input.shape
    parts, block = row_tasks(rows, C)
    for task in tasks(span, parts):
        end = (task + 1) * rows // parts
        for first in range(task * rows // parts, end, block):
            last = min(first + block, end)
            exp_rows(out, scratch, input, first, last)
            for r in range(first, last):
                # (x − max) is subtracted first: it is exact where x is near the maximum.
                log_total = out.dtype.type(log(row_sum(out[r])))
                _subtract_both(out[r], input[r], scratch[r], log_total)


@kernel
def log_softmax_backward_input(span, grad_input, grad_output, out):
    # y = x − log Σ exp x: ∂y_k/∂x_c = δ_kc − exp(y_c), so gx_c = g_c − exp(y_c)·Σ_k g_k.
    rows, C = out.shape
    parts, block = row_tasks(rows, C)
    for task in tasks(span, parts):
        end = (task + 1) * rows // parts
        for first in range(task * rows // parts, end, block):
            last = min(first + block, end)
            probabilities = grad_input[first:last].reshape(-1)
            log_probabilities = out[first:last].reshape(-1)
            exp_of(probabilities, log_probabilities)
            for r in range(first, last):
                total = out.dtype.type(row_sum(grad_output[r]))
                _subtract_share(grad_input[r], grad_output[r], total)
