"""In-place operations: the tensor keeps its memory, of which it may be a view.

They are for data outside the graph (parameters under no_grad, statistics, buffers): while recording
is on, neither the tensor nor an operand may require a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..device import same_device
from ..engine import Tensor, is_grad_enabled
from ..errors import DTypeError, GraphError, ShapeError
from ..layout import broadcast, empty_array, flat, memory_order
from .arithmetic import check_alpha, refuse_bool
from .operands import address_of, check_writable, repeated, takes_tensor
from .promotion import Operand, fitting, operands, scalar
from .transfer import readable, share_memory
from .unary import clamp_bounds


def _check_change(operation: str, *tensors: Any) -> None:
    """The first tensor, which changes, must not share its elements; none may be recorded."""
    check_writable(operation, tensors[0])
    if not is_grad_enabled():
        return
    for position, tensor in enumerate(tensors):
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            which = "the tensor" if position == 0 else "an operand"
            raise GraphError(
                f"{operation}: {which} of shape {tensor.shape} requires a gradient, and in-place "
                f"operations are not recorded; use it under no_grad(), or the operation "
                f"{operation.rstrip('_')}"
            )


def _readable(operation: str, operand: Tensor, target: Tensor) -> np.ndarray:
    """The operand's array, checked to broadcast to the target's shape.

    It is copied if it overlaps the target other than element by element, because the target is
    written while it is read.
    """
    data = operand.array
    try:
        np.broadcast_to(data, target.shape)
    except ValueError:
        raise ShapeError(
            f"{operation}: an operand of shape {operand.shape} does not broadcast to the tensor's "
            f"shape {target.shape}, which cannot change in place"
        ) from None
    same_elements = (
        data.shape == target.shape
        and data.strides == target.array.strides
        and address_of(data) == address_of(target.array)
    )
    if same_elements or not np.may_share_memory(data, target.array):
        return data
    copy = empty_array(data.shape, data.dtype, operand.device)
    kernels.get(operand.device).elementwise.copy_strided(copy, data)
    return copy


def _update(
    operation: str, target: Tensor, operand: Tensor | None, launch: Callable[..., None]
) -> Tensor:
    """launch(out, target[, operand]) on flat arrays in target's memory order, out being target."""
    data, device = target.array, target.device
    order = memory_order(data)
    if order is None:
        # A view with gaps is computed in one piece, and then copied into place.
        order = tuple(range(data.ndim))
        out = empty_array((data.size,), data.dtype, device)
        flats = [flat(data, order, device)]
    else:
        out = data.transpose(order).reshape(-1)
        flats = [out]
    if operand is not None:
        same_device(operation, tensor=device, operand=operand.device)
        source = _readable(operation, operand, target)
        if source.size == 1:
            flats.append(repeated(source, data.size))
        else:
            flats.append(flat(broadcast(source, data.shape), order, device))
    launch(out, *flats)
    if flats[0] is not out:
        kernels.get(device).elementwise.copy_strided(data, out.reshape(data.shape))
    target.mark_changed()
    return target


def _in_place_operand(operation: str, target: Tensor, other: Operand, floating: bool) -> Tensor:
    """`other` as a tensor of target's dtype, or an error if the result would need another one."""
    _check_change(operation, target, other)
    left, right = operands(operation, target, other, floating=floating)
    if left.dtype != target.dtype:
        raise DTypeError(
            f"{operation}: the result has dtype {left.dtype.name}, which a tensor of dtype "
            f"{target.dtype.name} cannot hold in place"
        )
    return right


@takes_tensor
def add_(input: Tensor, other: Operand, *, alpha: float = 1) -> Tensor:
    """input ← input + alpha·other. Returns input."""
    right = _in_place_operand("add_", input, other, floating=False)
    check_alpha("add_", alpha, input.dtype)
    launcher = kernels.get(input.device).elementwise.add_forward
    return _update("add_", input, right, lambda out, a, b: launcher(out, a, b, alpha))


@takes_tensor
def sub_(input: Tensor, other: Operand, *, alpha: float = 1) -> Tensor:
    """input ← input − alpha·other. Returns input."""
    right = _in_place_operand("sub_", input, other, floating=False)
    refuse_bool("sub_", input.dtype)
    check_alpha("sub_", alpha, input.dtype)
    launcher = kernels.get(input.device).elementwise.add_forward
    return _update("sub_", input, right, lambda out, a, b: launcher(out, a, b, -alpha))


@takes_tensor
def mul_(input: Tensor, other: Operand) -> Tensor:
    """input ← input·other. Returns input."""
    right = _in_place_operand("mul_", input, other, floating=False)
    return _update("mul_", input, right, kernels.get(input.device).elementwise.mul_forward)


@takes_tensor
def div_(input: Tensor, other: Operand) -> Tensor:
    """input ← input/other, for floating tensors. Returns input."""
    right = _in_place_operand("div_", input, other, floating=True)
    return _update("div_", input, right, kernels.get(input.device).elementwise.div_forward)


@takes_tensor
def clamp_(input: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """input ← input limited to [min, max]. Returns input."""
    _check_change("clamp_", input)
    converted, low, high = clamp_bounds("clamp_", input, min, max)
    if converted.dtype != input.dtype:
        raise DTypeError(
            f"clamp_: bounds {min!r} and {max!r} need dtype {converted.dtype.name}, which a tensor "
            f"of dtype {input.dtype.name} cannot hold in place"
        )
    launcher = kernels.get(input.device).unary.clamp_forward
    return _update("clamp_", input, None, lambda out, a: launcher(out, a, low, high))


@takes_tensor
def copy_(input: Tensor, src: Tensor) -> Tensor:
    """input ← src, broadcast and converted to input's dtype. Returns input."""
    if not isinstance(src, Tensor):
        raise TypeError(f"copy_: src must be a Tensor, got {type(src).__name__}")
    _check_change("copy_", input, src)
    if not share_memory(src.device, input.device):
        src = Tensor(readable(src, input.device), input.device)
    source = np.broadcast_to(_readable("copy_", src, input), input.shape)
    kernels.get(input.device).elementwise.copy_strided(input.array, source)
    input.mark_changed()
    return input


@takes_tensor
def fill_(input: Tensor, value: float) -> Tensor:
    """input ← value everywhere. Returns input."""
    if isinstance(value, Tensor):
        if value.array.size != 1:
            raise ShapeError(f"fill_: value must have one element, got shape {value.shape}")
        return copy_(input, value)
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, bool):
        check_number("fill_", "value", value)
    _check_change("fill_", input)
    value = fitting("fill_", value, input.dtype)
    order = memory_order(input.array)
    if order is None:
        return copy_(input, scalar("fill_", value, input.dtype, input.device))
    kernels.get(input.device).elementwise.fill(input.array.transpose(order).reshape(-1), value)
    input.mark_changed()
    return input


@takes_tensor
def zero_(input: Tensor) -> Tensor:
    """input ← 0 everywhere. Returns input."""
    return fill_(input, 0)
