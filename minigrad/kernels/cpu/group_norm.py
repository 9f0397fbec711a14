"""Normalisation over groups of channels, on (N, L, C) arrays: layer_norm has one group and L = 1.

All in float64: sums over the distance from a group's first number (why that is enough: norm.py),
and what is made of them, so that a result is rounded once. A sample stays in cache until it is
normalised.

**Many positions.** Sums are made channel by channel (see _channels.py), those of a group's channels
added up, and the result is spread over its channels: a table of constants, with which the sample is
gone through once more. A task takes several samples, or some of the groups of one.

**One position.** A group's channels are neighbours: loops over slices.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from ._channels import MANY, add_moments, add_products, block_size, sum_width
from ._jit import helper, inlined, kernel, serial_kernel
from ._rows import add_to, chunk_count, fold_line, repeat_row
from ._simd import whole_registers
from ._tasks import light_tasks, tasks, whole
from ._vector import add, load, multiply, multiply_add, splat, store, subtract, widen

# How work is cut --------------------------------------------------------------------------------


def _parts(N: int, C: int, G: int) -> int:
    """Into how many parts the groups of a sample are cut, so that few samples still make 16 tasks;
    a part has at least MANY channels."""
    return max(1, min(-(-16 // N), G, C // 32)) if 0 < N < 16 and sum_width(C) == C else 1


def _table_size(N: int, C: int) -> int:
    """Of the four rows that each chunk of samples has for its sums and constants."""
    return 4 * _chunks(N) * sum_width(C)


def _chunks(N: int) -> int:
    return max(1, min(N, 64))


@inlined
def _share(task, tables, parts, N, G, K):
    """(table, first and one past the last sample, the same of groups, of columns) of a task."""
    chunk, part = task // parts, task % parts
    chunks, _, width = tables.shape
    g, h = part * G // parts, (part + 1) * G // parts
    last = width if parts == 1 else h * K
    return tables[chunk], chunk * N // chunks, (chunk + 1) * N // chunks, g, h, g * K, last


@inlined
def _spread(table, row, first, last, value):
    for c in range(first, last):
        table[row, c] = value


@helper
def _repeat(table, C):
    """All rows along the line."""
    if table.shape[1] > C:
        for row in table:
            repeat_row(row[C:], row[:C])


@inlined
def _group_sum(table, row, first, last):
    total = 0.0
    for c in range(first, last):
        total += table[row, c]
    return total


# Forward ----------------------------------------------------------------------------------------


def group_norm_forward_workspace(shape) -> int:
    N, L, C = shape
    return 2 * C if L == 1 else _table_size(N, C)


def group_norm_forward(out, mean, invstd, input, weight, bias, eps, scratch):
    N, L, C = input.shape
    G = mean.shape[1]
    if not out.size:
        return
    if L == 1:
        table = scratch.reshape(2, C)
        _forward_rows(out, mean, invstd, input, weight, bias, float(eps), table)
        return
    tables = scratch.reshape(_chunks(N), 4, -1)
    _forward(out, mean, invstd, input, weight, bias, float(eps), tables, _parts(N, C, G))


@inlined
def _finish(total, squares, shift, count, eps):
    """The mean, and 1 / √(variance + eps)."""
    d = total / count
    # Rounding alone may take the difference below zero. NaN stays.
    spread = squares - d * total
    return shift + d, 1 / sqrt((0.0 if spread < 0 else spread) / count + eps)


def _make_normalise(lanes: int):
    @inlined
    def normalise(table, c, out, input, start, lines):
        # Places c to c + lanes of every line; table: (mean, scale, offset).
        width = table.shape[1]
        mean, scale = load(lanes, table, c), load(lanes, table, width + c)
        offset = load(lanes, table, 2 * width + c)
        for line in range(lines):
            at = start + line * width + c
            centred = subtract(widen(load(lanes, input, at)), mean)
            store(out, at, multiply_add(centred, scale, offset))

    return normalise


_normalise_many, _normalise_one = _make_normalise(MANY), _make_normalise(1)


@helper
def _normalise(table, out, input, start, end, first, last):
    whole_registers()
    width = table.shape[1]
    lines = (end - start) // width
    for place in range(first, last, MANY):
        _normalise_many(table, min(place, last - MANY), out, input, start, lines)
    rest = start + lines * width
    for c in range(end - rest):
        _normalise_one(table, c, out, input, rest, 1)


@kernel
def _forward(span, out, mean, invstd, input, weight, bias, eps, tables, parts):
    # Seven flop an element, two passes, the second over cached data. Parallel over (chunk of
    # samples, part of the groups): each task owns its groups and their columns of tables[chunk].
    N, L, C = input.shape
    G = mean.shape[1]
    K, width = C // G, tables.shape[2]
    block, count = block_size(width), L * K
    shares = tables.shape[0] * parts
    for task in light_tasks(span, shares, input.size // shares):
        table, low, high, first_group, last_group, a, b = _share(task, tables, parts, N, G, K)
        for n in range(low, high):
            for g in range(first_group, last_group):
                _spread(table, 0, g * K, (g + 1) * K, input[n, 0, g * K])
                _spread(table, 1, g * K, (g + 1) * K, 0.0)
                _spread(table, 2, g * K, (g + 1) * K, 0.0)
            _repeat(table[:3], C)
            end = (n + 1) * L * C
            for at in range(n * L * C, end, block):
                add_moments(table, input, at, min(at + block, end), a, b)
            if width > C:
                fold_line(table[1], C)
                fold_line(table[2], C)
            for g in range(first_group, last_group):
                i, j = g * K, (g + 1) * K
                total, squares = _group_sum(table, 1, i, j), _group_sum(table, 2, i, j)
                center, scale = _finish(total, squares, table[0, i], count, eps)
                mean[n, g], invstd[n, g] = center, scale
                for c in range(i, j):
                    table[0, c] = center
                    table[1, c] = scale if weight is None else scale * weight[c]
                    table[2, c] = 0.0 if bias is None else bias[c]
            _repeat(table[:3], C)
            for at in range(n * L * C, end, block):
                _normalise(table, out, input, at, min(at + block, end), a, b)


@helper
def _moments_of_both(row, other, shift, other_shift):
    """Σ (x − shift) and Σ (x − shift)² of two rows, which are read from memory a quarter faster
    together than one after the other: the processor fetches ahead within a page only."""
    whole_registers()
    total = squares = other_total = other_squares = 0.0
    for j in range(len(row)):
        d, e = np.float64(row[j]) - shift, np.float64(other[j]) - other_shift
        total += d
        squares += d * d
        other_total += e
        other_squares += e * e
    return total, squares, other_total, other_squares


@helper
def _normalise_row(out, row, weight, bias, mean, invstd):
    whole_registers()
    for j in range(len(row)):
        normal = (float(row[j]) - mean) * invstd
        out[j] = normal * weight[j] + bias[j]


@kernel
def _forward_rows(span, out, mean, invstd, input, weight, bias, eps, table):
    # Seven flop an element, two passes, the second over cached data. Parallel over pairs of groups:
    # each task owns its groups, of which the last may be alone and taken twice.
    N, _, C = input.shape
    G = mean.shape[1]
    K = C // G
    if whole(span):
        for c in range(C):
            table[0, c] = 1.0 if weight is None else weight[c]
            table[1, c] = 0.0 if bias is None else bias[c]
    groups, x, y = N * G, input.reshape(-1), out.reshape(-1)
    means, scales = mean.reshape(-1), invstd.reshape(-1)
    for task in light_tasks(span, (groups + 1) // 2, 2 * K):
        i = 2 * task
        j = min(i + 1, groups - 1)
        first, second = x[i * K : (i + 1) * K], x[j * K : (j + 1) * K]
        shift, other_shift = np.float64(first[0]), np.float64(second[0])
        total, squares, other_total, other_squares = _moments_of_both(
            first, second, shift, other_shift
        )
        means[i], scales[i] = _finish(total, squares, shift, K, eps)
        means[j], scales[j] = _finish(other_total, other_squares, other_shift, K, eps)
        for k in range(i, j + 1):
            a = k % G * K
            _normalise_row(
                y[k * K : (k + 1) * K], x[k * K : (k + 1) * K],
                table[0, a : a + K], table[1, a : a + K], means[k], scales[k],
            )  # fmt: skip


# Gradients --------------------------------------------------------------------------------------
# x̂ = (x − μ)·r with μ, r functions of every x of the group:
#   dx = r·(w·g − mean(w·g) − x̂·mean(w·g·x̂)),   x̂·mean(w·g·x̂) = (x − μ)·r²·mean(w·g·(x − μ))
#   dw[c] = Σ g·x̂,   db[c] = Σ g


def group_norm_backward_workspace(shape) -> int:
    N, L, C = shape
    if L == 1:
        return C + _row_chunks(N, C) * (2 * C + 4 * _block_rows(C))
    return _chunks(N) * 2 * C + _table_size(N, C)


def group_norm_backward(
    grad_input, grad_weight, grad_bias, grad_output, input, weight, mean, invstd, scratch
):
    N, L, C = input.shape
    if C == 0:
        return
    if L == 1:
        chunks = _row_chunks(N, C)
        factors, partial = scratch[:C], scratch[C : C + chunks * 2 * C].reshape(chunks, 2, C)
        constants = scratch[C + partial.size :].reshape(chunks, -1, 4)
        _backward_rows(
            grad_input, grad_weight, grad_bias, partial, grad_output, input, weight, mean, invstd,
            factors, constants,
        )  # fmt: skip
        return
    chunks, parts = _chunks(N), _parts(N, C, mean.shape[1])
    partial = scratch[: chunks * 2 * C].reshape(chunks, 2, C)
    tables = scratch[partial.size :].reshape(chunks, 4, sum_width(C))
    if grad_input is not None and input.size:
        _backward_input(grad_input, grad_output, input, weight, mean, invstd, tables, parts)
    if grad_weight is not None:
        _affine_sums(partial, grad_output, input, mean, invstd, tables, parts)
        _combine(grad_weight, grad_bias, partial)


def _make_gradients(lanes: int):
    @inlined
    def gradients(table, c, grad_input, grad_output, input, start, lines):
        # Places c to c + lanes of every line; table: (μ, r·w, −r·mean(w·g), −slope).
        width = table.shape[1]
        mean, scale = load(lanes, table, c), load(lanes, table, width + c)
        offset, slope = load(lanes, table, 2 * width + c), load(lanes, table, 3 * width + c)
        for line in range(lines):
            at = start + line * width + c
            centred = subtract(widen(load(lanes, input, at)), mean)
            rest = multiply_add(centred, slope, offset)
            store(grad_input, at, multiply_add(widen(load(lanes, grad_output, at)), scale, rest))

    return gradients


_gradients_many, _gradients_one = _make_gradients(MANY), _make_gradients(1)


@helper
def _gradients(table, grad_input, grad_output, input, start, end, first, last):
    whole_registers()
    width = table.shape[1]
    lines = (end - start) // width
    for place in range(first, last, MANY):
        c = min(place, last - MANY)
        _gradients_many(table, c, grad_input, grad_output, input, start, lines)
    rest = start + lines * width
    for c in range(end - rest):
        _gradients_one(table, c, grad_input, grad_output, input, rest, 1)


@helper
def _sample_products(table, grad_output, input, n, mean, first_group, last_group, a, b):
    """table[1, c] = Σ g, table[2, c] = Σ g·(x − μ) over the positions of sample n."""
    _, L, C = input.shape
    width, K = table.shape[1], C // mean.shape[1]
    for g in range(first_group, last_group):
        _spread(table, 0, g * K, (g + 1) * K, mean[n, g])
        _spread(table, 1, g * K, (g + 1) * K, 0.0)
        _spread(table, 2, g * K, (g + 1) * K, 0.0)
    _repeat(table[:3], C)
    end, block = (n + 1) * L * C, block_size(width)
    for at in range(n * L * C, end, block):
        add_products(table, grad_output, input, at, min(at + block, end), a, b)
    if width > C:
        fold_line(table[1], C)
        fold_line(table[2], C)


@kernel
def _backward_input(span, grad_input, grad_output, input, weight, mean, invstd, tables, parts):
    # Eight flop an element, two passes, the second over cached data. Parallel as _forward.
    N, L, C = input.shape
    G = mean.shape[1]
    K, count, block = C // G, L * (C // G), block_size(tables.shape[2])
    shares = tables.shape[0] * parts
    for task in light_tasks(span, shares, input.size // shares):
        table, low, high, first_group, last_group, a, b = _share(task, tables, parts, N, G, K)
        for n in range(low, high):
            _sample_products(table, grad_output, input, n, mean, first_group, last_group, a, b)
            for g in range(first_group, last_group):
                first = second = 0.0
                for c in range(g * K, (g + 1) * K):
                    w = 1.0 if weight is None else float(weight[c])
                    first += table[1, c] * w
                    second += table[2, c] * w
                r = invstd[n, g]
                for c in range(g * K, (g + 1) * K):
                    table[1, c] = r if weight is None else r * weight[c]
                    table[2, c] = -r * (first / count)
                    table[3, c] = -r * (second / count * r**2)
            _repeat(table, C)
            end = (n + 1) * L * C
            for at in range(n * L * C, end, block):
                _gradients(table, grad_input, grad_output, input, at, min(at + block, end), a, b)


@kernel
def _affine_sums(span, partial, grad_output, input, mean, invstd, tables, parts):
    # dw[c] = Σ g·x̂, db[c] = Σ g: four flop an element. Parallel as _forward; each task owns its
    # columns of partial[chunk].
    N, _, C = input.shape
    G = mean.shape[1]
    K = C // G
    shares = tables.shape[0] * parts
    for task in light_tasks(span, shares, input.size // shares):
        table, low, high, first_group, last_group, a, b = _share(task, tables, parts, N, G, K)
        sums = partial[task // parts]
        for c in range(a, min(b, C)):
            sums[0, c] = sums[1, c] = 0.0
        for n in range(low, high):
            _sample_products(table, grad_output, input, n, mean, first_group, last_group, a, b)
            for g in range(first_group, last_group):
                for c in range(g * K, (g + 1) * K):
                    sums[0, c] += table[2, c] * invstd[n, g]
                    sums[1, c] += table[1, c]


@helper
def _add_chunks(grad_weight, grad_bias, partial):
    """Sums of the chunks, in their order."""
    total = partial[0].reshape(-1)
    for chunk in range(1, partial.shape[0]):
        add_to(total, partial[chunk].reshape(-1))
    for c in range(grad_weight.size):
        grad_weight[c], grad_bias[c] = partial[0, 0, c], partial[0, 1, c]


@serial_kernel
def _combine(grad_weight, grad_bias, partial):
    _add_chunks(grad_weight, grad_bias, partial)


# One position. A block of rows that stays in the first-level cache is gone through twice: row by
# row for what the gradient of the input needs of its group, then down the rows, a few columns at a
# time, whose sums stay in registers.


def _row_chunks(N: int, C: int) -> int:
    """Of rows: few enough that their sums are little beside the rows."""
    return max(1, min(chunk_count(N * C), max(N // 32, min(N, 4))))


def _block_rows(C: int) -> int:
    return max(4, min(64, 4096 // max(1, C)))


@helper
def _gradient_sums(grad, row, weight, mean):
    """Σ w·g and Σ w·g·(x − μ) of one slice."""
    whole_registers()
    first = second = 0.0
    for j in range(len(row)):
        scaled = float(grad[j]) * weight[j]
        first += scaled
        second += scaled * (float(row[j]) - mean)
    return first, second


def _make_columns(lanes: int):
    @inlined
    def columns(c, grad_input, sums, grad_output, input, factors, constants, start, rows, C):
        # Columns c to c + lanes; constants of each row: (μ, r, −mean(w·g), −r²·mean(w·g·(x − μ))).
        weight = load(lanes, factors, c)
        products, grads = load(lanes, sums, c), load(lanes, sums, C + c)
        for row in range(rows):
            at = start + row * C + c
            grad = widen(load(lanes, grad_output, at))
            centred = widen(load(lanes, input, at))
            centred = subtract(centred, splat(lanes, constants[row, 0]))
            scale = splat(lanes, constants[row, 1])
            if grad_input is not None:
                offset, slope = splat(lanes, constants[row, 2]), splat(lanes, constants[row, 3])
                rest = multiply_add(centred, slope, multiply_add(grad, weight, offset))
                store(grad_input, at, multiply(rest, scale))
            grads = add(grads, grad)
            products = multiply_add(multiply(grad, scale), centred, products)
        store(sums, c, products)
        store(sums, C + c, grads)

    return columns


_columns_many, _columns_one = _make_columns(MANY), _make_columns(1)


@helper
def _down_the_rows(
    grad_input, sums, grad_output, input, factors, constants, start, rows, C, first, last
):
    whole_registers()
    whole_vectors = last - (last - first) % MANY
    for c in range(first, whole_vectors, MANY):
        _columns_many(c, grad_input, sums, grad_output, input, factors, constants, start, rows, C)
    for c in range(whole_vectors, last):
        _columns_one(c, grad_input, sums, grad_output, input, factors, constants, start, rows, C)


@kernel
def _backward_rows(
    span, grad_input, grad_weight, grad_bias, partial, grad_output, input, weight, mean, invstd,
    factors, constants,
):  # fmt: skip
    # 14 flop an element, two passes, the second over cached data. Parallel over chunks of rows:
    # each task owns its rows, partial[chunk] and constants[chunk].
    N, _, C = input.shape
    G = mean.shape[1]
    K, chunks, block = C // G, partial.shape[0], constants.shape[1]
    if whole(span):
        for c in range(C):
            factors[c] = 1.0 if weight is None else weight[c]
    for chunk in tasks(span, chunks):
        sums, table = partial[chunk], constants[chunk]
        sums[:] = 0
        end = (chunk + 1) * N // chunks
        for n in range(chunk * N // chunks, end, block):
            rows = min(block, end - n)
            for g in range(G):
                a, b = g * K, (g + 1) * K
                for row in range(rows):
                    center, scale = mean[n + row, g], invstd[n + row, g]
                    first, second = _gradient_sums(
                        grad_output[n + row, 0, a:b], input[n + row, 0, a:b], factors[a:b], center
                    )
                    table[row, 0], table[row, 1] = center, scale
                    table[row, 2] = -(first / K)
                    table[row, 3] = -(second / K * scale**2)
                _down_the_rows(
                    grad_input, sums, grad_output, input, factors, table, n * C, rows, C, a, b
                )
    if whole(span) and grad_weight is not None:
        _add_chunks(grad_weight, grad_bias, partial)
