"""Processes that take turns, the check of their results, and the figures that follow.

Nothing here imports an engine.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

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


def take_turns(
    workers: Sequence[Any], turns: int, budget: float
) -> tuple[dict[str, float], dict[str, int]]:
    """Median seconds of a call and peak memory, by name.

    The workers time what they prepared for about `budget` seconds each, one after the other,
    `turns` times; a turn before these warms up.
    """
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, int] = {}
    for turn in range(turns + 1):
        for worker in workers:
            answer = worker.ask(budget=budget if turn else budget / 2)
            for name, measured in answer["seconds"].items():
                if turn:
                    seconds.setdefault(name, []).extend(measured)
                peaks[name] = answer["peak_bytes"]
    return {name: statistics.median(each) for name, each in seconds.items()}, peaks


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
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
