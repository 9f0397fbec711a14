"""Chains of layers that Sequential joins give what the layers give one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.nn.fusion import steps


def network(kind: str, conv: dict[str, Any], options: dict[str, Any]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(dtype=mg.float64, **conv), nn.ReLU()]
    if kind == "pool":
        layers.append(nn.MaxPool2d(**options))
    if kind == "norm":
        layers.append(nn.BatchNorm2d(conv["out_channels"], dtype=mg.float64, **options))
        # A second one, so that the chain is followed by another.
        layers.append(nn.Conv2d(conv["out_channels"], 2, 1, dtype=mg.float64))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def run(model: nn.Sequential, x: np.ndarray, steps: int = 2) -> dict[str, np.ndarray]:
    """Outputs, gradients and buffers after some training steps."""
    results = {}
    for step in range(steps):
        input = mg.tensor(x + step, requires_grad=True)
        model.zero_grad()
        out = model(input)
        rng = np.random.default_rng(step)
        out.backward(mg.tensor(rng.standard_normal(out.shape)))
        results[f"out {step}"] = out.detach().numpy().copy()
        results[f"input {step}"] = input.grad.numpy().copy()
        for name, parameter in model.named_parameters():
            results[f"{name} {step}"] = parameter.grad.numpy().copy()
    for name, buffer in model.named_buffers():
        results[name] = buffer.numpy().copy()
    return results


CONVOLUTIONS = st.fixed_dictionaries(
    {
        "in_channels": st.sampled_from((1, 2, 16)),
        "out_channels": st.sampled_from((2, 4, 17)),
        "kernel_size": st.sampled_from((1, 3, (3, 2))),
        "stride": st.sampled_from((1, 2)),
        "padding": st.sampled_from((0, 1)),
        "bias": st.booleans(),
    }
)
OPTIONS = st.one_of(
    st.just(("plain", {})),
    st.tuples(
        st.just("pool"),
        st.fixed_dictionaries(
            {
                "kernel_size": st.sampled_from((2, 3)),
                "stride": st.sampled_from((None, 1, 2)),
                "ceil_mode": st.booleans(),
            }
        ),
    ),
    st.tuples(
        st.just("norm"),
        st.fixed_dictionaries(
            {
                "momentum": st.sampled_from((0.1, None)),
                "affine": st.booleans(),
                "track_running_stats": st.booleans(),
            }
        ),
    ),
)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_a_chain_gives_what_its_layers_give(device: str) -> None:
    @given(CONVOLUTIONS, OPTIONS, st.sampled_from((0, 1, 3)), st.integers(0, 2**31))
    def holds(conv: dict[str, Any], last: Any, batch: int, seed: int) -> None:
        kind, options = last
        if device == "reference" or kind == "norm":
            conv = {**conv, "in_channels": min(conv["in_channels"], 2)}
        mg.manual_seed(seed)
        model = network(kind, conv, options).to(device)
        state = {name: value.clone() for name, value in model.state_dict().items()}
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((batch, conv["in_channels"], 8, 7))
        with mg_default(device):
            joined = run(model, x)
            model.load_state_dict(state)
            with nn.no_fusion():
                apart = run(model, x)
        assert list(joined) == list(apart)
        for name in joined:
            np.testing.assert_allclose(
                joined[name], apart[name], rtol=1e-12, atol=1e-12, err_msg=name
            )

    holds()


class mg_default:
    """The default device inside a with block."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __enter__(self) -> None:
        self.before = mg.get_default_device()
        mg.set_default_device(self.device)

    def __exit__(self, *_: object) -> None:
        mg.set_default_device(self.before)


def nodes(model: nn.Sequential, *shape: int) -> list[str]:
    """The Functions behind the output, last first."""
    names, node = [], model(mg.zeros(*shape)).node
    while node is not None:
        names.append(node.name)
        node = node.inputs[0][0] if isinstance(node.inputs[0], tuple) else None
    return names


def test_chains_are_joined() -> None:
    conv, relu = nn.Conv2d(2, 3, 3), nn.ReLU()
    shape = 2, 2, 8, 8
    assert nodes(nn.Sequential(conv, relu), *shape) == ["ConvReLU"]
    assert nodes(nn.Sequential(conv, relu, nn.MaxPool2d(2)), *shape) == ["ConvReLU"]
    assert nodes(nn.Sequential(conv, relu, nn.BatchNorm2d(3)), *shape) == ["ConvReLUBatchNorm"]
    with nn.no_fusion():
        assert not nn.is_fusion_enabled()
        assert nodes(nn.Sequential(conv, relu), *shape) == ["ReLU", "Conv2d"]
    assert nn.is_fusion_enabled()


def test_hooks_subclasses_and_evaluation_keep_layers_apart() -> None:
    class Doubled(nn.ReLU):
        def forward(self, input: mg.Tensor) -> mg.Tensor:
            return 2 * super().forward(input)

    def joined(*layers: nn.Module) -> int:
        return len(layers) - len(list(steps(layers)))

    conv, relu, norm = nn.Conv2d(2, 3, 3), nn.ReLU(), nn.BatchNorm2d(3)
    assert joined(conv, relu, norm) == 2
    assert joined(conv, Doubled(), norm) == 0
    assert joined(conv, norm, relu) == 0
    assert joined(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), relu) == 0
    assert joined(conv, relu, nn.MaxPool2d(2, return_indices=True)) == 1
    norm.eval()
    assert joined(conv, relu, norm) == 1
    norm.train()
    seen = []
    with relu.register_forward_hook(lambda module, args, output: seen.append(output.shape)):
        assert joined(conv, relu, norm) == 0
        nn.Sequential(conv, relu, norm)(mg.zeros(2, 2, 8, 8))
    assert seen == [(2, 3, 6, 6)]
    assert joined(conv, relu, norm) == 2


def test_not_a_number_goes_through_a_chain() -> None:
    x = np.zeros((1, 1, 6, 6))
    x[0, 0, 2, 2] = np.nan
    model = network(
        "pool", {"in_channels": 1, "out_channels": 2, "kernel_size": 3}, {"kernel_size": 2}
    )
    joined = run(model, x, steps=1)
    with nn.no_fusion():
        apart = run(model, x, steps=1)
    assert np.isnan(joined["out 0"]).any()
    for name in joined:
        np.testing.assert_allclose(joined[name], apart[name], err_msg=name)


def test_a_chain_checks_before_any_work() -> None:
    norm = nn.BatchNorm2d(4)
    with pytest.raises(mg.ShapeError, match="BatchNorm2d: expects 4 channels"):
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), norm)(mg.zeros(2, 2, 8, 8))
    with pytest.raises(mg.ShapeError, match="max_pool2d"):
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(9))(mg.zeros(2, 2, 8, 8))
    with pytest.raises(mg.ShapeError, match="conv2d"):
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())(mg.zeros(2, 3, 8, 8))
    assert norm.num_batches_tracked.item() == 0
    assert nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2))(
        mg.zeros(2, 8, 8)
    ).shape == (3, 3, 3)
