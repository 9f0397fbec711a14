"""Image folders: reading them, and the cache of what was decoded."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..files import written_whole
from ..geometry import Size2d, pair
from .datasets import ArrayDataset, BucketDataset, ImageDataset

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def load_image_folder(
    root: str | os.PathLike[str],
    size: Size2d | None = None,
    mode: str = "RGB",
    cache: str | os.PathLike[str] | None = None,
) -> ImageDataset:
    """The images root/<class>/**/*.png|jpg|jpeg; classes and files in sorted order.

    size: resize each to (H, W) while decoding, antialiased; None keeps the sizes: images of one
    size make an ArrayDataset, of several a BucketDataset. mode: "RGB", or "L" for grey.
    cache: a folder in which the decoded arrays are kept, and from which they are read next time,
    as long as names, sizes and times of the image files are unchanged.
    Needs Pillow. Raises FileNotFoundError for a missing or empty folder, DataError for a file that
    cannot be decoded.
    """
    root = Path(root)
    if mode not in ("RGB", "L"):
        raise ValueError(f'load_image_folder: mode must be "RGB" or "L", got {mode!r}')
    wanted = None if size is None else pair("load_image_folder", "size", size, minimum=1)
    classes, files, labels = _list_images(root)
    stored = None
    if cache is not None:
        key = _fingerprint(root, files, wanted, mode)
        stored = Path(cache) / f"{root.resolve().name}-{key}.npz"
        if (dataset := _read_cache(stored, labels, classes)) is not None:
            return dataset
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        images = list(pool.map(lambda file: _decode(file, wanted, mode), files))
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault(image.shape, []).append(i)
    buckets = [
        (np.array(members), np.stack([images[i] for i in members])) for members in groups.values()
    ]
    if stored is not None:
        _write_cache(stored, buckets)
    return _from_buckets(buckets, labels, classes)


def _from_buckets(
    buckets: list[tuple[np.ndarray, np.ndarray]], labels: np.ndarray, classes: list[str]
) -> ImageDataset:
    if len(buckets) == 1:
        return ArrayDataset(buckets[0][1], labels, classes)
    return BucketDataset(buckets, labels, classes)


def _list_images(root: Path) -> tuple[list[str], list[Path], np.ndarray]:
    if not root.is_dir():
        raise FileNotFoundError(f"load_image_folder: no folder {root} ({root.resolve()})")
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    files, labels = [], []
    for label, name in enumerate(classes):
        found = sorted(f for f in (root / name).rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise FileNotFoundError(
                f"load_image_folder: no {', '.join(IMAGE_SUFFIXES)} file in {root / name}"
            )
        files += found
        labels += [label] * len(found)
    if not classes:
        raise FileNotFoundError(
            f"load_image_folder: {root} has no class folders; expected {root}/<class>/<image>.png"
        )
    return classes, files, np.array(labels, np.int64)


def _decode(file: Path, size: tuple[int, int] | None, mode: str) -> np.ndarray:
    """The (H, W, C) uint8 pixels of one image file."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            "load_image_folder needs Pillow to decode images; install it with `pip install pillow`"
        ) from None
    try:
        with Image.open(file) as image:
            decoded = image.convert(mode)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"load_image_folder: cannot decode {file}: {error}") from error
    if size is not None:
        height, width = size
        decoded = decoded.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.array(decoded, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _fingerprint(root: Path, files: list[Path], size: tuple[int, int] | None, mode: str) -> str:
    digest = hashlib.sha256(f"{size} {mode}".encode())
    for file in files:
        facts = file.stat()
        name = file.relative_to(root).as_posix()
        digest.update(f"\n{name} {facts.st_size} {facts.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _write_cache(path: Path, buckets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    for i, (indices, images) in enumerate(buckets):
        arrays[f"indices{i}"], arrays[f"images{i}"] = indices, images
    with written_whole(path) as part, open(part, "wb") as file:
        np.savez(file, **arrays)


def _read_cache(path: Path, labels: np.ndarray, classes: list[str]) -> ImageDataset | None:
    """What the cache holds, or None if it is absent or damaged; then it is written anew."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            count = len(file.files) // 2
            buckets = [(file[f"indices{i}"], file[f"images{i}"]) for i in range(count)]
        return _from_buckets(buckets, labels, classes)
    except (OSError, ValueError, TypeError, IndexError, KeyError, EOFError, zipfile.BadZipFile,
            zlib.error):  # fmt: skip
        return None
