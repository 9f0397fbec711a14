"""Data sets of single images whose batches kernels make: the same as of their items."""

from collections import Counter

import numpy as np
import pytest

import minigrad as mg
from minigrad.data import DataLoader, Subset, default_collate, random_split
from minigrad.vision import datasets, transforms
from minigrad.vision.transforms import v2

COLOURS = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


class Cifar(datasets.CIFAR10):
    """Random pixels, without files."""

    shape = (60, 9, 8, 3)

    def _load(self):
        draws = np.random.default_rng(0)
        return draws.integers(0, 256, self.shape, np.uint8), draws.integers(0, 10, 60).tolist()


class Mnist(datasets.MNIST):
    def _load(self):
        draws = np.random.default_rng(0)
        pixels, labels = draws.integers(0, 256, (60, 9, 8), np.uint8), draws.integers(0, 10, 60)
        return mg.tensor(pixels), mg.tensor(labels)


class Svhn(datasets.SVHN):
    def __init__(self, root, transform=None):
        super().__init__(root, transform=transform)

    def _load(self):
        draws = np.random.default_rng(0)
        return draws.integers(0, 256, (60, 3, 9, 8), np.uint8), draws.integers(0, 10, 60)


def item_by_item(dataset, *args, **options):
    """A loader to which a collate_fn of its own says that items are wanted."""
    loader = DataLoader(dataset, *args, collate_fn=lambda items: default_collate(items), **options)
    assert loader.transform is None
    return loader


def by_kernels(dataset, *args, **options):
    loader = DataLoader(dataset, *args, **options)
    assert loader.transform is not None
    return loader


def assert_equal(mine, other):
    for (images, labels), (expected, wanted) in zip(mine, other, strict=True):
        assert (images.dtype, labels.dtype) == (expected.dtype, wanted.dtype)
        assert np.array_equal(images.numpy(), expected.numpy())
        assert np.array_equal(labels.numpy(), wanted.numpy())


STEPS = {
    "ToTensor": transforms.ToTensor(),
    "Normalize": transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.13, 0.31)]),
    "v2": v2.Compose([
        v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(1.0)]),
        v2.ToDtype(mg.float32, scale=True),
        v2.Normalize((0.5,), (0.5,)), v2.Normalize((0.1,), (2.0,)),
    ]),
    "one window": transforms.Compose([
        transforms.RandomHorizontalFlip(1), transforms.RandomCrop((13, 14), (3, 2)),
        transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,)),
    ]),
    "a window of floats": transforms.Compose([
        transforms.ToTensor(), transforms.RandomCrop((9, 8)), transforms.Normalize((0.5,), (0.5,)),
        transforms.RandomHorizontalFlip(0.0),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("kind", [Mnist, Cifar, Svhn])
@pytest.mark.parametrize("steps", STEPS)
def test_batches_equal_those_of_items_bit_for_bit(kind, steps, tmp_path):
    """Where nothing is left to chance: windows that fit exactly, flips always or never."""
    step = STEPS[steps]
    if steps == "Normalize" and kind is not Mnist:
        step = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*COLOURS)])
    data = kind(tmp_path, transform=step)
    part = random_split(Subset(data, range(3, 50)), [20, 27], seed=1)[1]
    for chosen in (data, part):
        options = {"batch_size": 7, "shuffle": True, "seed": 5, "drop_last": True}
        mine, other = by_kernels(chosen, **options), item_by_item(chosen, **options)
        assert len(mine) == len(other)
        for _ in range(2):
            assert_equal(mine, other)
    assert_equal(by_kernels(data, 7, num_workers=1), item_by_item(data, 7))
    mine, other = (
        by_kernels(data, 7, shuffle=True, seed=2),
        item_by_item(data, 7, shuffle=True, seed=2),
    )
    next(iter(mine))
    other.load_state_dict(mine.state_dict())  # either goes on where the other stopped
    state = other.state_dict()
    mine.load_state_dict(state)
    assert_equal(mine, other)


def test_windows_and_flips_are_drawn_as_those_of_items(tmp_path):
    """All places of a window, and both ways, are as frequent as chance has it."""
    data = Cifar(tmp_path, transform=transforms.Compose([
        transforms.RandomCrop((9, 8), padding=1), transforms.RandomHorizontalFlip(0.25),
        transforms.ToTensor(),
    ]))  # fmt: skip
    data.data = np.tile(np.arange(1, 73, dtype=np.uint8).reshape(1, 9, 8, 1), (3000, 1, 1, 3))
    data.targets = [0] * 3000
    padded = np.pad(data.data[0, :, :, 0], 1)
    possible = {}
    for top in range(3):
        for left in range(3):
            window = padded[top : top + 9, left : left + 8]
            possible[window.tobytes()] = top, left, False
            possible[np.ascontiguousarray(window[:, ::-1]).tobytes()] = top, left, True

    def drawn(loader):
        images = np.concatenate([images.numpy() for images, _ in loader])
        pixels = np.rint(images * 255).astype(np.uint8)
        assert (pixels == pixels[:, :1]).all()
        return [possible[np.ascontiguousarray(image[0]).tobytes()] for image in pixels]

    for make in (by_kernels, item_by_item):
        mg.manual_seed(3)
        loader = make(data, 100)
        first, second = drawn(loader), drawn(loader)
        assert first != second
        mg.manual_seed(3)
        assert drawn(make(data, 100)) == first
        for counts, places in (
            (Counter(place[:2] for place in first), 9), (Counter(p[0] for p in first), 3),
        ):  # fmt: skip
            share = 1 / places
            for count in counts.values():
                assert abs(count - 3000 * share) < 5 * (3000 * share * (1 - share)) ** 0.5
            assert len(counts) == places
        flipped = sum(place[2] for place in first)
        assert abs(flipped - 750) < 5 * (3000 * 0.25 * 0.75) ** 0.5


class Own(Cifar):
    def __getitem__(self, index):
        return super().__getitem__(index)


FLOATS = transforms.ToTensor()


@pytest.mark.parametrize(
    "steps",
    [
        None, transforms.RandomHorizontalFlip(), transforms.PILToTensor(), lambda image: image,
        [FLOATS, lambda image: image], [transforms.Resize(9), FLOATS],
        [FLOATS, transforms.Normalize(*COLOURS), transforms.RandomCrop(8)],
        [transforms.RandomCrop(8), transforms.RandomCrop(7, 1), FLOATS],
        [transforms.RandomCrop(8, 1, fill=3), FLOATS],
        [transforms.RandomCrop(8, 1, padding_mode="edge"), FLOATS],
        [transforms.RandomCrop(20, pad_if_needed=True), FLOATS],
        [FLOATS, transforms.Normalize((0.5,), (-0.5,))],
        [v2.ToImage(), v2.ToDtype(mg.float32)], [v2.ToImage(), v2.ToDtype(mg.float64, scale=True)],
    ],
)  # fmt: skip
def test_other_steps_are_done_image_by_image(steps, tmp_path):
    steps = transforms.Compose(steps) if isinstance(steps, list) else steps
    assert DataLoader(Cifar(tmp_path, transform=steps), 4).transform is None


def test_other_items_are_made_one_by_one(tmp_path):
    data = Cifar(tmp_path, transform=FLOATS)
    by_kernels(data, 4)
    for loader in (
        DataLoader(Own(tmp_path, transform=FLOATS), 4), DataLoader(data, None),
        DataLoader(Cifar(tmp_path, transform=FLOATS, target_transform=str), 4),
        DataLoader(data, 4, sampler=range(3)),
        DataLoader(data, 4, num_workers=1, worker_init_fn=print),
    ):  # fmt: skip
        assert loader.transform is None
    mg.set_default_dtype(mg.float64)
    try:
        assert DataLoader(data, 4).transform is None
    finally:
        mg.set_default_dtype(mg.float32)
    with pytest.raises(TypeError, match="transform works on image data sets"):
        DataLoader(data, 4, transform=[])


def test_a_pass_sees_what_a_script_has_changed(tmp_path):
    data = Cifar(tmp_path, transform=FLOATS)
    mine, other = by_kernels(Subset(data, range(10)), 4), item_by_item(Subset(data, range(10)), 4)
    data.targets[2] = 77
    data.data = data.data[::-1]
    assert_equal(mine, other)
    data.transform = transforms.Compose([FLOATS, transforms.Normalize(*COLOURS)])
    assert_equal(mine, other)
    data.transform = transforms.Compose([transforms.Grayscale(), FLOATS])
    assert_equal(mine, other)
    assert mine.transform is None
    data.transform, data.targets = FLOATS, [float(target) for target in data.targets]
    assert_equal(mine, other)
