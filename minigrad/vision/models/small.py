"""Networks for MNIST and CIFAR-10: the reports', and LeNet.

Each function takes the `nn` namespace to build from: minigrad's by default. The names and
arguments are torch's, so `torch.nn` builds the same network for a comparison.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ... import nn as _nn
from ...engine import Tensor
from ...ops.extrema import maximum

__all__ = ["MnistPyramid", "cifar", "lenet", "mnist_fixed", "mnist_variable"]


def lenet(nn: Any = _nn, channels: int = 1, classes: int = 10) -> Any:
    """LeNet-5 with ReLU and max pools, for 28×28 images. Source: LeCun et al. 1998."""
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, classes),
    )  # fmt: skip


def _stages(nn: Any, *widths: int) -> list[Any]:
    """conv 3×3 → ReLU → max pool from each width to the next."""
    layers: list[Any] = []
    for width, filters in pairwise(widths):
        layers += [nn.Conv2d(width, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return layers


def mnist_fixed(nn: Any = _nn, channels: int = 1, classes: int = 10) -> Any:
    """[conv 3×3 → ReLU → max pool] × 3 and a linear layer, for 28×28 images: 29,066 parameters."""
    stages = _stages(nn, channels, 16, 32, 64)
    return nn.Sequential(*stages, nn.Flatten(), nn.Linear(64 * 3 * 3, classes))


def mnist_variable(
    nn: Any = _nn, channels: int = 1, classes: int = 10, width: int = 81, pool: str = "max"
) -> Any:
    """The same stages, then one number a channel: the maximum or the mean over all positions, so
    that images may have any size from 8×8 on. 29,029 parameters with one input channel.

    width: channels of the last stage; 81 come closest to the parameters of `mnist_fixed`.
    """
    if pool not in ("max", "mean"):
        raise ValueError(f"mnist_variable: pool must be 'max' or 'mean', got {pool!r}")
    globally = nn.AdaptiveMaxPool2d(1) if pool == "max" else nn.AdaptiveAvgPool2d(1)
    stages = _stages(nn, channels, 16, 32, width)
    return nn.Sequential(*stages, globally, nn.Flatten(), nn.Linear(width, classes))


class MnistPyramid(_nn.Module):
    """`mnist_variable` looking at the image and, with the same weights, at the image's half; of
    each channel it keeps the maximum over the positions in both.

    The last stage sees 22 pixels, of digits that are up to 64 pixels large: in the half they fit.
    Images may have any size from 16×16 on.
    """

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        layers = list(mnist_variable(channels=channels, classes=classes))
        self.features = _nn.Sequential(*layers[:-1])
        self.classifier = layers[-1]
        self.shrink = _nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        both = maximum(self.features(x), self.features(self.shrink(x)))
        return self.classifier(both)


def cifar(nn: Any = _nn, batch_norm: bool = False, classes: int = 10, channels: int = 3) -> Any:
    """Eight 3×3 convolutions in four stages, for 32×32 RGB images.

    Network A (batch_norm=False, 294,810 parameters): [conv → ReLU] × 8. Network B (295,770): the
    same with batch normalisation after every ReLU.
    """
    widths = (channels, 16, 16, 32, 32, 64, 64, 128, 128)
    layers: list[Any] = []
    for index, (width, filters) in enumerate(pairwise(widths), start=1):
        layers += [nn.Conv2d(width, filters, 3, padding="same"), nn.ReLU()]
        if batch_norm:
            layers.append(nn.BatchNorm2d(filters))
        if index in (2, 4, 6):
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))
