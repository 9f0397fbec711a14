"""minigrad.vision.models beside torchvision's: names, shapes, values, gradients, first weights."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from models.on_minigrad import twins
from models.test_torchvision import SMALL, assert_same, run, without_chance

import minigrad as mg
from minigrad import as_torch, nn
from minigrad.vision import models

ALL = os.environ.get("MINIGRAD_ALL_MODELS")
# Those of torchvision's files that are also here; of others, the widest need gigabytes.
HERE = [
    name for name, (file, _, _) in SMALL.items() if as_torch._exists(f"torchvision.models.{file}")
]
QUICK = [
    "densenet121", "efficientnet_b0", "efficientnet_b2", "googlenet", "mobilenet_v2",
    "mobilenet_v3_large", "mobilenet_v3_small", "resnet18", "resnet50", "resnext50_32x4d",
    "squeezenet1_0", "squeezenet1_1", "wide_resnet50_2",
]  # fmt: skip


@pytest.mark.parametrize("name", models.list_models() if ALL else QUICK)
def test_names_shapes_and_children_are_torchvisions(name: str) -> None:
    options = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(**options)
    ours = models.get_model(name, **options)
    assert [(key, tuple(value.shape)) for key, value in ours.state_dict().items()] == [
        (key, tuple(value.shape)) for key, value in theirs.state_dict().items()
    ]
    assert [key for key, _ in ours.named_children()] == [key for key, _ in theirs.named_children()]


def test_which_networks_are_compared() -> None:
    assert HERE == [
        "alexnet", "densenet", "efficientnet", "googlenet", "mobilenet_v2", "mobilenet_v3",
        "resnet", "squeezenet", "vgg",
    ]  # fmt: skip
    assert set(QUICK) <= set(models.list_models()) <= set(torchvision.models.list_models())


@pytest.mark.parametrize("name", HERE)
def test_a_network_computes_what_torchvisions_does(name: str) -> None:
    file, build, size = SMALL[name]
    theirs, ours = twins(
        lambda module: build(module(f"torchvision.models.{file}")), load=as_torch._import
    )
    without_chance(theirs)
    without_chance(ours)
    images = np.random.default_rng(0).standard_normal((2, 3, size, size))
    assert_same(name, run(mg, ours, images), run(torch, theirs, images))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {"norm_layer": "GroupNorm"}),
        ("resnet50", {"replace_stride_with_dilation": [False, True, True]}),
        ("mobilenet_v3_small", {"width_mult": 0.5, "reduced_tail": True, "dilated": True}),
        ("mobilenet_v3_large", {"width_mult": 0.35, "reduced_tail": True}),
    ],
)
def test_options_are_torchvisions(name: str, options: dict[str, Any]) -> None:
    def build(module: Any) -> Any:
        library = module("torch.nn")
        if options.get("norm_layer"):
            options["norm_layer"] = lambda channels: library.GroupNorm(4, channels)
        return getattr(module("torchvision.models"), name)(num_classes=3, **options)

    theirs, ours = twins(build, load=as_torch._import)
    x = np.random.default_rng(0).standard_normal((1, 3, 48, 48))
    expected = theirs.eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours.eval()(mg.from_numpy(x)).detach().numpy(), expected, rtol=1e-6)


def deviations(model: Any) -> dict[str, tuple[float, float]]:
    """Mean and deviation of every parameter of many numbers."""
    return {
        key: (float(value.double().mean()), float(value.double().std()))
        for key, value in model.named_parameters()
        if value.numel() > 2000
    }


@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "squeezenet1_1", "densenet121",
     "googlenet"],
)  # fmt: skip
def test_weights_begin_as_torchvisions_do(name: str) -> None:
    torch.manual_seed(0)
    mg.manual_seed(0)
    options = {"init_weights": True} if name == "googlenet" else {}
    theirs = getattr(torchvision.models, name)(**options)
    ours = models.get_model(name, **options)
    mine, expected = deviations(ours), deviations(theirs)
    assert list(mine) == list(expected)
    for key, (mean, std) in expected.items():
        many = 8 / math.sqrt(theirs.state_dict()[key].numel())
        assert abs(mine[key][0] - mean) < many * std, key
        assert abs(mine[key][1] - std) < many * std, key
    for key, value in theirs.state_dict().items():
        if not value.any() or (value == 1).all():
            found = ours.state_dict()[key].numpy()
            assert (found == value.flatten()[0].item()).all(), key
    blocks = [m for m in models.resnet18(zero_init_residual=True).modules() if hasattr(m, "bn2")]
    assert blocks
    assert not any(block.bn2.weight.any() for block in blocks)


def test_trained_weights_are_refused_with_the_way_to_load_them() -> None:
    for arguments in ({"weights": "DEFAULT"}, {"pretrained": True}, {"weights": True},
                      {"weights": models.ResNet18_Weights.IMAGENET1K_V1}):  # fmt: skip
        with pytest.raises(ValueError, match=r'resnet18: trained weights.*load\("resnet18.pth"\)'):
            models.resnet18(**arguments)
    assert models.get_model("SqueezeNet1_1", weights=None, pretrained=False, num_classes=2)
    with pytest.raises(ValueError, match="get_model: name must be of alexnet"):
        models.get_model("resnet19")
    with pytest.raises(AttributeError, match="ResNet19_Weights"):
        models.ResNet19_Weights  # noqa: B018
    with pytest.raises(ValueError, match="BasicBlock: groups"):
        models.resnet18(groups=2)


def test_a_file_of_torchs_weights_fits(tmp_path: Any) -> None:
    theirs = torchvision.models.squeezenet1_1(num_classes=4).eval()
    torch.save(theirs.state_dict(), tmp_path / "squeezenet.pth")
    ours = models.squeezenet1_1(num_classes=4).eval()
    ours.load_state_dict(mg.load(tmp_path / "squeezenet.pth"))
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 40)).astype(np.float32)
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours(mg.from_numpy(x)).detach().numpy(), expected, rtol=1e-4)


def torch_unet(state: dict[str, Any], x: Any, bilinear: bool) -> Any:
    """U-Net in evaluation, from torch's functions."""

    def double(x: Any, name: str) -> Any:
        for first in (0, 3):
            conv, norm = f"{name}.double_conv.{first}.", f"{name}.double_conv.{first + 1}."
            x = F.conv2d(x, state[f"{conv}weight"], padding=1)
            x = F.batch_norm(
                x, state[f"{norm}running_mean"], state[f"{norm}running_var"],
                state[f"{norm}weight"], state[f"{norm}bias"],
            ).relu()  # fmt: skip
        return x

    kept = [double(x, "inc")]
    for level in range(1, 5):
        kept.append(double(F.max_pool2d(kept[-1], 2), f"down{level}.maxpool_conv.1"))
    x = kept.pop()
    for level in range(1, 5):
        if bilinear:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        else:
            x = F.conv_transpose2d(
                x, state[f"up{level}.up.weight"], state[f"up{level}.up.bias"], stride=2
            )
        beside = kept.pop()
        high, wide = beside.shape[2] - x.shape[2], beside.shape[3] - x.shape[3]
        x = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        x = double(torch.cat([beside, x], 1), f"up{level}.conv")
    return F.conv2d(x, state["outc.conv.weight"], state["outc.conv.bias"])


@pytest.mark.parametrize("bilinear", [False, True])
def test_unet_is_torchs_functions(bilinear: bool) -> None:
    model = models.UNet(3, 2, bilinear, width=4).double().eval()
    state = {key: torch.from_numpy(value.numpy()) for key, value in model.state_dict().items()}
    x = np.random.default_rng(0).standard_normal((2, 3, 37, 50))
    expected = torch_unet(state, torch.from_numpy(x), bilinear).numpy()
    np.testing.assert_allclose(model(mg.from_numpy(x)).detach().numpy(), expected, rtol=1e-8)
    assert sum(p.numel() for p in models.UNet(3, 2).parameters()) == 31_037_698  # of the weights


@pytest.mark.parametrize("layers", [(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())])
def test_a_network_folds_batch_norm_as_sequential_does(layers: tuple[Any, ...]) -> None:
    from minigrad.vision.models._common import chain

    called = []
    for layer in layers:
        layer.eval()
    with mg.no_grad():
        x = mg.rand(1, 3, 8, 8)
        joined = chain(x, *layers)
        layers[1].register_forward_hook(lambda *_: called.append(1))
        np.testing.assert_allclose(chain(x, *layers).numpy(), joined.numpy(), rtol=1e-4, atol=1e-6)
    assert called == [1]
