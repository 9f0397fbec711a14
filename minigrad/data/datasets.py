"""Data sets of images as arrays: uint8 pixels, channels last, and an int64 label each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import check_int
from ..errors import DTypeError, ShapeError, TargetError

if TYPE_CHECKING:
    from .transforms import Compose


@dataclass(frozen=True)
class Bucket:
    """Samples of one image size.

    indices: (n,) their numbers in the data set; rows: (n,) where each lies in `images`.
    images: (M, H, W, C) uint8, of which other samples may be part too.
    """

    indices: np.ndarray
    rows: np.ndarray
    images: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        return self.images.shape[1], self.images.shape[2]


class ImageDataset:
    """Images, grouped by size, with labels.

    buckets: one Bucket for each size. labels: (N,) int64. classes: the names of labels 0, 1, …, or
    None. max_value: the pixel value that stands for 1.0, usually 255.

    `dataset[i]` is (the (H, W, C) uint8 image, its label as int). Build one with ArrayDataset or
    BucketDataset.
    """

    def __init__(
        self,
        buckets: Sequence[Bucket],
        labels: np.ndarray,
        classes: tuple[str, ...] | None,
        max_value: int,
    ) -> None:
        self.buckets = tuple(buckets)
        self.labels = labels
        self.classes = classes
        self.max_value = max_value
        self._place: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        i = index.__index__()
        if not -len(self) <= i < len(self):
            raise IndexError(f"dataset index {i} is out of range for {len(self)} samples")
        bucket_of, row_of = self._places()
        return self.buckets[bucket_of[i]].images[row_of[i]], int(self.labels[i])

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(b.indices)} of {b.size[0]}×{b.size[1]}" for b in self.buckets[:4])
        more = f" and {len(self.buckets) - 4} more sizes" if len(self.buckets) > 4 else ""
        return f"{type(self).__name__}({len(self)} images: {sizes}{more}, {self.channels} channels)"

    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """The bucket, and the row in its images, of every sample."""
        if self._place is None:
            bucket_of, row_of = np.empty(len(self), np.int64), np.empty(len(self), np.int64)
            for number, bucket in enumerate(self.buckets):
                bucket_of[bucket.indices] = number
                row_of[bucket.indices] = bucket.rows
            self._place = bucket_of, row_of
        return self._place

    @property
    def channels(self) -> int:
        return self.buckets[0].images.shape[3]

    @property
    def num_classes(self) -> int:
        """Classes named, or else the largest label plus one."""
        if self.classes is not None:
            return len(self.classes)
        return int(self.labels.max()) + 1 if len(self) else 0

    def subset(self, indices: Iterable[int]) -> ImageDataset:
        """The samples at `indices`, in that order, renumbered from 0. The pixels are shared."""
        chosen = index_array("subset", indices, len(self))
        bucket_of, row_of = self._places()
        buckets = []
        for number, bucket in enumerate(self.buckets):
            # One bucket stays even if it is empty: it holds the shape.
            mine = np.flatnonzero(bucket_of[chosen] == number)
            if len(mine) or len(self.buckets) == 1:
                buckets.append(Bucket(mine, row_of[chosen[mine]], bucket.images))
        if not buckets:
            none = np.empty(0, np.int64)
            buckets = [Bucket(none, none, self.buckets[0].images)]
        return ImageDataset(buckets, self.labels[chosen], self.classes, self.max_value)

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, in units of max_value: for Normalize."""
        if not len(self):
            raise ValueError("statistics: the data set is empty")
        counts = np.zeros((self.channels, 256), np.int64)
        for bucket in self.buckets:
            for start in range(0, len(bucket.rows), 4096):
                images = bucket.images[bucket.rows[start : start + 4096]]
                for c in range(self.channels):
                    counts[c] += np.bincount(images[..., c].ravel(), minlength=256)
        values = np.arange(256) / self.max_value
        mean = (counts @ values) / counts.sum(1)
        deviation = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1))
        return tuple(mean.tolist()), tuple(deviation.tolist())


class ArrayDataset(ImageDataset):
    """Images of one size.

    images: (N, H, W, C) uint8, channels last, or (N, H, W) for grey images; kept, not copied, if
    C-ordered. labels: (N,) integers. classes: names of the labels. max_value: the pixel value that
    stands for 1.0. Raises DTypeError, ShapeError or TargetError.
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        classes: Iterable[str] | None = None,
        max_value: int = 255,
    ) -> None:
        pixels = _image_array("ArrayDataset", images)
        everything = np.arange(len(pixels))
        names = None if classes is None else tuple(classes)
        super().__init__(
            [Bucket(everything, everything, pixels)],
            _label_array("ArrayDataset", labels, len(pixels), names),
            names,
            check_int("ArrayDataset", "max_value", max_value, 1, 255),
        )

    @property
    def images(self) -> np.ndarray:
        return self.buckets[0].images


class BucketDataset(ImageDataset):
    """Images of several sizes.

    buckets: (indices, images) for each size: the (n, H, W, C) uint8 images of the samples whose
    numbers are `indices`. Together the indices are 0 … N − 1, each once. labels: (N,) integers.
    """

    def __init__(
        self,
        buckets: Iterable[tuple[Any, Any]],
        labels: Any,
        classes: Iterable[str] | None = None,
        max_value: int = 255,
    ) -> None:
        names = None if classes is None else tuple(classes)
        count = len(labels)
        made = []
        for indices, images in buckets:
            pixels = _image_array("BucketDataset", images)
            numbers = index_array("BucketDataset", indices, count)
            if len(numbers) != len(pixels):
                raise ShapeError(
                    f"BucketDataset: a bucket has {len(numbers)} indices for {len(pixels)} images"
                )
            made.append(Bucket(numbers, np.arange(len(pixels)), pixels))
        if not made:
            raise ValueError("BucketDataset: at least one bucket is needed")
        channels = {bucket.images.shape[3] for bucket in made}
        if len(channels) > 1:
            raise ShapeError(
                f"BucketDataset: all images must have the same number of channels, got "
                f"{sorted(channels)}"
            )
        times = np.bincount(np.concatenate([bucket.indices for bucket in made]), minlength=count)
        if (times != 1).any():
            wrong = int(np.flatnonzero(times != 1)[0])
            raise ValueError(
                f"BucketDataset: every sample must be in one bucket, sample {wrong} is in "
                f"{times[wrong]}"
            )
        super().__init__(
            made,
            _label_array("BucketDataset", labels, count, names),
            names,
            check_int("BucketDataset", "max_value", max_value, 1, 255),
        )


class Batched:
    """A data set of which a DataLoader may make batches in another way than from its items."""

    def batched(self) -> tuple[ImageDataset, Compose] | None:
        """Images and transform of which the kernels make the batches that the items would make;
        None if items are more than that. A loader asks at the start of every pass."""
        raise TypeError(f"{type(self).__name__} must define batched")


# Checks -------------------------------------------------------------------------------------


def _image_array(owner: str, images: Any) -> np.ndarray:
    array = np.asarray(images)
    if array.dtype != np.uint8:
        raise DTypeError(
            f"{owner}: images must be uint8 pixels, got {array.dtype.name}; other data goes into "
            "an object with __len__ and __getitem__, which DataLoader takes too"
        )
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or 0 in array.shape[1:]:
        raise ShapeError(
            f"{owner}: images must have shape (N, H, W, C) or (N, H, W), got {np.shape(images)}"
        )
    return np.ascontiguousarray(array)


def _label_array(
    owner: str, labels: Any, count: int, classes: tuple[str, ...] | None
) -> np.ndarray:
    array = np.asarray(labels)
    if array.shape != (count,):
        raise ShapeError(f"{owner}: {count} images need labels of shape ({count},), got "
                         f"{array.shape}")  # fmt: skip
    if array.size and array.dtype.kind not in "iu":
        raise DTypeError(f"{owner}: labels must be integers, got {array.dtype.name}")
    array = array.astype(np.int64)
    if classes is not None and array.size and not 0 <= array.min() <= array.max() < len(classes):
        raise TargetError(
            f"{owner}: labels must be in [0, {len(classes)}) for {len(classes)} classes, got "
            f"{array.min()} to {array.max()}"
        )
    return array


def index_array(owner: str, indices: Any, count: int) -> np.ndarray:
    array = np.asarray(indices if hasattr(indices, "__len__") else list(indices))
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DTypeError(
            f"{owner}: indices must be a list of integers, got {array.dtype.name} of shape "
            f"{array.shape}"
        )
    array = array.astype(np.int64)
    if array.min() < 0 or array.max() >= count:
        raise TargetError(
            f"{owner}: indices must be in [0, {count}), got {array.min()} to {array.max()}"
        )
    return array
