"""Convolutions as layers: parameters, defaults and names are torch's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..device import Device
from ..engine import Tensor
from ..errors import ShapeError
from ..geometry import PAD_MODES, Size2d, conv_padding, conv_transpose_output_size, pair
from ..ops.conv import TO_HWIO
from . import functional as F
from .layers import _parameter, _positive, _reset_weight_and_bias
from .module import Module

__all__ = ["Conv2d", "ConvTranspose2d"]

_PADDING_MODES = ("zeros", *(mode for mode in PAD_MODES if mode != "constant"))


class _Conv(Module):
    """What both convolutions share: sizes, their checks, parameters and how they are shown.

    The weight's axes 0 and 1 are the channels; axis 1 counts those of one group.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size2d,
        stride: Size2d,
        padding: Size2d | str,
        dilation: Size2d,
        output_padding: Size2d,
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
        self.kernel_size = pair(name, "kernel_size", kernel_size, minimum=1)
        self.stride = pair(name, "stride", stride, minimum=1)
        self.padding: Any = padding if isinstance(padding, str) else pair(name, "padding", padding)
        self.dilation = pair(name, "dilation", dilation, minimum=1)
        self.output_padding = pair(name, "output_padding", output_padding)
        self.groups = groups
        self.padding_mode = padding_mode
        self._edges()  # checks the padding
        first, second = weight_channels
        shape = (first, second // groups, *self.kernel_size)
        self.weight = _parameter(shape, device, dtype, TO_HWIO)
        self.register_parameter(
            "bias", _parameter((out_channels,), device, dtype) if bias else None
        )
        self.reset_parameters()

    def _edges(self) -> tuple[int, int, int, int]:
        """The padding: (top, bottom, left, right)."""
        return conv_padding(
            type(self).__name__, self.padding, self.kernel_size, self.stride, self.dilation
        )

    def reset_parameters(self) -> None:
        _reset_weight_and_bias(self.weight, self.bias)

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        if self.padding != (0, 0):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.output_padding != (0, 0):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class Conv2d(_Conv):
    """Convolution.  (N, C_in, H, W) or (C_in, H, W) → (N, C_out, H_out, W_out).

    weight (out_channels, in_channels/groups, kH, kW), bias (out_channels,). padding may be 'same'
    or 'valid'; padding_mode is 'zeros', 'reflect', 'replicate' or 'circular'. Sizes: see
    `functional.conv2d`; the modes: `functional.pad`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size2d,
        stride: Size2d = 1,
        padding: Size2d | str = 0,
        dilation: Size2d = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode not in _PADDING_MODES:
            raise ValueError(
                f"Conv2d: padding_mode must be one of {', '.join(_PADDING_MODES)}, "
                f"got {padding_mode!r}"
            )
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias,
            padding_mode, (out_channels, in_channels), device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            top, bottom, left, right = self._edges()
            input = F.pad(input, (left, right, top, bottom), self.padding_mode)
            padding = 0
        return F.conv2d(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class ConvTranspose2d(_Conv):
    """Transposed convolution.  (N, C_in, H, W) or (C_in, H, W) → (N, C_out, H_out, W_out).

    weight (in_channels, out_channels/groups, kH, kW), bias (out_channels,). A call may name the
    output_size, (H_out, W_out), instead of the output_padding of the layer.
    Sizes: see `functional.conv_transpose2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size2d,
        stride: Size2d = 1,
        padding: Size2d = 0,
        output_padding: Size2d = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size2d = 1,
        padding_mode: str = "zeros",
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ValueError(f"ConvTranspose2d: padding_mode must be 'zeros', got {padding_mode!r}")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding,
            groups, bias, padding_mode, (in_channels, out_channels), device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self.output_padding if output_size is None else self._extra(input, output_size)
        return F.conv_transpose2d(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups,
            self.dilation,
        )  # fmt: skip

    def _extra(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, int]:
        """The output_padding that makes the output (H_out, W_out), or (…, H_out, W_out)."""
        if input.ndim not in (3, 4) or len(output_size) not in (2, input.ndim):
            raise ShapeError(
                f"ConvTranspose2d: output_size must be (H_out, W_out) or have as many sizes as the "
                f"input of shape {input.shape}, got {output_size!r}"
            )
        wanted = pair("ConvTranspose2d", "output_size", (output_size[-2], output_size[-1]))
        least = tuple(
            conv_transpose_output_size(*sizes, 0)
            for sizes in zip(
                input.shape[-2:], self.kernel_size, self.stride, self.padding, self.dilation,
                strict=True,
            )
        )  # fmt: skip
        extra = (wanted[0] - least[0], wanted[1] - least[1])
        if not (0 <= extra[0] < self.stride[0] and 0 <= extra[1] < self.stride[1]):
            most = tuple(size + s - 1 for size, s in zip(least, self.stride, strict=True))
            raise ShapeError(
                f"ConvTranspose2d: output_size must be from {least} to {most} for an input of "
                f"shape {input.shape}, got {tuple(output_size)}"
            )
        return extra
