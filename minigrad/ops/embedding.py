"""Table look-up and similarity: rows of a table by number, one-hot codes, and how near vectors are.

All of it is composed of other operations.
"""

from __future__ import annotations

from ..arguments import check_int, check_number
from ..device import same_device
from ..dtypes import int64
from ..engine import Tensor, no_grad
from ..errors import DTypeError, ShapeError, TargetError
from .arithmetic import add, div, mul, sub
from .cast import to
from .compare import eq, where
from .creation import arange
from .extrema import amax, amin
from .indexing import set_item
from .matmul import matmul
from .operands import broadcast_shape, floating_operands
from .reduce import sum
from .reduction import Dim, axis_of
from .select import index_select
from .shape import expand, flatten, reshape, unsqueeze
from .vector_norm import norm

__all__ = [
    "bilinear", "cosine_similarity", "embedding", "normalize", "one_hot", "pairwise_distance",
]  # fmt: skip


def _whole_numbers(operation: str, name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor) or tensor.dtype != int64:
        got = tensor.dtype.name if isinstance(tensor, Tensor) else type(tensor).__name__
        raise DTypeError(f"{operation}: {name} must be an int64 tensor, got {got}")


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at each class, 0 elsewhere.  int64 (…) → int64 (…, num_classes).

    num_classes=-1: one more than the largest class. Raises TargetError for a class outside of it.
    """
    _whole_numbers("one_hot", "tensor", tensor)
    check_int("one_hot", "num_classes", num_classes, low=-1)
    if tensor.array.size == 0 and num_classes <= 0:
        raise ShapeError("one_hot: num_classes must be given for a tensor without elements")
    if tensor.array.size:
        least, most = int(amin(tensor).item()), int(amax(tensor).item())
        num_classes = most + 1 if num_classes == -1 else num_classes
        if least < 0 or most >= num_classes:
            raise TargetError(
                f"one_hot: classes must be in [0, {num_classes}), got {least} to {most}"
            )
    classes = arange(num_classes, device=tensor.device)
    return to(eq(unsqueeze(tensor, -1), classes), int64)


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of a table that `input` numbers.

    input: int64 (…); weight: floating (V, D) → (…, D). padding_idx: a row that gets no gradient.
    max_norm: rows that are read and longer are scaled to it first, in place, outside the graph.
    Raises TargetError for a number outside [0, V); scale_grad_by_freq and sparse gradients are
    refused.
    """
    name = "embedding"
    _whole_numbers(name, "input", input)
    floating_operands(name, "weight", weight)
    same_device(name, input=input.device, weight=weight.device)
    if weight.ndim != 2:
        raise ShapeError(f"{name}: weight must be (V, D), got shape {weight.shape}")
    if scale_grad_by_freq or sparse:
        raise ValueError(f"{name}: scale_grad_by_freq and sparse must be False")
    V, D = weight.shape
    if padding_idx is not None:
        padding_idx = check_int(name, "padding_idx", padding_idx, low=-V, high=V - 1) % V
    places = flatten(input)
    if max_norm is not None:
        _limit_rows(weight, places, check_number(name, "max_norm", max_norm), norm_type)
    rows = index_select(weight, 0, places)
    if padding_idx is not None and weight.requires_grad:
        rows = where(unsqueeze(eq(places, padding_idx), -1), rows.detach(), rows)
    return reshape(rows, (*input.shape, D))


def _limit_rows(weight: Tensor, places: Tensor, max_norm: float, norm_type: float) -> None:
    with no_grad():
        rows = index_select(weight, 0, places)
        lengths = norm(rows, norm_type, 1, keepdim=True)
        scale = where(lengths > max_norm, max_norm / (lengths + 1e-7), 1)
        set_item(weight, places, mul(rows, scale))


def normalize(input: Tensor, p: float = 2.0, dim: Dim = 1, eps: float = 1e-12) -> Tensor:
    """input / max(‖input‖ₚ, eps), with the norm over dim."""
    floating_operands("normalize", "input", input)
    check_number("normalize", "eps", eps)
    lengths = norm(input, p, dim, keepdim=True)
    return div(input, _at_least(lengths, eps))


def _at_least(input: Tensor, eps: float) -> Tensor:
    """At least eps; the gradient at eps itself is 1, as clamp_min's in torch."""
    return where(input < eps, eps, input)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1·x2 / (max(‖x1‖, eps) · max(‖x2‖, eps)) along dim, with broadcasting."""
    floating_operands("cosine_similarity", "x1 x2", x1, x2)
    check_number("cosine_similarity", "eps", eps)
    shape = broadcast_shape("cosine_similarity", x1.shape, x2.shape)
    axis = axis_of("cosine_similarity", dim, len(shape))
    full = [x if x.shape == shape else expand(x, shape) for x in (x1, x2)]
    left, right = (div(x, _at_least(norm(x, 2, axis, keepdim=True), eps)) for x in full)
    return sum(mul(left, right), axis)


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """‖x1 − x2 + eps‖ₚ over the last axis, with broadcasting."""
    floating_operands("pairwise_distance", "x1 x2", x1, x2)
    check_number("pairwise_distance", "eps", eps)
    return norm(add(sub(x1, x2), eps), p, -1, keepdim)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input1·weightₖ·input2 + biasₖ for every output k.

    input1 (…, A), input2 (…, B), weight (K, A, B), bias (K,) → (…, K).
    """
    name = "bilinear"
    floating_operands(name, "input1 input2 weight bias?", input1, input2, weight, bias)
    if weight.ndim != 3 or not input1.ndim or input1.shape[:-1] != input2.shape[:-1]:
        raise ShapeError(
            f"{name}: expects input1 (…, A), input2 (…, B) and weight (K, A, B), got "
            f"{input1.shape}, {input2.shape} and {weight.shape}"
        )
    K, A, B = weight.shape
    if (input1.shape[-1], input2.shape[-1]) != (A, B):
        raise ShapeError(
            f"{name}: weight of shape {weight.shape} expects last sizes {A} and {B}, got "
            f"{input1.shape} and {input2.shape}"
        )
    if bias is not None and bias.shape != (K,):
        raise ShapeError(f"{name}: bias must have shape ({K},), got {bias.shape}")
    left = reshape(input1, (-1, A))
    # (n, A) @ (A, K·B) → (n, K, B), times (n, 1, B), summed over B
    half = reshape(matmul(left, reshape(weight.permute(1, 0, 2), (A, K * B))), (-1, K, B))
    out = sum(mul(half, reshape(input2, (-1, 1, B))), -1)
    out = reshape(out, (*input1.shape[:-1], K))
    return out if bias is None else add(out, bias)
