"""What a row of `bench.kernels` is: an operation, one of its passes, and the work that it means."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from .engines import EAGER, Engine

Run = Callable[[], list[Any]]
"""Does a pass once and returns its results."""

FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = "forward", "input gradient", "weight gradient"


@dataclass(frozen=True)
class Pass:
    """One direction of an operation."""

    name: str
    work: int
    """Floating-point operations, or float32 elements that must be read or written at least once."""
    wrt: tuple[int, ...] = ()
    """Which inputs the gradients are taken of; none: forward only."""
    with_forward: bool = False
    """Whether the forward pass that the gradients need is timed with them."""


def forward(work: int) -> Pass:
    return Pass(FORWARD, work)


def gradient(work: int, *wrt: int, name: str = INPUT_GRADIENT) -> Pass:
    """Backward with only the inputs `wrt` (the first, unless told) requiring gradients."""
    return Pass(name, work, wrt or (0,))


def products(flops: int) -> tuple[Pass, ...]:
    """The three products of a layer: its output, its input's and its weight's gradient."""
    return (
        Pass(FORWARD, flops),
        Pass(INPUT_GRADIENT, flops, (0,)),
        Pass(WEIGHT_GRADIENT, flops, (1,)),
    )


def step(work: int) -> tuple[Pass, ...]:
    """An optimizer's."""
    return (Pass("step", work),)


def loss(work: int) -> tuple[Pass, ...]:
    """Forward and backward of a scalar in one."""
    return (Pass("forward + backward", work, (0,), with_forward=True),)


@dataclass(frozen=True)
class Input:
    """An argument of an operation: how to draw it, and whether it is a parameter."""

    shape: tuple[int, ...]
    draw: Callable[[np.random.Generator], np.ndarray]
    weight: bool = False


def activation(*shape: int) -> Input:
    return Input(shape, lambda rng: rng.standard_normal(shape).astype(np.float32))


def weight(*shape: int) -> Input:
    """Of the size that torch's initialisation gives."""
    bound = math.prod(shape[1:]) ** -0.5
    return Input(shape, lambda rng: rng.uniform(-bound, bound, shape).astype(np.float32), True)


def constant(size: int, value: float) -> Input:
    return Input((size,), lambda rng: np.full(size, value, np.float32), True)


def labels(count: int, classes: int) -> Input:
    return Input((count,), lambda rng: rng.integers(0, classes, count))


def boxes(count: int, images: int, extent: float) -> Input:
    """Rows (image, x1, y1, x2, y2) with corners anywhere in images of `extent` by `extent`."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        corners = np.sort(rng.uniform(0, extent, (count, 2, 2)), axis=1).reshape(count, 4)
        rows = np.concatenate([rng.integers(0, images, (count, 1)), corners], axis=1)
        return rows.astype(np.float32)

    return Input((count, 5), draw)


@dataclass(frozen=True)
class Case(ABC):
    """What is measured on given shapes: a row for each of its passes."""

    family: str
    name: str
    passes: tuple[Pass, ...]
    _: KW_ONLY
    bound: str = "copy"
    """The floor that it is measured against: 'sgemm', or 'copy' for what memory limits."""
    quick: bool = False
    """Whether --quick measures it."""
    named: bool = False
    """Whether it is measured only if --only names it."""

    checks: ClassVar[int] = 1
    """Calls whose results are compared before timing."""

    @property
    @abstractmethod
    def shape(self) -> str:
        """The size of what it works on, for the table."""

    @abstractmethod
    def runs(self, engine: Engine, step: Pass) -> dict[str, Run]:
        """What to time of this engine, by the name that the table shows."""

    def work(self, step: Pass) -> int:
        """Floating-point operations, or bytes."""
        return step.work if self.bound == "sgemm" else 4 * step.work

    def label(self, step: Pass) -> str:
        """What --only searches, and what identifies a row."""
        return f"{self.family}: {self.name}, {self.shape}, {step.name}"


@dataclass(frozen=True)
class Operation(Case):
    """A public function, called as a user would call it."""

    call: Callable[..., Any]
    """Of an engine and the inputs."""
    inputs: tuple[Input, ...]

    @property
    def shape(self) -> str:
        return "×".join(map(str, self.inputs[0].shape))

    def runs(self, engine: Engine, step: Pass) -> dict[str, Run]:
        has_layout = any(len(each.shape) == 4 for each in self.inputs)
        if engine.channels_last and not has_layout:
            return {}
        name = "torch eager" if engine.name in EAGER and not has_layout else engine.name
        rng = np.random.default_rng(0)
        tensors = [engine.tensor(each.draw(rng), each.weight) for each in self.inputs]
        function = engine.compiled(lambda *tensors: self.call(engine, *tensors))

        def output() -> list[Any]:
            with engine.lib.no_grad():
                return [function(*tensors)]

        if not step.wrt:
            return {name: output}
        inputs = [tensors[index] for index in step.wrt]
        for each in inputs:
            each.requires_grad = True
        if step.with_forward:
            return {name: lambda: engine.gradients(function(*tensors), inputs)}
        out = function(*tensors)
        grad_output = engine.tensor(rng.standard_normal(tuple(out.shape)).astype(np.float32))
        return {name: lambda: engine.gradients(out, inputs, grad_output)}


@dataclass(frozen=True)
class OptimizerStep(Case):
    """An update of all parameters, whose gradients stay the same. torch has several forms of it."""

    make: Callable[..., Any]
    """Of an engine, the parameters and options that only torch has."""
    shapes: tuple[tuple[int, ...], ...]

    checks: ClassVar[int] = 3

    @property
    def shape(self) -> str:
        return f"{sum(map(math.prod, self.shapes)):,} in {len(self.shapes)}"

    def runs(self, engine: Engine, step: Pass) -> dict[str, Run]:
        if engine.channels_last:
            return {}  # the update of an element does not depend on where it lies
        if engine.name not in EAGER:
            return {engine.name: self._run(engine)}
        runs = {"torch default": self._run(engine)}
        for form in ("foreach", "fused"):
            try:
                runs[f"torch {form}"] = self._run(engine, **{form: True})
            except (RuntimeError, TypeError):  # this version has no such form on the CPU
                continue
        return runs

    def _run(self, engine: Engine, **options: bool) -> Run:
        rng = np.random.default_rng(0)
        parameters = []
        for shape in self.shapes:
            drawn = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
            value, grad = (engine.tensor(array, weight=True) for array in drawn)
            parameters.append(engine.nn.Parameter(value))
            parameters[-1].grad = grad
        update = engine.compiled(self.make(engine, parameters, **options).step)

        def run() -> list[Any]:
            update()
            return parameters

        return run
