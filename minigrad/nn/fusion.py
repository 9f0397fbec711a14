"""Chains of layers that `Sequential` runs as one operation: fewer passes over memory.

    Conv2d → ReLU,   Conv2d → ReLU → MaxPool2d,   Conv2d → ReLU → BatchNorm2d (in training)

The result is that of one layer after the other. A layer takes part if it is exactly of that class
and has no hooks, which would want to see what lies between. Off within `with nn.no_fusion():` or
after `nn.set_fusion_enabled(False)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from ..engine import Tensor
from ..geometry import conv2d_dims, pool2d_dims
from ..ops._operands import floating_operands
from ..ops.fused import ConvReLU, ConvReLUBatchNorm
from ..ops.norm import check_batch_norm
from .activation import ReLU
from .conv import Conv2d
from .layers import BatchNorm2d
from .module import Module
from .stateless import MaxPool2d

_enabled = True

# A layer's options are checked already, so that equal ones mean the same.
_conv2d_dims = lru_cache(maxsize=1024)(conv2d_dims)


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
    if position + 2 < len(modules):
        last = modules[position + 2]
        if _plain(last, MaxPool2d) and not last.return_indices:
            return 3
        if _plain(last, BatchNorm2d) and (last.training or last.running_mean is None):
            return 3
    return 2


def _plain(module: Module, kind: type[Module]) -> bool:
    return (
        type(module) is kind
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and "forward" not in module.__dict__
    )


class _Chain:
    """Conv2d, ReLU and perhaps one layer more, called as one."""

    __slots__ = ("conv", "last", "relu")

    def __init__(self, conv: Module, relu: Module, last: Module | None = None) -> None:
        self.conv, self.relu, self.last = conv, relu, last

    def __call__(self, input: Any) -> Any:
        conv, last = self.conv, self.last
        if not isinstance(input, Tensor) or input.ndim != 4:
            out = self.relu(conv(input))
            return out if last is None else last(out)
        weight, bias = conv.weight, conv.bias
        floating_operands("conv2d", input=input, weight=weight, optional={"bias": bias})
        dims = _conv2d_dims(
            input.shape, weight.shape, None if bias is None else bias.shape,
            conv.stride, conv.padding, conv.dilation, conv.groups,
        )  # fmt: skip
        shape = dims.N, dims.C_out, dims.H_out, dims.W_out
        if isinstance(last, BatchNorm2d):
            last.check_shape(shape)
            scale, shift, running, training, momentum, eps = last.arguments()
            check_batch_norm(input, shape, scale, shift, running, training, momentum, eps)
            return ConvReLUBatchNorm.apply(
                input, weight, bias, scale, shift, dims, running, momentum, eps
            )
        pool = None
        if isinstance(last, MaxPool2d):
            pool = pool2d_dims(
                "max_pool2d", shape, last.kernel_size, last.stride, last.padding, last.dilation,
                last.ceil_mode,
            )  # fmt: skip
        return ConvReLU.apply(input, weight, bias, dims, pool)
