"""Chains of layers that Sequential joins, against the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

# Windows side by side, overlapping, with gaps, with holes and past the end, around the input.
POOLS = [
    pytest.param(None, id="none"),
    pytest.param({"kernel_size": 2}, id="side by side"),
    pytest.param({"kernel_size": 3, "stride": 1, "padding": 1}, id="overlapping"),
    pytest.param({"kernel_size": (2, 1), "stride": (3, 2)}, id="gaps"),
    pytest.param(
        {"kernel_size": 2, "stride": 1, "dilation": (3, 2), "ceil_mode": True}, id="holes"
    ),
    pytest.param(
        {"kernel_size": 2, "padding": 1, "dilation": 7, "ceil_mode": True}, id="beside the input"
    ),
    pytest.param(
        {"kernel_size": 2, "padding": 1, "dilation": (8, 2), "stride": 1}, id="above and below it"
    ),
    pytest.param({"kernel_size": (17, 18), "stride": 1, "padding": (8, 9)}, id="many taps"),
]


def _run(model: nn.Sequential, x: np.ndarray, device: str) -> dict[str, np.ndarray]:
    """What a training step makes: the output, all gradients, and the buffers."""
    input = mg.tensor(x, device=device, requires_grad=True)
    out = model(input)
    upstream = np.random.default_rng(1).standard_normal(out.shape).astype(x.dtype)
    out.backward(mg.tensor(upstream, device=device))
    named = {"out": out.detach(), "input": input.grad}
    named |= {name: parameter.grad for name, parameter in model.named_parameters()}
    named |= dict(model.named_buffers())
    return {name: value.cpu().numpy() for name, value in named.items()}


@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
@pytest.mark.parametrize("affine", [None, False, True])
@pytest.mark.parametrize("pool", POOLS)
def test_agrees_with_the_definition(
    pool: dict[str, Any] | None, affine: bool | None, dtype: Any
) -> None:
    """affine: of a batch norm between relu and pool; None for no batch norm."""
    # Small numbers whose products and sums are exact: ties.
    draw = np.random.default_rng(0)
    x = draw.integers(-2, 3, (2, 2, 7, 6)).astype(dtype)
    results = {}
    for device in ("cuda", "reference"):
        layers: list[nn.Module] = [nn.Conv2d(2, 5, 1), nn.ReLU()]
        if affine is not None:
            layers.append(nn.BatchNorm2d(5, affine=affine))
        if pool is not None:
            layers.append(nn.MaxPool2d(**pool))
        model = nn.Sequential(*layers).to(dtype=dtype)
        model[0].weight.array[:] = np.resize([1, -2, 0.5], (5, 2, 1, 1))
        model[0].bias.array[:] = np.resize([0, 1], 5)
        if affine:
            model[2].weight.array[:] = np.resize([0.5, -2.0, 0.0], 5)
            model[2].bias.array[:] = np.resize([-1, 1], 5)
        results[device] = _run(model.to(device), x, device)
    tolerance = 100 * np.finfo(dtype).eps
    for name, wanted in results["reference"].items():
        np.testing.assert_allclose(
            results["cuda"][name], wanted, rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("activation", [None, nn.ReLU, nn.ReLU6, nn.SiLU])
def test_batch_norm_and_what_follows_agree_with_the_definition(
    activation: Any, pooled: bool, affine: bool, dtype: Any
) -> None:
    """In training, and then in evaluation with gradients and without, where it is folded."""
    draw = np.random.default_rng(0)
    x = draw.integers(-2, 3, (2, 2, 7, 6)).astype(dtype)
    results = {}
    for device in ("cuda", "reference"):
        layers: list[nn.Module] = [nn.Conv2d(2, 5, 1), nn.BatchNorm2d(5, affine=affine)]
        if activation is not None:
            layers.append(activation())
        if pooled:
            layers.append(nn.MaxPool2d(3, 2, 1))
        model = nn.Sequential(*layers).to(dtype=dtype)
        model[0].weight.array[:] = np.resize([1, -2, 0.5], (5, 2, 1, 1))
        model[0].bias.array[:] = np.resize([0, 1], 5)
        if affine:
            model[1].weight.array[:] = np.resize([0.6, -2.1, 3.3], 5)
            model[1].bias.array[:] = np.resize([-1.1, 1.2], 5)
        model = model.to(device)
        named = _run(model, x, device)
        model.zero_grad()
        model.eval()
        named |= {f"evaluation {name}": v for name, v in _run(model, x, device).items()}
        with mg.no_grad():
            named["folded"] = model(mg.tensor(x, device=device)).cpu().numpy()
        results[device] = named
    tolerance = 300 * np.finfo(dtype).eps
    for name, wanted in results["reference"].items():
        np.testing.assert_allclose(
            results["cuda"][name], wanted, rtol=tolerance, atol=tolerance, err_msg=name
        )
