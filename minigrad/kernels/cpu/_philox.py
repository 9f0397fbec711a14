"""Philox4x32-10: random bits from a counter and a key. Source: Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3" (Random123).
"""

from __future__ import annotations

import numpy as np

from ._jit import helper

BLOCK = 1024  # counters of one call
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@helper
def philox_block(first, stream, seed):
    """The words of counters first, …, first + BLOCK − 1, four uint32 each, as one array.

    A counter is the 128-bit number (counter, stream), low half first; the key is seed.
    """
    # Words of 32 bits are held in uint64, so that a product keeps both of its halves, and lane by
    # lane, so that the loop over counters vectorises. Indices are unsigned for the same reason.
    lanes = np.empty((4, BLOCK), np.uint32)
    for c in range(BLOCK):
        counter = first + np.uint64(c)
        c0, c1, c2, c3 = counter & _LOW, counter >> _HALF, stream & _LOW, stream >> _HALF
        k0, k1 = seed & _LOW, seed >> _HALF
        for _ in range(10):
            p0, p1 = _M0 * c0, _M1 * c2
            c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
            k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
        lanes[0, c], lanes[1, c], lanes[2, c], lanes[3, c] = c0, c1, c2, c3
    words = np.empty(4 * BLOCK, np.uint32)
    for c in range(BLOCK):
        i = np.uint64(4) * np.uint64(c)
        words[i] = lanes[0, c]
        words[i + np.uint64(1)] = lanes[1, c]
        words[i + np.uint64(2)] = lanes[2, c]
        words[i + np.uint64(3)] = lanes[3, c]
    return words
