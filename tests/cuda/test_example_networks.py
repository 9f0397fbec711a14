"""Training steps of the examples' networks A and B and the MNIST network, as on the CPU, eager and
captured."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from examples import networks
from minigrad import optim

NETWORKS = {"A": ("A", 3, 32), "B": ("B", 3, 32), "MNIST": ("fixed", 1, 28)}
_BATCH, _STEPS = 2, 3


def _train(name: str, device: str, dtype: np.dtype, captured: bool) -> tuple[list[float], list]:
    network, channels, side = NETWORKS[name]
    mg.manual_seed(3)
    model = networks.build(network, channels).to(device, dtype)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)

    def step(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = mg.capture(step) if captured else step
    draw = np.random.default_rng(0)
    losses = []
    for _ in range(_STEPS):
        x = mg.tensor(draw.standard_normal((_BATCH, channels, side, side))).to(device, dtype)
        losses.append(run(x, mg.tensor(draw.integers(0, 10, _BATCH), device=device)).item())
    return losses, [p.detach().cpu().numpy() for p in (*model.parameters(), *model.buffers())]


@pytest.mark.parametrize(
    ("dtype", "captured"),
    [(mg.float32, False), (mg.float32, True), (mg.float64, False)],
    ids=["float32", "float32 captured", "float64"],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_are_those_of_the_cpu(name: str, dtype: np.dtype, captured: bool) -> None:
    losses, state = _train(name, "cpu", dtype, captured=False)
    there, there_state = _train(name, "cuda", dtype, captured)
    # Adam divides by the gradient's size: where that is rounding alone, a step of 1e-3 differs.
    loss, weights = (1e-9, 1e-7) if dtype == mg.float64 else (2e-4, 4e-3)
    np.testing.assert_allclose(there, losses, rtol=loss)
    for mine, cpu in zip(there_state, state, strict=True):
        np.testing.assert_allclose(mine, cpu, rtol=weights, atol=weights)
