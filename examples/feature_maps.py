"""Look inside trained CIFAR-10 networks: what their layers make of an image, and of all images.

    python examples/feature_maps.py runs/cifar10-A --data-root data
    python examples/feature_maps.py runs/cifar10-A runs/cifar10-B --image 17  # side by side
    python examples/feature_maps.py runs/cifar10-B --image-file frog.png

Each RUN is the folder of a finished `train_cifar10.py`. For each, the pictures show the channels of
every layer for one image, and their average absolute activation over all training images; two runs
are compared layer by layer. The pictures, a table (table.md) and the numbers (activations-*.json)
go to --out. Forward hooks watch the layers; see `watch`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from anywhere

import numpy as np
from tqdm import tqdm

import minigrad as mg
from examples import datasets, networks
from examples.command_line import counted, plain_errors, positive, program
from examples.recipe import sampled
from examples.report import table
from examples.training import write_json, write_text
from minigrad import nn, serialization, viz
from minigrad.data import Compose, DataLoader, ImageDataset, Normalize, Resize
from minigrad.data.image_folder import read_image
from minigrad.errors import CheckpointError, DataError
from minigrad.files import written_whole

# The layers that are watched, and what they are called.
KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.ReLU: "ReLU",
    nn.BatchNorm2d: "norm",
    nn.MaxPool2d: "pool",
    nn.AdaptiveAvgPool2d: "average pool",
}
BATCH = 250


# Watching layers ----------------------------------------------------------------------------


@contextmanager
def watch(model: nn.Module, see: Callable[[str, mg.Tensor], None]) -> Iterator[None]:
    """Within the block, see("conv 1", output), see("ReLU 1", output), … as the layers run.

    The layers of a kind are numbered in the order in which they run, anew in every pass.
    """
    ran: Counter[str] = Counter()

    def after(layer: nn.Module, args: tuple[mg.Tensor, ...], output: mg.Tensor) -> None:
        kind = KINDS[type(layer)]
        ran[kind] += 1
        see(f"{kind} {ran[kind]}", output)

    handles = [model.register_forward_pre_hook(lambda model, args: ran.clear())]
    handles += [
        layer.register_forward_hook(after) for layer in model.modules() if type(layer) in KINDS
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """No graph, and layers that behave as in use; afterwards they are in the modes they had."""
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    try:
        with mg.no_grad():
            yield
    finally:
        for layer, training in modes:
            layer.training = training


def feature_maps(model: nn.Module, image: mg.Tensor) -> dict[str, np.ndarray]:
    """What each layer makes of one image (1, C, H, W): its (C, H, W) output by its name."""
    maps: dict[str, np.ndarray] = {}

    def keep(name: str, output: mg.Tensor) -> None:
        maps[name] = np.array(output.cpu().numpy()[0], order="C")

    with inference(model), watch(model, keep):
        model(image)
    return maps


@dataclass(frozen=True)
class Activation:
    """The output of one layer over many images.

    average: (C, H, W) float64, the mean of |a| over the images. mean: of |a| over all values.
    sparsity: the share of values that are exactly 0.
    """

    average: np.ndarray
    mean: float
    sparsity: float


def activation_averages(model: nn.Module, loader: DataLoader) -> dict[str, Activation]:
    """Averages over all images of the loader, by layer. Nothing is kept of a batch but its sums, so
    the memory does not grow with the number of images. Raises ValueError for images of several
    sizes, and if there are none."""
    sums: dict[str, np.ndarray] = {}
    zeros: Counter[str] = Counter()
    images = 0

    def add(name: str, output: mg.Tensor) -> None:
        values = output.cpu().numpy()
        total = np.abs(values).sum(0, dtype=np.float64)
        if name not in sums:
            sums[name] = np.zeros(total.shape)
        elif sums[name].shape != total.shape:
            raise ValueError(
                f"activation_averages: images must be of one size, but {name} gives "
                f"{sums[name].shape} and {total.shape}"
            )
        sums[name] += total
        zeros[name] += np.count_nonzero(values == 0)

    bar = tqdm(total=len(loader.dataset), desc="activations", unit="img", leave=False, disable=None)
    with inference(model), watch(model, add), bar:
        for batch, _ in loader:
            model(batch)
            images += len(batch)
            bar.update(len(batch))
    if not images:
        raise ValueError("activation_averages: the loader has no images")
    return {
        name: Activation(
            average=total / images,
            mean=float(total.mean() / images),
            sparsity=zeros[name] / (images * total.size),
        )
        for name, total in sums.items()
    }


# Keeping the numbers ------------------------------------------------------------------------


def save_averages(averages: Mapping[str, Activation], path: Path, source: str = "") -> None:
    """Write the numbers to path (.json), and the arrays beside it (.npz); the first is written
    last, so it is there only if both are complete. source: what they were computed from."""
    path.unlink(missing_ok=True)
    arrays = path.with_suffix(".npz")
    with written_whole(arrays) as part, part.open("wb") as file:
        np.savez(file, **{name: a.average for name, a in averages.items()})
    layers = {
        name: {"shape": a.average.shape, "mean": a.mean, "sparsity": a.sparsity}
        for name, a in averages.items()
    }
    write_json({"source": source, "layers": layers}, path)


def load_averages(path: Path, source: str = "") -> dict[str, Activation] | None:
    """What `save_averages` wrote; None if it is not there, damaged, or of another source."""
    try:
        numbers = json.loads(path.read_text())
        if numbers["source"] != source:
            return None
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            return {
                name: Activation(arrays[name], layer["mean"], layer["sparsity"])
                for name, layer in numbers["layers"].items()
            }
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


# Drawing ------------------------------------------------------------------------------------


def draw_feature_maps(
    image: np.ndarray, maps: Mapping[str, np.ndarray], folder: Path, title: str
) -> None:
    """A picture of every layer in the folder, the image (H, W, C) beside its channels, and an
    overview of all ReLU layers beside the folder, under its name."""
    for path, name in _pictures(folder, maps):
        heading = f"{title}: {_described(name, maps[name])}"
        viz.plot_channels({"": maps[name]}, path, heading, "activation", image)
    heading = f"{title}: the first 16 channels of each layer"
    viz.plot_layers(_rectified(maps), folder.with_suffix(".png"), heading, image)


def draw_averages(averages: Mapping[str, Activation], folder: Path, title: str) -> None:
    """The same for the average absolute activations."""
    maps = {name: activation.average for name, activation in averages.items()}
    for path, name in _pictures(folder, maps):
        heading = f"{title}: {_described(name, maps[name])}"
        viz.plot_channels({"": maps[name]}, path, heading, "mean |activation|")
    heading = f"{title}: the first 16 channels of each layer"
    viz.plot_layers(_rectified(maps), folder.with_suffix(".png"), heading)


def draw_comparison(networks: Mapping[str, Mapping[str, Activation]], folder: Path) -> None:
    """The averages of several networks side by side: a picture of every layer that all have, in the
    folder, and a chart of sparsity and mean activation beside the folder, under its name."""
    first = next(iter(networks.values()))
    common = {
        name: activation.average
        for name, activation in first.items()
        if all(name in averages for averages in networks.values())
    }
    for path, name in _pictures(folder, common):
        panels = {f"network {key}": averages[name].average for key, averages in networks.items()}
        heading = f"{_described(name, common[name])} (colours by the square root)"
        viz.plot_channels(panels, path, heading, "mean |activation|", power=0.5)
    viz.plot_bars(
        {
            "share of zeros (%)": {
                f"network {key}": {name: 100 * a.sparsity for name, a in averages.items()}
                for key, averages in networks.items()
            },
            "mean |activation|": {
                f"network {key}": {name: a.mean for name, a in averages.items()}
                for key, averages in networks.items()
            },
        },
        folder.with_suffix(".png"),
        "Zeros and mean activation of every layer",
    )


def _pictures(folder: Path, names: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
    """The file of each layer's picture, numbered in the order of the network."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start=1):
        yield folder / f"{number:02d}-{name.replace(' ', '-')}.png", name


def _described(name: str, maps: np.ndarray) -> str:
    C, H, W = maps.shape
    return f"{name}, {C} channels, {H}×{W}"


def _rectified(maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of the ReLU layers, for an overview; all if there are none."""
    return {name: m for name, m in maps.items() if name.startswith("ReLU")} or dict(maps)


def averages_table(networks: Mapping[str, Mapping[str, Activation]]) -> str:
    """Sparsity and mean activation of every layer, as a Markdown table that is aligned, too."""
    names = viz.merged([list(averages) for averages in networks.values()])
    head = ["layer", "C × H×W"]
    for key in networks:
        head += [f"{key}: zeros", f"{key}: mean"]
    rows = []
    for name in names:
        found = [averages.get(name) for averages in networks.values()]
        C, H, W = next(a.average.shape for a in found if a)
        row = [name, f"{C} × {H}×{W}"]
        for a in found:
            row += [f"{a.sparsity:.1%}", f"{a.mean:.4f}"] if a else ["", ""]
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    padded = [
        [
            f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}"
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        for row in (head, *rows)
    ]
    return table(padded[0], padded[1:])


# The command line ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """A network of a finished run. name: A or B. size: to which its images were resized. images:
    what they were, and root: where they lay, as far as the run says."""

    name: str
    size: int | None
    model: nn.Module
    normalize: Compose
    facts: bytes
    """What its results follow from: the weights and the normalisation."""
    images: str | None
    root: Path | None


def open_run(folder: Path) -> Trained:
    """The network with the best weights of a training run. SystemExit says what is wrong."""
    metrics, weights = folder / "metrics.json", folder / "best.safetensors"
    if not folder.is_dir():
        raise SystemExit(f"there is no folder {folder}; name that of a finished training run")
    for needed in (metrics, weights):
        if not needed.is_file():
            raise SystemExit(f"{folder} holds no finished training run: {needed.name} is missing")
    try:
        found = json.loads(metrics.read_text())
        settings, root = found["settings"], found.get("data_root")
        network, dataset = settings["network"], settings["dataset"]
        mean, std, size = settings["mean"], settings["std"], settings["size"]
        normalize = Compose([*([Resize(size)] if size else []), Normalize(mean, std)])
    except (ValueError, KeyError, TypeError) as error:
        raise SystemExit(
            f"{metrics} does not say which network was trained, and on what: {error!r}"
        ) from None
    if dataset != "cifar10" or network not in ("A", "B"):
        raise SystemExit(
            f"{folder} holds network {network} trained on {dataset}; this looks into networks A "
            "and B, trained on cifar10"
        )
    model = networks.build(network, channels=3)
    try:
        state = serialization.load_file(weights)
    except CheckpointError as error:
        raise SystemExit(str(error)) from None
    try:
        model.load_state_dict(state)
    except CheckpointError:
        raise SystemExit(
            f"the weights in {weights} do not fit network {network}, which {metrics.name} names"
        ) from None
    facts = weights.read_bytes() + f"{mean} {std} {size}".encode()
    images = settings.get("images")
    return Trained(network, size, model, normalize, facts, images, root and Path(root))


def open_runs(folders: list[Path]) -> dict[str, Trained]:
    """The runs by a name of their own."""
    runs = [open_run(folder) for folder in folders]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [f"{name}{number}" for number, name in enumerate(names, start=1)]
    return dict(zip(names, runs, strict=True))


def load_data(root: Path | None, runs: Iterable[Trained]) -> datasets.Data:
    """CIFAR-10 in the size of the runs, from the folder that they were trained on."""
    sizes, roots = {run.size for run in runs}, {run.root for run in runs if run.root}
    if len(sizes) > 1:
        raise SystemExit("the runs were trained on images of different sizes")
    if root is None and len(roots) > 1:
        named = " and ".join(sorted(map(str, roots)))
        raise SystemExit(f"the runs were trained on images in {named}: choose with --data-root")
    if root is None and roots and not (root := roots.pop()).is_dir():
        raise SystemExit(f"{root}, which the run was trained on, is gone: name --data-root")
    with plain_errors():
        data = datasets.load("cifar10", root, sizes.pop())
    for images in sorted({run.images for run in runs if run.images} - {data.source}):
        print(f"These images are {data.source}; the network was trained on {images}.")
    return data


def choose_image(test: ImageDataset, number: int, file: Path | None) -> tuple[np.ndarray, str]:
    """The image (H, W, 3) and what it is called."""
    H, W = test.buckets[0].size
    if file is None:
        if not 0 <= number < len(test):
            raise SystemExit(
                f"--image {number}: the test images have the numbers 0 to {len(test) - 1}"
            )
        image, label = test[number]
        return image, f"test image {number} ({test.classes[label] if test.classes else label})"
    try:
        image = np.array(read_image(file))
    except DataError as error:
        raise SystemExit(f"--image-file: cannot read {file}: {error.__cause__}") from None
    if image.shape != (H, W, 3):
        raise SystemExit(
            f"--image-file: {file} has {image.shape[1]}×{image.shape[0]} pixels, the networks were "
            f"trained on {W}×{H}"
        )
    return image, file.name


def average_over(run: Trained, train: ImageDataset, path: Path) -> dict[str, Activation]:
    """The averages in the file, if they are of this network and these images, or new ones."""
    digest = hashlib.sha256(run.facts)
    for bucket in train.buckets:
        digest.update(bucket.rows.tobytes())
        digest.update(bucket.images.data)
    source = digest.hexdigest()
    averages = load_averages(path, source)
    if averages is None:
        averages = activation_averages(run.model, DataLoader(train, BATCH, transform=run.normalize))
        save_averages(averages, path, source)
    return averages


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="one or two runs")
    parser.add_argument("--data-root", type=Path, help="folder of CIFAR-10 (default: the run's)")
    parser.add_argument("--image", type=int, default=0, metavar="K", help="number of a test image")
    parser.add_argument("--image-file", type=Path, metavar="FILE", help="an image of your own")
    parser.add_argument("--limit", type=positive, help="average over only so many training images")
    parser.add_argument("--out", type=Path, help="default: maps in the folder of the first run")
    arguments = parser.parse_args(argv)
    if len(arguments.runs) > 2:
        parser.error(f"name one or two runs, not {len(arguments.runs)}")
    return arguments


@program()
def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    runs = open_runs(arguments.runs)
    data = load_data(arguments.data_root, runs.values())
    image, subject = choose_image(data.test, arguments.image, arguments.image_file)
    train = sampled(data.train, arguments.limit)
    out = arguments.out or arguments.runs[0] / "maps"
    out.mkdir(parents=True, exist_ok=True)

    averages = {}
    for name, run in runs.items():
        pixels = run.normalize(image[None])
        with inference(run.model):
            shares = run.model(pixels).softmax(1).numpy()[0]
        best = int(shares.argmax())
        answer = data.train.classes[best] if data.train.classes else best
        draw_feature_maps(
            image, feature_maps(run.model, pixels), out / f"feature-maps-{name}",
            f"Network {name}, {subject}, taken for {answer} ({shares[best]:.0%})",
        )  # fmt: skip
        averages[name] = average_over(run, train, out / f"activations-{name}.json")
        draw_averages(
            averages[name], out / f"average-activations-{name}",
            f"Network {name}, mean |activation| over {counted(len(train), 'image')}",
        )  # fmt: skip
    if len(runs) == 2:
        draw_comparison(averages, out / "comparison")
    rows = averages_table(averages)
    print(rows)
    note = (
        "Zeros: the share of values that are exactly 0. Mean: the mean absolute activation. Over "
        f"{counted(len(train), 'training image')}."
    )
    write_text(f"{rows}\n\n{note}\n", out / "table.md")
    print(f"{note}\nwrote pictures, table.md and activations-*.json to {out}")


if __name__ == "__main__":
    main()
