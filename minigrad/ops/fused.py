"""Operator fusion: chains of operations as one Function: the same results in fewer passes over
memory.

`nn.Sequential` uses them for chains of its layers; see nn/fusion.py. Backward passes are joined in
any graph; see `Function.joined`.

Relu's derivative can be read off its result, so the convolution's own output is never stored: it
leaves the convolution's registers through relu. Backward, relu's derivative and the bias's gradient
go with the pass that makes the gradient of relu's result anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import kernels
from ..dtypes import float64
from ..engine import Function, Tensor
from ..engine.gradient import copy
from ..errors import GraphError
from ..geometry import Conv2dDims, MatmulDims, Pool2dDims
from ..kernels.protocol import POSITIVE, UNLIMITED, Bounds
from ..runtime.allocation import allocate
from .activation import Hardtanh, SiLU
from .conv import FROM_HWIO, convolution_gradients, convolve, hwio, repacked_weight
from .keep import kept
from .matmul import Linear
from .norm import (
    BatchNorm,
    Running,
    affine_gradients,
    batch_statistics,
    normalize,
    parameter,
    statistics,
)
from .operands import elementwise, empty, empty_like, from_nhwc, nhwc, scratch
from .pool import empty_maxima, pool_maxima, spread_to_maxima
from .rows import empty_rows, to_rows
from .unary import ReLU


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
        repacked = repacked_weight(ctx, weight, dims)
        result = convolve(input, weight, bias, dims, POSITIVE, repacked)
        if pool is not None:
            result, ctx.window = pool_maxima(result, pool, input.device)
        out = from_nhwc(result, input.device)
        # As with the layers apart, relu's result must not change before backward, its maxima may.
        ctx.save_for_backward(input, weight, out if pool is None else None)
        ctx.maxima, ctx.bias = _noted(out), None if bias is None else _noted(bias)
        ctx.dims, ctx.pool = dims, pool
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # dz = dy where y > 0, else 0;  db = Σ dz;  then through the maximum to the convolution.
        input, weight, out = ctx.saved_tensors
        if out is None:
            out = _same_maxima(ctx, input, weight)
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


def _noted(tensor: Tensor) -> tuple[Tensor, int]:
    return tensor.detach(), tensor._version.value


def _same_maxima(ctx: Any, input: Tensor, weight: Tensor) -> Tensor:
    """Those of ConvReLU's forward pass; found again if the result was changed in place since."""
    out, version = ctx.maxima
    if out._version.value == version:
        return out
    bias, version = ctx.bias or (None, 0)
    if bias is not None and bias._version.value != version:
        raise GraphError(
            f"ConvReLU: the result of shape {out.shape} and the bias were both changed in place "
            "since; within nn.no_fusion() they may be"
        )
    active = convolve(input, weight, bias, ctx.dims, POSITIVE)
    return from_nhwc(pool_maxima(active, ctx.pool, input.device)[0], input.device)


class ConvReLUBatchNorm(Function):
    """y = batch_norm(max(conv(x) + b, 0)), and then, if `pool` is given, the maximum over windows:
    then the normalised map itself is never stored. Backward for the statistics of the batch."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        dims: Conv2dDims,
        pool: Pool2dDims | None,
        scale: Tensor | None,
        shift: Tensor | None,
        running: Running,
        training: bool,
        momentum: float,
        eps: float,
    ) -> Tensor:
        device = input.device
        repacked = repacked_weight(ctx, weight, dims)
        active = convolve(input, weight, bias, dims, POSITIVE, repacked)
        rows = _rows(active)
        if pool is None:
            out = allocate(active.shape, active.dtype, device)
            mean, invstd = normalize(
                _rows(out), rows, scale, shift, running, training, momentum, eps, device
            )
        else:
            mean, invstd = statistics(rows, running, training, momentum, eps, device)
            out, ctx.window = _normalized_maxima(active, mean, invstd, scale, shift, pool)
        ctx.save_for_backward(input, weight, scale, from_nhwc(active, device), mean, invstd)
        ctx.dims, ctx.pool = dims, pool
        return from_nhwc(out, device)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, scale, active, mean, invstd = ctx.saved_tensors
        _, _, needs_bias, _, _, needs_scale, needs_shift, *_ = ctx.needs_input_grad
        arrays = nhwc(grad_output), nhwc(active), mean, invstd, parameter(scale)
        if ctx.pool is None:
            gradients = _norm_gradients(*arrays)
        else:
            gradients = _norm_pool_gradients(*arrays, True, ctx.window, ctx.pool)
        grad_nhwc, grad_bias, grad_scale, grad_shift = gradients
        grads = convolution_gradients(ctx.needs_input_grad, input, weight, grad_nhwc, ctx.dims)
        return (
            *grads,
            grad_bias if needs_bias else None,
            None,
            None,
            grad_scale if needs_scale else None,
            grad_shift if needs_shift else None,
            *(None,) * 4,
        )


class BatchNormActivation(Function):
    """y = f(z), z = batch_norm(x), f limiting z to `bounds` or, if they are None, silu.

    Only x is saved; z is made again where f's slope is asked for.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        running: Running,
        training: bool,
        momentum: float,
        eps: float,
        bounds: Bounds,
    ) -> Tensor:
        device, dtype, rows = input.device, input.dtype, to_rows(input, 1)
        launch = kernels.get(device).norm_activation
        mean, invstd = statistics(rows, running, training, momentum, eps, device)
        out, out_rows = empty_rows(input.shape, 1, dtype, device)
        if rows.size:
            elements = launch.batch_norm_activation_forward_workspace(*rows.shape)
            launch.batch_norm_activation_forward(
                out_rows, rows, mean.array, invstd.array, parameter(scale), parameter(shift),
                bounds, scratch(elements, dtype, device),
            )  # fmt: skip
        if True in ctx.needs_input_grad:
            # Batch norm alone does not need its shift again: until backward, it may change.
            shift = None if shift is None else copy(shift)
            ctx.save_for_backward(input, scale, shift, mean, invstd)
            ctx.training, ctx.bounds = training, bounds
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return _activation_gradients(ctx, grad_output, ctx.saved_tensors, ctx.bounds)


def _activation_gradients(
    ctx: Any, grad_output: Tensor, saved: tuple[Any, ...], bounds: Bounds
) -> tuple[Tensor | None, ...]:
    """Of y = f(z), z = batch_norm(x): dz = dy·f'(z), and then as batch norm's.

    ctx: of a Function whose first arguments are x, scale and shift. saved: these, with the mean and
    invstd that x was normalised by.
    """
    input, scale, shift, mean, invstd = saved
    device, dtype, C = input.device, input.dtype, invstd.shape
    launch = kernels.get(device).norm_activation
    needs_input, needs_scale, needs_shift = ctx.needs_input_grad[:3]
    grad_rows, rows = to_rows(grad_output, 1), to_rows(input, 1)
    grad_input, out = empty_rows(input.shape, 1, dtype, device) if needs_input else (None, rows)
    if not rows.size:
        return _wanted(ctx, grad_input, *affine_gradients(grad_rows, rows, mean, invstd))
    arrays = grad_rows, rows, mean.array, invstd.array, parameter(scale), parameter(shift)
    grad_scale, grad_shift = empty(C, dtype, device), empty(C, dtype, device)
    if needs_scale or needs_shift or ctx.training:
        elements = launch.batch_norm_activation_backward_affine_workspace(*rows.shape)
        launch.batch_norm_activation_backward_affine(
            grad_scale.array, grad_shift.array, *arrays, bounds, scratch(elements, float64, device)
        )
    if needs_input:
        elements = launch.batch_norm_activation_backward_input_workspace(*rows.shape)
        launch.batch_norm_activation_backward_input(
            out, *arrays, grad_scale.array, grad_shift.array, ctx.training, bounds,
            scratch(elements, dtype, device),
        )  # fmt: skip
    return _wanted(ctx, grad_input, grad_scale, grad_shift)


def _joined(bounds_of: Callable[[Any], Bounds]) -> dict[type[Function], Callable[..., Any]]:
    """The backward pass of an activation together with that of batch norm before it, as in any
    `forward` that calls one after the other. bounds_of(ctx of the activation)."""

    def join(norm: Any, activation: Any, grad_output: Tensor) -> Any:
        activation.saved_tensors  # raises: changed in place since  # noqa: B018
        shift, version = norm.shift or (None, 0)
        if shift is not None and shift._version.value != version:
            return None
        input, scale, mean, invstd = norm.saved_tensors
        saved = input, scale, shift, mean, invstd
        return _activation_gradients(norm, grad_output, saved, bounds_of(activation))

    return {BatchNorm: join}


ReLU.joined = _joined(lambda ctx: POSITIVE)
Hardtanh.joined = _joined(lambda ctx: ctx.parameters)
SiLU.joined = _joined(lambda ctx: None)


def _wanted(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    """The gradients of the first arguments, so far as they are needed; of the others none."""
    needed = ctx.needs_input_grad
    rest = len(needed) - len(grads)
    pairs = zip(needed, grads, strict=False)
    return *[grad if needs else None for needs, grad in pairs], *[None] * rest


class BatchNormMaxPool(Function):
    """y = max(f(z)) over windows, z = batch_norm(x) with the statistics of the batch, f limiting z
    to `bounds`. Neither z nor f(z) is stored.

    A limit and the maximum are interchangeable: y = f(m), m = max(z). Where f(z) has equal maxima
    that z has not, they lie on a bound, and no gradient passes.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        running: Running,
        momentum: float,
        eps: float,
        bounds: tuple[float, float],
        pool: Pool2dDims,
    ) -> Tensor:
        device, rows = input.device, nhwc(input)
        mean, invstd = batch_statistics(_rows(rows), running, momentum, eps, device)
        maxima, ctx.window = _normalized_maxima(rows, mean, invstd, scale, shift, pool)
        peak, limited = from_nhwc(maxima, device), bounds is not UNLIMITED
        ctx.save_for_backward(input, scale, mean, invstd, peak if limited else None)
        ctx.pool, ctx.bounds = pool, bounds
        if not limited:
            return peak
        out, out_flat, (flat,) = elementwise("clamp", peak)
        kernels.get(device).unary.clamp_forward(out_flat, flat, *bounds)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, scale, mean, invstd, peak = ctx.saved_tensors
        if peak is not None:
            grad_output = _before_limits(grad_output, peak, ctx.bounds)
        gradients = _norm_pool_gradients(
            nhwc(grad_output), nhwc(input), mean, invstd, parameter(scale), False,
            ctx.window, ctx.pool,
        )  # fmt: skip
        grad_input, _, grad_scale, grad_shift = gradients
        return _wanted(ctx, from_nhwc(grad_input, input.device), grad_scale, grad_shift)


def _before_limits(grad_output: Tensor, input: Tensor, bounds: tuple[float, float]) -> Tensor:
    grad, grad_flat, (flat, upstream) = elementwise("clamp", input, grad_output)
    launch = kernels.get(input.device).unary
    if math.isnan(bounds[1]):
        # Which relu's slope asks of its output is as true of its input. NaN passes.
        launch.relu_backward_input(grad_flat, upstream, flat)
    else:
        launch.clamp_backward_input(grad_flat, upstream, flat, *bounds)
    return grad


class FoldedConv(Function):
    """f(batch_norm(conv(x) + b)) in evaluation, where nothing requires a gradient, f as in
    `BatchNormActivation`: one convolution with scaled weights. They are scaled anew whenever
    weights or statistics have changed, in whatever way."""

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
        eps: float,
        bounds: Bounds,
    ) -> Tensor:
        assert running.mean is not None
        assert running.var is not None
        device, C, given = input.device, dims.C_out, hwio(weight)
        backend, sizes = kernels.get(device), (given.size, C)
        elements, form = backend.conv.conv2d_repacking(dims)
        absent = bias is None, scale is None, shift is None
        form = form, given.shape, id(weight), eps, absent
        # Of a convolution that several batch norms follow, each has its own.
        arrays = kept(ctx, running.mean, form, (*sizes, elements), notes=2) if elements else None
        if arrays is None:
            folded, offset = [allocate((size,), input.dtype, device) for size in sizes]
            repacked = seen = None
        else:
            (folded, offset, repacked), (seen, seen_folded) = arrays
        backend.norm.batch_norm_fold(
            folded.reshape(-1, C), offset, given.reshape(-1, C), parameter(bias),
            running.mean.array, running.var.array, parameter(scale), parameter(shift), eps,
            seen, scratch(C, float64, device),
        )  # fmt: skip
        folded = folded.reshape(given.shape)
        if repacked is not None and seen is not None:
            backend.conv.conv2d_repack(repacked, seen_folded, folded, seen, dims)
        folded_weight = Tensor(folded.transpose(FROM_HWIO), device)
        folded_bias = Tensor(offset, device)
        limits = bounds or UNLIMITED
        result = convolve(input, folded_weight, folded_bias, dims, limits, repacked)
        if bounds is None:
            given, result = result, allocate(result.shape, input.dtype, device)
            kernels.get(device).unary.silu_forward(result.reshape(-1), given.reshape(-1))
        return from_nhwc(result, device)


class LinearReLU(Linear):
    """max(input·weightᵀ + bias, 0). Source of the gradients: those of `Linear`."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        dims: MatmulDims,
        bounds: tuple[float, float] = POSITIVE,
    ) -> Tensor:
        out = Linear.forward(ctx, input, weight, bias, dims, bounds)
        ctx.save_for_backward(input, weight, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        _, _, out = ctx.saved_tensors
        return Linear.backward(ctx, _before_limits(grad_output, out, POSITIVE))


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
    relu: bool,
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
    elements = launch.batch_norm_max_pool2d_backward_input_workspace(pool)
    workspace = scratch(elements, float64, device)
    launch.batch_norm_max_pool2d_backward_input(
        grad, grad_bias.array, grad_output, window, active, mean.array, invstd.array, scale,
        grad_scale.array, grad_shift.array, relu, workspace, pool,
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
