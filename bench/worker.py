"""One engine in one process: trains a network and tells how long each step took.

minigrad and torch bring an OpenMP runtime each, and two of them in one process spin on each
other's cores. So every engine has its own process, and the parent lets one work at a time.
Requests and answers are lines of JSON on standard input and output.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from examples import networks

NETWORKS: dict[str, tuple[Callable[[Any], Any], tuple[int, int, int]]] = {
    "MNIST fixed": (networks.mnist_fixed, (28, 28, 1)),
    "CIFAR A": (networks.cifar, (32, 32, 3)),
    "CIFAR B": (lambda nn: networks.cifar(nn, batch_norm=True), (32, 32, 3)),
}
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


def minigrad_step(network: str, batch: int, threads: int) -> Callable[[], float]:
    """A function that trains one step and returns the loss."""
    import minigrad as mg
    import minigrad.nn.functional as F

    mg.set_num_threads(threads)
    build, shape = NETWORKS[network]
    model = build(mg.nn)
    start = weights([(name, p.shape) for name, p in model.named_parameters()])
    with mg.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(mg.tensor(start[name]))
    optimizer = mg.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    data = [
        (mg.from_numpy(images.transpose(0, 3, 1, 2)), mg.from_numpy(labels))
        for images, labels in batches(shape, batch)
    ]
    turn = iter(range(10**9))

    def step() -> float:
        images, labels = data[next(turn) % BATCHES]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torch_step(network: str, batch: int, threads: int, mode: str) -> Callable[[], float]:
    """The same in torch: mode 'nchw' or 'channels_last', eager, or 'compile'."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    build, shape = NETWORKS[network]
    model = build(torch.nn)
    layout = torch.channels_last if mode == "channels_last" else torch.contiguous_format
    start = weights([(name, tuple(p.shape)) for name, p in model.named_parameters()])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(start[name]))
    model = model.to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    data = [
        (
            torch.from_numpy(images.transpose(0, 3, 1, 2)).contiguous(memory_format=layout),
            torch.from_numpy(labels),
        )
        for images, labels in batches(shape, batch)
    ]
    forward = torch.compile(model) if mode == "compile" else model
    turn = iter(range(10**9))

    def step() -> float:
        images, labels = data[next(turn) % BATCHES]
        optimizer.zero_grad()
        loss = F.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


SGEMM_SIZE = 1024


def sgemm_step(network: str, batch: int, threads: int) -> Callable[[], float]:
    """A large float32 product in torch: the rate that no multiply-add of a step exceeds."""
    import torch

    torch.set_num_threads(threads)
    left, right, out = (torch.rand(SGEMM_SIZE, SGEMM_SIZE) for _ in range(3))

    def step() -> float:
        torch.mm(left, right, out=out)
        return float(out[0, 0])

    return step


def step_flops(network: str, batch: int) -> int:
    """Floating-point operations of one step's products: forward, input and weight gradients."""
    from minigrad import nn

    build, (H, W, _) = NETWORKS[network]
    forward = first = 0
    for layer in build(nn):
        if isinstance(layer, nn.Conv2d):
            kH, kW = layer.kernel_size
            now = 2 * H * W * layer.in_channels * layer.out_channels * kH * kW
        elif isinstance(layer, nn.Linear):
            now = 2 * layer.in_features * layer.out_features
        else:
            if isinstance(layer, nn.MaxPool2d):
                H, W = H // 2, W // 2
            continue
        first, forward = first or now, forward + now
    # The images themselves need no gradient.
    return batch * (3 * forward - first)


def main() -> None:
    settings = json.loads(sys.argv[1])
    engine = settings.pop("engine")
    if engine == "minigrad":
        step = minigrad_step(**settings)
    elif engine == "sgemm":
        step = sgemm_step(**settings)
    else:
        step = torch_step(**settings, mode=engine.removeprefix("torch "))
    for line in sys.stdin:
        times, losses = [], []
        for _ in range(json.loads(line)["steps"]):
            start = time.perf_counter()
            losses.append(step())
            times.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": times, "losses": losses, "peak_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()
