"""Convolutions as layers: parameters, defaults and names are torch's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..device import Device
from ..engine import Tensor
from ..errors import ShapeError
from ..geometry import PAD_MODES, conv_padding, conv_transpose_output_size, pair, single
from . import functional as F
from .layers import _parameter, _positive, _reset_weight_and_bias
from .module import Module

__all__ = ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"]

_PADDING_MODES = ("zeros", *(mode for mode in PAD_MODES if mode != "constant"))


class _ConvNd(Module):
    """What all convolutions share: sizes, their checks, parameters and how they are shown.

    The weight's axes 0 and 1 are the channels; axis 1 counts those of one group.
    """

    _axes = 2
    _function: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        output_padding: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        weight_channels: tuple[int, int],
        device: Device | str | None,
        dtype: Any,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        _positive(name, in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ShapeError(
                f"{name}: groups={groups} must divide in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = self._sizes("kernel_size", kernel_size, minimum=1)
        self.stride = self._sizes("stride", stride, minimum=1)
        self.padding: Any = padding
        if not isinstance(padding, str):
            self.padding = self._sizes("padding", padding)
        self.dilation = self._sizes("dilation", dilation, minimum=1)
        self.output_padding = self._sizes("output_padding", output_padding)
        self.groups = groups
        self.padding_mode = padding_mode
        self._edges()  # checks the padding
        first, second = weight_channels
        shape = (first, second // groups, *self.kernel_size)
        # The order in which kernels read it: (kH, kW, C_in, C_out).
        order = (*range(2, 2 + self._axes), 1, 0)
        self.weight = _parameter(shape, device, dtype, order)
        self.register_parameter(
            "bias", _parameter((out_channels,), device, dtype) if bias else None
        )
        self.reset_parameters()

    def _sizes(self, name: str, value: Any, minimum: int = 0) -> tuple[int, ...]:
        """One size for each axis."""
        owner = type(self).__name__
        if self._axes == 1:
            return (single(owner, name, value, minimum),)
        return pair(owner, name, value, minimum)

    def _edges(self) -> tuple[int, ...]:
        """The padding: (before, after) of every axis, the first axis first."""
        padding, missing = self.padding, 2 - self._axes
        kernel, stride, dilation = (
            pair("", "", (1,) * missing + sizes)  # type: ignore[arg-type]
            for sizes in (self.kernel_size, self.stride, self.dilation)
        )
        if not isinstance(padding, str):
            padding = (0,) * missing + padding
        return conv_padding(type(self).__name__, padding, kernel, stride, dilation)[2 * missing :]

    def reset_parameters(self) -> None:
        _reset_weight_and_bias(self.weight, self.bias)

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        if self.padding != (0,) * self._axes:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self._axes:
            text += f", dilation={self.dilation}"
        if any(self.output_padding):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class _Convolution(_ConvNd):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode not in _PADDING_MODES:
            raise ValueError(
                f"{type(self).__name__}: padding_mode must be one of {', '.join(_PADDING_MODES)}, "
                f"got {padding_mode!r}"
            )
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias,
            padding_mode, (out_channels, in_channels), device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            edges = self._edges()
            last_first = [n for k in range(len(edges) - 2, -1, -2) for n in edges[k : k + 2]]
            input = F.pad(input, last_first, self.padding_mode)
            padding = 0
        weight, bias = self._parameter("weight"), self._parameter("bias")
        return self._function(input, weight, bias, self.stride, padding, self.dilation, self.groups)


class Conv1d(_Convolution):
    """Convolution.  (N, C_in, L) or (C_in, L) → (N, C_out, L_out).

    weight (out_channels, in_channels/groups, k), bias (out_channels,). padding may be 'same' or
    'valid'; padding_mode is 'zeros', 'reflect', 'replicate' or 'circular'. Sizes: see
    `functional.conv1d`; the modes: `functional.pad`.
    """

    _axes = 1
    _function = staticmethod(F.conv1d)


class Conv2d(_Convolution):
    """Convolution.  (N, C_in, H, W) or (C_in, H, W) → (N, C_out, H_out, W_out).

    weight (out_channels, in_channels/groups, kH, kW), bias (out_channels,). padding may be 'same'
    or 'valid'; padding_mode is 'zeros', 'reflect', 'replicate' or 'circular'. Sizes: see
    `functional.conv2d`; the modes: `functional.pad`.
    """

    _function = staticmethod(F.conv2d)


class _ConvTransposeNd(_ConvNd):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ValueError(
                f"{type(self).__name__}: padding_mode must be 'zeros', got {padding_mode!r}"
            )
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding,
            groups, bias, padding_mode, (in_channels, out_channels), device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self.output_padding if output_size is None else self._extra(input, output_size)
        return self._function(
            input, self._parameter("weight"), self._parameter("bias"), self.stride, self.padding,
            extra, self.groups, self.dilation,
        )  # fmt: skip

    def _extra(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The output_padding that makes the last sizes of the output those of output_size."""
        name, axes = type(self).__name__, self._axes
        if input.ndim not in (axes + 1, axes + 2) or len(output_size) not in (axes, input.ndim):
            raise ShapeError(
                f"{name}: output_size must have {axes} sizes or as many as the input of shape "
                f"{input.shape}, got {output_size!r}"
            )
        wanted = self._sizes("output_size", tuple(output_size[-axes:]))
        least = tuple(
            conv_transpose_output_size(*sizes, 0)
            for sizes in zip(
                input.shape[-axes:], self.kernel_size, self.stride, self.padding, self.dilation,
                strict=True,
            )
        )  # fmt: skip
        extra = tuple(size - low for size, low in zip(wanted, least, strict=True))
        if not all(0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            most = tuple(size + s - 1 for size, s in zip(least, self.stride, strict=True))
            raise ShapeError(
                f"{name}: output_size must be from {least} to {most} for an input of "
                f"shape {input.shape}, got {tuple(output_size)}"
            )
        return extra


class ConvTranspose1d(_ConvTransposeNd):
    """Transposed convolution.  (N, C_in, L) or (C_in, L) → (N, C_out, L_out).

    weight (in_channels, out_channels/groups, k), bias (out_channels,). A call may name the
    output_size, (L_out,), instead of the output_padding of the layer.
    Sizes: see `functional.conv_transpose1d`.
    """

    _axes = 1
    _function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTransposeNd):
    """Transposed convolution.  (N, C_in, H, W) or (C_in, H, W) → (N, C_out, H_out, W_out).

    weight (in_channels, out_channels/groups, kH, kW), bias (out_channels,). A call may name the
    output_size, (H_out, W_out), instead of the output_padding of the layer.
    Sizes: see `functional.conv_transpose2d`.
    """

    _function = staticmethod(F.conv_transpose2d)
