"""Lazy layers: their number of input channels is that of the first input.

Until then weight, bias and statistics that depend on it are uninitialised. The first call, or
loading a state dict, gives them their shapes, and the first call makes the layer an ordinary one.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from ..engine import Tensor, no_grad
from .conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from .layers import BatchNorm1d, BatchNorm2d, InstanceNorm1d, InstanceNorm2d, Linear
from .module import Module
from .parameter import Parameter, UninitializedBuffer, UninitializedParameter, is_lazy

__all__ = [
    "LazyBatchNorm1d", "LazyBatchNorm2d", "LazyConv1d", "LazyConv2d", "LazyConvTranspose1d",
    "LazyConvTranspose2d", "LazyInstanceNorm1d", "LazyInstanceNorm2d", "LazyLinear",
]  # fmt: skip


class _Lazy(Module):
    """Takes the arguments of cls_to_become, without the number of input channels."""

    cls_to_become: ClassVar[Any]
    _channels = "in_channels"
    _names: tuple[str, ...] = ("weight",)
    _axis_from_end: int | None = None
    """Which axis of the input holds the channels: so many from its end; None is axis 1."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        plain = self.cls_to_become
        bound = inspect.signature(plain).bind(1, *args, **kwargs)
        # Any number that the groups divide.
        plain.__init__(self, bound.arguments.get("groups", 1), *args, **kwargs)
        self._arguments = args, kwargs
        setattr(self, self._channels, 0)
        for name in self._names:
            tensor = getattr(self, name)
            if isinstance(tensor, Parameter):
                setattr(self, name, UninitializedParameter(True, tensor.device, tensor.dtype))
            elif tensor is not None:
                setattr(self, name, UninitializedBuffer(tensor.device, tensor.dtype))
        self._first_call = self.register_forward_pre_hook(_initialize)

    def has_uninitialized_params(self) -> bool:
        """Whether neither a call nor a state dict has told the shapes yet."""
        return any(is_lazy(getattr(self, name)) for name in self._names)

    def initialize_parameters(self, input: Tensor) -> None:
        """Take the number of channels from an input."""
        axis = 1 if self._axis_from_end is None else input.ndim - self._axis_from_end
        channels = input.shape[axis] if 0 <= axis < input.ndim else 0
        setattr(self, self._channels, channels)
        if not self.has_uninitialized_params():
            return
        args, kwargs = self._arguments
        fresh = self.cls_to_become(channels, *args, **kwargs)
        for name, tensor in (*self._parameters.items(), *self._buffers.items()):
            if is_lazy(tensor):
                value = getattr(fresh, name).to(tensor.device, tensor.dtype)
                tensor.materialize(value.shape)
                tensor.array = value.array  # in the memory order of the layer
            elif isinstance(tensor, Parameter):  # the bias, drawn for this number of channels
                with no_grad():
                    tensor.copy_(getattr(fresh, name))


def _initialize(module: Any, args: tuple[Any, ...]) -> None:
    module.initialize_parameters(*args[:1])
    module._first_call.remove()
    del module._first_call, module._arguments
    module.__class__ = module.cls_to_become


class LazyLinear(_Lazy, Linear):
    """Linear whose in_features is the last size of the first input."""

    cls_to_become, _channels, _axis_from_end = Linear, "in_features", 1


class LazyConv1d(_Lazy, Conv1d):
    """Conv1d whose in_channels are those of the first input."""

    cls_to_become, _axis_from_end = Conv1d, 2


class LazyConv2d(_Lazy, Conv2d):
    """Conv2d whose in_channels are those of the first input."""

    cls_to_become, _axis_from_end = Conv2d, 3


class LazyConvTranspose1d(_Lazy, ConvTranspose1d):
    """ConvTranspose1d whose in_channels are those of the first input."""

    cls_to_become, _axis_from_end = ConvTranspose1d, 2


class LazyConvTranspose2d(_Lazy, ConvTranspose2d):
    """ConvTranspose2d whose in_channels are those of the first input."""

    cls_to_become, _axis_from_end = ConvTranspose2d, 3


class _LazyNorm(_Lazy):
    _channels = "num_features"
    _names = ("weight", "bias", "running_mean", "running_var")


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    """BatchNorm1d whose num_features are the channels of the first input."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    """BatchNorm2d whose num_features are the channels of the first input."""

    cls_to_become = BatchNorm2d


class _LazyInstanceNorm(_LazyNorm):
    """As in torch, with parameters and running statistics unless told otherwise."""

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(eps, momentum, affine, track_running_stats, **kwargs)


class LazyInstanceNorm1d(_LazyInstanceNorm, InstanceNorm1d):
    """InstanceNorm1d whose num_features are the channels of the first input."""

    cls_to_become, _axis_from_end = InstanceNorm1d, 2


class LazyInstanceNorm2d(_LazyInstanceNorm, InstanceNorm2d):
    """InstanceNorm2d whose num_features are the channels of the first input."""

    cls_to_become, _axis_from_end = InstanceNorm2d, 3
