"""Operator fusion: chains of layers that `Sequential` runs as one operation: fewer passes over
memory.

    Conv2d → ReLU [→ BatchNorm2d, in training] [→ MaxPool2d]

The result is that of one layer after the other. A layer takes part if it is exactly of that class
and has no hooks, which would want to see what lies between. Off within `with nn.no_fusion():` or
after `nn.set_fusion_enabled(False)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..engine import Tensor
from ..geometry import pool2d_dims
from ..ops.conv import check_conv2d
from ..ops.fused import ConvReLU, ConvReLUBatchNorm
from ..ops.norm import check_batch_norm
from .activation import ReLU
from .conv import Conv2d
from .layers import BatchNorm2d
from .module import Module
from .stateless import MaxPool2d

__all__ = ["is_fusion_enabled", "no_fusion", "set_fusion_enabled"]

_enabled = True


def is_fusion_enabled() -> bool:
    return _enabled


def set_fusion_enabled(enabled: bool) -> None:
    """Whether `Sequential` joins chains of layers; on by default."""
    global _enabled
    _enabled = bool(enabled)


@contextmanager
def no_fusion() -> Iterator[None]:
    """One layer after the other inside the with block."""
    before = _enabled
    set_fusion_enabled(False)
    try:
        yield
    finally:
        set_fusion_enabled(before)


def steps(modules: Sequence[Module]) -> Iterator[Callable[[Any], Any]]:
    """What to call one after the other: the modules, or chains of them."""
    position = 0
    while position < len(modules):
        length = _chain_length(modules, position) if _enabled else 1
        chain = modules[position : position + length]
        yield chain[0] if length == 1 else _Chain(*chain)
        position += length


def _chain_length(modules: Sequence[Module], position: int) -> int:
    if not _plain(modules[position], Conv2d) or modules[position].padding_mode != "zeros":
        return 1
    if position + 1 == len(modules) or not _plain(modules[position + 1], ReLU):
        return 1
    end = position + 2
    if end < len(modules) and _is_training_norm(modules[end]):
        end += 1
    if end < len(modules) and _is_pool(modules[end]):
        # Without a norm, the maxima are saved for relu's derivative and must not change.
        after = modules[end + 1] if end + 1 < len(modules) else None
        if end > position + 2 or not getattr(after, "inplace", False):
            end += 1
    return end - position


def _is_training_norm(module: Module) -> bool:
    return _plain(module, BatchNorm2d) and (module.training or module.running_mean is None)


def _is_pool(module: Module) -> bool:
    return _plain(module, MaxPool2d) and not module.return_indices


def _plain(module: Module, kind: type[Module]) -> bool:
    return (
        type(module) is kind
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and not module._backward_hooks
        and not module._backward_pre_hooks
        and "forward" not in module.__dict__
    )


class _Chain:
    """Conv2d, ReLU and perhaps BatchNorm2d and MaxPool2d, called as one."""

    __slots__ = ("conv", "layers", "norm", "pool")

    def __init__(self, *layers: Module) -> None:
        self.layers, self.conv = layers, layers[0]
        self.norm: Module | None = None
        self.pool: Module | None = None
        for layer in layers[2:]:
            if isinstance(layer, BatchNorm2d):
                self.norm = layer
            else:
                self.pool = layer

    def __call__(self, input: Any) -> Any:
        if not isinstance(input, Tensor) or input.ndim != 4:
            for layer in self.layers:
                input = layer(input)
            return input
        conv, norm, pool = self.conv, self.norm, self.pool
        weight, bias = conv.weight, conv.bias
        dims = check_conv2d(
            input, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )
        shape = dims.N, dims.C_out, dims.H_out, dims.W_out
        windows = None
        if norm is not None:
            norm.check_shape(shape)
            scale, shift, running, training, momentum, eps = norm.arguments()
            check_batch_norm(input, shape, scale, shift, running, training, momentum, eps)
        if pool is not None:
            windows = pool2d_dims(
                "max_pool2d", shape, pool.kernel_size, pool.stride, pool.padding, pool.dilation,
                pool.ceil_mode,
            )  # fmt: skip
        if norm is None:
            return ConvReLU.apply(input, weight, bias, dims, windows)
        return ConvReLUBatchNorm.apply(
            input, weight, bias, scale, shift, dims, running, momentum, eps, windows
        )
