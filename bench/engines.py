"""minigrad and torch behind the few names in which they differ.

Their operations have the same names and signatures, so a benchmark is written once and takes the
engine as an argument. Each engine gets the memory layout that its own layers would give it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

MINIGRAD, CAPTURED = "minigrad", "minigrad captured"
HIGH = " high"  # at the end of either, in this precision of float32 products
EAGER = ("torch nchw", "torch channels_last")
COMPILED = ("torch compile", "torch compile channels_last")


class Engine(ABC):
    """What a benchmark needs of an engine."""

    name: str
    lib: Any
    """The package: no_grad, from_numpy, sum, …"""
    nn: Any
    F: Any
    optim: Any
    regions: Any
    """Where roi_pool and roi_align are."""

    @property
    def channels_last(self) -> bool:
        """Whether this engine differs from another only in the layout of four-dimensional data."""
        return self.name.endswith("channels_last")

    @abstractmethod
    def tensor(self, array: np.ndarray, weight: bool = False) -> Any:
        """A copy, in the memory order in which the engine keeps activations or weights.

        It lies in the engine's own memory, aligned as that is.
        """

    @abstractmethod
    def gradients(self, out: Any, inputs: Sequence[Any], grad_output: Any = None) -> list[Any]:
        """Gradients of `out` with respect to leaves. The graph stays, if grad_output is given."""

    def placed(self, model: Any) -> Any:
        """The model with its parameters in this engine's memory order."""
        return model

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, compiled if that is what this engine is about."""
        return function

    def captured(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """The step, recorded and replayed if that is what this engine is about."""
        return step

    def forget(self) -> None:  # noqa: B027 — most engines compile nothing
        """Drop what was compiled for earlier benchmarks."""


# Memory order of minigrad's tensors, by their number of axes: activations (N, H, W, C), weights of
# a convolution (kH, kW, C_in, C_out) and of a linear layer (in, out). All others lie in C order.
_ORDERS = {4: (0, 2, 3, 1)}
_WEIGHT_ORDERS = {4: (2, 3, 1, 0), 2: (1, 0)}


class Minigrad(Engine):
    """Activations channels-last, weights in the memory order of its layers.

    Its name says what else is asked of it: "minigrad", "minigrad captured", and both with " high"
    for that precision of float32 products.
    """

    def __init__(self, name: str = MINIGRAD) -> None:
        import minigrad
        import minigrad.nn.functional

        self.name = name
        self.lib = minigrad
        if name.endswith(HIGH):
            minigrad.set_float32_matmul_precision("high")
        self.nn, self.optim = minigrad.nn, minigrad.optim
        self.F = self.regions = minigrad.nn.functional

    def tensor(self, array: np.ndarray, weight: bool = False) -> Any:
        if order := (_WEIGHT_ORDERS if weight else _ORDERS).get(array.ndim):
            array = np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))
        return self.lib.from_numpy(array).clone()

    def captured(self, step: Callable[..., Any]) -> Callable[..., Any]:
        return self.lib.capture(step) if self.name.startswith(CAPTURED) else step

    def gradients(self, out: Any, inputs: Sequence[Any], grad_output: Any = None) -> list[Any]:
        for each in inputs:
            each.grad = None
        out.backward(grad_output, retain_graph=grad_output is not None)
        return [each.grad for each in inputs]


class Torch(Engine):
    """One of torch's two layouts, eager or compiled."""

    def __init__(self, name: str) -> None:
        import torch

        self.name = name
        self.lib = torch
        self.nn, self.F, self.optim = torch.nn, torch.nn.functional, torch.optim
        self.layout = torch.channels_last if self.channels_last else torch.contiguous_format
        if name in COMPILED:
            import torch._functorch.config

            # Otherwise a compiled backward pass runs once only; we keep the graph and repeat it.
            torch._functorch.config.donated_buffer = False

    @property
    def regions(self) -> Any:
        import torchvision

        return torchvision.ops

    def tensor(self, array: np.ndarray, weight: bool = False) -> Any:
        tensor = self.lib.from_numpy(array).clone()
        return tensor.contiguous(memory_format=self.layout) if array.ndim == 4 else tensor

    def gradients(self, out: Any, inputs: Sequence[Any], grad_output: Any = None) -> list[Any]:
        return list(
            self.lib.autograd.grad(
                out, list(inputs), grad_output, retain_graph=grad_output is not None
            )
        )

    def placed(self, model: Any) -> Any:
        return model.to(memory_format=self.layout)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self.lib.compile(function, dynamic=False) if self.name in COMPILED else function

    def forget(self) -> None:
        if self.name in COMPILED:
            # torch falls back to eager after a handful of versions of one function.
            self.lib.compiler.reset()


def load(name: str, threads: int) -> Engine:
    """The engine of this name, working with so many threads."""
    engine: Engine = Minigrad(name) if name.startswith(MINIGRAD) else Torch(name)
    engine.lib.set_num_threads(threads)
    if engine.lib.get_num_threads() != threads:
        raise SystemExit(
            f"{name} cannot use {threads} threads here, only {engine.lib.get_num_threads()}"
        )
    return engine


def to_numpy(value: Any) -> np.ndarray:
    """A copy of a tensor of either engine, or of a number."""
    return np.array(value.detach().numpy() if hasattr(value, "detach") else value)
