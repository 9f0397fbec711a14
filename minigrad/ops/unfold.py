"""im2col and col2im: sliding windows as columns, and their sum back into an image: each the other's
adjoint.

A convolution is unfold → matmul; its input gradient is matmul → fold.
"""

from __future__ import annotations

from typing import Any

from .. import kernels
from ..engine import Function, Tensor
from ..errors import ShapeError
from ..geometry import Pool2dDims, Size2d, pair, unfold_dims
from .operands import c_order, empty, floating_operands
from .shape import unbatched

__all__ = ["fold", "unfold"]


def _unfolded(input: Tensor, dims: Pool2dDims) -> Tensor:
    d = dims
    out = empty((d.N, d.C * d.kH * d.kW, d.H_out * d.W_out), input.dtype, input.device)
    columns = out.array.reshape(d.N, d.C, d.kH, d.kW, d.H_out, d.W_out)
    kernels.get(input.device).unfold.unfold_forward(columns, c_order(input), dims)
    return out


def _folded(input: Tensor, dims: Pool2dDims) -> Tensor:
    d = dims
    out = empty((d.N, d.C, d.H, d.W), input.dtype, input.device)
    columns = c_order(input).reshape(d.N, d.C, d.kH, d.kW, d.H_out, d.W_out)
    kernels.get(input.device).unfold.fold_forward(out.array, columns, dims)
    return out


class Unfold(Function):
    """columns[c, kh, kw, oh, ow] = input[c, h, w]: every column's gradient goes back to (h, w)."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, dims: Pool2dDims) -> Tensor:
        ctx.dims = dims
        return _unfolded(input, dims)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return _folded(grad_output, ctx.dims), None


class Fold(Function):
    """out[c, h, w] = Σ columns that came from (h, w): its gradient is copied to all of them."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, dims: Pool2dDims) -> Tensor:
        ctx.dims = dims
        return _folded(input, dims)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return _unfolded(grad_output, ctx.dims), None


def unfold(
    input: Tensor,
    kernel_size: Size2d,
    dilation: Size2d = 1,
    padding: Size2d = 0,
    stride: Size2d = 1,
) -> Tensor:
    """The windows of an image as columns.

    input (N, C, H, W) or (C, H, W) → (N, C·kH·kW, L), L = H_out·W_out windows in row-major order;
    a column holds its window channel by channel, row by row, zeros where it reaches the padding.
    Raises ShapeError if no window fits, DTypeError for integers.
    """
    floating_operands("unfold", "input", input)
    input, restore = unbatched("unfold", input)
    dims = unfold_dims("unfold", input.shape, kernel_size, dilation, padding, stride)
    return restore(Unfold.apply(input, dims))


def fold(
    input: Tensor,
    output_size: Size2d,
    kernel_size: Size2d,
    dilation: Size2d = 1,
    padding: Size2d = 0,
    stride: Size2d = 1,
) -> Tensor:
    """Add columns back to where `unfold` takes them from: the adjoint of unfold, not its inverse.

    input (N, C·kH·kW, L) or (C·kH·kW, L) → (N, C, *output_size). A pixel in several windows gets
    the sum of their entries; what lies in the padding is dropped.
    Raises ShapeError if the number of rows or of columns does not fit, DTypeError for integers.
    """
    floating_operands("fold", "input", input)
    if input.ndim not in (2, 3):
        raise ShapeError(
            f"fold: input must be (N, C·kH·kW, L) or (C·kH·kW, L), got shape {input.shape}"
        )
    batched = input.ndim == 3
    columns = input if batched else input.reshape(1, *input.shape)
    N, rows, L = columns.shape
    kH, kW = pair("fold", "kernel_size", kernel_size, minimum=1)
    size = pair("fold", "output_size", output_size, minimum=1)
    if rows == 0 or rows % (kH * kW):
        raise ShapeError(
            f"fold: the {rows} rows of an input of shape {input.shape} must be a positive multiple "
            f"of the {kH * kW} elements of a {kH}×{kW} kernel"
        )
    shape = (N, rows // (kH * kW), *size)
    dims = unfold_dims("fold", shape, (kH, kW), dilation, padding, stride)
    if dims.H_out * dims.W_out != L:
        raise ShapeError(
            f"fold: output_size {size} has {dims.H_out}×{dims.W_out} = {dims.H_out * dims.W_out} "
            f"windows, got {L} columns in an input of shape {input.shape}"
        )
    out = Fold.apply(columns, dims)
    return out if batched else out.reshape(out.shape[1:])
