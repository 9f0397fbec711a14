"""Image folders: what lies in them, decoding it, and the cache of what was decoded."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..files import written_whole
from ..geometry import Size2d, pair
from .datasets import ArrayDataset, BucketDataset, ImageDataset

IMG_EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif",
)  # fmt: skip
# Folders that archives and file servers put beside those of the images.
_NOT_OURS = ("__MACOSX", "@eaDir")
_DECODED_BY = 2  # the version of `read_image`; what caches hold of others is decoded anew

StrPath = str | os.PathLike[str]
Color = int | tuple[int, int, int]


class ImageError(DataError, OSError):
    """As Pillow's own error, which scripts catch, with the file's name."""


# The arrays ---------------------------------------------------------------------------------


def load_image_folder(
    root: StrPath,
    size: Size2d | None = None,
    mode: str = "RGB",
    cache: StrPath | None = None,
    *,
    allow_empty: bool = False,
    exif_orientation: bool = False,
    background: Color | None = 255,
) -> ImageDataset:
    """The images root/<class>/**/<file> of the endings IMG_EXTENSIONS in any case; classes and
    files in torchvision's order. Hidden files and folders are left out.

    size: resize each to (H, W) while decoding, antialiased; None keeps the sizes: images of one
    size make an ArrayDataset, of several a BucketDataset. mode: "RGB", or "L" for grey.
    cache: a folder in which the decoded arrays are kept, and from which they are read next time,
    as long as names, sizes and times of the image files are unchanged.
    allow_empty: classes may have no image. exif_orientation, background: of `read_image`.
    Needs Pillow. Raises FileNotFoundError for a missing or empty folder, DataError for a file that
    cannot be decoded.
    """
    root = Path(root)
    if mode not in ("RGB", "L"):
        raise ValueError(f'load_image_folder: mode must be "RGB" or "L", got {mode!r}')
    if background is not None:
        colors = np.asarray(background)
        if (
            colors.dtype.kind not in "iu"
            or colors.shape not in ((), (3,))
            or not (0 <= colors.min() <= colors.max() <= 255)
        ):
            raise ValueError(
                "load_image_folder: background must be None, an int or three, from 0 to 255, got "
                f"{background!r}"
            )
    wanted = None if size is None else pair("load_image_folder", "size", size, minimum=1)
    classes, files, labels = _list_images(root, allow_empty)
    stored = None
    if cache is not None:
        key = _fingerprint(root, files, (_DECODED_BY, wanted, mode, exif_orientation, background))
        stored = Path(cache) / f"{root.resolve().name}-{key}.npz"
        if (dataset := _read_cache(stored, labels, classes)) is not None:
            return dataset

    def decode(file: Path) -> np.ndarray:
        return _decode(file, wanted, mode, exif_orientation, background)

    with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        try:
            images = list(pool.map(decode, files))
        except BaseException:  # a damaged file, or Ctrl-C: nobody wants the others any more
            pool.shutdown(cancel_futures=True)
            raise
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


def _list_images(root: Path, allow_empty: bool) -> tuple[list[str], list[Path], np.ndarray]:
    if not root.is_dir():
        raise FileNotFoundError(f"load_image_folder: no folder {root} ({root.resolve()})")
    classes = class_names(root)
    found = [[Path(file) for file in files_below(root / name) if is_image(file)]
             for name in classes]  # fmt: skip
    files = [file for files in found for file in files]
    if not classes:
        raise FileNotFoundError(
            f"load_image_folder: {root} has no class folders; expected {root}/<class>/<image>.png"
        )
    empty = [str(root / name) for name, files in zip(classes, found, strict=True) if not files]
    if empty and not (allow_empty and files):
        raise FileNotFoundError(
            f"load_image_folder: no image file ({', '.join(IMG_EXTENSIONS)}) in {', '.join(empty)}"
        )
    return classes, files, np.repeat(np.arange(len(classes)), [len(files) for files in found])


def _decode(
    file: Path,
    size: tuple[int, int] | None,
    mode: str,
    exif_orientation: bool,
    background: Color | None,
) -> np.ndarray:
    """The (H, W, C) uint8 pixels of one image file."""
    image = read_image(file, mode, exif_orientation, background, "load_image_folder")
    if size is not None:
        height, width = size
        image = image.resize((width, height), image_module().Resampling.BILINEAR)
    pixels = np.array(image, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


# Folders and files --------------------------------------------------------------------------


def is_hidden(name: str) -> bool:
    """.git, .ipynb_checkpoints, ._copy.png and their kind."""
    return name.startswith(".") or name in _NOT_OURS


def class_names(root: StrPath) -> list[str]:
    """The folders in a folder, sorted."""
    return sorted(e.name for e in os.scandir(root) if e.is_dir() and not is_hidden(e.name))


def files_below(folder: StrPath) -> Iterator[str]:
    """The files below a folder but those in hidden folders, in torchvision's order: by folder,
    then by name. Links are followed."""
    for parent, names in sorted(_folders(os.fspath(folder), ())):
        yield from (os.path.join(parent, name) for name in sorted(names))


def _folders(folder: str, above: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    place = os.path.realpath(folder)
    if place in above:  # a link to a folder above has no end
        return
    entries = list(os.scandir(folder))
    yield folder, [entry.name for entry in entries if not entry.is_dir()]
    for entry in entries:
        if entry.is_dir() and not is_hidden(entry.name):
            yield from _folders(entry.path, (*above, place))


def is_image(path: StrPath) -> bool:
    """Whether a file is not hidden and its ending is that of images, in any case."""
    name = os.path.basename(path)
    return not is_hidden(name) and name.lower().endswith(IMG_EXTENSIONS)


def read_image(
    path: StrPath,
    mode: str = "RGB",
    exif_orientation: bool = False,
    background: Color | None = None,
    name: str = "read_image",
) -> Any:
    """The PIL image in a file, with 8 bits for each of the channels of `mode`.

    More bits are scaled: 65535 becomes 255. exif_orientation: turn it as the camera was held.
    background: what is seen through transparent pixels; None shows the colours that the file has
    for them. Raises DataError, which is also an OSError, that names a file that is damaged, has
    pixels of unknown range, or is larger than PIL.Image.MAX_IMAGE_PIXELS allows.
    """
    Image = image_module(name)
    try:
        with Image.open(path) as image:
            if exif_orientation:
                from PIL import ImageOps

                image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):
                image = _eight_bits(image)
            if background is not None and image.has_transparency_data:
                color = (background,) * 3 if isinstance(background, int) else background
                image = Image.alpha_composite(
                    Image.new("RGBA", image.size, (*color, 255)), image.convert("RGBA")
                )
            elif image.mode == "P" != mode and isinstance(image.info.get("transparency"), bytes):
                image = image.convert("RGBA")  # else Pillow warns
            return image.convert(mode)
    except Exception as error:  # decoders raise anything for damaged files
        raise ImageError(f"{name}: cannot decode {path}: {error}") from error


def image_module(name: str = "read_image") -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            f"{name} needs Pillow to decode images; install it with `pip install pillow`"
        ) from None
    return Image


def _eight_bits(image: Any) -> Any:
    """A grey image of 16 bits as one of 8."""
    pixels = np.asarray(image)
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind == "f" or low < 0 or high > 65535:
        raise ValueError(
            f"its pixels are {pixels.dtype.name} from {low} to {high}, of which no range is known; "
            "integers of 8 or 16 bits are read"
        )
    scaled = (pixels.astype(np.uint32) + 128) // 257  # rounded
    return image_module().fromarray(scaled.astype(np.uint8))


# The cache ----------------------------------------------------------------------------------


def _fingerprint(root: Path, files: list[Path], settings: tuple[Any, ...]) -> str:
    digest = hashlib.sha256(repr(settings).encode())
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
