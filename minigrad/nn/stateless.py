"""Layers without parameters: dropout, changes of shape, pooling, windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..arguments import check_number
from ..engine import Tensor
from ..geometry import Size1d, Size2d, pair, single
from ..ops.shape import flatten, unflatten
from . import functional as F
from .layer import Layer
from .module import Module

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
    "AlphaDropout", "AvgPool1d", "AvgPool2d", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d",
    "FeatureAlphaDropout", "Flatten", "Fold", "Identity", "LPPool1d", "LPPool2d", "MaxPool1d",
    "MaxPool2d", "MaxUnpool1d", "MaxUnpool2d", "Unflatten", "Unfold",
]  # fmt: skip


class Identity(Module):
    """The input, whatever the arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class _DropoutNd(Layer):
    p: float = 0.5
    inplace: bool = False

    def _start(self, **fields: Any) -> None:
        check_number(type(self).__name__, "p", fields["p"], low=0, high=1)
        super()._start(**fields)


class Dropout(_DropoutNd):
    """In training, zero each element with probability p and scale the others by 1/(1 − p)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training, self.inplace)


class Dropout2d(_DropoutNd):
    """As Dropout, but whole channels of (N, C, H, W) or (C, H, W) at once."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout2d(input, self.p, self.training, self.inplace)


class Dropout1d(_DropoutNd):
    """As Dropout, but whole channels of (N, C, L) or (C, L) at once."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout1d(input, self.p, self.training, self.inplace)


class Dropout3d(_DropoutNd):
    """As Dropout, but whole channels of (N, C, D, H, W) or (C, D, H, W) at once."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(_DropoutNd):
    """Dropout that keeps SELU's mean 0 and variance 1. See `functional.alpha_dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.alpha_dropout(input, self.p, self.training, self.inplace)


class FeatureAlphaDropout(_DropoutNd):
    """As AlphaDropout, but whole channels of (N, C, …) at once."""

    def forward(self, input: Tensor) -> Tensor:
        return F.feature_alpha_dropout(input, self.p, self.training, self.inplace)


class Flatten(Layer):
    """Dimensions start_dim to end_dim as one; the batch stays unless start_dim is 0."""

    start_dim: int = 1
    end_dim: int = -1

    def forward(self, input: Tensor) -> Tensor:
        return flatten(input, self.start_dim, self.end_dim)


class Unflatten(Layer):
    """Dimension dim as several of the sizes unflattened_size, one of which may be −1."""

    dim: int
    unflattened_size: Sequence[int]

    def _start(self, **fields: Any) -> None:
        super()._start(**fields)
        self.unflattened_size = tuple(self.unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return unflatten(input, self.dim, self.unflattened_size)


# Pooling --------------------------------------------------------------------------------------


class _Pool(Layer):
    """Windows that follow one another unless a stride says otherwise."""

    def _start(self, **fields: Any) -> None:
        if fields["stride"] is None:
            fields["stride"] = fields["kernel_size"]
        super()._start(**fields)


class _MaxPoolNd(_Pool):
    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    return_indices: bool = False
    ceil_mode: bool = False

    _shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    _function: ClassVar[Any]

    def forward(self, input: Tensor) -> Any:
        return self._function(
            input, self.kernel_size, self.stride, self.padding, self.dilation,
            ceil_mode=self.ceil_mode, return_indices=self.return_indices,
        )  # fmt: skip


class MaxPool1d(_MaxPoolNd):
    """Maximum over each window; with return_indices also its place. See
    `functional.max_pool1d`."""

    _function = staticmethod(F.max_pool1d)


class MaxPool2d(_MaxPoolNd):
    """Maximum over each window; with return_indices also its place. See
    `functional.max_pool2d`."""

    _function = staticmethod(F.max_pool2d)


def _single(*args: Any) -> tuple[int]:
    return (single(*args),)


class _CheckedPool(_Pool):
    """A layer that checks its sizes, and has them as tuples."""

    _sizes: ClassVar[Any]

    def _start(self, **fields: Any) -> None:
        for name, minimum in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            if fields[name] is not None:
                fields[name] = self._sizes(type(self).__name__, name, fields[name], minimum)
        super()._start(**fields)


class _MaxUnpoolNd(_CheckedPool):
    kernel_size: Any
    stride: Any = None
    padding: Any = 0

    _function: ClassVar[Any]

    def forward(
        self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None
    ) -> Tensor:
        return self._function(
            input, indices, self.kernel_size, self.stride, self.padding, output_size
        )


class MaxUnpool1d(_MaxUnpoolNd):
    """Maxima back to where they came from. See `functional.max_unpool1d`."""

    _sizes, _function = staticmethod(_single), staticmethod(F.max_unpool1d)


class MaxUnpool2d(_MaxUnpoolNd):
    """Maxima back to where they came from. See `functional.max_unpool2d`."""

    _sizes, _function = staticmethod(pair), staticmethod(F.max_unpool2d)


class AvgPool1d(_CheckedPool):
    """Mean over each window. See `functional.avg_pool1d`."""

    kernel_size: Size1d
    stride: Size1d | None = None
    padding: Size1d = 0
    ceil_mode: bool = False
    count_include_pad: bool = True

    _shown = ("kernel_size", "stride", "padding")
    _sizes = staticmethod(_single)

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad,
        )  # fmt: skip


class AvgPool2d(_Pool):
    """Mean over each window. See `functional.avg_pool2d`."""

    kernel_size: Size2d
    stride: Size2d | None = None
    padding: Size2d = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    _shown = ("kernel_size", "stride", "padding")

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool2d(
            input, self.kernel_size, self.stride, self.padding,
            self.ceil_mode, self.count_include_pad, self.divisor_override,
        )  # fmt: skip


class _LPPoolNd(Layer):
    norm_type: float
    kernel_size: Any
    stride: Any = None
    ceil_mode: bool = False

    _function: ClassVar[Any]

    def forward(self, input: Tensor) -> Tensor:
        return self._function(input, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)


class LPPool1d(_LPPoolNd):
    """Power average over each window. See `functional.lp_pool1d`."""

    _function = staticmethod(F.lp_pool1d)


class LPPool2d(_LPPoolNd):
    """Power average over each window. See `functional.lp_pool2d`."""

    _function = staticmethod(F.lp_pool2d)


class _AdaptiveAvgPoolNd(Layer):
    output_size: Any

    _function: ClassVar[Any]

    def forward(self, input: Tensor) -> Tensor:
        return self._function(input, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPoolNd):
    """Mean over output_size windows that cover the input; None keeps the input's size."""

    _function = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPoolNd):
    """Mean over output_size windows that cover the input; None keeps the input's size."""

    _function = staticmethod(F.adaptive_avg_pool2d)


class _AdaptiveMaxPoolNd(Layer):
    output_size: Any
    return_indices: bool = False

    _shown = ("output_size",)
    _function: ClassVar[Any]

    def forward(self, input: Tensor) -> Any:
        return self._function(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPoolNd):
    """Maximum over output_size windows that cover the input; None keeps the input's size."""

    _function = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPoolNd):
    """Maximum over output_size windows that cover the input; None keeps the input's size."""

    _function = staticmethod(F.adaptive_max_pool2d)


# Windows as columns ---------------------------------------------------------------------------


class Unfold(Layer):
    """(N, C, H, W) → (N, C·kH·kW, L): windows as columns. See `functional.unfold`."""

    kernel_size: Size2d
    dilation: Size2d = 1
    padding: Size2d = 0
    stride: Size2d = 1

    def forward(self, input: Tensor) -> Tensor:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(Layer):
    """(N, C·kH·kW, L) → (N, C, *output_size): columns added back. See `functional.fold`."""

    output_size: Size2d
    kernel_size: Size2d
    dilation: Size2d = 1
    padding: Size2d = 0
    stride: Size2d = 1

    def forward(self, input: Tensor) -> Tensor:
        return F.fold(
            input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )
