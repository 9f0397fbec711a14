"""Small networks of the examples' kinds train on the GPU as they do on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "conv, relu, pool": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)
    ),
    "conv, relu, batch norm, pool": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, padding="same"), nn.ReLU(), nn.BatchNorm2d(3), nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, padding="same"), nn.ReLU(), nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4),
    ),
    "global maximum": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(3, 4)
    ),
}  # fmt: skip

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD with Nesterov's momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
}


def _train(device: str, build, make_optimizer, dtype, fused: bool) -> tuple[list[float], list]:
    mg.manual_seed(1)
    model = build().to(device, dtype)
    optimizer = make_optimizer(model.parameters())
    draw = np.random.default_rng(0)
    losses = []
    for _ in range(3):
        x = mg.tensor(draw.standard_normal((2, 1, 6, 6))).to(device, dtype)
        y = mg.tensor(draw.integers(0, 4, 2)).to(device)
        optimizer.zero_grad()
        if fused:
            loss = F.cross_entropy(model(x), y)
        else:
            with nn.no_fusion():
                loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach().cpu().numpy() for p in (*model.parameters(), *model.buffers())]


def _same(build, make_optimizer, dtype, fused: bool = True) -> None:
    losses, state = _train("cpu", build, make_optimizer, dtype, fused)
    there, there_state = _train("cuda", build, make_optimizer, dtype, fused)
    tolerance = 1e-9 if dtype == mg.float64 else 1e-3
    np.testing.assert_allclose(there, losses, rtol=tolerance)
    for mine, cpu in zip(there_state, state, strict=True):
        np.testing.assert_allclose(mine, cpu, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [mg.float32, mg.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_train_as_on_the_cpu(network: str, dtype) -> None:
    _same(NETWORKS[network], OPTIMIZERS["Adam"], dtype)


@pytest.mark.parametrize("network", NETWORKS)
def test_layers_kept_apart_train_the_same(network: str) -> None:
    _same(NETWORKS[network], OPTIMIZERS["SGD"], mg.float64, fused=False)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_step_as_on_the_cpu(optimizer: str) -> None:
    _same(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 4)), OPTIMIZERS[optimizer], mg.float64)


def test_gradients_are_clipped_as_on_the_cpu() -> None:
    gradients = []
    for device in ("cpu", "cuda"):
        x = mg.tensor([3.0, 4.0], device=device, requires_grad=True)
        (x * x).sum().backward()
        norm = nn.utils.clip_grad_norm_([x], 1.0)
        gradients.append([norm.item(), *x.grad.tolist()])
    assert gradients[0] == pytest.approx([10.0, 0.6, 0.8])
    assert gradients[1] == pytest.approx(gradients[0])


def test_a_checkpoint_moves_between_devices(tmp_path) -> None:
    from minigrad import serialization

    model = nn.Linear(3, 2).to("cuda")
    serialization.save_file(model.state_dict(), tmp_path / "w.safetensors")
    other = nn.Linear(3, 2)
    other.load_state_dict(serialization.load_file(tmp_path / "w.safetensors", device="cuda"))
    assert other.weight.device == "cpu"
    np.testing.assert_array_equal(
        other.weight.detach().numpy(), model.weight.detach().cpu().numpy()
    )
