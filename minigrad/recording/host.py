"""A recorded stretch of the host's work, with the interface of the GPU's graphs
(runtime/cuda/capture.py)."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from ..engine import Tensor
from ..runtime.recording import current
from .launches import Launches, Program
from .placeholder import stripped


class HostGraph:
    """Work inside `record` is recorded and does not run; `replay` runs it."""

    def __init__(self) -> None:
        self._recording: Launches | None = None
        self._program: Program | None = None

    def warm_up(self) -> Any:
        return nullcontext()

    @contextmanager
    def record(self) -> Iterator[None]:
        """If it raises, nothing is recorded, and what it changed on the host is put back as far as
        the recording knows of it."""
        recording = current.recording = Launches()
        try:
            with _watching_kernels():
                yield
                recording.join_chains()
            recording.refuse_replaced()
        except BaseException:
            recording.take_back()
            raise
        finally:
            current.recording = None
        self._recording = recording

    def finish(self, tensors: Iterable[Any]) -> None:
        """Everything of the recording that outlives it is known: plan its memory. tensors: that
        the user is going to get."""
        assert self._recording is not None
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                tensor.array = stripped(tensor.array)
        self._program = self._recording.program()

    def is_valid(self) -> bool:
        return self._recording is not None and self._recording.is_valid()

    def replay(self) -> None:
        assert self._recording is not None
        assert self._program is not None
        try:
            self._program.run()
        except BaseException:
            if not self._recording.replayed:  # a bad value: what follows it was counted, not done
                self._recording.take_back()
            raise
        finally:
            self._recording.replayed = True


_watched = 0
_turn = threading.Lock()


@contextmanager
def _watching_kernels() -> Iterator[None]:
    """Calls of kernels go to the recording of the thread that makes them."""
    from ..kernels.cpu._jit import Kernel

    global _watched
    with _turn:
        _watched += 1
        Kernel.watch(_call)
    try:
        yield
    finally:
        with _turn:
            _watched -= 1
            if not _watched:
                Kernel.watch(None)


def _call(kernel: Any, args: tuple[Any, ...]) -> Any:
    if isinstance(current.recording, Launches):
        return current.recording.kernel(kernel, args)
    return partial.__call__(kernel, *args)
