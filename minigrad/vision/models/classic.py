"""Networks without shortcuts: AlexNet, VGG, SqueezeNet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ... import nn
from ...engine import Tensor
from ...ops.join import cat
from ._common import Classifier, builder, chain, he_fan_out, initialise

__all__ = [
    "VGG", "AlexNet", "SqueezeNet", "alexnet", "squeezenet1_0", "squeezenet1_1", "vgg11",
    "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
]  # fmt: skip


class AlexNet(Classifier):
    """(N, 3, H, W) from 63×63 on → (N, num_classes). Source: Krizhevsky 2014, "One weird trick"."""

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for C_in, C_out, kernel_size, stride, padding, pool in (
            (3, 64, 11, 4, 2, True), (64, 192, 5, 1, 2, True), (192, 384, 3, 1, 1, False),
            (384, 256, 3, 1, 1, False), (256, 256, 3, 1, 1, True),
        ):  # fmt: skip
            layers += [nn.Conv2d(C_in, C_out, kernel_size, stride, padding), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(3, stride=2)] if pool else []
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True),
            nn.Dropout(dropout), nn.Linear(4096, 4096), nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes),
        )  # fmt: skip


alexnet = builder("alexnet", AlexNet)


def _vgg_layers(*counts: int) -> list[int | str]:
    """3×3 convolutions by their channels; M halves height and width."""
    layers: list[int | str] = []
    for width, count in zip((64, 128, 256, 512, 512), counts, strict=True):
        layers += [*[width] * count, "M"]
    return layers


cfgs = {
    "A": _vgg_layers(1, 1, 2, 2, 2), "B": _vgg_layers(2, 2, 2, 2, 2),
    "D": _vgg_layers(2, 2, 3, 3, 3), "E": _vgg_layers(2, 2, 4, 4, 4),
}  # fmt: skip


def make_layers(cfg: Sequence[int | str], batch_norm: bool = False) -> nn.Sequential:
    """The convolutions that VGG has for such a list, for three channels."""
    layers: list[nn.Module] = []
    channels = 3
    for step in cfg:
        if isinstance(step, str):
            layers.append(nn.MaxPool2d(2, stride=2))
            continue
        layers.append(nn.Conv2d(channels, step, 3, padding=1))
        layers += [nn.BatchNorm2d(step)] if batch_norm else []
        layers.append(nn.ReLU(inplace=True))
        channels = step
    return nn.Sequential(*layers)


class VGG(Classifier):
    """(N, 3, H, W) from 32×32 on → (N, num_classes). Source: Simonyan and Zisserman 2015."""

    def __init__(
        self,
        features: nn.Module,
        num_classes: int = 1000,
        init_weights: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )  # fmt: skip
        if init_weights:
            initialise(self, he_fan_out, partial(nn.init.normal_, std=0.01))


def _vgg(cfg: str, batch_norm: bool, **options: Any) -> VGG:
    return VGG(make_layers(cfgs[cfg], batch_norm), **options)


vgg11, vgg11_bn = builder("vgg11", _vgg, "A", False), builder("vgg11_bn", _vgg, "A", True)
vgg13, vgg13_bn = builder("vgg13", _vgg, "B", False), builder("vgg13_bn", _vgg, "B", True)
vgg16, vgg16_bn = builder("vgg16", _vgg, "D", False), builder("vgg16_bn", _vgg, "D", True)
vgg19, vgg19_bn = builder("vgg19", _vgg, "E", False), builder("vgg19_bn", _vgg, "E", True)


class Fire(nn.Module):
    """A 1×1 convolution to few channels, then a 1×1 and a 3×3 one, side by side."""

    def __init__(
        self, inplanes: int, squeeze_planes: int, expand1x1_planes: int, expand3x3_planes: int
    ) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inplanes, squeeze_planes, 1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeeze_planes, expand1x1_planes, 1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeeze_planes, expand3x3_planes, 3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = chain(x, self.squeeze, self.squeeze_activation)
        return cat(
            [
                chain(x, self.expand1x1, self.expand1x1_activation),
                chain(x, self.expand3x3, self.expand3x3_activation),
            ],
            1,
        )


# The first convolution (channels, size), then Fire by (squeezed, expanded / 2); None pools.
_FIRES = {
    "1_0": (
        (96, 7), None, (16, 64), (16, 64), (32, 128), None, (32, 128), (48, 192), (48, 192),
        (64, 256), None, (64, 256),
    ),
    "1_1": (
        (64, 3), None, (16, 64), (16, 64), None, (32, 128), (32, 128), None, (48, 192), (48, 192),
        (64, 256), (64, 256),
    ),
}  # fmt: skip


class SqueezeNet(nn.Module):
    """(N, 3, H, W) from 17×17 (version "1_1") or 21×21 ("1_0") on → (N, num_classes). Source:
    Iandola et al. 2016."""

    def __init__(self, version: str = "1_0", num_classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        if version not in _FIRES:
            raise ValueError(f"SqueezeNet: version must be of {list(_FIRES)}, got {version!r}")
        (channels, kernel_size), *fires = _FIRES[version]
        layers = [nn.Conv2d(3, channels, kernel_size, stride=2), nn.ReLU(inplace=True)]
        for fire in fires:
            if fire is None:
                layers.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
            else:
                squeezed, expanded = fire
                layers.append(Fire(channels, squeezed, expanded, expanded))
                channels = 2 * expanded
        self.num_classes = num_classes
        self.features = nn.Sequential(*layers)
        last = nn.Conv2d(channels, num_classes, 1)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), last, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1))
        )
        initialise(self, nn.init.kaiming_uniform_)
        nn.init.normal_(last.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).flatten(1)


squeezenet1_0 = builder("squeezenet1_0", SqueezeNet, "1_0")
squeezenet1_1 = builder("squeezenet1_1", SqueezeNet, "1_1")
