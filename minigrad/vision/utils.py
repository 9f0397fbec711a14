"""torchvision.utils: images side by side, and in files."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from ..engine import Tensor
from ..ops.transfer import host, placed
from ..runtime import memory

__all__ = ["make_grid", "save_image"]


def make_grid(
    tensor: Any,
    nrow: int = 8,
    padding: int = 2,
    normalize: bool = False,
    value_range: tuple[float, float] | None = None,
    scale_each: bool = False,
    pad_value: float = 0.0,
) -> Tensor:
    """(3, H, W) of the images (N, C, H, W), or of a list of images, nrow in a row; grey ones in
    three channels. normalize: from value_range, by default (min, max), of all or of each, to
    [0, 1]."""
    images = list(tensor) if isinstance(tensor, (list, tuple)) else tensor
    if isinstance(images, list):
        if not images or not all(isinstance(image, Tensor) for image in images):
            raise TypeError("make_grid: expects a tensor or a list of tensors")
        array, device = np.stack([host(image) for image in images]), images[0].device
    elif isinstance(images, Tensor):
        array, device = host(images), images.device
    else:
        raise TypeError(f"make_grid: expects a tensor or a list, got {type(tensor).__name__}")
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4:
        raise ValueError(f"make_grid: expects images (N, C, H, W), got {array.shape}")
    single = array.shape[0] == 1
    if array.shape[1] == 1:
        array = np.repeat(array, 3, 1)
    if normalize:
        array = array.copy()
        for part in array if scale_each else [array]:
            low, high = value_range or (part.min(), part.max())
            part[:] = (part.clip(low, high) - low) / max(high - low, 1e-5)
    if single:
        return Tensor(placed(np.ascontiguousarray(array[0]), device), device)
    N, C, H, W = array.shape
    columns = min(nrow, N)
    rows = math.ceil(N / columns)
    grid = memory.empty((C, rows * (H + padding) + padding, columns * (W + padding) + padding),
                        array.dtype)  # fmt: skip
    grid[:] = pad_value
    for k in range(N):
        top, left = (k // columns) * (H + padding), (k % columns) * (W + padding)
        grid[:, top + padding : top + padding + H, left + padding : left + padding + W] = array[k]
    return Tensor(placed(grid, device), device)


def save_image(tensor: Any, fp: Any, format: str | None = None, **options: Any) -> None:
    """Write make_grid(tensor, **options), with values from 0 to 1, to an image file."""
    from PIL import Image

    grid = host(make_grid(tensor, **options))
    pixels = (grid * 255 + 0.5).clip(0, 255).transpose(1, 2, 0).astype(np.uint8)
    target = os.fspath(fp) if isinstance(fp, os.PathLike) else fp
    Image.fromarray(np.ascontiguousarray(pixels)).save(target, format=format)
