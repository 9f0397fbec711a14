"""Philox4x32-10: random bits from a counter and a key. Source: Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3" (Random123). How elements are numbered: kernels/reference/random.py.
"""

from __future__ import annotations

import numpy as np

from ._device import device

_HALF = np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@device
def philox(counter, key):
    """Four words of 32 bits from a uint64 and an array (seed, stream). Philox's own counter is the
    128-bit number (counter, stream), low half first, and its key is seed."""
    seed, stream = key[0], key[1]
    # Numba would widen every operation on words to 64 bits; cut back at once, they stay words.
    c0, c1 = np.uint32(counter), np.uint32(counter >> _HALF)
    c2, c3 = np.uint32(stream), np.uint32(stream >> _HALF)
    k0, k1 = np.uint32(seed), np.uint32(seed >> _HALF)
    for _ in range(10):
        p0, p1 = _M0 * np.uint64(c0), _M1 * np.uint64(c2)
        c0, c1 = np.uint32(np.uint32(p1 >> _HALF) ^ c1 ^ k0), np.uint32(p1)
        c2, c3 = np.uint32(np.uint32(p0 >> _HALF) ^ c3 ^ k1), np.uint32(p0)
        k0, k1 = np.uint32(np.uint64(k0) + _W0), np.uint32(np.uint64(k1) + _W1)
    return c0, c1, c2, c3


@device
def word64(high, low):
    """64 bits from two words."""
    return (np.uint64(high) << _HALF) | np.uint64(low)


@device
def unit32(word):
    """A multiple of 2⁻²⁴ in [0, 1)."""
    return np.float32(np.int32(word >> np.uint32(8))) * np.float32(2.0**-24)


@device
def unit64(word):
    """A multiple of 2⁻⁵³ in [0, 1)."""
    return np.float64(np.int64(word >> np.uint64(11))) * np.float64(2.0**-53)
