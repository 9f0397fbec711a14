"""Losses that compare distributions: binary cross-entropy of logits, Kullback-Leibler."""

from __future__ import annotations

import warnings
from typing import Any

from .. import kernels
from ..engine import Function, Tensor
from ..errors import ShapeError
from ._operands import broadcast_shape, elementwise, floating_operands
from ._promotion import scalar
from ._reduction import unbroadcast
from .loss import REDUCTIONS, reduction_name


class BCEWithLogits(Function):
    """l(x, t; p): the kernels state the slopes in x and t; p is a constant."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, target: Tensor, pos_weight: Tensor) -> Tensor:
        ctx.save_for_backward(input, target, pos_weight)
        operands = input, target, pos_weight
        out, out_flat, flats = elementwise("binary_cross_entropy_with_logits", *operands)
        kernels.get(out.device).binary_cross_entropy_with_logits_forward(out_flat, *flats)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, target, pos_weight = ctx.saved_tensors
        backend = kernels.get(input.device)
        grads: list[Tensor | None] = [None, None]
        for place, (operand, launcher) in enumerate((
            (input, backend.binary_cross_entropy_with_logits_backward_input),
            (target, backend.binary_cross_entropy_with_logits_backward_target),
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
        kernels.get(out.device).kl_div_forward(out_flat, x, t, log_target)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, target = ctx.saved_tensors
        backend = kernels.get(input.device)
        grad_input = grad_target = None
        if ctx.needs_input_grad[0]:
            grad, out, (upstream, t) = elementwise("kl_div", grad_output, target)
            backend.kl_div_backward_input(out, upstream, t, ctx.log_target)
            grad_input = unbroadcast(grad, input.shape)
        if ctx.needs_input_grad[1]:
            grad, out, (upstream, x, t) = elementwise("kl_div", grad_output, input, target)
            backend.kl_div_backward_target(out, upstream, x, t, ctx.log_target)
            grad_target = unbroadcast(grad, target.shape)
        return grad_input, grad_target, None


def _reduce(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


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
    pos_weight, of the positive class, broadcast to that shape and receive no gradient.
    Raises ShapeError, DTypeError or DeviceError before any work. size_average and reduce are
    deprecated.
    """
    operation = "binary_cross_entropy_with_logits"
    reduction = reduction_name(operation, reduction, size_average, reduce)
    optional = {"weight": weight, "pos_weight": pos_weight}
    floating_operands(operation, input=input, target=target, optional=optional)
    if input.shape != target.shape:
        raise ShapeError(
            f"{operation}: target must have input's shape {input.shape}, got {target.shape}"
        )
    for name, tensor in optional.items():
        if tensor is None:
            continue
        if broadcast_shape(f"{operation}: {name}", input.shape, tensor.shape) != input.shape:
            raise ShapeError(
                f"{operation}: {name} of shape {tensor.shape} must broadcast to input's shape "
                f"{input.shape}"
            )
    if pos_weight is None:
        pos_weight = scalar(operation, 1, input.dtype, input.device)
    losses = BCEWithLogits.apply(input, target, pos_weight.detach())
    if weight is not None:
        losses = losses * weight.detach()
    return _reduce(losses, reduction)


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
    averaged over the first axis; or 'mean', 'sum', 'none' over all elements. Shapes broadcast.
    Raises ShapeError, DTypeError or DeviceError before any work. size_average and reduce are
    deprecated.
    """
    batchmean = reduction == "batchmean" and size_average is None and reduce is None
    if reduction not in (*REDUCTIONS, "batchmean"):
        raise ValueError(
            f"kl_div: reduction must be 'batchmean' or one of {REDUCTIONS}, got {reduction!r}"
        )
    name = reduction_name("kl_div", "sum" if batchmean else reduction, size_average, reduce)
    floating_operands("kl_div", input=input, target=target)
    broadcast_shape("kl_div", input.shape, target.shape)
    if batchmean and input.ndim == 0:
        raise ShapeError("kl_div: reduction='batchmean' needs an input with a batch axis, got ()")
    if name == "mean":
        warnings.warn(
            "kl_div: reduction='mean' divides by the number of all elements; 'batchmean' divides "
            "by the batch size, as the definition of the divergence does",
            UserWarning,
            stacklevel=2,
        )
    losses = KLDiv.apply(input, target, bool(log_target))
    reduced = _reduce(losses, name)
    return reduced / input.shape[0] if batchmean else reduced
