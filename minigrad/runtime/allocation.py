"""Memory for arrays, on any device."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..device import Device
from . import memory


def allocate(shape: tuple[int, ...], dtype: np.dtype, device: Device) -> Any:
    """An uninitialised C-ordered array where `device` works: a NumPy array, or a DeviceArray."""
    if device.type != "cuda":
        return memory.empty(shape, dtype)
    from .cuda import memory as cuda_memory

    return cuda_memory.empty(shape, dtype, device.index)
