"""What a network's layers are given and compute, found without starting an engine.

A network is built from an `Outline` in place of minigrad or torch, and called with a `Shape`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from minigrad.geometry import conv_output_size


class Shape(tuple[int, ...]):
    """(C, H, W) of an image, or (features,)."""

    def __add__(self, other: Any) -> Shape:  # of the tensors, element by element
        assert self == other, f"{self} + {other}"
        return self


class Layer:
    """A layer by name; after the network was called, what it was given and what it returned."""

    def __init__(self, made: list[Layer], kind: str, *arguments: Any, **options: Any) -> None:
        self.kind, self.arguments, self.options = kind, arguments, options
        self.weight = SimpleNamespace(requires_grad=True)
        self.given = self.out = Shape()
        self._called = made

    def option(self, name: str, default: Any) -> Any:
        return self.options.get(name, default)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Empty for a layer without parameters; a bias has as many elements as `out` channels."""
        match self.kind, self.arguments:
            case "Conv2d", (C_in, C_out, K):
                return C_out, C_in // self.option("groups", 1), K, K
            case "ConvTranspose2d", (C_in, C_out, K):
                return C_in, C_out, K, K
            case "Linear", (features, out):
                return out, features
            case "BatchNorm2d", (C,):
                return (C,)
        return ()

    @property
    def parameter_shapes(self) -> list[tuple[int, ...]]:
        if not self.weight_shape:
            return []
        return [self.weight_shape, self.out[:1]][: 1 + self.option("bias", True)]

    @property
    def flops(self) -> int:
        """Of the layer's product for one image: every weight meets every pixel of the output, or,
        transposed, of the input."""
        if len(self.weight_shape) < 2:
            return 0
        pixels = (self.given if self.kind == "ConvTranspose2d" else self.out)[1:]
        return 2 * math.prod(pixels) * math.prod(self.weight_shape)

    def __call__(self, given: Shape) -> Shape:
        self.given, self.out = given, Shape(self._output(given))
        self._called.append(self)
        return self.out

    def _output(self, given: Shape) -> tuple[int, ...]:
        C, *image = given
        match self.kind, self.arguments:
            case "Conv2d", (_, C_out, K):
                if (padding := self.option("padding", 0)) == "same":
                    return C_out, *image
                stride = self.option("stride", 1)
                return C_out, *(conv_output_size(n, K, stride, 2 * padding, 1) for n in image)
            case "ConvTranspose2d", (_, C_out, K):
                return C_out, *((n - 1) * self.option("stride", 1) + K for n in image)
            case "MaxPool2d", (K,):
                stride, padding = self.option("stride", K), self.option("padding", 0)
                return C, *(conv_output_size(n, K, stride, 2 * padding, 1) for n in image)
            case (("AdaptiveAvgPool2d" | "AdaptiveMaxPool2d"), (1,)):
                return C, 1, 1
            case "Flatten", ():
                return (math.prod(given),)
            case "Linear", (_, out):
                return (out,)
        return given  # what works element by element


class _Module:
    def __call__(self, given: Shape) -> Shape:
        return self.forward(given)

    def forward(self, given: Shape) -> Shape:
        raise AssertionError("a module has a forward of its own")


class _Sequential(_Module):
    def __init__(self, *layers: Any) -> None:
        self.layers = layers

    def forward(self, given: Shape) -> Shape:
        for layer in self.layers:
            given = layer(given)
        return given


class Outline:
    """In place of a package: `called` lists its layers in the order of their calls."""

    Module, Sequential = _Module, _Sequential

    def __init__(self) -> None:
        self.nn = self
        self.called: list[Layer] = []

    def cat(self, shapes: list[Shape], dim: int) -> Shape:
        assert dim == 1
        return Shape((sum(shape[0] for shape in shapes), *shapes[0][1:]))

    def __getattr__(self, kind: str) -> Callable[..., Layer]:
        return lambda *arguments, **options: Layer(self.called, kind, *arguments, **options)


def layers(build: Callable[[Any], Any], image: tuple[int, int, int]) -> list[Layer]:
    """The layers of a network, which is called with one (C, H, W) image."""
    outline = Outline()
    build(outline)(Shape(image))
    return outline.called
