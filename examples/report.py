"""The page of `examples.reproduce`: tables and pictures, from the folders of the runs."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from bench.measure import conditions
from examples import experiments, networks
from examples.experiments import Experiment
from examples.recipe import Recipe
from examples.training import write_text
from minigrad.nn import summary

Metrics = dict[str, Any]


class Report:
    """path: the Markdown file; its pictures lie beside it in a folder of its name. runs: the folder
    of the runs. command: how they were made. note: what else a reader should know. quick: whether
    the runs are quick ones. Runs with other settings than the experiments' are left out."""

    def __init__(
        self, path: Path, runs: Path, command: str, note: str = "", quick: bool = False
    ) -> None:
        self.path, self.runs, self.command, self.note = path, runs, command, note
        self.quick = quick
        self.pictures = path.with_suffix("")

    def metrics(self, experiment: Experiment) -> list[Metrics]:
        """Of every seed that is done, in order."""
        found = {}
        for file in (self.runs / experiment.name).glob("seed*/metrics.json"):
            run = json.loads(file.read_text())
            wanted = experiments.settings(experiment, run["seed"], self.quick)
            # One that diverged in its first epoch has not been tested.
            tested = "test_accuracy" in run or not experiment.final
            if tested and not wanted.changed(run["settings"]):
                found[run["seed"]] = run
        return [found[seed] for seed in sorted(found)]

    def first(self, experiment: Experiment) -> Metrics | None:
        """Of seed 0, if it is done."""
        return next((run for run in self.metrics(experiment) if run["seed"] == 0), None)

    def write(self) -> None:
        """Write the page with what is there; a part without a run is left out."""
        self.pictures.mkdir(parents=True, exist_ok=True)
        parts = [self._head(), self._results(), self._mnist(), self._mixed(), self._cifar10(),
                 self._inside(), self._grid(), self._runs()]  # fmt: skip
        write_text("\n\n".join(part for part in parts if part) + "\n", self.path)

    # Parts ----------------------------------------------------------------------------------

    def _head(self) -> str:
        return (
            "# The reports' experiments, with minigrad\n\n"
            f"Made by `{self.command}` on {_machine()}. {self.note}".rstrip()
            + "\n\n"
            "The networks, and what the reports reached, are those of five course reports that "
            "used torch. Settings were chosen on validation images. The test images were used once "
            "a run, for the weights of the epoch that was best on the validation images."
        )

    def _results(self) -> str:
        rows = []
        titles = {"mnist": "MNIST", "mixed": "MNIST, mixed resolutions", "cifar10": "CIFAR-10"}
        for part, title in titles.items():
            for experiment in experiments.PARTS[part]:
                runs = self.metrics(experiment) if experiment.final else []
                if runs:
                    rows.append(_result(f"{title}: {experiment.title}", experiment, runs))
        head = ("experiment", "parameters", "the reports", "minigrad", "difference", "epochs",
                "seeds", "minutes a run")  # fmt: skip
        note = (
            "Test accuracy: the mean over the seeds ± their standard deviation. The difference is "
            "to the best of the reports, in percentage points."
        )
        return _section("Results", note, table(head, rows)) if rows else ""

    def _mnist(self) -> str:
        curves = self._curves(experiments.MNIST_RUNS)
        return _section("MNIST", *curves) if curves else ""

    def _mixed(self) -> str:
        curves = self._curves(experiments.MIXED_RUNS)
        if not curves:
            return ""
        target = networks.parameter_count(networks.mnist_fixed())
        widths = [
            (str(width), f"{count:,}", f"{count - target:+,}")
            for width, count in networks.counted_widths(target)
        ]
        return _section(
            "MNIST in mixed resolutions",
            "Each digit is scaled to between half and all of a frame of 32, 48 or 64 pixels and "
            "put at a random place in it. The fixed network sees all of them resized to 28×28; the "
            "variable network sees them as they are, one resolution a batch. The pyramid is the "
            "variable network, weights and all, looking also at the image's half: its last stage "
            "sees 22 pixels, of digits up to 64 pixels large. The set is our own (the reports' is "
            "not at hand), so what counts is the comparison of the three.",
            self._picture("mixed-samples.png", "Examples of the three resolutions"),
            f"The width N of the variable network's last stage, so that it has about the "
            f"{target:,} parameters of the fixed one:",
            table(("N", "parameters", "difference"), widths),
            "What makes the variable network good, by validation accuracy (seed 0): the report "
            "trained it by SGD with a small rate.",
            self._choice(experiments.VARIABLE_CHOICE),
            "The same for the fixed network on the resized images:",
            self._choice(experiments.RESIZED_CHOICE),
            *curves,
        )

    def _cifar10(self) -> str:
        runs = [run for e in experiments.CIFAR10_RUNS for run in self.metrics(e)]
        if not runs:
            return ""
        jpeg = any(".jp" in run["settings"]["images"] for run in runs)
        note = (
            "The images are CIFAR-10 re-encoded as JPEG: not quite the reports' images."
            if jpeg
            else ""
        )
        layers = [
            f"<details><summary>Layers of network {name}</summary>\n\n"
            f"```\n{summary(networks.build(name, channels=3), (3, 32, 32))}\n```\n\n</details>"
            for name in "AB"
        ]
        return _section("CIFAR-10", note, *self._curves(experiments.CIFAR10_RUNS), *layers)

    def _inside(self) -> str:
        numbers = self.runs / "inside" / "table.md"
        if not numbers.exists():
            return ""
        shown = {
            "feature-maps-A.png": "Network A: what its layers make of one image",
            "feature-maps-B.png": "Network B: the same image",
            "average-activations-A.png": "Network A: mean absolute activation, all training images",
            "average-activations-B.png": "Network B: mean absolute activation, all training images",
            "comparison.png": "Share of zeros and mean activation of A and B, layer by layer",
        }
        pictures = [self._picture(f"inside/{name}", caption) for name, caption in shown.items()]
        return _section("Inside networks A and B", *pictures, numbers.read_text().rstrip())

    def _grid(self) -> str:
        parts = []
        trials = {trial.name: trial for trial in experiments.GRID_TRIALS}
        for network in "AB":
            rows = []
            for kind in experiments.OPTIMIZERS:
                for rate in experiments.RATES:
                    name = [experiments.grid_name(network, kind, rate, batch)
                            for batch in experiments.BATCHES]  # fmt: skip
                    cells = [self._validation(trials[n]) for n in name]
                    rows.append((f"{kind}, {rate:g}", *cells))
            if any(cell for row in rows for cell in row[1:]):
                head = (f"network {network}", *(f"batch {b}" for b in experiments.BATCHES))
                parts.append(table(head, rows))
        shares = [(trial.title, self._validation(trial))
                  for trial in experiments.AUGMENTATION_TRIALS]  # fmt: skip
        augmented = [row for row in shares if row[1]]
        if parts:
            parts.insert(
                0,
                "Validation accuracy for each optimizer (SGD without momentum), learning rate and "
                f"batch size: {experiments.GRID_EPOCHS} epochs over {experiments.GRID_IMAGES:,} "
                "images without augmentation, seed 0. A starts from He's weights.",
            )
        if augmented:
            epochs = experiments.AUGMENTATION_TRIALS[0].recipe.epochs
            parts += [
                f"Network B, one augmentation at a time, {epochs} epochs over the same images:",
                table(("augmentation", "validation accuracy"), augmented),
            ]
        return _section("Settings tried one by one", *parts) if parts else ""

    def _runs(self) -> str:
        rows = []
        for part in experiments.PARTS.values():
            for experiment in part:
                for run in self.metrics(experiment) if experiment.final else ():
                    rows.append(
                        (
                            experiment.name, str(run["seed"]),
                            percent(run["best_val_accuracy"]), percent(run["test_accuracy"]),
                            f"{run['test_loss']:.4f}",
                            f"{run['train_images_per_second']:,.0f}", f"{run['seconds']:,.0f}",
                            _settings(run["settings"]),
                        )
                    )  # fmt: skip
        head = ("run", "seed", "validation", "test", "test loss", "images/s", "seconds", "settings")
        return _section("Every run", table(head, rows)) if rows else ""

    # Pieces ---------------------------------------------------------------------------------

    def _choice(self, candidates: Sequence[Experiment]) -> str:
        """Validation accuracy of the candidates that are done."""
        rows = [
            (each.title, percent(run["best_val_accuracy"]), str(run["epochs"]))
            for each in candidates
            if (run := self.first(each))
        ]
        return table(("settings", "validation accuracy", "epochs"), rows) if rows else ""

    def _validation(self, experiment: Experiment) -> str:
        run = self.first(experiment)
        return percent(run["best_val_accuracy"]) if run else ""

    def _curves(self, shown: Sequence[Experiment]) -> list[str]:
        """Loss and accuracy by epoch of each experiment's first seed."""
        found = []
        for experiment in shown:
            file = self.runs / experiment.name / "seed0" / "curves.png"
            if self.first(experiment):
                target = f"{experiment.name}.png"
                found.append(
                    self._picture(str(file.relative_to(self.runs)), experiment.title, target)
                )
        return found

    def _picture(self, name: str, caption: str, target: str = "") -> str:
        """A link to a copy of the picture beside the page; nothing if there is none."""
        source = self.runs / name
        if not source.exists():
            return ""
        target = target or source.name
        shutil.copyfile(source, self.pictures / target)
        return f"![{caption}]({self.pictures.name}/{target})"


def _result(title: str, experiment: Experiment, runs: Sequence[Metrics]) -> tuple[str, ...]:
    accuracies = [run["test_accuracy"] for run in runs]
    mean = statistics.fmean(accuracies)
    spread = f" ± {100 * statistics.stdev(accuracies):.2f}" if len(runs) > 1 else ""
    low, high = min(experiment.reported), max(experiment.reported)
    reported = f"{100 * low:.4g} to {100 * high:.4g} %" if low < high else f"{100 * high:.4g} %"
    return (
        title,
        f"{runs[0]['settings']['parameters']:,}",
        reported,
        f"{100 * mean:.2f}{spread} %",
        f"{100 * (mean - high):+.2f}",
        str(runs[0]["epochs"]),
        ", ".join(str(run["seed"]) for run in runs),
        f"{statistics.fmean(run['seconds'] for run in runs) / 60:.1f}",
    )


def _settings(settings: dict[str, Any]) -> str:
    """Optimizer, rate, schedule and batch, and what differs from a recipe's defaults, in words."""
    words = [settings["optimizer"], f"rate {settings['lr']:g}", settings["schedule"],
             f"batch {settings['batch_size']}"]  # fmt: skip
    for field in fields(Recipe):
        value = settings.get(field.name, field.default)
        if field.name in _ELSEWHERE or value == field.default:
            continue
        name = field.name.replace("_", " ")
        words.append(name if value is True else f"{name} {value}")
    return ", ".join(words)


# Columns of their own, or the first words.
_ELSEWHERE = ("dataset", "network", "epochs", "batch_size", "lr", "optimizer", "schedule", "seed")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def percent(share: float | None) -> str:
    """None: of a run that diverged in its first epoch."""
    return "diverged" if share is None else f"{100 * share:.2f} %"


def _section(title: str, *parts: str) -> str:
    return "\n\n".join([f"## {title}", *(part for part in parts if part)])


def _machine() -> str:
    """Processor, cores and versions."""
    found = conditions()
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in ("numba", "numpy"))
    return f"{found['cores']} cores of {found['machine']}, Python {found['python']}, {versions}"
