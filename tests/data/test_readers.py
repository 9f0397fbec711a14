"""Files on disk: IDX, MNIST's folders, image folders and their cache, the packed digits."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad.data import (
    ArrayDataset,
    BucketDataset,
    image_folder,
    load_digits,
    load_image_folder,
    load_mnist,
    read_idx,
)
from minigrad.errors import DataError


def idx(array: np.ndarray) -> bytes:
    code = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim])
    header += b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (0, 3), ()])
@pytest.mark.parametrize("packed", [False, True])
def test_read_idx_returns_what_was_written(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], packed: bool
) -> None:
    array = np.asarray(np.random.default_rng(0).random(shape) * 100, dtype)
    content = idx(array)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content) if packed else content)
    result = read_idx(path)
    assert result.dtype == array.dtype
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, array)


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
PACKED = gzip.compress(GOOD, mtime=0)  # the time of packing would be in the tests' names


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "has 0 bytes"),
        (GOOD[:10], "ends within its header of 16 bytes"),
        (GOOD[:-1], r"is truncated: shape \(2, 3, 4\) of uint8 needs 40 bytes, the file has 39"),
        (GOOD + b"x", "is too long.*41"),
        (b"\x00\x01" + GOOD[2:], "no IDX file: its first four bytes are 00 01 08 03"),
        (b"\x00\x00\x0a" + GOOD[3:], "no IDX file"),
        (b"\x89PNG" + GOOD, "no IDX file: its first four bytes are 89 50 4e 47"),
        (bytes([0, 0, 8, 255]) + bytes(2000), "ends within its header"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, "is truncated"),
        (PACKED[:-9], "damaged gzip"),
        (PACKED[:15] + b"\xff" * 20, "damaged gzip"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"damaged.*{match}"):
        read_idx(path)


def write_mnist(folder: Path, suffix: str = "", count: int = 5) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    pack: Any = gzip.compress if suffix else bytes
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))
    return images


@pytest.mark.parametrize("below", ["MNIST/raw", "raw", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("train", [True, False])
def test_load_mnist_finds_the_files(tmp_path: Path, below: str, suffix: str, train: bool) -> None:
    images = write_mnist(tmp_path / below, suffix)
    dataset = load_mnist(tmp_path, train)
    np.testing.assert_array_equal(dataset.images[..., 0], images)
    assert dataset.labels.tolist() == [0, 1, 2, 3, 4]
    assert dataset.classes == tuple("0123456789")


def test_load_mnist_names_the_places_it_tried(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte") as caught:
        load_mnist(tmp_path / "nowhere")
    for below in ("MNIST/raw", "raw", ""):
        expected = tmp_path / "nowhere" / below / "train-images-idx3-ubyte"
        assert str(expected) in str(caught.value)


def test_load_mnist_refuses_files_that_do_not_belong_together(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(4, np.uint8)))
    with pytest.raises(DataError, match=r"images \(5, 28, 28\) of uint8 and labels \(4,\)"):
        load_mnist(tmp_path)


def test_real_mnist() -> None:
    root = os.environ.get("MINIGRAD_DATA")
    if not root:
        pytest.skip("MINIGRAD_DATA is not set: it names the folder that holds MNIST/raw")
    train, test = load_mnist(root), load_mnist(root, train=False)
    assert (len(train), len(test)) == (60_000, 10_000)
    assert np.bincount(train.labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    (mean,), (std,) = train.statistics()
    assert (round(mean, 4), round(std, 4)) == (0.1307, 0.3081)
    from torchvision.datasets import MNIST

    theirs = MNIST(root, train=False, download=False)
    np.testing.assert_array_equal(test.images[..., 0], theirs.data.numpy())
    np.testing.assert_array_equal(test.labels, theirs.targets.numpy())


def test_digits_are_those_of_the_source() -> None:
    digits = load_digits()
    assert digits.images.shape == (1797, 8, 8, 1)
    assert digits.images.max() == digits.max_value == 16
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.images.sum() == 561_718
    assert digits[0][0][0, :, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    notes = Path(image_folder.__file__).with_name("digits.txt").read_text(encoding="utf-8")
    assert "CC BY 4.0" in notes
    assert "10.24432/C50P49" in notes


# Image folders ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, three PNG images of 4×6."""
    from PIL import Image

    root = tmp_path / "pets"
    rng = np.random.default_rng(0)
    for name in ("dog/b.png", "cat/x.PNG", "dog/a.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8)).save(root / name)
    (root / "dog" / "notes.txt").write_text("no image")
    (root / "readme.md").write_text("no class")
    return root


def pixels(path: Path, mode: str = "RGB") -> np.ndarray:
    from PIL import Image

    return np.array(Image.open(path).convert(mode))


def test_images_of_one_size_make_one_array(folder: Path) -> None:
    dataset = load_image_folder(folder)
    assert isinstance(dataset, ArrayDataset)
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [0, 1, 1]
    for i, name in enumerate(["cat/x.PNG", "dog/a.png", "dog/b.png"]):
        np.testing.assert_array_equal(dataset.images[i], pixels(folder / name))
    grey = load_image_folder(folder, mode="L")
    np.testing.assert_array_equal(grey[1][0][..., 0], pixels(folder / "dog/a.png", "L"))


def test_images_of_several_sizes_make_buckets(folder: Path) -> None:
    from PIL import Image

    Image.new("RGB", (3, 9), (1, 2, 3)).save(folder / "cat" / "tall.jpg")
    dataset = load_image_folder(folder)
    assert isinstance(dataset, BucketDataset)
    assert [image.shape for image, _ in dataset] == [(9, 3, 3), (4, 6, 3), (4, 6, 3), (4, 6, 3)]
    assert [label for _, label in dataset] == [0, 0, 1, 1]
    resized = load_image_folder(folder, size=(5, 7))
    assert isinstance(resized, ArrayDataset)
    assert resized.images.shape == (4, 5, 7, 3)


def test_the_cache_spares_the_decoding(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from PIL import Image

    Image.new("RGB", (3, 9), (1, 2, 3)).save(folder / "cat" / "tall.jpg")
    cache = tmp_path / "cache"
    fresh = load_image_folder(folder, cache=cache)
    decoded: list[Path] = []
    original = image_folder._decode

    def counting(file: Path, *rest: Any) -> np.ndarray:
        decoded.append(file)
        return original(file, *rest)

    monkeypatch.setattr(image_folder, "_decode", counting)
    cached = load_image_folder(folder, cache=cache)
    assert not decoded
    assert len(list(cache.iterdir())) == 1
    assert cached.classes == fresh.classes
    for (mine, label), (theirs, other) in zip(cached, fresh, strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert label == other
    # Another size, a changed file and a damaged cache are each decoded anew.
    load_image_folder(folder, size=4, cache=cache)
    assert len(decoded) == 4
    Image.new("RGB", (3, 9), (9, 9, 9)).save(folder / "cat" / "tall.jpg", quality=100)
    os.utime(folder / "cat" / "tall.jpg", ns=(1, 1))
    assert (load_image_folder(folder, cache=cache)[0][0] == 9).all()
    assert len(decoded) == 8
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert len(load_image_folder(folder, cache=cache)) == 4
    assert len(decoded) == 12


def test_a_damaged_image_is_named(folder: Path) -> None:
    (folder / "dog" / "a.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"cannot decode .*a\.png"):
        load_image_folder(folder)
    whole = (folder / "dog" / "b.png").read_bytes()
    (folder / "dog" / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot decode .*a\.png"):
        load_image_folder(folder)


def test_missing_and_empty_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        load_image_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty has no class folders; expected"):
        load_image_folder(tmp_path / "empty")
    (folder / "bird").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no \.png, \.jpg, \.jpeg file in .*bird"):
        load_image_folder(folder)
    with pytest.raises(ValueError, match=r"mode must be.*'HSV'"):
        load_image_folder(folder, mode="HSV")


def test_without_pillow_the_error_says_what_to_install(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        load_image_folder(folder)
