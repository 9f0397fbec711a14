"""An emulated GPU: a machine that executes PTX on the CPU, below the real CUDA bindings."""

from __future__ import annotations

from .memory import DeviceMemory, Fault
from .parse import PtxError

__all__ = ["DeviceMemory", "Fault", "PtxError"]
