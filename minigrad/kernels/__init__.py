"""The kernels of every backend. `get(device)` is the only door.

`protocol.py` states each launcher's signature once; `reference` and `cpu` implement all of them
under the same file names. A backend is imported, and Numba with it, when it is first used.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ..device import Device
    from .protocol import Backend


@cache
def _load(name: str) -> Backend:
    return cast("Backend", import_module(f"{__name__}.{name}"))


def get(device: Device) -> Backend:
    """The backend that works on `device`: a module with every launcher of `protocol.Backend`."""
    return _load(device.type)
