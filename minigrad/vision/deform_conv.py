"""Deformable convolution: the taps of a kernel move by offsets that depend on the place.

Source: Dai et al. 2017, "Deformable convolutional networks"; with mask, Zhu et al. 2019,
"Deformable ConvNets v2". Made of `grid_sample` of all taps (im2col) and a grouped matrix product.
"""

from __future__ import annotations

from ..engine import Tensor
from ..errors import ShapeError
from ..geometry import Size2d, conv2d_dims, pair
from ..nn import Module, Parameter, init
from ..ops.arithmetic import add, mul
from ..ops.creation import arange, empty
from ..ops.grid import grid_sample
from ..ops.join import stack
from ..ops.matmul import matmul
from ..ops.operands import floating_operands
from ..ops.shape import reshape

__all__ = ["DeformConv2d", "deform_conv2d"]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size2d = (1, 1),
    padding: Size2d = (0, 0),
    dilation: Size2d = (1, 1),
    mask: Tensor | None = None,
) -> Tensor:
    """`conv2d` whose taps are read beside their places, bilinearly, and weighted by a mask.

    input (N, C_in, H, W); weight (C_out, C_in/groups, kH, kW); offset (N, 2·G·kH·kW, H_out, W_out),
    pairs (y, x) in pixels, for G groups of input channels; mask (N, G·kH·kW, H_out, W_out).
    Raises ShapeError.
    """
    name = "deform_conv2d"
    names = "input offset weight bias? mask?"
    floating_operands(name, names, input, offset, weight, bias, mask)
    if input.ndim != 4 or weight.ndim != 4 or 0 in weight.shape or input.shape[1] % weight.shape[1]:
        raise ShapeError(
            f"{name}: input must be (N, C_in, H, W) and weight (C_out, C_in/groups, kH, kW), got "
            f"shapes {input.shape} and {weight.shape}"
        )
    C_in, groups = input.shape[1], input.shape[1] // weight.shape[1]
    d = conv2d_dims(
        input.shape, weight.shape, None if bias is None else bias.shape,
        stride, padding, dilation, groups, name,
    )  # fmt: skip
    taps, places = d.kH * d.kW, (d.H_out, d.W_out)
    G = offset.shape[1] // (2 * taps) if offset.ndim == 4 else 0
    if G == 0 or C_in % G or offset.shape != (d.N, 2 * G * taps, *places):
        raise ShapeError(
            f"{name}: offset must be {(d.N, f'2·G·{taps}', *places)} with G groups of {C_in} "
            f"channels, got shape {offset.shape}"
        )
    if mask is not None and mask.shape != (d.N, G * taps, *places):
        raise ShapeError(
            f"{name}: mask must have shape {(d.N, G * taps, *places)}, got {mask.shape}"
        )
    (sH, sW), (pH, pW), (dH, dW) = (
        pair(name, each, value)
        for each, value in (("stride", stride), ("padding", padding), ("dilation", dilation))
    )
    # Each tap's place in pixels, (N, G, kH, kW, H_out, W_out), then from −1 to 1.
    moved = reshape(offset, (d.N, G, d.kH, d.kW, 2, *places))
    coordinates = []
    for axis, (size, step, pad, spread, count) in enumerate(
        ((d.H, sH, pH, dH, d.kH), (d.W, sW, pW, dW, d.kW))
    ):
        kind = {"dtype": input.dtype, "device": input.device}
        tap = reshape(arange(count, **kind) * spread, [count if a == axis else 1 for a in range(4)])
        out = arange(places[axis], **kind) * step - pad
        at = moved[:, :, :, :, axis] + add(tap, reshape(out, [-1, 1] if axis == 0 else [1, -1]))
        coordinates.append((2 * at + 1) / size - 1)
    grid = reshape(stack(coordinates[::-1], -1), (d.N * G, taps * d.H_out, d.W_out, 2))
    maps = reshape(input, (d.N * G, C_in // G, d.H, d.W))
    read = reshape(grid_sample(maps, grid, align_corners=False), (d.N, G, C_in // G, taps, -1))
    if mask is not None:
        read = mul(read, reshape(mask, (d.N, G, 1, taps, -1)))
    # (groups, C_out/groups, C·taps) @ (N, groups, C·taps, H_out·W_out), C of one group.
    columns = reshape(read, (d.N, groups, weight.shape[1] * taps, -1))
    filters = reshape(weight, (groups, len(weight) // groups, -1))
    result = reshape(matmul(filters, columns), (d.N, len(weight), *places))
    return result if bias is None else add(result, reshape(bias, (-1, 1, 1)))


class DeformConv2d(Module):
    """`deform_conv2d` with a weight and a bias of its own; forward(input, offset, mask=None)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size2d,
        stride: Size2d = 1,
        padding: Size2d = 0,
        dilation: Size2d = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ShapeError(
                f"DeformConv2d: groups must divide both channels, got groups={groups}, "
                f"{in_channels} and {out_channels} channels"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair("DeformConv2d", "kernel_size", kernel_size, minimum=1)
        self.stride = pair("DeformConv2d", "stride", stride, minimum=1)
        self.padding = pair("DeformConv2d", "padding", padding)
        self.dilation = pair("DeformConv2d", "dilation", dilation, minimum=1)
        self.weight = Parameter(empty(out_channels, in_channels // groups, *self.kernel_size))
        self.register_parameter("bias", Parameter(empty(out_channels)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As a convolution's."""
        init.kaiming_uniform_(self.weight, a=5**0.5)
        if self.bias is not None:
            bound = self.weight[0].numel() ** -0.5
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        return deform_conv2d(
            input, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask
        )

    def extra_repr(self) -> str:
        own = {"padding": (0, 0), "dilation": (1, 1), "groups": 1}
        shown = [f"kernel_size={self.kernel_size}", f"stride={self.stride}"]
        shown += [
            f"{name}={getattr(self, name)}" for name in own if getattr(self, name) != own[name]
        ]
        shown += [] if self.bias is not None else ["bias=False"]
        return f"{self.in_channels}, {self.out_channels}, {', '.join(shown)}"
