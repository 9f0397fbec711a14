"""Concatenation and splitting: joining tensors along an axis (copies), and taking them apart
(views)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..device import same_device
from ..engine import Function, Tensor, View
from ..errors import ShapeError
from ..layout import empty_array, memory_order
from .operands import empty, takes_other_names, takes_tensor
from .promotion import as_common_dtype
from .reduction import axis_of
from .shape import real_axis, sizes_of, unsqueeze, view_of

__all__ = ["cat", "chunk", "split", "split_with_sizes", "stack", "unbind"]

# Join ---------------------------------------------------------------------------------------


def _slab(ndim: int, axis: int, start: int, length: int) -> tuple[slice, ...]:
    """The index of `length` positions of one axis."""
    every = slice(None)
    return (every,) * axis + (slice(start, start + length),) + (every,) * (ndim - axis - 1)


# What may be joined to anything, and adds nothing: torch has it from before tensors had shapes.
_NOTHING = (0,)


class Cat(Function):
    @staticmethod
    def forward(ctx: Any, axis: int, *tensors: Tensor) -> Tensor:
        arrays = [t.array for t in tensors]
        ctx.axis, ctx.shapes = axis, [array.shape for array in arrays]
        parts = [array for array in arrays if array.shape != _NOTHING] or arrays[:1]
        device, shape = tensors[0].device, list(parts[0].shape)
        shape[axis] = sum([part.shape[axis] for part in parts])
        order = next((o for part in parts if (o := memory_order(part)) is not None), None)
        out = empty_array(tuple(shape), parts[0].dtype, device, order)
        copy, start = kernels.get(device).elementwise.copy_strided, 0
        for part in parts:
            length = part.shape[axis]
            copy(out[_slab(len(shape), axis, start, length)], part)
            start += length
        return Tensor(out, device)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grads, start = [], 0
        for shape in ctx.shapes:
            if shape == _NOTHING:
                grads.append(empty(shape, grad_output.dtype, grad_output.device))
                continue
            index = _slab(grad_output.ndim, ctx.axis, start, shape[ctx.axis])
            grads.append(view_of(grad_output, grad_output.array[index]))
            start += shape[ctx.axis]
        return None, *grads


def _tensors(operation: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    items = list(tensors)
    if not items or not all(isinstance(item, Tensor) for item in items):
        kinds = [type(item).__name__ for item in items]
        raise ValueError(f"{operation}: expects a non-empty sequence of tensors, got {kinds}")
    if any(t.device is not items[0].device for t in items):
        same_device(operation, **{f"tensor {i}": t.device for i, t in enumerate(items)})
    return as_common_dtype(items)


@takes_other_names
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join tensors, converted to their common dtype, along an existing axis; all other sizes must
    be equal.

    Tensors of shape (0,) are skipped, as in torch.
    """
    items = _tensors("cat", tensors)
    first = next((t for t in items if t.array.shape != _NOTHING), items[0])
    axis, expected = real_axis("cat", dim, first), first.array.shape
    before, after = expected[:axis], expected[axis + 1 :]
    for i, t in enumerate(items):
        shape = t.array.shape
        alike = shape[:axis] == before and shape[axis + 1 :] == after
        if not (shape == _NOTHING or (alike and len(shape) == len(expected))):
            raise ShapeError(
                f"cat: shapes must be equal except along axis {axis}, got {expected} and "
                f"{shape} (tensor {i})"
            )
    return Cat.apply(axis, *items)


@takes_other_names
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis."""
    items = _tensors("stack", tensors)
    axis = axis_of("stack", dim, items[0].ndim + 1)
    for i, t in enumerate(items):
        if t.shape != items[0].shape:
            raise ShapeError(
                f"stack: shapes must be equal, got {items[0].shape} and {t.shape} (tensor {i})"
            )
    return Cat.apply(axis, *(unsqueeze(t, axis) for t in items))


# Split --------------------------------------------------------------------------------------


class Split(View):
    several = True

    @staticmethod
    def forward(ctx: Any, input: Tensor, axis: int, lengths: tuple[int, ...]) -> Any:
        ctx.axis = axis
        return tuple(
            view_of(input, input.array[_slab(input.ndim, axis, end - length, length)])
            for length, end in zip(lengths, itertools.accumulate(lengths), strict=True)
        )

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        # The parts cover the input once: their gradients, joined, are its gradient.
        return Cat.apply(ctx.axis, *grad_outputs), None, None


@takes_tensor
def split(
    tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """Views of consecutive parts along an axis: of one size (the last may be smaller), or of each
    given size."""
    axis = real_axis("split", dim, tensor)
    total = tensor.shape[axis]
    if isinstance(split_size_or_sections, (tuple, list)):
        lengths = sizes_of("split", (split_size_or_sections,))
        if any(n < 0 for n in lengths) or sum(lengths) != total or not lengths:
            raise ShapeError(
                f"split: sizes must be at least 0 and add up to {total}, the size of axis {axis} "
                f"of {tensor.shape}, got {lengths}"
            )
    else:
        (size,) = sizes_of("split", (split_size_or_sections,))
        if size < 0 or (size == 0 and total > 0):
            raise ShapeError(f"split: the size of a part must be positive, got {size}")
        count = max(1, -(-total // size)) if size else 1
        lengths = tuple(min(size, total - i * size) for i in range(count))
    return Split.apply(tensor, axis, lengths)


split_with_sizes = split


@takes_tensor
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of equal size along an axis, the last possibly smaller."""
    axis = real_axis("chunk", dim, input)
    (count,) = sizes_of("chunk", (chunks,))
    if count < 1:
        raise ValueError(f"chunk: chunks must be positive, got {chunks}")
    total = input.shape[axis]
    if total == 0:
        return Split.apply(input, axis, (0,) * count)
    return split(input, -(-total // count), axis)


class Unbind(View):
    several = True

    @staticmethod
    def forward(ctx: Any, input: Tensor, axis: int) -> Any:
        ctx.axis = axis
        rows = np.moveaxis(input.array, axis, 0)
        return tuple(view_of(input, rows[i, ...]) for i in range(len(rows)))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        kept = [view_of(grad, np.expand_dims(grad.array, ctx.axis)) for grad in grad_outputs]
        return Cat.apply(ctx.axis, *kept), None


@takes_tensor
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of every position of an axis, without that axis."""
    axis = real_axis("unbind", dim, input)
    return Unbind.apply(input, axis) if input.shape[axis] else ()
