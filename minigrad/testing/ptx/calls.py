"""Calls from C: how a driver function written in Python is called, and what its handles stand for.

`export` makes a function callable from C. What it raises becomes the status that C gets; the words
are kept for cuGetErrorString. One lock is around every call.
"""

from __future__ import annotations

import _thread
import ctypes
import gc
import itertools
import mmap
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .machine import Kernel
from .machine import Module as Program
from .streams import Context, DriverError, Status, Stream

Word = ctypes.c_size_t  # a pointer, a handle or a size
_T = TypeVar("_T")


@dataclass(eq=False)
class Module:
    context: Context
    program: Program


@dataclass(eq=False)
class Function:
    context: Context
    kernel: Kernel


class Device:
    """context: the primary one, of which `uses` were retained and not released."""

    def __init__(self, ordinal: int) -> None:
        self.ordinal, self.uses = ordinal, 0
        self.context: Context | None = None


@dataclass
class System:
    """handles: what the numbers that a program holds stand for. pinned: host memory, by address."""

    devices: list[Device] = field(default_factory=list)
    order: str = "forward"
    pageable: str = "staged"
    initialized: bool = False
    handles: dict[int, Any] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: itertools.count(0x1000, 0x10))
    pinned: dict[int, mmap.mmap] = field(default_factory=dict)

    def contexts(self) -> list[Context]:
        return [device.context for device in self.devices if device.context is not None]


class Thread(threading.local):
    """contexts: the stack of current ones. reasons: the last one for each status."""

    def __init__(self) -> None:
        self.contexts: list[Context] = []
        self.reasons: dict[int, bytes] = {}


system = System()
thread = Thread()
lock = threading.RLock()
exported: dict[str, Any] = {}  # name → callback


def export(*types: Any) -> Callable[[_T], _T]:
    """Makes the function callable from C under its own name; what it raises is its status."""

    def decorate(function: Any) -> Any:
        @ctypes.CFUNCTYPE(ctypes.c_int, *types)
        def callback(*args: int) -> int:
            with lock:
                # A finalizer may call the driver, too, and must not in the middle of this.
                collecting = gc.isenabled()
                gc.disable()
                try:
                    function(*args)
                except DriverError as error:
                    status, reason = error.status, str(error)
                except BaseException as error:
                    status, reason = Status.UNKNOWN, f"{type(error).__name__}: {error}"
                    if isinstance(error, KeyboardInterrupt):
                        _thread.interrupt_main()
                else:
                    return Status.SUCCESS
                finally:
                    if collecting:
                        gc.enable()
            thread.reasons[status] = reason.encode()
            return status

        exported[function.__name__] = callback
        return function

    return decorate


def store(pointer: int, kind: Any, value: Any) -> None:
    kind.from_address(pointer).value = value


def new_handle(value: Any) -> int:
    number = next(system.numbers)
    system.handles[number] = value
    return number


def resolve(handle: int, kind: type[_T]) -> _T:
    """What the handle stands for, if its context can be used."""
    found = system.handles.get(handle)
    if not isinstance(found, kind):
        name = kind.__name__.lower()
        raise DriverError(Status.INVALID_HANDLE, f"{handle:#x} is no live {name}")
    context = found if isinstance(found, Context) else found.context  # type: ignore[attr-defined]
    context.check()
    return found


def handle_of(context: Context) -> int:
    return next(handle for handle, each in system.handles.items() if each is context)


def discard(handle: int, kind: type[_T]) -> _T:
    """The same for what is destroyed, also after a fault."""
    found = system.handles.get(handle)
    if not isinstance(found, kind):
        return resolve(handle, kind)
    del system.handles[handle]
    return found


def current_context() -> Context:
    """The calling thread's."""
    if not system.initialized:
        raise DriverError(Status.NOT_INITIALIZED, "cuInit was not called")
    if not thread.contexts:
        raise DriverError(Status.INVALID_CONTEXT, "the thread has no current context")
    context = thread.contexts[-1]
    context.check()
    return context


def stream_of(handle: int) -> Stream:
    """Streams may be used whatever device is current; 0 and 1 are the current one's default."""
    context = current_context()
    return context.default if handle in (0, 1) else resolve(handle, Stream)


def device_of(ordinal: int) -> Device:
    devices = system.devices
    if not 0 <= ordinal < len(devices):
        reason = f"device {ordinal} of {len(devices)}"
        raise DriverError(Status.INVALID_DEVICE, reason)
    return devices[ordinal]


def context_of(address: int) -> Context:
    """The context in whose memory the address lies."""
    for context in system.contexts():
        if context.memory.owns(address):
            return context
    raise DriverError(Status.INVALID_VALUE, f"{address:#x} is no address of a device")


def is_pinned(address: int, nbytes: int) -> bool:
    return any(
        start <= address and address + nbytes <= start + len(pages)
        for start, pages in system.pinned.items()
    )


def refuse_allocation() -> None:
    """A capture that is not relaxed forbids new memory and modules meanwhile."""
    for context in system.contexts():
        for stream in context.streams:
            if stream.capture is not None and stream.capture.forbids_allocation():
                stream.refuse_capture("an allocation")
