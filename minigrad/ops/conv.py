"""Convolution and its transpose.

Source: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..device import Device
from ..dtypes import float64
from ..engine import Function, Tensor
from ..geometry import Conv2dDims, Size2d, conv2d_dims, conv_transpose2d_dims
from ..kernels.protocol import UNLIMITED
from ..layout import contiguous
from ..runtime.allocation import allocate
from .keep import kept
from .operands import (
    c_order,
    empty,
    empty_nhwc,
    floating_operands,
    from_nhwc,
    nhwc,
    scratch,
    takes_tensor,
)
from .shape import unbatched

__all__ = ["conv2d", "conv_transpose2d"]

# Between a weight's logical order (C_out, C_in, kH, kW) and the order in which kernels read it and
# nn stores it, (kH, kW, C_in, C_out).
TO_HWIO = (2, 3, 1, 0)
FROM_HWIO = (3, 2, 0, 1)


def convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    dims: Conv2dDims,
    bounds: tuple[float, float] = UNLIMITED,
    repacked: np.ndarray | None = None,
) -> np.ndarray:
    """The NHWC array of the convolution, limited to `bounds`. repacked: of `weight`."""
    launch, dtype = kernels.get(input.device).conv, input.dtype
    out = allocate((dims.N, dims.H_out, dims.W_out, dims.C_out), dtype, input.device)
    workspace = scratch(launch.conv2d_forward_workspace(dims), dtype, input.device)
    launch.conv2d_forward(
        out, nhwc(input), hwio(weight), None if bias is None else c_order(bias),
        repacked, workspace, dims, bounds,
    )  # fmt: skip
    return out


def repacked_weight(ctx: Any, weight: Tensor, dims: Conv2dDims) -> np.ndarray | None:
    """The weight as `convolve` reads it fastest, if it is worth keeping so."""
    launch = kernels.get(weight.device).conv
    elements, form = launch.conv2d_repacking(dims)
    form = form, weight.array.shape
    arrays = kept(ctx, weight, form, (elements,), notes=1) if elements else None
    if arrays is None:
        return None
    ((repacked,), (seen,)), given = arrays, hwio(weight)
    launch.conv2d_repack(repacked, seen, given, given, dims)
    return repacked


def convolution_gradients(
    needed: tuple[bool, ...],
    input: Tensor,
    weight: Tensor,
    grad_output: np.ndarray,
    dims: Conv2dDims,
) -> tuple[Tensor | None, Tensor | None]:
    """Of input and weight, from the NHWC gradient of the convolution."""
    launch, dtype = kernels.get(input.device).conv, input.dtype
    grad_input = grad_weight = None
    if needed[0]:
        grad_input, out = empty_nhwc(input.shape, dtype, input.device)
        workspace = scratch(launch.conv2d_backward_input_workspace(dims), dtype, input.device)
        launch.conv2d_backward_input(out, grad_output, hwio(weight), workspace, dims)
        del workspace  # given back before the next one is asked for
    if needed[1]:
        grad_weight = _weight_gradient(weight, grad_output, nhwc(input), dims)
    return grad_input, grad_weight


class Conv2d(Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, dims: Conv2dDims
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.dims = dims
        repacked = repacked_weight(ctx, weight, dims)
        return from_nhwc(convolve(input, weight, bias, dims, repacked=repacked), input.device)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        grad_nhwc = nhwc(grad_output)
        grads = convolution_gradients(ctx.needs_input_grad, input, weight, grad_nhwc, ctx.dims)
        bias = _bias_gradient(grad_nhwc, input.device) if ctx.needs_input_grad[2] else None
        return *grads, bias, None


class ConvTranspose2d(Function):
    """The adjoint of a convolution: Y = Wᵀ·X where the convolution is X = W·Y.

    So dX = W·dY is the convolution itself. dW is the convolution's, which is bilinear in its input
    and the gradient of its output, with dY for the one and X for the other.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, dims: Conv2dDims
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.dims = dims
        launch = kernels.get(input.device).conv
        shape = dims.N, dims.C_in, dims.H, dims.W
        out, out_nhwc = empty_nhwc(shape, input.dtype, input.device)
        workspace = scratch(
            launch.conv_transpose2d_forward_workspace(dims), input.dtype, input.device
        )
        launch.conv_transpose2d_forward(
            out_nhwc, nhwc(input), hwio(weight), None if bias is None else c_order(bias),
            workspace, dims,
        )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        dims, dtype, device = ctx.dims, input.dtype, input.device
        launch = kernels.get(device).conv
        grad_nhwc = nhwc(grad_output)
        grad_input = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_input, out = empty_nhwc(input.shape, dtype, device)
            workspace = scratch(launch.conv2d_forward_workspace(dims), dtype, device)
            given = hwio(weight)
            launch.conv2d_forward(out, grad_nhwc, given, None, None, workspace, dims, UNLIMITED)
            del workspace  # given back before the next one is asked for
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(weight, nhwc(input), grad_nhwc, dims)
        if ctx.needs_input_grad[2]:
            grad_bias = _bias_gradient(grad_nhwc, device)
        return grad_input, grad_weight, grad_bias, None


def _weight_gradient(weight: Tensor, grad_output: Any, input: Any, dims: Conv2dDims) -> Tensor:
    """Of the convolution that `dims` describes, from NHWC arrays."""
    device, dtype = weight.device, weight.dtype
    launch = kernels.get(device).conv_weight
    grad = allocate((dims.kH, dims.kW, dims.C_in // dims.groups, dims.C_out), dtype, weight.device)
    workspace = scratch(launch.conv2d_backward_weight_workspace(dims), dtype, weight.device)
    launch.conv2d_backward_weight(grad, grad_output, input, workspace, dims)
    return Tensor(grad.transpose(FROM_HWIO), device)


def _bias_gradient(grad_output: Any, device: Device) -> Tensor:
    """Sums over all pixels of an NHWC array."""
    launch, dtype = kernels.get(device).conv_weight, grad_output.dtype
    grad = empty(grad_output.shape[3:], dtype, device)
    workspace = scratch(launch.conv2d_backward_bias_workspace(grad_output.shape), float64, device)
    launch.conv2d_backward_bias(grad.array, grad_output, workspace)
    return grad


def hwio(weight: Tensor) -> Any:
    """The C-ordered (kH, kW, C_in/groups, C_out) array: free for weights that nn made."""
    return contiguous(weight.array.transpose(TO_HWIO), weight.device)


@takes_tensor
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size2d = 1,
    padding: Size2d | str = 0,
    dilation: Size2d = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of every input channel with a kernel, summed over channels.

    input (N, C_in, H, W) or (C_in, H, W); weight (C_out, C_in/groups, kH, kW); bias (C_out,)
    → (N, C_out, H_out, W_out), H_out = ⌊(H + 2·padding − dilation·(kH − 1) − 1) / stride⌋ + 1.
    padding may be 'valid' (0) or 'same' (H_out = H; needs stride 1).
    An infinite or NaN weight on a padded zero: "cpu" leaves the product out, "cuda" computes 0·∞,
    which is NaN; torch does the one or the other, as its sizes decide.
    Raises ShapeError, DTypeError or DeviceError before any work.
    """
    input, restore = unbatched("conv2d", input)
    dims = check_conv2d(input, weight, bias, stride, padding, dilation, groups)
    return restore(Conv2d.apply(input, weight, bias, dims))


def check_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size2d,
    padding: Size2d | str,
    dilation: Size2d,
    groups: int,
) -> Conv2dDims:
    """The sizes of `conv2d` on a batched input; raises what it raises."""
    floating_operands("conv2d", "input weight bias?", input, weight, bias)
    return conv2d_dims(
        input.array.shape, weight.array.shape, None if bias is None else bias.array.shape,
        stride, padding, dilation, groups,
    )  # fmt: skip


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size2d = 1,
    padding: Size2d = 0,
    output_padding: Size2d = 0,
    groups: int = 1,
    dilation: Size2d = 1,
) -> Tensor:
    """Every input pixel adds its multiple of a kernel to the output, `stride` pixels apart.

    The gradient of conv2d with respect to its input, as an operation.
    input (N, C_in, H, W) or (C_in, H, W); weight (C_in, C_out/groups, kH, kW); bias (C_out,)
    → (N, C_out, H_out, W_out),
    H_out = (H − 1)·stride − 2·padding + dilation·(kH − 1) + 1 + output_padding.
    output_padding chooses among the sizes that a strided convolution would bring back to H; it must
    be smaller than the stride or the dilation.
    Raises ShapeError, DTypeError or DeviceError before any work.
    """
    floating_operands("conv_transpose2d", "input weight bias?", input, weight, bias)
    input, restore = unbatched("conv_transpose2d", input)
    dims = conv_transpose2d_dims(
        input.array.shape, weight.array.shape, None if bias is None else bias.array.shape,
        stride, padding, output_padding, groups, dilation,
    )  # fmt: skip
    return restore(ConvTranspose2d.apply(input, weight, bias, dims))
