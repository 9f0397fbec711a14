"""Training and inference steps of networks, written once for both engines."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from examples import networks
from minigrad.vision.models import lenet

from . import networks as untuned
from .engines import Engine
from .outline import Layer
from .outline import layers as outlined

# So low that rounding hardly grows from step to step: at
# 1e-3, torch's own two layouts differ by 0.4 % in the loss of network B's fourth step.
LEARNING_RATE = 1e-4


def _adam(engine: Engine, model: Any, batch: int, **options: Any) -> Any:
    return engine.optim.Adam(model.parameters(), lr=LEARNING_RATE, **options)


def _cross_entropy(engine: Engine, outputs: Any, labels: Any) -> Any:
    return engine.F.cross_entropy(outputs, labels)


def _speedrun_optimizer(engine: Engine, model: Any, batch: int) -> Any:
    """As in examples/speedrun_cifar10.py, which needs more packages than the other networks."""
    from examples import speedrun_cifar10

    return speedrun_cifar10.optimizer(model, batch, engine.optim)


def _speedrun_loss(engine: Engine, outputs: Any, labels: Any) -> Any:
    from examples import speedrun_cifar10

    return speedrun_cifar10.loss(outputs * speedrun_cifar10.LOGIT_SCALE, labels, engine.F)


@dataclass(frozen=True)
class Network:
    """How to build a network, of a package, and what a step of it is.

    image: (H, W, C). labels: shape of an image's labels, which are classes below 10.
    """

    build: Callable[[Any], Any]
    image: tuple[int, int, int]
    labels: tuple[int, ...] = ()
    optimizer: Callable[..., Any] = _adam
    loss: Callable[[Engine, Any, Any], Any] = _cross_entropy


NETWORKS = {
    "MNIST fixed": Network(lambda lib: networks.mnist_fixed(lib.nn), (28, 28, 1)),
    "MNIST variable": Network(lambda lib: networks.mnist_variable(lib.nn), (48, 48, 1)),
    "CIFAR A": Network(lambda lib: networks.cifar(lib.nn), (32, 32, 3)),
    "CIFAR B": Network(lambda lib: networks.cifar(lib.nn, batch_norm=True), (32, 32, 3)),
    "MLP": Network(untuned.mlp, (28, 28, 1)),
    "LeNet": Network(lambda lib: lenet(lib.nn), (28, 28, 1)),
    "ResNet-20": Network(untuned.resnet20, (32, 32, 3)),
    "MobileNet 32²": Network(untuned.mobilenet(stem_stride=1), (32, 32, 3)),
    "MobileNet 96²": Network(untuned.mobilenet(stem_stride=2), (96, 96, 3)),
    "U-Net": Network(untuned.unet, (128, 128, 3), labels=(128, 128)),
    "ResNet-18": Network(untuned.resnet18, (224, 224, 3)),
    "CIFAR speedrun": Network(
        lambda lib: networks.speedrun(lib.nn),
        (32, 32, 3),
        optimizer=_speedrun_optimizer,
        loss=_speedrun_loss,
    ),
}
TRAINING, INFERENCE = "training", "inference"


@dataclass(frozen=True)
class Job:
    """A row of `bench.steps`: a training step, or an inference, of a network on a batch."""

    kind: str
    network: str
    batch: int
    named: bool = False
    """Whether it is measured only if --only names it: it takes minutes."""

    @property
    def label(self) -> str:
        return f"{self.kind}, {self.network}, {self.batch}"


JOBS = [
    *(
        Job(TRAINING, network, batch)
        for network, *sizes in (
            ("MNIST fixed", 16, 128), ("MNIST variable", 16, 128), ("CIFAR A", 64, 128),
            ("CIFAR B", 64, 128), ("MLP", 128), ("LeNet", 64), ("ResNet-20", 64, 128),
            ("MobileNet 32²", 64), ("MobileNet 96²", 16), ("U-Net", 8), ("ResNet-18", 8),
        )
        for batch in sizes
    ),
    Job(TRAINING, "CIFAR speedrun", 1024, named=True),
    *(
        Job(INFERENCE, network, batch)
        for network in (
            "MLP", "LeNet", "ResNet-20", "MobileNet 96²", "CIFAR A", "U-Net", "ResNet-18"
        )
        for batch in (1, 32)
    ),
]  # fmt: skip
QUICK = [
    Job(TRAINING, "MNIST fixed", 16),
    Job(TRAINING, "CIFAR B", 64),
    Job(TRAINING, "ResNet-20", 64),
    Job(INFERENCE, "MLP", 1),
    Job(INFERENCE, "ResNet-20", 1),
]
BATCHES = 4  # cycled through, so that no step sees the data of the one before


def batches(network: Network, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same (N, H, W, C) images and labels in every process."""
    rng = np.random.default_rng(0)
    return [
        (
            rng.standard_normal((size, *network.image)).astype(np.float32),
            rng.integers(0, 10, (size, *network.labels)),
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


def model_and_data(engine: Engine, network: str, batch: int) -> tuple[Any, list[tuple[Any, Any]]]:
    """The network with the same weights in every process, and batches of images and labels."""
    described = NETWORKS[network]
    model = described.build(engine.lib)
    start = weights([(name, tuple(p.shape)) for name, p in model.named_parameters()])
    with engine.lib.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(engine.lib.from_numpy(start[name]))
    data = [
        (engine.tensor(images.transpose(0, 3, 1, 2)), engine.tensor(labels))
        for images, labels in batches(described, batch)
    ]
    return engine.placed(model), data


def step_and_data(
    engine: Engine, network: str, batch: int, **options: Any
) -> tuple[Callable[[Any, Any], Any], list[tuple[Any, Any]]]:
    """step(images, labels), which trains once (forward, backward, optimizer) and returns the loss,
    and the batches to train on. options: of Adam."""
    described = NETWORKS[network]
    model, data = model_and_data(engine, network, batch)
    optimizer = described.optimizer(engine, model, batch, **options)
    forward = engine.compiled(model)

    def step(images: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = described.loss(engine, forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step, data


def cycled(step: Callable[..., Any], data: list[tuple[Any, ...]]) -> Callable[[], Any]:
    """The step without arguments: every call takes the next batch."""
    turn = itertools.cycle(data)
    return lambda: step(*next(turn))


def training_step(engine: Engine, network: str, batch: int) -> Callable[[], list[float]]:
    """A function that trains one step and returns the loss."""
    step, data = step_and_data(engine, network, batch)
    run = cycled(engine.captured(step), data)
    return lambda: [run().item()]


def inference_step(engine: Engine, network: str, batch: int) -> Callable[[], list[Any]]:
    """A function that returns the outputs for one batch, in evaluation and without gradients."""
    model, data = model_and_data(engine, network, batch)
    model.eval()
    run = cycled(engine.captured(engine.compiled(model)), [(images,) for images, _ in data])

    def infer() -> list[Any]:
        with engine.lib.no_grad():
            return [run()]

    return infer


def prepared(engine: Engine, kind: str, network: str, batch: int) -> Callable[[], list[Any]]:
    """What a Job measures."""
    return {TRAINING: training_step, INFERENCE: inference_step}[kind](engine, network, batch)


def layers(network: str) -> list[Layer]:
    """In the order of their calls. No engine starts, in whatever process."""
    H, W, C = NETWORKS[network].image
    return outlined(NETWORKS[network].build, (C, H, W))


def parameter_shapes(network: str) -> list[tuple[int, ...]]:
    return [shape for layer in layers(network) for shape in layer.parameter_shapes]


def flops(kind: str, network: str, batch: int) -> int:
    """Floating-point operations of the products of one step. In training: of outputs, of the input
    gradients of all layers but the first, and of the gradients of weights that are trained."""
    products = [layer for layer in layers(network) if layer.flops]
    total = sum(layer.flops for layer in products)
    if kind == TRAINING:
        total += sum(layer.flops for layer in products[1:])
        total += sum(layer.flops for layer in products if layer.weight.requires_grad)
    return batch * total
