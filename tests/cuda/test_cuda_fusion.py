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
