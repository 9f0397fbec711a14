"""Batch normalisation of (rows, C) arrays: statistics per channel, then one pass over the rows.

**Lines.** The kernels walk through the array in lines of several rows (see _rows.py), with tables
of the width of a line.

**Accuracy.** Sums run over the distance from a value of the channel, in float64, so that a mean far
larger than the spread costs nothing. The mean is kept as two numbers, the rounded mean and what
rounding took away: x − mean[0] is exact near the mean, and subtracting mean[1] then rounds once.

Sums are cut into chunks of lines fixed by the shape: the same bits for any number of threads.

**Slices.** The loops over a line are helpers that get the line as a slice: an index `at + j` might
be negative for all that LLVM knows, and the test for it triples the time of the loop.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from ...runtime.threads import get_num_threads
from ._jit import helper, kernel, serial_kernel
from ._rows import (
    add_to,
    backwards,
    chunk_count,
    combine_sums,
    fold_line,
    line_range,
    line_width,
    relu_gradient_in_place,
    repeat_row,
)
from ._simd import whole_registers
from ._tasks import light_tasks, tasks, whole

# Statistics ---------------------------------------------------------------------------------


def batch_norm_statistics_workspace(rows: int, C: int) -> int:
    return chunk_count(rows * C) * 3 * line_width(C)


def batch_norm_statistics(
    mean, invstd, running_mean, running_var, batches, input, momentum, eps, scratch
):
    rows, C = input.shape
    partial = scratch.reshape(-1, 3, line_width(C))
    _partial_moments(partial, input.reshape(-1), C, get_num_threads())
    _combine_moments(
        mean, invstd, running_mean, running_var, batches, partial, rows, float(momentum), float(eps)
    )


@helper
def _add_moments(sums, squares, line, shift):
    whole_registers()
    for j in range(line.size):
        d = np.float64(line[j]) - shift[j]
        sums[j] += d
        squares[j] += d * d


@kernel
def _partial_moments(span, partial, input, C, threads):
    # Three flop an element, one pass over memory. Parallel over chunks of lines; each task owns
    # partial[chunk] = (shift, Σ (x − shift), Σ (x − shift)²), first by place in the line, then,
    # in the first C places, by channel. The shift is the channel's first value.
    chunks, _, width = partial.shape
    for task in tasks(span, chunks):
        chunk = backwards(task, chunks, threads)
        shift, sums, squares = partial[chunk, 0], partial[chunk, 1], partial[chunk, 2]
        start, end = line_range(chunk, chunks, input.size, width)
        sums[:] = 0
        squares[:] = 0
        repeat_row(shift, input[:C])
        for at in range(start, end, width):
            _add_moments(sums, squares, input[at : min(at + width, end)], shift)
        fold_line(sums, C)
        fold_line(squares, C)


@serial_kernel
def _combine_moments(
    mean, invstd, running_mean, running_var, batches, partial, rows, momentum, eps
):
    # With n rows, shift a and d = Σ (x − a)/n: the mean is a + d and Σ (x − mean)² is
    # Σ (x − a)² − n·d². As a is one of the values, n·d² ≤ (n − 1)·Σ (x − mean)²: what cancels
    # costs about log₂ n of float64's 53 bits, not more.
    C = invstd.size
    if batches is not None:
        batches[()] += 1
    sums, squares = partial[0, 1, :C], partial[0, 2, :C]
    for chunk in range(1, partial.shape[0]):
        add_to(sums, partial[chunk, 1, :C])
        add_to(squares, partial[chunk, 2, :C])
    for c in range(C):
        d = sums[c] / rows
        mu = partial[0, 0, c] + d
        spread = squares[c] - d * sums[c]
        # Rounding alone may take it below zero. NaN stays.
        spread = 0.0 if spread < 0 else spread
        mean[0, c] = mu
        mean[1, c] = mu - np.float64(mean[0, c])
        invstd[c] = 1 / sqrt(spread / rows + eps)
        if running_mean is not None:
            running_mean[c] = (1 - momentum) * np.float64(running_mean[c]) + momentum * mu
            unbiased = spread / (rows - 1)
            running_var[c] = (1 - momentum) * np.float64(running_var[c]) + momentum * unbiased


def batch_norm_running(mean, invstd, running_mean, running_var, eps):
    _running_statistics(mean, invstd, running_mean, running_var, float(eps))


@serial_kernel
def _running_statistics(mean, invstd, running_mean, running_var, eps):
    for c in range(invstd.size):
        mean[0, c] = running_mean[c]
        mean[1, c] = 0
        invstd[c] = 1 / sqrt(np.float64(running_var[c]) + eps)


@helper
def _scaled_row(out, row, factors):
    for c in range(row.size):
        out[c] = np.float64(row[c]) * factors[c]


@kernel
def batch_norm_fold(
    span, out_weight, out_bias, weight, bias, running_mean, running_var, scale, shift, eps, scratch
):
    # One flop a weight. Parallel over rows; each task owns its rows.
    rows, C = weight.shape
    if whole(span):
        for c in range(C):
            factor = 1 / sqrt(np.float64(running_var[c]) + eps)
            factor = factor if scale is None else factor * np.float64(scale[c])
            before = np.float64(0) if bias is None else np.float64(bias[c])
            after = np.float64(0) if shift is None else np.float64(shift[c])
            scratch[c] = factor
            out_bias[c] = (before - np.float64(running_mean[c])) * factor + after
    for r in light_tasks(span, rows, C):
        _scaled_row(out_weight[r], weight[r], scratch)


# Forward ------------------------------------------------------------------------------------


def batch_norm_forward_workspace(rows: int, C: int) -> int:
    return 4 * line_width(C)


@helper
def _normalise(y, x, centre, rest, scale, offset):
    whole_registers()
    for j in range(x.size):
        y[j] = ((x[j] - centre[j]) - rest[j]) * scale[j] + offset[j]


@kernel
def batch_norm_forward(span, out, input, mean, invstd, weight, bias, scratch):
    # Four flop an element, one pass over memory. Parallel over lines; each task owns its lines.
    width = scratch.size // 4
    table = scratch.reshape(4, width)
    C = invstd.size
    if whole(span):
        for c in range(C):
            table[0, c] = mean[0, c]
            table[1, c] = mean[1, c]
            table[2, c] = invstd[c] if weight is None else invstd[c] * weight[c]
            table[3, c] = 0 if bias is None else bias[c]
        for k in range(4):
            repeat_row(table[k, C:], table[k, :C])
    centre, rest, scale, offset = table[0], table[1], table[2], table[3]
    x, y = input.reshape(-1), out.reshape(-1)
    lines = (x.size + width - 1) // width
    for line in tasks(span, lines):
        place = slice(line * width, min((line + 1) * width, x.size))
        _normalise(y[place], x[place], centre, rest, scale, offset)


# Backward -----------------------------------------------------------------------------------


def batch_norm_backward_affine_workspace(rows: int, C: int) -> int:
    return chunk_count(rows * C) * 3 * line_width(C)


def batch_norm_backward_affine(grad_weight, grad_bias, grad_output, input, mean, invstd, scratch):
    # y = x̂·w + b, x̂ = (x − μ)·invstd: gw = Σ g·x̂, gb = Σ g.
    partial = scratch.reshape(-1, 3, line_width(input.shape[1]))
    flat = grad_output.reshape(-1), input.reshape(-1)
    _partial_products(partial, *flat, mean, get_num_threads())
    _combine_products(grad_weight, grad_bias, partial, invstd)


@helper
def _add_products(grads, products, grad_line, line, centre):
    whole_registers()
    for j in range(line.size):
        g = np.float64(grad_line[j])
        grads[j] += g
        products[j] += g * (np.float64(line[j]) - centre[j])


@kernel
def _partial_products(span, partial, grad_output, input, mean, threads):
    # Four flop an element, one pass. Parallel over chunks of lines; each task owns
    # partial[chunk] = (μ, Σ g, Σ g·(x − μ)), laid out as in _partial_moments.
    chunks, _, width = partial.shape
    C = mean.shape[1]
    for task in tasks(span, chunks):
        chunk = backwards(task, chunks, threads)
        centre, grads, products = partial[chunk, 0], partial[chunk, 1], partial[chunk, 2]
        grads[:] = 0
        products[:] = 0
        for c in range(C):
            centre[c] = np.float64(mean[0, c]) + np.float64(mean[1, c])
        repeat_row(centre[C:], centre[:C])
        start, end = line_range(chunk, chunks, input.size, width)
        for at in range(start, end, width):
            place = slice(at, min(at + width, end))
            _add_products(grads, products, grad_output[place], input[place], centre)
        fold_line(grads, C)
        fold_line(products, C)


@serial_kernel
def _combine_products(grad_weight, grad_bias, partial, invstd):
    C = invstd.size
    grads, products = partial[0, 1, :C], partial[0, 2, :C]
    for chunk in range(1, partial.shape[0]):
        add_to(grads, partial[chunk, 1, :C])
        add_to(products, partial[chunk, 2, :C])
    for c in range(C):
        grad_bias[c] = grads[c]
        grad_weight[c] = products[c] * np.float64(invstd[c])


def batch_norm_backward_input_workspace(rows: int, C: int) -> int:
    return 5 * line_width(C)


def batch_norm_backward_input(
    grad_input, grad_output, input, mean, invstd, weight, grad_weight, grad_bias, training, scratch
):
    flat = grad_input.reshape(-1), grad_output.reshape(-1), input.reshape(-1)
    if training:
        _backward_training(*flat, mean, invstd, weight, grad_weight, grad_bias, scratch)
    else:
        _backward_evaluation(*flat, invstd, weight, scratch)


@helper
def _input_gradient(grad_input, grad_output, input, centre, rest, mean_grad, slope, scale):
    whole_registers()
    for j in range(input.size):
        x = (input[j] - centre[j]) - rest[j]
        grad_input[j] = (grad_output[j] - mean_grad[j] - x * slope[j]) * scale[j]


@helper
def _gradient_table(table, mean, invstd, weight, grad_weight, grad_bias, rows):
    # With n rows and s = invstd: ∂μ/∂x = 1/n and ∂s/∂x = −s³·(x − μ)/n, so
    #   gx = w·s·(g − mean(g) − (x − μ)·s²·mean(g·(x − μ))).
    # Here mean(g) = gb/n, and s·mean(g·(x − μ)) = gw/n, from batch_norm_backward_affine.
    C = invstd.size
    for c in range(C):
        table[0, c] = mean[0, c]
        table[1, c] = mean[1, c]
        table[2, c] = np.float64(grad_bias[c]) / rows
        table[3, c] = np.float64(grad_weight[c]) * np.float64(invstd[c]) / rows
        table[4, c] = invstd[c] if weight is None else invstd[c] * weight[c]
    for k in range(5):
        repeat_row(table[k, C:], table[k, :C])


@kernel
def _backward_training(
    span, grad_input, grad_output, input, mean, invstd, weight, grad_weight, grad_bias, scratch
):
    # Six flop an element, one pass. Parallel over lines; each task owns its lines.
    width = scratch.size // 5
    table = scratch.reshape(5, width)
    rows = input.size // invstd.size
    if whole(span):
        _gradient_table(table, mean, invstd, weight, grad_weight, grad_bias, rows)
    lines = (input.size + width - 1) // width
    for line in tasks(span, lines):
        place = slice(line * width, min((line + 1) * width, input.size))
        _input_gradient(
            grad_input[place], grad_output[place], input[place],
            table[0], table[1], table[2], table[3], table[4],
        )  # fmt: skip


@helper
def _scaled(out, row, scale):
    for j in range(row.size):
        out[j] = row[j] * scale[j]


@kernel
def _backward_evaluation(span, grad_input, grad_output, input, invstd, weight, scratch):
    # gx = g·invstd·w: the running statistics do not depend on x.
    width = scratch.size // 5
    scale = scratch[:width]
    C = invstd.size
    if whole(span):
        for c in range(C):
            scale[c] = invstd[c] if weight is None else invstd[c] * weight[c]
        repeat_row(scale[C:], scale[:C])
    lines = (input.size + width - 1) // width
    for line in tasks(span, lines):
        place = slice(line * width, min((line + 1) * width, input.size))
        _scaled(grad_input[place], grad_output[place], scale)


# Backward to relu's input ------------------------------------------------------------------


def batch_norm_backward_relu_workspace(rows: int, C: int) -> int:
    return (chunk_count(rows * C) + 5) * line_width(C)


def batch_norm_backward_relu(
    grad_input, grad_sums, grad_output, input, mean, invstd, weight, grad_weight, grad_bias, scratch
):
    width = line_width(input.shape[1])
    table = scratch[: 5 * width].view(input.dtype)[: 5 * width]
    partial = scratch[5 * width :].reshape(-1, width)
    _backward_training_relu(
        partial, grad_input.reshape(-1), grad_output.reshape(-1), input.reshape(-1),
        mean, invstd, weight, grad_weight, grad_bias, table,
    )  # fmt: skip
    combine_sums(grad_sums, partial)


@kernel
def _backward_training_relu(
    span,
    partial,
    grad_input,
    grad_output,
    input,
    mean,
    invstd,
    weight,
    grad_weight,
    grad_bias,
    table,
):
    # As _backward_training; then a line goes through relu while it is in the cache, and is added to
    # the sums. Parallel over chunks of lines; each task owns its lines and partial[chunk].
    chunks, width = partial.shape
    C = invstd.size
    tables = table.reshape(5, width)
    if whole(span):
        _gradient_table(tables, mean, invstd, weight, grad_weight, grad_bias, input.size // C)
    for chunk in tasks(span, chunks):
        sums = partial[chunk]
        sums[:] = 0
        start, end = line_range(chunk, chunks, input.size, width)
        for at in range(start, end, width):
            place = slice(at, min(at + width, end))
            _input_gradient(
                grad_input[place], grad_output[place], input[place],
                tables[0], tables[1], tables[2], tables[3], tables[4],
            )  # fmt: skip
            relu_gradient_in_place(sums, grad_input[place], input[place])
        fold_line(sums, C)
