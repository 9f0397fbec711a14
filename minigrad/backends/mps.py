"""torch.backends.mps' questions, for scripts that choose a device: there is none of Apple's."""

from __future__ import annotations

__all__ = ["is_available", "is_built"]


def is_available() -> bool:
    """False."""
    return False


def is_built() -> bool:
    """False."""
    return False
