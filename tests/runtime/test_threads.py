"""Who decides on the number of threads, and who must not start any."""

from __future__ import annotations

import ast
import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import data
from minigrad.device import default_num_threads
from minigrad.errors import DeviceError
from minigrad.runtime import threads

PACKAGE = Path(mg.__file__).parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("own", "openmp", "expected"),
    [
        ("3", None, 3),
        ("3", "1", 3),
        (None, "1", 1),
        (None, "5,2", 5),
        ("", "1", 1),
        (None, None, CORES),
        (None, "many", CORES),
        (None, "0", CORES),
        (None, "", CORES),
    ],
)
def test_the_environment_decides_on_the_threads_at_the_start(
    monkeypatch: Any, own: str | None, openmp: str | None, expected: int
) -> None:
    for name, value in (("MINIGRAD_NUM_THREADS", own), ("OMP_NUM_THREADS", openmp)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert default_num_threads() == expected


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_a_bad_environment_variable_is_an_error(monkeypatch: Any, value: str) -> None:
    monkeypatch.setenv("MINIGRAD_NUM_THREADS", value)
    with pytest.raises(DeviceError, match="MINIGRAD_NUM_THREADS must be a positive integer, got"):
        default_num_threads()


def test_the_environment_variable_holds_for_a_program_that_never_asks() -> None:
    script = "import minigrad as mg; mg.ones(3); print(mg.get_num_threads())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True,
        env={**os.environ, "MINIGRAD_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout == "1\n", done.stderr


def test_set_num_threads_takes_positive_ints_up_to_the_number_of_cores() -> None:
    before = mg.get_num_threads()
    try:
        mg.set_num_threads(1)
        assert mg.get_num_threads() == 1
        mg.set_num_threads(10_000)
        assert 1 <= mg.get_num_threads() < 10_000
        for count in (0, -1, 1.0, "2", None):
            with pytest.raises((TypeError, ValueError), match="count must be "):
                mg.set_num_threads(count)  # type: ignore[arg-type]
    finally:
        mg.set_num_threads(before)


@pytest.fixture
def launching(monkeypatch: Any) -> Iterator[list[threading.Thread]]:
    """The threads that asked for workers; they get none."""
    asked: list[threading.Thread] = []

    def launch(*_: int) -> int:
        asked.append(threading.current_thread())
        return 0

    mg.ones(1)  # imports the kernels
    callback = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)(launch)
    before = threads.BLOCK[[threads.LAUNCH, threads.THREADS]]
    threads.BLOCK[[threads.LAUNCH, threads.THREADS]] = (
        ctypes.cast(callback, ctypes.c_void_p).value,
        2,
    )
    yield asked
    threads.BLOCK[[threads.LAUNCH, threads.THREADS]] = before


@pytest.mark.parametrize(
    "transform", [[data.RandomCrop(28, padding=2)], [data.RandomRotation(10)], []]
)
def test_the_loaders_thread_leaves_the_workers_to_the_training_step(
    launching: list[threading.Thread], transform: Any
) -> None:
    pixels, labels = np.zeros((1200, 28, 28, 1), np.uint8), np.zeros(1200, np.int64)
    images = data.ArrayDataset(pixels, labels)
    for prefetch in (0, 2):
        for batch, _ in data.DataLoader(images, 600, transform=transform, prefetch=prefetch):
            assert batch.shape == (600, 1, 28, 28)
        assert set(launching) == {threading.main_thread()}


# NumPy functions that call BLAS, whose threads would take cores from the kernels'.
BLAS = {
    "convolve", "correlate", "dot", "einsum", "inner", "kron", "linalg", "matmul", "matvec",
    "outer", "tensordot", "vdot", "vecdot", "vecmat",
}  # fmt: skip
ALLOWED = {
    "data/datasets.py": "the mean and deviation of a whole set of images, once",
    "nn/init.py": "the QR decomposition behind orthogonal_, once a parameter",
    "data/transforms.py": "2 × 2 matrices, for which BLAS starts no threads",
    "linalg.py": "the eigenvectors of matrices, asked for by name",
    "vision/transforms/classes.py": "the product of two tensors",
    "vision/transforms/functional.py": "4 corners, 8 equations: BLAS starts no threads",
}


def calls_blas(node: ast.AST) -> bool:
    if isinstance(node, (ast.BinOp, ast.AugAssign)):
        return isinstance(node.op, ast.MatMult)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id in ("np", "numpy") and node.attr in BLAS
    return isinstance(node, ast.Attribute) and node.attr == "dot"


def test_nothing_in_a_training_step_calls_blas() -> None:
    assert calls_blas(ast.parse("a @ b").body[0].value)  # type: ignore[attr-defined]
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(map(calls_blas, ast.walk(ast.parse(path.read_text()))))
    }
    # The oracle compares with NumPy and torch, in float64.
    assert {name for name in found if not name.startswith("testing/")} == set(ALLOWED)
