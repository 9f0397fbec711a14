"""Tests of what only a GPU has. They run on one, or in Numba's simulator:

NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/cuda
"""

from __future__ import annotations

import pytest

import minigrad as mg


@pytest.fixture(autouse=True)
def _needs_cuda() -> None:
    if reason := mg.cuda.why_unavailable():
        pytest.skip(f"{reason}; NUMBA_ENABLE_CUDASIM=1 runs this in the simulator")
