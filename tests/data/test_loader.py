"""The loader: order, epochs, resuming, buckets, collating, the background thread."""

from __future__ import annotations

import threading
from collections import namedtuple
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import minigrad
from minigrad.data import (
    ArrayDataset,
    BucketDataset,
    Compose,
    DataLoader,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
    default_collate,
)
from minigrad.errors import CheckpointError, DataError, DTypeError, ShapeError

AUGMENT = Compose([RandomCrop(8, padding=2), RandomHorizontalFlip(), RandomRotation(15)])
EXACT = Compose([RandomCrop(8, padding=2), RandomHorizontalFlip()])


def dataset(count: int = 50) -> ArrayDataset:
    """Random images; labels tell the samples apart."""
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 2), np.uint8)
    return ArrayDataset(images, np.arange(count))


def mixed() -> BucketDataset:
    """Sizes 4×4, 4×6 and 5×3, with 23, 10 and 1 samples, numbered at random."""
    numbers = np.split(np.random.default_rng(1).permutation(34), [23, 33])
    shapes = (4, 4), (4, 6), (5, 3)
    buckets = [
        (index, np.broadcast_to(index.astype(np.uint8)[:, None, None, None], (len(index), *s, 1)))
        for index, s in zip(numbers, shapes, strict=True)
    ]
    return BucketDataset(buckets, np.arange(34))


def labels(loader: DataLoader) -> list[int]:
    return [int(label) for _, batch in loader for label in batch.array]


def by_label(loader: DataLoader) -> dict[int, np.ndarray]:
    """Every image of one pass, by its label."""
    return {
        int(label): image.copy()
        for images, batch in loader
        for image, label in zip(images.array, batch.array, strict=True)
    }


def test_batches_are_channels_last_float32_tensors_and_int64_labels() -> None:
    data = dataset(10)
    batches = list(DataLoader(data, 4))
    assert [images.shape for images, _ in batches] == [(4, 2, 8, 8), (4, 2, 8, 8), (2, 2, 8, 8)]
    for images, batch in batches:
        assert images.dtype == minigrad.float32
        assert batch.dtype == minigrad.int64
        assert not images.requires_grad
        assert images.array.transpose(0, 2, 3, 1).flags.c_contiguous
    together = np.concatenate([images.array for images, _ in batches]).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(together, data.images.astype(np.float32) / np.float32(255))


def test_without_shuffling_the_order_is_that_of_the_data() -> None:
    assert labels(DataLoader(dataset(), 7)) == list(range(50))


def test_the_order_follows_from_seed_and_epoch() -> None:
    first = DataLoader(dataset(), 7, shuffle=True, seed=3)
    epochs = [labels(first) for _ in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    second = DataLoader(dataset(), 7, shuffle=True, seed=3)
    second.set_epoch(1)
    assert labels(second) == epochs[1]
    assert labels(second) == epochs[2]
    assert labels(DataLoader(dataset(), 7, shuffle=True, seed=4)) != epochs[0]
    # The order is the same in batches of any size.
    assert labels(DataLoader(dataset(), 50, shuffle=True, seed=3)) == epochs[0]


@pytest.mark.parametrize("transform", [AUGMENT, EXACT])
def test_an_image_of_an_epoch_is_the_same_whatever_the_batches(transform: Compose) -> None:
    def images(batch_size: int, **options: Any) -> dict[int, np.ndarray]:
        loader = DataLoader(dataset(), batch_size, transform=transform, seed=9, **options)
        loader.set_epoch(2)
        return by_label(loader)

    expected = images(50)
    for other in (images(7, shuffle=True), images(1), images(16, shuffle=True, prefetch=3)):
        assert other.keys() == expected.keys()
        for label, image in expected.items():
            np.testing.assert_array_equal(other[label], image)
    loader = DataLoader(dataset(), 50, transform=transform, seed=9)
    assert any((by_label(loader)[label] != image).any() for label, image in expected.items())


def test_an_image_of_an_epoch_is_the_same_whatever_the_number_of_threads() -> None:
    from minigrad.runtime import threads

    data = dataset(600)  # above the size from which batches are made in parallel
    before = threads.get_num_threads()
    try:
        threads.set_num_threads(1)
        ((single, _),) = DataLoader(data, 600, transform=AUGMENT)
        threads.set_num_threads(before)
        ((several, _),) = DataLoader(data, 600, transform=AUGMENT)
    finally:
        threads.set_num_threads(before)
    np.testing.assert_array_equal(single.array, several.array)


def test_random_numbers_are_drawn_for_more_samples_than_one_chunk(monkeypatch: Any) -> None:
    """Chunks of four samples change nothing."""
    expected = by_label(DataLoader(dataset(), 3, shuffle=True, transform=AUGMENT))
    monkeypatch.setattr("minigrad.data.loader._DRAW", 4)
    images = by_label(DataLoader(dataset(), 3, shuffle=True, transform=AUGMENT))
    for label, image in expected.items():
        np.testing.assert_array_equal(images[label], image)


@pytest.mark.parametrize(("count", "batch_size"), [(50, 7), (49, 7), (3, 7), (0, 7), (1, 1)])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_length_and_drop_last(count: int, batch_size: int, drop_last: bool, prefetch: int) -> None:
    loader = DataLoader(dataset(count), batch_size, drop_last=drop_last, prefetch=prefetch)
    sizes = [len(batch.array) for _, batch in loader]
    whole, rest = divmod(count, batch_size)
    assert sizes == [batch_size] * whole + [rest] * (rest > 0 and not drop_last)
    assert len(loader) == len(sizes)


def test_the_reference_device_gives_the_same_batches() -> None:
    ours = by_label(DataLoader(dataset(5), 2, transform=AUGMENT))
    loader = DataLoader(dataset(5), 2, transform=AUGMENT, device="reference")
    assert next(iter(loader))[0].device == "reference"
    loader.set_epoch(0)
    for label, image in by_label(loader).items():
        np.testing.assert_allclose(image, ours[label], atol=2e-5)


def test_a_subset_is_loaded_by_its_own_rows() -> None:
    data = dataset()
    part = data.subset([40, 3, 17])
    images, batch = next(iter(DataLoader(part, 3)))
    assert batch.array.tolist() == [40, 3, 17]
    np.testing.assert_array_equal(
        np.rint(images.array.transpose(0, 2, 3, 1) * 255), data.images[[40, 3, 17]]
    )


# Epochs and resuming ------------------------------------------------------------------------


def test_the_epoch_counts_full_and_abandoned_passes() -> None:
    loader = DataLoader(dataset(), 10, shuffle=True)
    assert loader.epoch == 0
    list(loader)
    assert loader.epoch == 1
    next(iter(loader))
    assert loader.epoch == 1
    next(iter(loader))
    assert loader.epoch == 2


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("taken", [0, 1, 4, 7, 8])
@pytest.mark.parametrize("make", [dataset, mixed])
def test_resuming_yields_the_batches_that_were_left(make: Any, taken: int, prefetch: int) -> None:
    def loader() -> DataLoader:
        return DataLoader(make(), 7, shuffle=True, seed=5, prefetch=prefetch)

    whole = loader()
    expected = [batch.array.tolist() for _ in range(3) for _, batch in whole]
    per_epoch = len(whole)
    stopped = loader()
    list(stopped)
    running = iter(stopped)
    seen = [next(running)[1].array.tolist() for _ in range(min(taken, per_epoch))]
    state = stopped.state_dict()
    resumed = loader()
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    rest = [batch.array.tolist() for _ in range(2) for _, batch in resumed]
    taken = min(taken, per_epoch)
    assert seen == expected[per_epoch : per_epoch + taken]
    if taken == per_epoch:  # at the end of an epoch the next one follows
        assert rest[:per_epoch] == expected[2 * per_epoch :]
    else:
        assert rest == expected[per_epoch + taken :]


def test_an_abandoned_pass_does_not_move_the_loader() -> None:
    loader = DataLoader(dataset(), 10, shuffle=True)
    old = iter(loader)
    next(old)
    new = iter(loader)
    next(new)
    state = loader.state_dict()
    list(old)
    assert loader.state_dict() == state
    assert (state["epoch"], state["position"]) == (1, 1)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"batch_size": 9}, "batch_size=9, this loader batch_size=7"),
        ({"samples": 49}, "samples=49"),
        ({"seed": 1}, "seed=1"),
        ({"shuffle": False}, "shuffle=False"),
        ({"position": 9}, r"position must be in \[0, 8\], got 9"),
        ({"position": -1}, "got -1"),
        ({"extra": 1}, "expected keys"),
    ],
)
def test_a_state_of_another_loader_is_refused(change: dict[str, Any], match: str) -> None:
    loader = DataLoader(dataset(), 7, shuffle=True, seed=0)
    before = loader.state_dict()
    with pytest.raises(CheckpointError, match=match):
        loader.load_state_dict({**before, **change})
    assert loader.state_dict() == before


# Several sizes ------------------------------------------------------------------------------


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_every_batch_has_one_size_and_sizes_are_mixed(drop_last: bool, prefetch: int) -> None:
    options = {"drop_last": drop_last, "prefetch": prefetch}
    loader = DataLoader(mixed(), 3, shuffle=True, seed=0, **options)
    sizes, seen = [], []
    for images, batch in loader:
        sizes.append(images.shape[2:])
        for image, label in zip(images.array, batch.array, strict=True):
            assert (np.rint(image * 255) == label).all()
            seen.append(int(label))
    assert len(sizes) == len(loader) == (7 + 3 + 0 if drop_last else 8 + 4 + 1)
    assert len(set(seen)) == len(seen) == (30 if drop_last else 34)
    runs = 1 + sum(a != b for a, b in pairwise(sizes))
    assert runs > 3
    again = [images.shape[2:] for images, _ in loader]
    assert again != sizes  # another epoch mixes them in another way
    loader.set_epoch(0)
    assert labels(loader) == seen


def test_images_that_do_not_fit_the_transform_are_an_error_at_once() -> None:
    with pytest.raises(ShapeError, match=r"a window of \(4, 4\) does not fit.*\(5, 3\)"):
        DataLoader(mixed(), 3, transform=RandomCrop(4))


# Data sets of other kinds -------------------------------------------------------------------


class Squares:
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[np.ndarray, float]:
        assert type(index) is int
        return np.full((2, 3), index, np.float32), index**2


@pytest.mark.parametrize("prefetch", [0, 2])
def test_any_object_with_items_is_collated(prefetch: int) -> None:
    loader = DataLoader(Squares(), 4, prefetch=prefetch)
    batches = list(loader)
    assert [x.shape for x, _ in batches] == [(4, 2, 3), (4, 2, 3), (2, 2, 3)]
    x, y = batches[1]
    assert (x.dtype, y.dtype) == (minigrad.float32, minigrad.int64)
    assert x.array[:, 0, 0].tolist() == [4, 5, 6, 7]
    assert y.array.tolist() == [16, 25, 36, 49]
    shuffled = DataLoader(Squares(), 4, shuffle=True)
    order = [int(v) for _, y in shuffled for v in y.array]
    assert sorted(order) == [i**2 for i in range(10)]
    assert order != sorted(order)


def test_collate_fn_replaces_the_default() -> None:
    loader = DataLoader(dataset(5), 2, collate_fn=lambda items: [label for _, label in items])
    assert list(loader) == [[0, 1], [2, 3], [4]]


Pair = namedtuple("Pair", "x y")


def test_default_collate_keeps_structure_and_types() -> None:
    samples = [
        {"a": Pair(np.float64(i), np.int32(i)), "b": [1.5, True], "c": "text", "d": np.uint8(i),
         "e": minigrad.Tensor(np.full((2,), i, np.float32)), "f": np.str_("text")}
        for i in range(3)
    ]  # fmt: skip
    batch = default_collate(samples)
    assert isinstance(batch["a"], Pair)
    assert batch["a"].x.dtype == minigrad.float64
    assert batch["a"].y.dtype == minigrad.int64
    assert batch["b"][0].dtype == minigrad.float32
    assert batch["b"][1].dtype == minigrad.bool_
    assert batch["c"] == batch["f"] == ["text"] * 3
    assert batch["d"].dtype == minigrad.uint8
    assert batch["e"].array.tolist() == [[0, 0], [1, 1], [2, 2]]


def test_items_that_do_not_stack_are_an_error() -> None:
    with pytest.raises(DataError, match=r"one shape, got \[\(2,\), \(3,\)\].*collate_fn"):
        next(iter(DataLoader([np.zeros(2), np.zeros(3)], 2)))
    with pytest.raises(DTypeError, match="float16"):
        default_collate([np.zeros(2, np.float16)])


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: DataLoader(dataset(), 0), ValueError, "batch_size must be at least 1, got 0"),
        (lambda: DataLoader(dataset(), 2.5), TypeError, "batch_size.*2.5"),  # type: ignore
        (lambda: DataLoader(dataset(), 2, prefetch=-1), ValueError, "prefetch.*-1"),
        (lambda: DataLoader(dataset(), 2, seed=-1), ValueError, "seed.*-1"),
        (lambda: DataLoader(iter([1]), 2), TypeError, "__len__ and __getitem__"),
        (lambda: DataLoader([1, 2], 2, transform=AUGMENT), TypeError, "transform works on image"),
        (lambda: DataLoader(dataset(), 2, device="tpu"), RuntimeError, "'tpu'"),
        (lambda: DataLoader(dataset(), 2).set_epoch(-1), ValueError, "epoch.*-1"),
    ],
)
def test_bad_arguments_are_named(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


# The background thread ----------------------------------------------------------------------


def workers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "minigrad-prefetch"]


def test_prefetching_changes_nothing_but_the_thread() -> None:
    inline = by_label(DataLoader(dataset(), 7, shuffle=True, transform=AUGMENT))
    ahead = by_label(DataLoader(dataset(), 7, shuffle=True, transform=AUGMENT, prefetch=2))
    for label, image in inline.items():
        np.testing.assert_array_equal(ahead[label], image)
    assert not workers()


class Failing(Squares):
    def __getitem__(self, index: int) -> tuple[np.ndarray, float]:
        if index == 5:
            raise OSError("sample 5 is unreadable")
        return super().__getitem__(index)


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_an_exception_arrives_where_its_batch_was_due(prefetch: int) -> None:
    batches = iter(DataLoader(Failing(), 2, prefetch=prefetch))
    assert [next(batches)[1].array.tolist() for _ in range(2)] == [[0, 1], [4, 9]]
    with pytest.raises(OSError, match="sample 5 is unreadable"):
        next(batches)
    assert not workers()


def test_an_abandoned_iterator_ends_its_thread() -> None:
    batches = iter(DataLoader(dataset(), 1, prefetch=2))
    next(batches)
    (thread,) = workers()
    del batches
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_no_more_than_the_asked_number_of_batches_is_made_ahead() -> None:
    made: list[int] = []
    full = threading.Event()

    class Counting(Squares):
        def __getitem__(self, index: int) -> tuple[np.ndarray, float]:
            made.append(index)
            if len(made) == 3:
                full.set()
            return super().__getitem__(index)

    batches = iter(DataLoader(Counting(), 1, prefetch=2))
    next(batches)
    assert full.wait(timeout=10)  # the one taken and two ahead
    assert len(made) == 3
    assert len(list(batches)) == 9
    with pytest.raises(StopIteration):
        next(batches)
