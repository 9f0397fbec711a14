"""Driver functions: errors, devices, contexts and memory.

Host memory that the driver did not allocate is pageable. An upload from it is staged at the call,
as NVIDIA's driver does, which promises only that it may: `pageable="late"` reads it when the copy
runs. A download to it returns when it is done.

Source: CUDA Driver API, modules Error Handling, Device, Primary Context, Context, Memory and Peer
Context Memory; "API synchronization behavior".
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable

from .calls import (
    Word,
    context_of,
    current_context,
    device_of,
    export,
    handle_of,
    is_pinned,
    new_handle,
    refuse_allocation,
    resolve,
    store,
    stream_of,
    system,
    thread,
)  # fmt: skip
from .memory import DeviceMemory, Fault
from .streams import Context, DriverError, Status, Work

_VERSION = 13000  # CUDA 13.0
_NAME = b"Emulated GPU (PTX)"
_ATTRIBUTES = {  # CUdevice_attribute → value; an H100's
    1: 1024,  # MAX_THREADS_PER_BLOCK
    8: 49152,  # MAX_SHARED_MEMORY_PER_BLOCK
    10: 32,  # WARP_SIZE
    16: 132,  # MULTIPROCESSOR_COUNT
    41: 1,  # UNIFIED_ADDRESSING
    75: 9,  # COMPUTE_CAPABILITY_MAJOR
    76: 0,  # COMPUTE_CAPABILITY_MINOR
}
_NAMES = {status: f"CUDA_ERROR_{status.name}".encode() for status in Status}  # C keeps pointers


@export(ctypes.c_int, Word)
def cuGetErrorString(status: int, text: int) -> None:
    reason = thread.reasons.get(status, _NAMES[Status(status)])
    store(text, ctypes.c_char_p, reason)


@export(ctypes.c_int, Word)
def cuGetErrorName(status: int, text: int) -> None:
    store(text, ctypes.c_char_p, _NAMES[Status(status)])


# Devices and contexts -----------------------------------------------------------------------


@export(ctypes.c_uint)
def cuInit(flags: int) -> None:
    system.initialized = True


@export(Word)
def cuDriverGetVersion(version: int) -> None:
    store(version, ctypes.c_int, _VERSION)


@export(Word)
def cuDeviceGetCount(count: int) -> None:
    store(count, ctypes.c_int, len(system.devices))


@export(Word, ctypes.c_int)
def cuDeviceGet(device: int, ordinal: int) -> None:
    store(device, ctypes.c_int, device_of(ordinal).ordinal)


@export(Word, ctypes.c_int, ctypes.c_int)
def cuDeviceGetName(name: int, length: int, device: int) -> None:
    device_of(device)
    ctypes.memmove(name, _NAME[: length - 1] + b"\0", min(length, len(_NAME) + 1))


@export(Word, ctypes.c_int, ctypes.c_int)
def cuDeviceGetAttribute(value: int, attribute: int, device: int) -> None:
    device_of(device)
    if attribute not in _ATTRIBUTES:
        raise DriverError(Status.INVALID_VALUE, f"attribute {attribute} is not emulated")
    store(value, ctypes.c_int, _ATTRIBUTES[attribute])


@export(Word, ctypes.c_int)
def cuDevicePrimaryCtxRetain(context: int, ordinal: int) -> None:
    device = device_of(ordinal)
    if device.context is None:
        device.context = Context(ordinal)
        new_handle(device.context)
    device.uses += 1
    store(context, Word, handle_of(device.context))


@export(ctypes.c_int)
def cuDevicePrimaryCtxRelease(ordinal: int) -> None:
    """The last one destroys the context with all that was made in it."""
    device = device_of(ordinal)
    if device.context is None:
        raise DriverError(Status.INVALID_CONTEXT, f"device {ordinal} has no context to release")
    device.uses -= 1
    if device.uses == 0:
        device.context.wait(system.order)
        device.context.destroyed = True
        device.context = None


@export(Word)
def cuCtxGetCurrent(context: int) -> None:
    store(context, Word, handle_of(thread.contexts[-1]) if thread.contexts else 0)


@export(Word)
def cuCtxSetCurrent(context: int) -> None:
    """Replaces the top of the thread's stack; 0 takes it away."""
    thread.contexts[-1:] = [resolve(context, Context)] if context else []


@export(Word)
def cuCtxPushCurrent(context: int) -> None:
    thread.contexts.append(resolve(context, Context))


@export(Word)
def cuCtxPopCurrent(context: int) -> None:
    if not thread.contexts:
        raise DriverError(Status.INVALID_CONTEXT, "the thread has no current context")
    popped = thread.contexts.pop()
    if context:
        store(context, Word, handle_of(popped))


@export(Word)
def cuCtxGetDevice(device: int) -> None:
    store(device, ctypes.c_int, current_context().device)


@export()
def cuCtxSynchronize() -> None:
    context = current_context()
    context.refuse_capture("a wait for the whole context")
    context.wait(system.order)
    context.check()


@export(Word, ctypes.c_int, ctypes.c_int)
def cuDeviceCanAccessPeer(can: int, device: int, peer: int) -> None:
    """No device reads another's memory: only copies cross, as between cards without a link."""
    device_of(device), device_of(peer)
    store(can, ctypes.c_int, 0)


@export(Word, ctypes.c_uint)
def cuCtxEnablePeerAccess(peer: int, flags: int) -> None:
    resolve(peer, Context)
    raise DriverError(Status.PEER_ACCESS_UNSUPPORTED, "the devices have no peer access")


# Memory -------------------------------------------------------------------------------------


@export(Word, Word)
def cuMemAlloc(address: int, nbytes: int) -> None:
    context = current_context()
    refuse_allocation()
    if nbytes == 0:
        raise DriverError(Status.INVALID_VALUE, "0 bytes were asked for")
    try:
        store(address, Word, context.memory.allocate(nbytes))
    except MemoryError as error:
        raise DriverError(Status.OUT_OF_MEMORY, str(error)) from None


@export(Word)
def cuMemFree(address: int) -> None:
    """Waits for the memory's device, and frees also after a fault."""
    if address == 0:
        return
    context = context_of(address)
    context.refuse_capture("freeing memory")
    context.wait(system.order)
    try:
        context.memory.free(address)
    except ValueError as error:
        raise DriverError(Status.INVALID_VALUE, str(error)) from None
    context.check()


@export(Word, Word)
def cuMemAllocHost(address: int, nbytes: int) -> None:
    current_context()
    refuse_allocation()
    if nbytes == 0:
        raise DriverError(Status.INVALID_VALUE, "0 bytes were asked for")
    pages = mmap.mmap(-1, nbytes)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    system.pinned[start] = pages
    store(address, Word, start)


@export(Word)
def cuMemFreeHost(address: int) -> None:
    """Does not wait: a copy that is still queued for this memory is a fault."""
    pages = system.pinned.pop(address, None)
    if pages is None:
        raise DriverError(Status.INVALID_VALUE, f"{address:#x} is not the start of pinned memory")
    pages.close()


@export(Word, Word)
def cuMemGetInfo(free: int, total: int) -> None:
    memory = current_context().memory
    store(free, Word, memory.free_bytes)
    store(total, Word, memory.total_bytes)


@export(Word, ctypes.c_int, Word)
def cuPointerGetAttribute(value: int, attribute: int, address: int) -> None:
    context = None if is_pinned(address, 1) else context_of(address)
    if attribute == 2:  # MEMORY_TYPE: 1 host, 2 device
        store(value, ctypes.c_uint, 1 if context is None else 2)
    elif attribute == 9 and context is not None:  # DEVICE_ORDINAL
        store(value, ctypes.c_int, context.device)
    else:
        raise DriverError(Status.INVALID_VALUE, f"attribute {attribute} is not emulated")


@export(Word, Word, Word, Word)
def cuMemcpyHtoDAsync(to: int, source: int, nbytes: int, handle: int) -> None:
    stream, memory = stream_of(handle), context_of(to).memory
    if is_pinned(source, nbytes):
        stream.put(Work(lambda: _copy_pinned(source, nbytes, memory.write, to, source, nbytes)))
        return
    stream.refuse_capture("a copy from pageable memory")
    if system.pageable == "late":
        stream.put(Work(lambda: memory.write(to, source, nbytes)))
        return
    staged = ctypes.create_string_buffer(nbytes)
    ctypes.memmove(staged, source, nbytes)
    stream.put(Work(lambda: memory.write(to, ctypes.addressof(staged), nbytes)))


@export(Word, Word, Word, Word)
def cuMemcpyDtoHAsync(to: int, source: int, nbytes: int, handle: int) -> None:
    stream, memory = stream_of(handle), context_of(source).memory
    if is_pinned(to, nbytes):
        stream.put(Work(lambda: _copy_pinned(to, nbytes, memory.read, to, source, nbytes)))
        return
    stream.refuse_capture("a copy to pageable memory")
    stream.put(Work(lambda: memory.read(to, source, nbytes)))
    stream.run()
    stream.context.check()


def _copy_pinned(host: int, nbytes: int, copy: Callable[..., None], *args: int) -> None:
    if not is_pinned(host, nbytes):
        raise Fault(f"a copy of {nbytes} bytes was still queued when its pinned memory was freed")
    copy(*args)


@export(Word, Word, Word, Word)
def cuMemcpyDtoDAsync(to: int, source: int, nbytes: int, handle: int) -> None:
    stream, context = stream_of(handle), context_of(to)
    if context_of(source) is not context:
        reason = "the copy goes to another device; cuMemcpyPeerAsync does that"
        raise DriverError(Status.INVALID_VALUE, reason)
    stream.put(Work(lambda: _copy(context.memory, to, context.memory, source, nbytes)))


@export(Word, Word, Word, Word, Word, Word)
def cuMemcpyPeerAsync(
    to: int, to_context: int, source: int, source_context: int, nbytes: int, handle: int
) -> None:
    stream = stream_of(handle)
    memories = []
    for address, context in (to, to_context), (source, source_context):
        owner = context_of(address)
        if owner is not resolve(context, Context):
            reason = f"{address:#x} is memory of device {owner.device}, not of the given context"
            raise DriverError(Status.INVALID_VALUE, reason)
        memories.append(owner.memory)
    stream.put(Work(lambda: _copy(memories[0], to, memories[1], source, nbytes)))


def _copy(
    to_memory: DeviceMemory, to: int, source_memory: DeviceMemory, source: int, nbytes: int
) -> None:
    between = ctypes.create_string_buffer(nbytes)
    source_memory.read(ctypes.addressof(between), source, nbytes)
    to_memory.write(to, ctypes.addressof(between), nbytes)


@export(Word, ctypes.c_ubyte, Word, Word)
def cuMemsetD8Async(to: int, byte: int, count: int, handle: int) -> None:
    stream, memory = stream_of(handle), context_of(to).memory
    stream.put(Work(lambda: memory.fill(to, byte, count)))
