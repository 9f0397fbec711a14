"""A recipe: all that decides how a training run ends, as values; and the command line for one.

The training scripts, and `examples.reproduce`, build their runs from recipes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from examples import datasets, networks
from examples.command_line import (
    INTERRUPTED,
    add_device,
    counted,
    plain_errors,
    positive,
    set_device,
)
from examples.datasets import Data
from examples.parallel import Ranks
from examples.training import LAST, Run, alone_in
from minigrad.data import (
    Compose,
    DataLoader,
    ImageDataset,
    Normalize,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
    Resize,
    Transform,
    random_split,
)
from minigrad.files import held_alone
from minigrad.optim import SGD, Adam, AdamW, lr_scheduler

OPTIMIZERS = ("Adam", "AdamW", "SGD")
SCHEDULES = ("constant", "cosine", "one-cycle")
INITS = ("torch", "he")
CHOICES = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "init": INITS}


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what, and how. `help` texts of the command line are in HELP."""

    dataset: str
    network: str
    epochs: int
    batch_size: int
    lr: float
    optimizer: str = "Adam"
    schedule: str = "constant"
    warm_up: float = 0.3
    momentum: float = 0.9
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    init: str = "torch"
    size: int | None = None
    crop: int = 0
    flip: bool = False
    rotation: float = 0.0
    shift: float = 0.0
    mirror: bool = False
    seed: int = 0
    limit: int | None = None

    def changed(self, settings: Mapping[str, Any]) -> list[str]:
        """The fields in which the settings of a finished run differ. One that the run's version did
        not have yet counts as its default, which changes nothing."""
        return [
            field.name
            for field in fields(self)
            if settings.get(field.name, field.default) != getattr(self, field.name)
        ]


HELP = {
    "epochs": "passes over the training images",
    "batch_size": "images of a step",
    "optimizer": "how gradients change the weights",
    "lr": "learning rate; with a schedule, the highest",
    "schedule": "how the rate changes from step to step",
    "warm_up": "share of one-cycle's steps in which the rate rises",
    "momentum": "of SGD",
    "weight_decay": "L2 penalty, or the decay of AdamW",
    "label_smoothing": "share of the target that is spread over all classes",
    "init": "how weights start: as torch's layers, or He's normal distribution",
    "size": "resize images to SIZE × SIZE",
    "crop": "augment: pad by CROP pixels and cut out a window at a random place",
    "flip": "augment: mirror half of the images",
    "rotation": "augment: rotate by up to ± ROTATION degrees",
    "shift": "augment: move by up to ± this share of the width and of the height",
    "mirror": "judge each image, in validation and test, together with its mirror image",
    "seed": "of weights, order and augmentation: the same seed gives the same bits",
    "limit": "use only so many images to train, validate and test with, for a quick trial",
}


def transforms(
    recipe: Recipe, train: ImageDataset, mean: Sequence[float], std: Sequence[float]
) -> tuple[Compose, Compose]:
    """(augmented, plain) of a recipe, normalised by mean and deviation of the training images."""
    first: list[Transform] = [] if recipe.size is None else [Resize(recipe.size)]
    # What comes in at the border: the mean colour of photographs, the black around digits.
    fill = tuple(round(255 * m) for m in mean) if train.channels == 3 else 0
    steps: list[Transform] = []
    if recipe.crop:
        sizes = {bucket.size for bucket in train.buckets} if recipe.size is None else {recipe.size}
        if len(sizes) > 1:
            raise ValueError(f"crop needs images of one size, got {sorted(sizes)}: use shift")
        steps.append(RandomCrop(sizes.pop(), recipe.crop, fill))
    if recipe.flip:
        steps.append(RandomHorizontalFlip())
    if recipe.shift:
        steps.append(RandomAffine(recipe.rotation, (recipe.shift, recipe.shift), fill=fill))
    elif recipe.rotation:
        steps.append(RandomRotation(recipe.rotation, fill))
    last = Normalize(mean, std)
    return Compose([*first, *steps, last]), Compose([*first, last])


def split(recipe: Recipe, data: Data) -> tuple[ImageDataset, ImageDataset]:
    """(training, validation) images; which is which follows from the seed."""
    kept = len(data.train) - data.validation
    train, validation = random_split(data.train, [kept, data.validation], seed=recipe.seed)
    if recipe.limit is not None:
        train, validation = (limited(part, recipe.limit) for part in (train, validation))
    return train, validation


def limited(images: ImageDataset, limit: int | None) -> ImageDataset:
    """The first images, of a set that is shuffled."""
    return images if limit is None else images.subset(range(min(limit, len(images))))


def sampled(images: ImageDataset, limit: int | None) -> ImageDataset:
    """So many images at even distances: image folders are sorted by class."""
    if limit is None or limit >= len(images):
        return images
    return images.subset(np.linspace(0, len(images) - 1, limit).astype(int))


def optimizer(recipe: Recipe, model: mg.nn.Module) -> mg.optim.Optimizer:
    decay = recipe.weight_decay
    if recipe.optimizer == "SGD":
        return SGD(model.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=decay)
    kind = {"Adam": Adam, "AdamW": AdamW}[recipe.optimizer]
    return kind(model.parameters(), recipe.lr, weight_decay=decay)


def scheduler(recipe: Recipe, optimizer: mg.optim.Optimizer, steps: int) -> Any:
    """The schedule over all steps of the run, or None for a constant rate."""
    if recipe.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, steps)
    if recipe.schedule == "one-cycle":
        return lr_scheduler.OneCycleLR(optimizer, recipe.lr, steps, pct_start=recipe.warm_up)
    return None


def start(recipe: Recipe, data: Data, out: Path, device: str = "cpu", **options: Any) -> Run:
    """A run of the recipe in the folder `out`: `fit` trains it, `finish` tests it.

    options: of `Run`.
    """
    shards = options["ranks"].shards if "ranks" in options else None
    mg.manual_seed(recipe.seed)
    train, validation = split(recipe, data)
    mean, std = train.statistics()
    augmented, plain = transforms(recipe, train, mean, std)
    model = networks.build(recipe.network, channels=train.channels)
    if recipe.init == "he":
        networks.he_init(model)
    model.to(device)
    updates = optimizer(recipe, model)
    loader = DataLoader(
        train, recipe.batch_size, shuffle=True, seed=recipe.seed, transform=augmented, device=device
    )
    return Run(
        model=model,
        optimizer=updates,
        scheduler=scheduler(recipe, updates, recipe.epochs * len(loader)),
        train=loader,
        validation=DataLoader(validation, 500, transform=plain, device=device),
        test=DataLoader(sampled(data.test, recipe.limit), 500, transform=plain, device=device),
        label_smoothing=recipe.label_smoothing,
        mirror=recipe.mirror,
        out=out,
        epochs=recipe.epochs,
        settings={
            **asdict(recipe),
            "images": data.source,
            "mean": list(mean),
            "std": list(std),
            "parameters": networks.parameter_count(model),
            "shards": shards,
        },
        title=f"{recipe.dataset}, network {recipe.network}, {recipe.epochs} epochs, "
        f"seed {recipe.seed}",
        data_root=data.root,
        **options,
    )


# The command line ---------------------------------------------------------------------------


def train_from_command_line(
    description: str, recipes: Mapping[tuple[str, str], Recipe], argv: list[str] | None
) -> None:
    """Train one of the recipes, given by data set and network, with what the arguments change."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    first = next(iter(recipes.values()))
    kinds = {name: list(dict.fromkeys(getattr(r, name) for r in recipes.values()))
             for name in ("dataset", "network")}  # fmt: skip
    for name, choices in kinds.items():
        value = getattr(first, name)
        parser.add_argument(f"--{name}", choices=choices, default=value, help=f"default: {value}")
    mixed = "; mixed: data/mixed" if "mixed" in kinds["dataset"] else ""
    parser.add_argument(
        "--data-root", type=Path, help=f"folder of the data set (default: data{mixed})"
    )
    for field in fields(Recipe)[2:]:
        _add(parser, field.name, str(field.type))
    add_device(parser)
    parser.add_argument("--out", type=Path, help="default: runs/<dataset>-<network>")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    parser.add_argument(
        "--tensorboard", action="store_true", help="write event files to the folder's tensorboard"
    )
    parser.add_argument(
        "--shards", type=positive, help="cut batches into so many parts (8): the same bits for any "
        "number of processes that divides it, when started by mpiexec -n"
    )  # fmt: skip
    ranks = Ranks()
    ranks.hush()
    with ranks.one_complains():
        arguments = parser.parse_args(argv)
        pair = arguments.dataset, arguments.network
        if pair not in recipes:
            fitting = ", ".join(network for dataset, network in recipes if dataset == pair[0])
            parser.error(f"--network {pair[1]} is not for --dataset {pair[0]}, which has {fitting}")
    ranks.shards = arguments.shards
    ranks.use_own_cores()
    given = {field.name: getattr(arguments, field.name) for field in fields(Recipe)}
    changes = {name: value for name, value in given.items() if value is not None}
    recipe = replace(recipes[pair], **changes)
    out = arguments.out or Path("runs") / f"{recipe.dataset}-{recipe.network}"
    with ranks.together(), plain_errors():
        ranks.check()
        set_device(arguments)
        with held_alone(out) if ranks.first and out.is_dir() else nullcontext():
            _check_folder(out, arguments.resume)
        with ranks.one_after_the_first():
            data = datasets.load(recipe.dataset, arguments.data_root, recipe.size)
        watched = arguments.tensorboard and ranks.first
        run = start(recipe, data, out, arguments.device, tensorboard=watched, ranks=ranks)
        run.try_out()
    with ExitStack() as held:
        with ranks.together(), plain_errors():
            if ranks.first:
                held.enter_context(alone_in(out))
            _check_folder(out, arguments.resume)  # another run may have ended meanwhile
            if arguments.resume:
                run.resume()
        on_cpu = arguments.device == "cpu"
        where = counted(mg.get_num_threads(), "thread") if on_cpu else mg.cuda.get_device_name()
        print(
            f"{recipe.dataset}, network {recipe.network}: {run.settings['parameters']:,} "
            f"parameters; {len(run.train.dataset):,} training, {len(run.validation.dataset):,} "
            f"validation and {counted(len(run.test.dataset), 'test image')}; {where}"
        )
        if str(ranks):
            print(ranks)
        if not run.fit():
            raise SystemExit(INTERRUPTED)
        run.finish()
    with ranks.together():
        if run.diverged:
            raise SystemExit(run.diverged)


def _check_folder(out: Path, resume: bool) -> None:
    """Whether a run can start, or go on, in the folder."""
    found = (out / LAST).exists()
    if found and not resume:
        raise SystemExit(f"{out} holds a run: add --resume to go on with it, or name another --out")
    if resume and not found:
        raise SystemExit(f"cannot go on: there is no checkpoint {out / LAST}")


def _add(parser: argparse.ArgumentParser, name: str, kind: str) -> None:
    """An option for a field of Recipe. Absent means None: the recipe's own value stays."""
    options: dict[str, Any] = {"help": HELP.get(name)}
    if kind == "bool":
        options["action"] = argparse.BooleanOptionalAction
    else:
        # The classes that take the other numbers check them.
        types = {
            "int": positive if name in ("epochs", "limit") else int,
            "float": float,
            "str": str,
        }
        options["type"] = types[kind.split(" |")[0]]
    if name in CHOICES:
        options["choices"] = CHOICES[name]
    parser.add_argument("--" + name.replace("_", "-"), **options)
