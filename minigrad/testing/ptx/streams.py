"""Streams, events and graphs: the asynchronous half of CUDA's execution model, as late as allowed.

Work that is queued on a stream stays in its queue until something waits for it: a synchronisation,
a query, another stream's wait, memory that is freed. Every wait that a program forgot so shows: as
results that are not there yet, or as inputs that were overwritten meanwhile.

Source: CUDA Driver API, modules Stream, Event and Graph Management; CUDA C++ Programming Guide,
"Asynchronous Concurrent Execution".
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from time import perf_counter

from .machine import orders
from .memory import DeviceMemory, Fault


class Status(IntEnum):
    """CUresult, as far as it is needed here."""

    SUCCESS = 0
    INVALID_VALUE = 1
    OUT_OF_MEMORY = 2
    NOT_INITIALIZED = 3
    INVALID_DEVICE = 101
    INVALID_IMAGE = 200
    INVALID_CONTEXT = 201
    PEER_ACCESS_UNSUPPORTED = 217
    INVALID_PTX = 218
    INVALID_HANDLE = 400
    ILLEGAL_STATE = 401
    NOT_FOUND = 500
    NOT_READY = 600
    ILLEGAL_ADDRESS = 700
    CONTEXT_IS_DESTROYED = 709
    LAUNCH_FAILED = 719
    NOT_SUPPORTED = 801
    STREAM_CAPTURE_UNSUPPORTED = 900
    STREAM_CAPTURE_INVALIDATED = 901
    STREAM_CAPTURE_ISOLATION = 905
    STREAM_CAPTURE_IMPLICIT = 906
    CAPTURED_EVENT = 907
    STREAM_CAPTURE_WRONG_THREAD = 908
    UNKNOWN = 999


class DriverError(Exception):
    """What a driver function returns instead of success, with the reason in words."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Work:
    """failure: the status under which an error of it is reported."""

    run: Callable[[], None]
    failure: Status = Status.ILLEGAL_ADDRESS


class Context:
    """A device's memory and the work that is queued for it.

    fault: the first error of queued work, which dropped all that was queued behind it. As on a GPU,
    everything that waits or queues reports it from then on, here until it was raised to the test.
    """

    def __init__(self, device: int) -> None:
        self.device, self.memory = device, DeviceMemory(device)
        self.destroyed = False
        self.fault: Exception | None = None
        self.failure = Status.SUCCESS
        self.default = Stream(self, blocking=True)
        self.streams = [self.default]

    def check(self) -> None:
        if self.destroyed:
            raise DriverError(Status.CONTEXT_IS_DESTROYED, "the context was destroyed")
        if self.fault is not None:
            name = "" if isinstance(self.fault, Fault) else f"{type(self.fault).__name__}: "
            raise DriverError(self.failure, f"{name}{self.fault}")

    def fail(self, fault: Exception, failure: Status) -> None:
        self.fault, self.failure = fault, failure
        for stream in self.streams:
            stream.queue.clear()
            stream.done = stream.issued

    def wait(self, order: str) -> None:
        """Run all that is queued, the streams in the order of their creation or as asked for."""
        for i in orders(order, len(self.streams)):
            self.streams[i].run()

    def refuse_capture(self, operation: str) -> None:
        """For what waits for the whole context: it ends a capture without success."""
        if captures := [stream.capture for stream in self.streams if stream.capture]:
            for capture in captures:
                capture.invalid = True
            raise DriverError(
                Status.STREAM_CAPTURE_UNSUPPORTED, f"{operation} while a stream is captured"
            )


class Stream:
    """Work in order. issued, done: how many pieces of it were queued and are finished.

    blocking: ordered with the default stream, as all are that were not created as non-blocking.
    """

    def __init__(self, context: Context, blocking: bool) -> None:
        self.context, self.blocking = context, blocking
        self.queue: deque[Work] = deque()
        self.issued = self.done = 0
        self.capture: Capture | None = None

    def put(self, work: Work) -> None:
        """Queue it, or record it while the stream is captured."""
        if self.capture is not None:
            self.capture.check()
            self.capture.work.append(work)
            return
        default = self.context.default
        if self is default:
            others = [each for each in self.context.streams if each.blocking and each is not self]
        else:
            others = [default] if self.blocking else []
        for other in others:
            if other.capture is not None:
                other.capture.invalid = True
                reason = "the default stream was used while a blocking stream is captured"
                raise DriverError(Status.STREAM_CAPTURE_IMPLICIT, reason)
            if other.done < other.issued:
                self._append(waiting_for(other, other.issued))
        self._append(work)

    def _append(self, work: Work) -> None:
        self.queue.append(work)
        self.issued += 1

    def run(self, until: int | None = None) -> None:
        """Run what is queued, up to the until-th piece of work."""
        until = self.issued if until is None else until
        while self.done < until:
            work = self.queue.popleft()
            try:
                work.run()
            except Exception as error:  # it is reported by what waits, or by raise_faults
                self.context.fail(error, work.failure)
            if self.context.fault is not None:
                return
            self.done += 1

    def refuse_capture(self, operation: str) -> None:
        if self.capture is not None:
            self.capture.invalid = True
            raise DriverError(
                Status.STREAM_CAPTURE_UNSUPPORTED, f"{operation} while the stream is captured"
            )

    def wait_for(self, event: Event) -> None:
        record = event.record
        if record is None:
            return
        if record.capture is not None:
            if self.capture is record.capture:
                return
            if self.capture is None and record.stream.capture is record.capture:
                reason = "a capture that goes on in a second stream is not part of this stand-in"
                raise DriverError(Status.NOT_SUPPORTED, reason)
            raise DriverError(Status.CAPTURED_EVENT, "the event was recorded in another capture")
        if self.capture is not None:
            self.capture.invalid = True
            reason = "a captured stream cannot wait for an event from outside of the capture"
            raise DriverError(Status.STREAM_CAPTURE_ISOLATION, reason)
        self.put(waiting_for(record.stream, record.ticket))


def waiting_for(stream: Stream, ticket: int) -> Work:
    return Work(lambda: stream.run(ticket))


@dataclass(eq=False)
class Record:
    """One call of cuEventRecord: the place in the stream. seconds: when it was reached."""

    stream: Stream
    ticket: int = 0
    capture: Capture | None = None
    seconds: float = 0.0

    @property
    def reached(self) -> bool:
        return self.stream.done >= self.ticket


class Event:
    def __init__(self, context: Context, timed: bool) -> None:
        self.context, self.timed = context, timed
        self.record: Record | None = None

    def put(self, stream: Stream) -> None:
        if stream.context is not self.context:
            reason = (
                f"an event of device {self.context.device} cannot be recorded in a stream of "
                f"device {stream.context.device}"
            )
            raise DriverError(Status.INVALID_HANDLE, reason)
        record = Record(stream, capture=stream.capture)
        if stream.capture is not None:
            stream.capture.check()
        else:
            stream.put(Work(lambda: setattr(record, "seconds", perf_counter())))
            record.ticket = stream.issued
        self.record = record

    def outside_of_captures(self) -> Record | None:
        if self.record is not None and self.record.capture is not None:
            self.record.capture.invalid = True
            raise DriverError(Status.CAPTURED_EVENT, "the event was last recorded in a capture")
        return self.record

    def milliseconds_until(self, end: Event) -> float:
        first, last = self.outside_of_captures(), end.outside_of_captures()
        if first is None or last is None or not (self.timed and end.timed):
            reason = "both events must have been recorded and be created with timing"
            raise DriverError(Status.INVALID_HANDLE, reason)
        if not (first.reached and last.reached):
            raise DriverError(Status.NOT_READY, "the work before the events is not done")
        return (last.seconds - first.seconds) * 1000


@dataclass(eq=False)
class Capture:
    """A recording of a stream's work. mode: CUstreamCaptureMode (0 global, 1 thread, 2 relaxed).

    invalid: an operation was not allowed; what follows fails, and so does the end.
    """

    GLOBAL = 0
    RELAXED = 2

    mode: int
    thread: int = field(default_factory=threading.get_ident)
    work: list[Work] = field(default_factory=list)
    invalid: bool = False

    def check(self) -> None:
        if self.invalid:
            reason = "the capture was invalidated by an operation that it does not allow"
            raise DriverError(Status.STREAM_CAPTURE_INVALIDATED, reason)

    def forbids_allocation(self) -> bool:
        if self.mode == Capture.RELAXED:
            return False
        return self.mode == Capture.GLOBAL or self.thread == threading.get_ident()


@dataclass(eq=False)
class Graph:
    context: Context
    work: tuple[Work, ...]


@dataclass(eq=False)
class ExecutableGraph:
    """last: the end of the launch before, behind which the next one runs."""

    context: Context
    work: tuple[Work, ...]
    last: tuple[Stream, int] | None = None

    def put(self, stream: Stream) -> None:
        if self.last is not None and stream.capture is None and self.last[0] is not stream:
            stream.put(waiting_for(*self.last))
        for work in self.work:
            stream.put(work)
        if stream.capture is None:
            self.last = stream, stream.issued
