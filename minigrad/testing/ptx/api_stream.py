"""Driver functions: streams, events, modules, launches and graphs.

Source: CUDA Driver API, modules Stream, Event, Module, Execution Control and Graph Management; on
streams and events of another device than the current one, CUDA C++ Programming Guide, "Stream and
Event Behavior".
"""

from __future__ import annotations

import ctypes
import threading

from . import machine
from .calls import (
    Function,
    Module,
    Word,
    current_context,
    discard,
    export,
    new_handle,
    refuse_allocation,
    resolve,
    store,
    stream_of,
    system,
)  # fmt: skip
from .parse import PtxError
from .streams import (
    Capture,
    DriverError,
    Event,
    ExecutableGraph,
    Graph,
    Status,
    Stream,
    Work,
)  # fmt: skip

# Streams and events -------------------------------------------------------------------------


@export(Word, ctypes.c_uint)
def cuStreamCreate(handle: int, flags: int) -> None:
    context = current_context()
    stream = Stream(context, blocking=flags & 1 == 0)
    context.streams.append(stream)
    store(handle, Word, new_handle(stream))


@export(Word)
def cuStreamDestroy(handle: int) -> None:
    stream = discard(handle, Stream)
    stream.capture = None
    stream.run()
    stream.context.streams.remove(stream)
    stream.context.check()


@export(Word)
def cuStreamSynchronize(handle: int) -> None:
    stream = stream_of(handle)
    stream.refuse_capture("a wait")
    stream.run()
    stream.context.check()


@export(Word)
def cuStreamQuery(handle: int) -> None:
    """Work that is not done when a query asks is done before the next one."""
    stream = stream_of(handle)
    stream.refuse_capture("a query")
    if stream.done < stream.issued:
        stream.run()
        stream.context.check()
        raise DriverError(Status.NOT_READY, "the stream has work that is not done")


@export(Word, Word, ctypes.c_uint)
def cuStreamWaitEvent(handle: int, event: int, flags: int) -> None:
    stream_of(handle).wait_for(resolve(event, Event))


@export(Word, ctypes.c_uint)
def cuEventCreate(handle: int, flags: int) -> None:
    event = Event(current_context(), timed=flags & 2 == 0)  # CU_EVENT_DISABLE_TIMING
    store(handle, Word, new_handle(event))


@export(Word)
def cuEventDestroy(handle: int) -> None:
    discard(handle, Event)


@export(Word, Word)
def cuEventRecord(event: int, handle: int) -> None:
    resolve(event, Event).put(stream_of(handle))


@export(Word)
def cuEventSynchronize(handle: int) -> None:
    event = resolve(handle, Event)
    if record := event.outside_of_captures():
        record.stream.run(record.ticket)
    event.context.check()


@export(Word)
def cuEventQuery(handle: int) -> None:
    """As cuStreamQuery: done before the next query."""
    event = resolve(handle, Event)
    record = event.outside_of_captures()
    if record is not None and not record.reached:
        record.stream.run(record.ticket)
        event.context.check()
        raise DriverError(Status.NOT_READY, "the work before the event is not done")


@export(Word, Word, Word)
def cuEventElapsedTime(milliseconds: int, start: int, end: int) -> None:
    elapsed = resolve(start, Event).milliseconds_until(resolve(end, Event))
    store(milliseconds, ctypes.c_float, elapsed)


# Modules and launches -----------------------------------------------------------------------


@export(Word, Word)
def cuModuleLoadData(handle: int, image: int) -> None:
    context = current_context()
    refuse_allocation()
    text = ctypes.string_at(image)
    if text.startswith(b"\x7fELF"):
        raise DriverError(Status.INVALID_IMAGE, "the emulated device takes PTX, not a cubin")
    try:
        module = machine.load(text, context.memory)
    except PtxError as error:
        raise DriverError(Status.INVALID_PTX, str(error)) from None
    store(handle, Word, new_handle(Module(context, module)))


@export(Word)
def cuModuleUnload(handle: int) -> None:
    module = discard(handle, Module)
    module.context.wait(system.order)
    kernels = module.program.kernels.values()
    handles = system.handles
    for number, each in list(handles.items()):
        if isinstance(each, Function) and any(each.kernel is kernel for kernel in kernels):
            del handles[number]
    for address in module.program.allocations:
        module.context.memory.free(address)
    module.context.check()


@export(Word, Word, ctypes.c_char_p)
def cuModuleGetFunction(handle: int, module: int, name: bytes) -> None:
    owner = resolve(module, Module)
    kernel = owner.program.kernels.get(name.decode())
    if kernel is None:
        known = ", ".join(owner.program.kernels)
        raise DriverError(Status.NOT_FOUND, f"the module has {known}, not {name.decode()}")
    store(handle, Word, new_handle(Function(owner.context, kernel)))


@export(Word, ctypes.c_int, Word)
def cuFuncGetAttribute(value: int, attribute: int, function: int) -> None:
    resolve(function, Function)
    if attribute != 0:  # MAX_THREADS_PER_BLOCK
        raise DriverError(Status.INVALID_VALUE, f"attribute {attribute} is not emulated")
    store(value, ctypes.c_int, machine.MAX_THREADS)


@export(Word, Word, Word, Word)
def cuFuncGetParamInfo(function: int, index: int, offset: int, size: int) -> None:
    parameters = resolve(function, Function).kernel.params
    if index >= len(parameters):
        reason = f"parameter {index} of {len(parameters)}"
        raise DriverError(Status.INVALID_VALUE, reason)
    store(offset, Word, parameters[index].offset)
    if size:
        store(size, Word, parameters[index].size)


@export(Word, *[ctypes.c_uint] * 7, Word, Word, Word)
def cuLaunchKernel(
    function: int, gx: int, gy: int, gz: int, bx: int, by: int, bz: int, shared: int,
    handle: int, arguments: int, extra: int,
) -> None:  # fmt: skip
    called, stream, current = resolve(function, Function), stream_of(handle), current_context()
    if called.context is not current or stream.context is not current:
        reason = (
            f"{called.kernel.name} of device {called.context.device} in a stream of device "
            f"{stream.context.device} while device {current.device} is current"
        )
        raise DriverError(Status.INVALID_HANDLE, reason)
    grid, block = (gx, gy, gz), (bx, by, bz)
    sizes = zip((*grid, *block), (*machine.MAX_GRID, *machine.MAX_BLOCK), strict=True)
    if any(not 1 <= n <= most for n, most in sizes) or bx * by * bz > machine.MAX_THREADS:
        reason = f"{called.kernel.name}: a grid of {grid} blocks of {block} threads"
        raise DriverError(Status.INVALID_VALUE, reason)
    if extra:
        raise DriverError(Status.NOT_SUPPORTED, f"{called.kernel.name}: `extra` is not emulated")
    params, memory = _parameters(called.kernel, arguments), current.memory

    def run() -> None:
        machine.launch(
            called.kernel, grid, block, params, memory, system.order, dynamic_shared=shared
        )

    stream.put(Work(run, Status.LAUNCH_FAILED))


def _parameters(kernel: machine.Kernel, arguments: int) -> bytes:
    """The parameters as the kernel reads them, from the array of pointers of a launch. What was
    read is overwritten: a caller that packs one value less the next time must not find it there.
    """
    declared = kernel.params
    block = bytearray(declared[-1].offset + declared[-1].size if declared else 0)
    pointers = (Word * len(declared)).from_address(arguments) if declared else ()
    for parameter, pointer in zip(declared, pointers, strict=True):
        end = parameter.offset + parameter.size
        block[parameter.offset : end] = ctypes.string_at(pointer, parameter.size)
        ctypes.memset(pointer, 0xFF, parameter.size)
    return bytes(block)


# Capture ------------------------------------------------------------------------------------


@export(Word, ctypes.c_int)
def cuStreamBeginCapture(handle: int, mode: int) -> None:
    stream = stream_of(handle)
    if stream is stream.context.default:
        reason = "the default stream cannot be captured"
        raise DriverError(Status.STREAM_CAPTURE_UNSUPPORTED, reason)
    if stream.capture is not None:
        raise DriverError(Status.ILLEGAL_STATE, "the stream is captured already")
    stream.capture = Capture(mode)


@export(Word, Word)
def cuStreamEndCapture(handle: int, graph: int) -> None:
    stream = stream_of(handle)
    capture = stream.capture
    store(graph, Word, 0)
    if capture is None:
        raise DriverError(Status.ILLEGAL_STATE, "the stream is not captured")
    if capture.mode != Capture.RELAXED and capture.thread != threading.get_ident():
        reason = "the capture was begun by another thread"
        raise DriverError(Status.STREAM_CAPTURE_WRONG_THREAD, reason)
    stream.capture = None
    capture.check()
    store(graph, Word, new_handle(Graph(stream.context, tuple(capture.work))))


@export(Word, Word)
def cuStreamIsCapturing(handle: int, status: int) -> None:
    capture = stream_of(handle).capture
    store(status, ctypes.c_int, 0 if capture is None else 1 + capture.invalid)


@export(Word, Word, ctypes.c_uint64)
def cuGraphInstantiateWithFlags(handle: int, graph: int, flags: int) -> None:
    source = resolve(graph, Graph)
    store(handle, Word, new_handle(ExecutableGraph(source.context, source.work)))


@export(Word)
def cuGraphDestroy(handle: int) -> None:
    discard(handle, Graph)


@export(Word)
def cuGraphExecDestroy(handle: int) -> None:
    discard(handle, ExecutableGraph)


@export(Word, Word)
def cuGraphLaunch(handle: int, stream_handle: int) -> None:
    graph, stream = resolve(handle, ExecutableGraph), stream_of(stream_handle)
    if graph.context is not stream.context:
        reason = (
            f"a graph of device {graph.context.device} in a stream of device "
            f"{stream.context.device}"
        )
        raise DriverError(Status.INVALID_HANDLE, reason)
    graph.put(stream)
