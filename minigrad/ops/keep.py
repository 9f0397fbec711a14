"""What is made of a weight and kept for the next call: repacked, or with batch norm folded into it.

Only where nothing requires a gradient: in training, weights change from step to step. Launchers
look at each call whether the weight is as it was (`conv2d_keep` in kernels/protocol.py), so it may
change in any way. What is kept lives as long as the weight, and takes about as much memory, or four times as much for
Winograd's form in precision "high". Threads may share it: each makes it of the same bits, and says
so when it is done.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from ..dtypes import float32
from ..engine import Tensor
from ..runtime.allocation import allocate, lasting


def kept_arrays(
    ctx: Any, weight: Tensor, key: Hashable, sizes: tuple[int, ...]
) -> list[np.ndarray] | None:
    """Vectors of so many elements, and a `seen` for each, which a float32 weight keeps under the
    key. All are 0 at first. None for a weight that is used for the first time: it may have been
    made for this one call."""
    if weight.array.dtype != float32 or True in ctx.needs_input_grad:
        return None
    if weight._kept is None:
        weight._kept = {}
        return None
    key = key, sizes
    found = weight._kept.get(key)
    if found is None:
        with lasting(weight.device):
            found = [allocate((size,), float32, weight.device) for size in sizes]
            found += [allocate((2,), np.dtype(np.uint64), weight.device) for _ in sizes]
        for each in found:
            each[...] = 0
        weight._kept[key] = found
    return found
