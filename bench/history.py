"""What the benchmarks measured at earlier commits, and which rows have become slower since.

    python -m bench.steps --record        # adds a line to bench/results/history.jsonl
    python -m bench.history               # compares each benchmark's newest line with earlier

A row is compared with the last earlier run of it on the same processor beside the same torch. What
is compared are ratios, because torch was measured in the same turns; where there is none, times. A
row is slower if it lost more than both runs' noise, and at least 5 %. The status is 1 if one is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .measure import ROOT, conditions, geometric_mean

FILE = ROOT / "bench" / "results" / "history.jsonl"
SMALLEST = 0.05  # change that counts


@dataclass(frozen=True)
class Entry:
    """A row as the history keeps it."""

    label: str
    seconds: float
    ratio: float | None = None
    """Time of torch over minigrad's."""
    noise: float = 0.0
    """How far apart rounds of the same run lay, as a share."""

    def kept(self) -> list[float | None]:
        ratio = None if self.ratio is None else round(self.ratio, 3)
        return [ratio, round(self.noise, 3), round(self.seconds * 1e3, 4)]


def commit() -> str:
    """Of the working tree; with a + if that differs."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + "+" * bool(git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def record(benchmark: str, entries: Sequence[Entry], path: Path = FILE) -> None:
    """Add a line for this run."""
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "benchmark": benchmark,
        **conditions(),
        "rows": {entry.label: entry.kept() for entry in entries},
    }
    with path.open("a") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(f"added {len(entries)} rows to {path}")


@dataclass(frozen=True)
class Change:
    label: str
    before: str
    """The commit."""
    factor: float
    """Speed now over speed before."""
    noise: float

    @property
    def beyond_noise(self) -> bool:
        return abs(self.factor - 1) > max(SMALLEST, self.noise)


def changes(lines: Sequence[dict[str, Any]]) -> list[Change]:
    """Of the last line's rows against earlier runs."""

    def key(line: dict[str, Any]) -> tuple[Any, ...]:
        return line["benchmark"], line["machine"], line["cores"], line["versions"].get("torch")

    newest, found = lines[-1], []
    for label, (ratio, noise, milliseconds) in newest["rows"].items():
        for line in reversed(lines[:-1]):
            if key(line) == key(newest) and label in line["rows"]:
                old_ratio, old_noise, old_milliseconds = line["rows"][label]
                compared = ratio is not None and old_ratio is not None
                factor = ratio / old_ratio if compared else old_milliseconds / milliseconds
                found.append(Change(label, line["commit"], factor, noise + old_noise))
                break
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.history",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--file", type=Path, default=FILE)
    arguments = parser.parse_args(argv)
    if not arguments.file.exists():
        parser.error(f"there is no {arguments.file}: benchmarks write it with --record")
    lines = [json.loads(line) for line in arguments.file.read_text().splitlines()]
    slower = 0
    for benchmark in dict.fromkeys(line["benchmark"] for line in lines):
        mine = [line for line in lines if line["benchmark"] == benchmark]
        found = changes(mine)
        print(f"{benchmark} at {mine[-1]['commit']}, {mine[-1]['machine']}: ", end="")
        if not found:
            print("no earlier run here to compare with")
            continue
        mean = geometric_mean(change.factor for change in found)
        print(f"{len(found)} rows, {mean:.3f} times the speed of before")
        for change in sorted(found, key=lambda change: change.factor):
            if change.beyond_noise:
                word = "slower" if change.factor < 1 else "faster"
                slower += change.factor < 1
                print(
                    f"  {word} {change.factor:5.2f}×  {change.label} "
                    f"(since {change.before}, noise {change.noise:.0%})"
                )
    return int(slower > 0)


if __name__ == "__main__":
    sys.exit(main())
