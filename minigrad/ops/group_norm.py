"""Group and layer normalisation: each sample by itself, over all its numbers, or over groups of
channels.

Sources: Ba et al. 2016, "Layer Normalization"; Wu & He 2018, "Group Normalization"; Zhang &
Sennrich 2019, "Root Mean Square Layer Normalization".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_int, check_number
from ..dtypes import float64
from ..engine import Function, Tensor
from ..errors import DTypeError, ShapeError
from ..runtime.allocation import allocate
from .arithmetic import mul, square
from .operands import c_order, empty, floating_operands, scratch
from .reduce import mean
from .rows import empty_rows, to_rows
from .unary import rsqrt

__all__ = ["group_norm", "layer_norm", "rms_norm"]


class GroupNorm(Function):
    """x̂ = (x − μ)·r per sample and group, out = x̂·w + b: see the kernels for the gradient.

    form: (N, L, C), where axis `axis` of the input becomes C and what lies between the samples and
    it becomes L; with None, the input has these axes in its order. weight and bias have C elements.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        form: tuple[int, int, int],
        axis: int | None,
        groups: int,
        eps: float,
    ) -> Tensor:
        N, _, _ = form
        mean, invstd = (allocate((N, groups), float64, input.device) for _ in range(2))
        out, rows = _empty(input, form, axis)
        launch = kernels.get(input.device).group_norm
        workspace = scratch(launch.group_norm_forward_workspace(form), float64, input.device)
        launch.group_norm_forward(
            rows, mean, invstd, _array(input, form, axis),
            _flat(weight), _flat(bias), eps, workspace,
        )  # fmt: skip
        ctx.save_for_backward(input, weight)
        ctx.statistics, ctx.form, ctx.axis = (mean, invstd), form, axis
        ctx.affine = next((p.shape for p in (weight, bias) if p is not None), form[2:])
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        form, axis, device = ctx.form, ctx.axis, input.device
        launch, (mean, invstd) = kernels.get(device).group_norm, ctx.statistics
        upstream, rows = (_array(t, form, axis) for t in (grad_output, input))
        grad_input = grad_weight = grad_bias = None
        out = weight_out = bias_out = None
        if ctx.needs_input_grad[0]:
            grad_input, out = _empty(input, form, axis)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_weight, grad_bias = (empty(ctx.affine, input.dtype, device) for _ in range(2))
            weight_out, bias_out = grad_weight.array.reshape(-1), grad_bias.array.reshape(-1)
        launch.group_norm_backward(
            out, weight_out, bias_out, upstream, rows, _flat(weight), mean, invstd,
            scratch(launch.group_norm_backward_workspace(form), float64, device),
        )  # fmt: skip
        return grad_input, grad_weight, grad_bias, None, None, None, None


def _array(tensor: Tensor, form: tuple[int, int, int], axis: int | None) -> np.ndarray:
    rows = c_order(tensor) if axis is None else to_rows(tensor, axis)
    return rows.reshape(form)


def _empty(like: Tensor, form: tuple[int, int, int], axis: int | None) -> tuple[Tensor, np.ndarray]:
    """An uninitialised tensor like the input, and its array of the form (N, L, C)."""
    if axis is None:
        out = empty(like.shape, like.dtype, like.device)
        return out, out.array.reshape(form)
    out, rows = empty_rows(like.shape, axis, like.dtype, like.device)
    return out, rows.reshape(form)


def _flat(parameter: Tensor | None) -> np.ndarray | None:
    return None if parameter is None else c_order(parameter).reshape(-1)


def _check_affine(
    operation: str, input: Tensor, weight: Tensor | None, bias: Tensor | None, shape: Any
) -> None:
    floating_operands(operation, "input weight? bias?", input, weight, bias)
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and parameter.shape != shape:
            raise ShapeError(
                f"{operation}: {name} must have shape {shape} for an input of shape {input.shape}, "
                f"got {parameter.shape}"
            )


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(input − mean) / √(variance + eps) · weight + bias, over each group of channels of a sample.

    input (N, C, …) → the same shape; weight, bias (C,). The C channels form num_groups groups of
    neighbours. The variance is the biased one. Raises ShapeError, DTypeError or DeviceError before
    any work; ShapeError also where a group is a single number, as torch does.
    """
    floating_operands("group_norm", "input", input)
    if input.ndim < 2:
        raise ShapeError(f"group_norm: input must be (N, C, …), got shape {input.shape}")
    N, C, *rest = input.shape
    check_int("group_norm", "num_groups", num_groups)
    if num_groups < 1 or C % num_groups:
        raise ShapeError(
            f"group_norm: num_groups must be a positive divisor of the {C} channels of an input of "
            f"shape {input.shape}, got {num_groups}"
        )
    _check_affine("group_norm", input, weight, bias, (C,))
    eps = check_number("group_norm", "eps", eps)
    L = math.prod(rest)
    if C * L == 0:
        raise ShapeError(f"group_norm: only the batch may be empty, got shape {input.shape}")
    if N * C // num_groups * L == 1:
        raise ShapeError(
            f"group_norm: a group must hold more than one number, got shape {input.shape} with "
            f"num_groups={num_groups}"
        )
    return GroupNorm.apply(input, weight, bias, (N, L, C), 1, num_groups, eps)


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(input − mean) / √(variance + eps) · weight + bias, over the last axes.

    input (…, *normalized_shape) → the same shape; weight, bias: normalized_shape. The variance is
    the biased one. Raises ShapeError, DTypeError or DeviceError before any work.
    """
    shape = _last_sizes("layer_norm", input, normalized_shape)
    _check_affine("layer_norm", input, weight, bias, shape)
    eps = check_number("layer_norm", "eps", eps)
    form = math.prod(input.shape[: -len(shape)]), 1, math.prod(shape)
    return GroupNorm.apply(input, weight, bias, form, None, 1, eps)


def rms_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """input / √(mean of input² over the last axes + eps) · weight.

    input (…, *normalized_shape) → the same shape; weight: normalized_shape. eps=None is the
    distance from 1 to the next number of the input's dtype. Raises as `layer_norm`.
    """
    shape = _last_sizes("rms_norm", input, normalized_shape)
    _check_affine("rms_norm", input, weight, None, shape)
    small = np.finfo(input.dtype).eps if eps is None else check_number("rms_norm", "eps", eps)
    power = mean(square(input), tuple(range(-len(shape), 0)), keepdim=True)
    out = mul(input, rsqrt(power + float(small)))
    return out if weight is None else mul(out, weight)


def _last_sizes(
    operation: str, input: Tensor, normalized_shape: int | Sequence[int]
) -> tuple[int, ...]:
    floating_operands(operation, "input", input)
    shape = normalized_sizes(operation, normalized_shape)
    if input.shape[-len(shape) :] != shape:
        raise ShapeError(
            f"{operation}: normalized_shape {shape} must be the last sizes of the input's shape "
            f"{input.shape}"
        )
    return shape


def normalized_sizes(operation: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """The sizes, of which there is at least one, as a tuple."""
    one = hasattr(normalized_shape, "__index__") and not isinstance(normalized_shape, bool)
    try:
        sizes: Any = (normalized_shape,) if one else tuple(normalized_shape)  # type: ignore[arg-type]
        shape = tuple(int(size.__index__()) for size in sizes)
    except (AttributeError, TypeError):
        raise DTypeError(
            f"{operation}: normalized_shape must be an int or several, got {normalized_shape!r}"
        ) from None
    if not shape:
        raise ShapeError(f"{operation}: normalized_shape must have at least one size, got ()")
    return shape
