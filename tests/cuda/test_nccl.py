"""The NCCL transport: two processes, each with an emulated GPU, and a stand-in for the library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from minigrad.testing import ptx

_PROGRAM = Path(__file__).with_name("nccl_ranks.py")


def test_tensors_of_gpus_go_through_nccl_and_gradients_are_those_of_one_process() -> None:
    if not ptx.installed():
        pytest.skip("emulates GPUs of its own, with MINIGRAD_EMULATED_GPU=1")
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None or find_spec("mpi4py") is None:
        pytest.skip("needs mpiexec and mpi4py: pip install 'minigrad[mpi]'")
    environment = {
        **os.environ, "PYTHONPATH": str(_PROGRAM.parents[2]), "MINIGRAD_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [mpiexec, "-n", "2", sys.executable, str(_PROGRAM)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
