"""Memory planning: places in one block for arrays whose lifetimes are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_ALIGNMENT = 64  # bytes


def arranged(sizes: Sequence[int], begins: Sequence[int], ends: Sequence[int]) -> tuple[list, int]:
    """Offsets of arrays of so many bytes, each in use from its begin until before its end, and the
    bytes of the block. Arrays in use at one time do not overlap; the largest are placed first, each
    as low as it fits.

    Source: Pisarchyk and Lee 2020, "Efficient memory management for deep neural net inference".
    """
    count, total = len(sizes), 0
    bytes_ = [-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes]
    order = sorted(range(count), key=lambda i: -bytes_[i])
    begin, end = (np.array(times, np.int64)[order] for times in (begins, ends))
    starts, stops = np.zeros(count, np.int64), np.zeros(count, np.int64)
    offsets = [0] * count
    for rank, i in enumerate(order):
        beside = (begin[:rank] < end[rank]) & (end[:rank] > begin[rank])
        lows, highs = starts[:rank][beside], stops[:rank][beside]
        place = 0
        for k in np.argsort(lows):
            if lows[k] - place >= bytes_[i]:
                break
            place = max(place, int(highs[k]))
        offsets[i] = starts[rank] = place
        stops[rank] = place + bytes_[i]
        total = max(total, place + bytes_[i])
    return offsets, total
