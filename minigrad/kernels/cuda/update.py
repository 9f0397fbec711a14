"""Optimiser steps and gradient clipping: one pass over the parameters and their state.

All parameters of a step go through one kernel. It reads, from a table in device memory, a record
for each parameter: where its arrays are, how long they are, and the numbers of its options. A
captured step is replayed with fresh options because the table is filled anew before every replay.

The arrays are cut into pieces of fixed length; a block works on one piece, which it finds by its
number: records hold the number of their first piece, ascending. Each element has one owner. Where
all arrays of a record start at multiples of 16 bytes, all but the last few elements are read and
written in vectors of as many. Of two products that are added, one is rounded first: which of them,
the compiler would choose for vectors in one way and for single elements in another.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from ...runtime.cuda.recording import current
from ...runtime.cuda.table import upload
from ._device import THREADS, absolute, cuda, device, power, product, sqrt
from ._launch import kernel, launch, over
from ._middle import chunk_of
from ._ptx import array_at, vectors
from ._reduce import block_max, block_sum
from ._span import span
from ._tile import VECTOR

_PIECE = 2048  # elements

# A record is int64 cells: first piece, size, addresses (0 for None), then float64 numbers.
_ADDRESSES = 2
_SGD_NUMBERS = _ADDRESSES + 3  # param, momentum buffer, gradient
_SGD_CELLS = _SGD_NUMBERS + 6
_ADAM_NUMBERS = _ADDRESSES + 5  # param, m, v, largest v, gradient
_ADAM_CELLS = _ADAM_NUMBERS + 9


@device
def _row_of(table, rows, cells, piece):
    """The last record whose first piece is not after this one."""
    low, high = 0, rows - 1
    while low < high:
        middle = (low + high + 1) >> 1
        if table[middle * cells] <= piece:
            low = middle
        else:
            high = middle - 1
    return low


@device
def _vectors_end(table, record, numbers, first, stop, width):
    """Where the whole vectors of the elements first … stop − 1 end: at once if an array of the
    record is not aligned. The pieces start at multiples of a vector."""
    bits = table[record + _ADDRESSES]
    for column in range(_ADDRESSES + 1, numbers):
        bits |= table[record + column]
    return first if bits & (VECTOR - 1) else first + (stop - first) // width * width


def _step(kernel, numbers_of, options, *columns):
    """One step. numbers_of: those of an option, the end of a record; at a replay, `options` holds
    today's. columns: the arrays, the parameters first."""
    params = columns[0]
    sizes = [param.size for param in params]
    pieces = [-(-size // _PIECE) for size in sizes]
    firsts = np.cumsum([0, *pieces], dtype=np.int64)[:-1].tolist()
    if current.recording is not None:  # the kernel finds its arrays in the table
        for array in itertools.chain(*columns):
            if array is not None:
                current.recording.touch(array)
    addresses = [[0 if a is None else a.pointer for a in arrays] for arrays in columns]
    places = np.array([firsts, sizes, *addresses], np.int64).T
    numbers = len(columns) + _ADDRESSES
    records = np.empty((len(params), numbers + len(numbers_of(options[0]))), np.int64)
    records[:, :numbers] = places

    def refill(records):
        tail, start = records[:, numbers:].view(np.float64), 0
        for option, run in itertools.groupby(options):  # one of many parameters
            end = start + len(list(run))
            tail[start:end] = numbers_of(option)
            start = end

    if not sum(pieces):
        return
    refill(records)
    table = upload(records, refill, params[0].driver.index)
    args = table, table.view(np.float64), len(params)
    variant = kernel(params[0].dtype, THREADS, _PIECE)
    if _distinct(params):
        launch(variant, ((sum(pieces),), (THREADS,)), *args, 0)
    else:
        for first, count in zip(firsts, pieces, strict=True):
            launch(variant, ((count,), (THREADS,)), *args, first)


def _distinct(params):
    """Whether no two parameters share memory; those that do must go one after the other."""
    spans = sorted((param.pointer, param.pointer + param.nbytes) for param in params if param.size)
    return all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


# SGD ----------------------------------------------------------------------------------------


def _sgd_run(real, threads, width):
    """b ← keep·b + take·g; p ← p − lr·b or, with Nesterov's momentum, p − lr·(g + momentum·b), for
    the elements first … stop − 1."""
    fetch, put = vectors(width)

    @device
    def run(param, buffer, grad, options, has_momentum, first, stop):
        lr, keep, take, decay, nesterov, sign = options
        p, b, g = (
            cuda.local.array(width, real), cuda.local.array(width, real),
            cuda.local.array(width, real),
        )  # fmt: skip
        for i in span(first + cuda.threadIdx.x * width, stop, threads * width):
            fetch(p, 0, param, i, True)
            fetch(g, 0, grad, i, True)
            # 0 at the first step: what the buffer holds is not read
            fetch(b, 0, buffer, i, has_momentum and keep != real(0))
            for k in range(width):
                change = product(sign, g[k]) + decay * p[k]
                if has_momentum:
                    b[k] = product(take, change) + keep * b[k]
                    change = change + nesterov * b[k] if nesterov != real(0) else b[k]
                p[k] -= lr * change
            if has_momentum:
                put(buffer, i, b, 0)
            put(param, i, p, 0)

    return run


@kernel
def _sgd(real, threads, piece_size):
    width = VECTOR // np.dtype(real).itemsize
    run_vectors, run = _sgd_run(real, threads, width), _sgd_run(real, threads, 1)

    def sgd(table, numbers, rows, first_piece):
        # Per element 4 flop and 12 bytes in float32; with momentum 8 flop and 20 bytes.
        piece = first_piece + cuda.blockIdx.x
        record = _row_of(table, rows, _SGD_CELLS, piece) * _SGD_CELLS
        length, at = table[record + 1], record + _SGD_NUMBERS
        param = array_at(table[record + 2], length, real)
        buffer = array_at(table[record + 3], length, real)
        grad = array_at(table[record + 4], length, real)
        options = (
            real(numbers[at]), real(numbers[at + 1]), real(numbers[at + 2]),
            real(numbers[at + 3]), real(numbers[at + 4]), real(numbers[at + 5]),
        )  # fmt: skip
        momentum = table[record + 3] != 0
        first = (piece - table[record]) * piece_size
        stop = min(first + piece_size, length)
        middle = _vectors_end(table, record, _SGD_NUMBERS, first, stop, width)
        run_vectors(param, buffer, grad, options, momentum, first, middle)
        run(param, buffer, grad, options, momentum, middle, stop)

    return sgd


def sgd_update(params, momentum_buffers, grads, options):
    _step(_sgd, _sgd_numbers, options, params, momentum_buffers, grads)


def _sgd_numbers(o):
    keep, take = (0.0, 1.0) if o.first else (o.momentum, 1.0 - o.dampening)
    nesterov, sign = o.momentum if o.nesterov else 0.0, -1.0 if o.maximize else 1.0
    return o.lr, keep, take, o.weight_decay, nesterov, sign


# Adam ---------------------------------------------------------------------------------------


def _adam_run(real, threads, width):
    """Adam's step for the elements first … stop − 1."""
    fetch, put = vectors(width)

    @device
    def run(param, mean, square, largest, grad, options, amsgrad, first, stop):
        scale, eps, beta1, one_less_beta1, beta2, one_less_beta2, keep, decay, sign = options
        p, m, v, top, g = (
            cuda.local.array(width, real), cuda.local.array(width, real),
            cuda.local.array(width, real), cuda.local.array(width, real),
            cuda.local.array(width, real),
        )  # fmt: skip
        for i in span(first + cuda.threadIdx.x * width, stop, threads * width):
            fetch(p, 0, param, i, True)
            fetch(g, 0, grad, i, True)
            fetch(m, 0, mean, i, True)
            fetch(v, 0, square, i, True)
            fetch(top, 0, largest, i, amsgrad)
            for k in range(width):
                change = product(sign, g[k]) + decay * p[k]
                m[k] = product(beta1, m[k]) + one_less_beta1 * change
                v[k] = product(beta2, v[k]) + one_less_beta2 * (change * change)
                bound = v[k]
                if amsgrad:
                    # NaN wins on either side.
                    bound = top[k] if bound <= top[k] or top[k] != top[k] else bound
                    top[k] = bound
                p[k] = keep * p[k] - scale * m[k] / (sqrt(bound) + eps)
            put(mean, i, m, 0)
            put(square, i, v, 0)
            if amsgrad:
                put(largest, i, top, 0)
            put(param, i, p, 0)

    return run


@kernel
def _adam(real, threads, piece_size):
    width = VECTOR // np.dtype(real).itemsize
    run_vectors, run = _adam_run(real, threads, width), _adam_run(real, threads, 1)

    def adam(table, numbers, rows, first_piece):
        # Per element about 14 flop, a square root, a division and 28 bytes in float32.
        piece = first_piece + cuda.blockIdx.x
        record = _row_of(table, rows, _ADAM_CELLS, piece) * _ADAM_CELLS
        length, at = table[record + 1], record + _ADAM_NUMBERS
        param = array_at(table[record + 2], length, real)
        mean = array_at(table[record + 3], length, real)
        square = array_at(table[record + 4], length, real)
        largest = array_at(table[record + 5], length, real)
        grad = array_at(table[record + 6], length, real)
        options = (
            real(numbers[at]), real(numbers[at + 1]), real(numbers[at + 2]),
            real(numbers[at + 3]), real(numbers[at + 4]), real(numbers[at + 5]),
            real(numbers[at + 6]), real(numbers[at + 7]), real(numbers[at + 8]),
        )  # fmt: skip
        amsgrad = table[record + 5] != 0
        first = (piece - table[record]) * piece_size
        stop = min(first + piece_size, length)
        middle = _vectors_end(table, record, _ADAM_NUMBERS, first, stop, width)
        run_vectors(param, mean, square, largest, grad, options, amsgrad, first, middle)
        run(param, mean, square, largest, grad, options, amsgrad, middle, stop)

    return adam


def adam_update(params, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, grads, options):
    _step(_adam, _adam_numbers, options, params, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, grads)


def _adam_numbers(o):
    # lr/c1 · m / (√v/√c2 + ε) = scale · m / (√v + ε·√c2), scale = lr·√c2/c1: one division. Decay is
    # 'keep' of the parameter (AdamW) or 'decay' into the gradient (Adam); the other one is neutral.
    root = math.sqrt(o.bias_correction2)
    keep, decay = (1.0 - o.lr * o.weight_decay, 0.0) if o.decoupled else (1.0, o.weight_decay)
    return (
        o.lr * root / o.bias_correction1, o.eps * root, o.beta1, 1.0 - o.beta1, o.beta2,
        1.0 - o.beta2, keep, decay, -1.0 if o.maximize else 1.0,
    )  # fmt: skip


# Clipping -----------------------------------------------------------------------------------

_NORM_PIECE = 8192
_MAX_PIECES = 512
_POWER, _FIRST, _SECOND = 0, 1, 2  # exponents: any, 1 and 2


def _pieces(size):
    return max(1, min(size // _NORM_PIECE, _MAX_PIECES))


@kernel
def _power_sums(real, threads, kind, maximum, root):
    def power_sums(out, input, exponent, n, each):
        # out[k] = (Σ |x|^p)^q over piece k, or the maximum for Σ. One of p and q, as `kind` and
        # `root` say, is 2 or 1/2, the exponent, or 1.
        # 2 flop an element for squares. float64: squares of float32 gradients neither overflow nor
        # lose their sum. A block owns its piece's result.
        shared = cuda.shared.array(threads, np.float64)
        piece, total = cuda.blockIdx.x, np.float64(0)
        first, last = chunk_of(piece, each, n)
        for i in span(first + cuda.threadIdx.x, last, threads):
            x = absolute(np.float64(input[i]))
            if kind == _SECOND:
                x *= x
            elif kind == _POWER:
                x = power(x, exponent)
            if not maximum:
                total += x
            elif not x <= total and total == total:  # NaN wins
                total = x
        if maximum:
            total = block_max(shared, total, threads)
        else:
            total = block_sum(shared, total, threads)
        if root == _SECOND:
            total = sqrt(total)
        elif root == _POWER:
            total = power(total, exponent)
        if cuda.threadIdx.x == 0:
            out[piece] = total

    return power_sums


def power_sum_workspace(size):
    return _pieces(size)


def power_sum(out, input, scratch, norm_type):
    pieces, maximum = _pieces(input.size), int(math.isinf(norm_type))
    kind = {1.0: _FIRST, 2.0: _SECOND, math.inf: _FIRST}.get(float(norm_type), _POWER)
    first = out if pieces == 1 else scratch
    shape, p = ((pieces,), (THREADS,)), np.float64(norm_type)
    variant = _power_sums(input.dtype, THREADS, kind, maximum, _FIRST)
    launch(variant, shape, first, input, p, input.size, -(-input.size // pieces))
    if pieces > 1:
        last = _power_sums(scratch.dtype, THREADS, _FIRST, maximum, _FIRST)
        launch(last, ((1,), (THREADS,)), out, scratch, p, pieces, pieces)


def total_norm(out, sums, norm_type):
    root = {1.0: _FIRST, 2.0: _SECOND, math.inf: _FIRST}.get(float(norm_type), _POWER)
    maximum, exponent = int(math.isinf(norm_type)), np.float64(1 / norm_type)
    variant = _power_sums(sums.dtype, THREADS, _FIRST, maximum, root)
    launch(variant, ((1,), (THREADS,)), out, sums, exponent, sums.size, sums.size)


@kernel
def _clip_to_norm(real):
    def clip_to_norm(values, norm, max_norm, n):
        # 1 flop and 8 bytes an element in float32. Each thread owns its elements.
        factor = max_norm / (real(norm[0]) + real(1e-6))
        factor = real(1) if factor > real(1) else factor
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            values[i] *= factor

    return clip_to_norm


def clip_to_norm(values, norm, max_norm):
    n = values.size
    launch(_clip_to_norm(values.dtype), over(n), values, norm, float(max_norm), n)


@kernel
def _clip_to_value(real):
    def clip_to_value(values, limit, n):
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            x = values[i]
            values[i] = limit if x > limit else (-limit if x < -limit else x)

    return clip_to_value


def clip_to_value(values, limit):
    n = values.size
    launch(_clip_to_value(values.dtype), over(n), values, float(limit), n)
