"""Data sets of torchvision's kind, beside torchvision's on the same files."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets as theirs
from PIL import Image

import minigrad.vision.datasets as ours
from minigrad.errors import DataError


def same_items(mine, other, indices=None):
    assert len(mine) == len(other)
    for i in range(len(other)) if indices is None else indices:
        (image, target), (expected, wanted) = mine[i], other[i]
        assert np.array_equal(np.asarray(image), np.asarray(expected))
        assert image.mode == expected.mode
        assert type(target) is type(wanted) is int
        assert target == wanted


def write_cifar(folder, labels, files, meta, names):
    draws = np.random.default_rng(0)
    folder.mkdir()
    for name in files:
        batch = {
            "data": draws.integers(0, 256, (7, 3072), np.uint8),
            labels: draws.integers(0, len(names), 7).tolist(),
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / meta[0]).write_bytes(pickle.dumps({meta[1]: names}, protocol=2))


CIFAR = {
    "CIFAR10": (
        "cifar-10-batches-py", "labels", [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"],
        ("batches.meta", "label_names"), [f"class {i}" for i in range(10)],
    ),
    "CIFAR100": (
        "cifar-100-python", "fine_labels", ["train", "test"], ("meta", "fine_label_names"),
        [f"class {i}" for i in range(100)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("train", [True, False])
def test_cifar(name, train, tmp_path, monkeypatch):
    folder, *content = CIFAR[name]
    write_cifar(tmp_path / folder, *content)
    # torchvision's checksums are those of the real files.
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    mine = getattr(ours, name)(tmp_path, train)
    other = getattr(theirs, name)(tmp_path, train)
    same_items(mine, other)
    assert np.array_equal(mine.data, other.data)
    assert mine.targets == other.targets
    assert mine.classes == other.classes
    assert mine.class_to_idx == other.class_to_idx


@pytest.mark.skipif("MINIGRAD_DATA" not in os.environ, reason="MINIGRAD_DATA names no files")
@pytest.mark.parametrize("train", [True, False])
def test_mnist_on_the_real_files(train):
    root = os.environ["MINIGRAD_DATA"]
    mine, other = ours.MNIST(root, train), theirs.MNIST(root, train)
    assert np.array_equal(mine.data.numpy(), other.data.numpy())
    assert np.array_equal(mine.targets.numpy(), other.targets.numpy())
    same_items(mine, other, range(0, len(other), 997))


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_sources_are_torchvisions(name):
    mine, other = getattr(ours, name), getattr(theirs, name)
    assert list(mine.mirrors) == other.mirrors
    assert list(mine.checksums) == [md5 for _, md5 in other.resources]
    assert mine.classes == other.classes


def test_emnist_is_torchvisions():
    assert set(ours.EMNIST.splits) == set(theirs.EMNIST.splits)
    assert ours.EMNIST.classes_split_dict == theirs.EMNIST.classes_split_dict
    assert (ours.EMNIST.url, ours.EMNIST.md5) == (theirs.EMNIST.url, theirs.EMNIST.md5)
    with pytest.raises(ValueError, match="split must be one of"):
        ours.EMNIST("data", "all")
    other = {split: entry[2] for split, entry in theirs.SVHN.split_list.items()}
    assert ours.SVHN._checksums == other


@pytest.fixture
def pictures(tmp_path):
    draws = np.random.default_rng(0)
    for name in ("dog/a.png", "dog/.b.PNG", "cat/deep/c.bmp", "cat/d.gif", "cat/e.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (6, 5, 3), np.uint8)).save(path)
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    return tmp_path


def test_image_folder(pictures):
    mine = ours.ImageFolder(pictures, target_transform=lambda label: label + 1)
    extensions = {"is_valid_file": lambda path: path.lower().endswith(ours.IMG_EXTENSIONS)}
    other = theirs.ImageFolder(
        str(pictures), target_transform=lambda label: label + 1, **extensions
    )
    same_items(mine, other)
    assert mine.samples == other.samples
    assert mine.targets == other.targets
    assert mine.class_to_idx == {"cat": 0, "dog": 1}


def test_folders_that_do_not_fit(pictures):
    (pictures / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no valid file for the classes empty"):
        ours.ImageFolder(pictures)
    assert len(ours.ImageFolder(pictures, allow_empty=True)) == 5
    with pytest.raises(FileNotFoundError, match="Couldn't find any class folder"):
        ours.ImageFolder(pictures / "empty")
    path = Path(pictures / "dog" / "a.png")
    path.write_bytes(path.read_bytes()[:40])
    data = ours.ImageFolder(pictures, allow_empty=True)
    with pytest.raises(DataError, match=r"cannot decode .*a\.png"):
        data[[name.endswith("a.png") for name, _ in data.samples].index(True)]
    with pytest.raises(OSError, match="cannot decode"):  # scripts that skip files catch it
        data.loader(path)


def test_extensions_are_a_list_or_one(pictures):
    for extensions, count in ([".png"], 2), (".png", 2), ((".bmp", ".gif"), 2):
        folder = ours.DatasetFolder(pictures, Path, extensions, allow_empty=True)
        assert len(folder) == count


def test_fake_data_is_the_same_every_time():
    data = ours.FakeData(10, (3, 8, 9), 4)
    image, label = data[3]
    assert image.size == (9, 8)
    assert 0 <= label < 4
    assert np.array_equal(np.asarray(image), np.asarray(data[3][0]))
    assert not np.array_equal(np.asarray(image), np.asarray(data[4][0]))
    with pytest.raises(IndexError):
        data[10]


def test_transforms_of_both():
    both = ours.VisionDataset(transforms=lambda image, target: (image + 1, target * 2))
    assert both._transformed(1, 2) == (2, 4)
    with pytest.raises(ValueError, match="not all"):
        ours.VisionDataset(transforms=max, transform=max)


def test_names_that_old_scripts_use():
    data = ours.MNIST.__new__(ours.MNIST)
    data.data, data.targets = "images", "classes"
    assert data.train_data == data.test_data == "images"
    assert data.train_labels == data.test_labels == "classes"
