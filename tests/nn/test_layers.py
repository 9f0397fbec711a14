"""Layers against torch's, with the same weights: outputs, gradients, running statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from opspecs import activation

import minigrad as mg
from minigrad import Tensor, nn, optim
from minigrad.device import Device
from minigrad.errors import DTypeError, ShapeError

IMAGES, ROWS, LINES = (4, 6, 9, 8), (5, 6), (4, 6, 3)
CASES = [
    (lambda lib: lib.Linear(6, 3), ROWS),
    (lambda lib: lib.Linear(6, 3, bias=False), ROWS),
    (lambda lib: lib.Linear(8, 2), IMAGES),
    (lambda lib: lib.Conv2d(6, 4, 3), IMAGES),
    (lambda lib: lib.Conv2d(6, 4, (3, 2), stride=2, padding=(1, 0), dilation=2), IMAGES),
    (lambda lib: lib.Conv2d(6, 4, (4, 3), padding="same"), IMAGES),
    (lambda lib: lib.Conv2d(6, 4, 3, padding="valid", bias=False), IMAGES),
    (lambda lib: lib.Conv2d(6, 9, 3, groups=3, padding=1), IMAGES),
    (lambda lib: lib.Conv2d(6, 4, 3), IMAGES[1:]),
    (lambda lib: lib.ConvTranspose2d(6, 4, 3), IMAGES),
    (lambda lib: lib.ConvTranspose2d(6, 4, (3, 2), 2, (1, 0), 1, bias=False), IMAGES),
    (lambda lib: lib.ConvTranspose2d(6, 9, 3, 2, 1, (1, 0), 3, True, (1, 2)), IMAGES[1:]),
    (lambda lib: lib.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), IMAGES),
    (lambda lib: lib.Conv2d(6, 4, (4, 3), padding="same", padding_mode="replicate"), IMAGES),
    (lambda lib: lib.Conv2d(6, 4, 3, 2, (2, 1), padding_mode="circular"), IMAGES[1:]),
    (lambda lib: lib.Conv2d(6, 4, 3, padding="valid", padding_mode="circular"), IMAGES),
    (lambda lib: lib.Conv1d(6, 4, 2, stride=2, padding=2, dilation=2), LINES),
    (lambda lib: lib.Conv1d(6, 9, (3,), groups=3, padding="same", bias=False), LINES[1:]),
    (lambda lib: lib.Conv1d(6, 4, 2, padding=1, padding_mode="reflect"), LINES),
    (lambda lib: lib.ConvTranspose1d(6, 4, 3, 2, 1, 1), LINES),
    (lambda lib: lib.ConvTranspose1d(6, 9, (2,), groups=3, bias=False, dilation=2), LINES[1:]),
    (lambda lib: lib.ConstantPad1d((1, 2), 0.5), LINES),
    (lambda lib: lib.ConstantPad2d(2, -1.5), IMAGES),
    (lambda lib: lib.ConstantPad3d((1, 0, -1, 2, 0, 1), 3.0), (2, 1, 2, 3, 4)),
    (lambda lib: lib.ZeroPad1d(2), LINES),
    (lambda lib: lib.ZeroPad2d((1, -2, 0, 3)), IMAGES),
    (lambda lib: lib.ZeroPad3d(1), (2, 1, 2, 3, 4)),
    (lambda lib: lib.ReflectionPad1d(2), LINES),
    (lambda lib: lib.ReflectionPad2d((1, 2, 3, 4)), IMAGES),
    (lambda lib: lib.ReflectionPad3d(1), (2, 1, 2, 3, 4)),
    (lambda lib: lib.ReplicationPad1d((3, 1)), LINES[1:]),
    (lambda lib: lib.ReplicationPad2d(3), IMAGES),
    (lambda lib: lib.ReplicationPad3d((1, 2, 0, 1, 2, 0)), (1, 2, 3, 4)),
    (lambda lib: lib.CircularPad1d((3, 1)), LINES),
    (lambda lib: lib.CircularPad2d(3), IMAGES),
    (lambda lib: lib.CircularPad3d(1), (2, 1, 2, 3, 4)),
    (lambda lib: lib.Unfold(3, padding=1, stride=2), IMAGES),
    (lambda lib: lib.Unfold((2, 3), 2), IMAGES[1:]),
    (lambda lib: lib.Fold((3, 4), 2), (2, 8, 6)),
    (lambda lib: lib.Upsample(scale_factor=2), IMAGES),
    (lambda lib: lib.Upsample((5, 12), mode="bicubic", align_corners=True), IMAGES),
    (lambda lib: lib.Upsample(scale_factor=(1.5,), mode="linear"), LINES),
    (lambda lib: lib.UpsamplingNearest2d((11, 7)), IMAGES),
    (lambda lib: lib.UpsamplingBilinear2d(scale_factor=(2, 1.5)), IMAGES),
    (lambda lib: lib.PixelShuffle(2), (2, 8, 3, 4)),
    (lambda lib: lib.PixelUnshuffle(2), (3, 6, 4)),
    (lambda lib: lib.ChannelShuffle(3), IMAGES),
    (lambda lib: lib.BatchNorm2d(6), IMAGES),
    (lambda lib: lib.BatchNorm2d(6, eps=0.1, momentum=0.3, affine=False), IMAGES),
    (lambda lib: lib.BatchNorm2d(6, momentum=None), IMAGES),
    (lambda lib: lib.BatchNorm2d(6, track_running_stats=False), IMAGES),
    (lambda lib: lib.BatchNorm2d(6, bias=False), IMAGES),
    (lambda lib: lib.BatchNorm1d(6), ROWS),
    (lambda lib: lib.BatchNorm1d(6, momentum=None), LINES),
    (lambda lib: lib.GroupNorm(3, 6), IMAGES),
    (lambda lib: lib.GroupNorm(1, 6, eps=0.1), LINES),
    (lambda lib: lib.GroupNorm(6, 6, affine=False), IMAGES),
    (lambda lib: lib.GroupNorm(2, 6, bias=False), IMAGES),
    (lambda lib: lib.LayerNorm(6), ROWS),
    (lambda lib: lib.LayerNorm((9, 8), 1e-3), IMAGES),
    (lambda lib: lib.LayerNorm([6, 9, 8], elementwise_affine=False), IMAGES),
    (lambda lib: lib.LayerNorm(3, bias=False), LINES),
    (lambda lib: lib.BatchNorm3d(2), (2, 2, 1, 3, 2)),
    (lambda lib: lib.InstanceNorm3d(2, affine=True), (2, 1, 3, 2)),
    (lambda lib: lib.InstanceNorm1d(6), LINES),
    (lambda lib: lib.InstanceNorm2d(6, affine=True), IMAGES[1:]),
    (lambda lib: lib.InstanceNorm2d(6, 0.1, 0.3, True, True), IMAGES),
    (lambda lib: lib.InstanceNorm1d(6, momentum=None, track_running_stats=True), LINES),
    (lambda lib: lib.LocalResponseNorm(5, 0.2, 0.7, 2), IMAGES),
    (lambda lib: lib.LocalResponseNorm(4, 3.0), LINES),
    (lambda lib: lib.LocalResponseNorm(20, 3.0), IMAGES),
    (lambda lib: lib.RMSNorm(6), ROWS),
    (lambda lib: lib.RMSNorm((9, 8), 0.3, elementwise_affine=False), IMAGES),
    *((make, shape) for make in activation.LAYERS for shape in (ROWS, IMAGES)),
    (lambda lib: lib.Softmax(dim=1), ROWS),
    (lambda lib: lib.LogSoftmax(dim=-1), LINES),
    (lambda lib: lib.Softmin(dim=1), ROWS),
    (lambda lib: lib.Softmax2d(), IMAGES),
    (lambda lib: lib.Flatten(), IMAGES),
    (lambda lib: lib.Flatten(0, 2), IMAGES),
    (lambda lib: lib.Identity(3, unused=True), ROWS),
    (lambda lib: lib.Dropout(0.0), ROWS),
    (lambda lib: lib.MaxPool2d(2), IMAGES),
    (lambda lib: lib.MaxPool2d((3, 2), stride=2, padding=1, ceil_mode=True), IMAGES),
    (lambda lib: lib.AvgPool2d(2), IMAGES),
    (lambda lib: lib.AvgPool2d(3, 2, 1, True, False), IMAGES),
    (lambda lib: lib.AvgPool2d((2, 3), divisor_override=5), IMAGES),
    (lambda lib: lib.LPPool2d(2, 2), IMAGES),
    (lambda lib: lib.LPPool2d(1.5, (2, 3), 2, ceil_mode=True), IMAGES),
    (lambda lib: lib.MaxPool1d(2, padding=1, ceil_mode=True), LINES),
    (lambda lib: lib.MaxPool1d((2,), 1, dilation=2), LINES[1:]),
    (lambda lib: lib.AvgPool1d(2, 1, 1, True, False), LINES),
    (lambda lib: lib.AvgPool1d((3,)), LINES[1:]),
    (lambda lib: lib.LPPool1d(2, 2, ceil_mode=True), LINES),
    (lambda lib: lib.AdaptiveAvgPool1d(2), LINES),
    (lambda lib: lib.AdaptiveAvgPool1d((5,)), LINES[1:]),
    (lambda lib: lib.AdaptiveMaxPool1d(4), LINES),
    (lambda lib: lib.Unflatten(1, (2, -1)), IMAGES),
    (lambda lib: lib.AdaptiveAvgPool2d(1), IMAGES),
    (lambda lib: lib.AdaptiveAvgPool2d((None, 3)), IMAGES),
    (lambda lib: lib.AdaptiveMaxPool2d((4, 3)), IMAGES),
]


def with_same_weights(make, dtype=np.float64):
    ours = make(nn).to(dtype=dtype)
    theirs = make(torch.nn)
    theirs = theirs.double() if dtype == np.float64 else theirs
    rng = np.random.default_rng(0)
    for name, tensor in theirs.named_parameters():
        values = rng.standard_normal(tuple(tensor.shape)).astype(dtype)
        tensor.data.copy_(torch.tensor(values))
        dict(ours.named_parameters())[name].array[...] = values
    assert list(ours.state_dict()) == list(theirs.state_dict())
    return ours, theirs


def first(result):
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_layer_matches_torch(case, train):
    make, shape = CASES[case]
    ours, theirs = with_same_weights(make)
    assert repr(ours) == repr(theirs)
    ours.train(train)
    theirs.train(train)
    rng = np.random.default_rng(1)
    for _ in range(3):  # running statistics move more than once
        values = rng.standard_normal(shape)
        a = Tensor(values.copy(), requires_grad=True)
        b = torch.tensor(values, requires_grad=True)
        out, expected = ours(a), theirs(b)
        np.testing.assert_allclose(out.array, expected.detach().numpy(), rtol=1e-9, atol=1e-11)
        upstream = rng.standard_normal(out.shape)
        ours.zero_grad()
        theirs.zero_grad()
        out.backward(Tensor(upstream))
        expected.backward(torch.tensor(upstream))
        np.testing.assert_allclose(a.grad.array, b.grad.numpy(), rtol=1e-8, atol=1e-10)
        grads = dict(theirs.named_parameters())
        for name, param in ours.named_parameters():
            np.testing.assert_allclose(
                param.grad.array, grads[name].grad.numpy(), rtol=1e-8, atol=1e-10
            )
    for name, buffer in theirs.named_buffers():
        mine = dict(ours.named_buffers())[name]
        assert mine.dtype.name == str(buffer.dtype).removeprefix("torch.")
        np.testing.assert_allclose(mine.array, buffer.numpy(), rtol=1e-10)


@pytest.mark.parametrize(
    "name", ["MaxPool1d", "MaxPool2d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d"]
)
def test_pooling_returns_indices_on_demand(name):
    shape = (2, 3, 6, 5) if name.endswith("2d") else (2, 3, 6)
    values = np.random.default_rng(2).standard_normal(shape)
    out, indices = getattr(nn, name)(2, return_indices=True)(Tensor(values))
    expected, places = getattr(torch.nn, name)(2, return_indices=True)(torch.tensor(values))
    np.testing.assert_array_equal(out.array, expected.numpy())
    np.testing.assert_array_equal(indices.array, places.numpy())


def test_max_unpool1d_and_a_transposed_convolution_take_an_output_size():
    x = Tensor(np.random.default_rng(2).standard_normal((2, 3, 7)))
    pooled, places = nn.MaxPool1d(2, return_indices=True)(x)
    unpooled = nn.MaxUnpool1d(2)(pooled, places, output_size=(7,))
    theirs = torch.nn.MaxUnpool1d(2)(
        torch.tensor(pooled.array), torch.tensor(places.array), output_size=(7,)
    )
    np.testing.assert_array_equal(unpooled.array, theirs.numpy())
    assert repr(nn.MaxUnpool1d(2)) == repr(torch.nn.MaxUnpool1d(2))
    layer = nn.ConvTranspose1d(3, 2, 3, stride=2).double()
    assert layer(x, output_size=(16,)).shape == (2, 2, 16)
    with pytest.raises(ShapeError, match=r"output_size must be from \(15,\) to \(16,\)"):
        layer(x, output_size=(17,))


LOSSES = [
    (lambda lib, w: lib.CrossEntropyLoss(), "indices"),
    (lambda lib, w: lib.CrossEntropyLoss(weight=w, ignore_index=2, label_smoothing=0.1), "indices"),
    (lambda lib, w: lib.CrossEntropyLoss(reduction="sum"), "indices"),
    (lambda lib, w: lib.NLLLoss(weight=w, ignore_index=1), "indices"),
    (lambda lib, w: lib.NLLLoss(reduction="none"), "indices"),
    (lambda lib, w: lib.MSELoss(), "values"),
    (lambda lib, w: lib.MSELoss(reduction="sum"), "values"),
]


@pytest.mark.parametrize("case", range(len(LOSSES)))
def test_loss_matches_torch(case):
    make, kind = LOSSES[case]
    rng = np.random.default_rng(3)
    scores, weight = rng.standard_normal((6, 4)), rng.uniform(0.5, 2, 4)
    target = rng.integers(0, 4, 6) if kind == "indices" else rng.standard_normal((6, 4))
    ours, theirs = make(nn, Tensor(weight)), make(torch.nn, torch.tensor(weight))
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    a, b = Tensor(scores, requires_grad=True), torch.tensor(scores, requires_grad=True)
    out, expected = ours(a, Tensor(target)), theirs(b, torch.tensor(target))
    np.testing.assert_allclose(out.array, expected.detach().numpy(), rtol=1e-12)
    upstream = rng.standard_normal(out.shape)
    out.backward(Tensor(np.asarray(upstream)))
    expected.backward(torch.tensor(upstream))
    np.testing.assert_allclose(a.grad.array, b.grad.numpy(), rtol=1e-10, atol=1e-14)


def test_dropout_drops_in_training_only():
    layer = nn.Dropout(0.25)
    x = Tensor(np.ones((200, 200), np.float32))
    out = layer(x).array
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (out == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert not np.array_equal(layer(x).array, out)
    np.testing.assert_array_equal(layer.eval()(x).array, x.array)
    assert repr(layer) == repr(torch.nn.Dropout(0.25))


def test_dropout2d_drops_whole_channels():
    layer = nn.Dropout2d(0.25)
    out = layer(Tensor(np.ones((40, 50, 2, 3)))).array.reshape(2000, 6)
    assert set(np.unique(out)) == {0.0, 1 / 0.75}
    assert (out == out[:, :1]).all()
    assert (out[:, 0] == 0).mean() == pytest.approx(0.25, abs=0.05)
    maps = Tensor(np.ones((2, 3, 2, 2)))
    assert (layer.eval()(maps).array == 1).all()


def test_instance_norm_ignores_a_wrong_number_of_channels_where_it_has_no_effect():
    x = np.random.default_rng(0).standard_normal(IMAGES)
    with pytest.warns(UserWarning, match="num_features is 9, and the input of shape .* has 6"):
        out = nn.InstanceNorm2d(9)(Tensor(x))
    np.testing.assert_array_equal(out.array, nn.InstanceNorm2d(6)(Tensor(x)).array)
    with pytest.raises(ShapeError, match="expects 9 channels"):
        nn.InstanceNorm2d(9, affine=True)(Tensor(x))


def test_dropout1d_drops_whole_channels():
    out = nn.Dropout1d(0.25)(Tensor(np.ones((40, 50, 6)))).array
    assert set(np.unique(out)) == {0.0, 1 / 0.75}
    assert (out == out[..., :1]).all()


@pytest.mark.parametrize("layer", [nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_alpha_dropout_keeps_mean_and_variance(layer):
    values = np.random.default_rng(0).standard_normal((100, 200, 3))
    x = Tensor(values, requires_grad=True)
    out = layer(0.3)(x)
    assert out.array.mean() == pytest.approx(0, abs=0.05)
    assert out.array.var() == pytest.approx(1, abs=0.05)
    out.sum().backward()
    dropped = x.grad.array == 0
    assert dropped.mean() == pytest.approx(0.3, abs=0.02)
    assert np.unique(out.array[dropped]).size == 1
    whole = (dropped == dropped[..., :1]).all()
    assert whole == (layer is nn.FeatureAlphaDropout)
    np.testing.assert_array_equal(layer(0.3).eval()(x).array, values)
    assert not layer(1.0)(x).array.any()


def test_inplace_changes_the_input():
    x = Tensor(np.array([-1.0, 2.0]))
    assert nn.ReLU(inplace=True)(x) is x
    assert x.array.tolist() == [0, 2]
    assert repr(nn.ReLU(inplace=True)) == repr(torch.nn.ReLU(inplace=True))
    assert repr(nn.Dropout(0.1, inplace=True)) == repr(torch.nn.Dropout(0.1, inplace=True))


def test_inplace_writes_the_result_into_the_input():
    for layer in (nn.Mish, nn.Hardsigmoid, nn.RReLU, lambda inplace: nn.Threshold(0, 3, inplace)):
        x = Tensor(np.array([-1.0, 2.0]))
        expected = layer(inplace=False).eval()(x).array
        assert layer(inplace=True).eval()(x) is x
        np.testing.assert_array_equal(x.array, expected)


def test_rrelu_draws_the_slopes_of_training():
    x = Tensor(np.array([-1.0] * 2000 + [3.0]), requires_grad=True)
    layer = nn.RReLU(0.25, 0.5)
    out = layer(x)
    out.sum().backward()
    slopes = -out.array[:-1]
    assert 0.25 <= slopes.min() < 0.26
    assert 0.49 < slopes.max() < 0.5
    np.testing.assert_allclose(x.grad.array, [*slopes, 1])
    np.testing.assert_allclose(layer.eval()(x).array[:2], -0.375)


@pytest.mark.parametrize("layer", [nn.Dropout1d, nn.Dropout3d, nn.AlphaDropout])
def test_inplace_dropout_drops_in_the_input(layer):
    x = Tensor(np.ones((20, 5, 3) if layer is nn.Dropout1d else (20, 5, 3, 2)))
    assert layer(0.5, inplace=True)(x) is x
    assert 1 < np.unique(x.array).size < 4


@pytest.mark.parametrize("dim", [0, -2, 2])
def test_gumbel_softmax_draws_categories_by_their_probabilities(dim):
    odds = np.moveaxis(np.broadcast_to([1.0, 2.0, 5.0], (3000, 1, 3)), -1, dim)
    logits = Tensor(np.log(odds), requires_grad=True)
    soft = nn.functional.gumbel_softmax(logits, tau=0.5, dim=dim)
    np.testing.assert_allclose(soft.array.sum(dim), 1)
    hard = nn.functional.gumbel_softmax(logits, hard=True, dim=dim)
    assert set(np.unique(hard.array.round(12))) == {0.0, 1.0}
    share = np.moveaxis(hard.array, dim, -1).reshape(-1, 3).mean(0)
    np.testing.assert_allclose(share, [0.125, 0.25, 0.625], atol=0.04)
    hard[(slice(None),) * (dim % 3) + (0,)].sum().backward()
    assert np.abs(logits.grad.array).max() > 0.01


def test_a_training_step_on_the_reference_device_equals_the_cpus():
    def run(device):
        net = nn.Sequential(
            nn.Conv2d(2, 3, 2, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(12, 3),
        ).double()  # fmt: skip
        rng = np.random.default_rng(4)
        state = {n: Tensor(rng.uniform(0.5, 1, t.shape)) for n, t in net.state_dict().items()}
        net.load_state_dict(state)
        net.to(device)
        images = Tensor(rng.standard_normal((3, 2, 3, 3)), Device(device))
        labels = Tensor(np.array([0, 2, 1]), Device(device))
        optimizer = optim.Adam(net.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            nn.CrossEntropyLoss()(net(images), labels).backward()
            optimizer.step()
        return net.state_dict()

    cpu, reference = run("cpu"), run("reference")
    for name, tensor in reference.items():
        assert str(tensor.device) == "reference"
        np.testing.assert_allclose(cpu[name].array, tensor.array, rtol=1e-9, atol=1e-12)


def test_weights_are_stored_as_the_kernels_read_them():
    conv, linear = nn.Conv2d(3, 5, (2, 4)), nn.Linear(7, 6)
    assert conv.weight.shape == (5, 3, 2, 4)
    assert conv.weight.array.transpose(2, 3, 1, 0).flags.c_contiguous
    assert linear.weight.shape == (6, 7)
    assert linear.weight.array.T.flags.c_contiguous
    out = linear(Tensor(np.ones((2, 7), np.float32)))
    out.backward(Tensor(np.ones((2, 6), np.float32)))
    assert linear.weight.grad.array.T.flags.c_contiguous, "every step would reorder the gradient"
    out = conv(Tensor(np.ones((2, 3, 4, 4), np.float32)))
    out.backward(Tensor(np.ones(out.shape, np.float32)))
    assert conv.weight.grad.array.transpose(2, 3, 1, 0).flags.c_contiguous


def test_dtype_and_device_arguments():
    layer = nn.BatchNorm2d(3, device="reference", dtype="float64")
    assert layer.weight.dtype == np.float64
    assert str(layer.running_mean.device) == "reference"
    assert layer.num_batches_tracked.dtype == np.int64
    assert nn.Linear(2, 2, dtype=np.float64).bias.dtype == np.float64


def test_reset_running_stats():
    layer = nn.BatchNorm1d(6)
    layer(Tensor(np.random.default_rng(0).standard_normal(ROWS).astype(np.float32)))
    assert layer.num_batches_tracked.array == 1
    assert layer.running_mean.array.any()
    layer.reset_running_stats()
    assert layer.num_batches_tracked.array == 0
    assert not layer.running_mean.array.any()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: nn.Conv1d(3, 4, (2, 2)),
            ShapeError,
            "kernel_size must be an int or a tuple of one",
        ),
        (
            lambda: nn.Conv1d(3, 4, 5).double()(Tensor(np.ones((2, 3, 4)))),
            ShapeError,
            "^conv1d: a 1×5 kernel",
        ),
        (
            lambda: nn.MaxPool1d(2)(Tensor(np.ones((2, 3, 4, 4)))),
            ShapeError,
            r"^max_pool1d: input must be \(N, C, L\) or \(C, L\)",
        ),
        (lambda: nn.Linear(0, 3), ShapeError, "Linear: in_features must be at least 1, got 0"),
        (lambda: nn.Linear(2.5, 3), DTypeError, "in_features must be an int, got 2.5"),
        (lambda: nn.Conv2d(3, 4, 0), ShapeError, "Conv2d: kernel_size must be at least 1"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ShapeError, "groups=2 must divide"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), ValueError, "padding must be 'same'"),
        (lambda: nn.Conv2d(3, 4, 3, 2, padding="same"), ValueError, "needs stride 1"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), ValueError, "padding_mode must be"),
        (lambda: nn.BatchNorm2d(-1), ShapeError, "num_features must be at least 1"),
        (lambda: nn.Dropout(1.5), ValueError, r"p must be in \[0, 1\], got 1.5"),
        (lambda: nn.Softmax2d()(Tensor(np.ones((2, 4)))), ShapeError, "Softmax2d: input must be"),
        (lambda: nn.functional.rrelu(Tensor(np.ones(2)), 2), ValueError, "lower must not exceed"),
        (
            lambda: nn.BatchNorm2d(3)(Tensor(np.ones((2, 3), np.float32))),
            ShapeError,
            r"BatchNorm2d: input must have 4 dimensions, got shape \(2, 3\)",
        ),
        (
            lambda: nn.BatchNorm1d(3)(Tensor(np.ones((2, 4), np.float32))),
            ShapeError,
            r"expects 3 channels, got input of shape \(2, 4\)",
        ),
        (
            lambda: nn.InstanceNorm2d(3)(Tensor(np.ones((2, 3, 1, 1)))),
            ShapeError,
            r"instance_norm: needs more than one value per channel of a sample",
        ),
        (
            lambda: nn.InstanceNorm2d(3, track_running_stats=True)(Tensor(np.ones((2, 3, 1, 2)))),
            DTypeError,
            r"instance_norm: .*float64",
        ),
        (
            lambda: nn.LocalResponseNorm(0)(Tensor(np.ones((2, 3, 1, 1)))),
            ValueError,
            r"local_response_norm: size must be at least 1, got 0",
        ),
        (
            lambda: nn.RMSNorm(3)(Tensor(np.ones((2, 4), np.float32))),
            ShapeError,
            r"rms_norm: normalized_shape \(3,\) must be the last sizes",
        ),
        (
            lambda: nn.Linear(3, 2)(Tensor(np.ones((2, 4), np.float32))),
            ShapeError,
            r"\(2, 4\)",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, match):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize("package", ["mine", "minigrad_extras.layers"])
def test_a_users_subclass_may_annotate_what_it_likes(package: str) -> None:
    """Only minigrad's own classes are records, whose annotations are arguments."""
    body = {"__module__": package, "__annotations__": {"seen": int}, "seen": 3}
    layer = type("Mine", (nn.Threshold,), dict(body))(0.1, 2.0)
    optimizer = type("Mine", (optim.SGD,), dict(body))([Tensor(np.zeros(2))], lr=0.5)
    assert (layer.seen, layer.value) == (3, 2.0)
    assert (optimizer.seen, optimizer.param_groups[0]["lr"]) == (3, 0.5)


def test_a_layer_uses_the_weight_that_its_class_shows() -> None:
    class Doubled(nn.Linear):
        @property
        def weight(self) -> mg.Tensor:
            if "weight" not in self._parameters:
                raise AttributeError("weight")
            return self._parameters["weight"] * 2

    class Looking(nn.Conv2d):
        def __getattr__(self, name: str) -> Any:
            found = super().__getattr__(name)
            return found * 2 if name == "weight" else found

    x = mg.ones(2, 3)
    linear, plain = Doubled(3, 2, bias=False), nn.Linear(3, 2, bias=False)
    plain.weight.data = linear._parameters["weight"].data
    np.testing.assert_array_equal(linear(x).detach().numpy(), 2 * plain(x).detach().numpy())
    images = mg.ones(1, 3, 4, 4)
    looking, conv = Looking(3, 2, 3, bias=False), nn.Conv2d(3, 2, 3, bias=False)
    conv.weight.data = looking._parameters["weight"].data
    doubled = (conv(images) * 2).detach().numpy()
    np.testing.assert_allclose(looking(images).detach().numpy(), doubled, rtol=1e-6)
