"""Thread count: how many threads the CPU kernels use, and the memory by which they agree.

At the start that is `device.default_num_threads()`: MINIGRAD_NUM_THREADS, else OMP_NUM_THREADS,
else the number of cores that the process may use. Results do not depend on it, bit for bit. No
training step calls BLAS, so there is no second pool of threads to share the cores with.

`BLOCK` holds everything that kernels (kernels/cpu/_tasks.py) and the workers that take tasks off
them (kernels/cpu/_workers.py) tell each other. It is one for the process and never moves.
"""

from __future__ import annotations

import os

import numpy as np

from ..arguments import check_int
from ..device import available_cores, default_num_threads

# A kernel that needs memory for each thread gets as much for so many.
MAX_THREADS: int = max(available_cores(), default_num_threads()) if os.name == "posix" else 1

# The words of the block. Those that change during a launch have cache lines of their own.
# First the span of a call that comes from Python: no task yet, on thread 0.
BEGIN, END, THREAD, LAUNCH, THREADS, START = range(6)
BUSY, GENERATION, ACTIVE, STARTED, BODY, ARGUMENTS, TASKS, CHUNK = range(8, 16)
DONE, SLEEPING = 16, 24
MUTEX, CONDITION, TICKETS = 32, 40, 48  # from TICKETS on, one line a thread

LINE = 8  # words of a cache line
_memory = np.zeros(TICKETS + (MAX_THREADS + 1) * LINE, np.int64)
_unaligned = _memory.ctypes.data % 64 // 8
BLOCK = _memory[(LINE - _unaligned) % LINE :]
BLOCK[BEGIN] = -1
ADDRESS: int = BLOCK.ctypes.data


def set_num_threads(count: int) -> None:
    """Use `count` threads in CPU kernels from now on, at most the number of cores.

    It holds for the process. While one Python thread runs a kernel on all of them, another one's
    kernels run on that thread alone.
    """
    check_int("set_num_threads", "count", count, low=1)
    BLOCK[THREADS] = min(count, MAX_THREADS)


def get_num_threads() -> int:
    """How many threads CPU kernels use."""
    return BLOCK.item(THREADS)


set_num_threads(default_num_threads())
