"""Recording: what is noted while a thread records a stretch of work, besides the work itself.

A replay repeats launches at the addresses of the recording. What it cannot repeat is noted here:
numbers that the host computes anew, and conditions under which the recording holds. How work is
recorded is the business of the subclasses, one for GPUs (cuda/recording.py) and one for the host
(minigrad.recording.launches).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..device import Device
from ..errors import GraphError
from . import memory


class Recording:
    """hooks: what is computed anew before each replay. conditions: a replay does what it should
    only while all of them hold. undo: what puts the host's state back if the recording fails.
    keys: streams of random operations, by what they were in the recording: what they are now."""

    launching = False  # whether a launcher is just being asked for its kernels

    def __init__(self) -> None:
        self.hooks: list[Callable[[], None]] = []
        self.conditions: list[Callable[[], bool]] = []
        self.undo: list[Callable[[], None]] = []
        self.keys: dict[tuple[int, int], list[int]] = {}
        self._outside: dict[int, tuple[weakref.ref[Any], tuple[int, ...]]] = {}
        self._gone: list[weakref.ref[Any]] = []

    def is_older(self, array: Any) -> bool:
        """Whether the array's memory was there before the recording."""
        raise TypeError(f"{type(self).__name__} must define is_older(array)")

    def check_device(self, device: Device, shape: tuple[int, ...]) -> None:
        """GraphError if the recording cannot repeat what is computed with a tensor there."""

    def take_back(self) -> None:
        """Put the host's state back."""
        for undo in reversed(self.undo):
            undo()

    def note_outside(self, owner: Any, shape: tuple[int, ...]) -> None:
        """Recorded work uses memory that was there before, and that goes with `owner`."""
        if id(owner) not in self._outside:
            self._outside[id(owner)] = weakref.ref(owner, self._gone.append), shape

    def refuse_replaced(self) -> None:
        """GraphError if memory from outside that it uses is gone."""
        if shapes := [shape for owner, shape in self._outside.values() if owner() is None]:
            raise GraphError(
                "a captured step must find its tensors at the same place at every call, but it "
                f"read tensors of shape {', '.join(map(str, shapes))} from outside and replaced "
                "them: change them in place (copy_, add_), or pass them as arguments"
            )

    def at_replay(self, hook: Callable[[], None]) -> None:
        """hook() goes before each replay but the first, which uses what the recorded calls had
        computed."""
        self.hooks.append(hook)

    def is_valid(self) -> bool:
        """Whether memory from outside that it uses is still in use there, and conditions hold."""
        return not self._gone and all(condition() for condition in self.conditions)

    # Of work on the host, which only a recording of the host's work repeats ----------------------

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of the host."""
        return memory.empty(shape, dtype)

    def lasting(self) -> AbstractContextManager[None]:
        """Arrays of the host made inside outlive the recorded step."""
        return nullcontext()

    def keep(self, values: np.ndarray) -> None:
        """Recorded launches read these, which never change."""

    def assign(self, out: np.ndarray, values: Any) -> None:
        """out[...] = values, by NumPy."""
        np.copyto(out, values)

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """The host looks at what was computed, here and in each replay."""
        function(*args)

    def observed(self, backend: Any, device: Device) -> Any:
        """The launchers to call instead of the backend's, so that calls are recorded."""
        return backend


class _Current(threading.local):
    recording: Recording | None = None


current = _Current()


def on_replay(hook: Callable[[], None]) -> None:
    """While a step is recorded: what its replays compute anew."""
    if current.recording is not None:
        current.recording.at_replay(hook)


def drawn(key: tuple[int, int], redraw: Callable[[], tuple[int, int]]) -> None:
    """A random operation drew (seed, stream) from a generator. While a step is recorded: `redraw`
    gives what a replay uses instead; launches find it among the recording's keys."""
    if current.recording is None:
        return
    numbers = current.recording.keys[key] = list(key)

    def again() -> None:
        numbers[:] = redraw()

    on_replay(again)
