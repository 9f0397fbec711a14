"""Processes that take turns, the check of their results, and the figures that follow.

Nothing here imports an engine.
"""

from __future__ import annotations

import itertools
import json
import math
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from .load import LIMIT, Watch, allowed_cores

ROOT = Path(__file__).resolve().parents[1]


class Worker:
    """A process of `bench.worker` with one or several engines."""

    def __init__(self, engines: Sequence[str], threads: int) -> None:
        self.engines = tuple(engines)
        settings = {"engines": self.engines, "threads": threads}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.pid = self.process.pid

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            names = " and ".join(self.engines) or "floor"
            raise SystemExit(f"the {names} process ended at {request}: see its message above")
        return json.loads(answer)

    def prepare(self, **request: Any) -> dict[str, list[np.ndarray]]:
        """Build what the request names; returns the results of its first calls, by name."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "results.npz"
            saved = self.ask(save=str(path), **request)["saved"]
            if not saved:
                return {}
            with np.load(path) as arrays:
                return {
                    name: [arrays[f"{name} {index}"] for index in range(count)]
                    for name, count in saved.items()
                }

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@dataclass(frozen=True)
class Timing:
    """What some rounds of turns gave."""

    rounds: list[dict[str, list[float]]]
    """Seconds of each call by name."""
    peak_bytes: dict[str, int]
    others: float | None
    """How many cores other processes used, in the round in which they used most; None: unknown."""

    @property
    def seconds(self) -> dict[str, float]:
        """Medians over all calls."""
        return {
            name: statistics.median(itertools.chain(*(each[name] for each in self.rounds)))
            for name in self.rounds[0]
        }

    def noise(self, ours: str, theirs: Collection[str]) -> float:
        """How far apart the rounds' ratios lie, of the best of `theirs` to `ours`: the middle half,
        as a share of the median."""
        medians = [{n: statistics.median(s) for n, s in each.items()} for each in self.rounds]
        ratios = [min(each[name] for name in theirs) / each[ours] for each in medians]
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        return float((high - low) / middle)


def disturbed(others: float | None) -> bool:
    """Whether other processes used so much of the cores that a figure says nothing."""
    return others is not None and others > LIMIT


def take_turns(
    workers: Sequence[Any], turns: int, budget: float, own: Collection[int] = ()
) -> Timing:
    """The workers time what they prepared for about `budget` seconds each, one after the other, in
    `turns` rounds; a round before these warms up.

    Rounds in which other processes used the cores are repeated, up to `turns` times, unless none
    was quiet. Where that does not help, the quietest are taken, and `others` says so.
    own: processes that are not others.
    """
    peaks: dict[str, int] = {}
    rounds: list[tuple[float | None, dict[str, list[float]]]] = []
    pids = {*own, *(worker.pid for worker in workers)}

    def one_round(budget: float) -> dict[str, list[float]]:
        seconds = {}
        for worker in workers:
            answer = worker.ask(budget=budget)
            seconds |= answer["seconds"]
            peaks.update(dict.fromkeys(answer["seconds"], answer["peak_bytes"]))
        return seconds

    one_round(budget / 2)
    while len(rounds) < 2 * turns:
        watch = Watch(pids)
        measured = one_round(budget)
        rounds.append((watch.others(), measured))
        quiet = sum(not disturbed(others) for others, _ in rounds)
        if quiet == turns or (len(rounds) == turns and not quiet):
            break
    rounds.sort(key=lambda each: each[0] or 0.0)
    quietest = rounds[:turns]
    return Timing([measured for _, measured in quietest], peaks, quietest[-1][0])


def check(
    what: str, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], name: str, tolerance: float
) -> None:
    """End the program if minigrad's results are not those of the engine `name`.

    They may differ by `tolerance` times the largest magnitude of each array.
    """
    if len(ours) != len(theirs):
        raise SystemExit(f"{what}: minigrad gives {len(ours)} results, {name} {len(theirs)}")
    for index, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        if our.shape != their.shape or our.dtype != their.dtype:
            raise SystemExit(
                f"{what}: result {index} is {our.dtype} {our.shape} in minigrad, "
                f"{their.dtype} {their.shape} in {name}"
            )
        if not their.size:
            continue
        scale = float(np.abs(their).max())
        error = float(np.abs(our - their).max())
        if not error <= tolerance * scale:  # NaN is refused too
            raise SystemExit(
                f"{what}: result {index} of minigrad and {name} differ by {error:.3g}, more than "
                f"{tolerance:g} of its largest magnitude {scale:.3g}"
            )


def geometric_mean(ratios: Iterable[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, ratios)))


def cores() -> int:
    return len(allowed_cores())


def machine() -> str:
    """The processor, as the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def conditions() -> dict[str, Any]:
    """What a report says about where and with what it was made."""
    versions = {}
    for package in ("numpy", "numba", "torch"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "machine": machine(),
        "cores": cores(),
        "python": platform.python_version(),
        "versions": versions,
        "dtype": "float32",
    }
