"""Random numbers on the GPU: the same bits as on the CPU. See kernels/reference/random.py for how
words and elements are numbered.

A thread turns a counter into the elements that share it, four float32 or two of 64 bits, which
would be scattered writes; so it leaves them in shared memory, and the block writes its tile in
order. Every element follows from its own counter, whatever the blocks.

Work: about 100 integer operations a counter. Parallel over counters; a block owns its tile.
"""

from __future__ import annotations

import numpy as np

from ...runtime.cuda.table import random_key
from ._device import THREADS, cospi, cuda, device, log, sinpi, sqrt
from ._launch import kernel, launch, over
from ._map import pointwise, scalar, step
from ._philox import philox, unit32, unit64, word64
from ._span import span


@device
def _write_tile(out, values, shift, first, count):
    """out[first + k] = values[k] + shift for k < count, from a block's shared memory.

    That the product in values and the sum here are apart keeps them from becoming one fused
    multiply-add, which would round once where other backends round twice.
    """
    cuda.syncthreads()
    for k in span(cuda.threadIdx.x, count, cuda.blockDim.x):
        out[first + k] = values[k] + shift
    cuda.syncthreads()


@kernel
def _uniform(real, per_counter, threads):
    length = per_counter * threads

    def uniform(out, scale, shift, key, n):
        values = cuda.shared.array(length, real)
        t, at = cuda.threadIdx.x, cuda.threadIdx.x * per_counter
        for first in span(cuda.blockIdx.x * length, n, cuda.gridDim.x * length):
            c0, c1, c2, c3 = philox(np.uint64(first // per_counter + t), key)
            if per_counter == 4:
                values[at], values[at + 1] = unit32(c0) * scale, unit32(c1) * scale
                values[at + 2], values[at + 3] = unit32(c2) * scale, unit32(c3) * scale
            else:
                values[at] = unit64(word64(c0, c1)) * scale
                values[at + 1] = unit64(word64(c2, c3)) * scale
            _write_tile(out, values, shift, first, min(length, n - first))

    return uniform


def uniform(out, low, high, seed, stream):
    _draw(_uniform, out, scalar(high - low, out.dtype), scalar(low, out.dtype), seed, stream)


def _draw(drawing, out, first, second, seed, stream):
    """Launch a kernel that makes out's elements from counters and two parameters."""
    per_counter = 4 if out.dtype == np.float32 and drawing is not _randint else 2
    launch(
        drawing(out.dtype, per_counter, THREADS), over(-(-out.size // per_counter)),
        out, first, second, random_key(seed, stream, out.driver.index), out.size,
    )  # fmt: skip


@device
def _box_muller32(word, other, std):
    """Two independent normal numbers from two words."""
    # u rounds to 1 at most, so the logarithm is never positive.
    u = (np.float32(word) + np.float32(0.5)) * np.float32(2.0**-32)
    radius = std * sqrt(np.float32(-2) * log(u))
    turn = np.float32(2) * unit32(other)  # 2πv/π
    return radius * cospi(turn), radius * sinpi(turn)


@device
def _box_muller64(word, other, std):
    u = (np.float64(np.int64(word >> np.uint64(11))) + 0.5) * 2.0**-53
    radius = std * sqrt(-2.0 * log(u))
    turn = 2.0 * unit64(other)
    return radius * cospi(turn), radius * sinpi(turn)


@kernel
def _normal(real, per_counter, threads):
    length = per_counter * threads

    def normal(out, mean, std, key, n):
        values = cuda.shared.array(length, real)
        t, at = cuda.threadIdx.x, cuda.threadIdx.x * per_counter
        for first in span(cuda.blockIdx.x * length, n, cuda.gridDim.x * length):
            c0, c1, c2, c3 = philox(np.uint64(first // per_counter + t), key)
            if per_counter == 4:
                values[at], values[at + 1] = _box_muller32(c0, c1, std)
                values[at + 2], values[at + 3] = _box_muller32(c2, c3, std)
            else:
                words = word64(c0, c1), word64(c2, c3)
                values[at], values[at + 1] = _box_muller64(words[0], words[1], std)
            _write_tile(out, values, mean, first, min(length, n - first))

    return normal


def normal(out, mean, std, seed, stream):
    _draw(_normal, out, scalar(mean, out.dtype), scalar(std, out.dtype), seed, stream)


@kernel
def _randint(real, per_counter, threads):
    # The work is a 64-bit division an element.
    length = per_counter * threads

    def randint(out, low, count, key, n):
        values = cuda.shared.array(length, np.int64)
        t, at = cuda.threadIdx.x, cuda.threadIdx.x * per_counter
        for first in span(cuda.blockIdx.x * length, n, cuda.gridDim.x * length):
            c0, c1, c2, c3 = philox(np.uint64(first // per_counter + t), key)
            values[at] = np.int64(word64(c0, c1) % count)
            values[at + 1] = np.int64(word64(c2, c3) % count)
            _write_tile(out, values, low, first, min(length, n - first))

    return randint


def randint(out, low, high, seed, stream):
    _draw(_randint, out, np.int64(low), np.uint64(high - low), seed, stream)


# Permutation --------------------------------------------------------------------------------


@device
def _exchanged_with(i, key):
    """⌊(i + 1)·r/2⁶⁴⌋, r the 64 bits of element i: the high half of a product of 128 bits."""
    c0, c1, c2, c3 = philox(np.uint64(i >> 1), key)
    high, low = (c2, c3) if i & 1 else (c0, c1)
    bound, half = np.uint64(i + 1), np.uint64(32)  # bound is below 2³²
    return np.int64((np.uint64(high) * bound + ((np.uint64(low) * bound) >> half)) >> half)


@kernel
def _numbers(real):
    def numbers(out, n):
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = real(i)

    return numbers


# Fisher–Yates exchanges out[i] with out[j(i)], j(i) ≤ i, for i = n − 1, …, 0, each exchange after
# the one before. But the j(i) are known at once, and within a batch of steps few positions meet
# twice. So one block takes a batch at a time, a thread a step, and reads and writes its elements in
# parallel; n/threads batches instead of n steps wait for memory.
#
# Which value a step finds follows from the batch's j alone. Steps later in number come first in
# time. Position p changes at every step k > p with j(k) = p, to what stood at k just before. So
#     at k just before step k stands  origin(k) = origin(first k' > k with j(k') = k),
# or the batch's own out[k] if there is none, and step i moves to i, for good,
#     what stands at j(i) = origin(first k' > i with j(k') = j(i)), or the batch's own out[j(i)].
# A position below the batch ends with origin(k) of its last exchange, the smallest k.
@kernel
def _shuffle(real, threads):
    def shuffle(out, key, n):
        targets = cuda.shared.array(threads, np.int64)  # j of each step
        changed_by = cuda.shared.array(threads, np.int32)  # first k' > k with j(k') = k, or −1
        t = cuda.threadIdx.x
        for first in range((n - 1) // threads * threads, -1, -threads):
            i = first + t
            mine = _exchanged_with(i, key) if i < n else np.int64(-1)
            targets[t] = mine
            cuda.syncthreads()

            before_i, before_j, last = -1, -1, True
            for k in range(threads - 1, t, -1):
                if targets[k] == i:
                    before_i = k
                if targets[k] == mine:
                    before_j = k
            for k in range(t):
                if targets[k] == mine:
                    last = False
            changed_by[t] = before_i
            cuda.syncthreads()

            if i < n:
                to_i = out[mine if before_j < 0 else first + _origin(changed_by, before_j)]
                to_j = out[first + _origin(changed_by, t)]
            cuda.syncthreads()
            if i < n:
                out[i] = to_i
                if last and mine < first:
                    out[mine] = to_j
            cuda.syncthreads()

    return shuffle


@device
def _origin(changed_by, k):
    while changed_by[k] >= 0:
        k = changed_by[k]
    return k


def permutation(out, seed, stream):
    launch(_numbers(out.dtype), over(out.size), out, out.size)
    launch(
        _shuffle(out.dtype, THREADS), ((1,), (THREADS,)),
        out, random_key(seed, stream, out.driver.index), out.size,
    )  # fmt: skip


# Dropout ------------------------------------------------------------------------------------


@kernel
def _dropout(real, threads):
    length = 4 * threads

    def dropout(out, mask, input, input_step, scale, limit, key, n):
        words = cuda.shared.array(length, np.uint32)
        t, at = cuda.threadIdx.x, cuda.threadIdx.x * 4
        for first in span(cuda.blockIdx.x * length, n, cuda.gridDim.x * length):
            c0, c1, c2, c3 = philox(np.uint64(first // 4 + t), key)
            words[at], words[at + 1], words[at + 2], words[at + 3] = c0, c1, c2, c3
            cuda.syncthreads()
            for k in span(t, min(length, n - first), threads):
                i = first + k
                keep = np.uint64(words[k]) >= limit
                mask[i] = keep
                out[i] = input[i * input_step] * scale if keep else real(0)
            cuda.syncthreads()

    return dropout


def _scale(dtype, p):
    return dtype.type(1 / (1 - p) if p < 1 else 0)


def dropout_forward(out, mask, input, p, seed, stream):
    # With p = 1 the limit exceeds every word, so it is no uint32.
    launch(
        _dropout(out.dtype, THREADS), over(-(-out.size // 4)),
        out, mask, input, step(input), _scale(input.dtype, p), np.uint64(round(p * 2**32)),
        random_key(seed, stream, out.driver.index), out.size,
    )  # fmt: skip


@pointwise
def _dropout_backward(kept, grad_output, scale):
    # y = m·x/(1 − p) with a fixed mask m: dy/dx = m/(1 − p).
    return grad_output * scale if kept else type(grad_output)(0)


def dropout_backward_input(grad_input, grad_output, mask, p):
    _dropout_backward(grad_input, mask, grad_output, _scale(grad_output.dtype, p))
