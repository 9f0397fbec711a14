"""Inverted residuals (1×1 to more channels, a depthwise convolution, 1×1 to fewer): MobileNetV2,
MobileNetV3, EfficientNet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from ... import nn
from ...engine import Tensor
from ...nn import functional as F
from ..misc import Conv2dNormActivation, SqueezeExcitation
from ..stochastic_depth import StochasticDepth
from ._common import Classifier, Layer, builder, divisible, he_fan_out, initialise

__all__ = [
    "EfficientNet", "MobileNetV2", "MobileNetV3", "efficientnet_b0", "efficientnet_b1",
    "efficientnet_b2", "efficientnet_b3", "efficientnet_b4", "efficientnet_b5", "efficientnet_b6",
    "efficientnet_b7", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small",
]  # fmt: skip


def _inverted(
    C_in: int,
    expanded: int,
    C_out: int,
    kernel_size: int,
    stride: int,
    norm: Layer,
    activation: Layer,
    squeeze: nn.Module | None = None,
    dilation: int = 1,
) -> list[nn.Module]:
    """Where nothing is expanded, the first convolution is left out; `squeeze` comes before the
    last."""
    some = partial(Conv2dNormActivation, norm_layer=norm, activation_layer=activation)
    depthwise = some(
        expanded, expanded, kernel_size, 1 if dilation > 1 else stride, groups=expanded,
        dilation=dilation,
    )  # fmt: skip
    return [
        *([some(C_in, expanded, 1)] if expanded != C_in else []),
        depthwise,
        *([squeeze] if squeeze is not None else []),
        Conv2dNormActivation(expanded, C_out, 1, norm_layer=norm, activation_layer=None),
    ]


class InvertedResidual(nn.Module):
    """Its convolutions, with a shortcut where the shape stays: what `_inverted` takes, and the
    probability of leaving the branch out in training."""

    def __init__(
        self, C_in: int, expanded: int, C_out: int, kernel_size: int, stride: int, *more: Any,
        drop: float = 0.0, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.use_res_connect = stride == 1 and C_in == C_out
        self.block = nn.Sequential(
            *_inverted(C_in, expanded, C_out, kernel_size, stride, *more, **options)
        )
        self.stochastic_depth = StochasticDepth(drop, "row")
        self.out_channels = C_out

    def forward(self, input: Tensor) -> Tensor:
        result = self.block(input)
        return self.stochastic_depth(result) + input if self.use_res_connect else result


class InvertedResidualV2(nn.Module):
    """MobileNetV2's, whose names are others."""

    def __init__(
        self, inp: int, oup: int, stride: int, expand_ratio: float, norm_layer: Layer | None = None
    ) -> None:
        super().__init__()
        self.use_res_connect = stride == 1 and inp == oup
        *layers, last = _inverted(
            inp, round(inp * expand_ratio), oup, 3, stride, norm_layer or nn.BatchNorm2d, nn.ReLU6
        )
        self.conv = nn.Sequential(*layers, *last)
        self.out_channels = oup

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    """(N, 3, H, W) → (N, num_classes). inverted_residual_setting: rows of (expansion, channels,
    blocks, stride of the first). Source: Sandler et al. 2018."""

    def __init__(
        self,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        inverted_residual_setting: Sequence[Sequence[int]] | None = None,
        round_nearest: int = 8,
        block: Layer | None = None,
        norm_layer: Layer | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        norm_layer = norm_layer or nn.BatchNorm2d
        setting = inverted_residual_setting or (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1),
        )  # fmt: skip
        some = partial(Conv2dNormActivation, norm_layer=norm_layer, activation_layer=nn.ReLU6)
        channels = divisible(32 * width_mult, round_nearest)
        layers: list[nn.Module] = [some(3, channels, stride=2)]
        for expansion, width, count, stride in setting:
            for index in range(count):
                C_out = divisible(width * width_mult, round_nearest)
                layers.append(
                    (block or InvertedResidualV2)(
                        channels, C_out, 1 if index else stride, expansion, norm_layer=norm_layer
                    )
                )
                channels = C_out
        self.last_channel = divisible(1280 * max(1.0, width_mult), round_nearest)
        self.features = nn.Sequential(*layers, some(channels, self.last_channel, 1))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(self.last_channel, num_classes)
        )
        initialise(self, he_fan_out, partial(nn.init.normal_, std=0.01))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


mobilenet_v2 = builder("mobilenet_v2", MobileNetV2)


# (kernel size, expanded, channels, squeeze and excitation, Hardswish, stride), and the channels
# before the classifier; from the row `tail` on, channels may be halved or strides be dilations.
_V3: dict[str, tuple[list[tuple[int, int, int, bool, bool, int]], int, int]] = {
    "large": (
        [
            (3, 16, 16, False, False, 1), (3, 64, 24, False, False, 2),
            (3, 72, 24, False, False, 1), (5, 72, 40, True, False, 2),
            (5, 120, 40, True, False, 1), (5, 120, 40, True, False, 1),
            (3, 240, 80, False, True, 2), (3, 200, 80, False, True, 1),
            (3, 184, 80, False, True, 1), (3, 184, 80, False, True, 1),
            (3, 480, 112, True, True, 1), (3, 672, 112, True, True, 1),
            (5, 672, 160, True, True, 2), (5, 960, 160, True, True, 1),
            (5, 960, 160, True, True, 1),
        ], 12, 1280,
    ),
    "small": (
        [
            (3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2),
            (3, 88, 24, False, False, 1), (5, 96, 40, True, True, 2),
            (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1),
            (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1),
            (5, 288, 96, True, True, 2), (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1),
        ], 8, 1024,
    ),
}  # fmt: skip


class MobileNetV3(Classifier):
    """(N, 3, H, W) → (N, num_classes). arch: "large" or "small". Source: Howard et al. 2019."""

    def __init__(
        self,
        arch: str,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        reduced_tail: bool = False,
        dilated: bool = False,
        norm_layer: Layer | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        rows, tail, last = _V3[arch]
        norm = norm_layer or partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        some = partial(Conv2dNormActivation, norm_layer=norm, activation_layer=nn.Hardswish)
        channels = divisible(16 * width_mult)
        layers: list[nn.Module] = [some(3, channels, stride=2)]
        for row, (kernel_size, expanded, C_out, squeezes, hard, stride) in enumerate(rows):
            fewer = 2 if reduced_tail and row >= tail else 1
            # The first row of the tail expands what comes before it.
            expanded //= fewer if row > tail else 1
            expanded, C_out = (
                divisible(expanded * width_mult),
                divisible(C_out // fewer * width_mult),
            )
            squeeze = None
            if squeezes:
                squeeze = SqueezeExcitation(
                    expanded, divisible(expanded // 4), scale_activation=nn.Hardsigmoid
                )
            layers.append(
                InvertedResidual(
                    channels, expanded, C_out, kernel_size, stride, norm,
                    nn.Hardswish if hard else nn.ReLU, squeeze, 2 if dilated and row >= tail else 1,
                )
            )  # fmt: skip
            channels = C_out
        self.features = nn.Sequential(*layers, some(channels, 6 * channels, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        last = divisible(last // (2 if reduced_tail else 1) * width_mult)
        self.classifier = nn.Sequential(
            nn.Linear(6 * channels, last), nn.Hardswish(inplace=True),
            nn.Dropout(dropout, inplace=True), nn.Linear(last, num_classes),
        )  # fmt: skip
        initialise(self, he_fan_out, partial(nn.init.normal_, std=0.01))


mobilenet_v3_large = builder("mobilenet_v3_large", MobileNetV3, "large")
mobilenet_v3_small = builder("mobilenet_v3_small", MobileNetV3, "small")


def _uniform_by_outputs(weight: Tensor) -> None:
    bound = 1 / math.sqrt(weight.shape[0])
    nn.init.uniform_(weight, -bound, bound)


class EfficientNet(Classifier):
    """(N, 3, H, W) → (N, num_classes). Channels and blocks are those of B0 times width_mult and
    depth_mult. Source: Tan and Le 2019."""

    def __init__(
        self,
        width_mult: float = 1.0,
        depth_mult: float = 1.0,
        dropout: float = 0.2,
        stochastic_depth_prob: float = 0.2,
        num_classes: int = 1000,
        norm_layer: Layer | None = None,
    ) -> None:
        super().__init__()
        norm = norm_layer or nn.BatchNorm2d
        some = partial(Conv2dNormActivation, norm_layer=norm, activation_layer=nn.SiLU)
        # (expansion, kernel size, stride of the first, channels, blocks)
        rows = [
            (expansion, kernel_size, stride, divisible(C * width_mult), math.ceil(n * depth_mult))
            for expansion, kernel_size, stride, C, n in (
                (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
                (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
            )
        ]  # fmt: skip
        drop_step = stochastic_depth_prob / sum(count for *_, count in rows)
        channels = divisible(32 * width_mult)
        stages: list[nn.Module] = [some(3, channels, stride=2)]
        before = 0
        for expansion, kernel_size, stride, C_out, count in rows:
            blocks = []
            for index in range(count):
                expanded = divisible(channels * expansion)
                squeeze = SqueezeExcitation(
                    expanded, max(1, channels // 4), partial(nn.SiLU, inplace=True)
                )
                blocks.append(
                    InvertedResidual(
                        channels, expanded, C_out, kernel_size, 1 if index else stride, norm,
                        nn.SiLU, squeeze, drop=drop_step * (before + index),
                    )
                )  # fmt: skip
                channels = C_out
            stages.append(nn.Sequential(*blocks))
            before += count
        self.features = nn.Sequential(*stages, some(channels, 4 * channels, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout, inplace=True), nn.Linear(4 * channels, num_classes)
        )
        initialise(self, he_fan_out, _uniform_by_outputs)


_slow_norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
efficientnet_b0 = builder("efficientnet_b0", EfficientNet, 1.0, 1.0, dropout=0.2)
efficientnet_b1 = builder("efficientnet_b1", EfficientNet, 1.0, 1.1, dropout=0.2)
efficientnet_b2 = builder("efficientnet_b2", EfficientNet, 1.1, 1.2, dropout=0.3)
efficientnet_b3 = builder("efficientnet_b3", EfficientNet, 1.2, 1.4, dropout=0.3)
efficientnet_b4 = builder("efficientnet_b4", EfficientNet, 1.4, 1.8, dropout=0.4)
efficientnet_b5 = builder(
    "efficientnet_b5", EfficientNet, 1.6, 2.2, dropout=0.4, norm_layer=_slow_norm
)
efficientnet_b6 = builder(
    "efficientnet_b6", EfficientNet, 1.8, 2.6, dropout=0.5, norm_layer=_slow_norm
)
efficientnet_b7 = builder(
    "efficientnet_b7", EfficientNet, 2.0, 3.1, dropout=0.5, norm_layer=_slow_norm
)
