"""Training steps and inference of whole networks, minigrad beside torch.

    python -m bench.steps                          # every network, 1 and 2 threads: a quarter hour
    python -m bench.steps --quick                  # under a minute
    python -m bench.steps --only "inference.*MLP"  # rows whose label matches: KIND, NETWORK, BATCH
    python -m bench.steps --precision high         # float32 products in that precision
    python -m bench.steps --record                 # for bench.history

Each engine runs in its own process and they take turns. Before any timing, what the first steps
give (losses of training, outputs of inference) from the same weights on the same data is compared.
Times are medians over all turns. minigrad is measured as it is, and with its step recorded by
`mg.capture`; the ratios are torch's best eager time (NCHW or channels-last) over these. torch stays
in its default precision. The floor is the time that the step's products (in training: forward and
both gradients of convolutions and linear layers) would take at the rate of a large sgemm in the
same run; minigrad's share of it may pass 100 %, because padding needs no products. Memory is the
peak resident set of a training process, libraries included.

While another process uses the cores, no figure is right: such a turn is repeated, and a row that
found no quiet ones has no ratio and counts in no mean.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from . import floors
from .engines import CAPTURED, COMPILED, EAGER, HIGH, MINIGRAD
from .history import Entry
from .load import load_note
from .measure import (
    Timing,
    Worker,
    check,
    cores,
    disturbed,
    geometric_mean,
    machine,
    take_turns,
)
from .report import Bar, add_options, finish, thread_counts
from .training import JOBS, QUICK, TRAINING, Job, flops

SGEMM = "sgemm"
# Of the largest magnitude. After a few Adam steps float32 rounding has spread; a wrong gradient
# moves the loss far more.
LOSS_TOLERANCE, OUTPUT_TOLERANCE = 2e-3, 1e-3


@dataclass(frozen=True)
class Row:
    """What was measured of a job, and what follows from it."""

    job: Job
    threads: int
    timing: Timing
    floor: float
    """Seconds at the rate of sgemm."""

    @property
    def seconds(self) -> dict[str, float]:
        """Medians by engine."""
        return {name: each for name, each in self.timing.seconds.items() if name != SGEMM}

    @property
    def ours(self) -> list[str]:
        return [name for name in self.seconds if name.startswith(MINIGRAD)]

    @property
    def best_eager(self) -> str:
        return min(EAGER, key=self.seconds.__getitem__)

    @property
    def ratios(self) -> dict[str, float]:
        """By minigrad's engines."""
        seconds = self.seconds
        return {name: seconds[self.best_eager] / seconds[name] for name in self.ours}

    @property
    def ratio_to_compiled(self) -> float | None:
        """Of torch.compile to minigrad as it is, if that was measured."""
        seconds = self.seconds
        compiled = [seconds[engine] for engine in COMPILED if engine in seconds]
        return min(compiled) / seconds[self.ours[0]] if compiled else None

    @property
    def share(self) -> float:
        """How much of the floor's rate minigrad reaches."""
        return self.floor / self.seconds[self.ours[0]]

    @property
    def marked(self) -> bool:
        return disturbed(self.timing.others)

    def report(self) -> dict[str, Any]:
        figures: dict[str, Any] = {
            "kind": self.job.kind, "network": self.job.network, "batch": self.job.batch,
            "threads": self.threads, "seconds": self.seconds,
            "peak_bytes": self.timing.peak_bytes, "floor": self.floor, "others": self.timing.others,
        }  # fmt: skip
        if not self.marked:
            figures |= {"ratios_to_best_eager": self.ratios, "share_of_floor": self.share}
            if self.ratio_to_compiled is not None:
                figures["ratio_to_best_compiled"] = self.ratio_to_compiled
        return figures

    def line(self) -> str:
        seconds = self.seconds
        times = "".join(f"{seconds[name] * 1e3:>{width(name)}.2f}" for name in seconds)
        start = f"{self.job.network:<15}{self.job.batch:>5}{self.threads:>8}{times}"
        if self.marked:
            return f"{start}   no ratio: others used {self.timing.others:.2f} cores"
        ratios = "".join(f"{ratio:>9.2f}×" for ratio in self.ratios.values())
        memory = "".join(
            f"{self.timing.peak_bytes[name] / 2**20:>7.0f}"
            for name in (self.ours[0], self.best_eager)
            if self.job.kind == TRAINING
        )
        return f"{start}{ratios}{self.share:>9.0%}{memory}"

    def bars(self) -> list[Bar]:
        what = f"{self.job.network}, batch {self.job.batch}"
        return [
            Bar(self.job.kind, what + name.removeprefix(MINIGRAD), self.threads, ratio)
            for name, ratio in self.ratios.items()
        ]

    def entries(self) -> list[Entry]:
        label = f"{self.job.label}, {self.threads} threads"
        return [
            Entry(f"{label}, {name}", self.seconds[name], ratio,
                  self.timing.noise(name, EAGER))
            for name, ratio in self.ratios.items()
        ]  # fmt: skip


def width(engine: str) -> int:
    return max(10, len(engine) + 2)


def header(engines: Sequence[str]) -> str:
    names = "".join(f"{engine:>{width(engine)}}" for engine in engines)
    ours = [engine for engine in engines if engine.startswith(MINIGRAD)]
    ratios = "".join(f"{engine.removeprefix(MINIGRAD).strip() or 'ratio':>10}" for engine in ours)
    return (
        f"{'network':<15}{'batch':>5}{'threads':>8}{names}{ratios}{'of floor':>9}    MiB, torch's"
    )


def means(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Geometric means of the ratios, by kind, threads and minigrad's engine."""
    groups: dict[tuple[str, int, str], list[float]] = {}
    for row in rows:
        for name, ratio in row.ratios.items() if not row.marked else ():
            groups.setdefault((row.job.kind, row.threads, name), []).append(ratio)
    return [
        {"kind": kind, "threads": threads, "engine": name, "rows": len(ratios),
         "lowest": min(ratios), "ratio": geometric_mean(ratios)}
        for (kind, threads, name), ratios in groups.items()
    ]  # fmt: skip


def measure(
    job: Job, threads: int, workers: dict[str, Any], floor: Any, turns: int, budget: float
) -> Row:
    """Check the results of the first steps, then time the engines in turns."""
    request = {"kind": job.kind, "network": job.network, "batch": job.batch}
    results = {name: worker.prepare(**request)[name] for name, worker in workers.items()}
    training = job.kind == TRAINING
    what = f"{job.label}, {'losses' if training else 'outputs'} of the first steps"
    tolerance = LOSS_TOLERANCE if training else OUTPUT_TOLERANCE
    first = next(iter(results))
    for name in results:
        check(what, results[first], results[name], name, tolerance)
    floor.prepare(floor=SGEMM)
    timing = take_turns([*workers.values(), floor], turns, budget)
    rate = floors.WORK[SGEMM] / timing.seconds[SGEMM]
    return Row(job, threads, timing, flops(job.kind, job.network, job.batch) / rate)


def run(
    jobs: Sequence[Job], threads: int, engines: Sequence[str], turns: int, budget: float
) -> list[Row]:
    """Measure and print the rows."""
    rows = []
    # Training steps have processes of their own, whose peak of memory is theirs.
    groups = [[job] for job in jobs if job.kind == TRAINING]
    groups.append([job for job in jobs if job.kind != TRAINING])
    with Worker([], threads) as floor:
        for group in filter(None, groups):
            with ExitStack() as stack:
                workers = {name: stack.enter_context(Worker([name], threads)) for name in engines}
                for job in group:
                    if not rows or rows[-1].job.kind != job.kind:
                        print(f"\n{job.kind}, ms\n{header(engines)}")
                    rows.append(measure(job, threads, workers, floor, turns, budget))
                    print(rows[-1].line(), flush=True)
    return rows


def selected(only: str | None, quick: bool) -> list[Job]:
    """The rows that the options ask for; --only may name rows that a full run leaves out."""
    if only is not None:
        return [job for job in JOBS if re.search(only, job.label, re.IGNORECASE)]
    return QUICK if quick else [job for job in JOBS if not job.named]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.steps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    parser.add_argument("--precision", nargs="+", choices=("highest", "high"), default=["highest"])
    arguments = parser.parse_args(argv)
    jobs = selected(arguments.only, arguments.quick)
    if not jobs:
        parser.error(f"no row matches {arguments.only!r}")
    turns, budget = (3, 0.1) if arguments.quick else (5, 0.2)
    endings = [HIGH if precision == "high" else "" for precision in arguments.precision]
    engines = [name + ending for ending in endings for name in (MINIGRAD, CAPTURED)]
    engines += [*EAGER, *(COMPILED if arguments.compile else [])]

    print(f"Steps, float32, {machine()}, {cores()} cores; {load_note()}")
    rows = [
        row
        for count in thread_counts(arguments)
        for row in run(jobs, count, engines, turns, budget)
    ]
    print("\nratio: best torch eager / minigrad, above 1 is faster than torch")
    print("of floor: time of the step's products at the rate of a large sgemm / minigrad")
    for mean in means(rows):
        print(
            f"{mean['kind']}, {mean['threads']} threads, {mean['engine']}: geometric mean of "
            f"{mean['rows']} rows {mean['ratio']:.2f}×, lowest {mean['lowest']:.2f}×"
        )
    finish(
        arguments,
        "steps",
        [row.report() for row in rows],
        means(rows),
        [bar for row in rows if not row.marked for bar in row.bars()],
        [entry for row in rows if not row.marked for entry in row.entries()],
    )  # fmt: skip


if __name__ == "__main__":
    main()
