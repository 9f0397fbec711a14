"""Training steps (forward, backward, Adam) of the example networks, minigrad beside torch.

    python -m bench.steps                 # every network, 1 and 2 threads
    python -m bench.steps --quick         # under a minute

Each engine runs in its own process and they take turns. Before any timing, the losses of the first
steps from the same weights on the same data are compared. Times are medians over all turns; the
ratio is torch's best eager time (NCHW or channels-last) over minigrad's. The floor is the time that
the step's products (forward and both gradients of convolutions and linear layers) would take at the
rate of a large sgemm in the same run; minigrad's share of it may pass 100 %, because padding needs
no products.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .worker import SGEMM_SIZE, step_flops

CONFIGURATIONS = [
    ("MNIST fixed", 16),
    ("MNIST fixed", 128),
    ("CIFAR A", 64),
    ("CIFAR B", 64),
]
EAGER = ("torch nchw", "torch channels_last")
SGEMM = "sgemm"
CHECKED_STEPS = 3
# After three Adam steps float32 rounding has spread; a wrong gradient moves the loss far more.
LOSS_TOLERANCE = 2e-3


class Worker:
    """A process that trains one engine when told to."""

    def __init__(self, engine: str, network: str, batch: int, threads: int) -> None:
        settings = {"engine": engine, "network": network, "batch": batch, "threads": threads}
        self.engine = engine
        self.seconds: list[float] = []
        self.steps = 0  # in one turn
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, steps: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"steps": steps}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the {self.engine} process ended: see its message above")
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


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
        return self.seconds[self.best_eager] / self.seconds["minigrad"]

    @property
    def share(self) -> float:
        """How much of the floor's rate minigrad reaches."""
        return self.floor / self.seconds["minigrad"]


def measure(
    network: str, batch: int, threads: int, engines: list[str], turns: int, budget: float
) -> Row:
    """Check the losses, then time the engines in turns of about `budget` seconds each."""
    workers = [Worker(engine, network, batch, threads) for engine in (*engines, SGEMM)]
    first = {
        worker.engine: worker.run(CHECKED_STEPS)["losses"]
        for worker in workers
        if worker.engine != SGEMM
    }
    for engine, losses in first.items():
        for ours, theirs in zip(first["minigrad"], losses, strict=True):
            if abs(ours - theirs) > LOSS_TOLERANCE * max(1.0, abs(theirs)):
                raise SystemExit(
                    f"{network}, batch {batch}: losses differ, minigrad {first['minigrad']}, "
                    f"{engine} {losses}"
                )
    peaks = {}
    for worker in workers:
        warm = worker.run(5)["seconds"]
        worker.steps = max(3, round(budget / statistics.median(warm)))
    for _ in range(turns):
        for worker in workers:
            answer = worker.run(worker.steps)
            worker.seconds += answer["seconds"]
            peaks[worker.engine] = answer["peak_bytes"]
    for worker in workers:
        worker.close()
    medians = {worker.engine: statistics.median(worker.seconds) for worker in workers}
    rate = 2 * SGEMM_SIZE**3 / medians.pop(SGEMM)
    del peaks[SGEMM]
    return Row(network, batch, threads, medians, peaks, step_flops(network, batch) / rate)


def machine() -> str:
    """The processor, as the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer turns, 2 threads only")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--threads", type=int, nargs="+", help="thread counts (default: 1 2)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    threads = arguments.threads or ([2] if arguments.quick else [1, 2])
    turns, budget = (3, 0.2) if arguments.quick else (8, 0.5)
    engines = ["minigrad", *EAGER, *(["torch compile"] if arguments.compile else [])]

    print(f"Training step in ms (median), {machine()}")
    names = "  ".join(f"{engine:>19}" for engine in engines)
    print(f"{'network':<12} {'batch':>5} {'threads':>7}  {names}  {'ratio':>6}  {'of floor':>8}")
    rows = []
    for count in threads:
        for network, batch in CONFIGURATIONS:
            row = measure(network, batch, count, engines, turns, budget)
            times = "  ".join(f"{row.seconds[engine] * 1e3:19.2f}" for engine in engines)
            print(
                f"{network:<12} {batch:>5} {count:>7}  {times}  {row.ratio:5.2f}×  "
                f"{row.share:7.0%}",
                flush=True,
            )
            rows.append(
                {**asdict(row), "ratio_to_best_eager": row.ratio, "share_of_floor": row.share}
            )
    print("ratio: best torch eager / minigrad, above 1 is faster than torch")
    print("of floor: time of the step's products at the rate of a large sgemm / minigrad")
    if arguments.json:
        report = {"machine": machine(), "python": platform.python_version(), "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
