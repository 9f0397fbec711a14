"""Initial values: distributions, seeds, independence of memory order."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import minigrad as mg
from minigrad import Tensor, nn
from minigrad.device import Generator
from minigrad.errors import DTypeError, ShapeError
from minigrad.nn import init

SHAPE = (60, 20, 3, 5)  # fan_in 300, fan_out 900


def zeros(shape=SHAPE, dtype=np.float32):
    return Tensor(np.zeros(shape, dtype))


def check_uniform(values, bound):
    n = values.size
    assert values.min() >= -bound
    assert values.max() < bound
    assert values.max() > 0.99 * bound
    assert values.min() < -0.99 * bound
    assert abs(values.mean()) < 5 * bound / math.sqrt(3 * n)
    assert values.std() == pytest.approx(bound / math.sqrt(3), rel=5 / math.sqrt(n))


def check_normal(values, std):
    n = values.size
    assert abs(values.mean()) < 5 * std / math.sqrt(n)
    assert values.std() == pytest.approx(std, rel=5 / math.sqrt(2 * n))
    kurtosis = (values**4).mean() / (values**2).mean() ** 2
    assert kurtosis == pytest.approx(3, abs=5 * math.sqrt(24 / n))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_and_moments(dtype):
    mg.manual_seed(0)
    kaiming = math.sqrt(2 / (1 + 5))
    make = lambda: zeros(dtype=dtype)  # noqa: E731
    check_uniform(init.uniform_(make(), -0.3, 0.3).array, 0.3)
    check_uniform(init.kaiming_uniform_(make(), a=math.sqrt(5)).array, kaiming * math.sqrt(3 / 300))
    check_uniform(
        init.kaiming_uniform_(make(), mode="fan_out", nonlinearity="relu").array, math.sqrt(6 / 900)
    )
    check_uniform(init.xavier_uniform_(make(), gain=2).array, 2 * math.sqrt(6 / 1200))
    check_normal(init.normal_(make(), 0, 0.5).array, 0.5)
    check_normal(init.kaiming_normal_(make(), nonlinearity="relu").array, math.sqrt(2 / 300))
    check_normal(init.xavier_normal_(make()).array, math.sqrt(2 / 1200))
    assert init.normal_(make(), 4.0, 0.1).array.mean() == pytest.approx(4, abs=0.01)
    assert (init.constant_(make(), 0.25).array == 0.25).all()
    assert (init.ones_(make()).array == 1).all()
    assert not init.zeros_(init.ones_(make())).array.any()


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (lambda lib: lib.Linear(300, 200), 300),
        (lambda lib: lib.Conv2d(20, 150, (3, 5)), 300),
        (lambda lib: lib.Conv2d(40, 150, (3, 5), groups=2), 300),
    ],
)
def test_layer_defaults_are_torchs_distributions(layer, fan_in):
    mg.manual_seed(1)
    ours, theirs = layer(nn), layer(torch.nn)
    bound = 1 / math.sqrt(fan_in)
    check_uniform(ours.weight.array, bound)
    check_uniform(theirs.weight.detach().numpy(), bound)  # what torch does, in case it changes
    assert np.abs(ours.bias.array).max() <= bound
    assert np.abs(ours.bias.array).max() > 0.9 * bound


def test_batch_norm_starts_as_identity():
    layer = nn.BatchNorm2d(7)
    assert (layer.weight.array == 1).all()
    assert (layer.running_var.array == 1).all()
    assert not layer.bias.array.any()
    assert not layer.running_mean.array.any()
    assert layer.num_batches_tracked.array == 0


@pytest.mark.parametrize("function", [init.uniform_, init.normal_, init.kaiming_uniform_])
def test_same_seed_same_values_whatever_the_memory_order(function):
    stored = np.zeros((3, 5, 20, 60), np.float32).transpose(3, 2, 0, 1)
    values = []
    for tensor in (zeros(), Tensor(stored), zeros().to("reference")):
        mg.manual_seed(7)
        assert function(tensor) is tensor
        values.append(tensor.array.copy())
    assert stored.transpose(2, 3, 1, 0).flags.c_contiguous
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_allclose(values[0], values[2], rtol=1e-5, atol=1e-6)
    assert not np.array_equal(function(zeros()).array, values[0]), "the stream did not move on"


def test_a_generator_of_ones_own_leaves_the_default_alone():
    mg.manual_seed(3)
    first = init.uniform_(zeros()).array
    mg.manual_seed(3)
    own = init.uniform_(zeros(), generator=Generator(3)).array
    np.testing.assert_array_equal(own, first)
    np.testing.assert_array_equal(init.uniform_(zeros()).array, first)


def test_layers_of_one_seed_are_equal():
    mg.manual_seed(5)
    a = nn.Conv2d(3, 4, 3)
    mg.manual_seed(5)
    b = nn.Conv2d(3, 4, 3)
    np.testing.assert_array_equal(a.weight.array, b.weight.array)
    np.testing.assert_array_equal(a.bias.array, b.bias.array)


@pytest.mark.parametrize(
    ("name", "param"),
    [("linear", None), ("conv2d", None), ("sigmoid", None), ("tanh", None), ("relu", None),
     ("leaky_relu", None), ("leaky_relu", 0.3), ("selu", None)],
)  # fmt: skip
def test_gains_are_torchs(name, param):
    assert init.calculate_gain(name, param) == torch.nn.init.calculate_gain(name, param)


def test_in_place_initialisation_counts_as_a_change():
    tensor = zeros((2, 2))
    init.uniform_(tensor)
    init.ones_(tensor)
    assert tensor._version.value == 2


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: init.kaiming_uniform_(zeros((3,))), ShapeError, r"2 dimensions, got shape \(3,\)"),
        (lambda: init.xavier_normal_(zeros(())), ShapeError, "xavier_normal_: the tensor must"),
        (lambda: init.kaiming_normal_(zeros(), mode="fan"), ValueError, "mode must be"),
        (lambda: init.calculate_gain("swish"), ValueError, "got 'swish'"),
        (lambda: init.calculate_gain("leaky_relu", "x"), TypeError, "must be a number"),
        (lambda: init.uniform_(zeros(), 1, 0), ValueError, "a must be at most b"),
        (lambda: init.normal_(zeros(), 0, -1), ValueError, "std must be at least 0"),
        (lambda: init.uniform_(zeros(dtype=np.int64)), DTypeError, "float32 or float64"),
    ],
)
def test_bad_arguments_are_named(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_empty_tensors_stay_empty():
    for function in (init.kaiming_uniform_, init.xavier_normal_, init.ones_):
        assert function(zeros((0, 4))).array.size == 0
