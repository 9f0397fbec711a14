"""How results are shown: times, families of rows and the chart of ratios."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .history import Entry, record
from .measure import conditions, cores, machine


@dataclass(frozen=True)
class Bar:
    """One ratio of a chart: a row of a family, at a number of threads."""

    family: str
    label: str
    threads: int
    ratio: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command lines of benchmarks beside torch share."""
    parser.add_argument("--quick", action="store_true", help="fewer rows and turns, 2 threads only")
    parser.add_argument("--only", metavar="PATTERN", help="rows whose label this regex is found in")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--threads", type=int, nargs="+", help="thread counts (default: 1 2)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--png", type=Path, help="draw the ratios")
    parser.add_argument("--record", action="store_true", help="add a line to bench.history's file")


def thread_counts(arguments: argparse.Namespace) -> list[int]:
    most = min(2, cores())
    return arguments.threads or ([most] if arguments.quick else sorted({1, most}))


def finish(
    arguments: argparse.Namespace,
    benchmark: str,
    rows: Sequence[dict[str, Any]],
    means: Sequence[dict[str, Any]],
    bars: Sequence[Bar],
    entries: Sequence[Entry],
) -> None:
    """Write what the options ask for."""
    variants = compiled_variants()
    if arguments.json:
        report = {**conditions(), "rows": rows, "geometric_means": means, **variants}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    if arguments.png and bars:
        write_chart(arguments.png, f"minigrad beside torch, {machine()}", bars)
    if arguments.record:
        record(benchmark, entries)


def compiled_variants() -> dict[str, Any]:
    """Print how many compiled kernels the cache holds; the entry for a JSON report."""
    from minigrad.warmup import compiled_variants

    count, folder = compiled_variants()
    print(f"{count} compiled kernel variants in {folder}")
    return {"compiled_variants": count}


def write_chart(path: Path, title: str, bars: Sequence[Bar]) -> None:
    """Horizontal bars that start at 1×: to the right minigrad is faster. A panel a thread count."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, NullFormatter
    except ImportError:
        raise SystemExit(
            "a chart needs matplotlib: pip install matplotlib, or minigrad's 'bench' extra"
        ) from None
    counts = list(dict.fromkeys(bar.threads for bar in bars))
    families = list(dict.fromkeys(bar.family for bar in bars))
    # Down the page: a heading for each family, then its rows.
    places: dict[tuple[str, str], int] = {}
    headings: dict[int, str] = {}
    for family in families:
        place = len(places) + len(headings)
        headings[place] = family
        labels = dict.fromkeys(bar.label for bar in bars if bar.family == family)
        places |= {(family, label): place + 1 + i for i, label in enumerate(labels)}
    total = len(places) + len(headings)
    low = min(0.5, *(0.8 * bar.ratio for bar in bars))
    high = max(2.0, *(1.6 * bar.ratio for bar in bars))
    marks = [x for x in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= x <= high]

    figure = Figure(figsize=(4.5 + 4 * len(counts), 1.3 + 0.2 * total), layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for panel, threads in zip(panels, counts, strict=True):
        for bar in bars:
            if bar.threads != threads:
                continue
            y = places[bar.family, bar.label]
            color = f"C{families.index(bar.family)}"
            panel.barh(y, bar.ratio - 1, left=1, height=0.7, color=color)
            right = max(bar.ratio, 1) * 1.04
            panel.text(right, y, f"{bar.ratio:.2f}×", va="center", fontsize=7)
        panel.axvline(1, color="black", linewidth=1)
        panel.set_xscale("log")
        panel.set_xlim(low, high)
        panel.set_xticks(marks)
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
        panel.grid(axis="x", alpha=0.25)
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(axis="x", labelsize=8)
        panel.tick_params(axis="y", length=0)
        panel.set_title(f"{threads} thread{'s' if threads > 1 else ''}", fontsize=9)
        panel.set_xlabel("time of torch / time of minigrad", fontsize=8)
    panels[0].set_ylim(total - 0.3, -0.7)
    texts = headings | {place: label for (_, label), place in places.items()}
    panels[0].set_yticks(range(total), [texts[place] for place in range(total)], fontsize=7)
    for place, text in enumerate(panels[0].get_yticklabels()):
        if place in headings:
            text.set_fontweight("bold")
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=130)
