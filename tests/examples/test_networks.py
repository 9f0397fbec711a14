"""The networks that examples and benchmarks share have the reports' parameters."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from examples import networks
from minigrad import nn


def parameters(model: nn.Module) -> int:
    return sum(p.array.size for p in model.parameters())


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (networks.mnist_fixed(), 29_066),
        (networks.mnist_variable(), 29_029),
        (networks.mnist_variable(channels=3), 29_317),
        (networks.cifar(), 294_810),
        (networks.cifar(batch_norm=True), 295_770),
    ],
    ids=["fixed", "variable", "variable on RGB", "A", "B"],
)
def test_parameter_counts(model: nn.Module, count: int) -> None:
    assert parameters(model) == count


def test_81_channels_come_closest_to_the_fixed_network() -> None:
    fixed = parameters(networks.mnist_fixed())
    distance = {N: abs(parameters(networks.mnist_variable(width=N)) - fixed) for N in (80, 81, 82)}
    assert min(distance, key=distance.__getitem__) == 81


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_the_variable_network_takes_images_of_any_size(pool: str) -> None:
    model = networks.mnist_variable(pool=pool)
    for size in (8, 28, 32, 48, 65):
        assert model(mg.zeros(2, 1, size, size)).shape == (2, 10)


def test_the_pyramid_is_the_variable_network_on_the_image_and_its_half() -> None:
    """Where a feature counts is the larger of what it is in the two."""
    pyramid, variable = networks.build("pyramid", channels=1), networks.mnist_variable()
    assert parameters(pyramid) == parameters(variable)
    for model in (pyramid, variable):
        model.requires_grad_(False)
    for target, source in zip(variable.parameters(), pyramid.parameters(), strict=True):
        target.array[...] = source.array
    features = nn.Sequential(*list(variable)[:-1])
    for size in (16, 33, 48, 64):
        image = np.random.default_rng(size).normal(size=(3, 1, size, size)).astype(np.float32)
        whole = size // 2 * 2
        half = image[:, :, :whole, :whole].reshape(3, 1, size // 2, 2, size // 2, 2).mean((3, 5))
        found = [features(mg.tensor(x)).numpy() for x in (image, half)]
        assert (found[0] > found[1]).any()
        assert (found[1] > found[0]).any()
        expected = list(variable)[-1](mg.tensor(np.maximum(*found))).numpy()
        np.testing.assert_allclose(
            pyramid(mg.tensor(image)).numpy(), expected, rtol=1e-4, atol=1e-5
        )


def test_an_unknown_pool_is_named() -> None:
    with pytest.raises(ValueError, match="pool must be 'max' or 'mean', got 'min'"):
        networks.mnist_variable(pool="min")
