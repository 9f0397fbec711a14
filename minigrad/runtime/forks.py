"""Forks: no lock is held by a thread that the child does not have."""

from __future__ import annotations

import os
import threading
from enum import IntEnum
from typing import Any


class Rank(IntEnum):
    """In which order a thread takes locks, and a fork too: who sums gradients may import kernels
    and compile one, and what the collector frees while one is compiled goes to the allocator."""

    GRADIENTS, BACKENDS, COMPILER, LLVM, ALLOCATOR = range(5)


_locks: dict[Rank, Any] = {}
_turn = threading.RLock()  # of threads that fork
_taken: list[Any] = []


def hold_over_forks(lock: Any, rank: Rank) -> None:
    """A fork waits until no thread has the lock."""
    _locks[rank] = lock


def _take() -> None:
    _turn.acquire()
    for _, lock in sorted(_locks.items()):
        lock.acquire()
        _taken.append(lock)


def _release() -> None:
    while _taken:
        _taken.pop().release()
    _turn.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take, after_in_parent=_release, after_in_child=_release)
