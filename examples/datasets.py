"""The data sets that the examples train on, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from examples.make_mixed_mnist import load_mixed
from minigrad.data import ImageDataset, load_cifar10, load_digits, load_image_folder, load_mnist
from minigrad.data.image_folder import files_below, is_image
from minigrad.errors import DataError
from minigrad.vision import datasets

CACHE = Path("runs") / "cache"  # decoded image folders


@dataclass(frozen=True)
class Data:
    """Training and test images; the last `validation` of the shuffled training images are held
    out to choose settings and weights by. root: the folder of the files, if there is one."""

    train: ImageDataset
    test: ImageDataset
    validation: int
    source: str = "the original files"
    root: Path | None = None


def load(name: str, root: Path | None, size: int | None = None) -> Data:
    """One of digits (embedded), mnist, mixed (what make_mixed_mnist.py makes) and cifar10.

    root: its folder, by default data, data/mixed or data. MNIST and CIFAR-10 are downloaded
    if they are absent. CIFAR-10 may also be an image folder {train,test}/<class>/*.
    size: the images of an image folder are resized to it as they are decoded, antialiased.
    """
    if name == "digits":
        digits, indices = load_digits(), range(1797)
        return Data(
            digits.subset([i for i in indices if i % 5]),
            digits.subset([i for i in indices if not i % 5]),  # every fifth image
            validation=297,
        )
    if name == "mixed":
        root = root or Path("data") / "mixed"
        return _split(root, *load_mixed(root, size), 6)
    root = root or Path("data")
    if name == "mnist":
        return _split(root, *_fetched("MNIST", load_mnist, root), 6)
    if (root / "train").is_dir():
        return _folder(root, size)
    return _split(root, *_fetched("CIFAR10", load_cifar10, root), 10)


def _split(root: Path, train: ImageDataset, test: ImageDataset, share: int, **options: str) -> Data:
    """One training image of `share` is held out: 10,000 of MNIST, 5,000 of CIFAR-10."""
    return Data(train, test, len(train) // share, root=root.resolve(), **options)


def _folder(root: Path, size: int | None) -> Data:
    """CIFAR-10 as images."""
    print(f"reading the images in {root} …", flush=True)
    train, test = (load_image_folder(root / part, size, cache=CACHE) for part in ("train", "test"))
    if train.classes != test.classes or train.num_classes > 10:
        raise DataError(
            f"{root} must hold folders of the same classes, at most 10, in train and test, got "
            f"{train.classes} and {test.classes}"
        )
    kinds = {Path(file).suffix.lower() for file in files_below(root / "train") if is_image(file)}
    source = f"an image folder of {', '.join(sorted(kinds))} files"
    return _split(root, train, test, 10, source=source)


def _fetched(
    name: str, reader: Callable[..., ImageDataset], root: Path
) -> tuple[ImageDataset, ImageDataset]:
    """What the reader reads; downloaded, if it is absent."""
    try:
        return reader(root, train=True), reader(root, train=False)
    except FileNotFoundError:
        try:
            getattr(datasets, name)(root, download=True)
        except (DataError, OSError) as error:
            raise SystemExit(
                f"{name} is not in {root}, and {error}\nOr give its folder with --data-root, or "
                f"examples.reproduce with --{name.lower()}."
            ) from error
        return reader(root, train=True), reader(root, train=False)
