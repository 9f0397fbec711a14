"""Backend dispatch: the kernels of every device. `get(device)` is the only door.

`protocol.py` states each launcher's signature once; `reference`, `cpu` and `cuda` implement all
of them under the same file names. A backend is imported, and Numba with it, when it is first used.

With NUMBA_DISABLE_JIT=1, Numba's own switch for debugging, `reference` does the work of `cpu` too:
every operation runs as plain Python loops that a debugger can step through.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

from ..runtime.forks import Rank, hold_over_forks
from ..runtime.recording import current

if TYPE_CHECKING:
    from ..device import Device
    from .protocol import Backend


_PLAIN = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
_loading = threading.RLock()
hold_over_forks(_loading, Rank.BACKENDS)  # a child could not import what a thread had half imported


@cache
def _load(name: str) -> Backend:
    with _loading:
        return cast("Backend", import_module(f"{__name__}.{name}"))


def get(device: Device) -> Backend:
    """The backend that works on `device`: a module for each family of `protocol.Backend`, as in
    `get(device).conv.conv2d_forward(…)`."""
    backend = _load("reference" if _PLAIN and device.type == "cpu" else device.type)
    recording = current.recording
    return backend if recording is None else recording.observed(backend, device)
