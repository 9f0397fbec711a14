"""Transforms of image batches: from stored uint8 pixels to normalised float32 in one pass.

    transform = Compose([RandomCrop(32, padding=4), RandomHorizontalFlip(), Normalize(mean, std)])

Steps are torchvision's, but none of them runs by itself. Those that move pixels become one map from
output to input coordinates for each image, those that change values one table; a single kernel
then gathers the images, samples them and writes the batch. So an image is interpolated at most
once, and pixels that one step would have cut off are still there for a later rotation.

What is drawn for a sample depends on (seed, epoch, the sample's index) alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..device import Device, as_device
from ..dtypes import float32
from ..engine import Tensor
from ..errors import DTypeError, ShapeError
from ..geometry import Size2d, pair
from ..layout import contiguous, empty_array
from ..ops.operands import empty_nhwc, scratch
from ..ops.transfer import placed
from . import _random
from .datasets import ArrayDataset

Fill = int | Sequence[int]
Size = tuple[int, int]

_WORDS = 2.0**32


class Transform:
    """One step. Subclasses override what they do; the rest stays as it is.

    moves: whether `inverse` says anything. interpolates: whether it maps pixels between pixels.
    fill: the pixel value, or one for each channel, of what lies outside the image; None if the
    step never looks there.
    """

    moves = False
    interpolates = False
    fill: Fill | None = None

    def output_size(self, size: Size) -> Size:
        """(H, W) after the step, or a ShapeError if images of (H, W) `size` do not fit it."""
        return size

    def inverse(self, words: np.ndarray, size: Size, out_size: Size) -> np.ndarray:
        """(n, 2, 3) maps from output (x, y, 1) to input (x, y), pixel centres at integers.

        words (4, n): random 32-bit integers for each sample.
        """
        raise TypeError(f"{type(self).__name__} moves no pixels")

    def values(self, table: np.ndarray) -> np.ndarray:
        """The (C, 256) float32 table after the step: what each pixel value has become."""
        return table

    def __call__(self, images: Any, **options: Any) -> Tensor:
        """The step alone, on a batch of images: see Compose."""
        return Compose([self])(images, **options)


class Normalize(Transform):
    """(value − mean) / std for each channel, with values in [0, 1]: one number or C of them."""

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean = np.atleast_1d(np.asarray(mean, np.float32))
        self.std = np.atleast_1d(np.asarray(std, np.float32))
        if self.mean.ndim != 1 or self.std.ndim != 1:
            raise ShapeError("Normalize: mean and std must be numbers or flat lists of numbers")
        if not np.isfinite(self.mean).all() or not (np.isfinite(self.std) & (self.std > 0)).all():
            raise ValueError(
                f"Normalize: mean must be finite and std positive, got mean {mean} and std {std}"
            )

    def values(self, table: np.ndarray) -> np.ndarray:
        C = len(table)
        for name, given in (("mean", self.mean), ("std", self.std)):
            if len(given) not in (1, C):
                raise ShapeError(
                    f"Normalize: {name} has {len(given)} values for images of {C} channels"
                )
        return (table - self.mean[:, None]) / self.std[:, None]


class RandomCrop(Transform):
    """A window of `size` at a random place in the image, which is first padded with `fill`.

    padding: one number, (left and right, top and bottom), or (left, top, right, bottom).
    """

    moves = True

    def __init__(
        self, size: Size2d, padding: int | Sequence[int] | None = None, fill: Fill = 0
    ) -> None:
        self.size = pair("RandomCrop", "size", size, minimum=1)
        sides = (padding,) if isinstance(padding, int) else tuple(padding or (0,))
        if len(sides) not in (1, 2, 4) or any(
            not isinstance(side, (int, np.integer)) or side < 0 for side in sides
        ):
            raise ShapeError(
                f"RandomCrop: padding must be 1, 2 or 4 ints, not negative, got {padding!r}"
            )
        self.padding = tuple(int(side) for side in sides * (4 // len(sides)))
        self.fill = _checked_fill("RandomCrop", fill) if any(self.padding) else None

    def output_size(self, size: Size) -> Size:
        left, top, right, bottom = self.padding
        height, width = size[0] + top + bottom, size[1] + left + right
        if self.size[0] > height or self.size[1] > width:
            raise ShapeError(
                f"RandomCrop: a window of {self.size} does not fit images of {size} padded to "
                f"{(height, width)}"
            )
        return self.size

    def inverse(self, words: np.ndarray, size: Size, out_size: Size) -> np.ndarray:
        left, top, right, bottom = self.padding
        places_h = size[0] + top + bottom - out_size[0] + 1
        places_w = size[1] + left + right - out_size[1] + 1
        maps = _identity(words.shape[1])
        maps[:, 0, 2] = (words[1] * np.uint64(places_w) >> np.uint64(32)).astype(float) - left
        maps[:, 1, 2] = (words[0] * np.uint64(places_h) >> np.uint64(32)).astype(float) - top
        return maps


class RandomHorizontalFlip(Transform):
    """Mirror left and right with probability p."""

    moves = True

    def __init__(self, p: float = 0.5) -> None:
        check_number("RandomHorizontalFlip", "p", p, low=0, high=1)
        self.p = p

    def inverse(self, words: np.ndarray, size: Size, out_size: Size) -> np.ndarray:
        flip = words[0] < self.p * _WORDS
        maps = _identity(words.shape[1])
        maps[flip, 0, 0] = -1
        maps[flip, 0, 2] = size[1] - 1
        return maps


class RandomRotation(Transform):
    """Rotate about the centre by a random angle, bilinearly; what lies outside is `fill`.

    degrees: the angle is drawn from [−degrees, degrees], or from the pair's [low, high];
    counter-clockwise is positive.
    """

    moves = True
    interpolates = True

    def __init__(self, degrees: float | Sequence[float], fill: Fill = 0) -> None:
        self.degrees = _range("RandomRotation", "degrees", degrees)
        self.fill = _checked_fill("RandomRotation", fill)

    def inverse(self, words: np.ndarray, size: Size, out_size: Size) -> np.ndarray:
        low, high = self.degrees
        angle = np.radians(low + (high - low) * (words[0] / _WORDS))
        cos, sin = np.cos(angle), np.sin(angle)
        cy, cx = (size[0] - 1) / 2, (size[1] - 1) / 2
        # With y pointing down, turning the image by a takes (x, y) from
        # (cos a · x − sin a · y, sin a · x + cos a · y), relative to the centre.
        maps = np.empty((len(angle), 2, 3))
        maps[:, 0, 0], maps[:, 0, 1] = cos, -sin
        maps[:, 1, 0], maps[:, 1, 1] = sin, cos
        maps[:, 0, 2] = cx - cos * cx + sin * cy
        maps[:, 1, 2] = cy - sin * cx - cos * cy
        return maps


class RandomAffine(Transform):
    """Rotate, shear, scale about the centre and shift at random, bilinearly; what lies outside is
    `fill`. As torchvision's, so here a positive angle is clockwise.

    degrees: as RandomRotation's. translate: (a, b), up to a share a of the width and b of the
    height, whole pixels either way. scale: (low, high) of the factor. shear: degrees along x, from
    [−shear, shear] or (low, high); four numbers are the ranges along x and along y.
    """

    moves = True

    def __init__(
        self,
        degrees: float | Sequence[float],
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: float | Sequence[float] | None = None,
        fill: Fill = 0,
    ) -> None:
        self.degrees = _range("RandomAffine", "degrees", degrees)
        shares = (0.0, 0.0) if translate is None else translate
        self.translate = _pair("RandomAffine", "translate", shares)
        if not all(0 <= share <= 1 for share in self.translate):
            raise ValueError(
                f"RandomAffine: translate must be two shares from 0 to 1, got {translate!r}"
            )
        self.scale = _pair("RandomAffine", "scale", (1.0, 1.0) if scale is None else scale)
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"RandomAffine: scale must be (low, high), above 0, got {scale!r}")
        along_x, along_y = (
            (shear[:2], shear[2:])
            if isinstance(shear, Sequence) and len(shear) == 4
            else (0.0 if shear is None else shear, 0.0)
        )
        self.shear = tuple(_range("RandomAffine", "shear", each) for each in (along_x, along_y))
        if any(abs(degrees) >= 90 for each in self.shear for degrees in each):
            raise ValueError(f"RandomAffine: shear must be within ±90 degrees, got {shear!r}")
        # Shifts alone are by whole pixels: the kernel for windows does them.
        still = self.degrees, self.scale, *self.shear
        self.interpolates = still != ((0, 0), (1, 1), (0, 0), (0, 0))
        self.fill = _checked_fill("RandomAffine", fill)

    def inverse(self, words: np.ndarray, size: Size, out_size: Size) -> np.ndarray:
        H, W = size
        # Six numbers in [0, 1) from four words.
        halves = (words[2] >> 16, words[2] & 0xFFFF, words[3] >> 16, words[3] & 0xFFFF)
        shares = [*(words[:2] / _WORDS), *(np.stack(halves) / 2.0**16)]
        limits = (self.translate[0] * W, self.translate[1] * H)
        ranges = (self.degrees, self.scale, *((-limit, limit) for limit in limits), *self.shear)
        angle, scale, x, y, along_x, along_y = (
            low + (high - low) * share for (low, high), share in zip(ranges, shares, strict=True)
        )
        angle, along_x, along_y = np.radians([angle, along_x, along_y])
        # The image is sheared along x, then y, then turned and scaled: scale · [[a, b], [c, d]].
        a = np.cos(angle - along_y) / np.cos(along_y)
        b = -a * np.tan(along_x) - np.sin(angle)
        c = np.sin(angle - along_y) / np.cos(along_y)
        d = -c * np.tan(along_x) + np.cos(angle)
        # Its determinant is scale², so [[d, −b], [−c, a]] / scale is the inverse.
        maps = np.empty((len(scale), 2, 3))
        maps[:, 0, 0], maps[:, 0, 1] = d / scale, -b / scale
        maps[:, 1, 0], maps[:, 1, 1] = -c / scale, a / scale
        centre = np.array([(W - 1) / 2, (H - 1) / 2])
        moved = centre + np.round(np.stack([x, y], axis=1))
        maps[:, :, 2] = centre - (maps[:, :, :2] @ moved[:, :, None])[:, :, 0]
        return maps


class Resize(Transform):
    """Bilinear resizing, pixel centres at half-integers, as interpolate(align_corners=False).

    size: (H, W), or the length of the shorter edge. There is no antialiasing, so it suits
    enlarging; to shrink, pass `size` to load_image_folder. It comes before all steps that move
    pixels.
    """

    def __init__(self, size: Size2d) -> None:
        self.size = pair("Resize", "size", size, minimum=1)
        self.shorter = size if isinstance(size, int) else None

    def output_size(self, size: Size) -> Size:
        if self.shorter is None:
            return self.size
        longer = int(self.shorter * max(size) / min(size))
        return (self.shorter, longer) if size[0] <= size[1] else (longer, self.shorter)


class Compose:
    """Steps in order, as one transform.

    Call it on a uint8 (N, H, W, C) array to get the (N, C, H_out, W_out) float32 Tensor, or give it
    to a DataLoader. Without Normalize, values are pixel / max_value, as torchvision's ToTensor.
    Steps that pad must agree on `fill`.
    """

    def __init__(self, transforms: Sequence[Transform | Compose] = ()) -> None:
        self.transforms: tuple[Transform, ...] = ()
        for step in transforms:
            if isinstance(step, Compose):
                self.transforms += step.transforms
            elif isinstance(step, Transform):
                self.transforms += (step,)
            else:
                raise TypeError(
                    f"Compose: steps must be minigrad transforms, got {type(step).__name__}; "
                    "apply other functions in the data set's __getitem__"
                )
        self._plans: dict[tuple[int, int, int, int], Plan] = {}

    def plan(self, H: int, W: int, C: int, max_value: int = 255) -> Plan:
        """What the steps come to for images of this shape; checks that they fit."""
        key = H, W, C, max_value
        if key not in self._plans:
            self._plans[key] = _make_plan(self.transforms, *key)
        return self._plans[key]

    def __call__(
        self,
        images: Any,
        *,
        samples: Any = None,
        seed: int = 0,
        epoch: int = 0,
        max_value: int = 255,
        device: Device | str | None = None,
    ) -> Tensor:
        """Transform images, numbered by `samples` (default 0 … N − 1), as in one epoch."""
        array = ArrayDataset(images, np.zeros(len(images), np.int64), None, max_value).images
        N, H, W, C = array.shape
        numbers = np.arange(N) if samples is None else np.asarray(samples, np.int64)
        if numbers.shape != (N,) or (N and numbers.min() < 0):
            raise ShapeError(
                f"transform: samples must be {N} numbers, not negative, got shape {numbers.shape}"
            )
        plan = self.plan(H, W, C, max_value)
        drawn = plan.draw(
            numbers, _random.check_seed("transform", seed), _random.check_epoch("transform", epoch)
        )
        where = as_device(device)
        placed_drawn = tuple(placed(each, where) for each in drawn)
        return plan.renderer(array, where)(placed(np.arange(N), where), placed_drawn)


@dataclass(frozen=True)
class Plan:
    """Transforms worked out for one shape of image.

    moves: (step, size before, size after) of those that move pixels. frame: the size that Resize
    makes of the image, or the image's own. size: (H_out, W_out). table (C, 256), background (C,):
    as the kernels take them. interpolates: whether pixels fall between pixels.
    """

    moves: tuple[tuple[Transform, Size, Size], ...]
    frame: Size
    size: Size
    table: np.ndarray
    background: np.ndarray
    interpolates: bool

    def draw(self, samples: np.ndarray, seed: int, epoch: int) -> tuple[np.ndarray, ...]:
        """What happens to each sample: (matrices,), or (offsets, flips) if nothing interpolates."""
        maps = _identity(len(samples))
        for number, (step, before, after) in enumerate(self.moves):
            words = _random.words(samples, seed, epoch, _random.TRANSFORMS + number)
            inner = step.inverse(words, before, after)
            # x = A (B x' + b) + a
            outer_shift = maps[:, :, 2].copy()
            maps = maps[:, :, :2] @ inner
            maps[:, :, 2] += outer_shift
        if self.interpolates:
            return (maps.astype(np.float32),)
        flips = maps[:, 0, 0] < 0
        # Mirrored: x = b − ow = (b − W_out + 1) + (W_out − 1 − ow).
        left = maps[:, 0, 2] - flips * (self.size[1] - 1)
        return np.stack([maps[:, 1, 2], left], axis=1).astype(np.int64), flips

    def renderer(self, images: np.ndarray, device: Device) -> Renderer:
        """What makes batches of these images, all of which it keeps on the device."""
        return Renderer(
            self, placed(images, device), placed(self.table, device),
            placed(self.background, device), device,
        )  # fmt: skip


@dataclass(frozen=True)
class Renderer:
    """Images (M, H, W, C) uint8 and a plan, where a device can read them."""

    plan: Plan
    images: Any
    table: Any
    background: Any
    device: Device

    def __call__(self, rows: Any, drawn: tuple[Any, ...], serial: bool = False) -> Tensor:
        """The batch of the images at `rows`, with what was drawn for each; arrays of the device."""
        launch, plan = kernels.get(self.device).augment, self.plan
        shape = (len(rows), len(self.background), *plan.size)
        batch, out = empty_nhwc(shape, float32, self.device)
        if plan.interpolates:
            (matrices,) = drawn
            elements = launch.augment_affine_workspace(len(rows), *self.images.shape[1:])
            launch.augment_affine(
                out, self.images, rows, matrices, self.table, self.background,
                scratch(elements, float32, self.device), *plan.frame, serial,
            )  # fmt: skip
        else:
            offsets, flips = drawn
            launch.augment_crop(
                out, self.images, rows, offsets, flips, self.table, self.background, serial
            )
        return batch

    def unpacked(self, samples: Tensor) -> Tensor:
        """The batch from what `packed` made of rows and drawn."""
        array, device = samples.array, self.device
        rows, rest = contiguous(array[:, 0], device), array[:, 1:]
        if self.plan.interpolates:
            matrices = contiguous(rest, device).view(np.float32)
            return self(rows, (matrices.reshape(len(rows), 2, 3),))
        flips = empty_array((len(rows),), np.dtype(bool), device)
        kernels.get(device).elementwise.copy_strided(flips, rest[:, 2])
        return self(rows, (contiguous(rest[:, :2], device), flips))


def packed(rows: np.ndarray, drawn: tuple[np.ndarray, ...]) -> np.ndarray:
    """(N, 4) int64: the row and what was drawn, six float32 of a matrix or offsets and flip."""
    if len(drawn) == 1:
        rest = np.ascontiguousarray(drawn[0]).reshape(-1, 6).view(np.int64)
    else:
        rest = np.concatenate([drawn[0], drawn[1][:, None]], axis=1)
    return np.concatenate([rows[:, None], rest], axis=1)


def _make_plan(steps: tuple[Transform, ...], H: int, W: int, C: int, max_value: int) -> Plan:
    table = np.tile(np.arange(256, dtype=np.float32) / np.float32(max_value), (C, 1))
    size = frame = (H, W)
    moves: list[tuple[Transform, Size, Size]] = []
    fills: dict[tuple[int, ...], str] = {}
    for step in steps:
        name = type(step).__name__
        table = np.asarray(step.values(table))
        if table.shape != (C, 256):
            raise ShapeError(f"{name}.values must return shape ({C}, 256), got {table.shape}")
        after = pair(name, "output_size", step.output_size(size), minimum=1)
        if isinstance(step, Resize):
            if moves or frame != (H, W):
                raise ValueError("Compose: there may be one Resize, before all steps that move "
                                 "pixels")  # fmt: skip
            frame = after
        elif step.moves:
            moves.append((step, size, after))
        if step.fill is not None:
            values = (step.fill,) if isinstance(step.fill, int) else tuple(step.fill)
            if len(values) not in (1, C):
                raise ShapeError(
                    f"{type(step).__name__}: fill has {len(values)} values for images of {C} "
                    "channels"
                )
            fills[values * (C // len(values))] = type(step).__name__
        size = after
    if len(fills) > 1:
        listed = " and ".join(f"{list(fill)} by {name}" for fill, name in fills.items())
        raise ValueError(f"Compose: steps must agree on fill, got {listed}")
    fill = next(iter(fills), (0,) * C)
    table = np.ascontiguousarray(table, np.float32)
    return Plan(
        moves=tuple(moves),
        frame=frame,
        size=size,
        table=table,
        background=table[np.arange(C), list(fill)],
        interpolates=frame != (H, W) or any(step.interpolates for step, _, _ in moves),
    )


def _identity(count: int) -> np.ndarray:
    return np.tile(np.eye(2, 3), (count, 1, 1))


def _pair(operation: str, name: str, value: Any) -> tuple[float, float]:
    try:
        first, second = value
        if math.isfinite(first) and math.isfinite(second):
            return float(first), float(second)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{operation}: {name} must be two finite numbers, got {value!r}")


def _range(operation: str, name: str, value: Any) -> tuple[float, float]:
    """(low, high) of the pair (low, high) or of a number, which stands for (−number, number)."""
    try:
        low, high = value if isinstance(value, Sequence) else (-value, value)
        if low <= high and math.isfinite(high - low):
            return float(low), float(high)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{operation}: {name} must be a number ≥ 0 or (low, high), got {value!r}")


def _checked_fill(operation: str, fill: Fill) -> Fill:
    values = fill if isinstance(fill, Sequence) else (fill,)
    if not all(isinstance(v, (int, np.integer)) for v in values):
        raise DTypeError(f"{operation}: fill must be one or more int pixel values, got {fill!r}")
    if not values or not all(0 <= v <= 255 for v in values):
        raise ValueError(f"{operation}: fill must be pixel values from 0 to 255, got {fill!r}")
    return tuple(int(v) for v in values)
