"""What is made of a convolution's weight in inference is kept, and made anew when it changes."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.kernels.cpu._seen import fingerprint
from minigrad.kernels.cpu.conv import winograd
from minigrad.ops.keep import _kept

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


def forms(owner: mg.Tensor) -> int:
    """How many forms are kept for it."""
    known, found = _kept.get(id(owner), (None, {}))
    return len(found) if known is not None and known() is owner else 0


def kept(model: mg.nn.Sequential) -> int:
    folded = isinstance(model[1], mg.nn.BatchNorm2d)
    return forms(model[1].running_mean if folded else model[0].weight)


def fresh(model: mg.nn.Sequential, x: mg.Tensor) -> np.ndarray:
    """The result of a network that has kept nothing."""
    other = deepcopy(model)
    assert not kept(other)
    return other(x).array


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with mg.no_grad():
        yield


@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize(
    ("folded", "change"),
    [
        *((False, change) for change in CHANGES),
        *((True, change) for change in (*CHANGES, of_the_statistics, of_the_bias)),
    ],
)
def test_a_change_counts_at_once(form: str, folded: bool, change: Change) -> None:
    model = network(form, folded)
    x = image(model)
    before = [model(x).array for _ in range(3)]
    assert kept(model), "nothing is kept: the test is of nothing"
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
    assert kept(model) == 2


def test_nothing_is_kept_of_temporary_or_trained_or_float64_weights() -> None:
    model = network("spread", folded=False)
    x, weight = image(model), model[0].weight
    made = weight * 2
    F.conv2d(x, made)
    assert not forms(made)
    with mg.enable_grad():
        for _ in range(3):
            model(x)
    assert not forms(weight)
    wide = weight.double()
    for _ in range(3):
        F.conv2d(x.double(), wide)
    assert not forms(wide)


@pytest.mark.parametrize("folded", [False, True])
def test_a_recording_keeps_the_precision_that_it_was_made_in(folded: bool) -> None:
    model = network("spread", folded)
    run, x = mg.capture(model), image(model)
    for _ in range(5):
        run(x)
    mg.set_float32_matmul_precision("high")
    try:
        by_an_operation(model)
        result = run(x).array
    finally:
        mg.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(result, fresh(model, x))


def test_norms_behind_one_convolution_in_threads_of_their_own() -> None:
    first = network("spread", folded=True)
    second = mg.nn.Sequential(first[0], mg.nn.BatchNorm2d(48)).eval()
    second[1].running_mean.array[:], second[1].running_var.array[:] = 5, 11
    x = image(first)

    def wrong(model: mg.nn.Sequential) -> int:
        with mg.no_grad():
            expected = fresh(model, x)
            return sum(not np.array_equal(model(x).array, expected) for _ in range(40))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(wrong, [first, second])) == [0, 0]


@pytest.mark.parametrize("folded", [False, True])
def test_an_interrupted_call_leaves_nothing_half_made(
    folded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network("spread", folded)
    x = image(model)
    expected = [model(x).array for _ in range(3)][-1]
    before = model[0].weight.clone()
    spread = winograd.spread

    def interrupted(*args: Any) -> None:
        spread(*args)
        raise KeyboardInterrupt

    model[0].weight.mul_(2)
    with monkeypatch.context() as patch:
        patch.setattr(winograd, "spread", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model(x)
    model[0].weight.copy_(before)
    np.testing.assert_array_equal(model(x).array, expected)


def test_what_is_absent_counts() -> None:
    model = network("spread", folded=True)
    x, norm, values = image(model), model[1], mg.nn.Parameter(mg.rand(48))
    for norm.weight, norm.bias in ((values, None), (None, values)) * 2:
        np.testing.assert_array_equal(model(x).array, fresh(model, x))
        np.testing.assert_array_equal(model(x).array, fresh(model, x))


def test_copies_and_pickles_hold_no_more_than_the_weight() -> None:
    weight = network("spread", folded=False)[0].weight
    x = mg.randn(8, 32, 16, 16)
    size = len(pickle.dumps(weight))
    for _ in range(3):
        F.conv2d(x, weight, padding=1)
    assert forms(weight)
    assert len(pickle.dumps(weight)) == size
    assert not forms(copy(weight))
    place = id(weight)
    del weight
    assert place not in _kept


def test_few_forms_are_kept_of_a_weight() -> None:
    model = network("spread", folded=True)
    x = image(model)
    for eps in range(1, 20):
        model[1].eps = eps
        np.testing.assert_array_equal(model(x).array, fresh(model, x))
    assert 0 < kept(model) <= 4


def test_weights_of_other_sizes_in_the_same_tensor() -> None:
    model = network("spread", folded=False)
    x, weight = image(model), model[0].weight
    for _ in range(3):
        F.conv2d(x, weight, padding=1)
    weight.data = mg.randn(64, 32, 3, 3)
    expected = F.conv2d(x, weight.clone(), padding=1)
    for _ in range(3):
        np.testing.assert_array_equal(F.conv2d(x, weight, padding=1).array, expected.array)


def test_the_same_bits_under_another_shape() -> None:
    conv = mg.nn.Conv2d(32, 64, 3, padding=1, bias=False)
    weight = conv.weight
    bits = weight.array.transpose(2, 3, 1, 0).copy()
    for C_in, C_out in ((32, 64), (64, 32)) * 2:
        weight.data = mg.from_numpy(bits.reshape(3, 3, C_in, C_out).transpose(3, 2, 0, 1))
        x = mg.randn(8, C_in, 16, 16)
        expected = F.conv2d(x, weight.clone(), padding=1).array
        for _ in range(3):
            np.testing.assert_array_equal(F.conv2d(x, weight, padding=1).array, expected)


@given(st.data(), st.integers(1, 200_000))
def test_a_fingerprint_tells_of_every_bit(data: st.DataObject, size: int) -> None:
    array = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    more = np.ones(3, np.float32)
    before = fingerprint(array, more)
    assert fingerprint(array.copy(), more.copy()) == before
    array.view(np.uint32)[data.draw(st.integers(0, size - 1))] ^= np.uint32(
        1 << data.draw(st.integers(0, 31))
    )
    changed = fingerprint(array, more)
    assert changed != before
    more[data.draw(st.integers(0, 2))] = 2
    assert fingerprint(array, more) != changed
    assert fingerprint(array[::-1].copy(), more) != changed


@pytest.mark.parametrize("values", ["one-hot", "signs", "quantised"])
def test_changes_of_patterned_weights_do_not_cancel(values: str) -> None:
    rng = np.random.default_rng(0)
    weight = {
        "one-hot": np.eye(64, dtype=np.float32)[rng.permutation(64)],
        "signs": rng.choice(np.float32([-1, 1]), (64, 64)),
        "quantised": rng.integers(-8, 8, (64, 64)).astype(np.float32) / 8,
    }[values]
    seen = {}
    for a in range(64):  # two rows or two columns exchanged, a block's signs turned
        for b in range(a):
            rows, columns, block = weight.copy(), weight.copy(), weight.copy()
            rows[[a, b]] = weight[[b, a]]
            columns[:, [a, b]] = weight[:, [b, a]]
            block[np.ix_([a, b], [b, (a + 7) % 64])] *= -1
            for each in (rows, columns, block):
                seen.setdefault(fingerprint(each), set()).add(each.tobytes())
    assert all(len(found) == 1 for found in seen.values())
    assert len(seen) > 2000
