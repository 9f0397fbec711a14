"""Clipping and parameter vectors, and the summary table."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from minigrad import Tensor, nn
from minigrad.device import Device
from minigrad.errors import DTypeError, ShapeError
from minigrad.nn.utils import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
    parameters_to_vector,
    vector_to_parameters,
)

SHAPES = [(3, 4), (20_001,), (), (2, 3, 2, 2)]


def with_gradients(dtype=np.float64, device="cpu", shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    ours, theirs = [], []
    for shape in shapes:
        values = np.asarray(rng.standard_normal(shape), dtype)
        a = Tensor(values.copy(), Device(device), requires_grad=True)
        b = torch.tensor(values, requires_grad=True)
        tripled = np.asarray(values * 3)
        a.grad, b.grad = Tensor(tripled, Device(device)), torch.tensor(tripled)
        ours.append(a)
        theirs.append(b)
    ours.append(Tensor(np.ones(2, dtype), Device(device), requires_grad=True))  # no gradient
    theirs.append(torch.ones(2, requires_grad=True))
    return ours, theirs


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
@pytest.mark.parametrize("norm_type", [2.0, 1, math.inf, 3])
def test_clip_grad_norm_equals_torchs(norm_type, max_norm, device):
    shapes = SHAPES if device == "cpu" else [(3, 4), (), (5,)]
    ours, theirs = with_gradients(device=device, shapes=shapes)
    norm = clip_grad_norm_(ours, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    np.testing.assert_allclose(norm.array, expected.numpy(), rtol=1e-12)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            np.testing.assert_allclose(a.grad.array, b.grad.numpy(), rtol=1e-12)


def test_clip_grad_norm_of_float32_keeps_precision_and_range():
    values = np.full(100_000, 1e25, np.float32)  # the squares overflow float32
    param = Tensor(values, requires_grad=True)
    param.grad = Tensor(values.copy())
    norm = clip_grad_norm_(param, 1.0)
    assert norm.dtype == np.float32
    assert float(norm.array) == pytest.approx(1e25 * math.sqrt(100_000), rel=1e-6)
    assert np.linalg.norm(param.grad.array.astype(np.float64)) == pytest.approx(1, rel=1e-5)


def test_clip_grad_norm_writes_through_gaps_and_orders():
    wide = np.ones((4, 6))
    param = Tensor(np.ones((4, 3)), requires_grad=True)
    param.grad = Tensor(wide[:, ::2])
    other = Tensor(np.ones((2, 3)), requires_grad=True)
    other.grad = Tensor(np.ones((3, 2)).T)
    clip_grad_norm_([param, other], 1.0)
    np.testing.assert_allclose(param.grad.array, 1 / math.sqrt(18), rtol=1e-6)
    np.testing.assert_allclose(other.grad.array, 1 / math.sqrt(18), rtol=1e-6)
    assert (wide[:, 1::2] == 1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("norm_type", [2.0, math.inf])
def test_non_finite_norms(bad, device, norm_type):
    ours, _ = with_gradients(device=device, shapes=[(5,), (4,)])
    ours[1].grad.array[2] = bad
    before = ours[0].grad.array.copy()
    with pytest.raises(RuntimeError, match="norm of order"):
        clip_grad_norm_(ours, 1.0, norm_type, error_if_nonfinite=True)
    np.testing.assert_array_equal(ours[0].grad.array, before)
    norm = clip_grad_norm_(ours, 1.0, norm_type)
    np.testing.assert_equal(float(norm.array), bad)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_clip_grad_value_equals_torchs(device):
    ours, theirs = with_gradients(device=device, shapes=[(3, 4), ()])
    ours[0].grad.array[0, 0] = np.nan
    theirs[0].grad[0, 0] = math.nan
    clip_grad_value_(ours, 0.7)
    torch.nn.utils.clip_grad_value_(theirs, 0.7)
    for a, b in zip(ours[:-1], theirs[:-1], strict=True):
        np.testing.assert_array_equal(a.grad.array, b.grad.numpy())


def test_clipping_without_gradients_and_with_bad_arguments():
    param = Tensor(np.ones(2), requires_grad=True)
    assert clip_grad_norm_([param], 1.0).array == 0
    for call, match in (
        (lambda: clip_grad_norm_([param], 1.0, 0), "norm_type must be above 0"),
        (lambda: clip_grad_norm_([param], -1.0), "max_norm must be at least 0"),
        (lambda: clip_grad_value_([param], -1.0), "clip_value must be at least 0"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    param.grad = Tensor(np.ones(2))
    other = Tensor(np.ones(2, np.float32), requires_grad=True)
    other.grad = Tensor(np.ones(2, np.float32))
    with pytest.raises(DTypeError, match="one dtype"):
        clip_grad_norm_([param, other], 1.0)


def test_parameters_to_vector_and_back():
    net = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Linear(4, 5))
    vector = parameters_to_vector(net.parameters())
    expected = np.concatenate([p.array.reshape(-1) for p in net.parameters()])
    np.testing.assert_array_equal(vector.array, expected)
    vector_to_parameters(Tensor(2 * expected), net.parameters())
    np.testing.assert_array_equal(parameters_to_vector(net.parameters()).array, 2 * expected)
    assert net[1].weight.array.T.flags.c_contiguous
    with pytest.raises(ShapeError, match=r"vec must have shape \(52,\), got \(3,\)"):
        vector_to_parameters(Tensor(np.ones(3)), net.parameters())


# Summary --------------------------------------------------------------------------------------


def network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        nn.Linear(128, 10, bias=False),
    )


def test_summary_counts_shapes_parameters_and_memory():
    model = network()
    model[3].requires_grad_(False)
    model[1].eval()
    table = nn.summary(model, (3, 8, 8), batch_size=2)
    assert [
        (layer.name, layer.type, layer.depth, layer.output_shape) for layer in table.layers
    ] == [
        ("", "Sequential", 0, (2, 10)),
        ("0", "Conv2d", 1, (2, 8, 8, 8)),
        ("1", "BatchNorm2d", 1, (2, 8, 8, 8)),
        ("2", "Sequential", 1, (2, 128)),
        ("2.0", "ReLU", 2, (2, 8, 8, 8)),
        ("2.1", "MaxPool2d", 2, (2, 8, 4, 4)),
        ("2.2", "Flatten", 2, (2, 128)),
        ("3", "Linear", 1, (2, 10)),
    ]
    assert [layer.parameters for layer in table.layers] == [0, 224, 16, 0, 0, 0, 0, 1280]
    assert table.total_parameters == 1520
    assert table.trainable_parameters == 240
    assert table.parameter_bytes == 4 * (1520 + 16) + 8
    assert table.input_bytes == 4 * 2 * 3 * 64
    maps = 4 * 2 * 8 * 64
    assert table.activation_bytes >= 3 * maps + maps // 4 + 4 * 2 * 10
    text = str(table)
    assert "1,520" in text
    assert "Conv2d" in text
    assert "(2, 8, 8, 8)" in text
    assert "Frozen: 1,280" in text


def test_summary_leaves_the_model_as_it_was():
    model = network()
    model[1].eval()
    nn.summary(model, (3, 8, 8))
    assert model.training
    assert not model[1].training
    assert model[1].num_batches_tracked.array == 0
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(ShapeError):
        nn.summary(model, (5, 8, 8))
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_summary_of_shared_layers_several_inputs_and_float64():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, a, b):
            return self.fc(self.fc(a)), self.fc(b)

    table = nn.summary(Twice().double(), [(4,), (4,)], batch_size=3)
    assert [layer.name for layer in table.layers] == ["", "fc", "fc", "fc"]
    assert [layer.parameters for layer in table.layers] == [0, 20, 0, 0]
    assert table.total_parameters == 20
    assert table.layers[0].output_shape == [(3, 4), (3, 4)]
    assert table.input_shape == [(3, 4), (3, 4)]
    assert table.activation_bytes == 3 * 3 * 4 * 8


def test_norm_and_clipping_apart_equal_both_together():
    together, _ = with_gradients()
    apart, _ = with_gradients()
    norm = get_total_norm([p.grad for p in apart if p.grad is not None], 3)
    clip_grads_with_norm_(apart, 0.5, norm)
    assert norm.item() == clip_grad_norm_(together, 0.5, 3).item()
    for a, b in zip(apart, together, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            np.testing.assert_array_equal(a.grad.array, b.grad.array)
    with pytest.warns(FutureWarning, match="use nn.utils.clip_grad_norm_"):
        nn.utils.clip_grad_norm(together, 1.0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("layer", "shape", "transpose"),
    [
        (lambda bias: nn.Conv2d(4, 6, 3, groups=2, bias=bias), (2, 4, 5, 5), False),
        (lambda bias: nn.ConvTranspose2d(4, 6, 3, bias=bias), (2, 4, 5, 5), True),
        (lambda bias: nn.Linear(4, 6, bias=bias), (5, 4), False),
    ],
)
def test_a_folded_layer_equals_the_two(layer, shape, transpose, bias):
    rng = np.random.default_rng(0)
    first = layer(bias).double()
    norm = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(6).double()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor.array[...] = rng.uniform(0.5, 2, 6)
    fuse = nn.utils.fuse_linear_bn_eval if len(shape) == 2 else nn.utils.fuse_conv_bn_eval
    options = {"transpose": True} if transpose else {}
    with pytest.raises(ValueError, match="both layers must be in evaluation"):
        fuse(first, norm, **options)
    first.eval()
    fused = fuse(first, norm.eval(), **options)
    x = Tensor(rng.standard_normal(shape))
    np.testing.assert_allclose(fused(x).array, norm(first(x)).array, rtol=1e-10, atol=1e-12)
    assert fused.weight.requires_grad
    assert (first.bias is not None) == bias


def test_skip_init_makes_a_module():
    assert nn.utils.skip_init(nn.Linear, 2, 3).weight.shape == (3, 2)
    with pytest.raises(TypeError, match="expects a class of modules"):
        nn.utils.skip_init(len)
