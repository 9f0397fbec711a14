"""How long a program takes to its first training step: with an empty cache of compiled kernels, and
with the cache that the first program leaves.

    python -m bench.start             # two minutes
    python -m bench.start --quick     # without README's command

Each row is a process of its own, from its start to its end: seconds on the clock, and of all cores.
The second process must compile nothing: its row counts the files that it added to the cache.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .history import Entry, record
from .load import Watch, load_note
from .measure import ROOT, cores, disturbed, machine

REPEATS = 3  # of what is warm
_STEP = """
import {package} as lib
from examples.networks import cifar

lib.set_num_threads({threads})
model = cifar(lib.nn, batch_norm=True)
optimizer = lib.optim.Adam(model.parameters(), lr=1e-3)
images, labels = lib.randn(64, 3, 32, 32), lib.randint(0, 10, (64,))
loss = lib.nn.functional.cross_entropy(model(images), labels)
loss.backward()
optimizer.step()
loss.item()
"""


@dataclass(frozen=True)
class Row:
    """A process: medians over `runs` of it."""

    label: str
    seconds: float
    cpu_seconds: float
    runs: int
    compiled: int
    """Files that it added to the cache."""
    others: float | None

    def line(self) -> str:
        start = f"{self.label:<58}{self.seconds:>9.2f}{self.cpu_seconds:>9.2f}{self.compiled:>10}"
        if disturbed(self.others):
            return f"{start}   not a result: others used {self.others:.2f} cores"
        return start


def files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def measure(label: str, arguments: Sequence[str], cache: Path, runs: int = 1) -> Row:
    """Run Python with these arguments and this cache of kernels."""
    own = {"MINIGRAD_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    figures, others, before = [], [], files(cache)
    for _ in range(runs):
        # A process that has ended is not seen any more, so what it used is subtracted here.
        watch, used = Watch([]), resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | own,
            check=True,
            capture_output=True,
        )
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
        figures.append((seconds, cpu))
        all_used = watch.others()
        others.append(None if all_used is None else max(0.0, all_used - cpu / seconds))
    seconds, cpu = (statistics.median(each) for each in zip(*figures, strict=True))
    worst = max((each for each in others if each is not None), default=None)
    return Row(label, seconds, cpu, runs, files(cache) - before, worst)


def rows(quick: bool, work: Path) -> list[Row]:
    """Measure and print them."""
    measured = []

    def row(label: str, arguments: Sequence[str], cache: str, runs: int = 1) -> None:
        (work / cache).mkdir(exist_ok=True)
        measured.append(measure(label, arguments, work / cache, runs))
        print(measured[-1].line(), flush=True)

    ours, theirs = (
        ["-c", _STEP.format(package=package, threads=min(2, cores()))]
        for package in ("minigrad", "torch")
    )
    row("CIFAR B 64, first step, empty cache", ours, "cache")
    row("CIFAR B 64, first step, second process", ours, "cache", REPEATS)
    row("CIFAR B 64, first step, torch", theirs, "cache", REPEATS)
    row("import minigrad", ["-c", "import minigrad"], "cache", REPEATS)
    if not quick:
        command = ["examples/train_mnist.py", "--out", str(work / "run")]
        row("README's first command, installed, empty cache", command, "readme")
    return measured


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.start",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="without README's command")
    parser.add_argument("--record", action="store_true", help="add a line to bench.history's file")
    arguments = parser.parse_args(argv)
    print(f"From start to end of a process, s, {machine()}, {cores()} cores; {load_note()}")
    print(f"{'':<58}{'clock':>9}{'cores':>9}{'compiled':>10}")
    with tempfile.TemporaryDirectory() as work:
        measured = rows(arguments.quick, Path(work))
    if arguments.record:
        kept = [row for row in measured if not disturbed(row.others)]
        record("start", [Entry(row.label, row.seconds) for row in kept])


if __name__ == "__main__":
    main()
