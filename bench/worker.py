"""A process that runs one engine's part of a benchmark when it is told to.

minigrad and torch bring an OpenMP runtime each, and two of them in one process spin on each
other's cores. So every engine has its own process, and the parent (`bench.measure.Worker`) lets one
work at a time. Requests and answers are lines of JSON on standard input and output:

    {"engines": ["torch nchw"], "threads": 2}            the command line's argument
    {"label": "…relu…", "save": FILE}                    an operation of `bench.cases`
    {"kind": "training", "network": "CIFAR B", "batch": 64, "save": FILE}    a step
    {"floor": "sgemm"}                                   what the machine can do; may come with both
        → {"saved": {name: how many arrays}}             results of the first calls, for checking
    {"budget": 0.1}                                      time everything that is prepared
        → {"seconds": {name: [...]}, "peak_bytes": ...}
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import cases
from .engines import Engine, load, to_numpy
from .floors import floor
from .operation import Run
from .training import prepared

CHECKED_STEPS = 4  # a captured step is replayed from the fourth call on
FEWEST_CALLS = 3


def prepare(request: dict[str, Any], engines: list[Engine]) -> tuple[dict[str, Run], int]:
    """What is to be timed, by name, and how many calls are to be checked."""
    for engine in engines:
        engine.forget()
    if "network" in request:
        job = request["kind"], request["network"], request["batch"]
        return {e.name: prepared(e, *job) for e in engines}, CHECKED_STEPS
    if "label" in request:
        case, step = cases.find(request["label"])
        runs: dict[str, Run] = {}
        for engine in engines:
            runs |= case.runs(engine, step)
        return runs, case.checks
    return {}, 0


def save(path: str, runs: dict[str, Run], checks: int) -> dict[str, int]:
    """Write the results of the first calls; returns how many arrays each run gave."""
    arrays: dict[str, np.ndarray] = {}
    counts = {}
    for name, run in runs.items():
        results = [to_numpy(each) for _ in range(checks) for each in run()]
        arrays |= {f"{name} {index}": array for index, array in enumerate(results)}
        counts[name] = len(results)
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return counts


def time_calls(run: Run, budget: float) -> list[float]:
    """Seconds of each call. The first tenth is not counted, because another process had the caches;
    a call that needs all the time is alone, because it hardly feels that."""
    start = time.perf_counter()
    while True:
        run()
        if (first := time.perf_counter() - start) >= 0.1 * budget:
            break
    if first >= budget:
        return [first]
    seconds: list[float] = []
    while len(seconds) < FEWEST_CALLS or time.perf_counter() - start < budget:
        before = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - before)
    return seconds


def peak_bytes() -> int:
    """The largest resident set so far. Linux's getrusage counts what the parent had when it started
    this process, so /proc is asked for this program's own."""
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        if found is not None:
            return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    # Whatever an engine prints goes to standard error, away from the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    settings = json.loads(sys.argv[1])
    threads = settings["threads"]
    engines = [load(name, threads) for name in settings["engines"]]
    runs: dict[str, Run] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        if "budget" in request:
            seconds = {name: time_calls(run, request["budget"]) for name, run in runs.items()}
            answer = {"seconds": seconds, "peak_bytes": peak_bytes()}
        else:
            runs.clear()  # first: what they hold is free for the next
            prepared, checks = prepare(request, engines)
            answer = {"saved": save(request["save"], prepared, checks) if checks else {}}
            runs |= prepared
            if name := request.get("floor"):
                runs[name] = floor(name, threads)
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
