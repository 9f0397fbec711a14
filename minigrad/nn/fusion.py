"""Operator fusion: chains of layers that `Sequential` runs as one operation: fewer passes over
memory.

    Conv2d → ReLU [→ BatchNorm2d] [→ MaxPool2d]
    Conv2d → BatchNorm2d [→ ReLU, ReLU6 or SiLU], in evaluation and without gradients
    Linear → ReLU
    BatchNorm → ReLU, ReLU6 or SiLU
    BatchNorm2d [→ ReLU or ReLU6] → MaxPool2d, in training

So Conv2d → BatchNorm2d → ReLU is a convolution and one pass for the rest in training, and a
convolution alone in evaluation.

The result is that of one layer after the other. A layer takes part if it is exactly of that class
and has no hooks, which would want to see what lies between. Off within `with nn.no_fusion():` or
after `nn.set_fusion_enabled(False)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..engine import Tensor
from ..engine.backward import set_joining
from ..engine.grad_mode import mode
from ..geometry import Conv2dDims, Pool2dDims, pool2d_dims
from ..kernels.protocol import POSITIVE, UNLIMITED, Bounds
from ..ops.conv import Conv2d as Conv2dFunction
from ..ops.conv import check_conv2d
from ..ops.fused import (
    BatchNormActivation,
    BatchNormMaxPool,
    ConvReLU,
    ConvReLUBatchNorm,
    FoldedConv,
    LinearReLU,
)
from ..ops.matmul import affine
from ..ops.norm import BatchNorm as BatchNormFunction
from ..ops.norm import check_batch_norm
from .activation import ReLU, ReLU6, SiLU
from .conv import Conv2d
from .layers import BatchNorm1d, BatchNorm2d, BatchNorm3d, Linear
from .module import Module
from .stateless import MaxPool2d

__all__ = ["is_fusion_enabled", "no_fusion", "set_fusion_enabled"]

_enabled = True

# To scale so many takes less time than the call that it saves.
_FEW_WEIGHTS = 1 << 16


def is_fusion_enabled() -> bool:
    return _enabled


def set_fusion_enabled(enabled: bool) -> None:
    """Whether `Sequential` joins chains of layers, and a backward pass those of batch norm and the
    activation after it; on by default."""
    global _enabled
    _enabled = bool(enabled)
    set_joining(_enabled)


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
        chain = _chain(modules, position) if _enabled else None
        yield chain or modules[position]
        position += len(chain.layers) if chain else 1


def _chain(modules: Sequence[Module], position: int) -> _Chain | None:
    first, following = modules[position], modules[position + 1 : position + 4]
    if not following or type(first) not in _FIRST or not _is_plain(first):
        return None
    if type(first) is Linear:
        (one, *_) = following
        return _LinearReLU(first, one) if type(one) is ReLU and _is_plain(one) else None
    one, two, three = _plain_ones(following)
    if one is None:
        return None
    if type(first) is not Conv2d:
        bounds = _bounds_of(one)
        activation = () if bounds is UNLIMITED else (one,)
        pool = two if activation else one
        can_pool = type(first) is BatchNorm2d and _is_training(first) and bounds is not None
        # A dilated window can step over the whole input: of nothing, the order makes a difference.
        if can_pool and _is_pool(pool) and pool.dilation in (1, (1, 1)):
            return _NormPool(bounds, first, *activation, pool)
        return _NormActivation(bounds, first, one) if activation else None
    if first.padding_mode != "zeros":
        return None
    if type(one) is BatchNorm2d and not _is_training(one):
        bounds = _bounds_of(two)
        return _ConvNorm(bounds, first, one, *([] if bounds is UNLIMITED else [two]))
    if type(one) is not ReLU:
        return None
    norm = [two] if type(two) is BatchNorm2d else []
    pool = three if norm else two
    return _ConvReLU(first, one, *norm, *([pool] if _is_pool(pool) else []))


def _plain_ones(modules: Sequence[Module]) -> list[Any]:
    """Three modules, None for those that are to be called by themselves."""
    return [m if _is_plain(m) else None for m in modules] + [None] * (3 - len(modules))


def _is_training(norm: Module) -> bool:
    return norm.training or norm._buffers["running_mean"] is None


def _is_pool(module: Module | None) -> bool:
    return type(module) is MaxPool2d and not module.return_indices


def _bounds_of(module: Any) -> Bounds:
    """Of what a layer limits its input to; None for silu, UNLIMITED for any other layer."""
    if type(module) is ReLU:
        return POSITIVE
    if type(module) is ReLU6 and (module.min_val, module.max_val) == (0, 6):
        return 0.0, 6.0
    return None if type(module) is SiLU else UNLIMITED


_FIRST = Conv2d, Linear, BatchNorm1d, BatchNorm2d, BatchNorm3d


def _is_plain(module: Module) -> bool:
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )


class _Chain:
    """Layers that are called as one."""

    def __init__(self, *layers: Any) -> None:
        self.layers = layers

    def __call__(self, input: Any) -> Any:
        if isinstance(input, Tensor) and input.ndim == 4:
            return self.run(input)
        for layer in self.layers:
            input = layer(input)
        return input

    def run(self, input: Tensor) -> Tensor:
        """Of (N, C, H, W)."""
        raise TypeError("a chain must define run(input)")


class _ConvReLU(_Chain):
    """Conv2d, ReLU and perhaps BatchNorm2d and MaxPool2d."""

    def run(self, input: Tensor) -> Tensor:
        conv, _, *rest = self.layers
        norm = rest.pop(0) if rest and type(rest[0]) is BatchNorm2d else None
        weight, bias, dims, shape = _convolved(input, conv)
        pool = _windows(shape, *rest)
        if norm is None:
            return ConvReLU.apply(input, weight, bias, dims, pool)
        arguments = _checked(norm, input, shape)
        scale, shift, _, training, _, eps = arguments
        # With eps = 0 a channel may be scaled by infinity.
        if training or (eps > 0 and not _is_recorded(input, weight, bias, scale, shift)):
            return ConvReLUBatchNorm.apply(input, weight, bias, dims, pool, *arguments)
        out = BatchNormFunction.apply(ConvReLU.apply(input, weight, bias, dims, None), *arguments)
        return rest[0](out) if rest else out


class _ConvNorm(_Chain):
    """Conv2d, BatchNorm2d in evaluation and perhaps an activation."""

    def __init__(self, bounds: Bounds, *layers: Any) -> None:
        super().__init__(*layers)
        self.bounds = bounds

    def run(self, input: Tensor) -> Tensor:
        conv, norm, *_ = self.layers
        weight, bias, dims, shape = _convolved(input, conv)
        scale, shift, running, _, momentum, eps = _checked(norm, input, shape)
        operands = input, weight, bias, scale, shift
        # Scaling weights takes time. With eps = 0 a channel may be scaled by infinity.
        scalable = weight.array.size <= max(math.prod(shape), _FEW_WEIGHTS)
        if scalable and eps > 0 and not _is_recorded(*operands):
            return FoldedConv.apply(*operands, dims, running, eps, self.bounds)
        out = Conv2dFunction.apply(input, weight, bias, dims)
        arguments = scale, shift, running, False, momentum, eps
        if self.bounds is UNLIMITED:
            return BatchNormFunction.apply(out, *arguments)
        return BatchNormActivation.apply(out, *arguments, self.bounds)


class _LinearReLU(_Chain):
    """Linear and ReLU."""

    def __call__(self, input: Any) -> Any:
        linear, relu = self.layers
        weight, bias = linear._parameter("weight"), linear._parameter("bias")
        if weight.array.ndim == 2:
            return affine(LinearReLU, input, weight, bias)
        return relu(linear(input))  # a vector, which somebody has put in the place of the matrix


class _NormActivation(_Chain):
    """BatchNorm and an activation."""

    def __init__(self, bounds: tuple[float, float] | None, *layers: Any) -> None:
        super().__init__(*layers)
        self.bounds = bounds

    def __call__(self, input: Any) -> Any:
        if not isinstance(input, Tensor):
            return super().__call__(input)
        arguments = _checked(self.layers[0], input, input.array.shape)
        return BatchNormActivation.apply(input, *arguments, self.bounds)


class _NormPool(_NormActivation):
    """BatchNorm2d in training, perhaps ReLU or ReLU6, and MaxPool2d."""

    __call__ = _Chain.__call__

    def run(self, input: Tensor) -> Tensor:
        norm, *_, pool = self.layers
        shape = input.array.shape
        scale, shift, running, _, momentum, eps = _checked(norm, input, shape)
        windows = _windows(shape, pool)
        return BatchNormMaxPool.apply(
            input, scale, shift, running, momentum, eps, self.bounds, windows
        )


def _is_recorded(*operands: Tensor | None) -> bool:
    return mode.enabled and any(t is not None and t.requires_grad for t in operands)


def _convolved(
    input: Tensor, conv: Any
) -> tuple[Tensor, Tensor | None, Conv2dDims, tuple[int, ...]]:
    """Weight and bias of a convolution, its checked sizes, and the shape of its result."""
    weight, bias = conv._parameter("weight"), conv._parameter("bias")
    dims = check_conv2d(input, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    return weight, bias, dims, (dims.N, dims.C_out, dims.H_out, dims.W_out)


def _checked(norm: Any, input: Tensor, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """The checked arguments of a batch norm of that shape."""
    norm.check_shape(shape)
    arguments = norm.arguments()
    check_batch_norm(input, shape, *arguments)
    return arguments


def _windows(shape: tuple[int, ...], pool: Any = None) -> Pool2dDims | None:
    if pool is None:
        return None
    return pool2d_dims(
        "max_pool2d", shape, pool.kernel_size, pool.stride, pool.padding, pool.dilation,
        pool.ceil_mode,
    )  # fmt: skip
