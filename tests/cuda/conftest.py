"""Tests of what only a GPU has. They run on one, or on an emulated one:

MINIGRAD_EMULATED_GPU=1 python -m pytest tests/cuda
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest

import minigrad as mg
from minigrad.testing import ptx

# Without the compiler, many of these files cannot even be imported.
if find_spec("numba_cuda") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def _needs_cuda() -> None:
    if reason := mg.cuda.why_unavailable():
        assert not ptx.installed(), reason  # an emulated GPU that does not start is a fault
        pytest.skip(f"{reason}; MINIGRAD_EMULATED_GPU=1 runs this on an emulated GPU")
