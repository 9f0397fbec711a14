"""Losses of the difference between input and target, element by element.

Each is f(input − target) with an even f, so the gradient of the target is that of the input with
the two exchanged.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..dtypes import float64
from ..engine import Function, Tensor
from ..errors import ShapeError
from .loss import mean_or_sum, reduction_name
from .operands import (
    Order,
    broadcast_shape,
    c_order,
    empty,
    empty_array,
    flat,
    floating_operands,
    memory_order,
    scratch,
)
from .reduction import unbroadcast


class _Pair:
    """Input and target as flat arrays of their broadcast shape, in one memory order."""

    def __init__(self, input: Tensor, target: Tensor) -> None:
        self.shape = broadcast_shape("loss", input.shape, target.shape)
        self.size = math.prod(self.shape)
        self.dtype, self.device = input.dtype, input.device
        orders = (memory_order(t.data) for t in (input, target) if t.shape == self.shape)
        self.order: Order = next(filter(None, orders), tuple(range(len(self.shape))))
        self.arrays = self._flat(input), self._flat(target)

    def _flat(self, tensor: Tensor) -> np.ndarray:
        return flat(np.broadcast_to(tensor.data, self.shape), self.order, self.device)

    def empty(self) -> tuple[Tensor, np.ndarray]:
        """An uninitialised tensor of the broadcast shape, and its flat array."""
        tensor = Tensor(empty_array(self.shape, self.dtype, self.device, self.order), self.device)
        return tensor, tensor.data.transpose(self.order).reshape(-1)

    def empty_total(self) -> tuple[Tensor, np.ndarray]:
        """An uninitialised scalar, and its flat array."""
        tensor = empty((), self.dtype, self.device)
        return tensor, tensor.data.reshape(-1)

    def workspace(self) -> np.ndarray:
        return scratch(
            kernels.get(self.device).loss.loss_total_workspace(self.size), float64, self.device
        )

    def divisor(self, reduction: str) -> int:
        return self.size if reduction == "mean" else 1

    def gradients(
        self,
        ctx: Any,
        grad_output: Tensor,
        backward_input: Callable[..., None],
        *parameters: float,
    ) -> list[Tensor | None]:
        """The gradients of input and target."""
        if ctx.reduction == "none":
            grad = flat(grad_output.data, self.order, self.device)
        else:
            grad = c_order(grad_output).reshape(-1)
        results: list[Tensor | None] = []
        for needed, tensor, arrays in zip(
            ctx.needs_input_grad, ctx.saved_tensors, (self.arrays, self.arrays[::-1]), strict=False
        ):
            if not needed:
                results.append(None)
                continue
            result, out = self.empty()
            if out.size:
                backward_input(out, grad, *arrays, self.divisor(ctx.reduction), *parameters)
            results.append(unbroadcast(result, tensor.shape))
        return results


class MSELoss(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, target: Tensor, reduction: str) -> Tensor:
        ctx.save_for_backward(input, target)
        ctx.reduction = reduction
        pair, launch = _Pair(input, target), kernels.get(input.device).loss
        if reduction == "none":
            losses, out = pair.empty()
            launch.mse_loss_forward(out, *pair.arrays)
            return losses
        total, out = pair.empty_total()
        launch.mse_loss_total(out, *pair.arrays, pair.divisor(reduction), pair.workspace())
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        launcher = kernels.get(grad_output.device).loss.mse_loss_backward_input
        return *_Pair(*ctx.saved_tensors).gradients(ctx, grad_output, launcher), None


class L1Loss(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, target: Tensor, reduction: str) -> Tensor:
        ctx.save_for_backward(input, target)
        ctx.reduction = reduction
        pair, launch = _Pair(input, target), kernels.get(input.device).loss
        if reduction == "none":
            losses, out = pair.empty()
            launch.l1_loss_forward(out, *pair.arrays)
            return losses
        total, out = pair.empty_total()
        launch.l1_loss_total(out, *pair.arrays, pair.divisor(reduction), pair.workspace())
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        launcher = kernels.get(grad_output.device).loss.l1_loss_backward_input
        return *_Pair(*ctx.saved_tensors).gradients(ctx, grad_output, launcher), None


class SmoothL1Loss(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, target: Tensor, reduction: str, beta: float) -> Tensor:
        ctx.save_for_backward(input, target)
        ctx.reduction, ctx.beta = reduction, beta
        pair, launch = _Pair(input, target), kernels.get(input.device).loss
        if reduction == "none":
            losses, out = pair.empty()
            launch.smooth_l1_loss_forward(out, *pair.arrays, beta)
            return losses
        total, out = pair.empty_total()
        launch.smooth_l1_loss_total(
            out, *pair.arrays, pair.divisor(reduction), beta, pair.workspace()
        )
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        launcher = kernels.get(grad_output.device).loss.smooth_l1_loss_backward_input
        pair = _Pair(*ctx.saved_tensors)
        return *pair.gradients(ctx, grad_output, launcher, ctx.beta), None, None


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(input − target)². input and target of one shape → a scalar, or that shape for 'none'.

    weight, of input's shape: of each element; 'mean' then divides by its sum. Shapes that differ
    are broadcast with a warning. Raises ShapeError where they do not broadcast, DTypeError or
    DeviceError, before any work. size_average and reduce are deprecated.
    """
    reduction = reduction_name("mse_loss", reduction, size_average, reduce)
    _check_pair("mse_loss", input, target, weight)
    if weight is None:
        return MSELoss.apply(input, target, reduction)
    return _weighted(MSELoss.apply(input, target, "none"), weight, reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|input − target|, with slope 0 at 0. Arguments and errors are those of `mse_loss`."""
    reduction = reduction_name("l1_loss", reduction, size_average, reduce)
    _check_pair("l1_loss", input, target, weight)
    if weight is None:
        return L1Loss.apply(input, target, reduction)
    return _weighted(L1Loss.apply(input, target, "none"), weight, reduction)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d²/2β where |d| < β, else |d| − β/2, with d = input − target; beta 0 is `l1_loss`.

    Arguments and errors are those of `mse_loss`; ValueError for a negative beta. Source: Girshick
    2015, Fast R-CNN §2.3.
    """
    reduction = reduction_name("smooth_l1_loss", reduction, size_average, reduce)
    width = check_number("smooth_l1_loss", "beta", beta)
    if not width >= 0:
        raise ValueError(f"smooth_l1_loss: beta must be at least 0, got {beta!r}")
    _check_pair("smooth_l1_loss", input, target, None)
    return SmoothL1Loss.apply(input, target, reduction, width)


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """d²/2 where |d| < δ, else δ·(|d| − δ/2), with d = input − target: δ times smooth_l1_loss.

    Arguments and errors are those of `mse_loss`, but 'mean' with a weight divides by the number of
    elements. ValueError for a delta that is not positive.
    """
    reduction = reduction_name("huber_loss", reduction, None, None)
    width = check_number("huber_loss", "delta", delta)
    if not width > 0:
        raise ValueError(f"huber_loss: delta must be a positive number, got {delta!r}")
    _check_pair("huber_loss", input, target, weight)
    first = reduction if weight is None else "none"
    if math.isinf(width):
        losses = MSELoss.apply(input, target, first) * 0.5
    else:
        losses = SmoothL1Loss.apply(input, target, first, width) * width
    return losses if weight is None else mean_or_sum(losses * weight, reduction)


def _weighted(losses: Tensor, weight: Tensor, reduction: str) -> Tensor:
    weighted = losses * weight
    if reduction == "none":
        return weighted
    return weighted.sum() if reduction == "sum" else weighted.sum() / weight.sum()


def _check_pair(operation: str, input: Tensor, target: Tensor, weight: Tensor | None) -> None:
    floating_operands(operation, input=input, target=target, optional={"weight": weight})
    if weight is not None and weight.shape != input.shape:
        raise ShapeError(
            f"{operation}: weight must have input's shape {input.shape}, got {weight.shape}"
        )
    if input.shape != target.shape:
        broadcast_shape(operation, input.shape, target.shape)
        warnings.warn(
            f"{operation}: input of shape {input.shape} and target of shape {target.shape} differ "
            "and are broadcast, which is likely not what you want",
            UserWarning,
            stacklevel=3,
        )
