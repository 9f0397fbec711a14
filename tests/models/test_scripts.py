"""Names that scripts written for torch take for granted, beside its operations and layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from minigrad.nn.attention import SDPBackend, sdpa_kernel
from minigrad.ops.inplace import FUNCTIONS


def test_a_device_is_chosen_as_scripts_do():
    device = mg.device("cuda" if mg.cuda.is_available() else "cpu")
    assert isinstance(device, mg.device)
    assert mg.zeros(2).to(device, non_blocking=True).device.type == device.type
    assert mg.device(1) == mg.device("cuda", 1) == mg.device("cuda:1")
    assert mg.device(device) == device
    assert isinstance(mg.zeros(2).dtype, mg.dtype)
    assert mg.zeros(2, 3).size() == mg.Size([2, 3])


def test_the_tensor_constructor_takes_sizes_or_numbers():
    for arguments in ((), (3,), (2, 3), (2, 3, 1, 4), ([],), ([[1, 2]],), ((1.5, 2),)):
        mine, theirs = mg.Tensor(*arguments), torch.Tensor(*arguments)
        assert (mine.shape, mine.dtype) == (tuple(theirs.shape), mg.float32)
        if arguments and not isinstance(arguments[0], int):
            assert mine.tolist() == theirs.tolist()
    weight = nn.Parameter(mg.Tensor(4, 3))
    nn.init.kaiming_uniform_(weight)
    assert nn.init._calculate_fan_in_and_fan_out(weight) == (3, 4)


@pytest.mark.parametrize("name", ["zeros", "ones", "empty", "rand", "randn"])
def test_sizes_may_be_given_by_name(name):
    for owner in (mg, mg.ones(1)):
        make = getattr(owner, name if owner is mg else f"new_{name}", None)
        if make is not None:
            for size in ((2, 3), [2], (), mg.Size([1, 2])):
                assert make(size=size, dtype=mg.float64).shape == tuple(size)
            with pytest.raises(TypeError, match="size twice"):
                make(2, size=(2, 3))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("reshape", {"shape": (3, -1)}), ("view", {"size": [3, 2]}), ("permute", {"dims": (1, 0)}),
        ("expand", {"size": (2, -1, 3)}), ("repeat", {"repeats": (2, 1)}),
        ("broadcast_to", {"size": (4, 2, 3)}), ("sum_to_size", {"size": (1, 3)}),
        ("split", {"split_size": 2, "dim": 1}), ("split", {"split_size": [1, 2], "dim": 1}),
        ("split_with_sizes", {"split_sizes": [1, 1]}), ("max", {"other": 0}), ("min", {"other": 0}),
        ("softmax", {"dim": 1, "_stacklevel": 5}), ("log_softmax", {"dim": 0, "_stacklevel": 5}),
    ],
)  # fmt: skip
def test_arguments_have_torchs_names(name, arguments):
    results = []
    for library in (mg, torch):
        x = library.tensor([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]])
        own = {key: -x if key == "other" else value for key, value in arguments.items()}
        holder = library.nn.functional if "softmax" in name else library.Tensor
        found = getattr(holder, name)(x, **own)
        results.append(found if isinstance(found, tuple) else (found,))
    for mine, their in zip(*results, strict=True):
        np.testing.assert_allclose(mine.tolist(), their.tolist(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["exp_", "relu_", "clamp_", "zero_", "fill_"])
def test_functions_that_change_their_argument(name):
    more = {"clamp_": (0.0, 1.0), "fill_": (3.0,)}.get(name, ())
    results = []
    for library in (mg, torch):
        x = library.tensor([-1.0, 0.5, 2.0])
        assert getattr(library, name)(x, *more) is x
        results.append(x.numpy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)


def test_every_function_in_place_is_one_of_torchs():
    assert [name for name in FUNCTIONS if not hasattr(torch, name)] == []
    assert all(getattr(mg, name) is getattr(mg.Tensor, name) for name in FUNCTIONS)


def test_layers_are_found_in_torchs_files():
    from minigrad.nn.modules.batchnorm import _BatchNorm
    from minigrad.nn.modules.utils import _pair, _triple

    assert isinstance(nn.BatchNorm2d(2), _BatchNorm)
    assert (_pair(3), _pair([1, 2]), _triple(0)) == ((3, 3), (1, 2), (0, 0, 0))
    assert nn.modules.Conv2d is nn.modules.conv.Conv2d is nn.Conv2d
    for name in nn.modules._FILES:
        theirs, ours = getattr(torch.nn.modules, name), getattr(nn.modules, name)
        for each in getattr(theirs, "__all__", ()):
            assert getattr(ours, each, None) is getattr(nn, each, None)
    with pytest.raises(AttributeError, match="Conv4d"):
        nn.modules.conv.Conv4d  # noqa: B018


def test_data_parallel_holds_its_module():
    net = nn.Linear(3, 2)
    parallel = nn.DataParallel(net, device_ids=[0])
    assert list(parallel.state_dict()) == ["module.weight", "module.bias"]
    x = mg.ones(1, 3)
    assert parallel(x).tolist() == net(x).tolist()


def test_steps_written_for_mixed_precision_are_plain_steps():
    from minigrad.cuda.amp import GradScaler, autocast

    net = nn.Linear(2, 1)
    before = net.weight.detach().clone()
    optimizer, scaler = mg.optim.SGD(net.parameters(), lr=1.0), GradScaler(enabled=True)
    with autocast(enabled=True), mg.autocast("cuda", dtype=mg.float16):
        loss = net(mg.ones(1, 2)).sum()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert loss.dtype == mg.float32
    assert (net.weight + 1 - before).abs().max().item() < 1e-6
    scaler.load_state_dict(scaler.state_dict())
    assert not scaler.is_enabled()
    assert scaler.get_scale() == 1


def test_switches_may_be_set(monkeypatch):
    monkeypatch.setattr(mg.backends.cudnn, "benchmark", True)
    assert not mg.backends.cudnn.is_available()
    assert not mg.backends.mps.is_available()
    mg.autograd.set_detect_anomaly(True)
    with mg.autograd.detect_anomaly():
        mg.ones(1, requires_grad=True).sum().backward()

    @mg.inference_mode()
    def evaluate(x):
        return x * 2

    x = mg.ones(2, requires_grad=True)
    assert not evaluate(x).requires_grad
    with mg.inference_mode(mode=False):
        assert (x * 2).requires_grad
    net = nn.Linear(1, 1)
    assert mg.compile(net, mode="max-autotune") is net
    q = mg.randn(1, 2, 3, 4)
    expected = F.scaled_dot_product_attention(q, q, q).tolist()
    with (
        mg.backends.cuda.sdp_kernel(enable_flash=False),
        sdpa_kernel([SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]),
    ):
        assert F.scaled_dot_product_attention(q, q, q).tolist() == expected


def test_loading_says_that_all_keys_matched():
    net = nn.Linear(1, 1)
    assert str(net.load_state_dict(net.state_dict())) == "<All keys matched successfully>"
    assert "missing_keys=['weight', 'bias']" in str(net.load_state_dict({}, strict=False))


def test_old_constructors_name_a_dtype():
    for name in ("Float", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool"):
        ours, theirs = getattr(mg, name + "Tensor"), getattr(torch, name + "Tensor")
        for arguments in ((), (2, 3), ([[1, 0]],)):
            mine, their = ours(*arguments), theirs(*arguments)
            assert (mine.shape, mine.dtype.name) == (tuple(their.shape), str(their.dtype)[6:])
        assert mine.tolist() == their.tolist()
        on_gpu = getattr(mg.cuda, name + "Tensor")
        assert isinstance(mine, ours)
        assert not isinstance(mine, on_gpu)
        assert mg.zeros(2).type(ours).dtype == mine.dtype
        if not mg.cuda.is_available():
            for move in (lambda: on_gpu(2), lambda: mine.type(on_gpu)):  # noqa: B023
                with pytest.raises(mg.DeviceError):
                    move()
    assert not isinstance(mg.zeros(2), mg.LongTensor)


def test_seeds_of_chance_can_be_asked_for_and_set_again():
    state = mg.get_rng_state()
    try:
        assert mg.seed() == mg.initial_seed()
        first = mg.rand(3).tolist()
        mg.cuda.manual_seed_all(mg.initial_seed())
        assert mg.rand(3).tolist() == first
    finally:
        mg.set_rng_state(state)


def test_precision_of_products_is_that_of_tf32(monkeypatch):
    monkeypatch.setattr(mg.backends.cuda, "allow_tf32", False)
    monkeypatch.setattr(mg.backends.cpu, "allow_fast_winograd", False)
    mg.use_deterministic_algorithms(True)
    mg.set_float32_matmul_precision("high")
    assert mg.backends.cuda.allow_tf32
    assert mg.backends.cpu.allow_fast_winograd
    assert mg.get_float32_matmul_precision() == "high"
    with pytest.raises(ValueError, match="got 'low'"):
        mg.set_float32_matmul_precision("low")


@pytest.mark.parametrize(
    ("options", "shape"),
    [({}, (2, 3, 2)), ({"dim": -1}, (2, 3)), ({"ord": 1, "dim": 0, "keepdim": True}, (2, 3)),
     ({"ord": "fro"}, (2, 3)), ({"dim": (0, 2)}, (2, 3, 2)), ({"ord": 3}, (4,))],
)  # fmt: skip
def test_linalg_norm_is_torchs(options, shape):
    x = np.random.default_rng(0).standard_normal(shape)
    mine = mg.linalg.norm(mg.from_numpy(x), **options)
    theirs = torch.linalg.norm(torch.from_numpy(x), **options)
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-12)


@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 1, 1), (2, 5, 5), (0, 3, 3), (0, 0)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_eigh_reads_a_triangle_and_gives_torchs_values(shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for triangle in "LU":
        mine = mg.linalg.eigh(mg.from_numpy(x), UPLO=triangle)
        theirs = torch.linalg.eigh(torch.from_numpy(x), UPLO=triangle)
        rounding = 100 * np.finfo(dtype).eps
        for name in ("eigenvalues", "eigenvectors"):
            ours, their = (getattr(each, name).numpy() for each in (mine, theirs))
            assert ours.dtype == x.dtype
            if name == "eigenvectors":  # of either sign
                ours, their = np.abs(ours), np.abs(their)
            np.testing.assert_allclose(ours, their, rtol=0, atol=rounding)


def test_eigh_says_what_it_cannot_do():
    square = mg.eye(2, requires_grad=True)
    for call, error, said in (
        (lambda: mg.linalg.eigh(square * 1), RuntimeError, r"no gradient; pass A.detach\(\)"),
        (lambda: mg.linalg.eigh(mg.ones(2, 3)), mg.ShapeError, r"square matrices.*\(2, 3\)"),
        (lambda: mg.linalg.eigh(mg.ones(3)), mg.ShapeError, r"square matrices.*\(3,\)"),
        (lambda: mg.linalg.eigh(mg.ones(2, 2), "lower"), ValueError, "'L' or 'U', got 'lower'"),
        (lambda: mg.linalg.eigh(mg.ones(1, 1).int()), mg.DTypeError, "linalg.eigh.*int32"),
        (lambda: mg.linalg.eigh(mg.full((2, 2), mg.nan)), ValueError, "linalg.eigh.*finite"),
    ):
        with pytest.raises(error, match=said):
            call()
    with mg.no_grad():
        assert mg.linalg.eigh(square).eigenvalues.tolist() == [1.0, 1.0]


def test_linalg_norm_of_matrices_is_frobenius():
    for arguments in (("nuc",), (2,), ("fro", 0)):
        with pytest.raises(ValueError, match="'fro'"):
            mg.linalg.norm(mg.ones(2, 3), *arguments)
