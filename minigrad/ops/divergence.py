"""Binary cross entropy and Kullback-Leibler divergence: losses that compare distributions."""

from __future__ import annotations

import warnings
from typing import Any

from .. import kernels
from ..dtypes import is_floating
from ..engine import Function, Tensor
from ..errors import GraphError, ShapeError, TargetError
from .arithmetic import neg, product, sub
from .cast import to
from .compare import ge, le, logical_and
from .extrema import check_ends
from .loss import REDUCTIONS, mean_or_sum, reduction_name
from .operands import broadcast_shape, elementwise, floating_operands, takes_tensor
from .promotion import as_common_floating, scalar
from .reduction import unbroadcast
from .unary import log, log1p

__all__ = ["binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"]


class BCE(Function):
    """l = −t·ln x − (1 − t)·ln(1 − x), no logarithm below −100."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(input, target)
        out, out_flat, (x, t) = elementwise("binary_cross_entropy", input, target)
        kernels.get(out.device).divergence.binary_cross_entropy_forward(out_flat, x, t)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, target = ctx.saved_tensors
        grad_input = grad_target = None
        if ctx.needs_input_grad[0]:
            grad_input, out, flats = elementwise("binary_cross_entropy", grad_output, input, target)
            kernels.get(input.device).divergence.binary_cross_entropy_backward_input(out, *flats)
        if ctx.needs_input_grad[1]:
            # dl/dt = ln(1 − x) − ln x, in torch without the limit of −100
            grad_target = product(grad_output, sub(log1p(neg(input)), log(input)))
        return grad_input, grad_target


class BCEWithLogits(Function):
    """l(x, t; p): the kernels state the slopes in x and t; p is a constant."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, target: Tensor, pos_weight: Tensor) -> Tensor:
        ctx.save_for_backward(input, target, pos_weight)
        operands = input, target, pos_weight
        out, out_flat, flats = elementwise("binary_cross_entropy_with_logits", *operands)
        kernels.get(out.device).divergence.binary_cross_entropy_with_logits_forward(
            out_flat, *flats
        )
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, target, pos_weight = ctx.saved_tensors
        backend = kernels.get(input.device)
        grads: list[Tensor | None] = [None, None]
        for place, (operand, launcher) in enumerate((
            (input, backend.divergence.binary_cross_entropy_with_logits_backward_input),
            (target, backend.divergence.binary_cross_entropy_with_logits_backward_target),
        )):  # fmt: skip
            if ctx.needs_input_grad[place]:
                grad, grad_flat, (upstream, *flats) = elementwise(
                    "binary_cross_entropy_with_logits", grad_output, input, target, pos_weight
                )
                launcher(grad_flat, upstream, *flats)
                grads[place] = unbroadcast(grad, operand.shape)
        return *grads, None


class KLDiv(Function):
    """l = t·(ln t − x), or of a target given as ln t: the kernels state the slopes."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, target: Tensor, log_target: bool) -> Tensor:
        ctx.save_for_backward(input, target)
        ctx.log_target = log_target
        out, out_flat, (x, t) = elementwise("kl_div", input, target)
        kernels.get(out.device).divergence.kl_div_forward(out_flat, x, t, log_target)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, target = ctx.saved_tensors
        launch = kernels.get(input.device).divergence
        grad_input = grad_target = None
        if ctx.needs_input_grad[0]:
            grad, out, (upstream, t) = elementwise("kl_div", grad_output, target)
            launch.kl_div_backward_input(out, upstream, t, ctx.log_target)
            grad_input = unbroadcast(grad, input.shape)
        if ctx.needs_input_grad[1]:
            grad, out, (upstream, x, t) = elementwise("kl_div", grad_output, input, target)
            launch.kl_div_backward_target(out, upstream, x, t, ctx.log_target)
            grad_target = unbroadcast(grad, target.shape)
        return grad_input, grad_target, None


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """−target · ln input − (1 − target) · ln(1 − input), for probabilities `input`.

    input and target of one shape, from 0 to 1 → a scalar, or that shape for 'none'. A logarithm
    below −100 counts as −100. weight, of the losses, broadcasts to that shape and receives no
    gradient. `binary_cross_entropy_with_logits` of what the sigmoid would be taken of is exact
    where this is not.
    Raises TargetError for input or target outside [0, 1], ShapeError, DTypeError or DeviceError,
    before any work. size_average and reduce are deprecated.
    """
    operation = "binary_cross_entropy"
    reduction = reduction_name(operation, reduction, size_average, reduce)
    _check_binary(operation, input, target, {"weight": weight})
    for name, tensor in (("input", input), ("target", target)):

        def refuse(low: float, high: float, name: str = name) -> None:
            raise TargetError(
                f"{operation}: {name} must be from 0 to 1, got values from {low} to {high}"
            )

        check_ends(tensor, lambda low, high: logical_and(ge(low, 0), le(high, 1)), refuse)
    losses = BCE.apply(input, target)
    return mean_or_sum(losses if weight is None else losses * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """−pos_weight · target · ln σ(input) − (1 − target) · ln(1 − σ(input)), without overflow.

    input and target of one shape → a scalar, or that shape for 'none'. weight, of the losses, and
    pos_weight, of the positive class, broadcast to that shape and receive no gradient. Floating
    dtypes are promoted; the losses have the target's.
    Raises ShapeError, DTypeError or DeviceError before any work. size_average and reduce are
    deprecated.
    """
    operation = "binary_cross_entropy_with_logits"
    reduction = reduction_name(operation, reduction, size_average, reduce)
    given = target
    if isinstance(target, Tensor) and is_floating(target.dtype):
        input, target, weight, pos_weight = as_common_floating(input, target, weight, pos_weight)
    _check_binary(operation, input, target, {"weight": weight, "pos_weight": pos_weight})
    if pos_weight is None:
        pos_weight = scalar(operation, 1, input.dtype, input.device)
    losses = BCEWithLogits.apply(input, target, pos_weight)
    return to(mean_or_sum(losses if weight is None else losses * weight, reduction), given.dtype)


def _check_binary(
    operation: str, input: Tensor, target: Tensor, weights: dict[str, Tensor | None]
) -> None:
    names = " ".join(["input", "target", *[f"{name}?" for name in weights]])
    floating_operands(operation, names, input, target, *weights.values())
    if input.shape != target.shape:
        raise ShapeError(
            f"{operation}: target must have input's shape {input.shape}, got {target.shape}"
        )
    for name, tensor in weights.items():
        if tensor is None:
            continue
        if broadcast_shape(f"{operation}: {name}", input.shape, tensor.shape) != input.shape:
            raise ShapeError(
                f"{operation}: {name} of shape {tensor.shape} must broadcast to input's shape "
                f"{input.shape}"
            )
        if tensor.requires_grad:
            raise GraphError(f"{operation}: is not differentiable with respect to {name}")


@takes_tensor
def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """target · (ln target − input): the divergence of target from the distribution e^input.

    input holds logarithms; target too if log_target. reduction: 'batchmean', the divergence itself
    averaged over input's first axis; or 'mean', 'sum', 'none' over all elements. Shapes broadcast.
    Raises ShapeError, DTypeError or DeviceError before any work. size_average and reduce are
    deprecated.
    """
    if not isinstance(reduction, str) or reduction not in (*REDUCTIONS, "batchmean"):
        raise ValueError(
            f"kl_div: reduction must be 'batchmean' or one of {REDUCTIONS}, got {reduction!r}"
        )
    batchmean = reduction == "batchmean"
    deprecated = size_average is not None or reduce is not None
    name = reduction_name("kl_div", "sum" if batchmean else reduction, size_average, reduce)
    if isinstance(target, Tensor) and is_floating(target.dtype):
        input, target = as_common_floating(input, target)
    floating_operands("kl_div", "input target", input, target)
    broadcast_shape("kl_div", input.shape, target.shape)
    if name == "mean" and not deprecated:
        warnings.warn(
            "kl_div: reduction='mean' divides by the number of all elements; 'batchmean' divides "
            "by the batch size, as the definition of the divergence does",
            UserWarning,
            stacklevel=2,
        )
    losses = KLDiv.apply(input, target, bool(log_target))
    reduced = mean_or_sum(losses, name)
    return reduced / input.shape[0] if batchmean and input.ndim else reduced
