"""torch.accelerator's names: the GPU, if there is one."""

from __future__ import annotations

from . import cuda
from .cuda import device_count, is_available, synchronize
from .device import Device

__all__ = [
    "current_accelerator", "current_device_idx", "current_device_index", "device_count",
    "is_available", "set_device_idx", "set_device_index", "synchronize",
]  # fmt: skip

current_device_idx = current_device_index = cuda.current_device
set_device_idx = set_device_index = cuda.set_device


def current_accelerator(check_available: bool = False) -> Device | None:
    """device("cuda"); None without a GPU."""
    return Device("cuda") if is_available() else None
