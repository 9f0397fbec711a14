"""Parts of a tensor: views of its elements under other strides, and copies of it with a part
written anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..arguments import check_int
from ..engine import Tensor, View
from ..errors import ShapeError
from ..layout import strided
from .access import storage_offset as offset_of
from .cast import clone
from .creation import arange, zeros
from .indexing import get_item
from .operands import takes_tensor
from .overwrite import copy_, fill_
from .rearrange import diagonal, with_axes
from .scatter import index_add
from .select import select
from .shape import flatten, real_axis, reshape, sizes_of, view_of

__all__ = [
    "as_strided", "as_strided_scatter", "diagonal_scatter", "select_scatter", "slice_scatter",
]  # fmt: skip

Shape = tuple[int, ...]

# Parts written into a copy -------------------------------------------------------------------


def _with_part(
    operation: str, view: Callable[..., Tensor], input: Tensor, src: Tensor, *place: Any
) -> Tensor:
    """A copy of the input with src in the part that view(input, *place) is."""
    out = clone(input)
    part = view(out, *place)
    if not isinstance(src, Tensor) or src.shape != part.shape:
        got = src.shape if isinstance(src, Tensor) else type(src).__name__
        raise ShapeError(f"{operation}: src must have the part's shape {part.shape}, got {got}")
    copy_(part, src)
    return out


@takes_tensor
def diagonal_scatter(
    input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    """A copy of the input with src as its `diagonal`."""
    return _with_part("diagonal_scatter", diagonal, input, src, offset, dim1, dim2)


@takes_tensor
def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of the input with src at one position of an axis."""
    return _with_part("select_scatter", select, input, src, dim, index)


@takes_tensor
def slice_scatter(
    input: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    """A copy of the input with src in a slice of an axis."""
    axis = real_axis("slice_scatter", dim, input)
    place = (slice(None),) * axis + (slice(start, end, step),)
    return _with_part("slice_scatter", get_item, input, src, place)


@takes_tensor
def as_strided_scatter(
    input: Tensor,
    src: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    storage_offset: int | None = None,
) -> Tensor:
    """A copy of the input with src in the view `as_strided`."""
    return _with_part("as_strided_scatter", as_strided, input, src, size, stride, storage_offset)


@takes_tensor
def fill_diagonal_(input: Tensor, fill_value: float, wrap: bool = False) -> Tensor:
    """input[i, i, …] ← fill_value. wrap: a tall matrix gets further diagonals, a row between two.

    Of more than two axes all must be as long. Returns input.
    """
    shape = with_axes("fill_diagonal_", input, 2).shape
    if input.ndim > 2 and len(set(shape)) > 1:
        raise ShapeError(f"fill_diagonal_: all sizes must be equal, got shape {shape}")
    tops = range(0, max(shape[0], 1), shape[1] + 1) if wrap and input.ndim == 2 else (0,)
    for top in tops:
        part = diagonal(input[top:] if top else input)
        for _ in shape[2:]:
            part = diagonal(part)
        fill_(part, fill_value)
    return input


# Memory under other strides ------------------------------------------------------------------


class AsStrided(View):
    """y[i, j, …] = x[offset + i·stride₀ + j·stride₁ + …] of elements that lie one after the other:
    dx sums what was read from each place."""

    @staticmethod
    def look(array: Any, size: Shape, stride: Shape, offset: int) -> Any:
        return strided(array.reshape(-1)[offset:], size, stride)

    @staticmethod
    def forward(ctx: Any, input: Tensor, size: Shape, stride: Shape, offset: int) -> Tensor:
        ctx.shape, ctx.place = input.shape, (size, stride, offset)
        return view_of(input, AsStrided.look(input.array, size, stride, offset))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        kind: Any = {"device": grad_output.device}
        places = AsStrided.look(arange(math.prod(ctx.shape), **kind).array, *ctx.place)
        flat = zeros(math.prod(ctx.shape), dtype=grad_output.dtype, **kind)
        places = flatten(clone(Tensor(places, grad_output.device)))
        grad = index_add(flat, 0, places, flatten(grad_output))
        return reshape(grad, ctx.shape), None, None, None


@takes_tensor
def as_strided(
    input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """A view of the input's elements in row-major order: strides and the offset count elements.

    The input must be contiguous, and all that the view reads must lie within it.
    """
    sizes, strides = sizes_of("as_strided", (size,)), sizes_of("as_strided", (stride,))
    first = offset_of(input)
    given = first if storage_offset is None else storage_offset
    offset = check_int("as_strided", "storage_offset", given) - first
    if len(sizes) != len(strides) or any(n < 0 for n in (*sizes, *strides)):
        raise ShapeError(
            f"as_strided: expects a stride for each size, all at least 0, got {sizes}, {strides}"
        )
    if not input.array.flags.c_contiguous:
        raise ShapeError(
            f"as_strided: the input of shape {input.shape} must be contiguous; call contiguous()"
        )
    last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    if offset < 0 or (0 not in sizes and last >= input.array.size):
        raise ShapeError(
            f"as_strided: size {sizes}, stride {strides} and offset {first + offset} lead out of "
            f"the tensor of shape {input.shape}"
        )
    return AsStrided.apply(input, sizes, strides, offset)
