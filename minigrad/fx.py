"""torch.fx's `wrap`, for code that marks functions. Nothing is traced symbolically here."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")

__all__ = ["wrap"]


def wrap(fn_or_name: T) -> T:
    """The function, or its name, itself."""
    return fn_or_name
