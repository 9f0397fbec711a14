"""Starts programs of `programs/` on several ranks, with a thread each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

_PROGRAMS = Path(__file__).parent / "programs"
_ROOT = _PROGRAMS.parents[2]

Launch = Callable[..., "subprocess.CompletedProcess[str]"]


def _mpiexec() -> str | None:
    """Beside this Python, as pip installs it, or the system's."""
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec")


@pytest.fixture
def launch() -> Launch:
    """launch(program, ranks, *arguments): what it printed, and its status; ends it after five
    minutes."""
    mpiexec = _mpiexec()
    if mpiexec is None or find_spec("mpi4py") is None:
        pytest.skip("needs mpiexec and mpi4py: pip install 'minigrad[mpi]'")

    def run(program: str, ranks: int, *arguments: object) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ, "MINIGRAD_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(_ROOT), "MINIGRAD_COMPILE_AHEAD": "0",
        }  # fmt: skip
        command = [sys.executable, str(_PROGRAMS / f"{program}.py"), *map(str, arguments)]
        if ranks:  # 0: without a launcher
            command = [mpiexec, "-n", str(ranks), *command]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, cwd=_ROOT
        )

    return run


@pytest.fixture
def passes(launch: Launch) -> Callable[..., str]:
    """As launch, for what must succeed; what it printed."""

    def run(program: str, ranks: int, *arguments: object) -> str:
        done = launch(program, ranks, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
