"""Regression losses: squared, absolute, smooth and Huber, of input − target element by element."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..dtypes import float64
from ..engine import Function, Tensor
from ..errors import ShapeError
from ..kernels.formulas import ABSOLUTE, SMOOTH, SQUARED
from ..layout import Order, broadcast, empty_array, flat, memory_order
from .loss import mean_or_sum, reduction_name
from .operands import broadcast_shape, c_order, empty, floating_operands, scratch
from .promotion import as_common_floating
from .reduction import unbroadcast

__all__ = ["huber_loss", "l1_loss", "mse_loss", "smooth_l1_loss"]


class _Pair:
    """Input and target as flat arrays of their broadcast shape, in one memory order."""

    def __init__(self, input: Tensor, target: Tensor) -> None:
        self.shape = broadcast_shape("loss", input.shape, target.shape)
        self.size = math.prod(self.shape)
        self.dtype, self.device = input.dtype, input.device
        orders = (memory_order(t.array) for t in (input, target) if t.shape == self.shape)
        self.order: Order = next(filter(None, orders), tuple(range(len(self.shape))))
        self.arrays = self._flat(input), self._flat(target)

    def _flat(self, tensor: Tensor) -> np.ndarray:
        return flat(broadcast(tensor.array, self.shape), self.order, self.device)

    def empty(self) -> tuple[Tensor, np.ndarray]:
        """An uninitialised tensor of the broadcast shape, and its flat array."""
        tensor = Tensor(empty_array(self.shape, self.dtype, self.device, self.order), self.device)
        return tensor, tensor.array.transpose(self.order).reshape(-1)

    def divisor(self, reduction: str) -> int:
        return self.size if reduction == "mean" else 1


class DifferenceLoss(Function):
    """f(input − target): of each element, or their sum or mean.

    kind: which f, see kernels/formulas.py. f is even, so the gradient of the target is that of the
    input with the two exchanged.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, target: Tensor, reduction: str, kind: int, beta: float
    ) -> Tensor:
        ctx.save_for_backward(input, target)
        ctx.reduction, ctx.kind = reduction, (kind, beta)
        pair, launch = _Pair(input, target), kernels.get(input.device).loss
        if reduction == "none":
            losses, out = pair.empty()
            launch.difference_loss_forward(out, *pair.arrays, kind, beta)
            return losses
        total = empty((), pair.dtype, pair.device)
        workspace = scratch(launch.loss_total_workspace(pair.size), float64, pair.device)
        launch.difference_loss_total(
            total.array.reshape(-1), *pair.arrays, pair.divisor(reduction), kind, beta, workspace
        )
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        pair, launch = _Pair(*ctx.saved_tensors), kernels.get(grad_output.device).loss
        if ctx.reduction == "none":
            grad = flat(grad_output.array, pair.order, pair.device)
        else:
            grad = c_order(grad_output).reshape(-1)
        results: list[Tensor | None] = [None] * 5
        for place, arrays in enumerate((pair.arrays, pair.arrays[::-1])):
            if ctx.needs_input_grad[place]:
                result, out = pair.empty()
                if out.size:
                    launch.difference_loss_backward_input(
                        out, grad, *arrays, pair.divisor(ctx.reduction), *ctx.kind
                    )
                results[place] = unbroadcast(result, ctx.saved_tensors[place].shape)
        return tuple(results)


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
    are broadcast with a warning, and dtypes are promoted. Raises ShapeError where shapes do not
    broadcast, DTypeError or DeviceError, before any work. size_average and reduce are deprecated.
    """
    reduction = reduction_name("mse_loss", reduction, size_average, reduce)
    input, target, weight = as_common_floating(input, target, weight)
    _check_pair("mse_loss", input, target, weight)
    return _weighted_loss(input, target, weight, reduction, SQUARED)


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
    input, target, weight = as_common_floating(input, target, weight)
    _check_pair("l1_loss", input, target, weight)
    return _weighted_loss(input, target, weight, reduction, ABSOLUTE)


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
    width = check_number("smooth_l1_loss", "beta", beta, low=0)
    input, target = as_common_floating(input, target)
    _check_pair("smooth_l1_loss", input, target, None)
    return DifferenceLoss.apply(input, target, reduction, SMOOTH, width)


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """d²/2 where |d| < δ, else δ·(|d| − δ/2), with d = input − target: δ times smooth_l1_loss.

    Arguments and errors are those of `mse_loss`, but 'mean' with a weight divides by the number of
    elements, and all must have one dtype. ValueError for a delta that is not positive.
    """
    reduction = reduction_name("huber_loss", reduction, None, None)
    width = check_number("huber_loss", "delta", delta)
    if not width > 0:
        raise ValueError(f"huber_loss: delta must be a positive number, got {delta!r}")
    _check_pair("huber_loss", input, target, weight)
    first = reduction if weight is None else "none"
    if math.isinf(width):
        losses = DifferenceLoss.apply(input, target, first, SQUARED, 0.0) * 0.5
    else:
        losses = DifferenceLoss.apply(input, target, first, SMOOTH, width) * width
    return losses if weight is None else mean_or_sum(losses * weight, reduction)


def _weighted_loss(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, kind: int
) -> Tensor:
    if weight is None:
        return DifferenceLoss.apply(input, target, reduction, kind, 0.0)
    weighted = DifferenceLoss.apply(input, target, "none", kind, 0.0) * weight
    if reduction == "none":
        return weighted
    return weighted.sum() if reduction == "sum" else weighted.sum() / weight.sum()


def _check_pair(operation: str, input: Tensor, target: Tensor, weight: Tensor | None) -> None:
    floating_operands(operation, "input target weight?", input, target, weight)
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
