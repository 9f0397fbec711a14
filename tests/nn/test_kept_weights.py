"""What is made of a convolution's weight in inference is kept, and made anew when it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.kernels.cpu._seen import fingerprint

Change = Callable[[mg.nn.Sequential], None]


def by_numpy(model: mg.nn.Sequential) -> None:
    model[0].weight.array[1, 2, 0, 0] += 1


def by_an_operation(model: mg.nn.Sequential) -> None:
    with mg.no_grad():
        model[0].weight.mul_(-1)


def by_data(model: mg.nn.Sequential) -> None:
    model[0].weight.data[-1].zero_()


def by_a_state_dict(model: mg.nn.Sequential) -> None:
    state = model.state_dict()
    model.load_state_dict({name: value + 1 for name, value in state.items()})


def by_an_optimizer(model: mg.nn.Sequential) -> None:
    model[0].weight.grad = mg.ones_like(model[0].weight)
    mg.optim.SGD([model[0].weight], lr=0.5).step()


def of_the_statistics(model: mg.nn.Sequential) -> None:
    model[1].running_var.array[3] = 7


def of_the_bias(model: mg.nn.Sequential) -> None:
    model[1].bias.array[:] = -1


CHANGES = [by_numpy, by_an_operation, by_data, by_a_state_dict, by_an_optimizer]
# Winograd's form, and panels.
SHAPES = {"spread": (32, 48, 3), "panels": (257, 1024, 1)}


def network(form: str, folded: bool) -> mg.nn.Sequential:
    C, C_out, size = SHAPES[form]
    mg.manual_seed(0)
    conv = mg.nn.Conv2d(C, C_out, size, padding=size // 2)
    return mg.nn.Sequential(conv, mg.nn.BatchNorm2d(C_out) if folded else mg.nn.Identity()).eval()


def image(model: mg.nn.Sequential) -> mg.Tensor:
    return mg.randn(8, model[0].in_channels, 16, 16)


def fresh(model: mg.nn.Sequential, x: mg.Tensor) -> np.ndarray:
    """The result of a network that has kept nothing."""
    other = deepcopy(model)
    assert other[0].weight._kept is None
    return other(x).array


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with mg.no_grad():
        yield


@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_weight_counts_at_once(form: str, change: Change) -> None:
    model = network(form, folded=False)
    x = image(model)
    before = [model(x).array for _ in range(3)]
    assert model[0].weight._kept, "nothing is kept: the test is of nothing"
    assert all(np.array_equal(each, before[0]) for each in before)
    change(model)
    expected = fresh(model, x)
    assert not np.array_equal(before[0], expected)
    for _ in range(2):
        np.testing.assert_array_equal(model(x).array, expected)


@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize("change", [*CHANGES, of_the_statistics, of_the_bias])
def test_whatever_is_folded_counts_at_once(form: str, change: Change) -> None:
    model = network(form, folded=True)
    x = image(model)
    before = [model(x).array for _ in range(3)]
    assert model[0].weight._kept
    assert all(np.array_equal(each, before[0]) for each in before)
    change(model)
    expected = fresh(model, x)
    assert not np.array_equal(before[0], expected)
    for _ in range(2):
        np.testing.assert_array_equal(model(x).array, expected)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("form", SHAPES)
def test_a_captured_network_sees_changes_too(form: str, folded: bool) -> None:
    model = network(form, folded)
    run = mg.capture(model)
    x = image(model)
    for _ in range(5):
        run(x)
    for change in (by_numpy, by_an_operation):
        change(model)
        np.testing.assert_array_equal(run(x).array, fresh(model, x))


def test_each_precision_has_its_own() -> None:
    model = network("spread", folded=False)
    x = image(model)
    results = {}
    for precision in ("highest", "high") * 3:
        mg.set_float32_matmul_precision(precision)
        try:
            result = model(x).array
        finally:
            mg.set_float32_matmul_precision("highest")
        np.testing.assert_array_equal(result, results.setdefault(precision, result))
    assert len(model[0].weight._kept) == 2


def test_nothing_is_kept_of_temporary_or_trained_or_float64_weights() -> None:
    model = network("spread", folded=False)
    x, weight = image(model), model[0].weight
    made = weight * 2
    F.conv2d(x, made)
    assert not made._kept
    with mg.enable_grad():
        for _ in range(3):
            model(x)
    assert weight._kept is None
    wide = weight.double()
    for _ in range(3):
        F.conv2d(x.double(), wide)
    assert not wide._kept


def test_weights_of_other_sizes_in_the_same_tensor() -> None:
    model = network("spread", folded=False)
    x, weight = image(model), model[0].weight
    for _ in range(3):
        F.conv2d(x, weight, padding=1)
    weight.data = mg.randn(64, 32, 3, 3)
    expected = F.conv2d(x, weight.clone(), padding=1)
    for _ in range(3):
        np.testing.assert_array_equal(F.conv2d(x, weight, padding=1).array, expected.array)


@given(st.data(), st.integers(1, 200_000))
def test_a_fingerprint_tells_of_every_bit(data: st.DataObject, size: int) -> None:
    array = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    more = np.ones(3, np.float32)
    before = fingerprint(array, None, more)
    np.testing.assert_array_equal(before, fingerprint(array.copy(), None, more.copy()))
    bits = array.view(np.uint32)
    bits[data.draw(st.integers(0, size - 1))] ^= np.uint32(1 << data.draw(st.integers(0, 31)))
    changed = fingerprint(array, None, more)
    assert (before != changed).all()
    more[data.draw(st.integers(0, 2))] = 2
    assert (fingerprint(array, None, more) != changed).any()
    assert (fingerprint(array[::-1].copy(), None, more) != changed).any() or size == 1
