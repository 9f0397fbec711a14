"""Grad mode: whether operations are recorded on the tape, per thread, and who watches."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from .observer import Observer


class Mode(threading.local):
    enabled = True
    observer = Observer()

    def __init__(self) -> None:
        self.before: list[bool] = []  # what the `with` blocks around this place go back to


mode = Mode()


def is_grad_enabled() -> bool:
    return mode.enabled


class set_grad_enabled:
    """Switch recording on or off: for a `with` block, a decorated function, or from now on."""

    def __init__(self, enabled: bool) -> None:
        self._previous = mode.enabled
        self._enabled = mode.enabled = bool(enabled)

    def __enter__(self) -> None:
        mode.enabled = self._enabled

    def __exit__(self, *_: object) -> None:
        mode.enabled = self._previous

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        mode.enabled = self._previous  # as a decorator, nothing changes from now on
        enabled = self._enabled

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with set_grad_enabled(enabled):
                return function(*args, **kwargs)

        return wrapped


class _Switch:
    """A context manager and decorator that sets recording to `_enabled`; may be nested."""

    _enabled: bool

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = super().__new__(cls)
        # `@no_grad` without parentheses decorates at once.
        return self if function is None else self(function)

    def __enter__(self) -> None:
        mode.before.append(mode.enabled)
        mode.enabled = self._enabled

    def __exit__(self, *_: object) -> None:
        mode.enabled = mode.before.pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return wrapped


class no_grad(_Switch):
    """Operations inside are not recorded: `with no_grad(): ...` or `@no_grad()`."""

    _enabled = False


class enable_grad(_Switch):
    """Operations inside are recorded, also within a `no_grad` block."""

    _enabled = True


def inference_mode(mode: bool | Callable[..., Any] = True) -> Any:
    """`no_grad`, or with mode=False `enable_grad`. A graph may use what is made inside."""
    return no_grad(mode) if callable(mode) else no_grad() if mode else enable_grad()
