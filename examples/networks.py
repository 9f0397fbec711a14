"""The networks that the examples and benchmarks share; the reports' are in minigrad.vision.models.

Each function takes the `nn` namespace to build from: minigrad's by default. The names and
arguments are torch's, so `torch.nn` builds the same network for a comparison.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import minigrad.nn
from minigrad.vision.models import MnistPyramid, cifar, mnist_fixed, mnist_variable


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
