"""A training loop takes no fresh memory after its first steps, and keeps none for itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from examples import networks
from minigrad import data, runtime


def training_step() -> Callable[[mg.Tensor, mg.Tensor], float]:
    model = networks.cifar(batch_norm=True)
    optimizer = mg.optim.Adam(model.parameters())

    def step(images: mg.Tensor, labels: mg.Tensor) -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


@pytest.mark.parametrize("prefetch", [0, 2])
def test_steps_after_the_second_take_no_fresh_memory(prefetch: int) -> None:
    generator = np.random.default_rng(0)
    pictures = data.ArrayDataset(
        generator.integers(0, 256, (48, 32, 32, 3), np.uint8), generator.integers(0, 10, 48)
    )
    transform = data.Compose([data.RandomCrop(32, padding=4), data.RandomHorizontalFlip()])
    loader = data.DataLoader(pictures, 8, shuffle=True, transform=transform, prefetch=prefetch)
    step = training_step()
    runtime.empty_cache()
    stats, allocated = [], []
    for images, labels in loader:
        step(images, labels)
        stats.append(runtime.memory_stats())
        allocated.append(runtime.memory_allocated())
    assert stats[-1].reused > stats[1].reused + 20
    assert stats[-1].fresh == stats[1].fresh
    assert stats[-1].reserved == stats[1].reserved
    if not prefetch:
        assert len(set(allocated[1:])) == 1


def test_the_peak_of_a_step_is_what_backward_needs() -> None:
    """At most what all layers' outputs come to: nothing is kept twice."""
    images, labels = mg.zeros(32, 3, 32, 32), mg.zeros(32, dtype=mg.int64)
    step = training_step()
    step(images, labels)
    outputs = 4 * 32 * 32 * 32 * 16  # bytes of one activation of the first stage
    start = runtime.memory_allocated()
    runtime.reset_peak_memory_stats()
    step(images, labels)
    # Two convolutions a stage, each with its ReLU and batch norm; stages halve the bytes: the
    # last one is as large as the one before is after pooling.
    kept = 4 * outputs + 4 * outputs / 2 + 4 * outputs / 4 + 4 * outputs / 8
    # A chain of layers holds the gradient that it was given until its last gradient is done; and
    # kernels have workspaces, some for each thread.
    workspaces = 2**20
    assert runtime.max_memory_allocated() - start <= kept + outputs + workspaces
