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
from ._channels import add_products, sum_width
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


@inlined
def _activate(y, x, centre, rest, scale, offset, bounds):
    for j in range(x.size):
        y[j] = _activated(_normal(x[j], centre[j], rest[j], scale[j], offset[j]), bounds)


@inlined
def _pass_through(grad, grad_output, x, centre, rest, scale, offset, bounds):
    """grad: of z."""
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
    whole_registers()
    for line in tasks(span, lines):
        place = slice(line * width, min((line + 1) * width, input.size))
        _activate(out[place], input[place], table[0], table[1], table[2], table[3], bounds)


# Gradients of weight and bias ---------------------------------------------------------------


def batch_norm_activation_backward_affine_workspace(rows: int, C: int) -> int:
    width, chunks = _sum_width(C), chunk_count(rows * C)
    return (chunks * 3 + 4) * width + chunks * _block_size(width)


def _sum_width(C: int) -> int:
    """Elements of a line whose channels are summed: long enough to be a loop by itself."""
    return sum_width(C) * max(1, 256 // max(1, sum_width(C)))


def _block_size(width: int) -> int:
    """Elements of a block: gradients of z that stay in the first-level cache."""
    return max(1, 2048 // width) * width


def batch_norm_activation_backward_affine(
    grad_weight, grad_bias, grad_output, input, mean, invstd, weight, bias, bounds, scratch
):
    # z = x̂·w + b, x̂ = (x − μ)·invstd: gw = Σ gz·x̂, gb = Σ gz.
    width, chunks = _sum_width(input.shape[1]), chunk_count(input.size)
    partial = scratch[: chunks * 3 * width].reshape(chunks, 3, width)
    rest = scratch[partial.size :].view(input.dtype)
    table, spare = rest[: 4 * width].reshape(4, width), rest[4 * width :]
    spare = spare[: chunks * _block_size(width)].reshape(chunks, -1)
    _partial_products(
        partial, spare, grad_output.reshape(-1), input.reshape(-1), mean, invstd, weight, bias,
        _of_type(bounds, input.dtype), table, get_num_threads(),
    )  # fmt: skip
    _combine_products(grad_weight, grad_bias, partial, invstd)


@kernel
def _partial_products(
    span, partial, spare, grad_output, input, mean, invstd, weight, bias, bounds, table, threads
):
    # Eight flop an element and the slope's, one pass. Parallel over chunks of lines; each task owns
    # spare[chunk], the gradients of a block, and partial[chunk] = (μ, Σ gz, Σ gz·(x − μ)), first by
    # place in the line, then, in the first C places, by channel.
    chunks, _, width = partial.shape
    C, block = invstd.size, spare.shape[1]
    if whole(span):
        _fill_table(table, mean, invstd, weight, bias)
    whole_registers()
    for task in tasks(span, chunks):
        chunk = backwards(task, chunks, threads)
        sums, grad = partial[chunk], spare[chunk]
        sums[1:] = 0
        for c in range(C):
            sums[0, c] = np.float64(mean[0, c]) + np.float64(mean[1, c])
        repeat_row(sums[0, C:], sums[0, :C])
        start, end = line_range(chunk, chunks, input.size, width)
        for first in range(start, end, block):
            last = min(first + block, end)
            for at in range(first, last, width):
                place = slice(at, min(at + width, last))
                _pass_through(
                    grad[at - first :], grad_output[place], input[place],
                    table[0], table[1], table[2], table[3], bounds,
                )  # fmt: skip
            add_products(sums, grad, input[first:last], 0, last - first, 0, width)
        fold_line(sums[1], C)
        fold_line(sums[2], C)


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


@inlined
def _input_gradient(grad, input, centre, rest, scale, mean_grad, slope):
    for j in range(input.size):
        x = (input[j] - centre[j]) - rest[j]
        grad[j] = (grad[j] - mean_grad[j] - x * slope[j]) * scale[j]


@inlined
def _scale(grad, scale):
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
    whole_registers()
    for line in tasks(span, lines):
        place = slice(line * width, min((line + 1) * width, input.size))
        grad, x = grad_input[place], input[place]
        _pass_through(grad, grad_output[place], x, table[0], table[1], table[2], table[3], bounds)
        if grad_weight is not None:
            _input_gradient(grad, x, table[0], table[1], table[2], table[4], table[5])
        else:
            _scale(grad, table[2])
