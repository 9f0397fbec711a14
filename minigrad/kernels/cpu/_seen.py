"""Whether arrays hold what they held before: for what is made of weights and kept between calls.

Weights change in many ways (an optimizer, NumPy, another library that shares the memory), so no
counter could tell. A fingerprint of their bits does. It takes as long as reading them; repacking
them takes several times that.
"""

from __future__ import annotations

import numpy as np

from ._jit import helper, kernel
from ._rows import chunk_count
from ._simd import whole_registers
from ._tasks import light_tasks, whole

_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ / golden ratio: its multiples look like random bits
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_NOTHING = np.empty(0, np.uint64)


@helper
def _mixed(words, start, total):
    """total += (Σ low(y)·high(y), Σ w) of words w, y = w + their place's multiple of _ODD, of which
    low and high are the halves.

    Source of the first sum: Black et al. 1999, "UMAC: fast and secure message authentication". The
    second one tells of any single word.
    """
    whole_registers()
    products, words_sum = np.uint64(0), np.uint64(0)
    for i in range(words.size):
        y = words[i] + np.uint64(start + i + 1) * _ODD
        products += (y & _LOW) * (y >> _HALF)
        words_sum += words[i]
    total[0] += products
    total[1] += words_sum


@kernel
def _fingerprint(span, total, partial, words, more):
    # Parallel over chunks. Sums modulo 2⁶⁴ are the same in any order.
    chunks = partial.shape[0]
    for chunk in light_tasks(span, chunks, words.size // chunks):
        first, last = chunk * words.size // chunks, (chunk + 1) * words.size // chunks
        partial[chunk] = 0
        _mixed(words[first:last], first, partial[chunk])
    if whole(span):
        total[:] = 0
        for chunk in range(chunks):
            total[0] += partial[chunk, 0]
            total[1] += partial[chunk, 1]
        _mixed(more, words.size, total)


def fingerprint(array, *others):
    """128 bits of a C-ordered array and some short vectors, of which any may be None."""
    bits = array.reshape(-1).view(np.uint32)
    rest = [each.view(np.uint32) for each in others if each is not None]
    if bits.size % 2:
        rest.append(bits[-1:])
        bits = bits[:-1]
    more = _NOTHING
    if rest:
        length = sum([each.size for each in rest])
        more = np.zeros(-(-length // 2), np.uint64)
        np.concatenate(rest, out=more.view(np.uint32)[:length])
    total = np.empty(2, np.uint64)
    partial = np.empty((chunk_count(bits.size // 2), 2), np.uint64)
    _fingerprint(total, partial, bits.view(np.uint64), more)
    return total
