"""Residual networks: ResNet, ResNeXt (grouped convolutions), wide ResNet."""

from __future__ import annotations

from collections.abc import Sequence

from ... import nn
from ...engine import Tensor
from ._common import Layer, builder, chain, he_fan_out, initialise

__all__ = [
    "ResNet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
    "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
]  # fmt: skip


def conv3x3(
    in_planes: int, out_planes: int, stride: int = 1, groups: int = 1, dilation: int = 1
) -> nn.Conv2d:
    return nn.Conv2d(in_planes, out_planes, 3, stride, dilation, dilation, groups, bias=False)


def conv1x1(in_planes: int, out_planes: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_planes, out_planes, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: Layer | None = None,
    ) -> None:
        super().__init__()
        if (groups, base_width, dilation) != (1, 64, 1):
            raise ValueError(
                "BasicBlock: groups, base_width and dilation must be 1, 64 and 1, got "
                f"{groups}, {base_width} and {dilation}"
            )
        norm_layer = norm_layer or nn.BatchNorm2d
        self.conv1 = conv3x3(inplanes, planes, stride)
        self.bn1 = norm_layer(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = norm_layer(planes)
        self.downsample = downsample
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        out = chain(x, self.conv1, self.bn1, self.relu, self.conv2, self.bn2)
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """A 3×3 convolution of fewer channels between 1×1 ones, beside a shortcut; the 3×3 one has the
    stride, as in ResNet 1.5."""

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: Layer | None = None,
    ) -> None:
        super().__init__()
        norm_layer = norm_layer or nn.BatchNorm2d
        width = int(planes * (base_width / 64)) * groups
        self.conv1 = conv1x1(inplanes, width)
        self.bn1 = norm_layer(width)
        self.conv2 = conv3x3(width, width, stride, groups, dilation)
        self.bn2 = norm_layer(width)
        self.conv3 = conv1x1(width, planes * self.expansion)
        self.bn3 = norm_layer(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        out = chain(x, self.conv1, self.bn1, self.relu, self.conv2, self.bn2, self.relu)
        out = chain(out, self.conv3, self.bn3)
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """(N, 3, H, W) → (N, num_classes): four stages of layers[i] blocks.

    zero_init_residual: the last scale of every block begins at 0. replace_stride_with_dilation: for
    each of the last three stages. Source: He et al. 2016; Xie et al. 2017; Zagoruyko 2016.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        layers: Sequence[int],
        num_classes: int = 1000,
        zero_init_residual: bool = False,
        groups: int = 1,
        width_per_group: int = 64,
        replace_stride_with_dilation: Sequence[bool] | None = None,
        norm_layer: Layer | None = None,
    ) -> None:
        super().__init__()
        dilated = replace_stride_with_dilation or (False, False, False)
        if len(dilated) != 3:
            raise ValueError(
                "ResNet: replace_stride_with_dilation must be None or three of True and False, got "
                f"{replace_stride_with_dilation}"
            )
        self._norm_layer = norm_layer or nn.BatchNorm2d
        self.inplanes, self.dilation = 64, 1
        self.groups, self.base_width = groups, width_per_group
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = self._norm_layer(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = self._make_layer(block, 64, layers[0])
        self.layer2 = self._make_layer(block, 128, layers[1], 2, dilated[0])
        self.layer3 = self._make_layer(block, 256, layers[2], 2, dilated[1])
        self.layer4 = self._make_layer(block, 512, layers[3], 2, dilated[2])
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * block.expansion, num_classes)
        initialise(self, he_fan_out)
        if zero_init_residual:
            for each in self.modules():
                if isinstance(each, (BasicBlock, Bottleneck)):
                    last = each.bn3 if isinstance(each, Bottleneck) else each.bn2
                    nn.init.zeros_(last.weight)

    def _make_layer(
        self,
        block: type[BasicBlock | Bottleneck],
        planes: int,
        blocks: int,
        stride: int = 1,
        dilate: bool = False,
    ) -> nn.Sequential:
        before, channels = self.dilation, planes * block.expansion
        if dilate:
            self.dilation, stride = self.dilation * stride, 1
        downsample = None
        if stride != 1 or self.inplanes != channels:
            downsample = nn.Sequential(
                conv1x1(self.inplanes, channels, stride), self._norm_layer(channels)
            )
        found = []
        for _ in range(blocks):
            found.append(
                block(
                    self.inplanes, planes, stride, downsample, self.groups, self.base_width,
                    before, self._norm_layer,
                )
            )  # fmt: skip
            self.inplanes, stride, downsample, before = channels, 1, None, self.dilation
        return nn.Sequential(*found)

    def forward(self, x: Tensor) -> Tensor:
        x = chain(x, self.conv1, self.bn1, self.relu, self.maxpool)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


resnet18 = builder("resnet18", ResNet, BasicBlock, [2, 2, 2, 2])
resnet34 = builder("resnet34", ResNet, BasicBlock, [3, 4, 6, 3])
resnet50 = builder("resnet50", ResNet, Bottleneck, [3, 4, 6, 3])
resnet101 = builder("resnet101", ResNet, Bottleneck, [3, 4, 23, 3])
resnet152 = builder("resnet152", ResNet, Bottleneck, [3, 8, 36, 3])


def _wider(name: str, layers: list[int], groups: int, width_per_group: int) -> Layer:
    return builder(name, ResNet, Bottleneck, layers, groups=groups, width_per_group=width_per_group)


resnext50_32x4d = _wider("resnext50_32x4d", [3, 4, 6, 3], 32, 4)
resnext101_32x8d = _wider("resnext101_32x8d", [3, 4, 23, 3], 32, 8)
resnext101_64x4d = _wider("resnext101_64x4d", [3, 4, 23, 3], 64, 4)
wide_resnet50_2 = _wider("wide_resnet50_2", [3, 4, 6, 3], 1, 128)
wide_resnet101_2 = _wider("wide_resnet101_2", [3, 4, 23, 3], 1, 128)
