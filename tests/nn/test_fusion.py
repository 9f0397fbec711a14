"""Chains of layers that Sequential joins give what the layers give one after the other."""

from __future__ import annotations

import copy
import pickle
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.geometry import Pool2dDims, pool2d_dims
from minigrad.nn.fusion import steps


def network(conv: dict[str, Any], options: dict[str, Any]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(dtype=mg.float64, **conv), nn.ReLU()]
    if "norm" in options:
        layers.append(nn.BatchNorm2d(conv["out_channels"], dtype=mg.float64, **options["norm"]))
        if options["norm"]["affine"]:
            # The maximum of a channel of negative scale is the input's minimum, and of zero scale
            # the first of equals.
            layers[-1].weight.array[:] = np.resize([0.5, -2.0, 0.0], conv["out_channels"])
    if "pool" in options:
        layers.append(nn.MaxPool2d(**options["pool"]))
    if "norm" in options:
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
        out.backward(mg.tensor(rng.standard_normal(out.shape), dtype=out.dtype))
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
POOLS = st.fixed_dictionaries(
    {
        "kernel_size": st.sampled_from((2, 3, (2, 3))),
        "stride": st.sampled_from((None, 1, 2, 3)),
        "padding": st.sampled_from((0, 1)),
        "dilation": st.sampled_from((1, 1, 2)),
        "ceil_mode": st.booleans(),
    }
)
NORMS = st.fixed_dictionaries(
    {
        "momentum": st.sampled_from((0.1, None)),
        "affine": st.booleans(),
        "track_running_stats": st.booleans(),
    }
)
# What follows convolution and ReLU.
OPTIONS = st.fixed_dictionaries({}, optional={"norm": NORMS, "pool": POOLS})


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_a_chain_gives_what_its_layers_give(device: str) -> None:
    @given(CONVOLUTIONS, OPTIONS, st.sampled_from((0, 1, 3)), st.integers(0, 2**31))
    def holds(conv: dict[str, Any], options: dict[str, Any], batch: int, seed: int) -> None:
        if device == "reference":
            conv = {**conv, "in_channels": 1, "out_channels": min(conv["out_channels"], 4)}
        mg.manual_seed(seed)
        model = network(conv, options).to(device)
        state = {name: value.clone() for name, value in model.state_dict().items()}
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((batch, conv["in_channels"], 11, 12))
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


@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
def test_a_large_chain_gives_what_its_layers_give_whatever_the_number_of_threads(
    dtype: Any,
) -> None:
    """Large enough for several partial sums, with channels for vectors of every width."""
    mg.manual_seed(0)
    layers = nn.Conv2d(3, 21, 3), nn.ReLU(), nn.BatchNorm2d(21), nn.MaxPool2d(2)
    model = nn.Sequential(*layers).to(dtype=dtype)
    x = np.random.default_rng(0).standard_normal((8, 3, 33, 34)).astype(dtype)
    joined = run(model, x, steps=1)
    model[2].reset_running_stats()
    threads = mg.get_num_threads()
    try:
        mg.set_num_threads(1)
        alone = run(model, x, steps=1)
    finally:
        mg.set_num_threads(threads)
    model[2].reset_running_stats()
    with nn.no_fusion():
        apart = run(model, x, steps=1)
    for name in joined:
        np.testing.assert_array_equal(joined[name], alone[name], err_msg=name)
        tolerance = 50 * np.finfo(dtype).eps * np.abs(apart[name]).max()
        np.testing.assert_allclose(joined[name], apart[name], rtol=0, atol=tolerance, err_msg=name)


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
    norm = nn.BatchNorm2d(3)
    assert nodes(nn.Sequential(conv, relu, norm), *shape) == ["ConvReLUBatchNorm"]
    joined = nn.Sequential(conv, relu, norm, nn.MaxPool2d(2))
    assert nodes(joined, *shape) == ["ConvReLUBatchNorm"]
    assert nodes(joined.eval(), *shape) == ["MaxPool2d", "BatchNorm", "ConvReLU"]
    with nn.no_fusion():
        assert not nn.is_fusion_enabled()
        assert nodes(nn.Sequential(conv, relu), *shape) == ["ReLU", "Conv2d"]
    assert nn.is_fusion_enabled()


def test_hooks_and_subclasses_keep_layers_apart() -> None:
    class Doubled(nn.ReLU):
        def forward(self, input: mg.Tensor) -> mg.Tensor:
            return 2 * super().forward(input)

    def joined(*layers: nn.Module) -> int:
        return len(layers) - len(list(steps(layers)))

    conv, relu, norm = nn.Conv2d(2, 3, 3), nn.ReLU(), nn.BatchNorm2d(3)
    assert joined(conv, relu, norm) == 2
    assert joined(conv, Doubled(), norm) == 0
    assert joined(conv, norm, relu) == 1
    assert joined(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), relu) == 0
    assert joined(conv, relu, nn.MaxPool2d(2, return_indices=True)) == 1
    assert joined(conv, relu, norm, nn.MaxPool2d(2, return_indices=True)) == 2
    assert joined(conv, relu, nn.MaxPool2d(2), norm) == 2
    pool = nn.MaxPool2d(2)
    with pool.register_forward_hook(lambda module, args, output: None):
        assert joined(conv, relu, norm, pool) == 2
    assert joined(conv, relu, norm, pool) == 3
    linear = nn.Linear(2, 3)
    assert joined(linear, relu) == joined(relu, linear, relu) == 1
    assert joined(linear, Doubled()) == joined(linear, nn.ReLU6()) == joined(linear) == 0
    seen = []
    with relu.register_forward_hook(lambda module, args, output: seen.append(output.shape)):
        assert joined(conv, relu, norm) == 0
        nn.Sequential(conv, relu, norm)(mg.zeros(2, 2, 8, 8))
    assert seen == [(2, 3, 6, 6)]
    assert joined(conv, relu, norm) == 2


def test_a_sequential_notices_what_changes() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    seen: list[int] = []

    def outcome() -> list[str]:
        return nodes(model, 2, 2, 6, 6)

    assert outcome() == ["BatchNormActivation", "Conv2d"]
    handle = model[2].register_forward_hook(lambda module, args, output: seen.append(1))
    assert outcome() == ["ReLU", "BatchNorm", "Conv2d"]
    assert seen == [1]
    handle.remove()
    assert outcome() == ["BatchNormActivation", "Conv2d"]
    model[2].forward = lambda x: x * 2
    assert outcome() == ["Mul", "BatchNorm", "Conv2d"]
    del model[2].forward
    assert outcome() == ["BatchNormActivation", "Conv2d"]
    model._modules["2"] = nn.Tanh()
    assert outcome() == ["Tanh", "BatchNorm", "Conv2d"]
    del model[1]
    assert outcome() == ["Tanh", "Conv2d"]
    model[1] = nn.ReLU()
    assert outcome() == ["ConvReLU"]
    with nn.no_fusion():
        assert outcome() == ["ReLU", "Conv2d"]
    copies = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for twin in copies:
        twin[0].weight.data.fill_(0)
        twin[0].bias.data.fill_(1)
        assert (twin(mg.ones(1, 2, 6, 6)) == 1).all()
    assert not (model(mg.ones(1, 2, 6, 6)) == 1).all()


@pytest.mark.parametrize("pool", [{}, {"pool": {"kernel_size": 3, "stride": 2}}])
def test_a_chain_with_batch_norm_in_evaluation_gives_what_its_layers_give(pool: Any) -> None:
    mg.manual_seed(0)
    conv = {"in_channels": 2, "out_channels": 5, "kernel_size": 3}
    model = network(conv, {"norm": {"affine": True}, **pool})
    x = mg.randn(2, 2, 11, 12, dtype=mg.float64)
    model(3 * x)  # moves the running statistics
    model.eval()
    with nn.no_fusion():
        apart = model(x)
    with mg.no_grad():
        without_graph = model(x)
    assert without_graph.node is None
    for out in (model(x), without_graph):
        np.testing.assert_allclose(out.detach().numpy(), apart.detach().numpy(), rtol=1e-12)
    joined = run(model, x.numpy())
    with nn.no_fusion():
        for name, expected in run(model, x.numpy()).items():
            np.testing.assert_allclose(joined[name], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (0, 5)])
def test_linear_and_relu_give_what_they_give_apart(shape: tuple[int, ...], bias: bool) -> None:
    mg.manual_seed(0)
    layers = nn.Linear(5, 7, bias=bias), nn.ReLU(), nn.Linear(7, 3)
    model = nn.Sequential(*layers).to(dtype=mg.float64)
    x = mg.randn(*shape, dtype=mg.float64).numpy()
    joined = run(model, x)
    with nn.no_fusion():
        apart = run(model, x)
    for name in apart:
        np.testing.assert_array_equal(joined[name], apart[name], err_msg=name)


def test_linear_and_relu_are_one_node_that_notices_changes_in_place() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    assert nodes(model, 4, 2) == ["LinearReLU"]
    with nn.no_fusion():
        assert nodes(model, 4, 2) == ["ReLU", "Linear"]
    out = model(mg.ones(4, 2))
    out.add_(1)
    with pytest.raises(mg.GraphError, match="LinearReLU: a tensor of shape"):
        out.sum().backward()
    with pytest.raises(mg.ShapeError, match="linear: weight of shape"):
        model(mg.ones(4, 3))
    with pytest.raises(TypeError, match="linear: input must be a Tensor"):
        model(np.ones((4, 2)))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_a_number_goes_through_a_chain(norm: bool, bad: float) -> None:
    x = np.ones((2, 1, 6, 6))
    x[0, 0, 2, 2] = bad
    options = {"norm": {"affine": False}} if norm else {}
    options["pool"] = {"kernel_size": 2}
    model = network({"in_channels": 1, "out_channels": 2, "kernel_size": 3}, options)
    joined = run(model, x, steps=1)
    with nn.no_fusion():
        model[2].reset_running_stats() if norm else None
        apart = run(model, x, steps=1)
    assert norm or bad == np.inf or np.isnan(joined["out 0"]).any()
    for name in joined:
        np.testing.assert_allclose(joined[name], apart[name], err_msg=name)


def backend(name: str) -> Any:
    return import_module(f"minigrad.kernels.{name}")


def normalise_and_pool(
    name: str, arrays: dict[str, np.ndarray], relu: bool, dims: Pool2dDims
) -> dict[str, np.ndarray]:
    """What one backend makes of the same statistics and gradients."""
    launch, x, grad = backend(name), arrays["x"], arrays["grad"]
    mean, invstd, weight, bias = (arrays[key] for key in ("mean", "invstd", "weight", "bias"))
    out, window = np.full_like(grad, -7), np.full(grad.shape, 77, np.uint8)
    scratch = np.empty(launch.norm_pool.batch_norm_max_pool2d_forward_workspace(dims), x.dtype)
    launch.norm_pool.batch_norm_max_pool2d_forward(
        out, window, x, mean, invstd, weight, bias, scratch, dims
    )
    grad_weight, grad_bias, sums = (np.empty_like(invstd) for _ in range(3))
    scratch = np.empty(launch.norm_pool.batch_norm_max_pool2d_backward_affine_workspace(dims))
    launch.norm_pool.batch_norm_max_pool2d_backward_affine(
        grad_weight, grad_bias, grad, window, x, mean, invstd, scratch, dims
    )
    grad_input = np.full_like(x, -7)
    scratch = np.empty(launch.norm_pool.batch_norm_max_pool2d_backward_input_workspace(dims))
    launch.norm_pool.batch_norm_max_pool2d_backward_input(
        grad_input, sums, grad, window, x, mean, invstd, weight, grad_weight, grad_bias, relu,
        scratch, dims,
    )  # fmt: skip
    return {
        "window": window, "out": out, "grad_weight": grad_weight, "grad_bias": grad_bias,
        "grad_input": grad_input, "sums": sums,
    }  # fmt: skip


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
# One by one, four at a time, sixteen at a time, and all of them.
@pytest.mark.parametrize("C", [3, 4, 16, 23])
# Windows side by side, overlapping, with gaps, one past the end, with holes, next to the input.
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "ceil_mode"),
    [
        (2, 2, 0, 1, False), (3, 1, 1, 1, False), ((2, 1), (3, 2), 0, 1, False),
        (3, 2, 1, 1, True), (2, 1, 0, (3, 2), False), (2, 2, 1, 8, True),
    ],
)  # fmt: skip
def test_backends_normalise_and_pool_alike(
    dtype: Any,
    relu: bool,
    C: int,
    kernel: Any,
    stride: Any,
    padding: int,
    dilation: Any,
    ceil_mode: bool,
) -> None:
    rng = np.random.default_rng(C)
    dims = pool2d_dims("", (2, C, 7, 8), kernel, stride, padding, dilation, ceil_mode)
    # Small integers, and zeros of both signs: ties.
    x = rng.integers(-2, 3, (2, 7, 8, C)).astype(dtype) * 0.5
    x = np.maximum(x, 0) if relu else x
    arrays = {
        "x": x,
        "grad": rng.standard_normal((2, dims.H_out, dims.W_out, C)).astype(dtype),
        "mean": np.stack([x.mean((0, 1, 2)), np.full(C, 1e-9)]).astype(dtype),
        "invstd": rng.uniform(0.5, 2, C).astype(dtype),
        "weight": np.resize([0.5, -2.0, 0.0], C).astype(dtype),
        "bias": rng.standard_normal(C).astype(dtype),
    }
    ours = normalise_and_pool("cpu", arrays, relu, dims)
    definition = normalise_and_pool("reference", arrays, relu, dims)
    held = np.isfinite(definition["out"])  # in a window without cells there is no tap
    np.testing.assert_array_equal(ours["window"][held], definition["window"][held])
    tolerance = 100 * np.finfo(dtype).eps
    for key in list(ours)[1:]:
        np.testing.assert_allclose(
            ours[key], definition[key], rtol=tolerance, atol=tolerance, err_msg=key
        )


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


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("by_a_layer", [True, False])
def test_the_maxima_of_a_chain_may_change_in_place(by_a_layer: bool, bias: bool) -> None:
    """As those of a MaxPool2d, whose backward pass does not read them."""
    results = []
    changing = nn.Hardtanh(0.1, 0.4, inplace=True)
    for fused in (True, False):
        mg.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(2, 3, 3, bias=bias), nn.ReLU(), nn.MaxPool2d(2))
        with nullcontext() if fused else nn.no_fusion():
            out = nn.Sequential(*model, changing)(x := mg.rand(1, 2, 6, 6))
            out = out if by_a_layer else model(x).mul_(-1)
            assert not fused or "ConvReLU" in nodes(model, 1, 2, 6, 6)
            out.sum().backward()
        results.append([parameter.grad.array for parameter in model.parameters()])
    for joined, apart in zip(*results, strict=True):
        np.testing.assert_allclose(joined, apart, rtol=1e-6)


def test_the_maxima_and_the_bias_of_a_chain_may_not_both_change_in_place() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2))
    out = model(mg.ones(1, 2, 6, 6)).mul_(2)
    with mg.no_grad():
        model[0].bias.zero_()
    with pytest.raises(
        mg.GraphError, match=r"ConvReLU: the result of shape \(1, 3, 2, 2\) and the"
    ):
        out.sum().backward()
