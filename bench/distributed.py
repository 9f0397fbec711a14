"""Data-parallel training: what two ranks gain on this machine, and what a model says of a thousand.

    python -m bench.distributed                       # two minutes
    python -m bench.distributed --png scaling.png --json scaling.json

Each rank computes on one thread. Measured are steps with as many images on every rank (weak
scaling) and as many in all (strong scaling), with the exchange of gradients and without; the time
of all-reduces of many sizes; and when each exchange of a step began and ended. Before anything is
timed, the losses of all ranks together must be those of one process.

The model predicts steps on networks that are not here. An all-reduce of n bytes over K ranks takes

    recursive doubling    log₂K · (α + n·(β + γ))
    Rabenseifner          2·log₂K · α + (K−1)/K · n·(2β + γ)

whichever is less (Thakur, Rabenseifner, Gropp 2005), with α the time of a message, β of a byte on
the wire, γ of adding one. γ, and the part of α that is software, are measured here; the wire's are
nominal (`LINKS`). Exchanges begin when they begin in the measured step, one after the other; what
lasts longer than the backward pass makes the step longer. Ranks are equally fast in the model, and
the network's switches never congest: it says what the best case is.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .history import Entry, record
from .load import Watch, load_note
from .measure import ROOT, check, conditions, cores, disturbed, machine
from .ranks import SHARDS, SYNC

MESSAGES = [4 * 4**power for power in range(12)]  # 4 B … 16 MB
PREDICTED = [2**power for power in range(1, 11)]
NETWORK, IMAGES = "CIFAR B", 128
FEWER = 1, 2, 4, 8, 16  # parts of these images
LARGE = "ResNet-18", 8, ""  # 45 MB of gradients
TOLERANCE = 1e-4  # of losses, relative


@dataclass(frozen=True)
class Link:
    """Between ranks. latency: seconds of a message beside the software's; byte: seconds of each."""

    name: str
    latency: float
    byte: float


# Latencies as vendors and benchmarks give them for TCP over Ethernet, and for RDMA.
LINKS = [Link("10 Gbit/s", 20e-6, 8 / 10e9), Link("100 Gbit/s", 2e-6, 8 / 100e9)]


@dataclass(frozen=True)
class Costs:
    """α: seconds of a message; β: of a byte that is sent; γ: of one that is added."""

    alpha: float
    beta: float
    gamma: float

    def all_reduce(self, ranks: int, size: float) -> float:
        if ranks == 1:
            return 0.0
        hops = math.ceil(math.log2(ranks))
        doubling = hops * (self.alpha + size * (self.beta + self.gamma))
        shares = (ranks - 1) / ranks * size
        return min(doubling, 2 * hops * self.alpha + shares * (2 * self.beta + self.gamma))

    def on(self, link: Link) -> Costs:
        """The same machines with another network."""
        return Costs(self.alpha + link.latency, link.byte, self.gamma)


def fitted(messages: Sequence[Sequence[float]], gamma: float) -> Costs:
    """From all-reduces between two ranks, which take α + n·(β + γ): least squares of the relative
    errors."""
    sizes, seconds = np.array(messages).T
    columns = np.stack([np.ones_like(sizes), sizes], 1) / seconds[:, None]
    (alpha, slope), *_ = np.linalg.lstsq(columns, np.ones(len(sizes)), rcond=None)
    return Costs(float(max(alpha, seconds.min())), max(float(slope) - gamma, 0.0), gamma)


@dataclass(frozen=True)
class Profile:
    """A step without its exchanges, in seconds: the ends of its parts, and when each exchange could
    begin, with its bytes."""

    forward: float
    backward: float
    optimizer: float
    exchanges: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, job: dict[str, Any]) -> Profile:
        """Of a measured job: its time is that without exchange, divided as the watched step was."""
        forward, backward, end = job["ends"]
        waited = max([0.0, *(stop - backward for *_, stop in job["exchanges"])])
        last = max([forward, *(start for _, start, _ in job["exchanges"])])
        backward = max(last, backward - waited) if job["exchanges"] else backward
        scale = job["compute"] / (backward + end - job["ends"][1])
        starts = tuple((begin * scale, size) for size, begin, _ in job["exchanges"])
        rest = job["compute"] - backward * scale
        return cls(forward * scale, backward * scale, rest, starts)

    def scaled(self, compute: float) -> Profile:
        """The same with fewer images, whose step takes so long."""
        factor = compute / (self.backward + self.optimizer)
        moved = tuple((start * factor, size) for start, size in self.exchanges)
        return Profile(
            self.forward * factor, self.backward * factor, self.optimizer * factor, moved
        )

    def step(self, ranks: int, costs: Costs) -> float:
        """Seconds of a step on so many ranks."""
        done = 0.0
        for start, size in self.exchanges:
            done = max(done, start) + costs.all_reduce(ranks, size)
        return max(self.backward, done) + self.optimizer


# Measuring --------------------------------------------------------------------------------------


def mpiexec() -> str:
    """The launcher beside this Python, or else the first one on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("mpiexec", path=path)
    if found is None:
        raise SystemExit("bench.distributed needs MPI: pip install -e '.[mpi]' brings mpich")
    return found


def measure(ranks: int, jobs: Sequence[Sequence[Any]]) -> tuple[dict[str, Any], float | None]:
    """What so many ranks measured, and how many cores other processes used."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        messages = MESSAGES if ranks > 1 else []
        settings = json.dumps({"out": str(out), "jobs": jobs, "messages": messages})
        watch, used = Watch([]), resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        done = subprocess.run(
            [mpiexec(), "-n", str(ranks), sys.executable, "-m", "bench.ranks", settings],
            cwd=ROOT,
            env=os.environ | {"MINIGRAD_NUM_THREADS": "1"},
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{ranks} ranks ended with status {done.returncode}")
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
        others = watch.others()
        if others is not None:
            others = max(0.0, others - cpu / seconds)
        return json.loads(out.read_text()), others


@dataclass(frozen=True)
class Row:
    """A job on some ranks. alone: seconds of one rank for as many images as all these do."""

    ranks: int
    job: dict[str, Any]
    alone: float
    others: float | None

    @property
    def label(self) -> str:
        images, variant = self.job["images"], self.job["variant"]
        named = f"{self.job['network']}{f' {variant}' if variant else ''}"
        return f"{named}, {images} each, {self.ranks} ranks"

    @property
    def exchange(self) -> float:
        """Seconds in which gradients were under way."""
        return sum(end - start for _, start, end in self.job["exchanges"])

    @property
    def exposed(self) -> float:
        """Seconds by which the exchange makes a step longer."""
        return max(0.0, self.job["step"] - self.job["compute"])

    @property
    def speed_up(self) -> float:
        return self.alone / self.job["step"]

    def report(self) -> dict[str, Any]:
        return {
            "label": self.label, "ranks": self.ranks, **self.job, "alone": self.alone,
            "speed_up": self.speed_up, "exchange": self.exchange, "exposed": self.exposed,
            "others": self.others,
        }  # fmt: skip

    def line(self) -> str:
        step, compute = self.job["step"], self.job["compute"]
        start = f"{self.label:<42}{step * 1e3:>9.2f}"
        if self.job["variant"] != SHARDS:
            start += f"{compute * 1e3:>11.2f}"
            hidden = 1 - min(1.0, self.exposed / self.exchange) if self.exchange else 0.0
            start += f"{self.exchange / step:>10.1%}{hidden:>8.0%}"
        else:
            start += f"{'':>29}"
        if disturbed(self.others):
            return f"{start}   no speed-up: others used {self.others:.2f} cores"
        return f"{start}{self.speed_up:>9.2f}×"


def measured(most: int, quick: bool) -> tuple[list[Row], dict[int, dict[str, Any]]]:
    """Rows, printed as they come, and by ranks all that was measured."""
    budget = 1.0 if quick else 6.0
    counts = [2**power for power in range(most.bit_length()) if 2**power <= most]
    everything = {}
    rows: list[Row] = []
    for ranks in counts:
        # Weak scaling, then strong; of one rank what the others are compared with, and with how few
        # images it is how fast.
        sizes = [IMAGES, IMAGES // ranks] if ranks > 1 else [IMAGES // each for each in FEWER]
        jobs = [(NETWORK, images, "") for images in sizes]
        jobs += [(NETWORK, images, SYNC) for images in sizes if ranks > 1]
        jobs += [(NETWORK, IMAGES // ranks, SHARDS)]
        if not quick:
            jobs += [LARGE]
        everything[ranks], others = measure(ranks, [[*job, budget] for job in jobs])
        one = {key_of(job): job for job in everything[1]["jobs"]}
        for job in everything[ranks]["jobs"]:
            network, images, variant = key_of(job)
            strong = network == NETWORK and images * ranks == IMAGES
            if strong and variant != "":
                same = one[NETWORK, IMAGES, "" if variant == SYNC else SHARDS]["losses"]
                check(f"losses of {ranks} ranks", [np.array(job["losses"])], [np.array(same)],
                      "one rank", TOLERANCE)  # fmt: skip
            reference = one[network, IMAGES if strong else images, ""]["step"]
            rows.append(Row(ranks, job, reference * (1 if strong else ranks), others))
            print(rows[-1].line(), flush=True)
    return rows, everything


def key_of(job: dict[str, Any]) -> tuple[str, int, str]:
    return job["network"], job["images"], job["variant"]


# Predicting ---------------------------------------------------------------------------------------


def predictions(everything: dict[int, dict[str, Any]], costs: Costs) -> list[dict[str, Any]]:
    """Of each network, for both kinds of scaling: the speed-up over one rank, link by link."""
    two, one = everything[2], everything[1]
    single = {key_of(job): job for job in one["jobs"]}
    found = []
    for job in two["jobs"]:
        if job["variant"] or (job["network"], job["images"]) == (NETWORK, IMAGES // 2):
            continue
        name, images = job["network"], job["images"]
        profile = Profile.of(job).scaled(single[name, images, ""]["compute"])
        for link in LINKS:
            steps = [profile.step(ranks, costs.on(link)) for ranks in PREDICTED]
            compute = profile.backward + profile.optimizer
            speeds = [ranks * compute / step for ranks, step in zip(PREDICTED, steps, strict=True)]
            found.append(prediction(name, f"weak, {images} images a rank", link, steps, speeds))
        sizes = sorted((i, j["compute"]) for (n, i, v), j in single.items() if n == name and not v)
        if len(sizes) < 3:
            continue
        slope, fixed = np.polyfit(*np.array(sizes).T, 1, w=1 / np.array(sizes)[:, 1])
        fixed = max(fixed, 0.0)
        whole = fixed + slope * images
        for link in LINKS:
            ranks = [count for count in PREDICTED if count <= images]
            steps = [
                profile.scaled(fixed + slope * images / count).step(count, costs.on(link))
                for count in ranks
            ]
            speeds = [whole / step for step in steps]
            found.append(prediction(name, f"strong, {images} images in all", link, steps, speeds))
    return found


def prediction(
    network: str, kind: str, link: Link, steps: list[float], speeds: list[float]
) -> dict[str, Any]:
    ranks = PREDICTED[: len(steps)]
    return {"network": network, "kind": kind, "link": link.name, "ranks": ranks, "seconds": steps,
            "speed_up": speeds}  # fmt: skip


def print_predictions(found: Sequence[dict[str, Any]]) -> None:
    width = 44
    print(
        f"\n{'predicted speed-up over one rank':<{width}}" + "".join(f"{k:>8}" for k in PREDICTED)
    )
    for each in found:
        label = f"{each['network']}, {each['kind']}, {each['link']}"
        print(f"{label:<{width}}" + "".join(f"{speed:>8.1f}" for speed in each["speed_up"]))


# Pictures -----------------------------------------------------------------------------------------


def draw(
    path: Path, rows: Sequence[Row], found: Sequence[dict[str, Any]], costs: Costs,
    messages: Sequence[Sequence[float]],
) -> None:  # fmt: skip
    """Speed-ups, the times of all-reduces, and a step of two ranks on a line of time."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("a chart needs matplotlib: pip install -e '.[bench]'") from None
    figure = Figure(figsize=(13, 9), layout="constrained")
    panels = figure.subplots(2, 2)
    networks = list(dict.fromkeys(each["network"] for each in found))
    for panel, kind in zip(panels[0], ("weak", "strong"), strict=True):
        chosen = [each for each in found if each["kind"].startswith(kind)]
        for each in chosen:
            style = "-" if each["link"] == LINKS[-1].name else "--"
            gain = np.array(each["speed_up"])
            panel.plot(
                each["ranks"], gain / each["ranks"] if kind == "weak" else gain, style,
                color=f"C{networks.index(each['network'])}",
                label=f"{each['network']}, {each['kind'].split(', ')[1]}, {each['link']}",
            )  # fmt: skip
        points = [row for row in rows if row.ranks > 1 and not row.job["variant"]
                  and (row.job["network"] == NETWORK and row.job["images"] < IMAGES)
                  == (kind == "strong")]  # fmt: skip
        for row in points:
            gain = row.speed_up / row.ranks if kind == "weak" else row.speed_up
            panel.plot(row.ranks, gain, "o", color=f"C{networks.index(row.job['network'])}")
        panel.set_xscale("log", base=2)
        if kind == "weak":
            panel.set(ylim=(0, 1.05), ylabel="speed-up / ranks")
        else:
            ideal = max((each["ranks"] for each in chosen), key=len, default=PREDICTED)
            panel.plot(ideal, ideal, ":", color="gray", label="ideal")
            panel.set_yscale("log", base=2)
            panel.set(ylabel="speed-up over one rank")
        panel.set(xlabel="ranks", title=f"{kind} scaling: predicted, and measured here (dots)")
        panel.legend(fontsize=7)
    sizes, seconds = np.array(messages).T
    reduce = panels[1][0]
    reduce.loglog(sizes, seconds * 1e6, "o", color="black", label="2 ranks, measured here")
    reduce.loglog(
        sizes, [costs.all_reduce(2, n) * 1e6 for n in sizes], color="black", label="model"
    )
    for number, link in enumerate(LINKS):
        for ranks, style in ((16, "-"), (1024, "--")):
            times = [costs.on(link).all_reduce(ranks, n) * 1e6 for n in sizes]
            reduce.loglog(
                sizes, times, style, color=f"C{number}", label=f"{ranks} ranks, {link.name}"
            )
    reduce.set(xlabel="bytes", ylabel="µs", title="an all-reduce")
    reduce.legend(fontsize=7)
    shown = [row for row in rows if row.ranks == 2 and not row.job["variant"]]
    _timeline(panels[1][1], max(shown, key=lambda row: len(row.job["exchanges"])))
    figure.suptitle(f"Data-parallel training, one thread a rank, {machine()}", fontsize=11)
    figure.savefig(path, dpi=130)


def _timeline(panel: Any, row: Row) -> None:
    """What rank 0 computes, and below it what is under way meanwhile."""
    starts = [0.0, *row.job["ends"]]
    names = "forward", "backward", "optimizer"
    for number, name in enumerate(names):
        start, end = starts[number] * 1e3, starts[number + 1] * 1e3
        panel.barh(0, end - start, left=start, color=f"C{number}", label=name)
    for number, (size, start, end) in enumerate(row.job["exchanges"]):
        place, label = 1 + number % 2 / 2, None if number else "exchange"
        panel.barh(
            place, (end - start) * 1e3, 0.2, start * 1e3, color="C3", edgecolor="white", label=label
        )
        panel.text(start * 1e3, place + 0.22, f"{size / 1e6:.2g} MB", fontsize=6)
    panel.set_yticks([0, 1.25], ["computing", "under way"])
    panel.set_ylim(2.1, -0.7)
    panel.set(xlabel="ms", title=f"a step: {row.label}")
    panel.legend(fontsize=7, loc="lower left")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.distributed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer steps and rows")
    parser.add_argument("--ranks", type=int, help="at most so many (default: the number of cores)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--png", type=Path, help="draw them")
    parser.add_argument("--record", action="store_true", help="add a line to bench.history's file")
    arguments = parser.parse_args(argv)
    most = arguments.ranks or cores()
    if most < 2:
        parser.error("needs two ranks")
    print(f"Data-parallel training steps, one thread a rank, {machine()}, {cores()} cores; "
          f"{load_note()}")  # fmt: skip
    print(f"{'':<42}{'step, ms':>9}{'without':>11}{'exchange':>10}{'hidden':>8}{'speed-up':>10}")
    rows, everything = measured(most, arguments.quick)
    costs = fitted(everything[2]["messages"], everything[2]["adding"])
    print(f"\nan all-reduce of n bytes between two ranks: {costs.alpha * 1e6:.1f} µs + n · "
          f"({costs.beta * 1e9:.3f} + {costs.gamma * 1e9:.3f}) ns")  # fmt: skip
    found = predictions(everything, costs)
    print_predictions(found)
    if arguments.json:
        report = {
            **conditions(), "rows": [row.report() for row in rows], "predictions": found,
            "costs": vars(costs), "links": [vars(link) for link in LINKS],
            "messages": everything[2]["messages"],
        }  # fmt: skip
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    if arguments.png:
        draw(arguments.png, rows, found, costs, everything[2]["messages"])
    if arguments.record:
        kept = [row for row in rows if not disturbed(row.others)]
        record("distributed", [Entry(row.label, row.job["step"], row.speed_up) for row in kept])


if __name__ == "__main__":
    main()
