"""Batch normalisation. Source: Ioffe & Szegedy 2015, "Batch Normalization"."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..device import Device
from ..dtypes import float64
from ..engine import Function, Tensor
from ..errors import GraphError, ShapeError
from .operands import c_order, check_writable, empty, floating_operands, scratch, takes_tensor
from .rows import empty_rows, to_rows

__all__ = ["batch_norm"]


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
    if training:
        mean, invstd = batch_statistics(input, running, momentum, eps, device)
    else:
        mean, invstd = _running_statistics(running, eps)
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
        out, out_rows = empty_rows(input.shape, 1, input.dtype, input.device)
        mean, invstd = normalize(
            out_rows, to_rows(input, 1), weight, bias, running, training, momentum, eps,
            input.device,
        )  # fmt: skip
        ctx.save_for_backward(input, weight, mean, invstd)
        ctx.training = training
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
            grad_input, out = empty_rows(input.shape, 1, dtype, device)
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
    check_batch_norm(input, input.shape, weight, bias, running, training, momentum, eps)
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
    optional = {
        "running_mean": running.mean, "running_var": running.var, "weight": weight, "bias": bias
    }  # fmt: skip
    floating_operands("batch_norm", input=input, optional=optional)
    C = _checked_channels(shape, training)
    for name, tensor in optional.items():
        if tensor is None:
            continue
        if tensor.shape != (C,):
            raise ShapeError(
                f"batch_norm: {name} must have shape ({C},) for input of shape {shape}, "
                f"got {tensor.shape}"
            )
        if name.startswith("running") and tensor.requires_grad:
            raise GraphError(f"batch_norm: {name} must not require gradients")
        if name.startswith("running") and training:
            check_writable(f"batch_norm: {name}", tensor)
    if (running.mean is None) != (running.var is None):
        raise ValueError("batch_norm: running_mean and running_var must be given both or neither")
    if not training and running.mean is None:
        raise ValueError("batch_norm: evaluation needs running_mean and running_var, got None")
    for option, value in (("momentum", momentum), ("eps", eps)):
        check_number("batch_norm", option, value)
    if not eps >= 0 or (training and eps == 0):  # NaN is neither
        rule = "positive in training" if training else "at least 0"
        raise ValueError(f"batch_norm: eps must be {rule}, got {eps!r}")


def _checked_channels(shape: tuple[int, ...], training: bool) -> int:
    if len(shape) < 2:
        raise ShapeError(f"batch_norm: input must be (N, C) or (N, C, …), got shape {shape}")
    if training and math.prod(shape) // max(shape[1], 1) == 1:
        raise ShapeError(
            f"batch_norm: training needs more than one value per channel, got shape {shape}"
        )
    return shape[1]
