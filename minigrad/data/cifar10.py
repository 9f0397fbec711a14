"""CIFAR-10 files: reading them, in the "python version" and the "binary version" of its authors.

Source of the formats: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .datasets import ArrayDataset

_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

_PIXELS = 3 * 32 * 32
_FOLDERS = {"cifar-10-batches-py": "", "cifar-10-batches-bin": ".bin"}


def load_cifar10(root: str | os.PathLike[str], train: bool = True) -> ArrayDataset:
    """CIFAR-10: 50,000 or 10,000 colour images of 32×32 in ten classes.

    root: the folder given to torchvision's CIFAR10, with cifar-10-batches-py/ or
    cifar-10-batches-bin/ in it, or one of these two. Pickles are read without running code.
    Raises FileNotFoundError that lists the places tried, or DataError for damaged files.
    """
    names = [f"data_batch_{i}" for i in range(1, 6)] if train else ["test_batch"]
    files, meta = _find(Path(root), names)
    binary = files[0].suffix == ".bin"
    classes: tuple[str, ...] = _CLASSES
    if meta.is_file():
        classes = _text_classes(meta) if binary else _pickled_classes(meta)
    batches = [(_binary_batch if binary else _pickled_batch)(file) for file in files]
    for file, (rows, labels) in zip(files, batches, strict=True):
        if len(rows) != len(labels):
            raise DataError(f"load_cifar10: {file} has {len(rows)} images and {len(labels)} labels")
        if wrong := [label for label in labels if not 0 <= label < len(classes)]:
            raise DataError(
                f"load_cifar10: labels in {file} must be in [0, {len(classes)}), got {wrong[0]}"
            )
    # A row is one image: its red, its green, its blue pixels.
    rows = np.concatenate([rows for rows, _ in batches])
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return ArrayDataset(images, [label for _, labels in batches for label in labels], classes)


def _find(root: Path, names: list[str]) -> tuple[list[Path], Path]:
    """The files of the batches, and the one that names the classes, which may be absent."""
    tried = []
    for below, suffix in _FOLDERS.items():
        for folder in (root / below, root):
            files = [folder / f"{name}{suffix}" for name in names]
            if files[0].is_file():
                for file in files:
                    if not file.is_file():
                        raise FileNotFoundError(f"load_cifar10: {file} is missing")
                return files, folder / ("batches.meta.txt" if suffix else "batches.meta")
            tried.append(str(files[0]))
    raise FileNotFoundError(
        f"load_cifar10: no CIFAR-10 in {root}; tried {', '.join(tried)}; an archive must be "
        "unpacked first"
    )


def _binary_batch(path: Path) -> tuple[np.ndarray, list[int]]:
    """Pixels (n, 3072) and n labels: each record is one byte of label and the pixels."""
    size = path.stat().st_size
    if not size or size % (1 + _PIXELS):
        raise DataError(
            f"load_cifar10: {path} has {size} bytes, expected a positive multiple of {1 + _PIXELS}"
        )
    records = np.fromfile(path, np.uint8).reshape(-1, 1 + _PIXELS)
    return records[:, 1:], records[:, 0].tolist()


def _text_classes(path: Path) -> tuple[str, ...]:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return _checked_classes(path, [line.strip() for line in lines if line.strip()])


def _checked_classes(path: Path, names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"load_cifar10: {path} must hold a list of class names, got {names!r:.80}")
    if len(names) != len(_CLASSES):
        raise DataError(f"load_cifar10: {path} must name 10 classes, got {len(names)}")
    return tuple(names)


# Pickles ------------------------------------------------------------------------------------


class _Made:
    """Stands for an array or a dtype of the file: what it would be made of, and nothing more."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _made_from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Made:
    made = _Made()
    made.state = 1, shape, dtype, order == "F", content
    return made


# Python's own form of the unpickler: the C one trusts the sizes in a damaged file and may ask for
# gigabytes.
class _Unpickler(pickle._Unpickler):
    """Reads plain values and NumPy arrays. Nothing that a file names is imported or called, NumPy
    included, whose own reconstruction takes the file's word for which bytes are pointers."""

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")  # Python 2 wrote the originals
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        # A new function each time: the file could set attributes of one that is shared.
        match module, name:
            case "numpy", "ndarray":
                return None
            case "numpy", "dtype":
                return lambda *arguments: _Made(*arguments)
            case "numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct":
                return lambda *arguments: _Made(*arguments)
            case "numpy.core.numeric" | "numpy._core.numeric", "_frombuffer":  # protocol 5
                return lambda *arguments: _made_from_buffer(*arguments)
            case "_codecs", "encode":  # how Python 3 writes bytes with protocol 2
                return lambda text, _encoding: text.encode("latin1")
        raise DataError(
            f"load_cifar10: {self._path} asks for {module}.{name}, which no CIFAR-10 file needs; "
            "it was not run"
        )


def read_pickle(path: Path, *keys: str) -> list[Any]:
    """The values of these keys in the dict that a pickle holds; arrays as arrays."""
    try:
        content = _Unpickler(path.read_bytes(), path).load()
        named = {_text(key): value for key, value in content.items()}
        return [_array(named[key]) if isinstance(named[key], _Made) else named[key] for key in keys]
    except (DataError, OSError):
        raise
    except Exception as error:  # random bytes can break an unpickler in every way there is
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"load_cifar10: {path} is damaged ({reason:.200})") from error


def _array(made: _Made) -> np.ndarray:
    """The array of uint8 that an ndarray's state describes."""
    _version, shape, dtype, fortran, content = made.state
    kind = _text(dtype.arguments[0])
    if kind != "u1":
        raise ValueError(f"expected an array of uint8, got one of {kind}")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _pickled_batch(path: Path) -> tuple[np.ndarray, list[int]]:
    """Pixels (n, 3072) and n labels."""
    data, labels = read_pickle(path, "data", "labels")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != _PIXELS:
        shape = f"shape {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"load_cifar10: data in {path} must be (n, {_PIXELS}) uint8, got {shape}")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"load_cifar10: labels in {path} must be a list of ints")
    return data, labels


def _pickled_classes(path: Path) -> tuple[str, ...]:
    (names,) = read_pickle(path, "label_names")
    return _checked_classes(path, [_text(name) for name in names])
