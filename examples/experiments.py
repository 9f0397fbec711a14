"""The experiments of the five course reports: what they reached, and minigrad's recipes.

Settings were chosen by accuracy on the validation images. Candidates for the mixed resolutions are
listed, too, so that `examples.reproduce` shows the choice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

from examples.recipe import Recipe
from examples.train_cifar10 import RECIPES as CIFAR10
from examples.train_mnist import RECIPES as MNIST

QUICK_IMAGES = 2_000


@dataclass(frozen=True)
class Experiment:
    """One row of the page.

    name: its folder. reported: test accuracies of the reports, lowest and highest. final: measured
    on the test images, with several seeds; otherwise a trial on the validation images alone.
    """

    name: str
    title: str
    recipe: Recipe
    reported: tuple[float, ...] = ()
    final: bool = True


def settings(experiment: Experiment, seed: int, quick: bool) -> Recipe:
    """What is run: the recipe with the seed; if quick, one epoch over few images."""
    chosen = replace(experiment.recipe, seed=seed)
    return replace(chosen, epochs=1, limit=QUICK_IMAGES) if quick else chosen


def _trial(name: str, title: str, recipe: Recipe) -> Experiment:
    return Experiment(name, title, recipe, final=False)


_fixed = MNIST["mnist", "fixed"]
_resized, _variable = MNIST["mixed", "fixed"], MNIST["mixed", "variable"]
_pyramid, _mean = MNIST["mixed", "pyramid"], MNIST["mixed", "variable-mean"]
# The reports' own settings, for images of one size and of several.
_report_fixed = {"optimizer": "Adam", "lr": 1e-4, "batch_size": 16, "schedule": "constant",
                 "weight_decay": 0.0, "label_smoothing": 0.0, "shift": 0.0}  # fmt: skip
_report_variable = {**_report_fixed, "optimizer": "SGD", "momentum": 0.0, "lr": 1e-3}

MNIST_RUNS = [
    Experiment("mnist-report", "28×28, the report's settings",
               replace(_fixed, **_report_fixed), (0.9868, 0.9893)),
    Experiment("mnist-fixed", "28×28", _fixed, (0.9868, 0.9893)),
    Experiment("mnist-augmented", "28×28, augmented",
               replace(_fixed, rotation=10.0, crop=2), (0.9907,)),
]  # fmt: skip

MIXED_RUNS = [
    Experiment("mixed-report", "resized to 28×28, the report's settings",
               replace(_resized, **_report_fixed), (0.9504, 0.9507)),
    Experiment("mixed-resized", "resized to 28×28", _resized, (0.9504, 0.9507)),
    Experiment("mixed-variable", "as they are, a resolution a batch", _variable, (0.8587,)),
    Experiment("mixed-pyramid", "as they are, and halved: the pyramid", _pyramid, (0.8587,)),
]  # fmt: skip

_BARE = {"label_smoothing": 0.0, "shift": 0.0}

RESIZED_TRIALS = [
    _trial("mixed-resized-trial-bare", "AdamW, one cycle to 0.005, batch 32",
           replace(_resized, **_BARE)),
    _trial("mixed-resized-trial-smoothing", "with label smoothing 0.1",
           replace(_resized, shift=0.0)),
    _trial("mixed-resized-trial-shift", "with shifts by up to 5 %",
           replace(_resized, label_smoothing=0.0)),
]  # fmt: skip

VARIABLE_TRIALS = [
    _trial("mixed-trial-report-max", "SGD, rate 0.001, batch 16, global max (the report's)",
           replace(_variable, **_report_variable)),
    _trial("mixed-trial-report-mean", "SGD, rate 0.001, batch 16, global mean (the report's)",
           replace(_mean, **_report_variable)),
    _trial("mixed-trial-adam-max", "Adam, rate 0.001, batch 16, global max",
           replace(_variable, **_report_fixed | {"lr": 1e-3})),
    _trial("mixed-trial-decay-mean", "AdamW, one cycle to 0.005, batch 32, global mean",
           replace(_mean, **_BARE)),
    _trial("mixed-trial-decay-max", "AdamW, one cycle to 0.005, batch 32, global max",
           replace(_variable, **_BARE)),
    _trial("mixed-trial-smoothing", "with label smoothing 0.1", replace(_variable, shift=0.0)),
    _trial("mixed-trial-shift", "with shifts by up to 5 %",
           replace(_variable, label_smoothing=0.0)),
]  # fmt: skip

# The candidates, and beside them seed 0 of what was chosen.
RESIZED_CHOICE = [*RESIZED_TRIALS, replace(MIXED_RUNS[1], title="with both (chosen)")]
VARIABLE_CHOICE = [
    *VARIABLE_TRIALS,
    replace(MIXED_RUNS[2], title="with both (chosen)"),
    replace(MIXED_RUNS[3], title="with both, on the image and its half (chosen for the pyramid)"),
]

CIFAR10_RUNS = [
    Experiment("cifar10-A", "A: no batch normalisation", CIFAR10["cifar10", "A"], (0.80, 0.827)),
    Experiment("cifar10-B", "B: batch normalisation", CIFAR10["cifar10", "B"], (0.82, 0.838)),
]

# The third report's grid, in short runs. From torch's initial weights A, which is deep and has no
# batch normalisation, stays at 10 % for longer than that.
RATES, BATCHES, OPTIMIZERS = (0.1, 0.01), (32, 64, 128), ("Adam", "SGD")
GRID_EPOCHS, GRID_IMAGES = 2, 20_000


def grid_name(network: str, optimizer: str, rate: float, batch: int) -> str:
    return f"grid-{network}-{optimizer}-{rate:g}-{batch}"


GRID_TRIALS = [
    _trial(
        grid_name(network, kind, rate, batch), f"{network}, {kind}, rate {rate:g}, batch {batch}",
        Recipe("cifar10", network, GRID_EPOCHS, batch, rate, kind, momentum=0, limit=GRID_IMAGES,
               init="he" if network == "A" else "torch"),
    )
    for network, kind, rate, batch in product("AB", OPTIMIZERS, RATES, BATCHES)
]  # fmt: skip

_plain = replace(CIFAR10["cifar10", "B"], epochs=6, limit=GRID_IMAGES, crop=0, flip=False)

AUGMENTATION_TRIALS = [
    _trial(f"augmentation-{name}", title, replace(_plain, **changes))
    for name, title, changes in (
        ("none", "none", {}),
        ("flip", "flip", {"flip": True}),
        ("rotation", "rotation ±15°", {"rotation": 15.0}),
        ("rotation30", "rotation ±30°", {"rotation": 30.0}),
        ("crop", "crop", {"crop": 4}),
        ("crop-flip", "crop and flip", {"crop": 4, "flip": True}),
    )
]

# What `examples.reproduce` runs, part by part.
PARTS = {
    "mnist": MNIST_RUNS,
    "mixed": MIXED_RUNS + RESIZED_TRIALS + VARIABLE_TRIALS,
    "cifar10": CIFAR10_RUNS,
    "grid": GRID_TRIALS + AUGMENTATION_TRIALS,
}
