"""Classification losses: cross entropy and negative log-likelihood."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_int, check_number
from ..device import same_device
from ..dtypes import float64, int64, is_floating, uint8
from ..engine import Function, Tensor
from ..errors import DTypeError, GraphError, ShapeError, TargetError
from ..runtime.allocation import allocate
from .operands import c_order, empty, floating_operands, scratch
from .promotion import check_fits, scalar
from .rows import empty_rows, to_rows
from .transfer import check_rows

__all__ = ["cross_entropy", "nll_loss"]

REDUCTIONS = ("none", "mean", "sum")


def reduction_name(
    operation: str, reduction: str, size_average: bool | None, reduce: bool | None
) -> str:
    """'none', 'mean' or 'sum'; the two deprecated flags win, with a warning."""
    for name, flag in (("size_average", size_average), ("reduce", reduce)):
        # A reduction given by position lands in size_average, where torch takes it for true.
        if flag is not None and not isinstance(flag, (bool, int, np.bool_)):
            raise TypeError(f"{operation}: {name} must be a bool or None, got {flag!r}")
    if size_average is not None or reduce is not None:
        averaged = size_average is None or size_average
        reduced = reduce is None or reduce
        reduction = "none" if not reduced else "mean" if averaged else "sum"
        warnings.warn(
            f"{operation}: size_average and reduce are deprecated, use reduction={reduction!r}",
            UserWarning,
            stacklevel=3,
        )
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"{operation}: reduction must be one of {REDUCTIONS}, got {reduction!r}")
    return reduction


def _class_axis(input: Tensor) -> int:
    return min(1, input.ndim - 1)


def _reduced(losses: Tensor, divisor: Tensor, reduction: str) -> Tensor:
    """The losses themselves, or their sum over `divisor`."""
    if reduction == "none":
        return losses
    launch = kernels.get(losses.device).loss
    out = empty((), losses.dtype, losses.device)
    workspace = scratch(launch.loss_total_workspace(losses.array.size), float64, losses.device)
    launch.loss_total(_flat(out), _flat(losses), _flat(divisor), workspace)
    return out


def mean_or_sum(losses: Tensor, reduction: str) -> Tensor:
    """The losses themselves, or their mean or sum, recorded."""
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def _flat(tensor: Tensor) -> np.ndarray:
    array = c_order(tensor)
    return array if array.ndim == 1 else array.reshape(-1)


def _weights(weight: Tensor | None) -> np.ndarray | None:
    return None if weight is None else c_order(weight)


class CrossEntropy(Function):
    """log_softmax followed by nll_loss, in one pass; the softmax is what backward needs of it."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        target: Tensor,
        weight: Tensor | None,
        divisor: Tensor,
        reduction: str,
        ignore_index: int,
        smoothing: float,
    ) -> Tensor:
        dtype, device, axis = input.dtype, input.device, _class_axis(input)
        losses = empty(target.array.shape, dtype, device)
        probabilities, probability_rows = empty_rows(input.array.shape, axis, dtype, device)
        if probability_rows.size:
            kernels.get(device).loss.cross_entropy_forward(
                _flat(losses), probability_rows, to_rows(input, axis), _flat(target),
                _weights(weight), ignore_index, smoothing,
            )  # fmt: skip
        ctx.save_for_backward(probabilities, target, weight, divisor)
        ctx.options = ignore_index, smoothing
        return _reduced(losses, divisor, reduction)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        probabilities, target, weight, divisor = ctx.saved_tensors
        axis, device = _class_axis(probabilities), probabilities.device
        shape, dtype = probabilities.array.shape, probabilities.dtype
        grad_input, grad_rows = empty_rows(shape, axis, dtype, device)
        if grad_rows.size:
            kernels.get(device).loss.cross_entropy_backward_input(
                grad_rows, _flat(grad_output), _flat(divisor), to_rows(probabilities, axis),
                _flat(target), _weights(weight), *ctx.options,
            )  # fmt: skip
        return grad_input, *(None,) * 6


class SoftCrossEntropy(Function):
    """−Σ_c weight_c · target_c · log_softmax(input)_c, in one pass."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        target: Tensor,
        weight: Tensor | None,
        divisor: Tensor,
        reduction: str,
        smoothing: float,
    ) -> Tensor:
        dtype, device, axis = input.dtype, input.device, _class_axis(input)
        losses = empty(input.array.shape[:axis] + input.array.shape[axis + 1 :], dtype, device)
        log_probabilities, rows = empty_rows(input.array.shape, axis, dtype, device)
        if rows.size:
            kernels.get(device).loss.soft_cross_entropy_forward(
                _flat(losses), rows, to_rows(input, axis), to_rows(target, axis),
                _weights(weight), smoothing,
            )  # fmt: skip
        ctx.save_for_backward(log_probabilities, target, weight, divisor)
        ctx.smoothing = smoothing
        return _reduced(losses, divisor, reduction)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        log_probabilities, target, weight, divisor = ctx.saved_tensors
        axis, dtype, device = _class_axis(target), target.dtype, target.device
        launch = kernels.get(device).loss
        logs, grad, by = to_rows(log_probabilities, axis), _flat(grad_output), _flat(divisor)
        grad_input = grad_target = None
        if ctx.needs_input_grad[0]:
            grad_input, out = empty_rows(target.array.shape, axis, dtype, device)
            if out.size:
                launch.soft_cross_entropy_backward_input(
                    out, grad, by, logs, to_rows(target, axis), _weights(weight), ctx.smoothing
                )
        if ctx.needs_input_grad[1]:
            grad_target, out = empty_rows(target.array.shape, axis, dtype, device)
            if out.size:
                launch.soft_cross_entropy_backward_target(
                    out, grad, by, logs, _weights(weight), ctx.smoothing
                )
        return grad_input, grad_target, *(None,) * 4


class NLLLoss(Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        target: Tensor,
        weight: Tensor | None,
        divisor: Tensor,
        reduction: str,
        ignore_index: int,
    ) -> Tensor:
        losses = empty(target.array.shape, input.dtype, input.device)
        if losses.array.size:
            kernels.get(input.device).loss.nll_loss_forward(
                _flat(losses), to_rows(input, _class_axis(input)), _flat(target),
                _weights(weight), ignore_index,
            )  # fmt: skip
        ctx.save_for_backward(target, weight, divisor)
        ctx.input_shape, ctx.ignore_index = input.array.shape, ignore_index
        ctx.axis = _class_axis(input)
        return _reduced(losses, divisor, reduction)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        target, weight, divisor = ctx.saved_tensors
        dtype, device = grad_output.dtype, grad_output.device
        grad_input, grad_rows = empty_rows(ctx.input_shape, ctx.axis, dtype, device)
        if grad_rows.size:
            kernels.get(device).loss.nll_loss_backward_input(
                grad_rows, _flat(grad_output), _flat(divisor), _flat(target), _weights(weight),
                ctx.ignore_index,
            )  # fmt: skip
        return grad_input, *(None,) * 5


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """−log softmax(input)[target], over the classes.

    input: scores (C,), (N, C) or (N, C, d1, …). target: class indices, int64 (or uint8), of shape
    (), (N,) or (N, d1, …); or class probabilities, of input's shape and dtype. weight (C,): of each
    class. → a scalar, or the target's index shape for reduction='none'.

    With indices, 'mean' divides by the sum of the weights of all targets, ignored ones left out;
    if all are ignored it is NaN, and the gradient 0. With probabilities, it divides by the number
    of rows. label_smoothing ε mixes the target with ε/C of every class.

    Equals nll_loss(log_softmax(input, 1), target), in one pass. Raises TargetError for an index
    outside [0, C) that is not ignore_index, and ShapeError, DTypeError or DeviceError, before any
    work. size_average and reduce are deprecated.
    """
    operation = "cross_entropy"
    reduction = reduction_name(operation, reduction, size_average, reduce)
    _check_target(operation, target)
    smoothing = check_number(operation, "label_smoothing", label_smoothing, low=0, high=1)
    if is_floating(target.dtype):
        _check_probabilities(input, target, weight, ignore_index)
        rows = input.array.size // input.array.shape[_class_axis(input)]
        divisor = scalar(operation, rows if reduction == "mean" else 1, input.dtype, input.device)
        return SoftCrossEntropy.apply(input, target, weight, divisor, reduction, smoothing)
    target, divisor = _class_targets(operation, input, target, weight, ignore_index, reduction)
    return CrossEntropy.apply(input, target, weight, divisor, reduction, ignore_index, smoothing)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """−weight[target] · input[target], for log-probabilities `input`.

    Shapes, reductions and errors are those of `cross_entropy` with class indices.
    """
    reduction = reduction_name("nll_loss", reduction, size_average, reduce)
    _check_target("nll_loss", target)
    target, divisor = _class_targets("nll_loss", input, target, weight, ignore_index, reduction)
    return NLLLoss.apply(input, target, weight, divisor, reduction, ignore_index)


# Checks -------------------------------------------------------------------------------------


def _check_target(operation: str, target: Tensor) -> None:
    if not isinstance(target, Tensor):
        raise TypeError(f"{operation}: target must be a Tensor, got {type(target).__name__}")


def _check_classes(
    operation: str, input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int
) -> int:
    """What both kinds of target have in common; returns the number of classes."""
    floating_operands(operation, "input weight?", input, weight)
    if target.device is not input.device:
        same_device(operation, input=input.device, target=target.device)
    check_fits(
        f"{operation}: ignore_index", check_int(operation, "ignore_index", ignore_index), int64
    )
    C = input.array.shape[_class_axis(input)] if input.ndim else 0
    if C == 0:
        raise ShapeError(
            f"{operation}: input must be (C,), (N, C) or (N, C, …) with at least one class, "
            f"got shape {input.shape}"
        )
    if weight is not None and weight.shape != (C,):
        raise ShapeError(
            f"{operation}: weight must have shape ({C},), one for each class, got {weight.shape}"
        )
    if weight is not None and weight.requires_grad:
        raise GraphError(f"{operation}: is not differentiable with respect to weight")
    return C


def _check_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int
) -> None:
    _check_classes("cross_entropy", input, target, weight, ignore_index)
    floating_operands("cross_entropy", "input target", input, target)
    if target.shape != input.shape:
        raise ShapeError(
            f"cross_entropy: class probabilities must have input's shape {input.shape}, got target "
            f"of shape {target.shape}; class indices must be int64"
        )
    if ignore_index >= 0:
        raise ValueError(
            f"cross_entropy: ignore_index={ignore_index} needs class indices, got class "
            "probabilities"
        )


def _class_targets(
    operation: str,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
) -> tuple[Tensor, Tensor]:
    """Check class indices. Returns them as int64, and what the sum of losses is divided by."""
    C = _check_classes(operation, input, target, weight, ignore_index)
    if target.dtype not in (int64, uint8):
        raise DTypeError(
            f"{operation}: target must hold class indices of dtype int64, got "
            f"{target.dtype.name}; convert with .to(minigrad.int64)"
        )
    axis = _class_axis(input)
    expected = input.array.shape[:axis] + input.array.shape[axis + 1 :]
    if target.array.shape != expected:
        raise ShapeError(
            f"{operation}: input of shape {input.shape} needs target of shape {expected}, got "
            f"{target.shape}"
        )
    # A private copy: the kernels index by what was checked, whatever becomes of the caller's array.
    backend = kernels.get(input.device)
    private = empty(target.array.shape, int64, target.device)
    backend.elementwise.copy_strided(private.array, target.array)
    target, indices = private, private.array.reshape(-1)
    first_bad = allocate((1,), int64, input.device)
    total_weight = empty((1,), input.dtype, input.device)
    workspace = scratch(backend.loss.class_targets_workspace(indices.size), float64, input.device)
    backend.loss.class_targets(
        first_bad, total_weight.array, indices, _weights(weight), C, ignore_index, workspace
    )

    def refuse(bad: int, values: Sequence[float]) -> None:
        position = tuple(int(i) for i in np.unravel_index(bad, expected))
        raise TargetError(
            f"{operation}: target at position {position} is {values[0]}, must be in [0, {C}) or "
            f"ignore_index={ignore_index}"
        )

    check_rows(first_bad, indices, input.device, refuse)
    if reduction == "mean":
        return target, total_weight
    return target, scalar(operation, 1, input.dtype, input.device)
