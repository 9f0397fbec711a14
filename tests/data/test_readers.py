"""Files on disk: IDX, MNIST's folders, image folders and their cache, the packed digits."""

from __future__ import annotations

import gzip
import os
import sys
import tracemalloc
import warnings
from functools import partial
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
        (bytes([0, 0, 8, 4]) + b"\xff" * 12 + bytes(4), r"has the shape \(4294967295, "),
        (PACKED[:-9], "damaged gzip"),
        (PACKED[:15] + b"\xff" * 20, "damaged gzip"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"damaged.*{match}"):
        read_idx(path)


def test_a_compressed_idx_file_is_unpacked_no_further_than_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(GOOD + bytes(100_000_000)))
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    with pytest.raises(DataError, match=r"too long.*needs 40 bytes, the file has 41 or more"):
        read_idx(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


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
    with pytest.raises(FileNotFoundError, match=r"no image file \(\.jpg, .*\) in .*bird"):
        load_image_folder(folder)
    with pytest.raises(ValueError, match=r"mode must be.*'HSV'"):
        load_image_folder(folder, mode="HSV")


def save(folder: Path, name: str, array: np.ndarray, **options: Any) -> Path:
    from PIL import Image

    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def loaders(folder: Path, **options: Any) -> list[list[np.ndarray]]:
    """The RGB pixels by the array loader and by ImageFolder, which have one reader."""
    from minigrad.vision.datasets import ImageFolder, default_loader

    background = options.get("background")
    loader = partial(default_loader, **options)
    return [
        [pixels for pixels, _ in load_image_folder(folder, **options | {"background": background})],
        [np.array(image) for image, _ in ImageFolder(folder, loader=loader)],
    ]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("a.PNG", "<u2"), ("a.pgm", "<u2"), ("a.tif", "<u2"), ("a.TIFF", ">u2"), ("a.tiff", "i4")],
)
def test_sixteen_bits_are_scaled(tmp_path: Path, name: str, dtype: str) -> None:
    from PIL import Image

    save(tmp_path, f"class/{name}", np.array([[0, 127, 128, 256, 40000, 65535]], dtype))
    for (found,) in loaders(tmp_path):
        np.testing.assert_array_equal(found[..., 0], [[0, 0, 0, 1, 156, 255]])
        assert (found == found[..., :1]).all()
    (grey_image,) = (image for image, _ in load_image_folder(tmp_path, mode="L"))
    assert grey_image[..., 0].tolist() == [[0, 0, 0, 1, 156, 255]]
    assert Image.open(tmp_path / "class" / name).mode.startswith("I")


def test_ten_bits_are_scaled(tmp_path: Path) -> None:
    (tmp_path / "class").mkdir()
    values = np.array([0, 512, 1023], ">u2").tobytes()
    (tmp_path / "class" / "a.pgm").write_bytes(b"P5 3 1 1023\n" + values)
    for (found,) in loaders(tmp_path):
        assert found[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("values", [[0.0, 0.5], [0, 70000], [-1, 5]])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, values: list[float]) -> None:
    dtype = np.float32 if isinstance(values[0], float) else np.int32
    save(tmp_path, "class/depth.tiff", np.array([values], dtype))
    with pytest.raises(DataError, match=r"cannot decode .*depth\.tiff: its pixels are .* from"):
        load_image_folder(tmp_path)


ENDINGS = ("jpg", "JPEG", "Png", "ppm", "BMP", "tif", "TIFF", "webp", "WebP", "gif")


@pytest.mark.parametrize("ending", ENDINGS)
def test_files_of_every_kind_in_any_case(tmp_path: Path, ending: str) -> None:
    draws = np.random.default_rng(0).integers(0, 4, (6, 5, 3)) * 64
    path = save(tmp_path, f"class/a.{ending}", draws.astype(np.uint8))
    for (found,) in loaders(tmp_path):
        np.testing.assert_array_equal(found, pixels(path))


def test_palettes_keep_their_colours(tmp_path: Path) -> None:
    from PIL import Image

    indices = Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8), "P")
    indices.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    (tmp_path / "class").mkdir()
    indices.save(tmp_path / "class" / "a.png", transparency=b"\xff\xff\x80\x00")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept, shown = loaders(tmp_path), loaders(tmp_path, background=(255, 255, 255))
    for (found,) in kept:
        assert found.tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]]
    for (found,) in shown:
        assert found.tolist() == [[[255, 0, 0], [0, 255, 0], [127, 127, 255], [255, 255, 255]]]


@pytest.mark.parametrize("ending", ["png", "webp", "tiff"])
def test_transparent_pixels_show_the_background(tmp_path: Path, ending: str) -> None:
    image = np.zeros((1, 3, 4), np.uint8)
    image[0, :, 3] = 255, 128, 0
    save(tmp_path, f"class/a.{ending}", image, **{"lossless": True} if ending == "webp" else {})
    for options, expected in (({}, [0, 127, 255]), ({"background": 0}, [0, 0, 0])):
        dataset = load_image_folder(tmp_path, **options)
        assert dataset[0][0][0, :, 0].tolist() == expected
        assert load_image_folder(tmp_path, mode="L", **options)[0][0][0, :, 0].tolist() == expected
    assert load_image_folder(tmp_path, background=(255, 0, 9))[0][0][0, 2].tolist() == [255, 0, 9]
    for wrong in (256, -1, 0.5, (1, 2), "white"):
        with pytest.raises(ValueError, match="background must be None, an int or three"):
            load_image_folder(tmp_path, background=wrong)  # type: ignore[arg-type]


def test_hidden_folders_and_files_are_left_out(folder: Path) -> None:
    from minigrad.vision.datasets import ImageFolder

    image = np.zeros((4, 6, 3), np.uint8)
    for name in (".git/objects/a.png", ".ipynb_checkpoints/a.png", "__MACOSX/cat/a.png",
                 "@eaDir/a.png", "dog/.ipynb_checkpoints/a.png", "dog/@eaDir/a.png"):  # fmt: skip
        save(folder, name, image)
    for name in ("dog/._a.png", "dog/Thumbs.db", "dog/.DS_Store", "cat/desktop.ini"):
        (folder / name).write_bytes(b"no image")
    dataset = load_image_folder(folder)
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [0, 1, 1]
    listed = ImageFolder(folder)
    assert listed.classes == ["cat", "dog"]
    assert [label for _, label in listed.samples] == [0, 1, 1]
    save(folder, "dog/.hidden.png", image)  # which torchvision lists
    assert (len(load_image_folder(folder)), len(ImageFolder(folder))) == (3, 4)


def test_links_are_followed_but_not_in_circles(folder: Path, tmp_path: Path) -> None:
    save(tmp_path, "elsewhere/deep/c.png", np.zeros((4, 6, 3), np.uint8))
    (folder / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(folder / "cat")
    (folder / "cat" / "self").symlink_to(folder / "cat")
    assert load_image_folder(folder).labels.tolist() == [0, 0, 1, 1]


def test_classes_may_be_empty_if_that_is_allowed(folder: Path, tmp_path: Path) -> None:
    (folder / "bird").mkdir()
    (folder / "eel").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no image file .*bird, .*eel$"):
        load_image_folder(folder)
    dataset = load_image_folder(folder, allow_empty=True, cache=tmp_path / "cache")
    assert dataset.classes == ("bird", "cat", "dog", "eel")
    assert dataset.labels.tolist() == [1, 2, 2]
    assert load_image_folder(folder, allow_empty=True, cache=tmp_path / "cache").num_classes == 4
    (tmp_path / "none" / "bird").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no image file .*bird$"):
        load_image_folder(tmp_path / "none", allow_empty=True)


def test_exif_orientation_is_an_option(tmp_path: Path) -> None:
    from PIL import Image

    image = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    root, cache = tmp_path / "images", tmp_path / "cache"
    save(root, "class/a.png", image, exif=exif)
    for turn, expected in ((False, image), (True, np.rot90(image, -1)), (False, image)):
        for (found,) in loaders(root, exif_orientation=turn):
            np.testing.assert_array_equal(found[..., 0], expected)
        dataset = load_image_folder(root, cache=cache, exif_orientation=turn)
        np.testing.assert_array_equal(dataset[0][0][..., 0], expected)


def test_a_decompression_bomb_is_refused_by_name(folder: Path, monkeypatch: Any) -> None:
    from PIL import Image

    from minigrad.vision.datasets import ImageFolder

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    save(folder, "dog/bomb.png", np.zeros((20, 30), np.uint8))
    with pytest.raises(DataError, match=r"cannot decode .*bomb\.png: Image size \(600 pixels\)"):
        load_image_folder(folder)
    with pytest.raises(DataError, match=r"cannot decode .*bomb\.png: Image size \(600 pixels\)"):
        list(ImageFolder(folder))


def test_a_damaged_file_of_any_kind_is_named(tmp_path: Path) -> None:
    """Decoded, or refused with its name: Pillow's decoders raise many kinds of errors."""
    from minigrad.data.image_folder import read_image

    draws = np.random.default_rng(0)
    image = draws.integers(0, 256, (9, 7, 3), np.uint8)
    messages = []
    for ending in ENDINGS:
        whole = save(tmp_path, f"whole.{ending}", image).read_bytes()
        path = tmp_path / f"damaged.{ending}"
        for trial in range(40):
            content = bytearray(whole)
            if trial % 2:
                del content[draws.integers(len(content)) :]
            else:
                for at in draws.integers(len(content), size=3):
                    content[at] = draws.integers(256)
            path.write_bytes(content)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    assert read_image(path, exif_orientation=True, background=255).mode == "RGB"
            except DataError as error:
                messages.append((path, str(error)))
    assert len(messages) > 100
    assert all(f"cannot decode {path}: " in message for path, message in messages)


def test_without_pillow_the_error_says_what_to_install(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        load_image_folder(folder)
