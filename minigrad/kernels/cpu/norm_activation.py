"""Operator fusion: batch normalisation of (rows, C) arrays and then an activation, in one pass over
memory each way.

Only batch norm's input is read and kept: z, which the activation gets, takes four flop to make
again. It has the same bits each time, so that forward and backward agree about which side of a
bound it is on.

Lines, chunks and accuracy are those of norm.py. A line goes through one simple loop after the other
while it is in the first-level cache: LLVM vectorises loops over few arrays only.
"""

from __future__ import annotations

import numpy as np

from ...runtime.threads import get_num_threads
from ._exp import sigmoid
from ._jit import helper, inlined, kernel
from ._rows import backwards, chunk_count, fold_line, line_range, line_width, repeat_row
from ._simd import whole_registers
from ._tasks import tasks, whole
from .norm import _combine_products


@inlined
def _normal(x, centre, rest, scale, offset):
    return ((x - centre) - rest) * scale + offset


@inlined
def _activated(z, bounds):
    if bounds is None:
        return z * sigmoid(z)
    low, high = bounds
    # NaN stays, and a bound of NaN is none.
    raised = low if z < low else z
    return high if raised > high else raised


@inlined
def _through(grad, z, bounds):
    one = type(z)(1)
    if bounds is None:
        # y = z·s(z): dy/dz = s + z·s·(1 − s)
        s = sigmoid(z)
        return grad * s * (one + z * (one - s))
    low, high = bounds
    # NaN passes as through relu, but not as through clamp.
    outside = (z <= low) | (z >= high) | ((z != z) & (high == high))
    return type(z)(0) if outside else grad


@helper
def _activate(y, x, centre, rest, scale, offset, bounds):
    whole_registers()
    for j in range(x.size):
        y[j] = _activated(_normal(x[j], centre[j], rest[j], scale[j], offset[j]), bounds)


@helper
def _pass_through(grad, grad_output, x, centre, rest, scale, offset, bounds):
    """grad: of z."""
    whole_registers()
    for j in range(x.size):
        z = _normal(x[j], centre[j], rest[j], scale[j], offset[j])
        grad[j] = _through(grad_output[j], z, bounds)


@helper
def _fill_table(table, mean, invstd, weight, bias):
    """What makes z of a line: (centre, what rounding took from it, scale, offset)."""
    C = invstd.size
    for c in range(C):
        table[0, c] = mean[0, c]
        table[1, c] = mean[1, c]
        table[2, c] = invstd[c] if weight is None else invstd[c] * weight[c]
        table[3, c] = 0 if bias is None else bias[c]
    for k in range(4):
        repeat_row(table[k, C:], table[k, :C])


def _of_type(bounds, dtype):
    return None if bounds is None else (dtype.type(bounds[0]), dtype.type(bounds[1]))


# Forward ------------------------------------------------------------------------------------


def batch_norm_activation_forward_workspace(rows: int, C: int) -> int:
    return 4 * line_width(C)


def batch_norm_activation_forward(out, input, mean, invstd, weight, bias, bounds, scratch):
    flat = out.reshape(-1), input.reshape(-1)
    _forward(*flat, mean, invstd, weight, bias, _of_type(bounds, out.dtype), scratch)


@kernel
def _forward(span, out, input, mean, invstd, weight, bias, bounds, scratch):
    # Four flop an element and the activation's, one pass over memory. Parallel over lines; each
    # task owns its lines.
    width = scratch.size // 4
    table = scratch.reshape(4, width)
    if whole(span):
        _fill_table(table, mean, invstd, weight, bias)
    lines = (input.size + width - 1) // width
    for line in tasks(span, lines):
        place = slice(line * width, min((line + 1) * width, input.size))
        _activate(out[place], input[place], table[0], table[1], table[2], table[3], bounds)


# Gradients of weight and bias ---------------------------------------------------------------


def batch_norm_activation_backward_affine_workspace(rows: int, C: int) -> int:
    return (chunk_count(rows * C) * 4 + 4) * line_width(C)


def batch_norm_activation_backward_affine(
    grad_weight, grad_bias, grad_output, input, mean, invstd, weight, bias, bounds, scratch
):
    # z = x̂·w + b, x̂ = (x − μ)·invstd: gw = Σ gz·x̂, gb = Σ gz.
    width, chunks = line_width(input.shape[1]), chunk_count(input.size)
    partial = scratch[: chunks * 3 * width].reshape(chunks, 3, width)
    lines = scratch[partial.size :].view(input.dtype)[: (chunks + 4) * width].reshape(-1, width)
    _partial_products(
        partial, lines[4:], grad_output.reshape(-1), input.reshape(-1), mean, invstd, weight, bias,
        _of_type(bounds, input.dtype), lines[:4], get_num_threads(),
    )  # fmt: skip
    _combine_products(grad_weight, grad_bias, partial, invstd)


@helper
def _add_products(grads, products, grad_line, line, centre):
    whole_registers()
    for j in range(line.size):
        g = np.float64(grad_line[j])
        grads[j] += g
        products[j] += g * (np.float64(line[j]) - centre[j])


@kernel
def _partial_products(
    span, partial, spare, grad_output, input, mean, invstd, weight, bias, bounds, table, threads
):
    # Eight flop an element and the slope's, one pass. Parallel over chunks of lines; each task owns
    # spare[chunk] and partial[chunk] = (μ, Σ gz, Σ gz·(x − μ)), first by place in the line, then,
    # in the first C places, by channel.
    chunks, _, width = partial.shape
    C = invstd.size
    if whole(span):
        _fill_table(table, mean, invstd, weight, bias)
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
            x, grad = input[place], spare[chunk]
            _pass_through(
                grad, grad_output[place], x, table[0], table[1], table[2], table[3], bounds
            )
            _add_products(grads, products, grad, x, centre)
        fold_line(grads, C)
        fold_line(products, C)


# Gradient of the input ----------------------------------------------------------------------


def batch_norm_activation_backward_input_workspace(rows: int, C: int) -> int:
    return 6 * line_width(C)


def batch_norm_activation_backward_input(
    grad_input, grad_output, input, mean, invstd, weight, bias, grad_weight, grad_bias, training,
    bounds, scratch,
):  # fmt: skip
    if not training:
        grad_weight = grad_bias = None
    _backward_input(
        grad_input.reshape(-1), grad_output.reshape(-1), input.reshape(-1), mean, invstd, weight,
        bias, grad_weight, grad_bias, _of_type(bounds, input.dtype), scratch,
    )  # fmt: skip


@helper
def _input_gradient(grad, input, centre, rest, scale, mean_grad, slope):
    whole_registers()
    for j in range(input.size):
        x = (input[j] - centre[j]) - rest[j]
        grad[j] = (grad[j] - mean_grad[j] - x * slope[j]) * scale[j]


@helper
def _scale(grad, scale):
    whole_registers()
    for j in range(grad.size):
        grad[j] *= scale[j]


@kernel
def _backward_input(
    span, grad_input, grad_output, input, mean, invstd, weight, bias, grad_weight, grad_bias,
    bounds, scratch,
):  # fmt: skip
    # With n rows and s = invstd: gx = w·s·(gz − gb/n − (x − μ)·s·gw/n), see norm.py; without gw, of
    # statistics that do not depend on x: gx = w·s·gz. Ten flop an element and the slope's, one
    # pass. Parallel over lines; each task owns its lines.
    width, C = scratch.size // 6, invstd.size
    table = scratch.reshape(6, width)
    if whole(span):
        _fill_table(table, mean, invstd, weight, bias)
        if grad_weight is not None:
            rows = input.size // C
            for c in range(C):
                table[4, c] = np.float64(grad_bias[c]) / rows
                table[5, c] = np.float64(grad_weight[c]) * np.float64(invstd[c]) / rows
            for k in range(4, 6):
                repeat_row(table[k, C:], table[k, :C])
    lines = (input.size + width - 1) // width
    for line in tasks(span, lines):
        place = slice(line * width, min((line + 1) * width, input.size))
        grad, x = grad_input[place], input[place]
        _pass_through(grad, grad_output[place], x, table[0], table[1], table[2], table[3], bounds)
        if grad_weight is not None:
            _input_gradient(grad, x, table[0], table[1], table[2], table[4], table[5])
        else:
            _scale(grad, table[2])
