"""Allocation: memory for arrays, on any device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..device import Device
from . import memory
from .recording import current


def allocate(shape: tuple[int, ...], dtype: np.dtype, device: Device) -> Any:
    """An uninitialised C-ordered array where `device` works: a NumPy array, or a DeviceArray."""
    if device.type != "cuda":
        recording = current.recording
        return memory.empty(shape, dtype) if recording is None else recording.empty(shape, dtype)
    from .cuda import memory as cuda_memory

    return cuda_memory.empty(shape, dtype, device.index)


def lasting(device: Device) -> AbstractContextManager[None]:
    """Arrays made inside on `device` outlive a step that is being recorded: replays keep them."""
    if device.type != "cuda":
        return nullcontext() if current.recording is None else current.recording.lasting()
    from .cuda import memory as cuda_memory

    return cuda_memory.lasting(device.index)
