"""Images that stay on the GPU: gathered, augmented and normalised by a kernel."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad.data import (
    ArrayDataset,
    Compose,
    DataLoader,
    Normalize,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
)


def _loader(device: str, *steps, **options) -> DataLoader:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (7, 5, 4, 3), np.uint8)
    data = ArrayDataset(images, draw.integers(0, 3, 7))
    transform = Compose([*steps, Normalize([0.4] * 3, [0.2] * 3)])
    return DataLoader(data, 3, shuffle=True, seed=2, transform=transform, device=device, **options)


STEPS = {
    "plain": (),
    "crop and flip": (RandomCrop((5, 4), padding=1), RandomHorizontalFlip()),
    "rotation": (RandomRotation(20),),
    "affine": (RandomAffine(20, (0.2, 0.2), (0.8, 1.2), 10),),
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_batches_are_the_cpus(steps) -> None:
    for (x, y), (there, labels) in zip(
        _loader("cpu", *steps), _loader("cuda", *steps, prefetch=2), strict=True
    ):
        assert there.is_cuda
        assert labels.tolist() == y.tolist()
        np.testing.assert_allclose(there.cpu().numpy(), x.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_a_step_can_make_its_images_itself(steps, device: str) -> None:
    loader, same = _loader(device, *steps), _loader(device, *steps)

    @mg.capture
    def step(samples: mg.Tensor, labels: mg.Tensor, bucket: int):
        return loader.render(samples, bucket) * 1, labels * 1

    for _ in range(3):  # the third epoch replays
        for draw, (images, labels) in zip(loader.draws(), same, strict=True):
            made, made_labels = step(*draw)
            assert made_labels.tolist() == labels.tolist()
            np.testing.assert_array_equal(made.cpu().numpy(), images.cpu().numpy())


def test_the_images_are_copied_once() -> None:
    loader = _loader("cuda")
    next(iter(loader))
    first = loader._renderers()[0].images.pointer
    next(iter(loader))
    assert loader._renderers()[0].images.pointer == first
