"""IDX files: reading handwritten digits, that is, IDX files, MNIST's folder, the digits packed with
minigrad."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .datasets import ArrayDataset

_DIGITS = tuple("0123456789")

# Type codes of the IDX format; its numbers are big-endian.
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

_PIECE = 1 << 24


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file, MNIST's format, plain or gzip-compressed.

    Layout: 0 0 type rank, then the sizes as 32-bit integers, then the elements, all big-endian.
    Raises DataError for a file that is truncated, too long or of another format.
    """
    path = Path(path)
    try:
        with open(path, "rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            # Compressed files are unpacked no further than their header promises.
            with gzip.GzipFile(fileobj=plain) if packed else nullcontext(plain) as file:
                return _read_idx(path, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"read_idx: {path} is a damaged gzip file: {error}") from error


def _read_idx(path: Path, file: Any) -> np.ndarray:
    head = file.read(4)
    if len(head) < 4:
        raise DataError(f"read_idx: {path} has {len(head)} bytes, an IDX file at least 4")
    if head[0] or head[1] or head[2] not in _IDX_TYPES:
        raise DataError(
            f"read_idx: {path} is no IDX file: its first four bytes are {head.hex(' ')}, "
            "expected 00 00, a type from 08 to 0e, and the number of dimensions"
        )
    dtype, rank = np.dtype(_IDX_TYPES[head[2]]), head[3]
    start = 4 + 4 * rank
    sizes = file.read(4 * rank)
    if rank > 32 or len(sizes) < 4 * rank:
        raise DataError(f"read_idx: {path} ends within its header of {start} bytes")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    expected = math.prod(shape) * dtype.itemsize
    content = bytearray()
    # In pieces: a damaged header may promise what no memory holds.
    while len(content) <= expected and (piece := file.read(min(_PIECE, expected + 1))):
        content += piece
    if len(content) != expected:
        state = "is truncated" if len(content) < expected else "is too long"
        count = f"{start + len(content)}" + (" or more" if len(content) > expected else "")
        raise DataError(
            f"read_idx: {path} {state}: shape {shape} of {dtype.name} needs {start + expected} "
            f"bytes, the file has {count}"
        )
    try:
        array = np.frombuffer(content, dtype).reshape(shape)
    except ValueError as error:  # of no elements, and of more of them along the other axes
        raise DataError(f"read_idx: {path} has the shape {shape}: {error}") from error
    return array.astype(dtype.newbyteorder("="), copy=False)


def load_mnist(root: str | os.PathLike[str], train: bool = True) -> ArrayDataset:
    """MNIST, or a set of the same file names such as Fashion-MNIST: 28×28 grey images.

    root: the folder given to torchvision's MNIST, where the files lie in MNIST/raw, or one with
    raw/, or the folder of the files itself; `.gz` files are read too. Raises FileNotFoundError
    that lists the places tried, or DataError for damaged files.
    """
    part = "train" if train else "t10k"
    images = read_idx(_find_mnist(Path(root), f"{part}-images-idx3-ubyte"))
    labels = read_idx(_find_mnist(Path(root), f"{part}-labels-idx1-ubyte"))
    if images.ndim != 3 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise DataError(
            f"load_mnist: expected uint8 images (N, H, W) and N labels in {root}, got images "
            f"{images.shape} of {images.dtype.name} and labels {labels.shape}"
        )
    return ArrayDataset(images, labels, classes=_DIGITS)


def _find_mnist(root: Path, name: str) -> Path:
    tried = []
    for folder in (root / "MNIST" / "raw", root / "raw", root):
        # `train-images.idx3-ubyte` is how some archives name them.
        for variant in (name, f"{name}.gz", name.replace("-idx", ".idx")):
            path = folder / variant
            if path.is_file():
                return path
        tried.append(str(folder / name))
    raise FileNotFoundError(f"load_mnist: no file {name}[.gz]; tried " + ", ".join(tried))


def load_digits() -> ArrayDataset:
    """1,797 handwritten digits, 8×8 grey images with pixel values 0 to 16, packed with minigrad.

    Source: Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine
    Learning Repository, https://doi.org/10.24432/C50P49 (its test part, as in scikit-learn).
    Licence: CC BY 4.0.
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        return ArrayDataset(file["images"], file["labels"], classes=_DIGITS, max_value=16)
