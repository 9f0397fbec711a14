"""A training step recorded once as a CUDA graph, and replayed.

On a small network the GPU waits for Python: a launch costs more than its arithmetic. A captured
step hands the GPU all launches at once.

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
from collections.abc import Callable
from typing import Any

from .. import kernels
from ..errors import DeviceError, DTypeError, GraphError
from .tensor import Tensor

_WARM_UPS = 2  # steps run eagerly: kernels are compiled and loaded, buffers and state are made
_MOST = 8  # kinds of arguments that are captured; each keeps the memory of a step


class CapturedStep:
    """step(*args), recorded for each kind of arguments (shapes, dtypes and other values).

    The first two calls of a kind run as they are, the third one is recorded, and from then on the
    recording is replayed with the new tensors' values. Without a GPU the step just runs.

    What a replay does anew: everything on the GPU; the optimizer's options and step count, and the
    streams of random operations. What it does not: other Python statements of the step. Results are
    tensors whose memory the next call overwrites. The step must not read values on the host (item,
    printing, `if loss > …`), and must find its parameters at the same place at every call.
    """

    def __init__(self, step: Callable[..., Any]) -> None:
        functools.update_wrapper(self, step)
        self._step = step
        self._recordings: dict[Any, _Recording] = {}

    def __call__(self, *args: Any) -> Any:
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        if not any(t.device.type == "cuda" for t in tensors):
            return self._step(*args)
        key = tuple([_kind(arg) for arg in args])
        recording = self._recordings.get(key)
        if recording is None:
            if len(self._recordings) >= _MOST:
                return self._step(*args)
            recording = self._recordings[key] = _Recording(self._step)
        return recording(args)


def capture(step: Callable[..., Any]) -> CapturedStep:
    """The step, recorded as a CUDA graph at its third call with arguments of one kind.

    Positional arguments: tensors, whose values may differ from call to call, and hashable values.
    Raises GraphError, at the call that records, where the step reads values on the host.
    """
    return CapturedStep(step)


def _kind(arg: Any) -> Any:
    if isinstance(arg, Tensor):
        if arg.requires_grad:
            raise GraphError(
                "capture: arguments of a step must not require gradients; parameters belong to "
                "what the step closes over"
            )
        if arg.device.type != "cuda":
            raise DeviceError(
                f"capture: all tensor arguments must be on the GPU, got one on {arg.device}"
            )
        return arg.shape, arg.dtype, arg.data.strides
    try:
        hash(arg)
    except TypeError:
        raise DTypeError(
            f"capture: arguments must be tensors or hashable values, got {type(arg).__name__}"
        ) from None
    return type(arg), arg


class _Recording:
    """The step for one kind of arguments."""

    def __init__(self, step: Callable[..., Any]) -> None:
        from ..runtime.cuda.capture import Graph

        self._step, self._graph = step, Graph()
        self._calls = 0
        self._inputs: list[Any] = []
        self._result: Any = None

    def __call__(self, args: tuple[Any, ...]) -> Any:
        self._calls += 1
        if self._calls <= _WARM_UPS:
            with self._graph.warm_up():
                return self._step(*args)
        if self._calls == _WARM_UPS + 1:
            with self._graph.warm_up():
                self._inputs = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args]
            try:
                with self._graph.record():
                    self._result = _detached(self._step(*self._inputs))
            except BaseException:
                self._calls = _WARM_UPS  # the next call records again
                raise
        else:
            self._fill(args)
        self._graph.replay()
        return self._result

    def _fill(self, args: tuple[Any, ...]) -> None:
        for own, arg in zip(self._inputs, args, strict=True):
            if isinstance(arg, Tensor):
                kernels.get(arg.device).copy_strided(own.data, arg.data)


def _detached(result: Any) -> Any:
    """The step's result without its graph, whose memory the recording reuses."""
    if isinstance(result, Tensor):
        return result.detach()
    if isinstance(result, tuple | list):
        return type(result)([_detached(each) for each in result])
    if isinstance(result, dict):
        return {name: _detached(each) for name, each in result.items()}
    return result
