"""Compilation ahead: while a forward pass compiles its kernels, a helper process compiles those of
the backward pass and of the optimizer.

When a kernel is compiled within `Function.apply`, and gradients will be wanted, the helper is told
which Function it is and for what arguments: shapes, dtypes and orders in memory, no values. It
calls the Function with zeros, and then its backward pass. The forward kernels it takes from the
cache, where this process leaves them; those of the backward pass are there when this process needs
them, or are being compiled. The optimizers that exist are described the same way, by their options.

So what is compiled ahead is what the program would compile, by the same code. A program that finds
its kernels in the cache starts no helper. `runtime/ahead.py` says when there is none at all.
"""

from __future__ import annotations

import gc
import inspect
import io
import os
import pickle
import queue
import sys
import threading
from types import FrameType
from typing import Any

import numpy as np

from .device import CPU
from .engine import Function, Tensor
from .optim import Optimizer
from .runtime.ahead import Helper, at_compilation, is_useful, receive

_APPLY = Function.apply.__func__.__code__  # type: ignore[attr-defined]
_PACKAGE = __name__.partition(".")[0]
_LARGEST = 1 << 28  # bytes of arguments that the helper is to make once more
_IDLE = 30.0  # seconds after which a helper without work ends

_helper = Helper(f"from {__name__} import serve; serve()")
_described: set[Any] = set()


# In the process that computes -------------------------------------------------------------------


def _notice() -> None:
    """A kernel is about to be compiled: tell the helper what will follow."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not _APPLY:
        frame = frame.f_back
    if frame is None:
        return
    function, args, needs = (frame.f_locals.get(name, ()) for name in ("cls", "args", "needs"))
    if True not in needs or not function.__module__.startswith(f"{_PACKAGE}."):
        return
    if any(isinstance(arg, Tensor) and arg.device.type != "cpu" for arg in args):
        return
    from .kernels.cpu._jit import CACHE_DIR

    if not is_useful(CACHE_DIR):
        return
    if not _described:
        optimizers = {type(one): one for one in gc.get_objects() if _is_optimizer(one)}
        for kind, one in optimizers.items():
            _describe((kind, _options(one)))
    _describe((function, args, needs))


def _is_optimizer(one: Any) -> bool:
    kind = type(one)
    return (
        issubclass(kind, Optimizer) and kind.__module__.startswith(f"{_PACKAGE}.")
        and bool(getattr(one, "param_groups", None))
    )  # fmt: skip


def _options(optimizer: Optimizer) -> dict[str, Any]:
    taken = inspect.signature(type(optimizer)).parameters
    group = optimizer.param_groups[0]
    return {name: group[name] for name in optimizer.defaults if name in taken}


def _describe(work: tuple[Any, ...]) -> None:
    content = io.BytesIO()
    try:
        _Describer(content).dump(work)
    except Exception:  # of what cannot be described, nothing is compiled ahead
        return
    if content.getvalue() not in _described:
        _described.add(content.getvalue())
        _helper.send(content.getvalue())


class _Describer(pickle.Pickler):
    """Tensors and arrays become what is needed to make others like them."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=5)
        self._bytes = 0

    def persistent_id(self, value: Any) -> Any:
        array = value.array if isinstance(value, Tensor) else value
        if not isinstance(array, np.ndarray):
            return None
        self._bytes += array.nbytes
        if self._bytes > _LARGEST:
            raise ValueError
        order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
        return isinstance(value, Tensor), array.shape, array.dtype.str, order


# In the helper ----------------------------------------------------------------------------------


class _Maker(pickle.Unpickler):
    def persistent_load(self, described: Any) -> Any:
        is_tensor, shape, dtype, order = described
        array = np.zeros([shape[axis] for axis in order], dtype).transpose(np.argsort(order))
        return Tensor(array, CPU) if is_tensor else array


def _compile_function(function: type[Function], args: Any, needs: tuple[bool, ...]) -> None:
    for arg, needed in zip(args, needs, strict=True):
        if needed:
            arg.requires_grad = True
    results = function.apply(*args)
    for result in results if isinstance(results, tuple) else (results,):
        if isinstance(result, Tensor) and result.requires_grad:
            result.backward(Tensor(np.zeros_like(result.array), CPU), retain_graph=True)


def _compile_optimizer(kind: type[Optimizer], options: dict[str, Any]) -> None:
    sizes = 20, 1 << 17
    parameters = [Tensor(np.zeros(size, np.float32), CPU, requires_grad=True) for size in sizes]
    for parameter in parameters:
        parameter.grad = Tensor(np.zeros_like(parameter.array), CPU)
    kind(parameters, **options).step()


def compile_one(described: tuple[Any, ...]) -> None:
    """Compile what one description stands for."""
    if len(described) == 3:
        _compile_function(*described)
    else:
        _compile_optimizer(*described)


def serve() -> None:
    """Do what comes from standard input until it ends, or nothing has come for a while."""
    from .kernels.cpu._cache import writing

    work: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        try:
            while True:
                work.put(receive(0))
        except EOFError:
            with writing:  # no file is left half written
                os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            content = work.get(timeout=_IDLE)
        except queue.Empty:
            return
        try:
            compile_one(_Maker(io.BytesIO(content)).load())
        except Exception:  # the other process will come to it as well, and report it
            continue


at_compilation.append(_notice)
