"""An emulated GPU: a machine that executes PTX on the CPU, below the real CUDA bindings.

from minigrad.testing import ptx
ptx.install(devices=2)  # from here on the process has two GPUs

"""

from __future__ import annotations

from .libcuda import install, installed, raise_faults
from .machine import totals
from .memory import DeviceMemory, Fault
from .parse import PtxError

__all__ = ["DeviceMemory", "Fault", "PtxError", "install", "installed", "raise_faults", "totals"]
