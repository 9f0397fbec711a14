"""The networks that the examples and benchmarks share.

Each function takes the `nn` namespace to build from: minigrad's by default. The names and
arguments are torch's, so `torch.nn` builds the same network for a comparison.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import minigrad.nn


def _stages(nn: Any, *widths: int) -> list[Any]:
    """conv 3×3 → ReLU → max pool from each width to the next."""
    layers: list[Any] = []
    for width, filters in pairwise(widths):
        layers += [nn.Conv2d(width, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return layers


def mnist_fixed(nn: Any = minigrad.nn, channels: int = 1, classes: int = 10) -> Any:
    """[conv 3×3 → ReLU → max pool] × 3 and a linear layer, for 28×28 images: 29,066 parameters."""
    stages = _stages(nn, channels, 16, 32, 64)
    return nn.Sequential(*stages, nn.Flatten(), nn.Linear(64 * 3 * 3, classes))


def mnist_variable(
    nn: Any = minigrad.nn, channels: int = 1, classes: int = 10, width: int = 81, pool: str = "max"
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


class MnistPyramid(minigrad.nn.Module):
    """`mnist_variable` looking at the image and, with the same weights, at the image's half; of
    each channel it keeps the maximum over the positions in both.

    The last stage sees 22 pixels, of digits that are up to 64 pixels large: in the half they fit.
    Images may have any size from 16×16 on.
    """

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        layers = list(mnist_variable(channels=channels, classes=classes))
        self.features = minigrad.nn.Sequential(*layers[:-1])
        self.classifier = layers[-1]
        self.shrink = minigrad.nn.AvgPool2d(2)

    def forward(self, x: minigrad.Tensor) -> minigrad.Tensor:
        both = minigrad.maximum(self.features(x), self.features(self.shrink(x)))
        return self.classifier(both)


def cifar(
    nn: Any = minigrad.nn, batch_norm: bool = False, classes: int = 10, channels: int = 3
) -> Any:
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


def speedrun(nn: Any = minigrad.nn, classes: int = 10) -> Any:
    """For 32×32 RGB images: a 2×2 convolution that whitens, three groups of two 3×3 convolutions,
    the maximum over the last 3×3 pixels, a linear layer: 1,972,792 parameters.

    Scales of batch norm are frozen at 1, and the filters of the first layer where they start.
    Source: Jordan 2024 (airbench94).
    """
    whitened = 2 * 3 * 2 * 2
    layers = [nn.Conv2d(3, whitened, 2), nn.GELU()]
    layers[0].weight.requires_grad = False
    for C_in, C_out in pairwise((whitened, 64, 256, 256)):
        for width, pool in ((C_in, [nn.MaxPool2d(2)]), (C_out, [])):
            convolution = nn.Conv2d(width, C_out, 3, padding=1, bias=False)
            norm = nn.BatchNorm2d(C_out, eps=1e-12, momentum=0.4)
            norm.weight.requires_grad = False
            layers += [convolution, *pool, norm, nn.GELU()]
    return nn.Sequential(
        *layers, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(256, classes, bias=False)
    )


_BUILDERS = {
    "fixed": mnist_fixed,
    "variable": mnist_variable,
    "variable-mean": partial(mnist_variable, pool="mean"),
    "pyramid": MnistPyramid,
    "A": cifar,
    "B": partial(cifar, batch_norm=True),
}


def build(name: str, channels: int) -> minigrad.nn.Module:
    """The network that the recipes call so, for images of so many channels."""
    return _BUILDERS[name](channels=channels)


def he_init(model: minigrad.nn.Module) -> None:
    """Weights of convolutions from N(0, 2 / fan_in), biases 0: activations keep their size from
    ReLU to ReLU, which a deep network without batch normalisation needs. Source: He et al. 2015."""
    for layer in model.modules():
        if isinstance(layer, minigrad.nn.Conv2d):
            minigrad.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            minigrad.nn.init.zeros_(layer.bias)


def parameter_count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def counted_widths(parameters: int, around: int = 2) -> list[tuple[int, int]]:
    """(N, parameters) of variable networks whose last stage has N channels: those with about so
    many parameters, the closest in the middle."""

    def count(width: int) -> int:
        return parameter_count(mnist_variable(width=width))

    # A linear function of the width.
    step = count(2) - count(1)
    closest = round((parameters - count(1)) / step) + 1
    return [(width, count(width)) for width in range(closest - around, closest + around + 1)]
