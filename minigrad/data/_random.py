"""Counter-based random numbers: what a sample gets depends on its own index and nothing else.

Philox4x32-10. Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

import numpy as np

from ..arguments import check_int

# Which numbers are drawn; transforms count on from TRANSFORMS.
ORDER, BUCKETS, SPLIT, SAMPLER, WORKER, TRANSFORMS = 0, 1, 2, 3, 4, 16

# In the counter's last word it keeps these numbers apart from those of the tensors' generator,
# which counts its streams from 1 in the same place.
_DOMAIN = 0xDA7A_0000

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Ten rounds of Philox. counter (4, n) uint64 of 32-bit words → (4, n) uint64 of such."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        left, right = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0 = (right >> _HALF) ^ c1 ^ np.uint64(k0)
        c2 = (left >> _HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = right & _LOW, left & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])


def words(indices: np.ndarray, seed: int, epoch: int, stream: int) -> np.ndarray:
    """Four random 32-bit words for each index: (4, n) uint64."""
    counter = np.empty((4, len(indices)), np.uint64)
    counter[0] = indices & 0xFFFFFFFF
    counter[1] = indices >> 32
    counter[2] = epoch
    counter[3] = _DOMAIN + stream
    return philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))


def permutation(indices: np.ndarray, seed: int, epoch: int, stream: int) -> np.ndarray:
    """The positions 0 … n − 1 of `indices` in random order: sorted by a 64-bit key of each."""
    drawn = words(indices, seed, epoch, stream)
    return np.argsort(drawn[0] << _HALF | drawn[1], kind="stable")


def check_seed(owner: str, seed: int) -> int:
    return check_int(owner, "seed", seed, 0, 2**64 - 1)


def check_epoch(owner: str, epoch: int) -> int:
    return check_int(owner, "epoch", epoch, 0, 2**32 - 1)
