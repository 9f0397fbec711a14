"""Training steps (forward, backward, Adam) of the example networks, minigrad beside torch.

    python -m bench.steps                 # every network, 1 and 2 threads
    python -m bench.steps --quick         # under a minute

Each engine runs in its own process and they take turns. Before any timing, the losses of the first
steps from the same weights on the same data are compared. Times are medians over all turns; the
ratio is torch's best eager time (NCHW or channels-last) over minigrad's. The floor is the time that
the step's products (forward and both gradients of convolutions and linear layers) would take at the
rate of a large sgemm in the same run; minigrad's share of it may pass 100 %, because padding needs
no products. Memory is the peak resident set of a process, libraries included.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import floors
from .engines import COMPILED, EAGER, MINIGRAD
from .measure import Worker, check, cores, machine, take_turns
from .report import Bar, compiled_variants, write_chart, write_json
from .training import CONFIGURATIONS, QUICK, step_flops

SGEMM = "sgemm"
# After three Adam steps float32 rounding has spread; a wrong gradient moves the loss far more.
LOSS_TOLERANCE = 2e-3


@dataclass
class Row:
    """Median seconds of a step by engine, and what follows from them."""

    network: str
    batch: int
    threads: int
    seconds: dict[str, float]
    peak_bytes: dict[str, int]
    floor: float
    """Seconds at the rate of sgemm."""

    @property
    def best_eager(self) -> str:
        return min(EAGER, key=lambda engine: self.seconds[engine])

    @property
    def ratio(self) -> float:
        return self.seconds[self.best_eager] / self.seconds[MINIGRAD]

    @property
    def ratio_to_compiled(self) -> float | None:
        """The same against torch.compile, if that was measured."""
        compiled = [self.seconds[engine] for engine in COMPILED if engine in self.seconds]
        return min(compiled) / self.seconds[MINIGRAD] if compiled else None

    @property
    def share(self) -> float:
        """How much of the floor's rate minigrad reaches."""
        return self.floor / self.seconds[MINIGRAD]

    def report(self) -> dict[str, Any]:
        ratios = {"ratio_to_best_eager": self.ratio, "share_of_floor": self.share}
        if self.ratio_to_compiled is not None:
            ratios["ratio_to_best_compiled"] = self.ratio_to_compiled
        return {**asdict(self), **ratios}


def measure(
    network: str, batch: int, threads: int, engines: Sequence[str], turns: int, budget: float
) -> Row:
    """Check the losses, then time the engines in turns of about `budget` seconds each."""
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker([name], threads)) for name in engines}
        floor = stack.enter_context(Worker([], threads))
        losses = {
            name: worker.prepare(network=network, batch=batch)[name]
            for name, worker in workers.items()
        }
        for name in engines:
            what = f"{network}, batch {batch}, losses of the first steps"
            check(what, losses[MINIGRAD], losses[name], name, LOSS_TOLERANCE)
        floor.prepare(floor=SGEMM)
        medians, peaks = take_turns([*workers.values(), floor], turns, budget)
    rate = floors.WORK[SGEMM] / medians.pop(SGEMM)
    del peaks[SGEMM]
    return Row(network, batch, threads, medians, peaks, step_flops(network, batch) / rate)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.steps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer networks, 2 threads only")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--threads", type=int, nargs="+", help="thread counts (default: 1 2)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--png", type=Path, help="draw the ratios to torch's best eager time")
    arguments = parser.parse_args(argv)
    most = min(2, cores())
    threads = arguments.threads or ([most] if arguments.quick else sorted({1, most}))
    turns, budget = (3, 0.2) if arguments.quick else (8, 0.5)
    engines = [MINIGRAD, *EAGER, *(COMPILED if arguments.compile else [])]

    print(f"Training step in ms (median), {machine()}")
    names = "  ".join(f"{engine:>19}" for engine in engines)
    print(
        f"{'network':<12} {'batch':>5} {'threads':>7}  {names}  {'ratio':>6}  {'of floor':>8}  "
        f"{'minigrad MiB':>12}  {'torch MiB':>9}"
    )
    rows = []
    for count in threads:
        for network, batch in QUICK if arguments.quick else CONFIGURATIONS:
            row = measure(network, batch, count, engines, turns, budget)
            times = "  ".join(
                f"{row.seconds[engine] * 1e3:{max(19, len(engine))}.2f}" for engine in engines
            )
            mine, theirs = (row.peak_bytes[name] / 2**20 for name in (MINIGRAD, row.best_eager))
            print(
                f"{network:<12} {batch:>5} {count:>7}  {times}  {row.ratio:5.2f}×  "
                f"{row.share:7.0%}  {mine:>12.0f}  {theirs:>9.0f}",
                flush=True,
            )
            rows.append(row)
    print("ratio: best torch eager / minigrad, above 1 is faster than torch")
    print("of floor: time of the step's products at the rate of a large sgemm / minigrad")
    print("MiB: peak resident set of minigrad's process and of the best eager torch's")
    variants = compiled_variants()
    if arguments.json:
        write_json(arguments.json, rows=[row.report() for row in rows], **variants)
    if arguments.png:
        bars = [
            Bar("training step", f"{row.network}, batch {row.batch}", row.threads, row.ratio)
            for row in rows
        ]
        write_chart(arguments.png, f"minigrad beside eager torch, {machine()}", bars)


if __name__ == "__main__":
    main()
