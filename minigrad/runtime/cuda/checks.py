"""Checks of values on the GPU, which the host learns of later.

A kernel that meets a bad value (a class out of range, a box outside its batch) writes where into a
flag, and the kernels after it skip what they cannot do. The host does not wait for the flag: it
looks at it when it waits for the GPU anyway, and raises then what the CPU raises at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import memory
from .array import DeviceArray
from .driver import driver


@dataclass
class Check:
    """flag: (1,) int64. refuse: called with its value; raises if that tells of a bad value. It may
    read arrays of the operation, which it keeps alive."""

    flag: DeviceArray
    refuse: Callable[[int], None]


_pending: list[Check] = []
_MANY = 64  # a loop that never waits must not keep every flag


def defer(flag: DeviceArray, refuse: Callable[[int], None]) -> None:
    """Look at the flag at the next synchronisation."""
    _pending.append(Check(flag, refuse))
    if len(_pending) > _MANY and not driver().capturing:
        run()


def take() -> list[Check]:
    """The checks that wait; they are no longer pending."""
    taken = _pending[:]
    _pending.clear()
    return taken


def add(checks: list[Check]) -> None:
    """Those of a captured step, after a replay."""
    waiting = {id(check) for check in _pending}
    _pending.extend(check for check in checks if id(check) not in waiting)


def run() -> None:
    """Wait for the GPU, then raise the first error that one of the flags tells of."""
    if driver().capturing:
        return
    memory.synchronize()
    value = np.empty(1, np.int64)
    for check in take():
        memory.to_host(check.flag, value)
        check.refuse(int(value[0]))
