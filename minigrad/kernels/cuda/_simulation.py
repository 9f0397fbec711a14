"""Faster barriers and safe shared arrays for Numba's CUDA simulator.

It finds barriers by polling every thread; here a block's threads meet at a threading.Barrier. A
thread that returns while others still wait, which is undefined on a GPU, breaks the barrier and is
reported. Its shared arrays refuse an alignment, and two threads that ask for one at the same moment
may get two; here they do not.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
from numba.cuda.simulator import kernel, kernelapi

_PATIENCE = 60.0  # seconds at a barrier before it counts as broken


class _Thread(kernel.BlockThread):
    def run(self) -> None:
        # A GPU divides by zero and overflows silently. NumPy keeps this by thread.
        with np.errstate(all="ignore"):
            super().run()
        if self.exception:
            self._manager.barrier.abort()

    def syncthreads(self) -> None:
        self._manager.barrier.wait(_PATIENCE)


class _Block(kernel.BlockManager):
    def run(self, grid_point, *args) -> None:
        points = list(np.ndindex(*self._block_dim))
        self.barrier = threading.Barrier(len(points))
        threads = [
            _Thread(lambda: self._f(*args), self, grid_point, point, self._debug)
            for point in points
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        failures = [thread.exception for thread in threads if thread.exception]
        if failures:
            # The others only saw the barrier break.
            failures.sort(key=lambda f: isinstance(f[0], threading.BrokenBarrierError))
            raise failures[0][0].with_traceback(failures[0][1])


kernel.BlockManager = _Block


def _shared_array(self: Any, shape: Any, dtype: Any, alignment: int | None = None) -> np.ndarray:
    """One array for each line of source that asks for one."""
    caller = sys._getframe(1)
    line = caller.f_code, caller.f_lineno
    found = self._allocations.get(line)
    if found is None:
        found = self._allocations.setdefault(line, np.empty(shape, dtype))
    return found


kernelapi.FakeCUDAShared.array = _shared_array
