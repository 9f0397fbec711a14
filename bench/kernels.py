"""Single operations, minigrad beside torch: one row an operation and direction.

    python -m bench.kernels                             # every row, 1 and 2 threads: minutes
    python -m bench.kernels --quick                     # under a minute
    python -m bench.kernels --only "conv.*weight"       # rows whose label matches; also the
                                                        # convolutions of untuned networks
    python -m bench.kernels --record                    # for bench.history

Each engine runs in its own process and they take turns. Before a row is timed, the results of both
on the same inputs are compared: a difference ends the program. Times are medians over all turns.
torch is taken at the best of its layouts, NCHW and channels-last (and of the forms of its
optimizers); --compile adds torch.compile. The ratio is that best over minigrad's time.

Both engines are called at the level of their public functions, with Python's overhead:
- forward is the public function under no_grad;
- gradients come from one graph that is kept: torch.autograd.grad(out, inputs, grad_output,
  retain_graph=True) beside out.backward(grad_output, retain_graph=True) with .grad cleared before.
  Only the inputs that the row is about require gradients, so neither engine computes others;
- forward + backward is the loss and its gradient, the graph made anew each time;
- optimizer steps update the same parameters with the same gradients again and again.
Inputs lie as each engine's layers would have them: minigrad's activations are channels-last. They
are the same in all calls, so what fits in the caches stays there, for both.

GFLOP/s count the products of the textbook definition, GB/s the arrays that must be read or written,
each once. The share sets minigrad's rate against a large sgemm, or a copy of 64 MiB, by torch in
the same turns: it passes 100 % where padding needs no products, or where arrays fit in the caches.

A turn during which other processes used the cores is repeated; a row that found no quiet ones has
no ratio and counts in no mean.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from . import cases, floors
from .engines import COMPILED, EAGER, MINIGRAD
from .history import Entry
from .load import load_note
from .measure import Worker, check, cores, disturbed, geometric_mean, machine, take_turns
from .operation import Case, Pass
from .report import Bar, add_options, finish, thread_counts

# Of the largest magnitude: float32 sums of 100,000 terms in another order stay far below, a wrong
# tap, tie or neighbour far above.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Row:
    """Median seconds of a call by engine, and what follows from them."""

    family: str
    operation: str
    shape: str
    direction: str
    threads: int
    seconds: dict[str, float]
    work: int
    """Floating-point operations or bytes of a call."""
    unit: str
    floor_rate: float
    """Of sgemm or of a copy, in operations or bytes a second."""
    others: float | None = None
    """How many cores other processes used."""
    noise: float = 0.0
    """How far apart the ratios of the turns lie, as a share."""

    @property
    def marked(self) -> bool:
        return disturbed(self.others)

    @property
    def best_torch(self) -> str:
        return min(
            (name for name in self.seconds if name != MINIGRAD), key=self.seconds.__getitem__
        )

    @property
    def ratio(self) -> float:
        return self.seconds[self.best_torch] / self.seconds[MINIGRAD]

    def rate(self, engine: str) -> float:
        """In the row's unit."""
        return self.work / self.seconds[engine] / 1e9

    @property
    def share(self) -> float:
        return self.work / self.seconds[MINIGRAD] / self.floor_rate

    def report(self) -> dict[str, Any]:
        if self.marked:
            return asdict(self)
        rates = {"minigrad": self.rate(MINIGRAD), "torch": self.rate(self.best_torch)}
        return {
            **asdict(self),
            "best_torch": self.best_torch,
            "ratio": self.ratio,
            "rate": rates,
            "share_of_floor": self.share,
        }

    def entry(self) -> Entry:
        label = f"{self.family}: {self.operation}, {self.shape}, {self.direction}"
        return Entry(
            f"{label}, {self.threads} threads", self.seconds[MINIGRAD], self.ratio, self.noise
        )


def measure(
    case: Case, step: Pass, threads: int, ours: Any, theirs: Any, turns: int, budget: float
) -> Row:
    """One row: prepare it in both processes, check, then time in turns.

    `ours` and `theirs` are the Workers of minigrad and of torch.
    """
    label = case.label(step)
    mine = ours.prepare(label=label)[MINIGRAD]
    for name, results in theirs.prepare(label=label, floor=case.bound).items():
        check(label, mine, results, name, TOLERANCE)
    timing = take_turns([ours, theirs], turns, budget)
    seconds = timing.seconds
    floor_rate = floors.WORK[case.bound] / seconds.pop(case.bound)
    noise = timing.noise(MINIGRAD, seconds.keys() - {MINIGRAD})
    return Row(
        case.family, case.name, case.shape, step.name, threads, seconds,
        case.work(step), floors.UNITS[case.bound], floor_rate, timing.others, noise,
    )  # fmt: skip


HEADER = (
    f"{'operation':<38}{'input':<16}{'direction':<19}{'minigrad':>10}{'torch':>10}  "
    f"{'of torch':<22}{'ratio':>7}{'minigrad':>10}{'torch':>8}  {'':<8}{'share':>7}"
)


def line(row: Row) -> str:
    best = row.best_torch
    start = (
        f"{row.operation:<38}{row.shape:<16}{row.direction:<19}"
        f"{row.seconds[MINIGRAD] * 1e3:>10.3f}{row.seconds[best] * 1e3:>10.3f}  "
    )
    if row.marked:
        return f"{start}no ratio: others used {row.others:.2f} cores"
    return start + (
        f"{best.removeprefix('torch '):<22}{row.ratio:>6.2f}×"
        f"{row.rate(MINIGRAD):>10.1f}{row.rate(best):>8.1f}  {row.unit:<8}{row.share:>7.0%}"
    )


def summary(rows: Sequence[Row]) -> str:
    ratios = [row.ratio for row in rows if not row.marked]
    if not ratios:
        return "no row was measured on quiet cores"
    won = sum(ratio >= 1 for ratio in ratios)
    return (
        f"geometric mean {geometric_mean(ratios):.2f}×, lowest {min(ratios):.2f}×, "
        f"at least 1× in {won} of {len(ratios)}"
    )


def selected(only: str | None, quick: bool) -> list[tuple[Case, Pass]]:
    """The rows that the options ask for; --only may name rows that --quick alone leaves out."""
    if only is not None:
        pattern = re.compile(only, re.IGNORECASE)
        return [(case, step) for case, step in cases.rows() if pattern.search(case.label(step))]
    return [
        (case, step) for case, step in cases.rows() if (case.quick if quick else not case.named)
    ]


def run(
    chosen: Sequence[tuple[Case, Pass]],
    threads: int,
    torch_engines: Sequence[str],
    turns: int,
    budget: float,
) -> list[Row]:
    """Measure and print the rows, family by family."""
    rows: list[Row] = []
    with Worker([MINIGRAD], threads) as ours, Worker(torch_engines, threads) as theirs:
        for family in dict.fromkeys(case.family for case, _ in chosen):
            print(f"\n{family}, {threads} thread{'s' if threads > 1 else ''}\n{HEADER}")
            start = len(rows)
            for case, step in chosen:
                if case.family == family:
                    rows.append(measure(case, step, threads, ours, theirs, turns, budget))
                    print(line(rows[-1]), flush=True)
            print(summary(rows[start:]))
    return rows


def means(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The geometric mean of the ratios of each family, by threads."""
    groups: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if row.marked:
            continue
        groups.setdefault((row.family, row.threads), []).append(row.ratio)
    return [
        {"family": family, "threads": threads, "ratio": geometric_mean(ratios)}
        for (family, threads), ratios in groups.items()
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.kernels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    arguments = parser.parse_args(argv)
    turns, budget = (3, 0.02) if arguments.quick else (5, 0.1)
    torch_engines = [*EAGER, *(COMPILED if arguments.compile else [])]
    chosen = selected(arguments.only, arguments.quick)
    if not chosen:
        parser.error(f"no row matches {arguments.only!r}")

    print(f"Operations in ms (median), float32, {machine()}, {cores()} cores; {load_note()}")
    rows = [
        row
        for count in thread_counts(arguments)
        for row in run(chosen, count, torch_engines, turns, budget)
    ]
    print("\nratio: best of torch / minigrad, above 1 is faster than torch")
    print("share: minigrad's rate against a large sgemm (GFLOP/s) or a copy of 64 MiB (GB/s)")
    print(f"all rows: {summary(rows)}")
    quiet = [row for row in rows if not row.marked]
    bars = [
        Bar(r.family, f"{r.operation}, {r.shape}, {r.direction}", r.threads, r.ratio) for r in quiet
    ]
    finish(
        arguments, "kernels", [row.report() for row in rows], means(rows), bars,
        [row.entry() for row in quiet],
    )  # fmt: skip


if __name__ == "__main__":
    main()
