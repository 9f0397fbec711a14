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


def test_inverse_of_the_error_function_equals_torchs():
    y = np.concatenate([np.linspace(-0.999999, 0.999999, 4001), [0.0, 1e-300, -1e-9]])
    np.testing.assert_allclose(
        init._erfinv(Tensor(y)).array, torch.erfinv(torch.tensor(y)), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"), [(0.0, 1.0, -2.0, 2.0), (0.1, 0.02, -2.0, 2.0), (0.5, 1, 1.0, 3.0)]
)
def test_truncated_normal_has_the_moments_of_its_density(mean, std, a, b):
    mg.manual_seed(0)
    values = init.trunc_normal_(zeros((60_000,), np.float64), mean, std, a, b).array
    assert a <= values.min() < values.max() <= b
    x = np.linspace(max(a, mean - 8 * std), min(b, mean + 8 * std), 20_001)
    density = np.exp(-((x - mean) ** 2) / (2 * std**2))
    density /= density.sum()
    center = (density * x).sum()
    spread = math.sqrt((density * (x - center) ** 2).sum())
    assert values.mean() == pytest.approx(center, abs=5 * spread / math.sqrt(values.size))
    assert values.std() == pytest.approx(spread, rel=0.02)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 2, 3, 3), (5, 5)])
def test_orthogonal_rows_or_columns(shape):
    values = init.orthogonal_(zeros(shape, np.float64), gain=2).array.reshape(shape[0], -1)
    gram = values @ values.T if shape[0] <= values.shape[1] else values.T @ values
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-12)


def test_dirac_and_eye_equal_torchs():
    for shape, groups in (((4, 2, 3), 1), ((6, 2, 3, 4), 3), ((2, 5, 1, 2, 3), 2)):
        theirs = torch.nn.init.dirac_(torch.ones(shape), groups)
        np.testing.assert_array_equal(init.dirac_(init.ones_(zeros(shape)), groups).array, theirs)
    np.testing.assert_array_equal(init.eye_(init.ones_(zeros((2, 3)))).array, np.eye(2, 3))


def test_sparse_has_as_many_zeros_in_each_column():
    values = init.sparse_(zeros((10, 200)), 0.25, std=0.5).array
    assert ((values == 0).sum(0) == 3).all()
    assert len({tuple(column) for column in (values == 0).T}) > 20
    assert values[values != 0].std() == pytest.approx(0.5, rel=0.1)


def test_every_initializer_of_torch_is_here_and_old_names_warn():
    public = {n for n in dir(torch.nn.init) if n.endswith("_") and not n.startswith("_")}
    assert public <= set(init.__all__)
    for name in ("uniform", "normal", "eye", "orthogonal", "kaiming_uniform"):
        with pytest.warns(FutureWarning, match=f"{name} is deprecated, use nn.init.{name}_"):
            assert getattr(init, name)(zeros((2, 2))).array.any()


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: init.eye_(zeros((2,))), "eye_: the tensor must have 2 dimensions"),
        (lambda: init.dirac_(zeros((2, 2))), "dirac_: the tensor must have 3 to 5"),
        (lambda: init.dirac_(zeros((3, 2, 1)), 2), "groups=2 must divide the first of"),
        (lambda: init.orthogonal_(zeros((3,))), "orthogonal_: the tensor must have at least 2"),
        (lambda: init.sparse_(zeros((3,)), 0.5), "sparse_: the tensor must have 2"),
        (lambda: init.trunc_normal_(zeros(), a=1, b=1), "a below b"),
    ],
)
def test_bad_arguments_of_special_initializers_are_named(build, match):
    with pytest.raises(ValueError, match=match):
        build()
