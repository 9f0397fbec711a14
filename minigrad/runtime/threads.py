"""How many threads the CPU kernels use."""

from __future__ import annotations

import numba

from ..device import default_num_threads

_MAXIMUM: int = vars(numba.config)["NUMBA_NUM_THREADS"]


def set_num_threads(count: int) -> None:
    """Use `count` threads in parallel kernels, at most the number of cores."""
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"set_num_threads: count must be a positive int, got {count!r}")
    numba.set_num_threads(min(count, _MAXIMUM))


def get_num_threads() -> int:
    return numba.get_num_threads()


set_num_threads(default_num_threads())
