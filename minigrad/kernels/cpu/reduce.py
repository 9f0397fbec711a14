"""Reductions of the middle axis of a C-ordered (outer, R, inner) array to (outer, inner).

A task is one outer index, one chunk of R and one block of columns of inner; each task owns its
partial result. How R is cut into chunks follows from the shape alone, and the partial results are
combined in the order of the chunks: the same bits whatever the number of threads.

With inner = 1 a row is contiguous and is reduced by a vectorised loop. With inner > 1 whole rows
of columns are combined, so that the inner loop is contiguous again; sums of few columns of floats
are those of channels (_channels.py).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import types
from numba.extending import overload

from ._channels import add_sums, block_size, sum_width
from ._jit import helper, kernel
from ._rows import add_to, fold_line, line_range
from ._simd import whole_registers
from ._tasks import light_tasks, whole
from ._vector import exceeds, lane, load, scale, select, splat

_CHUNK = 16384  # elements of a chunk, at least
_MAX_CHUNKS = 64
_COLUMNS = 1024  # of a block
_FEW_COLUMNS = 256
_LANES = 16


@lru_cache(maxsize=1024)
def _chunks(shape) -> int:
    """Pieces into which R is cut. With many rows the rows are parallelism enough."""
    outer, R, inner = shape
    wanted = _MAX_CHUNKS // max(1, outer * -(-inner // _COLUMNS))
    # The sums of a chunk are to be little beside its rows.
    return max(1, min(wanted, R * min(inner, _COLUMNS) // _CHUNK, R if inner == 1 else R // 64))


# Sums -----------------------------------------------------------------------------------------


# Slices are passed to helpers: LLVM vectorises no loop over input[o, r, i].


@helper
def _sum_of(row, total):
    """total + Σ x, in the type of `total`."""
    whole_registers()
    for i in range(row.size):
        total += row[i]
    return total


@helper
def _sum_of_both(row, other, total):
    """The same of two rows of one length. They come from two pages of memory: the processor fetches
    ahead within a page only, and reads two at a time a third faster than one."""
    whole_registers()
    number = type(total)
    for i in range(row.size):
        total += number(row[i]) + number(other[i])
    return total


@helper
def _squares_of(row, center):
    """Σ (x − center)² in float64."""
    whole_registers()
    total = 0.0
    for i in range(row.size):
        d = np.float64(row[i]) - center
        total += d * d
    return total


@helper
def _add_row(sums, row):
    whole_registers()
    for i in range(row.size):
        sums[i] += row[i]


@helper
def _add_four_rows(sums, a, b, c, d):
    whole_registers()
    number = sums.dtype.type
    for i in range(sums.size):
        sums[i] += (number(a[i]) + number(b[i])) + (number(c[i]) + number(d[i]))


@helper
def _add_squares(sums, row, center):
    whole_registers()
    for i in range(row.size):
        d = np.float64(row[i]) - np.float64(center[i])
        sums[i] += d * d


def _make_sums(squared: int):
    """scale · Σ over the elements or, if squared, over their squared distances from `center`."""

    @kernel
    def sums(span, out, partial, input, center, scale):
        # 1 or 3 flop an element. Parallel over (outer, chunk, block of columns). Sums are float64
        # for floats, int64 for integers; blocks of a chunk are summed first, then added up, so
        # that float64 inputs keep their precision too. Those of several chunks are added in order.
        outer, chunks, _, inner = partial.shape
        R, number = input.shape[1], partial.dtype.type
        blocks = (inner + _COLUMNS - 1) // _COLUMNS
        count = outer * chunks * blocks
        for task in light_tasks(span, count, input.size // max(1, count)):
            o, chunk = task // blocks // chunks, task // blocks % chunks
            start = task % blocks * _COLUMNS
            stop = min(start + _COLUMNS, inner)
            total, block = partial[o, chunk, 0], partial[o, chunk, 1]
            total[start:stop] = 0
            last = (chunk + 1) * R // chunks
            if inner == 1:
                row = input[o].reshape(-1)
                first = chunk * R // chunks
                if not squared:
                    half = (last - first) // 2
                    for at in range(first, first + half, 4096):
                        end = min(at + 4096, first + half)
                        total[0] += _sum_of_both(
                            row[at:end], row[at + half : end + half], number(0)
                        )
                    first += 2 * half
                for at in range(first, last, 1024):
                    part = row[at : min(at + 1024, last)]
                    if squared:
                        total[0] += _squares_of(part, np.float64(center[o, 0]))
                    else:
                        total[0] += _sum_of(part, number(0))
            else:
                for first in range(chunk * R // chunks, last, 128):
                    block[start:stop] = 0
                    until = min(first + 128, last)
                    if not squared:
                        for r in range(first, until - 3, 4):
                            _add_four_rows(
                                block[start:stop], input[o, r, start:stop],
                                input[o, r + 1, start:stop], input[o, r + 2, start:stop],
                                input[o, r + 3, start:stop],
                            )  # fmt: skip
                        first = until - (until - first) % 4
                    for r in range(first, until):
                        row = input[o, r, start:stop]
                        if squared:
                            _add_squares(block[start:stop], row, center[o, start:stop])
                        else:
                            _add_row(block[start:stop], row)
                    for i in range(start, stop):
                        total[i] += block[i]
            if chunks == 1:
                for i in range(start, stop):
                    out[o, i] = total[i] * scale
        if chunks > 1 and whole(span):
            for o in range(outer):
                total = partial[o, 0, 0]
                for chunk in range(1, chunks):
                    _add_row(total, partial[o, chunk, 0])
                for i in range(inner):
                    out[o, i] = total[i] * scale

    return sums


_sums, _squared_sums = _make_sums(0), _make_sums(1)


@kernel
def _channel_sums(span, out, partial, input, R, scale):
    # As sums, for floats. Parallel over (outer, chunk of lines): each task owns its partial result.
    outer, chunks, width = partial.shape
    inner = out.shape[1]
    size, block = R * inner, block_size(width)
    for task in light_tasks(span, outer * chunks, size // chunks):
        o, chunk = task // chunks, task % chunks
        total = partial[o, chunk]
        total[:] = 0
        start, end = line_range(chunk, chunks, size, width)
        for at in range(o * size + start, o * size + end, block):
            add_sums(total, input, at, min(at + block, o * size + end))
        if width > inner:
            fold_line(total, inner)
        if chunks == 1:
            for i in range(inner):
                out[o, i] = total[i] * scale
    if chunks > 1 and whole(span):
        for o in range(outer):
            total = partial[o, 0]
            for chunk in range(1, chunks):
                add_to(total[:inner], partial[o, chunk, :inner])
            for i in range(inner):
                out[o, i] = total[i] * scale


@lru_cache(maxsize=1024)
def sum_forward_workspace(shape) -> int:
    # Of integers with several columns it would be as much or less.
    return shape[0] * _chunks(shape) * max(2 * shape[2], sum_width(shape[2]))


def _run_sums(kernel, out, input, center, scratch, scale):
    if out.size:
        outer, _, inner = input.shape
        partial = scratch[: outer * _chunks(input.shape) * 2 * inner].reshape(outer, -1, 2, inner)
        kernel(out, partial, input, center, scratch.dtype.type(scale))


def sum_forward(out, input, scratch, scale):
    outer, R, inner = input.shape
    if 1 < inner <= _FEW_COLUMNS and input.dtype.kind == "f":
        if out.size:
            partial = scratch[: outer * _chunks(input.shape) * sum_width(inner)]
            partial = partial.reshape(outer, -1, sum_width(inner))
            _channel_sums(out, partial, input.reshape(-1), R, float(scale))
        return
    # `center` is not read; the output stands in for it.
    _run_sums(_sums, out, _countable(input), out, scratch, scale)


def squared_deviation_forward(out, input, center, scratch, scale):
    _run_sums(_squared_sums, out, input, center, scratch, scale)


def _countable(array):
    """A bool array as the uint8 that it is in memory."""
    return array.view("u1") if array.dtype.kind == "b" else array


# Extrema --------------------------------------------------------------------------------------


@helper
def _beats(x, y, sign):
    """x > y for sign 1, x < y for sign −1; NaN beats every number, but not another NaN."""
    return (x > y if sign > 0 else x < y) or (x != x and y == y)


def _first_of(row, sign):
    """The first position of the best."""
    raise TypeError("only inside kernels")


@helper
def _first_from(row, sign, best, start):
    for r in range(start, row.size):
        if _beats(row[r], row[best], sign):
            best = r
    return best


def _first_of_any(row, sign):
    return _first_from(row, sign, 0, 1)


def _first_of_floats(row, sign):
    whole_registers()
    lines = row.size // _LANES
    if lines < 2:
        return _first_from(row, sign, 0, 1)
    # Each lane keeps its first best; a NaN, which wins, is looked for again.
    factor = row.dtype.type(sign)
    largest, position = scale(load(_LANES, row, 0), factor), splat(_LANES, np.int32(0))
    for line in range(1, lines):
        x = scale(load(_LANES, row, line * _LANES), factor)
        better = exceeds(x, largest)
        largest = select(better, x, largest)
        position = select(better, splat(_LANES, np.int32(line)), position)
    best, value = 0, -np.inf
    for i in range(_LANES):
        found, r = lane(largest, i), np.int64(lane(position, i)) * _LANES + i
        if found != found:
            return _first_from(row, sign, 0, 1)
        if i == 0 or found > value or (found == value and r < best):
            best, value = r, found
    return _first_from(row, sign, best, lines * _LANES)


@overload(_first_of, jit_options={"error_model": "numpy"})
def _first_of_overload(row, sign):
    return _first_of_floats if isinstance(row.dtype, types.Float) else _first_of_any


def _make_extremum(sign: int):
    """First position of the largest (sign 1) or least (sign −1) element of each chunk."""

    @kernel
    def extremum(span, best, input):
        # One comparison an element. Parallel over (outer, chunk, block of columns).
        outer, chunks, inner = best.shape
        R = input.shape[1]
        blocks = (inner + _COLUMNS - 1) // _COLUMNS
        count = outer * chunks * blocks
        for task in light_tasks(span, count, input.size // max(1, count)):
            o, chunk, block = task // blocks // chunks, task // blocks % chunks, task % blocks
            first, last = chunk * R // chunks, (chunk + 1) * R // chunks
            if inner == 1:
                best[o, chunk, 0] = first + _first_of(input[o].reshape(-1)[first:last], sign)
            else:
                start, stop = block * _COLUMNS, min((block + 1) * _COLUMNS, inner)
                for i in range(start, stop):
                    best[o, chunk, i] = first
                for r in range(first + 1, last):
                    for i in range(start, stop):
                        if _beats(input[o, r, i], input[o, best[o, chunk, i], i], sign):
                            best[o, chunk, i] = r

    return extremum


_argmax, _argmin = _make_extremum(1), _make_extremum(-1)


@kernel
def _first_best(span, indices, best, input, sign):
    """The best of the chunks' best, the first of equals."""
    outer, chunks, inner = best.shape
    for k in light_tasks(span, outer * inner, chunks):
        o, i = k // inner, k % inner
        index = best[o, 0, i]
        for chunk in range(1, chunks):
            r = best[o, chunk, i]
            if _beats(input[o, r, i], input[o, index, i], sign):
                index = r
        indices[o, i] = index


def argmax_forward_workspace(shape) -> int:
    return shape[0] * _chunks(shape) * shape[2]


argmin_forward_workspace = argmax_forward_workspace


def _run_extremum(kernel, indices, input, scratch, sign):
    if indices.size:
        best = scratch.reshape(input.shape[0], -1, input.shape[2])
        kernel(best, _countable(input))
        _first_best(indices, best, _countable(input), sign)


def argmax_forward(indices, input, scratch):
    _run_extremum(_argmax, indices, input, scratch, 1)


def argmin_forward(indices, input, scratch):
    _run_extremum(_argmin, indices, input, scratch, -1)


@kernel
def take_forward(span, out, input, indices):
    # Parallel over outputs.
    inner = input.shape[2]
    for k in light_tasks(span, out.size, 1):
        o, i = k // inner, k % inner
        out[o, i] = input[o, indices[o, i], i]


@kernel
def take_backward_input(span, grad_input, grad_output, indices):
    # y = x[index]: dy/dx is 1 at the index, else 0. Parallel over outer; a task owns its rows.
    outer, R, inner = grad_input.shape
    for o in light_tasks(span, outer, R * inner):
        for r in range(R):
            for i in range(inner):
                grad_input[o, r, i] = 0
        for i in range(inner):
            grad_input[o, indices[o, i], i] = grad_output[o, i]


# Products and running sums --------------------------------------------------------------------


@kernel
def prod_forward(span, out, input):
    # Parallel over outputs, each the product of one column.
    R, inner = input.shape[1:]
    for k in light_tasks(span, out.size, R):
        o, i = k // inner, k % inner
        product = out.dtype.type(1)
        for r in range(R):
            product *= input[o, r, i]
        out[o, i] = product


@kernel
def prod_backward_input(span, grad_input, grad_output, input):
    # y = Π x_r: dy/dx_r is the product of all others, that is of those before r and those after r.
    # A quotient y / x_r would fail at zeros.
    outer, R, inner = input.shape
    for k in light_tasks(span, outer * inner, R):
        o, i = k // inner, k % inner
        before = grad_output[o, i]
        for r in range(R):
            grad_input[o, r, i] = before
            before *= input[o, r, i]
        after = grad_input.dtype.type(1)
        for r in range(R - 1, -1, -1):
            grad_input[o, r, i] *= after
            after *= input[o, r, i]


@kernel
def _cumsum(span, out, input, zero, reverse):
    # Parallel over columns; the running sum has the type of `zero`.
    outer, R, inner = input.shape
    for k in light_tasks(span, outer * inner, R):
        o, i = k // inner, k % inner
        total = zero
        for step in range(R):
            r = R - 1 - step if reverse else step
            total += input[o, r, i]
            out[o, r, i] = total


def cumsum_forward(out, input, reverse):
    _cumsum(out, input, np.float64(0) if out.dtype.kind == "f" else np.int64(0), reverse)
