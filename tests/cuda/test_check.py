"""The check that compiles kernels without a GPU finds what could not start on one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad.kernels.cuda._device import cuda
from minigrad.kernels.cuda._launch import Kernel, kernel
from minigrad.kernels.cuda.check import Launch, inspect

ROOT = Path(__file__).resolve().parents[2]
POOL = ["float64*"] * 3 + ["uint8*"] + ["float64*"] * 6 + ["boolean"] + ["int32"] * 20


def _check(folder: Path, **launch: Any) -> subprocess.CompletedProcess[str]:
    (folder / "1.jsonl").write_text(json.dumps(launch) + "\n")
    return subprocess.run(
        [sys.executable, "-m", "minigrad.kernels.cuda.check", str(folder), "--jobs", "1"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(("threads", "fits"), [(256, True), (1024, False)])
def test_a_block_must_have_registers_for_all_its_threads(
    tmp_path, threads: int, fits: bool
) -> None:
    done = _check(
        tmp_path, module="norm_pool", name="_backward_input", dtype="float64",
        constants=[256, 64], types=POOL, threads=threads,
    )  # fmt: skip
    assert (done.returncode == 0) is fits, done.stdout + done.stderr
    assert ("registers in each of 1024 threads" in done.stdout) is not fits


def test_a_folder_without_launches_is_refused(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "minigrad.kernels.cuda.check", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "has no launches" in done.stderr


def test_the_forms_for_large_arrays_are_checked_too(tmp_path) -> None:
    done = _check(
        tmp_path, module="norm_pool", name="_backward_input", dtype="float32",
        constants=[256, 32], types=[name.replace("float64*", "float32*") if at else name
        for at, name in enumerate(POOL)], threads=256,
    )  # fmt: skip
    assert "3 kernels compiled, 0 at fault" in done.stdout, done.stderr


@kernel
def _line_of(real, bits):
    index = np.int32 if bits == 32 else np.int64

    def line_of(out, n, width):
        # Numba's own division is of 64 bits.
        i = cuda.grid(1)
        if i < n:
            out[i] = real(index(i // width))

    return line_of


class _Launch(Launch):
    @property
    def kernel(self) -> Kernel:
        return _line_of


@pytest.mark.parametrize(
    ("bits", "number", "dtype", "passes"),
    [(32, "int32", "float32", False), (64, "int32", "float32", True),
     (32, "int64", "float32", True), (32, "int32", "int64", True)],
)  # fmt: skip
def test_divisions_are_as_narrow_as_the_integers(bits, number, dtype, passes) -> None:
    types = (f"{dtype}*", number, number)
    report = inspect(_Launch("", "", dtype, (bits,), types, 256), 90)
    assert report.fault.startswith("divides in 64 bits") is not passes
    assert bool(report.fault) is not passes
