"""Losses composed of other operations: margins between scores, embeddings, likelihoods.

Their gradients are those of what they are composed of.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..arguments import check_number
from ..device import same_device
from ..dtypes import floating_dtype, int64, is_floating, uint8
from ..engine import Tensor
from ..errors import DTypeError, ShapeError, TargetError
from .activation import logsigmoid
from .arithmetic import minimum
from .cast import to
from .compare import logical_not, lt, where
from .creation import arange
from .extrema import amax, amin, check_ends
from .loss import mean_or_sum, reduction_name
from .operands import broadcast_shape, floating_operands
from .select import gather
from .unary import clamp, exp, log, sqrt
from .vector_norm import vector_norm

__all__ = [
    "cosine_embedding_loss", "gaussian_nll_loss", "hinge_embedding_loss", "margin_ranking_loss",
    "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss",
    "poisson_nll_loss", "soft_margin_loss", "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]  # fmt: skip

Distance = Callable[[Tensor, Tensor], Tensor]


# Signs: targets are 1 and −1 ----------------------------------------------------------------


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """input where target is 1, max(0, margin − input) where it is −1, for distances `input`.

    input and target broadcast. Raises ShapeError, DTypeError or DeviceError before any work.
    size_average and reduce are deprecated, here and below.
    """
    operation = "hinge_embedding_loss"
    reduction = reduction_name(operation, reduction, size_average, reduce)
    check_number(operation, "margin", margin)
    _check_operands(operation, input=input, target=target)
    far = where(target != 1, clamp(margin - input, min=0), 0)
    return mean_or_sum(far + where(target != -1, input, 0), reduction)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, −target·(input1 − input2) + margin): target is 1 where input1 should rank higher, −1
    where input2 should.

    All three have the same number of dimensions and broadcast. Errors as `hinge_embedding_loss`.
    """
    operation = "margin_ranking_loss"
    reduction = reduction_name(operation, reduction, size_average, reduce)
    check_number(operation, "margin", margin)
    _check_operands(operation, input1=input1, input2=input2, target=target)
    if not input1.ndim == input2.ndim == target.ndim:
        raise ShapeError(
            f"{operation}: input1, input2 and target must have the same number of dimensions, got "
            f"shapes {input1.shape}, {input2.shape} and {target.shape}"
        )
    signs = _floating(target, input1)
    return mean_or_sum(clamp(margin - signs * (input1 - input2), min=0), reduction)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """ln(1 + exp(−target·input)), without overflow. Errors as `hinge_embedding_loss`."""
    reduction = reduction_name("soft_margin_loss", reduction, size_average, reduce)
    _check_operands("soft_margin_loss", input=input, target=target)
    return mean_or_sum(-logsigmoid(input * _floating(target, input)), reduction)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 − cos(input1, input2) where target is 1, max(0, cos − margin) where it is −1.

    input1 and input2 (N, D) with target (N,), or (D,) with target (). Errors as
    `hinge_embedding_loss`.
    """
    operation = "cosine_embedding_loss"
    reduction = reduction_name(operation, reduction, size_average, reduce)
    check_number(operation, "margin", margin)
    _check_operands(operation, input1=input1, input2=input2)
    _check_operands(operation, input1=input1, target=target, broadcast=False)
    if target.ndim > 1 or not input1.ndim == input2.ndim == target.ndim + 1:
        raise ShapeError(
            f"{operation}: expects inputs (N, D) with target (N,), or (D,) with target (), got "
            f"shapes {input1.shape}, {input2.shape} and {target.shape}"
        )
    broadcast_shape(operation, input1.shape[:-1], target.shape)
    tiny = 1e-12  # keeps the root away from 0, as in torch
    square1, square2 = ((x * x).sum(-1) + tiny for x in (input1, input2))
    cosine = (input1 * input2).sum(-1) / sqrt(square1 * square2)
    near = where(target == 1, 1 - cosine, 0)
    return mean_or_sum(near + where(target == -1, clamp(cosine - margin, min=0), 0), reduction)


# Triplets -----------------------------------------------------------------------------------


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) − d(anchor, negative) + margin), with the distance
    d(x, y) = ‖x − y + eps‖ of order p along the last axis.

    swap: d(positive, negative) instead of d(anchor, negative) where it is smaller. The three have
    the same number of dimensions and broadcast. Errors as `hinge_embedding_loss`; ValueError for a
    margin that is not positive. Source: Balntas et al. 2016, "Learning local feature descriptors
    with triplets".
    """
    operation = "triplet_margin_loss"
    reduction = reduction_name(operation, reduction, size_average, reduce)
    check_number(operation, "p", p)
    check_number(operation, "eps", eps)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return vector_norm(x - y + eps, p, -1)

    return _triplet_loss(operation, anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Distance | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with a distance of one's own."""
    operation = "triplet_margin_with_distance_loss"
    reduction = reduction_name(operation, reduction, None, None)
    if distance_function is None:
        return triplet_margin_loss(
            anchor, positive, negative, margin, swap=swap, reduction=reduction
        )
    return _triplet_loss(
        operation, anchor, positive, negative, distance_function, margin, swap, reduction
    )


def _triplet_loss(
    operation: str,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance: Distance,
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    if not check_number(operation, "margin", margin) > 0:
        raise ValueError(f"{operation}: margin must be above 0, got {margin!r}")
    _check_operands(operation, anchor=anchor, positive=positive, negative=negative)
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise ShapeError(
            f"{operation}: anchor, positive and negative must have the same number of dimensions, "
            f"got shapes {anchor.shape}, {positive.shape} and {negative.shape}"
        )
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    return mean_or_sum(clamp(margin + near - far, min=0), reduction)


# Classes ------------------------------------------------------------------------------------


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Σ_i weight[y]·max(0, margin − input[y] + input[i])^p / C over the classes i other than y.

    input: scores (N, C) or (C,). target: the classes y, int64, (N,) or (). p: 1 or 2. weight (C,).
    Raises TargetError for a class outside [0, C); other errors as `hinge_embedding_loss`.
    """
    operation = "multi_margin_loss"
    reduction = reduction_name(operation, reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError(f"{operation}: p must be 1 or 2, got {p!r}")
    check_number(operation, "margin", margin)
    scores, classes = _scores_and_classes(operation, input, target, target_axes=1)
    C = scores.shape[1]
    if weight is not None:
        floating_operands(operation, "input weight", input, weight)
        if weight.shape != (C,):
            raise ShapeError(f"{operation}: weight must have shape ({C},), got {weight.shape}")
    _check_class_range(operation, classes, 0, C)
    column = classes.reshape((-1, 1))
    losses = clamp(margin - gather(scores, 1, column) + scores, min=0)
    if p == 2:
        losses = losses * losses
    if weight is not None:
        losses = losses * weight[column]
    others = arange(C, device=input.device) != column
    losses = where(others, losses, 0).sum(1) / C
    return _mean_or_sum_of_classes(losses.reshape(target.shape), reduction)


def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Σ_j Σ_i max(0, 1 − input[y_j] + input[i]) / C over the classes y_j that a row of `target`
    lists, up to the first −1, and the classes i that it does not.

    input: scores (N, C) or (C,). target: int64, of input's shape. Raises TargetError for a class
    outside [−1, C); other errors as `hinge_embedding_loss`.
    """
    operation = "multilabel_margin_loss"
    reduction = reduction_name(operation, reduction, size_average, reduce)
    scores, classes = _scores_and_classes(operation, input, target, target_axes=2)
    C = scores.shape[1]
    _check_class_range(operation, classes, -1, C)
    listed = (classes < 0).long().cumsum(1) == 0  # (N, C)
    column, listed = classes.unsqueeze(2), listed.unsqueeze(2)
    is_target = ((arange(C, device=input.device) == column) & listed).any(1)
    wanted = gather(scores, 1, where(classes < 0, 0, classes)).unsqueeze(2)
    losses = clamp(1 - wanted + scores.unsqueeze(1), min=0)  # (N, j, i)
    losses = where(listed & ~is_target.unsqueeze(1), losses, 0).sum((1, 2)) / C
    return _mean_or_sum_of_classes(losses.reshape(input.shape[:-1]), reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over the classes of −target·ln σ(input) − (1 − target)·ln σ(−input), each times its
    weight.

    input, target: (…, C). weight broadcasts to them. Errors as `hinge_embedding_loss`.
    """
    operation = "multilabel_soft_margin_loss"
    reduction = reduction_name(operation, reduction, size_average, reduce)
    _check_operands(operation, input=input, target=target)
    if input.ndim == 0:
        raise ShapeError(f"{operation}: input must be (…, C), got shape ()")
    target = _floating(target, input)
    losses = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        losses = losses * weight
    return mean_or_sum(losses.sum(-1) / input.shape[-1], reduction)


# Likelihoods --------------------------------------------------------------------------------


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """exp(input) − target·input, or with log_input=False input − target·ln(input + eps), for counts
    `target` of a Poisson distribution.

    full: add Stirling's approximation of ln target! where target is above 1. input and target
    broadcast. Errors as `hinge_embedding_loss`.
    """
    operation = "poisson_nll_loss"
    reduction = reduction_name(operation, reduction, size_average, reduce)
    check_number(operation, "eps", eps)
    _check_operands(operation, input=input, target=target)
    target = _floating(target, input)
    if log_input:
        losses = exp(input) - target * input
    else:
        losses = input - target * log(input + eps)
    if full:
        large = where(target > 1, target, 1)  # so that no logarithm of 0 gets into the gradient
        stirling = large * log(large) - large + 0.5 * log(2 * math.pi * large)
        losses = losses + where(target > 1, stirling, 0)
    return mean_or_sum(losses, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """½·(ln v + (input − target)²/v) with v = max(var, eps), for `target` of a normal distribution.

    var: the variance, a number, of input's shape, with its last axis 1 or left out, or broadcasting
    to it. A variance below eps gets the gradient at eps. full: add ½·ln 2π. Raises ValueError for a
    negative variance; other errors as `hinge_embedding_loss`.
    """
    operation = "gaussian_nll_loss"
    reduction = reduction_name(operation, reduction, None, None)
    if not check_number(operation, "eps", eps) > 0:
        raise ValueError(f"{operation}: eps must be above 0, got {eps!r}")
    _check_operands(operation, input=input, target=target)
    if isinstance(var, Tensor):
        floating_operands(operation, "input var", input, var)
        if var.shape == input.shape[:-1] and input.ndim:
            var = var.unsqueeze(-1)
        fits = var.ndim == input.ndim and all(
            a in (1, b) for a, b in zip(var.shape, input.shape, strict=True)
        )
        if not fits:
            raise ShapeError(
                f"{operation}: var of shape {var.shape} does not fit input of shape {input.shape}"
            )

        def refuse(least: float, _: float) -> None:
            raise ValueError(f"{operation}: var must not be negative, got {least}")

        check_ends(var, lambda least, _: logical_not(lt(least, 0)), refuse)  # NaN passes
        constant = var.detach()
        small = constant < eps
        # eps + 0, with the slope of var.
        variance = where(small, eps + (var - constant), var)
    else:
        number = max(check_number(operation, "var", var, low=0), eps)
        variance = input.detach() * 0 + number
    difference = input - target
    losses = 0.5 * (log(variance) + difference * difference / variance)
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return mean_or_sum(losses, reduction)


def _floating(target: Tensor, input: Tensor) -> Tensor:
    """Targets, which may be integers, as numbers to calculate with."""
    return target if is_floating(target.dtype) else to(target, dtype=input.dtype)


def _mean_or_sum_of_classes(losses: Tensor, reduction: str) -> Tensor:
    """As in torch, the mean over no row is 0."""
    return mean_or_sum(losses, "sum" if losses.numel() == 0 and reduction == "mean" else reduction)


# Checks -------------------------------------------------------------------------------------


def _check_operands(operation: str, broadcast: bool = True, **operands: Tensor) -> None:
    """The first must be floating; all tensors on one device that broadcast."""
    for name, operand in operands.items():
        if not isinstance(operand, Tensor):
            raise TypeError(f"{operation}: {name} must be a Tensor, got {type(operand).__name__}")
    same_device(operation, **{name: operand.device for name, operand in operands.items()})
    name, first = next(iter(operands.items()))
    floating_dtype(operation, **{name: first.dtype})
    if broadcast:
        broadcast_shape(operation, *(operand.shape for operand in operands.values()))


def _scores_and_classes(
    operation: str, input: Tensor, target: Tensor, target_axes: int
) -> tuple[Tensor, Tensor]:
    """Scores (N, C), and the classes (N,), or (N, C) for two target_axes, of a batch, a row or a
    number."""
    _check_operands(operation, broadcast=False, input=input, target=target)
    expected = input.shape[:-1] if target_axes == 1 else input.shape
    shapes = [expected, (1,)] if target_axes == 1 and input.ndim < 2 else [expected]
    if input.ndim > 2 or input.shape[-1:] == (0,) or target.shape not in shapes:
        raise ShapeError(
            f"{operation}: expects input (N, C) or (C,) of at least one class and target "
            f"{'(N,) or ()' if target_axes == 1 else 'of the same shape'}, got shapes "
            f"{input.shape} and {target.shape}"
        )
    if target.dtype not in (int64, uint8):
        raise DTypeError(f"{operation}: target must be int64, got {target.dtype.name}")
    rows = input.shape[0] if input.ndim == 2 else 1
    C = input.shape[-1] if input.ndim else 1
    return input.reshape((rows, C)), target.long().reshape((rows, C)[:target_axes])


def _check_class_range(operation: str, classes: Tensor, low: int, C: int) -> None:
    if classes.numel() == 0:
        return
    least, most = amin(classes).item(), amax(classes).item()
    if least < low or most >= C:
        raise TargetError(
            f"{operation}: target must be in [{low}, {C}), got classes from {least} to {most}"
        )
