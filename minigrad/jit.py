"""torch.jit's names, for code that asks whether it is compiled and marks what should be.

minigrad compiles its kernels and nothing else: code runs as it is written, so each function or
module is given back as it came.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
Final = typing.Final

__all__ = [
    "Final",
    "TracerWarning",
    "annotate",
    "export",
    "ignore",
    "is_scripting",
    "is_tracing",
    "script",
    "script_if_tracing",
    "unused",
]


class TracerWarning(Warning):
    """What torch warns of while it traces; here nothing does."""


def annotate(_: Any, the_value: T) -> T:
    """The value itself."""
    return the_value


def is_scripting() -> bool:
    """False: nothing is compiled but kernels."""
    return False


def is_tracing() -> bool:
    """False: nothing is traced."""
    return False


def script(obj: T, *_: Any, **options: Any) -> T:
    """The function or module itself."""
    return obj


def _unchanged(function: T) -> T:
    return function


def ignore(drop: Any = False, **options: Any) -> Any:
    """A decorator, with or without arguments, that changes nothing."""
    return drop if callable(drop) else _unchanged


export = unused = script_if_tracing = _script_if_tracing = _unchanged


def _assert(condition: Any, message: str) -> None:
    """torch._assert: an assertion that tracing would keep."""
    assert condition, message


def _overload_method(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


class _C:
    """torch._C, as far as code asks it whether it is traced."""

    @staticmethod
    def _get_tracing_state() -> None:
        return None
