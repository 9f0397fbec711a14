"""Linear and normalisation layers: parameters, defaults and names are torch's; the work is that of
`functional`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from ..arguments import check_int
from ..device import Device, as_device
from ..dtypes import as_dtype, get_default_dtype, int64
from ..engine import Tensor
from ..errors import ShapeError
from ..layout import empty_array
from ..ops.creation import zeros
from ..ops.group_norm import normalized_sizes
from ..ops.norm import Running, running_batch_norm
from ..ops.shape import squeeze, unsqueeze
from . import functional as F
from . import init
from .layer import Layer
from .module import Module
from .parameter import Parameter

__all__ = [
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d",
    "InstanceNorm3d", "LayerNorm", "Linear", "LocalResponseNorm", "RMSNorm",
]  # fmt: skip

# Linear weights are shown (out, in) and stored (in, out), as the product reads them.
_LINEAR_ORDER = (1, 0)


def _uninitialised(
    shape: tuple[int, ...],
    device: Device | str | None,
    dtype: Any,
    order: tuple[int, ...] | None = None,
) -> Tensor:
    """`order` is the memory order of the axes."""
    dtype = get_default_dtype() if dtype is None else as_dtype(dtype)
    device = as_device(device)
    return Tensor(empty_array(shape, dtype, device, order), device)


def _parameter(*args: Any) -> Parameter:
    return Parameter(_uninitialised(*args))


def _positive(layer: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if check_int(layer, name, size) < 1:
            raise ShapeError(f"{layer}: {name} must be at least 1, got {size}")


def _reset_weight_and_bias(weight: Tensor, bias: Tensor | None) -> None:
    """Both uniform in ±1/√fan_in, as torch draws them."""
    init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        fan_in, _ = init.fans("bias", weight)
        bound = 1 / math.sqrt(fan_in)
        init.uniform_(bias, -bound, bound)


class Linear(Module):
    """input·weightᵀ + bias.  (…, in_features) → (…, out_features).

    weight (out_features, in_features), bias (out_features,).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _positive("Linear", in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        self.weight = _parameter((out_features, in_features), device, dtype, _LINEAR_ORDER)
        self.register_parameter(
            "bias", _parameter((out_features,), device, dtype) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        _reset_weight_and_bias(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self._parameter("weight"), self._parameter("bias"))

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class _Affine(Module):
    """What all normalisations share: eps, and weight and bias of the shape of what they scale."""

    eps: Any  # a number; None for RMSNorm's default

    def _add_affine(
        self,
        shape: tuple[int, ...],
        eps: float,
        affine: bool,
        bias: bool,
        device: Device | str | None,
        dtype: Any,
    ) -> None:
        self.eps = eps
        self.register_parameter("weight", _parameter(shape, device, dtype) if affine else None)
        shifted = affine and bias
        self.register_parameter("bias", _parameter(shape, device, dtype) if shifted else None)

    def reset_parameters(self) -> None:
        """The identity: weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class _NormBase(_Affine):
    """Channels, their running statistics, and the checks of both."""

    _version = 2
    _dimensions: tuple[int, ...] = ()

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Device | str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        _positive(type(self).__name__, num_features=num_features)
        self.num_features = num_features
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape = (num_features,)
        self._add_affine(shape, eps, affine, bias, device, dtype)
        if track_running_stats:
            self.register_buffer("running_mean", _uninitialised(shape, device, dtype))
            self.register_buffer("running_var", _uninitialised(shape, device, dtype))
            self.register_buffer("num_batches_tracked", _uninitialised((), device, int64))
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        self.reset_running_stats()
        super().reset_parameters()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # The first version of this class did not count batches.
        key, counted = f"{prefix}num_batches_tracked", self.num_batches_tracked
        if (args[0].get("version") or 1) < 2 and counted is not None and key not in state_dict:
            state_dict[key] = zeros((), dtype=int64)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        name = type(self).__name__
        if len(shape) not in self._dimensions:
            raise ShapeError(
                f"{name}: input must have {' or '.join(map(str, self._dimensions))} dimensions, "
                f"got shape {shape}"
            )
        if shape[1] != self.num_features:
            raise ShapeError(
                f"{name}: expects {self.num_features} channels, got input of shape {shape}"
            )

    def arguments(self) -> tuple[Any, ...]:
        """(weight, bias, running, training, momentum, eps) of `ops.norm.running_batch_norm`."""
        training, buffers, momentum = self.training, self._buffers, self.momentum
        mean, var = buffers["running_mean"], buffers["running_var"]
        batches = buffers["num_batches_tracked"] if training and mean is not None else None
        if momentum is None:
            momentum = 0.0 if batches is None else 1.0 / (batches.item() + 1)
        running = Running(mean, var, batches)
        weight, bias = self._parameter("weight"), self._parameter("bias")
        return weight, bias, running, training or mean is None, momentum, self.eps

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_NormBase):
    """Normalise every channel over the batch and all positions, then scale and shift.

    In training with the batch's mean and biased variance, which also move running_mean and (the
    unbiased one) running_var by `momentum`, or as a cumulative average if momentum is None. In
    evaluation, or without a batch's statistics to use, with the running ones.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not isinstance(input, Tensor):
            raise TypeError(
                f"{type(self).__name__}: input must be a Tensor, got {type(input).__name__}"
            )
        self.check_shape(input.array.shape)
        return running_batch_norm(input, *self.arguments())


class BatchNorm1d(_BatchNorm):
    __doc__ = f"""{_BatchNorm.__doc__}
    (N, C) or (N, C, L) → the same shape. weight, bias, running_mean, running_var: (C,).
    """
    _dimensions = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = f"""{_BatchNorm.__doc__}
    (N, C, H, W) → the same shape. weight, bias, running_mean, running_var: (C,).
    """
    _dimensions = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = f"""{_BatchNorm.__doc__}
    (N, C, D, H, W) → the same shape. weight, bias, running_mean, running_var: (C,).
    """
    _dimensions = (5,)


class _InstanceNorm(_NormBase):
    """Normalise every channel of every sample, then scale and shift. See
    `functional.instance_norm`."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Device | str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )

    def check_shape(self, shape: tuple[int, ...]) -> None:
        # As in torch: without parameters and statistics, num_features has no effect.
        used = self.weight is not None or self.running_mean is not None
        fits = len(shape) in self._dimensions and shape[1] == self.num_features
        if used or fits or len(shape) not in self._dimensions:
            super().check_shape(shape)
        else:
            warnings.warn(
                f"{type(self).__name__}: num_features is {self.num_features}, and the input of "
                f"shape {shape} has {shape[1]} channels; it has no effect without affine=True",
                UserWarning,
                stacklevel=4,
            )

    def forward(self, input: Tensor) -> Tensor:
        if not isinstance(input, Tensor):
            raise TypeError(
                f"{type(self).__name__}: input must be a Tensor, got {type(input).__name__}"
            )
        if input.ndim == self._dimensions[0] - 1:
            return squeeze(self.forward(unsqueeze(input, 0)), 0)
        self.check_shape(input.shape)
        own = self.training or self.running_mean is None
        return F.instance_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, own,
            self.momentum or 0.0, self.eps,
        )  # fmt: skip


class InstanceNorm1d(_InstanceNorm):
    __doc__ = f"""{_InstanceNorm.__doc__}
    (N, C, L) or (C, L) → the same shape. weight, bias, running_mean, running_var: (C,).
    """
    _dimensions = (3,)


class InstanceNorm2d(_InstanceNorm):
    __doc__ = f"""{_InstanceNorm.__doc__}
    (N, C, H, W) or (C, H, W) → the same shape. weight, bias, running_mean, running_var: (C,).
    """
    _dimensions = (4,)


class InstanceNorm3d(_InstanceNorm):
    __doc__ = f"""{_InstanceNorm.__doc__}
    (N, C, D, H, W) or (C, D, H, W) → the same shape. All others: (C,).
    """
    _dimensions = (5,)


class LocalResponseNorm(Layer):
    """Divide by a power of the neighbouring channels' mean square. See
    `functional.local_response_norm`."""

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def forward(self, input: Tensor) -> Tensor:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class GroupNorm(_Affine):
    """Normalise each group of channels of each sample, then scale and shift the channels.

    (N, C, …) → the same shape. weight, bias: (num_channels,). See `functional.group_norm`.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Device | str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        _positive("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        if num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_groups={num_groups} must divide num_channels={num_channels}"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.affine = affine
        self._add_affine((num_channels,), eps, affine, bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class LayerNorm(_Affine):
    """Normalise the last axes of each sample, then scale and shift.

    (…, *normalized_shape) → the same shape. weight, bias: normalized_shape. See
    `functional.layer_norm`.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = normalized_sizes("LayerNorm", normalized_shape)
        self.elementwise_affine = elementwise_affine
        self._add_affine(self.normalized_shape, eps, elementwise_affine, bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class RMSNorm(_Affine):
    """Divide the last axes of each sample by their root mean square, then scale.

    (…, *normalized_shape) → the same shape. weight: normalized_shape. See `functional.rms_norm`.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = normalized_sizes("RMSNorm", normalized_shape)
        self.elementwise_affine = elementwise_affine
        self.eps = eps
        weight = _parameter(self.normalized_shape, device, dtype) if elementwise_affine else None
        self.register_parameter("weight", weight)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )
