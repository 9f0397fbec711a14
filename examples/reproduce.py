"""Run the experiments of five course reports and write one page about them.

    python -m examples.reproduce                       # all of them, in hours
    python -m examples.reproduce --quick               # the same path on few images, in minutes
    python -m examples.reproduce mnist cifar10         # some parts only

MNIST and CIFAR-10 are downloaded if --mnist and --cifar10 do not hold them. Every
run has a folder of its own in --out; one that is done is skipped, and one that was interrupted goes
on after its last epoch, so the same command finishes the work, with the same results. The page is
written anew after every run.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from anywhere

from examples import datasets, experiments, feature_maps, make_mixed_mnist, recipe
from examples.command_line import (
    INTERRUPTED,
    add_device,
    plain_errors,
    positive,
    program,
    set_device,
)
from examples.datasets import Data
from examples.experiments import CIFAR10_RUNS, PARTS, QUICK_IMAGES, Experiment
from examples.recipe import Recipe
from examples.report import Report
from examples.training import alone_in

INSIDE = "inside"
# With --quick: images held out, and digits of which the mixed resolutions are made.
HELD_OUT, DIGITS = 500, 3_000


class Reproduction:
    """All experiments in one folder."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.quick: bool = arguments.quick
        self.seeds: int = 1 if self.quick else arguments.seeds
        self.device: str = arguments.device
        self.out: Path = arguments.out or Path("runs") / (
            "reproduce-quick" if self.quick else "reproduce"
        )
        self.roots = {
            "mnist": arguments.mnist,
            "cifar10": arguments.cifar10,
            "mixed": self.out / "mixed",
        }
        page = arguments.report or self.out / "report.md"
        command = _command(arguments)
        self.report = Report(page, self.out, command, arguments.note, quick=self.quick)
        self._loaded: tuple[tuple[str, int | None], Data] | None = None  # one set at a time

    def data(self, name: str, size: int | None) -> Data:
        if self._loaded is None or self._loaded[0] != (name, size):
            self._loaded = None
            if name == "mixed":
                self._make_mixed()
            with plain_errors():
                self._loaded = (name, size), datasets.load(name, self.roots[name], size)
        data = self._loaded[1]
        return replace(data, validation=HELD_OUT) if self.quick else data

    def _make_mixed(self) -> None:
        limit = DIGITS if self.quick else None
        with plain_errors():
            datasets.load("mnist", self.roots["mnist"])  # fetches it
            make_mixed_mnist.make(self.roots["mnist"], self.roots["mixed"], limit=limit)
        picture = self.out / "mixed-samples.png"
        if not picture.exists():
            _, test = make_mixed_mnist.load_mixed(self.roots["mixed"])
            make_mixed_mnist.draw_samples(test, picture)

    def part(self, name: str) -> None:
        if name == INSIDE:
            self.look_inside()
            return
        for experiment in PARTS[name]:
            for seed in range(self.seeds if experiment.final else 1):
                self.run(experiment, seed)

    def run(self, experiment: Experiment, seed: int) -> Path:
        """Train and test an experiment with one seed, unless that is done; the run's folder."""
        settings = experiments.settings(experiment, seed, self.quick)
        out = self.out / experiment.name / f"seed{seed}"
        if _is_done(out, settings):
            return out
        print(f"\n{experiment.name}: {experiment.title}, seed {seed}")
        data = self.data(settings.dataset, settings.size)
        with plain_errors():
            run = recipe.start(settings, data, out, self.device)
        with alone_in(out):
            if run.last.exists():
                with plain_errors():
                    run.resume()
            if not run.fit():
                print(f"The same command goes on from here. So far: {self.report.path}")
                raise SystemExit(INTERRUPTED)
            run.finish(tested=experiment.final)
        if run.diverged:
            print(run.diverged)
        self.report.write()
        return out

    def look_inside(self) -> None:
        """Feature maps and average activations of networks A and B, seed 0."""
        runs = [str(self.run(experiment, 0)) for experiment in CIFAR10_RUNS]
        limit = ["--limit", str(QUICK_IMAGES)] if self.quick else []
        feature_maps.main(
            [*runs, "--data-root", str(self.roots["cifar10"]), "--out", str(self.out / INSIDE),
             *limit]
        )  # fmt: skip
        self.report.write()


def _is_done(out: Path, settings: Recipe) -> bool:
    finished = out / "metrics.json"
    if not finished.exists():
        return False
    if changed := settings.changed(json.loads(finished.read_text())["settings"]):
        raise SystemExit(
            f"{out} holds a run with other settings ({', '.join(changed)}): move it away, or name "
            "another --out"
        )
    return True


def _command(arguments: argparse.Namespace) -> str:
    """What was asked for, without the folders of this machine."""
    words = ["python -m examples.reproduce", *arguments.parts]
    words += ["--quick"] if arguments.quick else [f"--seeds {arguments.seeds}"]
    if arguments.device != "cpu":
        words.append(f"--device {arguments.device}")
    if arguments.threads:
        words.append(f"--threads {arguments.threads}")
    if arguments.precision:
        words.append(f"--precision {arguments.precision}")
    return " ".join(words)


@program()
def main(argv: list[str] | None = None) -> None:
    names = ["mnist", "mixed", "cifar10", INSIDE, "grid"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="one epoch, one seed, few images")
    parser.add_argument("--seeds", type=positive, default=3, help="runs of each experiment")
    parser.add_argument("--mnist", type=Path, default=Path("data"), help="holds MNIST/raw")
    parser.add_argument("--cifar10", type=Path, default=Path("data"),
                        help="what torchvision keeps, or {train,test}/<class>/<image>")  # fmt: skip
    parser.add_argument("--out", type=Path, help="default: runs/reproduce")
    parser.add_argument("--report", type=Path, help="the page, a .md; default: report.md in --out")
    parser.add_argument("--note", default="", help="a sentence for the page's head")
    add_device(parser)
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.parts) - set(names):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if arguments.report and arguments.report.suffix != ".md":
        parser.error(f"--report must end in .md, got {arguments.report}")
    set_device(arguments)
    reproduction = Reproduction(arguments)
    for name in names:
        if name in arguments.parts or not arguments.parts:
            reproduction.part(name)
    reproduction.report.write()
    print(f"\nwrote {reproduction.report.path}")


if __name__ == "__main__":
    main()
