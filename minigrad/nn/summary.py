"""Model summary: a table of a network's layers, from one real forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..device import Device, as_device
from ..dtypes import as_dtype, get_default_dtype
from ..engine import Tensor, no_grad
from ..ops.creation import zeros
from .module import Module

__all__ = ["summary"]

_MIB = 2**20


@dataclass(frozen=True)
class LayerSummary:
    """One call of one module."""

    name: str
    """Its name in the network, as in the state dict; the network itself is ''."""
    type: str
    depth: int
    output_shape: Any
    """The output's shape, batch included; a list of shapes for several outputs."""
    parameters: int
    """Elements of the parameters that the module itself owns, not its submodules."""
    trainable: int
    activation_bytes: int
    """Memory that the output needs: 0 for a view of the input, and for a module of modules."""


@dataclass(frozen=True)
class ModelSummary:
    """What `summary` found. `print` shows it as a table."""

    layers: tuple[LayerSummary, ...]
    input_shape: Any
    total_parameters: int
    trainable_parameters: int
    parameter_bytes: int
    """Memory of all parameters and buffers."""
    input_bytes: int
    activation_bytes: int
    """Memory of all layers' outputs, which a training step keeps for its backward pass."""

    @property
    def total_bytes(self) -> int:
        """Input, activations, their gradients, parameters and buffers."""
        return self.input_bytes + 2 * self.activation_bytes + self.parameter_bytes

    def __str__(self) -> str:
        rows = [("Layer (type)", "Output shape", "Parameters")]
        for layer in self.layers:
            label = f"{layer.name.rpartition('.')[2]} ({layer.type})" if layer.name else layer.type
            rows.append(
                (
                    "  " * layer.depth + label,
                    str(layer.output_shape),
                    f"{layer.parameters:,}" if layer.parameters else "-",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            f"{first:<{widths[0]}}  {second:<{widths[1]}}  {third:>{widths[2]}}"
            for first, second, third in rows
        ]
        rule = "=" * len(lines[0])
        lines.insert(1, rule)
        frozen = self.total_parameters - self.trainable_parameters
        sizes = (
            ("Input", self.input_bytes),
            ("Activations", self.activation_bytes),
            ("Activations and their gradients", 2 * self.activation_bytes),
            ("Parameters and buffers", self.parameter_bytes),
            ("Estimated total", self.total_bytes),
        )
        return "\n".join(
            [
                *lines,
                rule,
                f"Total parameters: {self.total_parameters:,}",
                f"Trainable: {self.trainable_parameters:,}   Frozen: {frozen:,}",
                *(f"{name}: {size / _MIB:,.2f} MiB" for name, size in sizes),
            ]
        )


def summary(
    model: Module,
    input_size: Sequence[Any],
    batch_size: int = 1,
    device: Device | str | None = None,
    dtype: Any = None,
) -> ModelSummary:
    """Run the model once on zeros and list its layers, output shapes, parameters and memory.

    input_size: the shape of one sample, without the batch: (3, 32, 32); a list of such tuples for a
    model of several inputs. device and dtype default to those of the first parameter. The model's
    modes, running statistics and gradients stay as they are.
    """
    first = next(model.parameters(), None)
    if dtype is None:
        dtype = get_default_dtype() if first is None else first.dtype
    dtype = as_dtype(dtype)
    device = as_device(device) if device is not None or first is None else first.device
    several = bool(input_size) and isinstance(input_size[0], (tuple, list))
    sizes = [tuple(size) for size in input_size] if several else [tuple(input_size)]
    inputs = tuple(zeros(batch_size, *size, dtype=dtype, device=device) for size in sizes)

    calls: list[tuple[str, Module, Any, int]] = []
    order: list[int] = []  # positions in `calls` by the time of entry: parents before children
    handles = []
    for name, module in model.named_modules():
        handles += _watch(name, module, calls, order)
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with no_grad():
            model(*inputs)
    finally:
        for module, mode in modes:
            module.training = mode
        for handle in handles:
            handle.remove()

    counted: set[int] = set()
    layers = []
    for position in order:
        name, module, shape, size = calls[position]
        own = [p for p in module.parameters(recurse=False) if id(p) not in counted]
        counted.update(id(p) for p in own)
        layers.append(
            LayerSummary(
                name=name,
                type=type(module).__name__,
                depth=name.count(".") + 1 if name else 0,
                output_shape=shape,
                parameters=sum(p.array.size for p in own),
                trainable=sum(p.array.size for p in own if p.requires_grad),
                activation_bytes=size,
            )
        )
    parameters = list(model.parameters())
    return ModelSummary(
        layers=tuple(layers),
        input_shape=[t.shape for t in inputs] if several else inputs[0].shape,
        total_parameters=sum(p.array.size for p in parameters),
        trainable_parameters=sum(p.array.size for p in parameters if p.requires_grad),
        parameter_bytes=sum(t.array.nbytes for t in (*parameters, *model.buffers())),
        input_bytes=sum(t.array.nbytes for t in inputs),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
    )


def _watch(
    name: str, module: Module, calls: list[tuple[str, Module, Any, int]], order: list[int]
) -> list[Any]:
    entered: list[int] = []  # a module may be called several times, even inside itself

    def before(module: Module, args: tuple[Any, ...]) -> None:
        entered.append(len(order))
        order.append(-1)

    def after(module: Module, args: tuple[Any, ...], output: Any) -> None:
        outputs = [output] if isinstance(output, Tensor) else output
        outputs = outputs.values() if isinstance(outputs, dict) else outputs or ()
        tensors = [t for t in outputs if isinstance(t, Tensor)]
        shapes = [t.shape for t in tensors]
        size = 0
        if not module._modules:
            given = [arg for arg in args if isinstance(arg, Tensor)]
            size = sum(
                t.array.nbytes
                for t in tensors
                if not any(np.may_share_memory(t.array, arg.array) for arg in given)
            )
        order[entered.pop()] = len(calls)
        calls.append((name, module, shapes[0] if len(shapes) == 1 else shapes, size))

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
