"""Chains of operations as one Function: the same results in fewer passes over memory.

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
from ..runtime import memory
from ._operands import empty, from_nhwc, nhwc, scratch
from .conv import convolution_gradients, convolve
from .norm import Running, affine_gradients, normalize, parameter
from .pool import pool_maxima, spread_to_maxima


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
        backend, device = kernels.get(input.device), input.device
        out_nhwc = nhwc(out)
        shape, dtype = out_nhwc.shape, out_nhwc.dtype
        grad, grad_bias = memory.empty(shape, dtype), empty(shape[3:], dtype, device)
        workspace = scratch(backend.conv2d_backward_bias_workspace(shape), float64)
        backend.conv2d_backward_relu(grad, grad_bias.data, nhwc(grad_output), out_nhwc, workspace)
        if ctx.pool is not None:
            grad = spread_to_maxima(grad, ctx.window, ctx.pool, device)
        grads = convolution_gradients(ctx.needs_input_grad, input, weight, grad, ctx.dims)
        return *grads, grad_bias if ctx.needs_input_grad[2] else None, None, None


class ConvReLUBatchNorm(Function):
    """y = batch_norm(max(conv(x) + b, 0)) with the statistics of the batch."""

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
    ) -> Tensor:
        device = input.device
        active = convolve(input, weight, bias, dims, relu=True)
        out = memory.empty(active.shape, active.dtype)
        mean, invstd = normalize(
            _rows(out), _rows(active), scale, shift, running, True, momentum, eps, device
        )
        ctx.save_for_backward(input, weight, scale, from_nhwc(active, device), mean, invstd)
        ctx.dims = dims
        return from_nhwc(out, device)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, scale, active, mean, invstd = ctx.saved_tensors
        _, _, needs_bias, needs_scale, needs_shift, *_ = ctx.needs_input_grad
        backend, device = kernels.get(input.device), input.device
        active_nhwc = nhwc(active)
        shape, dtype = active_nhwc.shape, active_nhwc.dtype
        active_rows, grad_rows = _rows(active_nhwc), _rows(nhwc(grad_output))
        grad_scale, grad_shift = affine_gradients(grad_rows, active_rows, mean, invstd)
        grad, grad_bias = memory.empty(shape, dtype), empty(shape[3:], dtype, device)
        workspace = scratch(backend.batch_norm_backward_relu_workspace(*active_rows.shape), float64)
        backend.batch_norm_backward_relu(
            _rows(grad), grad_bias.data, grad_rows, active_rows, mean.data, invstd.data,
            parameter(scale), grad_scale.data, grad_shift.data, workspace,
        )  # fmt: skip
        grads = convolution_gradients(ctx.needs_input_grad, input, weight, grad, ctx.dims)
        return (
            *grads,
            grad_bias if needs_bias else None,
            grad_scale if needs_scale else None,
            grad_shift if needs_shift else None,
            *(None,) * 4,
        )


def _rows(array: np.ndarray) -> np.ndarray:
    """An NHWC array as (pixels, C)."""
    return array.reshape(-1, array.shape[3])
