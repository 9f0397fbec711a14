"""Parallel loops: every task once, whoever runs it; forks, the program's threads, its end."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest

import minigrad as mg
from minigrad.kernels.cpu._jit import FASTMATH, kernel
from minigrad.kernels.cpu._rows import add_to
from minigrad.kernels.cpu._tasks import elements, lower_to, tasks, thread, whole
from minigrad.runtime import forks
from minigrad.runtime.threads import ADDRESS, BLOCK, GENERATION, MAX_THREADS

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@kernel
def _count(span, counts, seen, ends, least, busy):
    if whole(span):
        ends[0] += 1 + counts.sum()  # before the first task
    for task in tasks(span, counts.size):
        row = counts[task : task + 1]  # a view, whose owner must not be counted
        for _ in range(busy):
            seen[thread(span), 1] += 1
        seen[thread(span), 0] = 1
        lower_to(least, counts.size - task)
        row[0] += 1
    if whole(span):
        ends[1] += counts.sum()  # after the last


@kernel
def _squares(span, out, input):
    for i in elements(span, out.size):
        out[i] = input[i] * input[i]


@pytest.fixture(autouse=True)
def _same_threads_afterwards() -> Iterator[None]:
    before = mg.get_num_threads()
    yield
    mg.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, MAX_THREADS])
@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 1000, 4097, 100_000])
def test_every_task_runs_once(count: int, threads: int) -> None:
    mg.set_num_threads(threads)
    for repetition in range(1, 4):
        counts, ends = np.zeros(count, np.int64), np.zeros(2, np.int64)
        seen, least = np.zeros((MAX_THREADS, 2), np.int64), np.array([10**9])
        _count(counts, seen, ends, least, 10)
        assert (counts == 1).all(), repetition
        assert ends.tolist() == [1, count]
        assert least[0] == (1 if count else 10**9)
        assert seen[:, 1].sum() == 10 * count
        assert not seen[mg.get_num_threads() :].any()


def test_the_number_of_threads_changes_at_any_time() -> None:
    values = np.arange(1 << 18, dtype=np.float64)
    out = np.empty_like(values)
    for step in range(300):
        mg.set_num_threads(1 + step % MAX_THREADS)
        out[:] = 0
        _squares(out, values)
        np.testing.assert_array_equal(out, values * values)


def test_threads_of_the_program_share_the_workers_and_leave_nothing() -> None:
    values = np.arange(1 << 16, dtype=np.float64)
    mg.set_num_threads(MAX_THREADS)
    _squares(np.empty_like(values), values)  # the workers start
    wrong: list[int] = []

    def use(number: int) -> None:
        out = np.empty_like(values)
        _squares(out, values)
        if not np.array_equal(out, values * values):
            wrong.append(number)

    before = threading.active_count()
    for first in range(0, 1000, 4):
        group = [threading.Thread(target=use, args=(first + k,)) for k in range(4)]
        for each in group:
            each.start()
        for each in group:
            each.join()
    assert not wrong
    assert threading.active_count() == before


def _sum_of_squares(count: int) -> float:
    x = mg.arange(count, dtype=mg.float64)
    return float((x * x).sum().item())


# As a kernel, but compiled anew, because code from the cache cannot be inspected.
@numba.njit(fastmath=FASTMATH, error_model="numpy", nogil=True)
def _limited(span, out, input, high):
    for i in elements(span, out.size):
        out[i] = high if input[i] > high else input[i]


def test_loops_over_elements_are_vectorised() -> None:
    values = np.zeros(10, np.float32)
    _limited(ADDRESS, values, values, np.float32(1))
    (code,) = _limited.inspect_llvm().values()
    assert re.search(r"fcmp [a-z ]*<\d+ x float>", code)
    assert "masked.gather" not in code  # as where an index may be negative


def test_a_helper_that_python_calls_says_that_it_is_for_kernels() -> None:
    with pytest.raises(TypeError, match="add_to: is for kernels to call, not for Python"):
        add_to(np.zeros(3), np.zeros(3))


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_has_workers_of_its_own() -> None:
    mg.set_num_threads(2)
    expected = _sum_of_squares(1 << 17)
    for _ in range(10):
        child = os.fork()
        if child == 0:
            os._exit(0 if _sum_of_squares(1 << 17) == expected else 1)
        _sum_of_squares(1 << 17)
        assert os.waitpid(child, 0)[1] == 0
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(_sum_of_squares, [1 << 17] * 12, chunksize=1) == [expected] * 12


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("lock", forks._locks.values(), ids=[rank.name for rank in forks._locks])
def test_a_fork_while_another_thread_has_a_lock(lock: Any) -> None:
    """The child has none of the locks that the other thread had."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    threading.Timer(0.1, release.set).start()
    child = os.fork()
    if child == 0:
        os._exit(0 if lock.acquire(timeout=1) else 1)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_program_ends_while_workers_wait_and_computes_to_the_last() -> None:
    script = """
import atexit, minigrad as mg
mg.set_num_threads(2)
x = mg.ones(1 << 18)
atexit.register(lambda: print((x + x).sum().item()))
print((x + 1).sum().item())
"""
    assert run(script) == "524288.0\n524288.0\n"


def test_without_threads_the_caller_does_everything() -> None:
    script = """
import threading, minigrad as mg
def start(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
mg.set_num_threads(2)
print((mg.ones(1 << 18) + 1).sum().item(), mg.get_num_threads())
"""
    assert run(script) == "524288.0 1\n"


def test_little_work_of_many_tasks_wakes_no_thread() -> None:
    mg.set_num_threads(2)
    images = mg.randn(2, 3, 6, 6, requires_grad=True)
    F, launches = mg.nn.functional, BLOCK[GENERATION]
    for result in (
        images.sum((2, 3)), images.amax(3), images.cumsum(2), images.prod(3),
        F.max_pool2d(images, 2), F.avg_pool2d(images, 3, 1), F.group_norm(images, 3),
        F.batch_norm(images, None, None, training=True), F.layer_norm(images, (6, 6)),
    ):  # fmt: skip
        result.sum().backward()
    assert BLOCK[GENERATION] == launches
