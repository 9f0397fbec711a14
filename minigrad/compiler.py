"""torch.compiler's names: functions run as they are written."""

from __future__ import annotations

from typing import Any

from .jit import ignore

__all__ = ["disable", "is_compiling", "is_dynamo_compiling", "is_exporting", "reset"]


def is_compiling() -> bool:
    """False: nothing is compiled but kernels."""
    return False


is_dynamo_compiling = is_exporting = is_compiling


def disable(fn: Any = None, recursive: bool = True, **options: Any) -> Any:
    """The function itself, or a decorator that changes nothing."""
    return ignore() if fn is None else fn


def reset() -> None:
    """Nothing: there is no compiled code."""
