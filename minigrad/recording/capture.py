"""Capture: a step recorded once, and replayed: by a GPU as a CUDA graph, else in machine code.

On a small network the arithmetic waits for Python: a launch costs more than what it does. A
captured step makes all launches at once.

    @minigrad.capture
    def step(images, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    for images, labels in loader:
        loss = step(images, labels)
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .. import kernels
from ..device import Device, same_device
from ..engine import Tensor, is_grad_enabled
from ..engine.grad_mode import mode
from ..engine.gradient import zeros_like
from ..errors import DTypeError, GraphError
from ..nn.module import Module
from .trace import Trace

_WARM_UPS = 2  # steps run eagerly: kernels are compiled and loaded, buffers and state are made
_MAX_RECORDINGS = 8  # kinds of arguments that are captured; each keeps the memory of a step


class CapturedStep:
    """step(*args), recorded for each kind of arguments; made by `capture`, which says the rules."""

    def __init__(self, step: Callable[..., Any]) -> None:
        functools.update_wrapper(self, step, updated=())
        self._step = step
        self._recordings: dict[Any, _Recording] = {}

    def __call__(self, *args: Any) -> Any:
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        if isinstance(mode.observer, Trace) or not tensors:
            return self._step(*args)  # inside another captured step, it is part of that
        key = (is_grad_enabled(), *[_kind(arg) for arg in args])
        recording = self._recordings.get(key)
        if recording is None:
            places = {f"argument {i}": tensor.device for i, tensor in enumerate(tensors)}
            device = same_device("capture", **places)
            if len(self._recordings) >= _MAX_RECORDINGS:
                return _detached(self._step(*args))
            recording = self._recordings[key] = _Recording(self._step, device)
        return recording(args)


def capture(step: Callable[..., Any]) -> CapturedStep:
    """The step, or a model, recorded at its third call with arguments of one kind.

    Positional arguments: tensors on one device, where the step stays, whose values may differ from
    call to call, and hashable values. A kind is a combination of shapes, dtypes and such values; up
    to eight are recorded, each with memory of its own, and further ones run as they are. The first
    two calls of a kind run as they are, the third one is recorded, and from then on the recording
    is replayed with the new tensors' values. Without tensors among the arguments, and inside
    another captured step, the step just runs.

    **What a replay does**: all computation, as a CUDA graph or, on the CPU, as machine code that
    calls kernel after kernel; options and step counts of optimizers, and the streams of random
    operations, are today's. It leaves what the step would leave: parameters, buffers and optimizer
    state, which may be saved and loaded between calls, and gradients. So `optimizer.zero_grad()`,
    clipping and `optimizer.step()` may as well stand outside, and gradients that are there before
    the step are accumulated onto, in place.

    **What it does not**: other Python statements of the step, such as printing, a scheduler's
    step, or `model.train()`, which belong outside. Values must not be read on the host inside
    (`item`, `numpy`, `if loss > …`, shapes that follow from values), nor made there (`tensor`,
    `from_numpy`).

    **Memory**: results, detached from the graph, and `.grad` are overwritten by the next call:
    clone what you keep. Tensors from outside that the step uses must change in place (`copy_`,
    `load_state_dict`). Where one was replaced (`model.to(…)`, `requires_grad_`, other state of the
    optimizer), or something was set in a module that the step calls (its mode, a parameter, buffer,
    layer, hook, number or tensor), the step is recorded anew, after two calls that run as they are;
    a step that itself replaces what it has read is refused. A recording keeps the memory that the
    step needs at most, and copies of the arguments. Threads: the recording waits for no other
    thread, and other threads' work on a GPU waits for the recording; on the CPU, `set_num_threads`
    holds for replays. Settings of precision are those of the recording.

    Raises GraphError, at the call that records, where a rule is broken. Gradients, optimizer state
    and step counts are then as before that call, and the next call records again.
    """
    return CapturedStep(step)


def _kind(arg: Any) -> Any:
    if isinstance(arg, Tensor):
        if arg.requires_grad:
            raise GraphError(
                "capture: arguments of a step must not require gradients; parameters belong to "
                "what the step closes over"
            )
        return arg.shape, arg.dtype, arg.array.strides, arg.device
    try:
        hash(arg)
    except TypeError:
        raise DTypeError(
            f"capture: arguments must be tensors or hashable values, got {type(arg).__name__}"
        ) from None
    return type(arg), arg


class _Recording:
    """The step for one kind of arguments."""

    def __init__(self, step: Callable[..., Any], device: Device) -> None:
        self._step, self._device = step, device
        self._leaves: dict[int, Tensor] = {}  # that get gradients
        self._accumulating: list[Tensor] = []  # that had gradients before the step once
        self._never_replayed = 0  # recordings in a row
        self._turn = threading.RLock()  # a recording's memory is that of one call
        self._start_again()

    def _start_again(self) -> None:
        self._graph = _graph(self._device)
        self._calls = 0
        self._trace: Trace | None = None
        self._inputs: list[Any] = []
        self._result: Any = None

    def __call__(self, args: tuple[Any, ...]) -> Any:
        with self._turn:
            return self._call(args)

    def _call(self, args: tuple[Any, ...]) -> Any:
        if self._trace is not None and not self._is_valid(self._trace):
            self._accumulating += self._trace.accumulating()
            self._start_again()
            self._never_replayed += 1
            if self._never_replayed == 3:
                warnings.warn(
                    "capture: the step is recorded again and again, because at every call it finds "
                    "other tensors than before; it is right, but slow. Change tensors in place, or "
                    "pass them as arguments",
                    stacklevel=5,
                )
        if self._trace is None:
            if self._calls < _WARM_UPS:
                return self._warm_up(args)
            self._trace = self._record(args)
        else:
            self._never_replayed = 0
            for own, arg in zip(self._inputs, args, strict=True):
                if isinstance(arg, Tensor):
                    kernels.get(arg.device).elementwise.copy_strided(own.array, arg.array)
        self._trace.before_replay()
        self._graph.replay()
        self._trace.after_replay()
        return self._result

    def _is_valid(self, trace: Trace) -> bool:
        return self._graph.is_valid() and trace.is_valid()

    def _warm_up(self, args: tuple[Any, ...]) -> Any:
        trace = Trace([])
        with self._graph.warm_up(), _tracing(trace):
            result = _detached(self._step(*args))
        self._leaves |= {id(leaf): leaf for leaf in trace.leaves()}
        self._calls += 1
        return result

    def _record(self, args: tuple[Any, ...]) -> Trace:
        with self._graph.warm_up():
            self._inputs = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args]
        for leaf in self._accumulating:
            if leaf.grad is None:
                leaf.grad = zeros_like(leaf)
        trace = Trace(list(self._leaves.values()))
        try:
            with _tracing(trace), self._graph.record():
                if isinstance(owner := getattr(self._step, "__self__", None), Module):
                    trace.call(owner)  # the step is its `forward`
                self._result = _detached(self._step(*self._inputs))
        except BaseException:
            self._result = None
            trace.undo()
            raise
        trace.finish()
        self._graph.finish([*_tensors(self._result), *trace.gradients()])
        return trace


def _graph(device: Device) -> Any:
    if device.type != "cuda":
        from .host import HostGraph

        return HostGraph()
    from ..runtime.cuda.capture import Graph

    return Graph(device.index)


@contextmanager
def _tracing(trace: Trace) -> Iterator[None]:
    before, mode.observer = mode.observer, trace
    try:
        yield
    finally:
        mode.observer = before


def _tensors(result: Any) -> Iterator[Tensor]:
    """Those in a step's result."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, tuple | list | dict):
        for each in result.values() if isinstance(result, dict) else result:
            yield from _tensors(each)


def _detached(result: Any) -> Any:
    """The step's result without its graph, whose memory the recording reuses."""
    if isinstance(result, Tensor):
        return result.detach()
    if isinstance(result, tuple | list):
        parts = [_detached(each) for each in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    if isinstance(result, dict):
        return {name: _detached(each) for name, each in result.items()}
    return result
