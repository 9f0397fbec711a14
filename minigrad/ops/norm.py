"""Batch normalisation, and two more of its time: instance and local response normalisation.

Sources: Ioffe & Szegedy 2015, "Batch Normalization"; Ulyanov et al. 2016, "Instance Normalization";
Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", §3.3.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..arguments import check_int, check_number
from ..device import Device
from ..dtypes import float64
from ..engine import Function, Tensor, no_grad
from ..errors import GraphError, ShapeError
from .arithmetic import div, pow, square
from .group_norm import GroupNorm
from .operands import c_order, check_writable, empty, floating_operands, scratch, takes_tensor
from .pool import avg_pool2d
from .reduce import mean, var
from .rows import empty_rows, to_rows
from .shape import permute, reshape

__all__ = ["batch_norm", "instance_norm", "local_response_norm"]


class Running(NamedTuple):
    """What training moves, or None where there is none: mean, variance (C,) and how often ()."""

    mean: Tensor | None
    var: Tensor | None
    batches: Tensor | None = None


def batch_statistics(
    input: np.ndarray, running: Running, momentum: float, eps: float, device: Device
) -> tuple[Tensor, Tensor]:
    """The mean (2, C) and invstd (C,) of an array (rows, C); the running ones are moved.

    An empty batch has none: what is returned is uninitialised, and only the count moves.
    """
    launch, dtype = kernels.get(device).norm, input.dtype
    rows, C = input.shape
    mean, invstd = empty((2, C), dtype, device), empty((C,), dtype, device)
    if not input.size:
        if running.batches is not None:
            running.batches.add_(1)
        return mean, invstd
    running_mean, running_var, batches = (None if t is None else t.array for t in running)
    workspace = scratch(launch.batch_norm_statistics_workspace(rows, C), float64, device)
    launch.batch_norm_statistics(
        mean.array,
        invstd.array,
        running_mean,
        running_var,
        batches,
        input,
        momentum,
        eps,
        workspace,
    )
    for tensor in running:
        if tensor is not None:
            tensor.mark_changed()
    return mean, invstd


def _running_statistics(running: Running, eps: float) -> tuple[Tensor, Tensor]:
    assert running.mean is not None
    assert running.var is not None
    device, dtype, (C,) = running.mean.device, running.mean.dtype, running.mean.shape
    mean, invstd = empty((2, C), dtype, device), empty((C,), dtype, device)
    kernels.get(device).norm.batch_norm_running(
        mean.array, invstd.array, running.mean.array, running.var.array, eps
    )
    return mean, invstd


def statistics(
    input: np.ndarray, running: Running, training: bool, momentum: float, eps: float, device: Device
) -> tuple[Tensor, Tensor]:
    """The mean (2, C) and invstd (C,) to normalise by: the batch's or the running ones."""
    if training:
        return batch_statistics(input, running, momentum, eps, device)
    return _running_statistics(running, eps)


def normalize(
    out: np.ndarray,
    input: np.ndarray,
    weight: Tensor | None,
    bias: Tensor | None,
    running: Running,
    training: bool,
    momentum: float,
    eps: float,
    device: Device,
) -> tuple[Tensor, Tensor]:
    """Fill out (rows, C) from input; the mean (2, C) and invstd (C,) for the gradients."""
    launch = kernels.get(device).norm
    mean, invstd = statistics(input, running, training, momentum, eps, device)
    if input.size:
        workspace = scratch(launch.batch_norm_forward_workspace(*input.shape), input.dtype, device)
        launch.batch_norm_forward(
            out, input, mean.array, invstd.array, parameter(weight), parameter(bias), workspace
        )
    return mean, invstd


def affine_gradients(
    grad_output: np.ndarray, input: np.ndarray, mean: Tensor, invstd: Tensor
) -> tuple[Tensor, Tensor]:
    """Of weight and bias (C,), from (rows, C) arrays."""
    device, dtype = mean.device, input.dtype
    backend = kernels.get(device)
    rows, C = input.shape
    grad_weight, grad_bias = empty((C,), dtype, device), empty((C,), dtype, device)
    if input.size:
        workspace = scratch(
            backend.norm.batch_norm_backward_affine_workspace(rows, C), float64, device
        )
        backend.norm.batch_norm_backward_affine(
            grad_weight.array, grad_bias.array, grad_output, input,
            mean.array, invstd.array, workspace,
        )  # fmt: skip
    else:
        backend.elementwise.fill(grad_weight.array, 0)
        backend.elementwise.fill(grad_bias.array, 0)
    return grad_weight, grad_bias


class BatchNorm(Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running: Running,
        training: bool,
        momentum: float,
        eps: float,
    ) -> Tensor:
        out, out_rows = empty_rows(input.array.shape, 1, input.dtype, input.device)
        mean, invstd = normalize(
            out_rows, to_rows(input, 1), weight, bias, running, training, momentum, eps,
            input.device,
        )  # fmt: skip
        ctx.save_for_backward(input, weight, mean, invstd)
        ctx.training = training
        # For the backward pass of an activation that follows, if it has not changed until then.
        ctx.shift = None if bias is None else (bias.detach(), bias._version.value)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, invstd = ctx.saved_tensors
        dtype, device = input.dtype, input.device
        launch = kernels.get(device).norm
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_rows, input_rows = to_rows(grad_output, 1), to_rows(input, 1)
        grad_input = grad_weight = grad_bias = None
        if needs_weight or needs_bias or ctx.training:
            grad_weight, grad_bias = affine_gradients(grad_rows, input_rows, mean, invstd)
        if needs_input:
            grad_input, out = empty_rows(input.array.shape, 1, dtype, device)
            if out.size:
                workspace = scratch(
                    launch.batch_norm_backward_input_workspace(*out.shape), dtype, device
                )
                launch.batch_norm_backward_input(
                    out, grad_rows, input_rows, mean.array, invstd.array, parameter(weight),
                    None if grad_weight is None else grad_weight.array,
                    None if grad_bias is None else grad_bias.array,
                    ctx.training, workspace,
                )  # fmt: skip
        return (
            grad_input,
            grad_weight if needs_weight else None,
            grad_bias if needs_bias else None,
            *(None,) * 4,
        )


def parameter(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else c_order(tensor)


@takes_tensor
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(input − mean) / √(variance + eps) · weight + bias, channel by channel.

    input (N, C), (N, C, L), (N, C, H, W) or with more axes; all others (C,). In training, mean and
    biased variance of the batch are used, and the running statistics, if given, are changed in
    place: running ← (1 − momentum)·running + momentum·(mean, unbiased variance). Otherwise the
    running statistics are used. An empty batch changes nothing.

    Raises ShapeError, DTypeError or DeviceError before any work; ShapeError also for training with
    one value per channel, ValueError for evaluation without running statistics and for a bad eps.
    """
    running = Running(running_mean, running_var)
    return running_batch_norm(input, weight, bias, running, training, momentum, eps)


def running_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running: Running,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """batch_norm that also counts the batches."""
    check_batch_norm(input, input.array.shape, weight, bias, running, training, momentum, eps)
    return BatchNorm.apply(input, weight, bias, running, bool(training), momentum, eps)


def check_batch_norm(
    input: Tensor,
    shape: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    running: Running,
    training: bool,
    momentum: float,
    eps: float,
) -> None:
    """shape: of what is normalised; dtype and device are those of `input`."""
    _check_operands("batch_norm", input, shape, weight, bias, running, training)
    if training and math.prod(shape) // max(shape[1], 1) == 1:
        raise ShapeError(
            f"batch_norm: training needs more than one value per channel, got shape {shape}"
        )
    _check_numbers("batch_norm", momentum, eps, training)


def _check_operands(
    operation: str,
    input: Tensor,
    shape: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    running: Running,
    training: bool,
) -> None:
    optional = {
        "running_mean": running.mean, "running_var": running.var, "weight": weight, "bias": bias
    }  # fmt: skip
    names = "input running_mean? running_var? weight? bias?"
    floating_operands(operation, names, input, *optional.values())
    if len(shape) < 2:
        raise ShapeError(f"{operation}: input must be (N, C) or (N, C, …), got shape {shape}")
    channels = (shape[1],)
    for name, tensor in optional.items():
        if tensor is not None and tensor.array.shape != channels:
            raise ShapeError(
                f"{operation}: {name} must have shape {channels} for input of shape {shape}, "
                f"got {tensor.shape}"
            )
    for name in ("running_mean", "running_var"):
        if (tensor := optional[name]) is None:
            continue
        if tensor.requires_grad:
            raise GraphError(f"{operation}: {name} must not require gradients")
        if training:
            check_writable(f"{operation}: {name}", tensor)
    if (running.mean is None) != (running.var is None):
        raise ValueError(f"{operation}: running_mean and running_var must be given both or neither")
    if not training and running.mean is None:
        raise ValueError(f"{operation}: evaluation needs running_mean and running_var, got None")


def _check_numbers(operation: str, momentum: float, eps: float, training: bool) -> None:
    check_number(operation, "momentum", momentum)
    check_number(operation, "eps", eps)
    if not eps >= 0 or (training and eps == 0):  # NaN is neither
        rule = "positive in training" if training else "at least 0"
        raise ValueError(f"{operation}: eps must be {rule}, got {eps!r}")


@takes_tensor
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(input − mean) / √(variance + eps) · weight + bias, for every channel of every sample.

    input (N, C, L), (N, C, H, W) or with more axes; all others (C,). use_input_stats: with each
    sample's own mean and biased variance, whose means over the batch (of the unbiased variances)
    move the running statistics as in `batch_norm`; else with the running ones.
    Raises ShapeError, DTypeError or DeviceError before any work; ShapeError also for one value per
    channel of a sample, ValueError as `batch_norm`.
    """
    running = Running(running_mean, running_var)
    shape = input.shape
    _check_operands("instance_norm", input, shape, weight, bias, running, use_input_stats)
    _check_numbers("instance_norm", momentum, eps, use_input_stats)
    if not use_input_stats:
        return BatchNorm.apply(input, weight, bias, running, False, momentum, eps)
    N, C, L = *shape[:2], math.prod(shape[2:])
    if len(shape) < 3 or L < 2 or C == 0:
        raise ShapeError(
            f"instance_norm: needs more than one value per channel of a sample, got shape {shape}"
        )
    out = GroupNorm.apply(input, weight, bias, (N, L, C), 1, C, eps)
    if running_mean is not None and running_var is not None and N:
        axes = tuple(range(2, input.ndim))
        with no_grad():
            for old, new in ((running_mean, mean(input, axes)), (running_var, var(input, axes))):
                old.copy_((1 - momentum) * old + momentum * mean(new, 0))
    return out


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """input / (k + alpha · m)^beta, m the mean of input² over `size` neighbouring channels.

    input (N, C, …) with at least three axes → the same shape; channels that do not exist count
    as 0. Raises ShapeError or DTypeError before any work.
    """
    floating_operands("local_response_norm", "input", input)
    check_int("local_response_norm", "size", size, low=1)
    for name, value in (("alpha", alpha), ("beta", beta), ("k", k)):
        check_number("local_response_norm", name, value)
    if input.ndim < 3:
        raise ShapeError(
            f"local_response_norm: input must be (N, C, …) with 3 axes, got shape {input.shape}"
        )
    if 0 in input.shape:
        return input * 1
    # The channels as the rows of images of one column: a view, if stored channels-last.
    to_last = (0, *range(2, input.ndim), 1)
    last = permute(square(input), to_last)
    rows = reshape(last, (-1, 1, last.shape[-1], 1))
    # For an even size one window too many; its first channel is the one size // 2 below.
    means = avg_pool2d(rows, (size, 1), 1, (size // 2, 0))[:, :, : last.shape[-1]]
    back = (0, input.ndim - 1, *range(1, input.ndim - 1))
    means = permute(reshape(means, last.shape), back)
    return div(input, pow(means * alpha + k, beta))
