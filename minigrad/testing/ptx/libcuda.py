"""libcuda.so.1 without a GPU: the driver's functions for cuda.bindings, on emulated devices.

`install` loads a library under the soname of NVIDIA's, before cuda.bindings looks for that. From
there on all that runs above it is what runs on a GPU: `Driver`, cuda.bindings and its packing of
arguments. Modules are PTX, which the machine executes. A function that is not here is not found,
as one that is newer than the driver.

An error of queued work is reported by what waits for it, in the words of the machine, which
cuGetErrorString returns; `raise_faults` raises the first one itself.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from ...runtime.cuda import memory
from . import api_context, api_stream
from .calls import Device, Function, Word, export, exported, lock, store, system
from .elf import shared_library
from .machine import orders
from .memory import Fault
from .streams import DriverError, Status

__all__ = ["api_context", "api_stream", "install", "raise_faults"]  # they export

_SONAME = "libcuda.so.1"


def install(devices: int = 1, order: str = "forward", pageable: str = "staged") -> None:
    """Every driver call of this process goes to emulated devices from here on.

    order: of blocks, warps, lanes and independent streams, "forward", "reverse", a number such as
    "7" for a shuffled one, or "both": every launch forward and in reverse, with the same bits.
    pageable: when an upload from pageable memory reads it, "staged" at the call or "late". Another
    call may change these two. Raises RuntimeError where a driver was loaded
    before, OSError but on Linux.
    """
    orders(order, 1)
    if pageable not in ("staged", "late"):
        raise ValueError(f'install: pageable is "staged" or "late", got {pageable!r}')
    if system.devices and len(system.devices) != devices:
        raise RuntimeError(
            f"install: this process has {len(system.devices)} emulated devices, not {devices}"
        )
    if not system.devices:
        _load()
        system.devices.extend(Device(ordinal) for ordinal in range(devices))
    system.order, system.pageable = order, pageable


def _load() -> None:
    if sys.platform != "linux":
        raise OSError(f"install: the emulated driver is made for Linux, this is {sys.platform}")
    try:
        ctypes.CDLL(_SONAME, mode=os.RTLD_NOLOAD)
    except OSError:
        pass
    else:
        raise RuntimeError(
            f"install: this process has already loaded a driver, {_SONAME}; call install before "
            "the GPU is first used"
        )
    entry = ctypes.cast(exported["cuGetProcAddress"], ctypes.c_void_p).value or 0
    symbols = {"cuGetProcAddress": entry, "cuGetProcAddress_v2": entry}
    with tempfile.NamedTemporaryFile(suffix=f"-{_SONAME}") as file:
        file.write(shared_library(_SONAME, symbols))
        file.flush()
        ctypes.CDLL(file.name)  # never unloaded: ctypes does not close libraries
    from cuda.bindings import driver as bindings

    from ...kernels.cuda import _compile

    bindings.cuLaunchKernel = _check_arguments(bindings.cuLaunchKernel)
    _compile.image_kind = "ptx"
    memory.block_size = lambda nbytes: max(nbytes, 1)


def installed() -> bool:
    return bool(system.devices)


def raise_faults() -> None:
    """Raise the first error of queued work, if there was one, and let the devices go on."""
    with lock:
        faulty = [context for context in system.contexts() if context.fault is not None]
        faults = [context.fault for context in faulty]
        for context in faulty:
            context.fault = None
    if faults and faults[0] is not None:
        raise faults[0]


def _check_arguments(launch: Callable[..., Any]) -> Callable[..., Any]:
    """cuLaunchKernel of cuda.bindings, for (values, types): C does not know how many are passed.
    Of parameters that the caller packed itself, neither does anybody here."""

    @functools.wraps(launch)
    def checked(function: Any, *rest: Any) -> Any:
        arguments = rest[-2]
        known = system.handles.get(int(function))
        if isinstance(known, Function) and isinstance(arguments, tuple):
            values, types = arguments
            given = [ctypes.sizeof(kind) for kind in types]
            expected = [parameter.size for parameter in known.kernel.params]
            if given != expected or len(values) != len(given):
                raise Fault(
                    f"{known.kernel.name}: {len(expected)} parameters of {expected} bytes expected,"
                    f" {len(values)} arguments of {given} bytes given"
                )
        return launch(function, *rest)

    return checked


@export(ctypes.c_char_p, Word, ctypes.c_int, ctypes.c_uint64, Word)
def cuGetProcAddress(symbol: bytes, pointer: int, version: int, flags: int, status: int) -> None:
    callback = exported.get(symbol.decode())
    # From version 13 on, these take a context.
    if symbol in (b"cuCtxSynchronize", b"cuCtxGetDevice") and version >= 13000:
        callback = None
    store(pointer, Word, ctypes.cast(callback, ctypes.c_void_p).value if callback else 0)
    if status:
        store(status, ctypes.c_int, 0 if callback else 1)
    if callback is None:
        raise DriverError(Status.NOT_FOUND, f"{symbol.decode()} of version {version} is not there")
