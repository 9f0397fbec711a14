"""Thread count: how many threads the CPU kernels use.

At the start that is `device.default_num_threads()`: MINIGRAD_NUM_THREADS, else OMP_NUM_THREADS,
else the number of cores that the process may use. Results do not depend on it, bit for bit. No
training step calls BLAS, so there is no second pool of threads to share the cores with.
"""

from __future__ import annotations

import numba

from ..arguments import check_int
from ..device import default_num_threads

_MAXIMUM: int = vars(numba.config)["NUMBA_NUM_THREADS"]


def set_num_threads(count: int) -> None:
    """Use `count` threads in parallel kernels, at most the number of cores.

    Numba keeps this number for each Python thread: it holds for kernels that the calling thread
    runs. Another thread that the program starts begins with all cores (NUMBA_NUM_THREADS), and sets
    its own number. The loader's thread runs serial kernels only.
    """
    check_int("set_num_threads", "count", count, low=1)
    numba.set_num_threads(min(count, _MAXIMUM))


def get_num_threads() -> int:
    """How many threads parallel kernels use that the calling thread runs."""
    return numba.get_num_threads()


set_num_threads(default_num_threads())
