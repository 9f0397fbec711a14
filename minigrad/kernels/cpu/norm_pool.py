"""Operator fusion: batch normalisation and the maximum over windows after it, in one pass over
memory each way.

Arrays are those of pool.py and norm.py: input (N, H, W, C), out and window (N, H_out, W_out, C),
all C-ordered; mean (2, C) with the mean's rounding error in its second row.

The normalised map is as large as the input, but only its maxima are wanted, so it lives in
registers. So does its gradient, which is that of a maximum where one was found and else 0.

**Rows of vectors.** A vector of channels keeps its part of the tables (mean, scale, …) in registers
while it walks along one row of the image.
"""

from __future__ import annotations

import numpy as np

from ._jit import inlined, kernel
from ._rows import chunk_count, combine_sums
from ._tasks import tasks, whole
from ._vector import (
    add,
    equals,
    exceeds,
    load,
    multiply,
    multiply_add,
    select,
    splat,
    store,
    subtract,
    widen,
)
from .norm import _combine_products
from .pool import window_axes

# Channels are taken so many at a time, then _FEW at a time, then one by one.
_MANY, _FEW = 16, 4


@inlined
def _cut(C):
    """Channels 0 to a by _MANY, to b by _FEW, the rest one by one."""
    return C - C % _MANY, C - C % _FEW


# Forward ------------------------------------------------------------------------------------


def _make_maxima(lanes: int):
    @inlined
    def maxima(out, window, at, input, source, table, c, row, cols, steps, kW):
        # One row of outputs, `lanes` channels from c on. row: (first tap, taps); steps: elements
        # from one tap to the next, down and to the right.
        C = input.shape[3]
        centre, rest = load(lanes, table, c), load(lanes, table, C + c)
        scale, offset = load(lanes, table, 2 * C + c), load(lanes, table, 3 * C + c)
        kh, row_taps = row
        for ow in range(out.shape[2]):
            w, col_taps, kw = cols[ow, 0], cols[ow, 1], cols[ow, 2]
            first = source + w * C
            best = splat(lanes, out.dtype.type(-np.inf))
            position = splat(lanes, window.dtype.type(kh * kW + kw))
            for i in range(row_taps):
                for j in range(col_taps):
                    x = load(lanes, input, first + i * steps[0] + j * steps[1])
                    y = multiply_add(subtract(subtract(x, centre), rest), scale, offset)
                    better = exceeds(y, best)
                    tap = splat(lanes, window.dtype.type((kh + i) * kW + kw + j))
                    best = select(better, y, best)
                    position = select(better, tap, position)
            store(out, at + ow * C, best)
            store(window, at + ow * C, position)

    return maxima


_maxima_many, _maxima_few, _maxima_one = (_make_maxima(n) for n in (_MANY, _FEW, 1))


@kernel
def _normalised_maxima(
    span, out, window, input, mean, invstd, weight, bias, table, rows, row_step, cols, col_step, kW
):
    # Four flop and a comparison a tap. Parallel over (n, oh): each task owns its outputs.
    N, H_out, W_out, C = out.shape
    H, W = input.shape[1:3]
    if whole(span):
        for c in range(C):
            table[0, c] = mean[0, c]
            table[1, c] = mean[1, c]
            table[2, c] = invstd[c] if weight is None else invstd[c] * weight[c]
            table[3, c] = 0 if bias is None else bias[c]
    many, few = _cut(C)
    steps = (row_step * W * C, col_step * C)
    for task in tasks(span, N * H_out):
        n, oh = task // H_out, task % H_out
        h, taps, kh = rows[oh]
        row = (kh, taps)
        at = task * W_out * C
        source = (n * H + h) * W * C
        for c in range(0, many, _MANY):
            _maxima_many(out, window, at + c, input, source + c, table, c, row, cols, steps, kW)
        for c in range(many, few, _FEW):
            _maxima_few(out, window, at + c, input, source + c, table, c, row, cols, steps, kW)
        for c in range(few, C):
            _maxima_one(out, window, at + c, input, source + c, table, c, row, cols, steps, kW)


def batch_norm_max_pool2d_forward_workspace(dims) -> int:
    return 4 * dims.C


def batch_norm_max_pool2d_forward(out, window, input, mean, invstd, weight, bias, scratch, dims):
    rows, cols = window_axes(dims)
    _normalised_maxima(
        out, window, input, mean, invstd, weight, bias, scratch.reshape(4, dims.C),
        rows.windows, rows.step, cols.windows, cols.step, dims.kW,
    )  # fmt: skip


# Gradients of weight and bias ---------------------------------------------------------------


def _make_products(lanes: int):
    @inlined
    def add_products(sums, grad_output, window, at, input, source, c, row, cols, steps, kW):
        # One row of outputs; sums: (μ, Σ g, Σ g·(x − μ)) of each channel. row, steps as in maxima.
        C = input.shape[3]
        centre = load(lanes, sums, c)
        grads, products = load(lanes, sums, C + c), load(lanes, sums, 2 * C + c)
        kh, row_taps = row
        for ow in range(grad_output.shape[2]):
            w, col_taps, kw = cols[ow, 0], cols[ow, 1], cols[ow, 2]
            first, here = source + w * C, at + ow * C
            position = load(lanes, window, here)
            peak = splat(lanes, input.dtype.type(0))
            for i in range(row_taps):
                for j in range(col_taps):
                    x = load(lanes, input, first + i * steps[0] + j * steps[1])
                    tap = window.dtype.type((kh + i) * kW + kw + j)
                    peak = select(equals(position, tap), x, peak)
            if row_taps > 0 and col_taps > 0:  # a dilated window can miss the input
                grad = widen(load(lanes, grad_output, here))
                grads = add(grads, grad)
                products = multiply_add(grad, subtract(widen(peak), centre), products)
        store(sums, C + c, grads)
        store(sums, 2 * C + c, products)

    return add_products


_products_many, _products_few, _products_one = (_make_products(n) for n in (_MANY, _FEW, 1))


@kernel
def _maxima_products(
    span, partial, grad_output, window, input, mean, rows, row_step, cols, col_step, kW
):
    # A comparison a tap, four flop an output. Parallel over chunks of rows of outputs: each task
    # owns partial[chunk].
    chunks = partial.shape[0]
    N, H_out, W_out, C = grad_output.shape
    H, W = input.shape[1:3]
    many, few = _cut(C)
    steps = (row_step * W * C, col_step * C)
    for chunk in tasks(span, chunks):
        sums = partial[chunk]
        sums[1:] = 0
        for c in range(C):
            sums[0, c] = np.float64(mean[0, c]) + np.float64(mean[1, c])
        for out_row in range(chunk * N * H_out // chunks, (chunk + 1) * N * H_out // chunks):
            n, oh = out_row // H_out, out_row % H_out
            h, taps, kh = rows[oh]
            row = (kh, taps)
            at, source = out_row * W_out * C, (n * H + h) * W * C
            for c in range(0, many, _MANY):
                _products_many(sums, grad_output, window, at + c, input, source + c,
                               c, row, cols, steps, kW)  # fmt: skip
            for c in range(many, few, _FEW):
                _products_few(sums, grad_output, window, at + c, input, source + c,
                              c, row, cols, steps, kW)  # fmt: skip
            for c in range(few, C):
                _products_one(sums, grad_output, window, at + c, input, source + c,
                              c, row, cols, steps, kW)  # fmt: skip


def batch_norm_max_pool2d_backward_affine_workspace(dims) -> int:
    return chunk_count(dims.N * dims.H * dims.W * dims.C) * 3 * dims.C


def batch_norm_max_pool2d_backward_affine(
    grad_weight, grad_bias, grad_output, window, input, mean, invstd, scratch, dims
):
    # y = x̂·w + b, x̂ = (x − μ)·invstd, and o passes its gradient to y at its maximum m(o):
    # gw = Σ_o g[o]·x̂[m(o)], gb = Σ_o g[o].
    rows, cols = window_axes(dims)
    partial = scratch.reshape(-1, 3, dims.C)
    _maxima_products(
        partial, grad_output, window, input, mean,
        rows.windows, rows.step, cols.windows, cols.step, dims.kW,
    )  # fmt: skip
    _combine_products(grad_weight, grad_bias, partial, invstd)


# Gradient of the input ----------------------------------------------------------------------


def _make_gradients(lanes: int):
    @inlined
    def gradients(sums, grad_input, at, input, grad_output, window, source, table, c,
                  row, row_entries, col_index, col_entries, kW):  # fmt: skip
        # One row of cells, `lanes` channels from c on. row: the range of its entries (see pool.py).
        W, C = input.shape[2:]
        W_out = grad_output.shape[2]
        centre, rest = load(lanes, table, c), load(lanes, table, C + c)
        mean_grad, slope = load(lanes, table, 2 * C + c), load(lanes, table, 3 * C + c)
        scale = load(lanes, table, 4 * C + c)
        floor, zero = load(lanes, table, 5 * C + c), splat(lanes, input.dtype.type(0))
        total = load(lanes, sums, c)
        for w in range(W):
            grad = zero
            for a in range(row[0], row[1]):
                oh, kh = row_entries[a, 0], row_entries[a, 1]
                for b in range(col_index[w], col_index[w + 1]):
                    ow, kw = col_entries[b, 0], col_entries[b, 1]
                    output = source + (oh * W_out + ow) * C
                    chosen = equals(load(lanes, window, output), window.dtype.type(kh * kW + kw))
                    grad = add(grad, select(chosen, load(lanes, grad_output, output), zero))
            x = load(lanes, input, at + w * C)
            centred = subtract(subtract(x, centre), rest)
            grad = multiply(multiply_add(centred, slope, subtract(grad, mean_grad)), scale)
            grad = select(exceeds(x, floor), grad, zero)
            store(grad_input, at + w * C, grad)
            total = add(total, widen(grad))
        store(sums, c, total)

    return gradients


_gradients_many, _gradients_few, _gradients_one = (_make_gradients(n) for n in (_MANY, _FEW, 1))


@kernel
def _backward_input(span, partial, grad_input, grad_output, window, input, mean, invstd, weight,
                    grad_weight, grad_bias, floor, table, row_index, row_entries, col_index,
                    col_entries, kW):  # fmt: skip
    # Six flop and a comparison an element. Parallel over chunks of rows of the images: each task
    # owns its rows and partial[chunk].
    chunks = partial.shape[0]
    N, H, W, C = input.shape
    H_out, W_out = grad_output.shape[1:3]
    cells = N * H * W
    if whole(span):
        for c in range(C):
            table[0, c] = mean[0, c]
            table[1, c] = mean[1, c]
            table[2, c] = np.float64(grad_bias[c]) / cells
            table[3, c] = -np.float64(grad_weight[c]) * np.float64(invstd[c]) / cells
            table[4, c] = invstd[c] if weight is None else invstd[c] * weight[c]
            table[5, c] = floor
    many, few = _cut(C)
    for chunk in tasks(span, chunks):
        sums = partial[chunk]
        sums[:] = 0
        for in_row in range(chunk * N * H // chunks, (chunk + 1) * N * H // chunks):
            n, h = in_row // H, in_row % H
            row = (row_index[h], row_index[h + 1])
            at, source = in_row * W * C, n * H_out * W_out * C
            for c in range(0, many, _MANY):
                _gradients_many(sums, grad_input, at + c, input, grad_output, window, source + c,
                                table, c, row, row_entries, col_index, col_entries, kW)  # fmt: skip
            for c in range(many, few, _FEW):
                _gradients_few(sums, grad_input, at + c, input, grad_output, window, source + c,
                               table, c, row, row_entries, col_index, col_entries, kW)  # fmt: skip
            for c in range(few, C):
                _gradients_one(sums, grad_input, at + c, input, grad_output, window, source + c,
                               table, c, row, row_entries, col_index, col_entries, kW)  # fmt: skip


def batch_norm_max_pool2d_backward_input_workspace(dims) -> int:
    return (chunk_count(dims.N * dims.H * dims.W * dims.C) + 6) * dims.C


def batch_norm_max_pool2d_backward_input(
    grad_input, grad_sums, grad_output, window, input, mean, invstd, weight, grad_weight, grad_bias,
    relu, scratch, dims,
):  # fmt: skip
    # As in norm.py, gx = w·s·(g − gb/n − (x − μ)·s·gw/n) with s = invstd, n = N·H·W, and g the
    # sum over the outputs that found their maximum here; then 0 where relu gave x = 0. Without relu
    # all x are above the floor.
    C = dims.C
    rows, cols = window_axes(dims)
    table = scratch[: 6 * C].view(input.dtype)[: 6 * C].reshape(6, C)
    partial = scratch[6 * C :].reshape(-1, C)
    floor = input.dtype.type(0 if relu else -np.inf)
    _backward_input(
        partial, grad_input, grad_output, window, input, mean, invstd, weight,
        grad_weight, grad_bias, floor, table,
        rows.index, rows.entries, cols.index, cols.entries, dims.kW,
    )  # fmt: skip
    combine_sums(grad_sums, partial)
