"""Index selection and masks: selecting elements along one axis, by a mask, and by their distance
from a diagonal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_int
from ..device import same_device
from ..dtypes import bool_, int32, int64
from ..engine import Function, Tensor
from ..errors import DTypeError, ShapeError
from ..layout import contiguous
from ..runtime.allocation import allocate
from .cast import to
from .compare import where
from .indexing import Pick, Picker, check_index, get_item, plan_picks
from .operands import broadcast_shape, c_order, empty, scratch, takes_tensor, widened
from .promotion import common_dtype
from .reduction import axis_of
from .shape import flatten, reshape

__all__ = ["gather", "index_select", "masked_fill", "narrow", "select", "tril", "triu"]

# Along one axis -----------------------------------------------------------------------------


def index_tensor(operation: str, input: Tensor, index: Tensor) -> Tensor:
    """The index as int64, for one of int64 or int32."""
    if not isinstance(index, Tensor) or index.dtype not in (int64, int32):
        got = index.dtype.name if isinstance(index, Tensor) else type(index).__name__
        raise DTypeError(f"{operation}: index must be an int64 tensor, got {got}")
    same_device(operation, input=input.device, index=index.device)
    return widened(index)


@takes_tensor
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The positions `index` (K,) of an axis, in their order."""
    index = index_tensor("index_select", input, index)
    axis = axis_of("index_select", dim, input.ndim)
    if index.ndim != 1 or (input.ndim == 0 and index.shape != (1,)):
        raise ShapeError(
            "index_select: expects an index of one dimension, and of one element where the input "
            f"has no axes, got input {input.shape} and index {index.shape}"
        )
    if input.ndim == 0:
        return reshape(index_select(reshape(input, 1), 0, index), ())
    return Pick.apply(input, plan_picks(input, [Picker((axis,), index.array, wrap=False)]))


@takes_tensor
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """A view of one position of an axis, without that axis."""
    axis = axis_of("select", dim, input.ndim)
    return get_item(input, (*(slice(None),) * axis, index))


@takes_tensor
def narrow(input: Tensor, dim: int, start: int | Tensor, length: int) -> Tensor:
    """A view of `length` positions of an axis from `start` on."""
    begin: Any = start
    if isinstance(start, Tensor) and start.ndim == 0 and start.dtype == int64:
        begin = start.item()
    for name, value in (("start", begin), ("length", length)):
        check_int("narrow", name, value)
    axis = axis_of("narrow", dim, input.ndim)
    size = input.shape[axis] if input.ndim else 0
    first = begin + size if begin < 0 else begin
    if first < 0 or length < 0 or first + length > size:
        raise ShapeError(
            f"narrow: start {begin} and length {length} exceed axis {axis} of size {size} of a "
            f"tensor of shape {input.shape}"
        )
    return get_item(input, (*(slice(None),) * axis, slice(first, first + length)))


Window = tuple[slice, ...]


def window_positions(
    operation: str, input: Tensor, axis: int, index: Tensor
) -> tuple[Window, Tensor]:
    """The part of the input that an index can reach, and the numbers therein of its elements.

    Along other axes the index may be shorter: the rest of the input is not reached.
    """
    window = tuple(slice(None) if a == axis else slice(n) for a, n in enumerate(index.shape))
    size, device = input.shape[axis], input.device
    outer, inner = math.prod(index.shape[:axis]), math.prod(index.shape[axis + 1 :])
    positions, bad = empty(index.shape, int64, device), allocate((1,), int64, device)
    form = (outer, index.shape[axis], inner)
    wanted = c_order(index)
    kernels.get(device).indexing.gather_positions(
        positions.array.reshape(form), bad, wanted.reshape(form), size
    )
    check_index(operation, bad, wanted, axis, input)
    return window, positions


class Gather(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, axis: int, index: Tensor) -> Tensor:
        ctx.shape = input.shape
        ctx.window, positions = window_positions("gather", input, axis, index)
        ctx.save_for_backward(positions)
        source = contiguous(input.array[ctx.window], input.device)
        out = empty(index.shape, input.dtype, input.device)
        kernels.get(input.device).indexing.index_forward(
            out.array.reshape(1, -1, 1), source.reshape(1, -1, 1), positions.array.reshape(-1)
        )
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (positions,) = ctx.saved_tensors
        return gathered_sums(grad_output, positions, ctx.window, ctx.shape), None, None


def gathered_sums(
    values: Tensor, positions: Tensor, window: Window, shape: tuple[int, ...]
) -> Tensor:
    """The adjoint of gather: at each position of the window the sum of the values gathered from
    there, and 0 outside."""
    # As for Pick, with positions in the whole window.
    device, backend = values.device, kernels.get(values.device)
    out = empty(shape, values.dtype, device)
    part = out.array[window]
    whole = part.size == out.array.size
    target = out.array if whole else allocate(part.shape, values.dtype, device)
    size = backend.indexing.index_backward_input_workspace(target.size, positions.array.size)
    backend.indexing.index_backward_input(
        target.reshape(1, -1, 1),
        c_order(values).reshape(1, -1, 1),
        positions.array.reshape(-1),
        scratch(size, int64, device),
    )
    if not whole:
        backend.elementwise.fill(out.array.reshape(-1), 0)
        backend.elementwise.copy_strided(part, target)
    return out


@takes_tensor
def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """out[i, j, k] = input[index[i, j, k], j, k] for dim 0, and so on for other axes.

    index: int64, as many axes as the input, along the others at most as long. Result: its shape.
    """
    index = index_tensor("gather", input, index)
    axis = axis_of("gather", dim, input.ndim)
    if input.ndim <= 1 and index.ndim <= 1 and input.ndim + index.ndim < 2:
        # A scalar counts as an axis of one element.
        return reshape(gather(flatten(input), 0, flatten(index)), index.shape)
    if index.ndim != input.ndim or any(
        n > m for a, (n, m) in enumerate(zip(index.shape, input.shape, strict=True)) if a != axis
    ):
        raise ShapeError(
            f"gather: an index of shape {index.shape} does not fit an input of shape "
            f"{input.shape} along axis {axis}"
        )
    return Gather.apply(input, axis, index)


@takes_tensor
def masked_fill(input: Tensor, mask: Tensor, value: float | Tensor) -> Tensor:
    """`value`, a number or a tensor without axes, where the bool mask, broadcast to the input, is
    true; the input elsewhere."""
    if not isinstance(mask, Tensor) or mask.dtype != bool_:
        got = mask.dtype.name if isinstance(mask, Tensor) else type(mask).__name__
        raise DTypeError(f"masked_fill: mask must be a bool tensor, got {got}")
    if broadcast_shape("masked_fill", input.shape, mask.shape) != input.shape:
        raise ShapeError(
            f"masked_fill: a mask of shape {mask.shape} does not broadcast to an input of shape "
            f"{input.shape}"
        )
    if isinstance(value, Tensor):
        if value.ndim:
            raise ShapeError(f"masked_fill: value must have no axes, got shape {value.shape}")
        return where(mask, to(value, input.device, input.dtype), input)
    number = value.item() if isinstance(value, np.generic) else value
    if common_dtype(input.dtype, number) != input.dtype:
        raise DTypeError(f"masked_fill: {value!r} does not fit dtype {input.dtype.name}")
    return where(mask, number, input)


# Triangles ----------------------------------------------------------------------------------


class Triangle(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, diagonal: int, lower: bool) -> Tensor:
        ctx.arguments = diagonal, lower
        out = empty(input.shape, input.dtype, input.device)
        form = (math.prod(input.shape[:-2]), *input.shape[-2:])
        kernels.get(input.device).indexing.triangle_forward(
            out.array.reshape(form), c_order(input).reshape(form), diagonal, lower
        )
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # A mask: its own adjoint.
        return Triangle.apply(grad_output, *ctx.arguments), None, None


def _triangle(operation: str, input: Tensor, diagonal: int, lower: bool) -> Tensor:
    if input.ndim < 2:
        raise ShapeError(
            f"{operation}: input must have at least 2 dimensions, got shape {input.shape}"
        )
    # Past either side it makes no difference, and it fits the kernel's int.
    diagonal = max(
        -input.shape[-2], min(check_int(operation, "diagonal", diagonal), input.shape[-1])
    )
    return Triangle.apply(input, diagonal, lower)


@takes_tensor
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The last two axes as matrices, with zeros above the given diagonal."""
    return _triangle("tril", input, diagonal, lower=True)


@takes_tensor
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The last two axes as matrices, with zeros below the given diagonal."""
    return _triangle("triu", input, diagonal, lower=False)
