"""Random numbers on the CPU. How words and elements are numbered: see kernels/reference/random.py.

Each task makes the words of a fixed block of counters and turns them into elements. Every element
follows from its own counter, so the bits depend neither on the number of threads nor on the blocks.
"""

from __future__ import annotations

import math

import numpy as np

from ._jit import helper, kernel, serial_kernel
from ._philox import BLOCK, philox_block
from ._tasks import elements, tasks

_PER32, _PER64 = 4 * BLOCK, 2 * BLOCK  # elements a block, of one word and of two
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_STEP32, _STEP64 = np.float32(2.0**-24), 2.0**-53


@helper
def _word64(words, i):
    """64 bits from two words, the high half first."""
    return (np.uint64(words[2 * i]) << _HALF) | np.uint64(words[2 * i + 1])


@helper
def _unit32(word):
    """A multiple of 2⁻²⁴ in [0, 1)."""
    return np.float32(np.int32(word >> np.uint32(8))) * _STEP32


@helper
def _unit64(word):
    """A multiple of 2⁻⁵³ in [0, 1)."""
    return np.float64(np.int64(word >> np.uint64(11))) * _STEP64


# About 15 integer operations an element. Parallel over blocks of counters.
@kernel
def _uniform32(span, out, scale, shift, seed, stream):
    for block in tasks(span, (out.size + _PER32 - 1) // _PER32):
        words = philox_block(np.uint64(block * BLOCK), stream, seed)
        part = out[block * _PER32 : (block + 1) * _PER32]
        for i in range(part.size):
            part[i] = _unit32(words[i]) * scale
        # A pass of its own: a fused multiply-add would round once where other backends round twice.
        if shift != 0:
            for i in range(part.size):
                part[i] += shift


@kernel
def _uniform64(span, out, scale, shift, seed, stream):
    for block in tasks(span, (out.size + _PER64 - 1) // _PER64):
        words = philox_block(np.uint64(block * BLOCK), stream, seed)
        part = out[block * _PER64 : (block + 1) * _PER64]
        for i in range(part.size):
            part[i] = _unit64(_word64(words, i)) * scale
        if shift != 0:
            for i in range(part.size):
                part[i] += shift


def uniform(out, low, high, seed, stream):
    number = out.dtype.type
    launch = _uniform32 if out.itemsize == 4 else _uniform64
    launch(out, number(high - low), number(low), np.uint64(seed), np.uint64(stream))


# Box–Muller: a logarithm, a square root, a cosine and a sine for two elements.
@kernel
def _normal32(span, out, mean, std, seed, stream):
    tau, half = np.float32(2 * math.pi), np.float32(0.5)
    for block in tasks(span, (out.size + _PER32 - 1) // _PER32):
        words = philox_block(np.uint64(block * BLOCK), stream, seed)
        part = out[block * _PER32 : (block + 1) * _PER32]
        for i in range(0, part.size, 2):
            # u rounds to 1 at most, so the logarithm is never positive.
            u = (np.float32(words[i]) + half) * np.float32(2.0**-32)
            radius = std * math.sqrt(np.float32(-2) * math.log(u))
            angle = tau * _unit32(words[i + 1])
            part[i] = mean + radius * math.cos(angle)
            if i + 1 < part.size:
                part[i + 1] = mean + radius * math.sin(angle)


@kernel
def _normal64(span, out, mean, std, seed, stream):
    for block in tasks(span, (out.size + _PER64 - 1) // _PER64):
        words = philox_block(np.uint64(block * BLOCK), stream, seed)
        part = out[block * _PER64 : (block + 1) * _PER64]
        for i in range(0, part.size, 2):
            u = (np.float64(_word64(words, i) >> np.uint64(11)) + 0.5) * _STEP64
            radius = std * math.sqrt(-2 * math.log(u))
            angle = 2 * math.pi * _unit64(_word64(words, i + 1))
            part[i] = mean + radius * math.cos(angle)
            if i + 1 < part.size:
                part[i + 1] = mean + radius * math.sin(angle)


def normal(out, mean, std, seed, stream):
    number = out.dtype.type
    launch = _normal32 if out.itemsize == 4 else _normal64
    launch(out, number(mean), number(std), np.uint64(seed), np.uint64(stream))


@kernel
def _randint(span, out, low, values, seed, stream):
    # One 64-bit division an element. Parallel over blocks of counters.
    for block in tasks(span, (out.size + _PER64 - 1) // _PER64):
        words = philox_block(np.uint64(block * BLOCK), stream, seed)
        part = out[block * _PER64 : (block + 1) * _PER64]
        for i in range(part.size):
            part[i] = low + np.int64(_word64(words, i) % values)


def randint(out, low, high, seed, stream):
    _randint(out, np.int64(low), np.uint64(high - low), np.uint64(seed), np.uint64(stream))


@serial_kernel
def _permutation(out, seed, stream):
    # Serial: every exchange depends on those before. O(n).
    for i in range(out.size):
        out[i] = i
    for block in range((out.size - 1) // _PER64, -1, -1):
        words = philox_block(np.uint64(block * BLOCK), stream, seed)
        start = block * _PER64
        for i in range(min(start + _PER64, out.size) - 1, max(start, 1) - 1, -1):
            word, bound = _word64(words, i - start), np.uint64(i + 1)
            # The high 64 bits of word · bound, by halves; bound < 2³².
            high = (word >> _HALF) * bound + (((word & _LOW) * bound) >> _HALF)
            j = np.int64(high >> _HALF)
            out[i], out[j] = out[j], out[i]


def permutation(out, seed, stream):
    _permutation(out, np.uint64(seed), np.uint64(stream))


# One pass. About 15 integer operations an element. Parallel over blocks of counters.
@kernel
def _dropout(span, out, mask, input, scale, limit, seed, stream):
    zero = out.dtype.type(0)
    for block in tasks(span, (out.size + _PER32 - 1) // _PER32):
        words = philox_block(np.uint64(block * BLOCK), stream, seed)
        start = block * _PER32
        for i in range(min(_PER32, out.size - start)):
            keep = words[i] >= limit
            mask[start + i] = keep
            out[start + i] = input[start + i] * scale if keep else zero


def _scale(array, p):
    return array.dtype.type(1 / (1 - p) if p < 1 else 0)


def dropout_forward(out, mask, input, p, seed, stream):
    # With p = 1 the limit exceeds every word, so it is no uint32.
    limit, scale = np.uint64(round(p * 2**32)), _scale(input, p)
    _dropout(out, mask, input, scale, limit, np.uint64(seed), np.uint64(stream))


@kernel
def _dropout_backward(span, grad_input, grad_output, mask, scale):
    # y = m·x/(1 − p) with a fixed mask m: dy/dx = m/(1 − p). Parallel over elements.
    zero = grad_input.dtype.type(0)
    for i in elements(span, grad_input.size):
        grad_input[i] = grad_output[i] * scale if mask[i] else zero


def dropout_backward_input(grad_input, grad_output, mask, p):
    _dropout_backward(grad_input, grad_output, mask, _scale(grad_output, p))
