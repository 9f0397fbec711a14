"""torchvision.datasets: data sets that are downloaded, image folders, and images at random.

An item is (image, target): the image as PIL has it, unless a transform makes something else of it.
`data` holds all images, `targets` their classes. Files lie where torchvision looks for them.
"""

from __future__ import annotations

import gzip
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..data.cifar10 import read_pickle
from ..data.datasets import ArrayDataset, Batched, ImageDataset
from ..data.download import fetch, unpack
from ..data.generic import Dataset
from ..data.image_folder import (
    IMG_EXTENSIONS,
    Color,
    class_names,
    files_below,
    read_image,
)
from ..data.mnist import read_idx
from ..data.transforms import Compose
from ..device import CPU
from ..engine import Tensor
from ..errors import DataError
from ..files import written_whole
from ..ops.transfer import host
from .batched import batched

__all__ = [
    "CIFAR10", "CIFAR100", "EMNIST", "IMG_EXTENSIONS", "KMNIST", "MNIST", "SVHN", "DatasetFolder",
    "FakeData", "FashionMNIST", "ImageFolder", "VisionDataset", "default_loader",
]  # fmt: skip

StrPath = str | os.PathLike[str]
Function = Callable[[Any], Any]


class VisionDataset(Dataset[Any]):
    """Items (image, target). transform, target_transform: of either; or transforms: of both."""

    def __init__(
        self,
        root: StrPath | None = None,
        transforms: Callable[[Any, Any], Any] | None = None,
        transform: Function | None = None,
        target_transform: Function | None = None,
    ) -> None:
        if transforms is not None and (transform or target_transform):
            raise ValueError(
                f"{type(self).__name__}: give transforms of both, or transform and "
                "target_transform, not all"
            )
        self.root = root if root is None else os.path.expanduser(root)
        self.transforms, self.transform = transforms, transform
        self.target_transform = target_transform

    def _transformed(self, image: Any, target: Any) -> tuple[Any, Any]:
        if self.transforms is not None:
            return self.transforms(image, target)
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} must define __len__")

    def __repr__(self) -> str:
        lines = [f"Dataset {type(self).__name__}", f"    Number of datapoints: {len(self)}"]
        if self.root is not None:
            lines.append(f"    Root location: {self.root}")
        return "\n".join(lines)


class _Downloaded(VisionDataset, Batched):
    """Images in memory. Subclasses fetch files into the root and read them. Where the steps of
    `transform` are those of a batch, too, a DataLoader makes its batches by kernels."""

    def __init__(
        self,
        root: StrPath,
        transform: Function | None,
        target_transform: Function | None,
        download: bool,
    ) -> None:
        super().__init__(root, None, transform, target_transform)
        if download:
            self.download()
        try:
            self.data, self.targets = self._load()
        except FileNotFoundError as error:
            raise RuntimeError(
                f"Dataset not found: {error}. You can use download=True to download it"
            ) from None

    def download(self) -> None:
        """Fetch what is not there."""
        raise TypeError(f"{type(self).__name__} must define download")

    def _load(self) -> tuple[Any, Any]:
        """(images, targets)."""
        raise TypeError(f"{type(self).__name__} must define _load")

    def _images(self) -> np.ndarray:
        """(N, H, W) or (N, H, W, C) uint8."""
        return _array(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        from PIL import Image

        image = Image.fromarray(np.ascontiguousarray(self._images()[index]))
        return self._transformed(image, int(self.targets[index]))

    def batched(self) -> tuple[ImageDataset, Compose] | None:
        own, plain = type(self), _Downloaded
        if (
            own.__getitem__ is not plain.__getitem__ or own._transformed is not plain._transformed
            or self.transforms is not None or self.target_transform is not None
        ):  # fmt: skip
            return None
        try:
            steps = batched(self.transform)
            if steps is not None:
                return ArrayDataset(self._images(), _array(self.targets)), steps
        except (TypeError, ValueError):  # items raise the errors, if anybody reads those
            pass
        return None

    def __len__(self) -> int:
        return len(self.data)


def _array(values: Any) -> np.ndarray:
    return host(values) if isinstance(values, Tensor) else np.asarray(values)


# IDX files ------------------------------------------------------------------------------------


class MNIST(_Downloaded):
    """28×28 digits: 60,000 to train on, 10,000 to test. `data` is a uint8 tensor (N, 28, 28)."""

    mirrors: tuple[str, ...] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    )
    # MD5 of the compressed images and labels, to train on and to test with.
    checksums: tuple[str, ...] = (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c",
    )  # fmt: skip
    classes = [
        "0 - zero", "1 - one", "2 - two", "3 - three", "4 - four", "5 - five", "6 - six",
        "7 - seven", "8 - eight", "9 - nine",
    ]  # fmt: skip

    def __init__(
        self,
        root: StrPath,
        train: bool = True,
        transform: Function | None = None,
        target_transform: Function | None = None,
        download: bool = False,
    ) -> None:
        self.train = train
        super().__init__(root, transform, target_transform, download)

    @property
    def raw_folder(self) -> str:
        return os.path.join(str(self.root), type(self).__name__, "raw")

    # As data and targets were called.
    train_data = test_data = property(lambda self: self.data)
    train_labels = test_labels = property(lambda self: self.targets)

    @property
    def class_to_idx(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.classes)}

    def _names(self) -> list[str]:
        """The files of images and labels, to train on and to test with."""
        parts, kinds = ("train", "t10k"), ("images-idx3", "labels-idx1")
        return [f"{part}-{kind}-ubyte" for part in parts for kind in kinds]

    def download(self) -> None:
        for name, md5 in zip(self._names(), self.checksums, strict=True):
            target = Path(self.raw_folder, name)
            if not target.is_file():
                packed = target.with_name(f"{name}.gz")
                fetch([f"{mirror}{name}.gz" for mirror in self.mirrors], packed, md5)
                _gunzip(packed, target)

    def _load(self) -> tuple[Any, Any]:
        images, labels = (
            read_idx(_either(Path(self.raw_folder, name)))
            for name in self._names()[slice(0, 2) if self.train else slice(2, 4)]
        )
        if images.ndim != 3 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise DataError(
                f"{type(self).__name__}: expected uint8 images (N, H, W) and N labels in "
                f"{self.raw_folder}, got {images.shape} of {images.dtype} and {labels.shape}"
            )
        return Tensor(images, CPU), Tensor(labels.astype(np.int64), CPU)


class FashionMNIST(MNIST):
    """28×28 pictures of clothes."""

    mirrors = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
    checksums = (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310",
    )  # fmt: skip
    classes = [
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
        "Ankle boot",
    ]  # fmt: skip


class KMNIST(MNIST):
    """28×28 Japanese characters."""

    mirrors = ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",)
    checksums = (
        "bdb82020997e1d708af4cf47b453dcf7", "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7", "7320c461ea6c1c855c0b718fb2a4b134",
    )  # fmt: skip
    classes = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]


class EMNIST(MNIST):
    """28×28 letters and digits. split: "byclass", "bymerge", "balanced", "letters", "digits" or
    "mnist"."""

    url = "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip"
    md5 = "58c8d27c78d21e728a6bc7b3cc06412e"
    _all = [*"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"]
    _merged = sorted(set(_all) - set("cijklmopsuvwxyz"))
    classes_split_dict = {
        "byclass": sorted(_all), "bymerge": _merged, "balanced": _merged,
        "letters": ["N/A", *"abcdefghijklmnopqrstuvwxyz"], "digits": _all[:10], "mnist": _all[:10],
    }  # fmt: skip
    splits = tuple(classes_split_dict)

    def __init__(self, root: StrPath, split: str, **kwargs: Any) -> None:
        if split not in self.splits:
            raise ValueError(f"EMNIST: split must be one of {self.splits}, got {split!r}")
        self.split, self.classes = split, self.classes_split_dict[split]
        super().__init__(root, **kwargs)

    def _names(self) -> list[str]:
        return [
            f"emnist-{self.split}-{part}-{kind}-ubyte"
            for part in ("train", "test")
            for kind in ("images-idx3", "labels-idx1")
        ]

    def download(self) -> None:
        targets = [Path(self.raw_folder, name) for name in self._names()]
        if all(target.is_file() for target in targets):
            return
        archive = fetch(self.url, Path(self.raw_folder, "gzip.zip"), self.md5)
        try:
            with zipfile.ZipFile(archive) as file:
                for target in targets:
                    packed = target.with_name(f"{target.name}.gz")
                    with file.open(f"gzip/{packed.name}") as source, open(packed, "wb") as sink:
                        shutil.copyfileobj(source, sink)
                    _gunzip(packed, target)
        except (zipfile.BadZipFile, KeyError) as error:
            raise DataError(f"EMNIST: {archive} is damaged: {error}") from error


def _either(path: Path) -> Path:
    """The file, or the compressed one that is there instead."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.is_file() and not path.is_file() else path


def _gunzip(packed: Path, target: Path) -> None:
    with written_whole(target) as part, gzip.open(packed) as source, open(part, "wb") as sink:
        shutil.copyfileobj(source, sink)


# CIFAR and SVHN -------------------------------------------------------------------------------


class CIFAR10(_Downloaded):
    """32×32 colour images in ten classes. `data` is a uint8 array (N, 32, 32, 3), `targets` a
    list."""

    url = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    md5 = "c58f30108f718f92721af3b95e74349a"
    base_folder = "cifar-10-batches-py"
    _files: tuple[tuple[str, ...], tuple[str, ...]] = (
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        ("test_batch",),
    )
    _meta = "batches.meta", "label_names"
    _labels = "labels"

    def __init__(
        self,
        root: StrPath,
        train: bool = True,
        transform: Function | None = None,
        target_transform: Function | None = None,
        download: bool = False,
    ) -> None:
        self.train = train
        super().__init__(root, transform, target_transform, download)

    def _path(self, name: str) -> Path:
        return Path(str(self.root), self.base_folder, name)

    def download(self) -> None:
        names = [*self._files[0], *self._files[1], self._meta[0]]
        if not all(self._path(name).is_file() for name in names):
            archive = fetch(self.url, Path(str(self.root), self.url.rpartition("/")[2]), self.md5)
            unpack(archive, Path(str(self.root)))

    def _load(self) -> tuple[Any, Any]:
        images, targets = [], list[int]()
        for name in self._files[0 if self.train else 1]:
            data, labels = read_pickle(self._path(name), "data", self._labels)
            if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3 * 32 * 32:
                raise DataError(f"{type(self).__name__}: {self._path(name)} holds no images")
            if len(labels) != len(data):
                raise DataError(
                    f"{type(self).__name__}: {self._path(name)} has {len(data)} images and "
                    f"{len(labels)} labels"
                )
            images.append(data)
            targets += [int(label) for label in labels]
        (names,) = read_pickle(self._path(self._meta[0]), self._meta[1])
        self.classes = [name.decode() if isinstance(name, bytes) else name for name in names]
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        pixels = np.concatenate(images).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(pixels), targets


class CIFAR100(CIFAR10):
    """32×32 colour images in a hundred classes."""

    url = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    md5 = "eb9058c3a382ffc7106e4002c42a8d85"
    base_folder = "cifar-100-python"
    _files = ("train",), ("test",)
    _meta = "meta", "fine_label_names"
    _labels = "fine_labels"


class SVHN(_Downloaded):
    """32×32 house numbers; needs scipy. split: "train", "test" or "extra". `data` is
    (N, 3, 32, 32), `labels` the classes."""

    _checksums = {
        "train": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test": "eb5a983be6a315427106f1b164d9cef3",
        "extra": "a93ce644f1a588dc4d68dda5feec44a7",
    }

    def __init__(
        self,
        root: StrPath,
        split: str = "train",
        transform: Function | None = None,
        target_transform: Function | None = None,
        download: bool = False,
    ) -> None:
        if split not in self._checksums:
            raise ValueError(f"SVHN: split must be one of {[*self._checksums]}, got {split!r}")
        self.split = split
        super().__init__(root, transform, target_transform, download)
        self.labels = self.targets

    @property
    def _file(self) -> Path:
        return Path(str(self.root), f"{self.split}_32x32.mat")

    def download(self) -> None:
        url = f"http://ufldl.stanford.edu/housenumbers/{self._file.name}"
        fetch(url, self._file, self._checksums[self.split])

    def _load(self) -> tuple[Any, Any]:
        try:
            from scipy.io import loadmat
        except ImportError:
            raise ImportError(
                "SVHN needs scipy to read .mat files; install it with `pip install scipy`"
            ) from None
        content = loadmat(self._file)
        labels = content["y"].astype(np.int64).squeeze()
        labels[labels == 10] = 0  # the files say 10 for the digit 0
        return np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1)), labels

    def _images(self) -> np.ndarray:
        return self.data.transpose(0, 2, 3, 1)


# Folders ------------------------------------------------------------------------------------


def default_loader(
    path: StrPath,
    mode: str = "RGB",
    exif_orientation: bool = False,
    background: Color | None = None,
) -> Any:
    """The image in a file. More than 8 bits are scaled to 8. exif_orientation: turn it as the
    camera was held. background: what is seen through transparent pixels, by default the colours
    that the file has for them. `functools.partial` makes a loader with other arguments. DataError
    names a file that cannot be decoded."""
    return read_image(path, mode, exif_orientation, background, "ImageFolder")


class DatasetFolder(VisionDataset):
    """Files root/<class>/**/<file>, classes in sorted order. extensions: those of the files, or
    is_valid_file(path) tells them. loader(path): the sample. allow_empty: classes may have no
    file. Unlike in torchvision, hidden folders (.git, .ipynb_checkpoints) are no classes and are
    left out, and so are the ._ files of macOS unless is_valid_file takes them. Links are
    followed."""

    def __init__(
        self,
        root: StrPath,
        loader: Callable[[str], Any],
        extensions: Iterable[str] | str | None = None,
        transform: Function | None = None,
        target_transform: Function | None = None,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
    ) -> None:
        super().__init__(root, None, transform, target_transform)
        if (extensions is None) == (is_valid_file is None):
            raise ValueError("Both extensions and is_valid_file cannot be None or not None at the "
                             "same time")  # fmt: skip
        ends = extensions if isinstance(extensions, str) else tuple(extensions or ())

        def is_listed(path: str) -> bool:
            name = os.path.basename(path)
            return name.lower().endswith(ends) and not name.startswith("._")

        valid = is_valid_file or is_listed
        self.loader, self.extensions = loader, extensions
        self.classes, self.class_to_idx = self.find_classes(str(self.root))
        self.samples: list[tuple[str, int]] = []
        empty = []
        for name in self.classes:
            found = list(filter(valid, files_below(os.path.join(str(self.root), name))))
            self.samples += [(path, self.class_to_idx[name]) for path in found]
            if not found:
                empty.append(name)
        if empty and not allow_empty:
            raise FileNotFoundError(
                f"Found no valid file for the classes {', '.join(empty)} in {self.root}"
                + (f"; supported extensions are {extensions}" if extensions else "")
            )
        self.targets = [target for _, target in self.samples]

    def find_classes(self, directory: StrPath) -> tuple[list[str], dict[str, int]]:
        """(names, {name: number}) of the classes in a folder."""
        classes = class_names(directory)
        if not classes:
            raise FileNotFoundError(f"Couldn't find any class folder in {directory}.")
        return classes, {name: i for i, name in enumerate(classes)}

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, target = self.samples[index]
        return self._transformed(self.loader(path), target)

    def __len__(self) -> int:
        return len(self.samples)


class ImageFolder(DatasetFolder):
    """Images root/<class>/**/<file>."""

    def __init__(
        self,
        root: StrPath,
        transform: Function | None = None,
        target_transform: Function | None = None,
        loader: Callable[[str], Any] = default_loader,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
    ) -> None:
        extensions = IMG_EXTENSIONS if is_valid_file is None else None
        super().__init__(
            root, loader, extensions, transform, target_transform, is_valid_file, allow_empty
        )
        self.imgs = self.samples


class FakeData(VisionDataset):
    """`size` images (C, H, W) `image_size` of random pixels, with random classes."""

    def __init__(
        self,
        size: int = 1000,
        image_size: tuple[int, int, int] = (3, 224, 224),
        num_classes: int = 10,
        transform: Function | None = None,
        target_transform: Function | None = None,
        random_offset: int = 0,
    ) -> None:
        super().__init__(None, None, transform, target_transform)
        self.size, self.image_size, self.num_classes = size, image_size, num_classes
        self.random_offset = random_offset

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        from PIL import Image

        if not -self.size <= index < self.size:
            raise IndexError(f"FakeData: index {index} is out of range for {self.size} images")
        C, H, W = self.image_size
        draws = np.random.default_rng((self.random_offset, index % self.size))
        pixels = draws.integers(0, 256, (H, W, C), np.uint8)
        image = Image.fromarray(pixels[..., 0] if C == 1 else pixels)
        return self._transformed(image, int(draws.integers(self.num_classes)))

    def __len__(self) -> int:
        return self.size
