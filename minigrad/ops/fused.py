"""Operator fusion: chains of operations as one Function: the same results in fewer passes over
memory.

`nn.Sequential` uses them for chains of its layers; see nn/fusion.py.

Relu's derivative can be read off its result, so the convolution's own output is never stored: it
leaves the convolution's registers through relu. Backward, relu's derivative and the bias's gradient
go with the pass that makes the gradient of relu's result anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..dtypes import float64
from ..engine import Function, Tensor
from ..geometry import Conv2dDims, Pool2dDims
from ..runtime.allocation import allocate
from .conv import convolution_gradients, convolve
from .norm import Running, affine_gradients, batch_statistics, normalize, parameter
from .operands import empty, empty_like, from_nhwc, nhwc, scratch
from .pool import empty_maxima, pool_maxima, spread_to_maxima


class ConvReLU(Function):
    """y = max(conv(x) + b, 0), and then, if `pool` is given, the maximum over windows.

    Relu and the maximum are interchangeable, so relu's derivative may be taken at the maxima: there
    are fewer of them, and where a maximum is 0 no gradient passes, whichever element it came from.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        dims: Conv2dDims,
        pool: Pool2dDims | None,
    ) -> Tensor:
        result = convolve(input, weight, bias, dims, relu=True)
        if pool is not None:
            result, ctx.window = pool_maxima(result, pool, input.device)
        out = from_nhwc(result, input.device)
        ctx.save_for_backward(input, weight, out)
        ctx.dims, ctx.pool = dims, pool
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # dz = dy where y > 0, else 0;  db = Σ dz;  then through the maximum to the convolution.
        input, weight, out = ctx.saved_tensors
        launch, device = kernels.get(input.device).conv_weight, input.device
        out_nhwc = nhwc(out)
        shape, dtype = out_nhwc.shape, out_nhwc.dtype
        grad, grad_bias = allocate(shape, dtype, device), empty(shape[3:], dtype, device)
        workspace = scratch(launch.conv2d_backward_bias_workspace(shape), float64, device)
        launch.conv2d_backward_relu(grad, grad_bias.array, nhwc(grad_output), out_nhwc, workspace)
        if ctx.pool is not None:
            grad = spread_to_maxima(grad, ctx.window, ctx.pool, device)
        grads = convolution_gradients(ctx.needs_input_grad, input, weight, grad, ctx.dims)
        return *grads, grad_bias if ctx.needs_input_grad[2] else None, None, None


class ConvReLUBatchNorm(Function):
    """y = batch_norm(max(conv(x) + b, 0)) with the statistics of the batch, and then, if `pool` is
    given, the maximum over windows: then the normalised map itself is never stored."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        shift: Tensor | None,
        dims: Conv2dDims,
        running: Running,
        momentum: float,
        eps: float,
        pool: Pool2dDims | None,
    ) -> Tensor:
        device = input.device
        active = convolve(input, weight, bias, dims, relu=True)
        rows = _rows(active)
        if pool is None:
            out = allocate(active.shape, active.dtype, device)
            mean, invstd = normalize(
                _rows(out), rows, scale, shift, running, True, momentum, eps, device
            )
        else:
            mean, invstd = batch_statistics(rows, running, momentum, eps, device)
            out, ctx.window = _normalized_maxima(active, mean, invstd, scale, shift, pool)
        ctx.save_for_backward(input, weight, scale, from_nhwc(active, device), mean, invstd)
        ctx.dims, ctx.pool = dims, pool
        return from_nhwc(out, device)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, scale, active, mean, invstd = ctx.saved_tensors
        _, _, needs_bias, needs_scale, needs_shift, *_ = ctx.needs_input_grad
        arrays = nhwc(grad_output), nhwc(active), mean, invstd, parameter(scale)
        if ctx.pool is None:
            gradients = _norm_gradients(*arrays)
        else:
            gradients = _norm_pool_gradients(*arrays, ctx.window, ctx.pool)
        grad_nhwc, grad_bias, grad_scale, grad_shift = gradients
        grads = convolution_gradients(ctx.needs_input_grad, input, weight, grad_nhwc, ctx.dims)
        return (
            *grads,
            grad_bias if needs_bias else None,
            grad_scale if needs_scale else None,
            grad_shift if needs_shift else None,
            *(None,) * 5,
        )


# What batch norm passes back: the NHWC gradient of the convolution, and those of its bias and of
# scale and shift. The first is made of the last two.
Gradients = tuple[np.ndarray, Tensor, Tensor, Tensor]


def _norm_gradients(
    grad_output: np.ndarray,
    active: np.ndarray,
    mean: Tensor,
    invstd: Tensor,
    scale: np.ndarray | None,
) -> Gradients:
    device, rows, grad_rows = mean.device, _rows(active), _rows(grad_output)
    launch = kernels.get(device).norm
    grad_scale, grad_shift = affine_gradients(grad_rows, rows, mean, invstd)
    grad, grad_bias = allocate(active.shape, active.dtype, device), empty_like(invstd)
    workspace = scratch(launch.batch_norm_backward_relu_workspace(*rows.shape), float64, device)
    launch.batch_norm_backward_relu(
        _rows(grad), grad_bias.array, grad_rows, rows, mean.array, invstd.array, scale,
        grad_scale.array, grad_shift.array, workspace,
    )  # fmt: skip
    return grad, grad_bias, grad_scale, grad_shift


def _norm_pool_gradients(
    grad_output: np.ndarray,
    active: np.ndarray,
    mean: Tensor,
    invstd: Tensor,
    scale: np.ndarray | None,
    window: np.ndarray,
    pool: Pool2dDims,
) -> Gradients:
    device = mean.device
    launch = kernels.get(device).norm_pool
    grad_scale, grad_shift, grad_bias = (empty_like(invstd) for _ in range(3))
    elements = launch.batch_norm_max_pool2d_backward_affine_workspace(pool)
    workspace = scratch(elements, float64, device)
    launch.batch_norm_max_pool2d_backward_affine(
        grad_scale.array, grad_shift.array, grad_output, window, active,
        mean.array, invstd.array, workspace, pool,
    )  # fmt: skip
    grad = allocate(active.shape, active.dtype, device)
    elements = launch.batch_norm_max_pool2d_backward_relu_workspace(pool)
    workspace = scratch(elements, float64, device)
    launch.batch_norm_max_pool2d_backward_relu(
        grad, grad_bias.array, grad_output, window, active, mean.array, invstd.array, scale,
        grad_scale.array, grad_shift.array, workspace, pool,
    )  # fmt: skip
    return grad, grad_bias, grad_scale, grad_shift


def _normalized_maxima(
    input: np.ndarray,
    mean: Tensor,
    invstd: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    pool: Pool2dDims,
) -> tuple[np.ndarray, np.ndarray]:
    """`pool_maxima` of the normalised NHWC array."""
    device, dtype = mean.device, input.dtype
    launch = kernels.get(device).norm_pool
    out, taps = empty_maxima(pool, dtype, device)
    workspace = scratch(launch.batch_norm_max_pool2d_forward_workspace(pool), dtype, device)
    launch.batch_norm_max_pool2d_forward(
        out, taps, input, mean.array, invstd.array, parameter(scale), parameter(shift),
        workspace, pool,
    )  # fmt: skip
    return out, taps


def _rows(array: np.ndarray) -> np.ndarray:
    """An NHWC array as (pixels, C)."""
    return array.reshape(-1, array.shape[3])
