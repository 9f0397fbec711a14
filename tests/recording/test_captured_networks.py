"""Captured training of whole networks has the bits of the training itself, on the CPU, with all
that changes from step to step: rates, dropout, statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from examples import networks
from minigrad import nn, optim


class _Residual(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU6(),
            nn.Conv2d(out, out, 3, padding=1, groups=out), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.short = nn.Conv2d(channels, out, 1, 2)

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        return F.relu(self.body(x) + self.short(x))


def _residual() -> nn.Module:
    return nn.Sequential(
        _Residual(3, 16), _Residual(16, 32), nn.Flatten(2), nn.LayerNorm(16), nn.Dropout(0.1),
        nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int, int, int]]] = {
    "A": (lambda: networks.build("A", 3), (3, 32, 32)),
    "B": (lambda: networks.build("B", 3), (3, 32, 32)),
    "MNIST": (lambda: networks.build("fixed", 1), (1, 28, 28)),
    "any size": (lambda: networks.build("variable", 1), (1, 40, 32)),
    "residual": (_residual, (3, 16, 16)),
}
OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "AdamW": lambda p: optim.AdamW(p, 1e-3, amsgrad=True),
}


def _train(network: str, optimizer: str, capture: bool) -> tuple[list[float], list[np.ndarray]]:
    build, shape = NETWORKS[network]
    mg.manual_seed(3)
    model = build()
    made = OPTIMIZERS[optimizer](model.parameters())
    schedule = optim.lr_scheduler.OneCycleLR(made, 0.1, total_steps=8)

    def step(x: mg.Tensor, y: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        made.zero_grad()
        logits = model(x)
        loss = F.cross_entropy(logits, y, label_smoothing=0.1)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        made.step()
        return loss, norm

    run = mg.capture(step) if capture else step
    draw, seen = np.random.default_rng(0), []
    for _ in range(6):
        x = mg.tensor(draw.standard_normal((4, *shape)).astype("f4"))
        seen += [value.item() for value in run(x, mg.tensor(draw.integers(0, 10, 4)))]
        schedule.step()
    model.eval()
    infer = mg.capture(model) if capture else model
    with mg.no_grad():
        outputs = [infer(x * k).numpy().copy() for k in range(5)]
    return seen, [*outputs, *[value.numpy() for value in model.state_dict().values()]]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_captured_training_and_inference_have_the_same_bits(network: str, optimizer: str) -> None:
    losses, state = _train(network, optimizer, capture=False)
    captured, captured_state = _train(network, optimizer, capture=True)
    assert captured == losses
    for mine, plain in zip(captured_state, state, strict=True):
        np.testing.assert_array_equal(mine, plain)
