"""Networks that join the channels of several branches or of all layers: GoogLeNet, DenseNet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from ... import nn
from ...engine import Tensor
from ...nn import functional as F
from ...ops.join import cat
from ...utils import checkpoint
from ._common import builder, chain, initialise

__all__ = [
    "DenseNet", "GoogLeNet", "GoogLeNetOutputs", "densenet121", "densenet161", "densenet169",
    "densenet201", "googlenet",
]  # fmt: skip


class BasicConv2d(nn.Module):
    """conv without bias → batch norm → ReLU"""

    def __init__(self, in_channels: int, out_channels: int, **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **options)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return chain(x, self.conv, self.bn, self.relu)


class Inception(nn.Module):
    """Four branches of the input: 1×1; 1×1 → 3×3, twice; max pool → 1×1. The second has 5×5 in
    the paper and 3×3 in the weights that exist."""

    def __init__(
        self, in_channels: int, ch1x1: int, ch3x3red: int, ch3x3: int, ch5x5red: int, ch5x5: int,
        pool_proj: int,
    ) -> None:  # fmt: skip
        super().__init__()
        one, three = partial(BasicConv2d, kernel_size=1), partial(BasicConv2d, kernel_size=3)
        self.branch1 = one(in_channels, ch1x1)
        self.branch2 = nn.Sequential(one(in_channels, ch3x3red), three(ch3x3red, ch3x3, padding=1))
        self.branch3 = nn.Sequential(one(in_channels, ch5x5red), three(ch5x5red, ch5x5, padding=1))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), one(in_channels, pool_proj)
        )

    def forward(self, x: Tensor) -> Tensor:
        return cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class InceptionAux(nn.Module):
    """A classifier of what lies in the middle of the network, for the training."""

    def __init__(self, in_channels: int, num_classes: int, dropout: float = 0.7) -> None:
        super().__init__()
        self.conv = BasicConv2d(in_channels, 128, kernel_size=1)
        self.fc1 = nn.Linear(2048, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1)
        return self.fc2(self.dropout(F.relu(self.fc1(x))))


class GoogLeNetOutputs(NamedTuple):
    """What GoogLeNet with aux_logits returns in training."""

    logits: Tensor
    aux_logits2: Tensor | None
    aux_logits1: Tensor | None


# The widths of Inception's branches.
_INCEPTIONS = {
    "3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64), "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128), "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}  # fmt: skip


class GoogLeNet(nn.Module):
    """(N, 3, H, W) from 15×15 on → (N, num_classes); with aux_logits in training GoogLeNetOutputs.

    transform_input: images normalised for ImageNet become those of mean 0.5 and deviation 0.5.
    Source: Szegedy et al. 2015.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        aux_logits: bool = True,
        transform_input: bool = False,
        init_weights: bool = True,
        dropout: float = 0.2,
        dropout_aux: float = 0.7,
    ) -> None:
        super().__init__()
        self.aux_logits, self.transform_input = aux_logits, transform_input
        self.conv1 = BasicConv2d(3, 64, kernel_size=7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, kernel_size=1)
        self.conv3 = BasicConv2d(64, 192, kernel_size=3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        for name, widths in _INCEPTIONS.items():
            if name == "4a":
                self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            if name == "5a":
                self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
            self.add_module(f"inception{name}", Inception(*widths))
        self.aux1 = InceptionAux(512, num_classes, dropout_aux) if aux_logits else None
        self.aux2 = InceptionAux(528, num_classes, dropout_aux) if aux_logits else None
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1024, num_classes)
        if init_weights:
            draw = partial(nn.init.trunc_normal_, std=0.01, a=-2, b=2)
            initialise(self, draw, draw, zero_bias=False)

    def forward(self, x: Tensor) -> Tensor | GoogLeNetOutputs:
        if self.transform_input:
            scale, shift = x.new_tensor([[0.229, 0.224, 0.225], [0.485, 0.456, 0.406]])
            x = x * (scale / 0.5).view(3, 1, 1) + ((shift - 0.5) / 0.5).view(3, 1, 1)
        x = self.maxpool2(self.conv3(self.conv2(self.maxpool1(self.conv1(x)))))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        middle = self.inception4a(x)
        later = self.inception4d(self.inception4c(self.inception4b(middle)))
        x = self.maxpool4(self.inception4e(later))
        x = self.inception5b(self.inception5a(x))
        x = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        if not self.training or self.aux1 is None or self.aux2 is None:
            return x
        aux1 = self.aux1(middle)
        return GoogLeNetOutputs(x, self.aux2(later), aux1)


googlenet = builder("googlenet", GoogLeNet)


class _DenseLayer(nn.Module):
    """norm → ReLU → 1×1 convolution → norm → ReLU → 3×3 convolution."""

    def __init__(
        self, channels: int, growth_rate: int, bn_size: int, drop_rate: float, checkpoints: bool
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels, bn_size * growth_rate, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(bn_size * growth_rate)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(bn_size * growth_rate, growth_rate, 3, padding=1, bias=False)
        self.drop_rate = drop_rate
        self.checkpoints = checkpoints

    def _narrow(self, *features: Tensor) -> Tensor:
        return chain(cat(features, 1), self.norm1, self.relu1, self.conv1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        if self.checkpoints and any(each.requires_grad for each in features):
            x = checkpoint.checkpoint(self._narrow, *features, use_reentrant=False)
        else:
            x = self._narrow(*features)
        x = chain(x, self.norm2, self.relu2, self.conv2)
        return F.dropout(x, self.drop_rate, self.training) if self.drop_rate > 0 else x


class _DenseBlock(nn.ModuleDict):
    """Layers of which each reads what all before it made."""

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return cat(features, 1)


class DenseNet(nn.Module):
    """(N, 3, H, W) from 29×29 on → (N, num_classes).

    growth_rate: channels that a layer adds; bn_size: how many times as many its 1×1 convolution
    makes. memory_efficient: these are computed again in the backward pass. Source: Huang et al.
    2017.
    """

    def __init__(
        self,
        growth_rate: int = 32,
        block_config: Sequence[int] = (6, 12, 24, 16),
        num_init_features: int = 64,
        bn_size: int = 4,
        drop_rate: float = 0.0,
        num_classes: int = 1000,
        memory_efficient: bool = False,
    ) -> None:
        super().__init__()
        channels = num_init_features
        layers: dict[str, nn.Module] = {
            "conv0": nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
            "norm0": nn.BatchNorm2d(channels),
            "relu0": nn.ReLU(inplace=True),
            "pool0": nn.MaxPool2d(3, stride=2, padding=1),
        }
        for number, count in enumerate(block_config, 1):
            block = _DenseBlock()
            for index in range(1, count + 1):
                block[f"denselayer{index}"] = _DenseLayer(
                    channels, growth_rate, bn_size, drop_rate, memory_efficient
                )
                channels += growth_rate
            layers[f"denseblock{number}"] = block
            if number < len(block_config):
                transition = {
                    "norm": nn.BatchNorm2d(channels),
                    "relu": nn.ReLU(inplace=True),
                    "conv": nn.Conv2d(channels, channels // 2, 1, bias=False),
                    "pool": nn.AvgPool2d(2, stride=2),
                }
                layers[f"transition{number}"] = nn.Sequential(transition)
                channels //= 2
        layers["norm5"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential(layers)
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self, nn.init.kaiming_normal_)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(F.relu(self.features(x)), 1)
        return self.classifier(x.flatten(1))


densenet121 = builder("densenet121", DenseNet, 32, (6, 12, 24, 16), 64)
densenet161 = builder("densenet161", DenseNet, 48, (6, 12, 36, 24), 96)
densenet169 = builder("densenet169", DenseNet, 32, (6, 12, 32, 32), 64)
densenet201 = builder("densenet201", DenseNet, 32, (6, 12, 48, 32), 64)
