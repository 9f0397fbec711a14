"""Networks of common design that nobody tuned minigrad for, written once for both engines.

Each takes the package to build from, minigrad or torch: `lib.nn` and `lib.cat`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any


def mlp(lib: Any) -> Any:
    """784 → 512 → 256 → 10, for 28×28 images."""
    nn = lib.nn
    hidden = [
        layer for pair in pairwise((784, 512, 256)) for layer in (nn.Linear(*pair), nn.ReLU())
    ]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(256, 10))


def _conv_norm(
    nn: Any, C_in: int, C_out: int, K: int, *last: Any, stride: int = 1, groups: int = 1
) -> list[Any]:
    """conv without bias → batch norm, and what follows."""
    convolution = nn.Conv2d(
        C_in, C_out, K, stride=stride, padding=K // 2, groups=groups, bias=False
    )
    return [convolution, nn.BatchNorm2d(C_out), *last]


def _residual(nn: Any, body: list[Any], shortcut: list[Any], last: Any) -> Any:
    """last(body(x) + shortcut(x))"""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(*body)
            self.shortcut = nn.Sequential(*shortcut) if shortcut else nn.Identity()
            self.last = last

        def forward(self, x: Any) -> Any:
            return self.last(self.body(x) + self.shortcut(x))

    return Residual()


def _basic_blocks(nn: Any, widths: tuple[int, ...], count: int) -> list[Any]:
    """`count` residual blocks of two 3×3 convolutions for each width; from the second width on,
    the first of them halves height and width. Source: He et al. 2016."""
    blocks = []
    for C_in, C_out in pairwise((widths[0], *widths)):
        for index in range(count):
            width, stride = (C_in, 1 + (C_in != C_out)) if index == 0 else (C_out, 1)
            body = [
                *_conv_norm(nn, width, C_out, 3, nn.ReLU(), stride=stride),
                *_conv_norm(nn, C_out, C_out, 3),
            ]
            shortcut = _conv_norm(nn, width, C_out, 1, stride=stride) if stride != 1 else []
            blocks.append(_residual(nn, body, shortcut, nn.ReLU()))
    return blocks


def _head(nn: Any, features: int, classes: int) -> list[Any]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes)]


def resnet20(lib: Any) -> Any:
    """For 32×32 images, with 1×1 convolutions as shortcuts between widths."""
    nn = lib.nn
    return nn.Sequential(
        *_conv_norm(nn, 3, 16, 3, nn.ReLU()),
        *_basic_blocks(nn, (16, 32, 64), 3),
        *_head(nn, 64, 10),
    )


def resnet18(lib: Any) -> Any:
    """For 224×224 images and 1,000 classes."""
    nn = lib.nn
    return nn.Sequential(
        *_conv_norm(nn, 3, 64, 7, nn.ReLU(), stride=2),
        nn.MaxPool2d(3, stride=2, padding=1),
        *_basic_blocks(nn, (64, 128, 256, 512), 2),
        *_head(nn, 512, 1000),
    )


def mobilenet(stem_stride: int) -> Callable[[Any], Any]:
    """Like MobileNetV2, with seven inverted residual blocks. Source: Sandler et al. 2018."""

    def build(lib: Any) -> Any:
        nn = lib.nn
        layers = _conv_norm(nn, 3, 32, 3, nn.ReLU6(), stride=stem_stride)
        C_in = 32
        for expansion, C_out, count, first_stride in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 2), (6, 64, 2, 2),
        ):  # fmt: skip
            for index in range(count):
                stride, width = (first_stride if index == 0 else 1), C_in * expansion
                body = [
                    *(_conv_norm(nn, C_in, width, 1, nn.ReLU6()) if expansion > 1 else []),
                    *_conv_norm(nn, width, width, 3, nn.ReLU6(), stride=stride, groups=width),
                    *_conv_norm(nn, width, C_out, 1),
                ]
                if stride == 1 and C_in == C_out:
                    layers.append(_residual(nn, body, [], nn.Identity()))
                else:
                    layers += body
                C_in = C_out
        return nn.Sequential(
            *layers, *_conv_norm(nn, C_in, 256, 1, nn.ReLU6()), *_head(nn, 256, 10)
        )

    return build


def unet(lib: Any) -> Any:
    """A class for every pixel: widths 16, 32, 64 and 128, with batch norm. Source: Ronneberger et
    al. 2015."""
    nn = lib.nn

    def twice(C_in: int, C_out: int) -> Any:
        return nn.Sequential(
            *_conv_norm(nn, C_in, C_out, 3, nn.ReLU()), *_conv_norm(nn, C_out, C_out, 3, nn.ReLU())
        )

    class Level(nn.Module):
        """A level with all that lies below it."""

        def __init__(self, C_in: int, width: int, deepest: int) -> None:
            super().__init__()
            below = 2 * width
            self.before, self.pool = twice(C_in, width), nn.MaxPool2d(2)
            self.below = twice(width, below) if below == deepest else Level(width, below, deepest)
            self.up = nn.ConvTranspose2d(below, width, 2, stride=2)
            self.after = twice(2 * width, width)

        def forward(self, x: Any) -> Any:
            kept = self.before(x)
            return self.after(lib.cat([kept, self.up(self.below(self.pool(kept)))], 1))

    return nn.Sequential(Level(3, 16, 128), nn.Conv2d(16, 10, 1))
