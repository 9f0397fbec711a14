"""Chains in a recording: one pass over memory instead of two, with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.recording.launches import Launches


class _Network(nn.Module):
    """Layers in the order that `forward` has, not a Sequential."""

    def __init__(self, activation: Callable[..., Any], inplace: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 8, 3, bias=False)
        self.norm, self.last = nn.BatchNorm2d(8), nn.Linear(8, 4)
        self.activation, self.inplace = activation, inplace

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        x = F.relu(self.conv1(x), inplace=self.inplace)
        x = self.activation(self.norm(self.conv2(x)), inplace=self.inplace)
        return self.last(F.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that launches were joined to."""
    found: list[str] = []
    of = Launches._kernels_of

    def watched(self: Launches, function: Any, args: tuple[Any, ...]) -> Any:
        kernels = of(self, function, args)
        if self._stand_ins and kernels is not None:
            found.append(function.__name__)
        return kernels

    monkeypatch.setattr(Launches, "_kernels_of", watched)
    return found


def _results(network: nn.Module, training: bool, capture: bool) -> list[np.ndarray]:
    network.train(training)
    optimizer = mg.optim.SGD(network.parameters(), lr=0.1)

    def step(x: mg.Tensor) -> mg.Tensor:
        if not training:
            with mg.no_grad():
                return network(x)
        optimizer.zero_grad()
        loss = network(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    run, draw = mg.capture(step) if capture else step, np.random.default_rng(0)
    inputs = [mg.tensor(draw.standard_normal((2, 3, 9, 9)).astype("f4")) for _ in range(5)]
    return [run(x).numpy().copy() for x in inputs]


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("activation", [F.relu, F.relu6, F.silu])
def test_a_chain_has_the_bits_of_its_parts(
    activation: Any, training: bool, inplace: bool, joined: list[str]
) -> None:
    def results(capture: bool) -> list[np.ndarray]:
        mg.manual_seed(0)
        return _results(_Network(activation, inplace), training, capture)

    np.testing.assert_array_equal(results(capture=True), results(capture=False))
    expected = ["conv2d_forward", "batch_norm_activation_forward"]
    # These save what lies between, or a copy of it, for backward.
    saves = training and (activation is F.silu or (activation is F.relu6 and not inplace))
    assert joined == (expected[:1] if saves else expected)


@pytest.mark.parametrize(
    "limit",
    [F.relu6, lambda x: F.hardtanh(x, -1, 0.5), lambda x: x.clamp(0, 1), lambda x: x.clamp(max=0)],
)
def test_convolutions_of_every_kind_limit_their_results(limit: Any, joined: list[str]) -> None:
    winograd, pointwise = nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(32, 8, 1, stride=2)
    depthwise, rows = nn.Conv2d(32, 32, 3, groups=32), nn.Conv2d(3, 16, 3, padding=1)

    def step(x: mg.Tensor) -> mg.Tensor:
        with mg.no_grad():
            for conv in (rows, winograd, depthwise, pointwise):
                x = limit(conv(4 * x))
            return x

    captured, draw = mg.capture(step), np.random.default_rng(0)
    for _ in range(4):
        values = draw.standard_normal((2, 3, 16, 16)).astype("f4")
        values[0, :, 4:6, 3] = np.nan, np.inf
        x = mg.tensor(values)
        np.testing.assert_array_equal(captured(x).numpy(), step(x).numpy())
    assert joined == ["conv2d_forward"] * 4


@pytest.mark.parametrize("rows", [2, 40, 300])
@pytest.mark.parametrize(("terms", "columns"), [(5, 3), (1030, 40), (8200, 33)])
@pytest.mark.parametrize("limit", [F.relu, lambda x: x.clamp(-1, 0.5)])
def test_matrix_products_of_every_kind_limit_their_results(
    limit: Any, terms: int, columns: int, rows: int, joined: list[str]
) -> None:
    linear, draw = nn.Linear(terms, columns), np.random.default_rng(0)

    def step(x: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        with mg.no_grad():
            return limit(linear(x)), limit(x @ linear.weight.T)

    captured = mg.capture(step)
    for _ in range(4):
        values = draw.standard_normal((rows, terms)).astype("f4")
        values[0, :2] = np.nan
        values[1, 2] = np.inf
        x = mg.tensor(values)
        for got, expected in zip(captured(x), step(x), strict=True):
            np.testing.assert_array_equal(got.numpy(), expected.numpy())
    assert joined == ["matmul_forward"] * 2


def test_what_lies_between_is_there_if_somebody_asks_for_it(joined: list[str]) -> None:
    conv = nn.Conv2d(2, 3, 3)

    def step(x: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        with mg.no_grad():
            before = conv(x)
            return before, F.relu(before)

    captured = mg.capture(step)
    for k in range(4):
        x = mg.full((1, 2, 5, 5), k - 1.5)
        for got, expected in zip(captured(x), step(x), strict=True):
            np.testing.assert_array_equal(got.numpy(), expected.numpy())
    assert not joined


def test_an_activation_of_a_part_joins_nothing(joined: list[str]) -> None:
    conv = nn.Conv2d(2, 4, 3)

    def step(x: mg.Tensor) -> mg.Tensor:
        with mg.no_grad():
            return F.relu(conv(x)[:, :2])

    captured = mg.capture(step)
    for k in range(4):
        x = mg.full((1, 2, 5, 5), k - 1.5)
        np.testing.assert_array_equal(captured(x).numpy(), step(x).numpy())
    assert not joined
