"""Training steps of the example networks, and what their layers compute."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from examples import networks

from .engines import Engine

NETWORKS: dict[str, tuple[Callable[[Any], Any], tuple[int, int, int]]] = {
    "MNIST fixed": (networks.mnist_fixed, (28, 28, 1)),
    "MNIST variable": (networks.mnist_variable, (48, 48, 1)),
    "CIFAR A": (networks.cifar, (32, 32, 3)),
    "CIFAR B": (lambda nn: networks.cifar(nn, batch_norm=True), (32, 32, 3)),
}
CONFIGURATIONS = [
    ("MNIST fixed", 16),
    ("MNIST fixed", 128),
    ("MNIST variable", 16),
    ("MNIST variable", 128),
    ("CIFAR A", 64),
    ("CIFAR A", 128),
    ("CIFAR B", 64),
    ("CIFAR B", 128),
]
# Under --quick, and where the convolutions that `bench.kernels` measures come from.
QUICK = [("MNIST fixed", 16), ("MNIST fixed", 128), ("CIFAR A", 64), ("CIFAR B", 64)]
LEARNING_RATE = 1e-3
BATCHES = 4  # cycled through, so that no step sees the data of the one before


def batches(shape: tuple[int, int, int], size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same (N, H, W, C) images and labels in every process."""
    rng = np.random.default_rng(0)
    return [
        (
            rng.standard_normal((size, *shape)).astype(np.float32),
            rng.integers(0, 10, size),
        )
        for _ in range(BATCHES)
    ]


def weights(named_shapes: list[tuple[str, tuple[int, ...]]]) -> dict[str, np.ndarray]:
    """The same starting weights in every process, of the size of torch's initialisation."""
    rng = np.random.default_rng(1)
    values = {}
    for name, shape in named_shapes:
        if len(shape) > 1:
            bound = 1 / np.sqrt(np.prod(shape[1:]))
            values[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
        elif name.endswith("weight"):
            values[name] = np.ones(shape, np.float32)
        else:
            values[name] = np.zeros(shape, np.float32)
    return values


def step_and_data(
    engine: Engine, network: str, batch: int, **options: Any
) -> tuple[Callable[[Any, Any], Any], list[tuple[Any, Any]]]:
    """step(images, labels), which trains once (forward, backward, Adam) and returns the loss, and
    the batches to train on. options: of Adam."""
    build, shape = NETWORKS[network]
    model = build(engine.nn)
    start = weights([(name, tuple(p.shape)) for name, p in model.named_parameters()])
    with engine.lib.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(engine.lib.from_numpy(start[name]))
    model = engine.placed(model)
    optimizer = engine.optim.Adam(model.parameters(), lr=LEARNING_RATE, **options)
    data = [
        (engine.tensor(images.transpose(0, 3, 1, 2)), engine.tensor(labels))
        for images, labels in batches(shape, batch)
    ]
    forward = engine.compiled(model)

    def step(images: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = engine.F.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step, data


def cycled(step: Callable[[Any, Any], Any], data: list[tuple[Any, Any]]) -> Callable[[], Any]:
    """The step without arguments: every call takes the next batch."""
    turn = itertools.cycle(data)
    return lambda: step(*next(turn))


def training_step(engine: Engine, network: str, batch: int) -> Callable[[], list[float]]:
    """A function that trains one step and returns the loss."""
    step = cycled(*step_and_data(engine, network, batch))
    return lambda: [step().item()]


@dataclass(frozen=True)
class Layer:
    """A layer of a network by name, and the height and width of what it is given."""

    kind: str
    arguments: tuple[Any, ...]
    H: int = 0
    W: int = 0

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Empty for a layer without parameters; a bias has its first axis."""
        if self.kind == "Conv2d":
            C_in, C_out, K = self.arguments
            return C_out, C_in, K, K
        if self.kind == "Linear":
            features, out = self.arguments
            return out, features
        return self.arguments if self.kind == "BatchNorm2d" else ()

    @property
    def flops(self) -> int:
        """Of the layer's product for one image; convolutions here keep height and width."""
        if self.kind == "Conv2d":
            return 2 * self.H * self.W * math.prod(self.weight_shape)
        return 2 * math.prod(self.weight_shape) if self.kind == "Linear" else 0


class _Outline:
    """An `nn` whose layers only say what they are: no engine starts, in whatever process."""

    def Sequential(self, *layers: Layer) -> tuple[Layer, ...]:
        return layers

    def __getattr__(self, kind: str) -> Callable[..., Layer]:
        return lambda *arguments, **options: Layer(kind, arguments)


def layers(network: str) -> list[Layer]:
    build, (H, W, _) = NETWORKS[network]
    sized = []
    for layer in build(_Outline()):
        sized.append(replace(layer, H=H, W=W))
        if layer.kind == "MaxPool2d":
            H, W = H // 2, W // 2
    return sized


def parameter_shapes(network: str) -> list[tuple[int, ...]]:
    """Of weights and biases in turn."""
    weights = [layer.weight_shape for layer in layers(network) if layer.weight_shape]
    return [shape for weight in weights for shape in (weight, weight[:1])]


def step_flops(network: str, batch: int) -> int:
    """Floating-point operations of one step's products: forward, input and weight gradients."""
    products = [layer.flops for layer in layers(network) if layer.flops]
    # The images themselves need no gradient.
    return batch * (3 * sum(products) - products[0])
