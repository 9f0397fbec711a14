"""Batch normalisation. Source: Ioffe & Szegedy 2015, "Batch Normalization"."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import kernels
from ..dtypes import float64
from ..engine import Function, Tensor
from ..errors import DTypeError, GraphError, ShapeError
from ._operands import c_order, check_writable, empty, floating_operands, scratch, takes_tensor
from ._rows import empty_rows, to_rows


class BatchNorm(Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        training: bool,
        momentum: float,
        eps: float,
    ) -> Tensor:
        dtype, device = input.dtype, input.device
        backend = kernels.get(device)
        out, out_rows = empty_rows(input.shape, 1, dtype, device)
        rows, C = out_rows.shape
        mean, invstd = empty((2, C), dtype, device), empty((C,), dtype, device)
        if out_rows.size:
            input_rows = to_rows(input, 1)
            if training:
                workspace = scratch(backend.batch_norm_statistics_workspace(rows, C), float64)
                backend.batch_norm_statistics(
                    mean.data, invstd.data, _array(running_mean), _array(running_var),
                    input_rows, momentum, eps, workspace,
                )  # fmt: skip
            else:
                assert running_mean is not None
                assert running_var is not None
                backend.batch_norm_running(
                    mean.data, invstd.data, running_mean.data, running_var.data, eps
                )
            workspace = scratch(backend.batch_norm_forward_workspace(rows, C), dtype)
            backend.batch_norm_forward(
                out_rows, input_rows, mean.data, invstd.data,
                _parameter(weight), _parameter(bias), workspace,
            )  # fmt: skip
            if training and running_mean is not None and running_var is not None:
                running_mean.mark_changed()
                running_var.mark_changed()
        ctx.save_for_backward(input, weight, mean, invstd)
        ctx.training = training
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, invstd = ctx.saved_tensors
        dtype, device = input.dtype, input.device
        backend = kernels.get(device)
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_rows, input_rows = to_rows(grad_output, 1), to_rows(input, 1)
        rows, C = input_rows.shape
        grad_input: Tensor | None = None
        grad_weight, grad_bias = empty((C,), dtype, device), empty((C,), dtype, device)
        if not input_rows.size:
            backend.fill(grad_weight.data, 0)
            backend.fill(grad_bias.data, 0)
        elif needs_weight or needs_bias or ctx.training:
            workspace = scratch(backend.batch_norm_backward_affine_workspace(rows, C), float64)
            backend.batch_norm_backward_affine(
                grad_weight.data, grad_bias.data, grad_rows, input_rows,
                mean.data, invstd.data, workspace,
            )  # fmt: skip
        if needs_input:
            grad_input, out = empty_rows(input.shape, 1, dtype, device)
            if out.size:
                workspace = scratch(backend.batch_norm_backward_input_workspace(rows, C), dtype)
                backend.batch_norm_backward_input(
                    out, grad_rows, input_rows, mean.data, invstd.data, _parameter(weight),
                    grad_weight.data, grad_bias.data, ctx.training, workspace,
                )  # fmt: skip
        return (
            grad_input,
            grad_weight if needs_weight else None,
            grad_bias if needs_bias else None,
            *(None,) * 5,
        )


def _array(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.data


def _parameter(tensor: Tensor | None) -> np.ndarray | None:
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
    optional = {
        "running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias
    }  # fmt: skip
    floating_operands("batch_norm", input=input, optional=optional)
    C = _checked_channels(input, training)
    for name, tensor in optional.items():
        if tensor is None:
            continue
        if tensor.shape != (C,):
            raise ShapeError(
                f"batch_norm: {name} must have shape ({C},) for input of shape {input.shape}, "
                f"got {tensor.shape}"
            )
        if name.startswith("running") and tensor.requires_grad:
            raise GraphError(f"batch_norm: {name} must not require gradients")
        if name.startswith("running") and training:
            check_writable(f"batch_norm: {name}", tensor)
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: running_mean and running_var must be given both or neither")
    if not training and running_mean is None:
        raise ValueError("batch_norm: evaluation needs running_mean and running_var, got None")
    for option, value in (("momentum", momentum), ("eps", eps)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise DTypeError(f"batch_norm: {option} must be a number, got {value!r}")
    if not eps >= 0 or (training and eps == 0):  # NaN is neither
        rule = "positive in training" if training else "at least 0"
        raise ValueError(f"batch_norm: eps must be {rule}, got {eps!r}")
    return BatchNorm.apply(
        input, weight, bias, running_mean, running_var, bool(training), momentum, eps
    )


def _checked_channels(input: Tensor, training: bool) -> int:
    shape = input.shape
    if len(shape) < 2:
        raise ShapeError(f"batch_norm: input must be (N, C) or (N, C, …), got shape {shape}")
    if training and math.prod(shape) // max(shape[1], 1) == 1:
        raise ShapeError(
            f"batch_norm: training needs more than one value per channel, got shape {shape}"
        )
    return shape[1]
