"""torchvision.io: uint8 tensors (C, H, W) from image files, and such files from them, by Pillow."""

from __future__ import annotations

import io
import os
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from ..data.image_folder import image_module
from ..data.image_folder import read_image as pil_image
from ..dtypes import uint8
from ..engine import Tensor
from ..errors import DataError, DTypeError, ShapeError
from ..files import written_whole
from ..ops.creation import tensor
from ..ops.transfer import host

__all__ = [
    "ImageReadMode", "decode_image", "decode_jpeg", "decode_png", "encode_jpeg", "encode_png",
    "read_file", "read_image", "write_file", "write_jpeg", "write_png",
]  # fmt: skip

StrPath = str | os.PathLike[str]


class ImageReadMode(Enum):
    """Which channels an image is read as; UNCHANGED: those that it has."""

    UNCHANGED = 0
    GRAY = 1
    GRAY_ALPHA = 2
    RGB = 3
    RGB_ALPHA = 4
    RGBA = 4  # noqa: PIE796  another name


_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# Pillow's mode of what is read unchanged: of a PNG's palette its indices, bits as bytes.
_UNCHANGED = {"P": "P", "PA": "RGBA", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "CMYK": "CMYK"}


def read_file(path: StrPath) -> Tensor:
    """The bytes of a file, (n,) uint8."""
    return tensor(np.frombuffer(Path(path).read_bytes(), np.uint8))


def write_file(filename: StrPath, data: Tensor) -> None:
    """Write the bytes, to a file that is there whole or not at all."""
    with written_whole(filename) as part:
        part.write_bytes(_checked("write_file", data, 1).tobytes())


def _checked(name: str, data: Tensor, ndim: int) -> np.ndarray:
    if data.dtype != uint8:
        raise DTypeError(f"{name}: expects uint8, got {data.dtype.name}")
    if data.ndim != ndim or (ndim == 3 and data.shape[0] not in (1, 3)):
        expected = "(n,)" if ndim == 1 else "(1 or 3, H, W)"
        raise ShapeError(f"{name}: expects shape {expected}, got {tuple(data.shape)}")
    return host(data)


def _decoded(name: str, file: Any, mode: Any, turned: bool) -> Tensor:
    mode = ImageReadMode[mode.upper()] if isinstance(mode, str) else ImageReadMode(mode)
    channels = _MODES.get(mode.value)
    if channels is None:
        try:
            with image_module(name).open(file) as image:
                channels = _UNCHANGED.get(image.mode, "L")
                if channels == "P" and image.format != "PNG":
                    channels = "RGB"
                if image.tile and image.tile[0][3] == "LA;16B":  # which Pillow makes RGBA
                    channels = "LA"
        except Exception as error:  # decoders raise anything for damaged files
            raise DataError(f"{name}: cannot decode {file}: {error}") from error
        if hasattr(file, "seek"):
            file.seek(0)
    pixels = np.asarray(pil_image(file, channels, turned, name=name))
    return tensor(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def read_image(
    path: StrPath, mode: Any = ImageReadMode.UNCHANGED, apply_exif_orientation: bool = False
) -> Tensor:
    """The image in a file, uint8 (C, H, W). mode: which channels.

    As in torchvision, a PNG file with a palette that is read unchanged gives the palette's indices,
    as segmentation masks have them. Unlike there, pixels of 16 bits are scaled to 8, what has no
    transparency is opaque (255), and any file is read in any mode. Raises DataError for what is no
    image.
    """
    return _decoded("read_image", path, mode, apply_exif_orientation)


def decode_image(
    input: Tensor | StrPath,
    mode: Any = ImageReadMode.UNCHANGED,
    apply_exif_orientation: bool = False,
) -> Tensor:
    """The image in the bytes of a file, (n,) uint8, or in a file. See `read_image`."""
    if isinstance(input, Tensor):
        data = io.BytesIO(_checked("decode_image", input, 1).tobytes())
        return _decoded("decode_image", data, mode, apply_exif_orientation)
    return _decoded("decode_image", input, mode, apply_exif_orientation)


decode_jpeg = decode_png = decode_image


def _encoded(name: str, input: Tensor, **options: Any) -> bytes:
    pixels = _checked(name, input, 3)
    pixels = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    found = io.BytesIO()
    image_module(name).fromarray(np.ascontiguousarray(pixels)).save(found, **options)
    return found.getvalue()


def encode_png(input: Tensor, compression_level: int = 6) -> Tensor:
    """The bytes of a PNG file of an image, uint8 (1 or 3, H, W). Raises DTypeError, ShapeError."""
    data = _encoded("encode_png", input, format="PNG", compress_level=compression_level)
    return tensor(np.frombuffer(data, np.uint8))


def encode_jpeg(input: Tensor, quality: int = 75) -> Tensor:
    """The bytes of a JPEG file of an image, uint8 (1 or 3, H, W). Raises DTypeError, ShapeError."""
    data = _encoded("encode_jpeg", input, format="JPEG", quality=quality)
    return tensor(np.frombuffer(data, np.uint8))


def write_png(input: Tensor, filename: StrPath, compression_level: int = 6) -> None:
    """`encode_png` to a file."""
    write_file(filename, encode_png(input, compression_level))


def write_jpeg(input: Tensor, filename: StrPath, quality: int = 75) -> None:
    """`encode_jpeg` to a file."""
    write_file(filename, encode_jpeg(input, quality))
