"""Selecting and placing elements by position. Arrays are seen as (B, J, A), see the reference.

One thread an element, neighbours along A, unless a kernel says otherwise. The host learns of an
index out of range only later, so what a bad position would reach is left out here.
"""

from __future__ import annotations

import numpy as np

from ._device import THREADS, atomic_max, atomic_min, cuda, product
from ._index import arithmetic, index_bits
from ._launch import kernel, launch, over
from ._reduce import SUM, add_compensated, block_scan, block_sum, fold
from ._span import fit, quotient, span
from .elementwise import fill
from .sort import argsort_forward

# Positions ----------------------------------------------------------------------------------


@kernel
def _accumulate_index(_):
    # One pass over the indices. Of bad ones the first stays, whichever comes first in time.
    def accumulate_index(positions, bad, index, n, low, size, step):
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            at = index[i]
            if at < low or at >= size:
                atomic_min(bad, 0, i)
            else:
                positions[i] += step * (at + size if at < 0 else at)

    return accumulate_index


def accumulate_index(positions, bad, index, low, size, step):
    n = positions.size
    fill(bad, n)
    launch(_accumulate_index(np.int64), over(n), positions, bad, index, n, low, size, step)


@kernel
def _gather_positions(_, bits):
    # One pass over the indices.
    _, _, unravel = arithmetic(bits)

    def gather_positions(positions, bad, index, n, size, M, I):  # noqa: E741
        for at in span(cuda.grid(1), n, cuda.gridsize(1)):
            o, _, i, _ = unravel(at, M, I, 1)
            if index[at] < 0 or index[at] >= size:
                atomic_min(bad, 0, at)
            else:
                positions[at] = (np.int64(o) * size + index[at]) * I + i

    return gather_positions


def gather_positions(positions, bad, index, size):
    n, (_, M, I) = index.size, index.shape  # noqa: E741
    fill(bad, n)
    variant = _gather_positions(np.int64, index_bits(n))
    launch(variant, over(n), positions, bad, index, n, size, M, I)


_PIECE = 16  # neighbouring elements of a mask that a thread takes
_MASK_BLOCKS = 128


@kernel
def _true_positions(_, piece):
    # A block owns a chunk of the mask. It counts the true elements before the chunk, whoever else
    # counts them, too: nobody waits for another block, and a mask is one byte an element. Then it
    # goes through the chunk, `threads` pieces at a time, and every thread places those of its own.
    threads = int(THREADS)
    piece = int(piece)

    def true_positions(positions, count, mask, n, chunk):
        counts = cuda.shared.array(threads, np.int64)
        start = cuda.blockIdx.x * chunk
        end = min(start + chunk, n)
        own = np.int64(0)
        for i in span(cuda.threadIdx.x, min(start, n), threads):
            own += np.int64(mask[i])
        found = block_sum(counts, own, threads)
        for tile in span(start, end, threads * piece):
            first = tile + cuda.threadIdx.x * piece
            last = min(first + piece, end)
            own = np.int64(0)
            for i in range(first, last):
                own += np.int64(mask[i])
            before, total = block_scan(counts, own, threads)
            place = found + before
            for i in range(first, last):
                if mask[i]:
                    positions[place] = i
                    place += 1
            found += total
        if cuda.blockIdx.x == cuda.gridDim.x - 1 and cuda.threadIdx.x == 0:
            count[0] = found

    return true_positions


def mask_positions(positions, count, mask):
    n = mask.size
    blocks = max(1, min(_MASK_BLOCKS, -(-n // (THREADS * _PIECE))))
    variant = _true_positions(np.int64, _PIECE)
    launch(variant, ((blocks,), (THREADS,)), positions, count, mask, n, -(-n // blocks))


# Reading ------------------------------------------------------------------------------------


@kernel
def _index_forward(number, bits):
    # One pass over the output.
    _, _, unravel = arithmetic(bits)

    def index_forward(out, input, positions, n, B, J, M, A):
        for at in span(cuda.grid(1), n, cuda.gridsize(1)):
            _, b, m, a = unravel(at, B, M, A)
            j = positions[m]
            out[at] = input[(b * J + j) * A + a] if 0 <= j < J else number(0)

    return index_forward


def index_forward(out, input, positions):
    n, (B, M, A) = out.size, out.shape
    variant = _index_forward(out.dtype, index_bits(n))
    launch(variant, over(n), out, input, positions, n, B, input.shape[1], M, A)


_LONG = 64  # terms of a sum that is shared by the threads of a block
_COLUMNS = 32  # of such sums at a time, at most


@kernel
def _group_starts(_):
    # J·log₂ M comparisons. Each thread owns one start: the first place in `order`, which sorts the
    # positions, whose position is not below j.
    def group_starts(starts, positions, order, J, M):
        for j in span(cuda.grid(1), J + 1, cuda.gridsize(1)):
            low, high = 0, M
            while low < high:
                half = (low + high) >> 1
                if positions[order[half]] < j:
                    low = half + 1
                else:
                    high = half
            starts[j] = low

    return group_starts


@kernel
def _sum_groups(real, bits, long):
    # B·M·A additions. Each thread owns its element and adds the terms in the order of m.
    _, _, unravel = arithmetic(bits)

    def sum_groups(grad_input, grad_output, starts, order, n, B, J, M, A):
        for at in span(cuda.grid(1), n, cuda.gridsize(1)):
            _, b, j, a = unravel(at, B, J, A)
            total, rest = real(0), real(0)
            first, last = starts[j], starts[j + 1]
            if last - first < long:
                for k in range(first, last):
                    value = grad_output[(b * M + order[k]) * A + a]
                    total, rest = add_compensated(total, rest, value)
                grad_input[at] = total + rest

    return sum_groups


@kernel
def _sum_long_groups(real, long):
    # The groups that _sum_groups left out. A block owns one position and some columns (b, a); its
    # threads share the terms of each, lane by lane in turn, and add up their sums in a tree.
    threads = int(THREADS)

    def sum_long_groups(
        grad_input, grad_output, starts, order, tasks, tiles, columns, lanes, width, B, J, M, A
    ):
        # width: the columns of all tiles.
        partial = cuda.shared.array(threads, real)
        lane = quotient(cuda.threadIdx.x, columns)
        for task in span(cuda.blockIdx.x, tasks, cuda.gridDim.x):
            j = quotient(task, tiles)
            first, last = starts[j], starts[j + 1]
            if last - first >= long:
                tile_column = cuda.threadIdx.x - lane * columns
                column = fit((task - j * tiles) * columns + tile_column, width)
                b = quotient(column, A)
                a = column - b * A
                total, rest = real(0), real(0)
                if b < B:
                    for k in span(first + lane, last, lanes):
                        value = grad_output[(b * M + order[k]) * A + a]
                        total, rest = add_compensated(total, rest, value)
                total = fold(partial, total + rest, columns, lanes, lane, SUM)
                if b < B and lane == 0:
                    grad_input[(b * J + j) * A + a] = total

    return sum_long_groups


def index_backward_input_workspace(J, M) -> int:
    return 2 * M + J + 1


def index_backward_input(grad_input, grad_output, positions, scratch):
    # out[b, m, a] = input[b, positions[m], a]: input[b, j, a] is read by every m with
    # positions[m] = j, so its gradient is the sum of theirs. A stable sort groups them.
    n, (B, J, A), M = grad_input.size, grad_input.shape, grad_output.shape[1]
    if n == 0:
        return
    order, spare, starts = scratch[:M], scratch[M : 2 * M], scratch[2 * M :]
    argsort_forward(order.reshape(1, M), positions.reshape(1, M), spare, False)
    launch(_group_starts(np.int64), over(J + 1), starts, positions, order, J, M)
    arrays = grad_input, grad_output, starts, order
    launch(_sum_groups(grad_input.dtype, index_bits(n), _LONG), over(n), *arrays, n, B, J, M, A)
    if M >= _LONG:
        columns = min(_COLUMNS, 1 << (B * A - 1).bit_length())
        tiles = -(-B * A // columns)
        launch(
            _sum_long_groups(grad_input.dtype, _LONG), over(J * tiles * THREADS),
            *arrays, J * tiles, tiles, columns, THREADS // columns, tiles * columns, B, J, M, A,
        )  # fmt: skip


# Writing ------------------------------------------------------------------------------------

_FEW = 256


@kernel
def _put_few(_, bits):
    # B·M²·A/2 comparisons at most, all of them with the same few positions. Each thread owns a
    # value, and writes it if no later one goes to the same position.
    _, _, unravel = arithmetic(bits)

    def put_few(target, values, positions, n, B, J, M, A):
        for at in span(cuda.grid(1), n, cuda.gridsize(1)):
            _, b, m, a = unravel(at, B, M, A)
            j, later = positions[m], m + 1
            while later < M and positions[later] != j:
                later += 1
            if later >= M and 0 <= j < J:
                target[(b * J + j) * A + a] = values[at]

    return put_few


# With many values, the elements of the target that will be overwritten serve to find the last m
# that goes there: 1. each becomes negative; 2. the largest m (no order matters); 3. the value of
# that m. In the third step each thread owns an element of the target, so nobody can mistake a value
# for a number m, and an element that is not overwritten is recognised: whatever number m it happens
# to hold, positions[m] is another.


@kernel
def _claim(_, bits, clear):
    # One pass over the positions for every (b, a).
    _, _, unravel = arithmetic(bits)

    def claim(target, positions, n, B, J, M, A):
        for at in span(cuda.grid(1), n, cuda.gridsize(1)):
            _, b, m, a = unravel(at, B, M, A)
            j = positions[m]
            if 0 <= j < J:
                place = (b * J + j) * A + a
                if clear:
                    atomic_min(target, place, -1)
                else:
                    atomic_max(target, place, m)

    return claim


@kernel
def _settle(_, bits):
    # One pass over the target.
    _, _, unravel = arithmetic(bits)

    def settle(target, values, positions, n, B, J, M, A):
        for at in span(cuda.grid(1), n, cuda.gridsize(1)):
            m = target[at]
            if 0 <= m < M:
                _, b, j, a = unravel(at, B, J, A)
                if positions[m] == j:
                    target[at] = values[(b * M + m) * A + a]

    return settle


def put(target, values, positions):
    n, (B, M, A), J = values.size, values.shape, target.shape[1]
    sizes = B, J, M, A
    if M <= _FEW or target.itemsize < 4 or M >= 2**31:
        variant = _put_few(target.dtype, index_bits(n))
        launch(variant, over(n), target, values, positions, n, *sizes)
        return
    number = np.dtype(f"i{target.itemsize}")
    target, values = target.view(number), values.view(number)
    for clear in (1, 0):
        launch(_claim(number, index_bits(n), clear), over(n), target, positions, n, *sizes)
    variant = _settle(number, index_bits(target.size))
    launch(variant, over(target.size), target, values, positions, target.size, *sizes)


# Filling ------------------------------------------------------------------------------------


@kernel
def _triangle(number, bits):
    # One pass.
    _, _, unravel = arithmetic(bits)

    def triangle(out, input, n, B, R, C, diagonal, lower):
        for at in span(cuda.grid(1), n, cuda.gridsize(1)):
            _, _, r, c = unravel(at, B, R, C)
            inside = c - r <= diagonal if lower else c - r >= diagonal
            out[at] = input[at] if inside else number(0)

    return triangle


def triangle_forward(out, input, diagonal, lower):
    variant = _triangle(out.dtype, index_bits(out.size))
    launch(variant, over(out.size), out, input, out.size, *out.shape, diagonal, bool(lower))


# Computed in float64, or int64 for integers, whatever the dtype of `out`: it is one pass over
# memory. A product is rounded before it is added, so that the numbers are the CPU's.


@kernel
def _arange(_):
    def arange(out, start, step, n):
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = start + product(step, i)

    return arange


def arange(out, start, step):
    launch(_arange(np.float64), over(out.size), out, start, step, out.size)


@kernel
def _linspace(_):
    # Both ends are exact.
    def linspace(out, start, end, step, half, n):
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            if i < half:
                out[i] = start + product(step, i)
            else:
                out[i] = end - product(step, n - 1 - i)

    return linspace


def linspace(out, start, end):
    n = out.size
    step = (end - start) / max(n - 1, 1)
    launch(_linspace(np.float64), over(n), out, start, end, step, (n + 1) // 2, n)
