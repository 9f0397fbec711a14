"""Layers against torch's, with the same weights: outputs, gradients, running statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from opspecs import activation

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
    *((make, shape) for make in activation.LAYERS for shape in (ROWS, IMAGES)),
    (lambda lib: lib.Softmax(dim=1), ROWS),
    (lambda lib: lib.LogSoftmax(dim=-1), LINES),
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


@pytest.mark.parametrize("name", ["MaxPool2d", "AdaptiveMaxPool2d"])
def test_pooling_returns_indices_on_demand(name):
    values = np.random.default_rng(2).standard_normal((2, 3, 6, 5))
    out, indices = getattr(nn, name)(2, return_indices=True)(Tensor(values))
    expected, places = getattr(torch.nn, name)(2, return_indices=True)(torch.tensor(values))
    np.testing.assert_array_equal(out.array, expected.numpy())
    np.testing.assert_array_equal(indices.array, places.numpy())


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


def test_inplace_changes_the_input():
    x = Tensor(np.array([-1.0, 2.0]))
    assert nn.ReLU(inplace=True)(x) is x
    assert x.array.tolist() == [0, 2]
    assert repr(nn.ReLU(inplace=True)) == repr(torch.nn.ReLU(inplace=True))
    assert repr(nn.Dropout(0.1, inplace=True)) == repr(torch.nn.Dropout(0.1, inplace=True))


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
        (lambda: nn.Linear(0, 3), ShapeError, "Linear: in_features must be at least 1, got 0"),
        (lambda: nn.Linear(2.5, 3), DTypeError, "in_features must be an int, got 2.5"),
        (lambda: nn.Conv2d(3, 4, 0), ShapeError, "Conv2d: kernel_size must be at least 1"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ShapeError, "groups=2 must divide"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), ValueError, "padding must be 'same'"),
        (lambda: nn.Conv2d(3, 4, 3, 2, padding="same"), ValueError, "needs stride 1"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), ValueError, "padding_mode must be"),
        (lambda: nn.BatchNorm2d(-1), ShapeError, "num_features must be at least 1"),
        (lambda: nn.Dropout(1.5), ValueError, r"p must be in \[0, 1\], got 1.5"),
        (lambda: nn.Softmax(), ValueError, "Softmax: name the dim"),
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
            lambda: nn.Linear(3, 2)(Tensor(np.ones((2, 4), np.float32))),
            ShapeError,
            r"\(2, 4\)",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, match):
    with pytest.raises(error, match=match):
        call()
