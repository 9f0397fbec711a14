"""In-place operations as a family: each computes what its out-of-place function computes, and the
tensor takes over values and place in the graph.

    exp_ = in_place(exp, direct=True)

A `direct` function makes one elementwise pass that reads the tensor, and nothing after it: then the
pass writes into the tensor's own memory. All others compute beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, cast

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..dtypes import is_floating
from ..engine import Function, Tensor
from ..engine.gradient import copy, zeros_like
from ..engine.view import become, change, check_change, is_recorded, stand_in
from ..errors import DTypeError, ShapeError
from ..layout import memory_order
from .cast import To, clone, to
from .operands import Overwritten, broadcast_shape, check_writable, same_elements
from .promotion import fitting, scalar
from .reduction import unbroadcast
from .shape import reshape
from .transfer import readable

P = ParamSpec("P")


def in_place(
    function: Callable[P, Tensor], name: str | None = None, direct: bool = False
) -> Callable[P, Tensor]:
    """The in-place form of a public function of a tensor."""
    operation = (name or function.__name__) + "_"

    @functools.wraps(function)
    def changed(*args: Any, **kwargs: Any) -> Tensor:
        input = kwargs.pop("input") if not args and "input" in kwargs else args[0]
        return overwrite(operation, input, function, *args[1:], direct=direct, **kwargs)

    changed.__name__ = changed.__qualname__ = operation
    changed.__doc__ = f"`{function.__name__}` in place: the tensor keeps its memory. Returns it."
    return cast("Callable[P, Tensor]", changed)


def overwrite(
    operation: str,
    target: Tensor,
    function: Callable[..., Tensor],
    *args: Any,
    direct: bool = False,
    **kwargs: Any,
) -> Tensor:
    """target ← function(target, *args, **kwargs), which must have its shape. Returns target."""
    if not isinstance(target, Tensor):
        raise TypeError(f"{operation}: input must be a Tensor, got {type(target).__name__}")
    check_writable(operation, target)
    recorded = is_recorded(target, *args, *kwargs.values())
    if recorded:
        check_change(operation, target)
    source = target
    if direct:
        args = tuple([_apart(arg, target) if isinstance(arg, Tensor) else arg for arg in args])
        source = stand_in(Overwritten, target, target.array)
    elif recorded:
        source = stand_in(Tensor, target, copy(target).array)
    result = function(source, *args, **kwargs)
    if result is source:
        return target
    _check_result(operation, target, result)
    if recorded and target.requires_grad and not result.requires_grad:
        # A result without a gradient: the tensor's former values have none either.
        return overwrite(operation, target, Write.apply, result, direct=True)
    result = to(result, target.dtype)
    if result.array is not target.array:
        kernels.get(target.device).elementwise.copy_strided(target.array, result.array)
    change(target, result)
    return target


def view_in_place(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """The in-place form of a public function that views: the tensor becomes the view."""
    operation = function.__name__ + "_"

    @functools.wraps(function)
    def changed(input: Any, *args: Any, **kwargs: Any) -> Tensor:
        if not isinstance(input, Tensor):
            raise TypeError(f"{operation}: input must be a Tensor, got {type(input).__name__}")
        become(operation, input, lambda former: cast(Any, function)(former, *args, **kwargs))
        return input

    changed.__name__ = changed.__qualname__ = operation
    changed.__doc__ = f"`{function.__name__}` in place: the tensor becomes that view. Returns it."
    return cast("Callable[P, Tensor]", changed)


def applied(
    operation: str, function: Callable[[Tensor], Tensor], input: Tensor, inplace: bool
) -> Tensor:
    """function(input), in the place of the input if asked for."""
    return overwrite(operation + "_", input, function) if inplace else function(input)


def _apart(operand: Tensor, target: Tensor) -> Tensor:
    """The operand, or a copy if it overlaps the target other than element by element: the target
    is written while it is read."""
    data, own = operand.array, target.array
    if type(data) is not type(own) or not np.may_share_memory(data, own):
        return operand
    return operand if same_elements(data, own) else clone(operand)


def _check_result(operation: str, target: Tensor, result: Tensor) -> None:
    if result.array.shape != target.array.shape:
        raise ShapeError(
            f"{operation}: the result has shape {result.shape}, and the tensor's shape "
            f"{target.shape} cannot change in place"
        )
    if _rank(result.dtype) > _rank(target.dtype):
        raise DTypeError(
            f"{operation}: the result has dtype {result.dtype.name}, which a tensor of dtype "
            f"{target.dtype.name} cannot hold in place"
        )


def _rank(dtype: np.dtype) -> int:
    return 2 if is_floating(dtype) else int(dtype.kind != "b")


# What does not depend on the tensor's former values --------------------------------------------


class Write(Function):
    """x ← y, broadcast and converted: dx = 0, dy = grad, summed over what was repeated."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, src: Tensor) -> Tensor:
        ctx.source, ctx.shape = (src.dtype, src.device), src.shape
        array = np.broadcast_to(readable(src, input.device), input.shape)
        kernels.get(input.device).elementwise.copy_strided(input.array, array)
        return Tensor(input.array, input.device, version=input._version)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_input = zeros_like(grad_output) if ctx.needs_input_grad[0] else None
        grad_src = None
        if ctx.needs_input_grad[1]:
            grad_src = unbroadcast(grad_output, ctx.shape)
            if (grad_src.dtype, grad_src.device) != ctx.source:
                grad_src = To.apply(grad_src, *ctx.source)
        return grad_input, grad_src


class Fill(Function):
    """x ← a number: dx = 0."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, value: float) -> Tensor:
        data, launch = input.array, kernels.get(input.device).elementwise
        order = memory_order(data)
        if order is None:
            number = scalar("fill_", value, input.dtype, input.device).array
            launch.copy_strided(data, np.broadcast_to(number, data.shape))
        else:
            launch.fill(data.transpose(order).reshape(-1), value)
        return Tensor(data, input.device, version=input._version)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return zeros_like(grad_output), None


def copy_(input: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """input ← src, broadcast and converted to input's dtype. Returns input."""
    if not isinstance(src, Tensor):
        raise TypeError(f"copy_: src must be a Tensor, got {type(src).__name__}")
    if (
        isinstance(input, Tensor)
        and broadcast_shape("copy_", input.shape, src.shape) != input.shape
    ):
        raise ShapeError(
            f"copy_: a src of shape {src.shape} does not broadcast to the tensor's shape "
            f"{input.shape}, which cannot change in place"
        )
    return overwrite("copy_", input, Write.apply, src, direct=True)


def fill_(input: Tensor, value: float | Tensor) -> Tensor:
    """input ← value everywhere; a number, or a tensor of one element. Returns input."""
    if isinstance(value, Tensor):
        if value.array.size != 1:
            raise ShapeError(f"fill_: value must have one element, got shape {value.shape}")
        return copy_(input, reshape(value, ()))
    number: float = value.item() if isinstance(value, np.generic) else value
    if not isinstance(number, bool):
        check_number("fill_", "value", number)
    if isinstance(input, Tensor):
        number = fitting("fill_", number, input.dtype)
    return overwrite("fill_", input, Fill.apply, number, direct=True)


def zero_(input: Tensor) -> Tensor:
    """input ← 0 everywhere. Returns input."""
    return overwrite("zero_", input, Fill.apply, 0, direct=True)
