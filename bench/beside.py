"""A training step while another process keeps one core busy: two threads against one.

    python -m bench.beside            # a minute

A program that shares its step among two threads must not wait for the one whose core is taken, so
two threads should need hardly longer than one. Means count here, and the longest step: a median
hides waiting. The engines do not run at the same time.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from .engines import EAGER, MINIGRAD
from .history import Entry, record
from .load import load_note
from .measure import Timing, Worker, cores, disturbed, machine, take_turns
from .training import TRAINING, Job

JOBS = [Job(TRAINING, "MNIST fixed", 16), Job(TRAINING, "CIFAR B", 64)]
TURNS, BUDGET = 5, 0.5


# Ends with its parent, even if that is killed.
_BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


@contextmanager
def busy_core() -> Iterator[int]:
    """A process that computes all the time; its number."""
    process = subprocess.Popen([sys.executable, "-c", _BUSY])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def calls(timing: Timing, engine: str) -> list[float]:
    return list(itertools.chain(*(each[engine] for each in timing.rounds)))


@dataclass(frozen=True)
class Row:
    """Seconds of every step, by threads, and how many cores yet others used."""

    job: Job
    engine: str
    seconds: dict[int, list[float]]
    others: float | None

    @property
    def slowdown(self) -> float:
        """The mean step of two threads over that of one."""
        return statistics.fmean(self.seconds[2]) / statistics.fmean(self.seconds[1])

    def line(self) -> str:
        start = f"{self.job.network:<14}{self.job.batch:>5}  {self.engine:<12}" + "".join(
            f"{statistics.fmean(each) * 1e3:>12.2f}{max(each) * 1e3:>10.2f}"
            for each in self.seconds.values()
        )
        if disturbed(self.others):
            return f"{start}   no ratio: yet others used {self.others:.2f} cores"
        return f"{start}{self.slowdown:>9.2f}×"


def measure(job: Job, engine: str, busy: int) -> Row:
    timings = {}
    for threads in (1, 2):
        with Worker([engine], threads) as worker:
            worker.prepare(kind=job.kind, network=job.network, batch=job.batch)
            timings[threads] = take_turns([worker], TURNS, BUDGET, own=[busy])
    others = [timing.others for timing in timings.values() if timing.others is not None]
    seconds = {threads: calls(timing, engine) for threads, timing in timings.items()}
    return Row(job, engine, seconds, max(others, default=None))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.beside",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--record", action="store_true", help="add a line to bench.history's file")
    arguments = parser.parse_args(argv)
    if cores() < 2:
        parser.error("needs two cores")
    print(f"Training steps beside a busy core, ms, {machine()}, {cores()} cores; {load_note()}")
    print(
        f"{'network':<14}{'batch':>5}  {'engine':<12}{'one thread':>12}{'longest':>10}"
        f"{'two threads':>12}{'longest':>10}{'two / one':>10}"
    )
    rows = []
    with busy_core() as busy:
        for job, engine in itertools.product(JOBS, (MINIGRAD, EAGER[0])):
            rows.append(measure(job, engine, busy))
            print(rows[-1].line(), flush=True)
    if arguments.record:
        kept = [row for row in rows if row.engine == MINIGRAD and not disturbed(row.others)]
        record(
            "beside",
            [
                Entry(row.job.label, statistics.fmean(row.seconds[2]), 1 / row.slowdown)
                for row in kept
            ],
        )


if __name__ == "__main__":
    main()
