"""Batch normalisation of (rows, C) arrays: statistics per channel, then one pass over the rows.

**Lines.** The kernels walk through the array in lines of several rows (see _rows.py), with tables
of the width of a line. Sums are made in registers, along other lines: see _channels.py.

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
from ._channels import MANY, add_moments, add_products, block_size, sum_width
from ._jit import helper, inlined, kernel, serial_kernel
from ._rows import (
    add_to,
    backwards,
    chunk_count,
    combine_sums,
    fold_line,
    line_range,
    line_width,
    repeat_row,
)
from ._seen import made_anew
from ._simd import whole_registers
from ._tasks import light_tasks, tasks, whole
from ._vector import (
    add,
    exceeds,
    from_lane,
    load,
    multiply,
    multiply_add,
    select,
    splat,
    store,
    subtract,
    widen,
)

# Statistics ---------------------------------------------------------------------------------


def batch_norm_statistics_workspace(rows: int, C: int) -> int:
    return chunk_count(rows * C) * 3 * sum_width(C)


def batch_norm_statistics(
    mean, invstd, running_mean, running_var, batches, input, momentum, eps, scratch
):
    rows, C = input.shape
    partial = scratch.reshape(-1, 3, sum_width(C))
    _partial_moments(partial, input.reshape(-1), C, get_num_threads())
    _combine_moments(
        mean, invstd, running_mean, running_var, batches, partial, rows, float(momentum), float(eps)
    )


@kernel
def _partial_moments(span, partial, input, C, threads):
    # Three flop an element, one pass over memory. Parallel over chunks of lines; each task owns
    # partial[chunk] = (shift, Σ (x − shift), Σ (x − shift)²), first by place in the line, then,
    # in the first C places, by channel. The shift is the channel's first value.
    chunks, _, width = partial.shape
    block = block_size(width)
    for task in tasks(span, chunks):
        chunk = backwards(task, chunks, threads)
        sums = partial[chunk]
        start, end = line_range(chunk, chunks, input.size, width)
        repeat_row(sums[0], input[:C])
        sums[1:] = 0
        for at in range(start, end, block):
            add_moments(sums, input, at, min(at + block, end), 0, width)
        fold_line(sums[1], C)
        fold_line(sums[2], C)


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


def batch_norm_fold(
    out_weight, out_bias, weight, bias, running_mean, running_var, scale, shift, eps, seen, scratch
):
    operands = weight, bias, running_mean, running_var, scale, shift
    if seen is None:
        _fold(out_weight, out_bias, *operands, float(eps), scratch)
        return
    with made_anew(seen, *[each for each in operands if each is not None]) as wanted:
        if wanted:
            _fold(out_weight, out_bias, *operands, float(eps), scratch)


@kernel
def _fold(
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
    for line in light_tasks(span, lines, width):
        place = slice(line * width, min((line + 1) * width, x.size))
        _normalise(y[place], x[place], centre, rest, scale, offset)


# Backward -----------------------------------------------------------------------------------


def batch_norm_backward_affine_workspace(rows: int, C: int) -> int:
    return chunk_count(rows * C) * 3 * sum_width(C)


def batch_norm_backward_affine(grad_weight, grad_bias, grad_output, input, mean, invstd, scratch):
    # y = x̂·w + b, x̂ = (x − μ)·invstd: gw = Σ g·x̂, gb = Σ g.
    partial = scratch.reshape(-1, 3, sum_width(input.shape[1]))
    flat = grad_output.reshape(-1), input.reshape(-1)
    _partial_products(partial, *flat, mean, get_num_threads())
    _combine_products(grad_weight, grad_bias, partial, invstd)


@kernel
def _partial_products(span, partial, grad_output, input, mean, threads):
    # Four flop an element, one pass. Parallel over chunks of lines; each task owns
    # partial[chunk] = (μ, Σ g, Σ g·(x − μ)), laid out as in _partial_moments.
    chunks, _, width = partial.shape
    block, C = block_size(width), mean.shape[1]
    for task in tasks(span, chunks):
        chunk = backwards(task, chunks, threads)
        sums = partial[chunk]
        for c in range(C):
            sums[0, c] = np.float64(mean[0, c]) + np.float64(mean[1, c])
        repeat_row(sums[0, C:], sums[0, :C])
        sums[1:] = 0
        start, end = line_range(chunk, chunks, input.size, width)
        for at in range(start, end, block):
            stop = min(at + block, end)
            add_products(sums, grad_output, input, at, stop, 0, width)
        fold_line(sums[1], C)
        fold_line(sums[2], C)


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
        grad_input[j] = (grad_output[j] - mean_grad[j] + x * slope[j]) * scale[j]


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
        table[3, c] = -np.float64(grad_weight[c]) * np.float64(invstd[c]) / rows
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
    for line in light_tasks(span, lines, width):
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
    for line in light_tasks(span, lines, width):
        place = slice(line * width, min((line + 1) * width, input.size))
        _scaled(grad_input[place], grad_output[place], scale)


# Backward to relu's input ------------------------------------------------------------------


def batch_norm_backward_relu_workspace(rows: int, C: int) -> int:
    return (chunk_count(rows * C) + 5) * sum_width(C)


def batch_norm_backward_relu(
    grad_input, grad_sums, grad_output, input, mean, invstd, weight, grad_weight, grad_bias, scratch
):
    width = sum_width(input.shape[1])
    table = scratch[: 5 * width].view(input.dtype)[: 5 * width].reshape(5, width)
    partial = scratch[5 * width :].reshape(-1, width)
    _backward_training_relu(
        partial, grad_input.reshape(-1), grad_output.reshape(-1), input.reshape(-1),
        mean, invstd, weight, grad_weight, grad_bias, table,
    )  # fmt: skip
    combine_sums(grad_sums, partial)


def _make_relu_gradients(lanes: int):
    @inlined
    def relu_gradients(sums, table, c, skip, grad_input, grad_output, input, start, lines):
        # Places c to c + lanes of every line (see _channels.py).
        width = sums.size
        centre, rest = load(lanes, table, c), load(lanes, table, width + c)
        mean_grad, slope = load(lanes, table, 2 * width + c), load(lanes, table, 3 * width + c)
        scale, total = load(lanes, table, 4 * width + c), load(lanes, sums, c)
        own, zero = from_lane(lanes, skip), splat(lanes, input.dtype.type(0))
        for line in range(lines):
            at = start + line * width + c
            x, grad = load(lanes, input, at), load(lanes, grad_output, at)
            centred = subtract(subtract(x, centre), rest)
            grad = multiply(multiply_add(centred, slope, subtract(grad, mean_grad)), scale)
            grad = select(exceeds(x, zero), grad, zero)
            store(grad_input, at, grad)
            total = add(total, widen(select(own, grad, zero)))
        store(sums, c, total)

    return relu_gradients


_relu_many, _relu_one = _make_relu_gradients(MANY), _make_relu_gradients(1)


@helper
def _relu_gradients(sums, table, grad_input, grad_output, input, start, end):
    whole_registers()
    width = sums.size
    lines = (end - start) // width
    for place in range(0, width, MANY):
        c = min(place, width - MANY)
        _relu_many(sums, table, c, place - c, grad_input, grad_output, input, start, lines)
    last = start + lines * width
    for c in range(end - last):
        _relu_one(sums, table, c, 0, grad_input, grad_output, input, last, 1)


@kernel
def _backward_training_relu(
    span, partial, grad_input, grad_output, input, mean, invstd, weight, grad_weight, grad_bias,
    table,
):  # fmt: skip
    # As _backward_training, and on through relu to the sums: nine flop an element, one pass.
    # Parallel over chunks of lines; each task owns its lines and partial[chunk].
    chunks, width = partial.shape
    block, C = block_size(width), invstd.size
    if whole(span):
        _gradient_table(table, mean, invstd, weight, grad_weight, grad_bias, input.size // C)
    for chunk in tasks(span, chunks):
        sums = partial[chunk]
        sums[:] = 0
        start, end = line_range(chunk, chunks, input.size, width)
        for at in range(start, end, block):
            stop = min(at + block, end)
            _relu_gradients(sums, table, grad_input, grad_output, input, at, stop)
        fold_line(sums, C)
