"""Forks: no lock is held by a thread that the child does not have."""

from __future__ import annotations

import os
from typing import Any


def hold_over_forks(lock: Any) -> None:
    """A fork waits until no thread has the lock. Of two locks, the one registered later is taken
    first."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )
