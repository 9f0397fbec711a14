"""torch.backends.mps' questions, for scripts that choose a device: there is none of Apple's. The
same answers stand for torch.xpu and torch.mtia (as_torch.py)."""

from __future__ import annotations

__all__ = ["device_count", "is_available", "is_built"]


def is_available() -> bool:
    """False."""
    return False


def is_built() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0
