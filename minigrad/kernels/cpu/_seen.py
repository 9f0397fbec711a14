"""Whether arrays hold what they held before: for what is made of weights and kept between calls.

Weights change in many ways (an optimizer, NumPy, another library that shares the memory), so no
counter could tell. A fingerprint of their bits does. It takes little longer than reading them;
repacking a large weight takes several times that.

The fingerprint is Σ mix(word ^ place·ODD) over 64-bit words, modulo 2⁶⁴. `mix` is the last part of
SplitMix64, after which each bit depends on every bit before it: so changes cancel by chance only,
also those of weights with a pattern, one time in 2⁶⁴.
Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ._jit import helper, kernel
from ._rows import chunk_count
from ._simd import whole_registers
from ._tasks import light_tasks, whole

_ODD, _FIRST, _SECOND = map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_SHIFTS = tuple(map(np.uint64, (30, 27, 31)))
_NO_WORDS = np.empty(0, np.uint64)


@helper
def _mixed(words, start):
    whole_registers()
    total = np.uint64(0)
    for i in range(words.size):
        z = words[i] ^ (np.uint64(start + i + 1) * _ODD)
        z = (z ^ (z >> _SHIFTS[0])) * _FIRST
        z = (z ^ (z >> _SHIFTS[1])) * _SECOND
        total += z ^ (z >> _SHIFTS[2])
    return total


@kernel
def _fingerprint(span, total, partial, words, more):
    # Parallel over chunks; each task owns its sum.
    chunks = partial.size
    for chunk in light_tasks(span, chunks, words.size // chunks):
        first, last = chunk * words.size // chunks, (chunk + 1) * words.size // chunks
        partial[chunk] = _mixed(words[first:last], first)
    if whole(span):
        total[0] = _mixed(more, words.size)
        for chunk in range(chunks):
            total[0] += partial[chunk]


def fingerprint(array, *vectors) -> int:
    """Of the bits of a C-ordered array and of some short vectors, which may be strided."""
    bits = array.reshape(-1).view(np.uint32)
    rest = [vector.view(np.uint32) for vector in vectors]
    if bits.size % 2:
        rest.append(bits[-1:])
        bits = bits[:-1]
    more = _NO_WORDS
    if rest:
        length = sum([each.size for each in rest])
        more = np.zeros(-(-length // 2), np.uint64)
        np.concatenate(rest, out=more.view(np.uint32)[:length])
    total, partial = np.empty(1, np.uint64), np.empty(chunk_count(bits.size // 2), np.uint64)
    _fingerprint(total, partial, bits.view(np.uint64), more)
    return int(total[0])


@contextmanager
def made_anew(seen, array, *vectors) -> Iterator[bool]:
    """Whether these are not what `seen` has noted; then it notes them when the block is done, and
    nothing if it is interrupted."""
    now = fingerprint(array, *vectors)
    wanted = int(seen[0]) != now
    if wanted:
        seen[0] = 0
    yield wanted
    seen[0] = now
