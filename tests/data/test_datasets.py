"""Data sets as arrays: items, subsets, splits, checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad.data import ArrayDataset, BucketDataset, Subset, random_split
from minigrad.errors import DTypeError, ShapeError, TargetError


def numbered(count: int) -> ArrayDataset:
    """Image i is filled with i, label i."""
    images = np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 4, 3, 2)
    )
    return ArrayDataset(images, np.arange(count))


def mixed() -> BucketDataset:
    """Six samples of three sizes; image i is filled with i."""
    members = {(2, 3): [1, 4], (3, 3): [0, 5, 2], (5, 1): [3]}
    buckets = [
        (index, np.stack([np.full((*size, 1), i, np.uint8) for i in index]))
        for size, index in members.items()
    ]
    return BucketDataset(buckets, np.arange(6) % 2, classes=["even", "odd"])


def test_items_are_pixels_and_labels() -> None:
    dataset = numbered(5)
    image, label = dataset[3]
    assert image.shape == (4, 3, 2)
    assert (image == 3).all()
    assert label == 3
    assert type(label) is int
    assert dataset[-1][1] == 4
    assert [label for _, label in dataset] == [0, 1, 2, 3, 4]  # ends by IndexError
    assert dataset.num_classes == 5
    assert dataset.channels == 2


def test_items_of_several_sizes_are_found_by_their_number() -> None:
    dataset = mixed()
    assert len(dataset) == 6
    for i, shape in enumerate([(3, 3), (2, 3), (3, 3), (5, 1), (2, 3), (3, 3)]):
        image, label = dataset[i]
        assert image.shape == (*shape, 1)
        assert (image == i).all()
        assert label == i % 2
    assert "2 of 2×3, 3 of 3×3, 1 of 5×1" in repr(dataset)


def test_arrays_are_shared_not_copied() -> None:
    images = np.zeros((3, 4, 4, 1), np.uint8)
    dataset = ArrayDataset(images, [0, 1, 2])
    assert np.shares_memory(dataset.images, images)
    assert np.shares_memory(dataset.subset([2]).buckets[0].images, images)
    assert ArrayDataset(images[..., 0], [0, 1, 2]).images.shape == (3, 4, 4, 1)


def test_a_subset_keeps_its_order_and_is_numbered_from_zero() -> None:
    part = numbered(9).subset([5, 2, 2, 8])
    assert [(int(image[0, 0, 0]), label) for image, label in part] == [
        (5, 5), (2, 2), (2, 2), (8, 8),
    ]  # fmt: skip
    assert part.subset([3, 0])[0][1] == 8
    several = mixed().subset([3, 4, 0])
    assert [image[0, 0, 0] for image, _ in several] == [3, 4, 0]
    assert len(several.buckets) == 3
    assert len(mixed().subset([1, 4]).buckets) == 1
    assert len(mixed().subset([])) == 0
    assert several.classes == ("even", "odd")


def test_random_split_divides_without_overlap() -> None:
    dataset = numbered(100)
    first, second = random_split(dataset, [0.75, 0.25], seed=1)
    labels = [label for part in (first, second) for _, label in part]
    assert (len(first), len(second)) == (75, 25)
    assert sorted(labels) == list(range(100))
    assert labels != sorted(labels)
    again = random_split(dataset, [75, 25], seed=1)
    np.testing.assert_array_equal(again[0].labels, first.labels)
    other = random_split(dataset, [75, 25], seed=2)
    assert (other[0].labels != first.labels).any()


def test_random_split_deals_what_rounding_left_over() -> None:
    assert [len(part) for part in random_split(numbered(11), [0.3, 0.3, 0.4])] == [4, 3, 4]
    assert [len(part) for part in random_split(numbered(3), [0, 3])] == [0, 3]


def test_random_split_of_any_sequence() -> None:
    parts = random_split(list("abcdef"), [4, 2])
    assert all(isinstance(part, Subset) for part in parts)
    assert sorted(item for part in parts for item in part) == list("abcdef")


def test_statistics_equal_those_of_the_whole_array() -> None:
    images = np.random.default_rng(0).integers(0, 200, (50, 6, 7, 3), np.uint8)
    dataset = ArrayDataset(images, np.zeros(50, int), max_value=200)
    for ours, theirs in zip(
        dataset.subset(range(20)).statistics(),
        ((images[:20] / 200).mean((0, 1, 2)), (images[:20] / 200).std((0, 1, 2))),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


ZEROS = np.zeros((3, 4, 4, 1), np.uint8)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: ArrayDataset(ZEROS.astype(float), [0] * 3), DTypeError, "uint8 pixels, got float"),
        (lambda: ArrayDataset(ZEROS[0, 0], [0] * 4), ShapeError, r"\(N, H, W, C\).*\(4, 1\)"),
        (lambda: ArrayDataset(ZEROS[:, :0], [0] * 3), ShapeError, r"\(3, 0, 4, 1\)"),
        (lambda: ArrayDataset(ZEROS, [0] * 2), ShapeError, r"3 images need labels.*got \(2,\)"),
        (lambda: ArrayDataset(ZEROS, [0.5] * 3), DTypeError, "labels must be integers, got float"),
        (lambda: ArrayDataset(ZEROS, [0, 1, 2], "ab"), TargetError, r"\[0, 2\).*got 0 to 2"),
        (lambda: ArrayDataset(ZEROS, [0, -1, 0], "ab"), TargetError, "got -1 to 0"),
        (lambda: ArrayDataset(ZEROS, [0] * 3, max_value=0), ValueError, "max_value.*got 0"),
        (lambda: numbered(3)[3], IndexError, "index 3 is out of range for 3 samples"),
        (lambda: numbered(3)[-4], IndexError, "index -4"),
        (lambda: numbered(3).subset([0, 3]), TargetError, r"\[0, 3\), got 0 to 3"),
        (lambda: numbered(3).subset([-1]), TargetError, "got -1"),
        (lambda: numbered(3).subset([0.5]), DTypeError, "list of integers, got float64"),
        (lambda: random_split(numbered(4), [3, 2]), ShapeError, r"the 4 samples.*\[3, 2\]"),
        (lambda: random_split(numbered(4), [0.5, 0.6]), ShapeError, r"\[0.5, 0.6\]"),
        (lambda: random_split(numbered(4), [5, -1]), ShapeError, r"not be negative.*\[5, -1\]"),
        (lambda: random_split(numbered(4), []), ShapeError, "at least one part"),
        (lambda: BucketDataset([], []), ValueError, "at least one bucket"),
        (lambda: BucketDataset([([0, 1], ZEROS)], [0] * 3), ShapeError, "2 indices for 3 images"),
        (
            lambda: BucketDataset([([0, 1, 1], ZEROS)], [0] * 3),
            ValueError,
            "sample 1 is in 2",
        ),
        (
            lambda: BucketDataset([([0, 1, 2], ZEROS)], [0] * 4),
            ValueError,
            "sample 3 is in 0",
        ),
        (
            lambda: BucketDataset(
                [([0, 1, 2], ZEROS), ([3], np.zeros((1, 2, 2, 3), np.uint8))], [0] * 4
            ),
            ShapeError,
            r"same number of channels, got \[1, 3\]",
        ),
    ],
)
def test_bad_arguments_are_named(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()
