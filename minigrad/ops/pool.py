"""Pooling: the maximum or the average of every window. Source: LeCun et al. 1998, "Gradient-based
learning applied to document recognition"; adaptive windows: He et al. 2014, "Spatial pyramid
pooling".
"""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..device import Device
from ..dtypes import int64, uint8
from ..engine import Function, Tensor
from ..geometry import (
    AdaptivePool2dDims,
    Pool2dDims,
    Size2d,
    adaptive_pool2d_dims,
    pool2d_dims,
)
from ..runtime.allocation import allocate
from .operands import empty_nhwc, floating_operands, from_nhwc, nhwc, takes_tensor
from .shape import unbatched

__all__ = ["adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "lp_pool2d", "max_pool2d"]

Dims = Pool2dDims | AdaptivePool2dDims


def _out_shape(dims: Dims) -> tuple[int, int, int, int]:
    return dims.N, dims.C, dims.H_out, dims.W_out


def _position_dtype(dims: Dims) -> np.dtype:
    """The smallest integer that counts the taps of a window."""
    taps = dims.kH * dims.kW
    return uint8 if taps <= 2**8 else np.dtype(np.int32) if taps <= 2**31 else int64


def empty_maxima(dims: Dims, dtype: np.dtype, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """Uninitialised NHWC arrays for the maxima and for their taps."""
    shape = dims.N, dims.H_out, dims.W_out, dims.C
    return allocate(shape, dtype, device), allocate(shape, _position_dtype(dims), device)


def pool_maxima(input: np.ndarray, dims: Dims, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """The maxima over windows of an NHWC array, and which tap of its window each is.

    The taps are all that backward needs: a byte each, for windows of up to 256.
    """
    out, taps = empty_maxima(dims, input.dtype, device)
    kernels.get(device).pool.max_pool2d_forward(out, taps, input, dims)
    return out, taps


def spread_to_maxima(
    grad_output: np.ndarray, taps: np.ndarray, dims: Dims, device: Device
) -> np.ndarray:
    """The gradient of the input: each maximum's gradient where the maximum came from."""
    grad_input = allocate((dims.N, dims.H, dims.W, dims.C), grad_output.dtype, device)
    kernels.get(device).pool.max_pool2d_backward_input(grad_input, grad_output, taps, dims)
    return grad_input


class MaxPool2d(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, dims: Dims, return_indices: bool) -> Any:
        ctx.dims = dims
        maxima, ctx.window = pool_maxima(nhwc(input), dims, input.device)
        out = from_nhwc(maxima, input.device)
        if not return_indices:
            return out
        indices, indices_nhwc = empty_nhwc(_out_shape(dims), int64, input.device)
        kernels.get(input.device).pool.max_pool2d_indices(indices_nhwc, ctx.window, dims)
        return out, indices

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        device = grad_output.device
        grad_input = spread_to_maxima(nhwc(grad_output), ctx.window, ctx.dims, device)
        return from_nhwc(grad_input, device), None, None


class AvgPool2d(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, dims: Dims) -> Tensor:
        ctx.dims, ctx.dtype = dims, input.dtype
        out, out_nhwc = empty_nhwc(_out_shape(dims), input.dtype, input.device)
        kernels.get(input.device).pool.avg_pool2d_forward(out_nhwc, nhwc(input), dims)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        d, device = ctx.dims, grad_output.device
        grad_input, grad_nhwc = empty_nhwc((d.N, d.C, d.H, d.W), ctx.dtype, device)
        kernels.get(device).pool.avg_pool2d_backward_input(grad_nhwc, nhwc(grad_output), d)
        return grad_input, None


class LPPool2d(Function):
    """Y = (k·Σ x^p / cells)^(1/p), k the kernel's size: dx = grad · k/cells · (x/Y)^(p − 1)."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, dims: Pool2dDims, norm_type: float) -> Tensor:
        ctx.dims, ctx.norm_type = dims, norm_type
        out, out_nhwc = empty_nhwc(_out_shape(dims), input.dtype, input.device)
        kernels.get(input.device).pool.lp_pool2d_forward(out_nhwc, nhwc(input), dims, norm_type)
        ctx.save_for_backward(input, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, out = ctx.saved_tensors
        grad_input, grad_nhwc = empty_nhwc(input.shape, input.dtype, input.device)
        kernels.get(input.device).pool.lp_pool2d_backward_input(
            grad_nhwc, nhwc(grad_output), nhwc(out), nhwc(input), ctx.dims, ctx.norm_type
        )
        return grad_input, None, None


@overload
def max_pool2d(
    input: Tensor,
    kernel_size: Size2d,
    stride: Size2d | None = ...,
    padding: Size2d = ...,
    dilation: Size2d = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
) -> Tensor: ...
@overload
def max_pool2d(
    input: Tensor,
    kernel_size: Size2d,
    stride: Size2d | None = ...,
    padding: Size2d = ...,
    dilation: Size2d = ...,
    ceil_mode: bool = ...,
    *,
    return_indices: bool,
) -> Tensor | tuple[Tensor, Tensor]: ...
@takes_tensor
def max_pool2d(
    input: Tensor,
    kernel_size: Size2d,
    stride: Size2d | None = None,
    padding: Size2d = 0,
    dilation: Size2d = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Maximum over each window.

    input (N, C, H, W) or (C, H, W) → (N, C, H_out, W_out),
    H_out = ⌊(H + 2·padding − dilation·(kH − 1) − 1) / stride⌋ + 1; with ceil_mode rounded up, less
    a last window that would start in the far padding. stride is kernel_size unless given.
    return_indices: also the int64 positions h·W + w of the maxima, as a second result.
    Ties: the first maximum, row-major. NaN propagates, with the position of the last NaN. Where
    dilation makes a window miss the input altogether: −inf, at position −1.
    Raises ShapeError if a window exceeds the padded input or padding half the window, DTypeError
    for integers.
    """
    floating_operands("max_pool2d", "input", input)
    input, restore = unbatched("max_pool2d", input)
    dims = pool2d_dims("max_pool2d", input.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool2d(input, dims, return_indices, restore)


def _max_pool2d(input: Tensor, dims: Dims, return_indices: bool, restore: Any) -> Any:
    result = MaxPool2d.apply(input, dims, bool(return_indices))
    return tuple(map(restore, result)) if return_indices else restore(result)


@takes_tensor
def avg_pool2d(
    input: Tensor,
    kernel_size: Size2d,
    stride: Size2d | None = None,
    padding: Size2d = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Average over each window.

    input (N, C, H, W) or (C, H, W) → (N, C, H_out, W_out), sizes as in `max_pool2d`.
    count_include_pad: cells in the padding count as zeros; cells past it, which ceil_mode can
    reach, never count. divisor_override: divide by this instead of by the number of cells.
    Raises ShapeError if a window exceeds the padded input, padding half the window or
    divisor_override is 0, DTypeError for integers.
    """
    floating_operands("avg_pool2d", "input", input)
    input, restore = unbatched("avg_pool2d", input)
    dims = pool2d_dims(
        "avg_pool2d", input.shape, kernel_size, stride, padding, 1, ceil_mode,
        count_include_pad, divisor_override,
    )  # fmt: skip
    return restore(AvgPool2d.apply(input, dims))


@takes_tensor
def adaptive_max_pool2d(
    input: Tensor,
    output_size: int | tuple[int | None, int | None],
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Maximum over windows chosen so that the result has `output_size`.

    input (N, C, H, W) or (C, H, W) → (N, C, *output_size); None keeps a size. The window of
    position a reads rows ⌊a·H/H_out⌋ … ⌈(a + 1)·H/H_out⌉ − 1: neighbours may overlap by one row.
    Ties, NaN and return_indices as in `max_pool2d`. Raises ShapeError or DTypeError.
    """
    floating_operands("adaptive_max_pool2d", "input", input)
    input, restore = unbatched("adaptive_max_pool2d", input)
    dims = adaptive_pool2d_dims("adaptive_max_pool2d", input.shape, output_size)
    return _max_pool2d(input, dims, return_indices, restore)


def adaptive_avg_pool2d(input: Tensor, output_size: int | tuple[int | None, int | None]) -> Tensor:
    """Average over the windows of `adaptive_max_pool2d`; output_size=1 is the global average.

    input (N, C, H, W) or (C, H, W) → (N, C, *output_size). Raises ShapeError or DTypeError.
    """
    floating_operands("adaptive_avg_pool2d", "input", input)
    input, restore = unbatched("adaptive_avg_pool2d", input)
    dims = adaptive_pool2d_dims("adaptive_avg_pool2d", input.shape, output_size, least_channels=0)
    return restore(AvgPool2d.apply(input, dims))


@takes_tensor
def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: Size2d,
    stride: Size2d | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Power average over each window: (Σ input^norm_type)^(1/norm_type).

    input (N, C, H, W) or (C, H, W) → (N, C, H_out, W_out), sizes as in `max_pool2d`. The sum of a
    window that ceil_mode lets reach past the end is scaled up to all its cells. NaN where a sum is
    negative and norm_type not 1; a window whose sum is 0 gets no gradient.
    Raises ShapeError if a window exceeds the input, ValueError for a norm_type of 0, DTypeError
    for integers.
    """
    floating_operands("lp_pool2d", "input", input)
    norm_type = check_number("lp_pool2d", "norm_type", norm_type)
    if norm_type == 0:
        raise ValueError("lp_pool2d: norm_type must not be 0")
    input, restore = unbatched("lp_pool2d", input)
    dims = pool2d_dims("lp_pool2d", input.shape, kernel_size, stride, 0, 1, ceil_mode)
    return restore(LPPool2d.apply(input, dims, norm_type))
