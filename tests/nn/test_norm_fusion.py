"""Batch norm and the activation behind it as one, in a Sequential and in any backward pass, and
batch norm folded into the convolution before it: as the layers kept apart."""

from __future__ import annotations

import copy
import sys
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.nn.fusion import steps

ACTIVATIONS = {
    "none": list,
    "ReLU": lambda: [nn.ReLU()],
    "ReLU in place": lambda: [nn.ReLU(inplace=True)],
    "ReLU6": lambda: [nn.ReLU6()],
    "ReLU6 in place": lambda: [nn.ReLU6(inplace=True)],
    "SiLU": lambda: [nn.SiLU()],
    "SiLU in place": lambda: [nn.SiLU(inplace=True)],
}
CONVOLUTIONS = st.fixed_dictionaries(
    {
        "out_channels": st.sampled_from((2, 4, 18)),
        "kernel_size": st.sampled_from((1, 3)),
        "stride": st.sampled_from((1, 2)),
        "groups": st.sampled_from((1, 2)),
        "bias": st.booleans(),
    }
)
NORMS = st.fixed_dictionaries(
    {
        "momentum": st.sampled_from((0.1, None)),
        "affine": st.booleans(),
        "track_running_stats": st.booleans(),
    }
)
POOLS = st.none() | st.fixed_dictionaries(
    {
        "kernel_size": st.sampled_from((2, 3)),
        "stride": st.sampled_from((None, 1, 2)),
        "padding": st.sampled_from((0, 1)),
        "dilation": st.sampled_from((1, 1, 2)),
        "ceil_mode": st.booleans(),
    }
)


class Apart(nn.Module):
    """The same modules, called one after the other by a forward of one's own."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def chain(
    conv: dict[str, Any], norm: dict[str, Any], activation: str, pool: Any, dtype: Any = mg.float64
) -> nn.Sequential:
    C = conv["out_channels"]
    layers = [nn.Conv2d(2, **conv), nn.BatchNorm2d(C, **norm), *ACTIVATIONS[activation]()]
    if pool is not None:
        layers.append(nn.MaxPool2d(**pool))
    model = nn.Sequential(*layers).to(dtype=dtype)
    if norm.get("affine", True):
        # The first bounds a part of the values, zero scale all of them.
        model[1].weight.array[:] = np.resize([3.0, -2.0, 0.0], C)
        model[1].bias.array[:] = np.resize([1.0, 0.0, 7.0], C)
    return model


def run(model: nn.Module, x: np.ndarray, times: int = 2) -> dict[str, np.ndarray]:
    """Outputs, gradients and buffers after some steps."""
    results = {}
    for step in range(times):
        input = mg.tensor(x + step, requires_grad=True)
        model.zero_grad()
        out = model(input)
        upstream = np.random.default_rng(step).standard_normal(out.shape)
        out.backward(mg.tensor(upstream, dtype=out.dtype))
        results |= {f"out {step}": out.detach(), f"input {step}": input.grad}
        trained = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
        results |= {f"{name} {step}": grad for name, grad in trained}
    results |= dict(model.named_buffers())
    return {name.replace("layers.", ""): v.numpy().copy() for name, v in results.items()}


def assert_same(
    joined: dict[str, np.ndarray], apart: dict[str, np.ndarray], tolerance: float = 1e-11
) -> None:
    assert list(joined) == list(apart)
    for name in joined:
        np.testing.assert_allclose(
            joined[name], apart[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("own_forward", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_training_gives_what_the_layers_give(
    device: str, activation: str, own_forward: bool
) -> None:
    @given(
        CONVOLUTIONS, NORMS, POOLS, st.sampled_from((0, 1, 3)), st.booleans(),
        st.sampled_from(("", "0.", "1.")), st.integers(0, 2**31),
    )  # fmt: skip
    def holds(
        conv: Any, norm: Any, pool: Any, batch: int, evaluation: bool, frozen: str, seed: int
    ) -> None:
        conv = conv if device == "cpu" else {**conv, "out_channels": 2}
        mg.manual_seed(seed)
        model = chain(conv, norm, activation, pool)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not (frozen and name.startswith(frozen)))
        x = np.random.default_rng(seed).standard_normal((batch, 2, 11, 12))
        if evaluation:
            run(model, x, times=1)
            model.eval()
        model = model.to(device)
        before = mg.get_default_device()
        mg.set_default_device(device)
        try:
            twin = copy.deepcopy(model)
            joined = run(Apart(model) if own_forward else model, x)
            with nn.no_fusion():
                apart = run(twin, x)
        finally:
            mg.set_default_device(before)
        assert_same(joined, apart)

    holds()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
def test_evaluation_gives_what_the_layers_give(dtype: Any, activation: str) -> None:
    @given(CONVOLUTIONS, NORMS, POOLS, st.sampled_from((0, 1, 3)), st.integers(0, 2**31))
    def holds(conv: Any, norm: Any, pool: Any, batch: int, seed: int) -> None:
        mg.manual_seed(seed)
        model = chain(conv, norm, activation, pool, dtype)
        x = mg.tensor(np.random.default_rng(seed).standard_normal((batch, 2, 11, 12)).astype(dtype))
        if norm["track_running_stats"]:
            model[1].running_mean.copy_(mg.randn(conv["out_channels"], dtype=dtype))
            model[1].running_var.copy_(mg.rand(conv["out_channels"], dtype=dtype))
        elif batch == 0:
            return
        model.eval()
        with mg.no_grad():
            joined = model(x).numpy()
            with nn.no_fusion():
                apart = model(x).numpy()
        # Large beside what is near 0: of a difference of larger numbers.
        tolerance = 200 * np.finfo(dtype).eps * max(1, np.abs(apart).max(initial=0))
        np.testing.assert_allclose(joined, apart, rtol=0, atol=tolerance)

    holds()


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])
def test_batch_norm_of_any_number_of_axes(kind: Any) -> None:
    extra = {nn.BatchNorm1d: (), nn.BatchNorm2d: (3, 4), nn.BatchNorm3d: (2, 3, 2)}[kind]
    model = nn.Sequential(kind(5), nn.ReLU()).to(dtype=mg.float64)
    x = np.random.default_rng(0).standard_normal((6, 5, *extra))
    assert len(list(steps(list(model)))) == 1
    twin = copy.deepcopy(model)
    with nn.no_fusion():
        apart = run(twin, x)
    assert_same(run(model, x), apart, 1e-14)


@pytest.mark.parametrize("activation", ["ReLU", "ReLU6", "SiLU"])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
def test_a_large_chain_has_the_bits_of_its_layers_whatever_the_number_of_threads(
    dtype: Any, pool: bool, activation: str
) -> None:
    """What is made again backward has the bits that it had. Large enough for several sums."""
    mg.manual_seed(0)
    pooling = {"kernel_size": 2} if pool and activation != "SiLU" else None
    conv = {"out_channels": 21, "kernel_size": 3, "bias": False}
    models = [chain(conv, {}, activation, pooling, dtype)]
    models += [copy.deepcopy(models[0]), copy.deepcopy(models[0])]
    x = np.random.default_rng(0).standard_normal((8, 2, 33, 34)).astype(dtype)
    joined, threads = run(models[0], x, 1), mg.get_num_threads()
    try:
        mg.set_num_threads(1)
        alone = run(models[1], x, 1)
    finally:
        mg.set_num_threads(threads)
    with nn.no_fusion():
        apart = run(models[2], x, 1)
    for name in joined:
        np.testing.assert_array_equal(joined[name], alone[name], err_msg=name)
        tolerance = 50 * np.finfo(dtype).eps * np.abs(apart[name]).max()
        np.testing.assert_allclose(joined[name], apart[name], rtol=0, atol=tolerance, err_msg=name)
    np.testing.assert_array_equal(joined["out 0"], apart["out 0"])


# Which layers are joined --------------------------------------------------------------------


def names(*layers: nn.Module) -> list[str]:
    """The Functions behind the output for (2, 2, 8, 8), last first."""
    found, node = [], nn.Sequential(*layers)(mg.zeros(2, 2, 8, 8)).node
    while node is not None:
        found.append(node.name)
        node = node.inputs[0][0] if isinstance(node.inputs[0], tuple) else None
    return found


def test_chains_are_joined() -> None:
    conv, norm, relu, pool = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)
    for activation in (relu, nn.ReLU6(), nn.SiLU(inplace=True)):
        assert names(conv, norm, activation) == ["BatchNormActivation", "Conv2d"]
    assert names(conv, norm, relu, pool) == ["BatchNormMaxPool", "Conv2d"]
    assert names(conv, norm, nn.ReLU6(), pool, relu) == ["ReLU", "BatchNormMaxPool", "Conv2d"]
    assert names(conv, norm, pool) == ["BatchNormMaxPool", "Conv2d"]
    assert names(conv, norm, nn.SiLU(), pool) == ["MaxPool2d", "BatchNormActivation", "Conv2d"]
    assert names(conv, norm, nn.Tanh()) == ["Tanh", "BatchNorm", "Conv2d"]
    dilated = nn.MaxPool2d(2, dilation=2)
    assert names(conv, norm, relu, dilated) == ["MaxPool2d", "BatchNormActivation", "Conv2d"]
    other = nn.ReLU6()
    other.max_val = 5.0
    assert names(conv, norm, other) == ["Hardtanh", "BatchNorm", "Conv2d"]
    norm.eval()
    assert names(conv, norm, relu, pool) == ["MaxPool2d", "BatchNormActivation", "Conv2d"]
    assert names(conv, norm) == ["BatchNorm", "Conv2d"]
    with nn.no_fusion():
        assert names(conv, norm, relu) == ["ReLU", "BatchNorm", "Conv2d"]
    seen = []
    hook = norm.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    with hook:
        assert names(conv, norm, relu) == ["ReLU", "BatchNorm", "Conv2d"]
        with mg.no_grad():
            nn.Sequential(conv, norm, relu)(mg.zeros(2, 2, 8, 8))
    assert seen == [(2, 3, 6, 6)] * 2


def convolutions_of(model: nn.Module, x: mg.Tensor, monkeypatch: Any) -> int:
    """How many of them a call folds."""
    fused, count = import_module("minigrad.ops.fused"), []
    original = fused.FoldedConv.forward
    monkeypatch.setattr(
        fused.FoldedConv, "forward", lambda *args: count.append(1) or original(*args)
    )
    model(x)
    monkeypatch.undo()
    return len(count)


def test_batch_norm_is_folded_in_evaluation_without_gradients(monkeypatch: Any) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    x = mg.ones(2, 2, 8, 8)
    with mg.no_grad():
        assert convolutions_of(model, x, monkeypatch) == 0
        model.eval()
        assert convolutions_of(model, x, monkeypatch) == 1
        assert convolutions_of(model, x[:1, :, :3, :3], monkeypatch) == 1
        # Many weights and fewer results: to normalise them is less work.
        large = nn.Sequential(nn.Conv2d(128, 128, 3), nn.BatchNorm2d(128)).eval()
        assert convolutions_of(large, mg.ones(1, 128, 3, 3), monkeypatch) == 0
        assert convolutions_of(large, mg.ones(2, 128, 34, 34), monkeypatch) == 1
        model[1].eps = 0.0
        assert convolutions_of(model, x, monkeypatch) == 0
        model[1].eps = 1e-5
        model.train()
        assert convolutions_of(model, x, monkeypatch) == 0
    model.eval()
    assert convolutions_of(model, x, monkeypatch) == 0
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert convolutions_of(model, x, monkeypatch) == 1
    assert convolutions_of(model, x.clone().requires_grad_(True), monkeypatch) == 0


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.SiLU, nn.Tanh])
def test_folded_convolutions_and_their_activations_give_what_the_layers_give(
    activation: type[nn.Module], monkeypatch: Any
) -> None:
    mg.manual_seed(0)
    layers = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), activation()
    model = nn.Sequential(*layers).to(dtype=mg.float64)
    x = 9 * mg.randn(2, 2, 8, 8, dtype=mg.float64)
    model.eval()
    with mg.no_grad():
        assert convolutions_of(model, x, monkeypatch) == 1
        joined = model(x).numpy()
        with nn.no_fusion():
            np.testing.assert_allclose(joined, model(x).numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("change", ["copy", "array", "data", "load", "train"])
def test_folded_weights_are_never_old(change: str) -> None:
    mg.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).to(dtype=mg.float64)
    x = mg.randn(2, 2, 8, 8, dtype=mg.float64)
    model.eval()
    with mg.no_grad():
        first = model(x).numpy()
        norm, conv = model[1], model[0]
        if change == "copy":
            norm.running_var.copy_(norm.running_var * 4)
        elif change == "array":
            conv.weight.array[...] *= 2
        elif change == "data":
            norm.bias.data += 1
        elif change == "load":
            model.load_state_dict({k: v * 2 for k, v in model.state_dict().items()})
        else:
            model.train()
            model(x)
            model.eval()
        joined = model(x).numpy()
        with nn.no_fusion():
            apart = model(x).numpy()
    assert np.abs(joined - first).max() > 0.01
    np.testing.assert_allclose(joined, apart, atol=1e-12)


# What users do with what a chain has made ----------------------------------------------------


@pytest.mark.parametrize("activation", ["ReLU", "ReLU6", "SiLU"])
@pytest.mark.parametrize("own_forward", [False, True])
def test_the_shift_may_change_before_backward(own_forward: bool, activation: str) -> None:
    """Batch norm's backward pass does not read it, and so torch lets it change."""
    results = []
    for fused in (True, False):
        mg.manual_seed(0)
        model = chain({"out_channels": 4, "kernel_size": 3}, {}, activation, None)
        with nullcontext() if fused else nn.no_fusion():
            call = Apart(model) if own_forward else model
            out = call(mg.rand(2, 2, 6, 6, dtype=mg.float64))
            with mg.no_grad():
                model[1].bias.add_(1.5)
            out.square().sum().backward()
        results.append({n: p.grad.numpy() for n, p in model.named_parameters()})
    assert_same(*results)


def test_the_result_of_a_chain_may_change_in_place() -> None:
    results = []
    for fused in (True, False):
        mg.manual_seed(0)
        model = chain({"out_channels": 4, "kernel_size": 3}, {}, "ReLU", {"kernel_size": 2})
        with nullcontext() if fused else nn.no_fusion():
            model(mg.rand(2, 2, 6, 6, dtype=mg.float64)).mul_(3).sum().backward()
        results.append({n: p.grad.numpy() for n, p in model.named_parameters()})
    assert_same(*results)


def joined_nodes(monkeypatch: Any) -> list[str]:
    """The names of the activations whose backward passes are joined from now on."""
    walk, found = sys.modules["minigrad.engine.backward"], []
    original = walk._joined_with

    def watched(node: Any, arrived: Any) -> Any:
        producer = original(node, arrived)
        if producer is not None:
            found.append(node.name)
        return producer

    monkeypatch.setattr(walk, "_joined_with", watched)
    return found


def loss_of(use: str, z: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
    """z is batch norm's result, y = relu(z) of it."""
    loss = y.square().sum()
    if use == "used again":
        return loss + (z * 3).sum()
    return loss


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    "use",
    ["plain", "used again", "used before", "a view", "hook", "retain_grad", "retain_graph", "grad"],
)
def test_backward_passes_are_joined_only_where_nobody_sees(
    use: str, inplace: bool, monkeypatch: Any
) -> None:
    if inplace and use in ("used again", "used before", "a view", "hook", "retain_grad", "grad"):
        return  # z is y then
    found = joined_nodes(monkeypatch)
    results = []
    for fused in (True, False):
        mg.manual_seed(0)
        conv, norm = nn.Conv2d(2, 3, 3, dtype=mg.float64), nn.BatchNorm2d(3, dtype=mg.float64)
        x = mg.randn(2, 2, 8, 8, dtype=mg.float64)
        seen: list[np.ndarray] = []
        with nullcontext() if fused else nn.no_fusion():
            z = norm(conv(x))
            extra = (z * 2).sum() if use == "used before" else 0
            y = mg.nn.functional.relu(z[:1] if use == "a view" else z, inplace=inplace)
            loss = loss_of(use, z, y) + extra
            if use == "hook":
                z.register_hook(lambda grad, seen=seen: seen.append(grad.numpy().copy()))
            if use == "retain_grad":
                z.retain_grad()
            if use == "grad":
                seen.append(mg.autograd.grad(loss, z, retain_graph=True)[0].numpy())
            loss.backward(retain_graph=use == "retain_graph")
            if use == "retain_graph":
                loss.backward()
            if use == "retain_grad":
                seen.append(z.grad.numpy())
        grads = [p.grad.numpy() for p in (*conv.parameters(), *norm.parameters())]
        results.append([*seen, *grads])
    joins = {"plain": 1, "retain_graph": 2, "grad": 1}.get(use, 0)
    assert found == ["ReLU"] * joins
    for joined, apart in zip(*results, strict=True):
        np.testing.assert_allclose(joined, apart, rtol=1e-12, atol=1e-12)


def test_a_joined_backward_pass_frees_what_both_have_kept() -> None:
    conv, norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
    z = norm(conv(mg.randn(2, 2, 8, 8)))
    loss = mg.relu(z).sum()
    loss.backward()
    for again in (loss, z.sum()):
        with pytest.raises(mg.GraphError, match="backward ran already"):
            again.backward()


def test_a_joined_backward_pass_notices_a_change_in_place() -> None:
    y = mg.relu(nn.BatchNorm2d(3)(nn.Conv2d(2, 3, 3)(mg.randn(2, 2, 8, 8))))
    loss = y.sum()
    y.detach().mul_(2)
    with pytest.raises(mg.GraphError, match=r"ReLU: a tensor .* changed in place"):
        loss.backward()


def test_a_layer_may_stand_in_a_chain_twice() -> None:
    results = []
    for fused in (True, False):
        mg.manual_seed(0)
        conv, norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
        model = nn.Sequential(conv, norm, nn.ReLU(), conv, norm, nn.ReLU()).to(dtype=mg.float64)
        with nullcontext() if fused else nn.no_fusion():
            results.append(run(model, np.random.default_rng(0).standard_normal((3, 2, 5, 5))))
    assert_same(*results)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("activation", ["ReLU", "ReLU6", "SiLU"])
@pytest.mark.parametrize("evaluation", [False, True])
def test_not_a_number_goes_through(evaluation: bool, activation: str, bad: float) -> None:
    x = np.ones((2, 2, 6, 6))
    x[0, 0, 2, 2] = bad
    results = []
    for fused in (True, False):
        mg.manual_seed(0)
        model = chain({"out_channels": 3, "kernel_size": 3}, {}, activation, None)
        model.train(not evaluation)
        with nullcontext() if fused else nn.no_fusion():
            results.append(run(model, x, times=1))
    assert_same(*results)


def test_a_chain_checks_before_any_work() -> None:
    norm = nn.BatchNorm2d(4)
    for mode in (True, False):
        norm.train(mode)
        with pytest.raises(mg.ShapeError, match="BatchNorm2d: expects 4 channels"), mg.no_grad():
            nn.Sequential(nn.Conv2d(2, 3, 3), norm, nn.ReLU())(mg.zeros(2, 2, 8, 8))
    norm.train()
    with pytest.raises(mg.ShapeError, match="max_pool2d"):
        nn.Sequential(norm, nn.ReLU(), nn.MaxPool2d(9))(mg.zeros(2, 4, 8, 8))
    with pytest.raises(mg.DTypeError, match="batch_norm"):
        nn.Sequential(norm, nn.ReLU())(mg.zeros(2, 4, 8, 8, dtype=mg.float64))
    with pytest.raises(TypeError, match="BatchNorm2d: input must be a Tensor"):
        nn.Sequential(norm, nn.ReLU())(np.zeros((2, 4, 8, 8)))
    assert norm.num_batches_tracked.item() == 0


# Backends -----------------------------------------------------------------------------------


def normalise_and_activate(
    name: str, arrays: dict[str, np.ndarray], bounds: Any, training: bool
) -> dict[str, np.ndarray]:
    """What one backend makes of the same statistics and gradients."""
    launch, x = import_module(f"minigrad.kernels.{name}").norm_activation, arrays["x"]
    shared = [arrays[key] for key in ("mean", "invstd", "weight", "bias")]
    rows, dtype = x.shape, x.dtype
    out, grad_input = np.full_like(x, -7), np.full_like(x, -7)
    grad_weight, grad_bias = np.empty_like(shared[1]), np.empty_like(shared[1])
    scratch = np.empty(launch.batch_norm_activation_forward_workspace(*rows), dtype)
    launch.batch_norm_activation_forward(out, x, *shared, bounds, scratch)
    scratch = np.empty(launch.batch_norm_activation_backward_affine_workspace(*rows))
    launch.batch_norm_activation_backward_affine(
        grad_weight, grad_bias, arrays["grad"], x, *shared, bounds, scratch
    )
    scratch = np.empty(launch.batch_norm_activation_backward_input_workspace(*rows), dtype)
    launch.batch_norm_activation_backward_input(
        grad_input, arrays["grad"], x, *shared, grad_weight, grad_bias, training, bounds, scratch
    )
    return {
        "out": out, "grad_weight": grad_weight, "grad_bias": grad_bias, "grad_input": grad_input
    }  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bounds", [(0.0, np.nan), (0.0, 6.0), None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C", [1, 3, 16, 70, 300])
def test_backends_normalise_and_activate_alike(
    dtype: Any, C: int, bounds: Any, affine: bool, training: bool
) -> None:
    rng = np.random.default_rng(C)
    # Small integers: ties, and values on the bounds.
    x = rng.integers(-2, 3, (600 // C + 1, C)).astype(dtype) * 0.5
    arrays = {
        "x": x,
        "grad": rng.standard_normal(x.shape).astype(dtype),
        "mean": np.zeros((2, C), dtype),
        "invstd": np.resize([1.0, 2.0, 0.5], C).astype(dtype),
        "weight": np.resize([4.0, -2.0, 0.0], C).astype(dtype) if affine else None,
        "bias": np.resize([2.0, 0.0, 6.0, -1.0], C).astype(dtype) if affine else None,
    }
    ours = normalise_and_activate("cpu", arrays, bounds, training)
    definition = normalise_and_activate("reference", arrays, bounds, training)
    tolerance = 100 * np.finfo(dtype).eps
    for key, value in ours.items():
        np.testing.assert_allclose(
            value, definition[key], rtol=tolerance, atol=tolerance, err_msg=key
        )


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_backends_fold_alike(dtype: Any, affine: bool) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((18, 5)).astype(dtype)
    numbers = [rng.uniform(0.5, 2, 5).astype(dtype) for _ in range(5)]
    bias, mean, var, scale, shift = numbers
    if not affine:
        bias = scale = shift = None
    results = []
    for name in ("cpu", "reference"):
        out = np.empty_like(weight), np.empty_like(mean)
        launch = import_module(f"minigrad.kernels.{name}").norm
        launch.batch_norm_fold(*out, weight, bias, mean, var, scale, shift, 0.1, None, np.empty(5))
        results.append(out)
    for ours, definition in zip(*results, strict=True):
        np.testing.assert_allclose(ours, definition, rtol=10 * np.finfo(dtype).eps)
