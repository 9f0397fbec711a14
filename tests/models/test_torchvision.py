"""torchvision's models, whose code nobody here wrote, on minigrad: what they compute is torch's.

Each is built twice, from the same source; torch's weights are loaded into minigrad's. In float64
both must agree on outputs in training and evaluation, on running statistics and on every gradient.

By default a small network of each file; MINIGRAD_ALL_MODELS=1 takes every builder of torchvision's
classification and segmentation models at its own width, of which the largest need over 24 GB.

Those of detection are in test_detection.py. What cannot be built is in NOT_HERE.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from models.on_minigrad import load, twins

import minigrad as mg

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

Build = Callable[[Any], Any]


def builder(name: str, **options: Any) -> Build:
    def build(module: Any) -> Any:
        return getattr(module, name)(**options)

    return build


def _resnet(module: Any) -> Any:
    return module.ResNet(module.Bottleneck, [1, 2, 1, 1], 10, groups=2, width_per_group=32)


def _convnext(module: Any) -> Any:
    stages = [module.CNBlockConfig(16, 32, 2), module.CNBlockConfig(32, None, 1)]
    return module.ConvNeXt(stages, num_classes=10)


def _vgg(module: Any) -> Any:
    return module.make_layers(module.cfgs["A"], batch_norm=True)


def _densenet(module: Any) -> Any:
    return module.DenseNet(8, (2, 3, 2, 2), 16, num_classes=10, memory_efficient=True)


def _swin(version: str) -> Build:
    def build(module: Any) -> Any:
        options = {} if version == "" else {"block": module.SwinTransformerBlockV2}
        if options:
            options["downsample_layer"] = module.PatchMergingV2
        return module.SwinTransformer(
            [4, 4], 16, [2, 2], [2, 4], [4, 4], stochastic_depth_prob=0.0, num_classes=10, **options
        )

    return build


def _fcn(module: Any) -> Any:
    block = sys.modules[module.ResNet.__module__].BasicBlock
    layers = {"layer3": "aux", "layer4": "out"}
    body = module.IntermediateLayerGetter(module.ResNet(block, [1, 1, 1, 1]), layers)
    return module.FCN(body, module.FCNHead(512, 5), module.FCNHead(256, 5))


# A network of each file: (file, how it is built, size of the image).
SMALL: dict[str, tuple[str, Build, int]] = {
    "alexnet": ("alexnet", builder("alexnet", num_classes=10), 64),
    "convnext": ("convnext", _convnext, 48),
    "densenet": ("densenet", _densenet, 40),
    "efficientnet": ("efficientnet", builder("efficientnet_b0", num_classes=10), 40),
    "googlenet": ("googlenet", builder("googlenet", num_classes=10, init_weights=False), 64),
    "inception": (
        "inception",
        builder("inception_v3", num_classes=10, init_weights=False, aux_logits=False),
        80,
    ),
    "maxvit": (
        "maxvit",
        builder(
            "MaxVit", input_size=(32, 32), stem_channels=8, partition_size=4, head_dim=8,
            block_channels=[16, 32], block_layers=[1, 2], stochastic_depth_prob=0.0, num_classes=10,
        ),
        32,
    ),
    "mnasnet": ("mnasnet", builder("mnasnet0_5", num_classes=10), 40),
    "mobilenet_v2": ("mobilenetv2", builder("mobilenet_v2", width_mult=0.25, num_classes=10), 40),
    "mobilenet_v3": ("mobilenetv3", builder("mobilenet_v3_small", num_classes=10), 40),
    "regnet": ("regnet", builder("regnet_y_400mf", num_classes=10), 40),
    "resnet": ("resnet", _resnet, 40),
    "shufflenet": ("shufflenetv2", builder("shufflenet_v2_x0_5", num_classes=10), 40),
    "squeezenet": ("squeezenet", builder("squeezenet1_1", num_classes=10), 48),
    "swin": ("swin_transformer", _swin(""), 36),
    "swin_v2": ("swin_transformer", _swin("v2"), 36),
    "vgg": ("vgg", _vgg, 32),
    "vit": (
        "vision_transformer",
        builder(
            "VisionTransformer", image_size=32, patch_size=8, num_layers=2, num_heads=2,
            hidden_dim=16, mlp_dim=32, num_classes=10,
        ),
        32,
    ),
    "lraspp": (
        "segmentation.lraspp",
        builder("lraspp_mobilenet_v3_large", weights_backbone=None, num_classes=5),
        48,
    ),
    "fcn": ("segmentation.fcn", _fcn, 40),
    "deeplabv3": (
        "segmentation.deeplabv3",
        builder(
            "deeplabv3_mobilenet_v3_large", weights_backbone=None, num_classes=5, aux_loss=True
        ),
        48,
    ),
}  # fmt: skip

# Packages and files of torchvision.models that do not run, and why.
NOT_HERE = {
    "quantization": "int8 arithmetic (torch.ao) is not there",
    "video": "convolution and pooling over three axes are not there",
    "feature_extraction": "torch.fx, which rewrites a model's code, is not there",
}

# Builders whose default image is not 64 × 64, or that need options of their own.
_SIZES = {"inception_v3": 299, "vit_h_14": 224, "vit": 224, "maxvit_t": 224, "swin": 64}


def every_builder() -> dict[str, tuple[str, Build, int]]:
    found = {}
    for package in (torchvision.models, torchvision.models.segmentation):
        for name in torchvision.models.list_models(module=package):
            file = torchvision.models.get_model_builder(name).__module__
            options: dict[str, Any] = {"num_classes": 10}
            if package is not torchvision.models:
                options |= {"weights_backbone": None}
                options |= {} if "lraspp" in name else {"aux_loss": True}
            if name in ("googlenet", "inception_v3"):
                options["init_weights"] = False
            size = _SIZES.get(name) or _SIZES.get(name.split("_")[0]) or 64
            file = file.removeprefix("torchvision.models.")
            found[name] = (file, builder(name, **options), size)
    return found


def test_every_other_file_of_torchvisions_models_can_be_imported() -> None:
    path, prefix = torchvision.models.__path__, "torchvision.models."
    for found in pkgutil.walk_packages(path, prefix):
        name = found.name.removeprefix(prefix)
        if found.ispkg or name.split(".")[0] in NOT_HERE:
            continue
        load(found.name)


def test_every_file_of_networks_has_one_in_the_tests() -> None:
    others = "detection", "optical_flow", *NOT_HERE  # test_detection.py; RAFT is too large
    files = set()
    for name in sys.modules.copy():
        file = name.removeprefix("torchvision.models.")
        if file == name or file.split(".")[0] in (*others, "_utils"):
            continue
        members = vars(sys.modules[name]).values()
        if any(isinstance(m, type) and issubclass(m, torch.nn.Module) and m.__module__ == name
               for m in members):  # fmt: skip
            files.add(file)
    assert files - {"segmentation._utils"} == {file for file, _, _ in SMALL.values()}


ALL = os.environ.get("MINIGRAD_ALL_MODELS")
CASES = every_builder() if ALL else SMALL


def outputs(result: Any) -> Iterator[Any]:
    """The tensors of what a model returns: one, a named tuple or a dict."""
    if isinstance(result, dict):
        result = tuple(result.values())
    yield from result if isinstance(result, tuple) else (result,)


def without_chance(model: Any) -> None:
    for module in model.modules():
        if isinstance(getattr(module, "p", None), float):
            module.p = 0.0


def run(library: Any, model: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs in training and in evaluation, gradients and buffers by name."""
    found = {}
    x = library.from_numpy(images.copy())
    x.requires_grad = True
    model.train()
    total = 0
    for number, out in enumerate(outputs(model(x))):
        found[f"training output {number}"] = out.detach().numpy()
        weights = np.random.default_rng(number).standard_normal(tuple(out.shape))
        total = total + (out * library.from_numpy(weights)).sum()
    total.backward()
    found["gradient of the image"] = x.grad.numpy()
    for name, parameter in model.named_parameters():
        found[f"gradient of {name}"] = parameter.grad.numpy()
    for name, buffer in model.named_buffers():
        found[f"buffer {name}"] = buffer.detach().numpy().copy()
    model.eval()
    with library.no_grad():
        for number, out in enumerate(outputs(model(library.from_numpy(images)))):
            found[f"evaluation output {number}"] = out.numpy()
    return found


def assert_same(name: str, found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    # Gradients that cancel to 0, such as a bias before batch norm, are rounding errors of the rest.
    noise = 1e-11 * max(np.abs(v).max() for k, v in expected.items() if k.startswith("gradient"))
    for key, values in expected.items():
        np.testing.assert_allclose(
            found[key], values, rtol=1e-6, atol=1e-8 * np.abs(values).max(initial=0) + noise,
            err_msg=f"{name}: {key}",
        )  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_model_of_torchvision_computes_what_it_does_on_torch(name: str) -> None:
    file, build, size = CASES[name]
    theirs, ours = twins(lambda module: build(module(f"torchvision.models.{file}")))
    without_chance(theirs)
    without_chance(ours)
    images = np.random.default_rng(0).standard_normal((2, 3, size, size))
    assert_same(name, run(mg, ours, images), run(torch, theirs, images))
