"""Rearrangement: elements mirrored, rolled, repeated, laid on diagonals and grids; tensors joined
and taken apart along the axes that a name says.

Composed of views, concatenation and selection, which have the gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_int
from ..dtypes import int64
from ..engine import Function, Tensor, View
from ..errors import ShapeError
from .arithmetic import add, mul
from .cast import clone
from .creation import arange, tensor, zeros
from .indexing import get_item
from .join import cat, stack
from .operands import broadcast_shape, empty_like, named, takes_tensor
from .reduce import sum
from .reduction import axes_of, axis_of
from .select import index_select, narrow
from .shape import (
    broadcast_to,
    expand,
    flatten,
    permute,
    real_axis,
    reshape,
    sizes_of,
    transpose,
    unflatten,
    unsqueeze,
    view_of,
)
from .transfer import host

__all__ = [
    "atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "broadcast_shapes", "broadcast_tensors",
    "cartesian_prod", "column_stack", "concat", "concatenate", "diag", "diag_embed", "diagflat",
    "diagonal", "dsplit", "dstack", "flip", "fliplr", "flipud", "hsplit", "hstack", "meshgrid",
    "moveaxis", "movedim", "ravel", "repeat_interleave", "roll", "rot90", "row_stack", "swapaxes",
    "swapdims", "tensor_split", "tile", "trace", "vsplit", "vstack",
]  # fmt: skip

concat = concatenate = cat

# Axes ----------------------------------------------------------------------------------------


@takes_tensor
def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """Exchange two axes: `transpose`."""
    return transpose(input, axis0, axis1)


swapdims = transpose


@takes_tensor
def movedim(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """The axes `source` moved to the places `destination`; the others keep their order."""
    pair = [tuple(a) if isinstance(a, (tuple, list)) else (a,) for a in (source, destination)]
    origins, places = ([axis_of("movedim", d, input.ndim) for d in dims] for dims in pair)
    unique = len(set(origins)) == len(origins) and len(set(places)) == len(places)
    if len(origins) != len(places) or not unique:
        raise ShapeError(
            f"movedim: source and destination must name as many axes, each once, got {source!r} "
            f"and {destination!r}"
        )
    rest = iter(axis for axis in range(input.ndim) if axis not in origins)
    moved = dict(zip(places, origins, strict=True))
    if input.ndim == 0:
        return permute(input, ())
    return permute(input, tuple(moved[a] if a in moved else next(rest) for a in range(input.ndim)))


moveaxis = movedim


@takes_tensor
def ravel(input: Tensor) -> Tensor:
    """All elements along one axis, in row-major order."""
    return reshape(input, -1)


@takes_tensor
def view_as(input: Tensor, other: Tensor) -> Tensor:
    """The elements under the shape of `other`."""
    return reshape(input, other.shape)


def _at_least(
    name: str, count: int, raised: Callable[[Tensor], Tensor], text: str
) -> Callable[..., Any]:
    """`raised` on every tensor of fewer than `count` axes."""

    def function(*tensors: Any) -> Any:
        several = len(tensors) != 1 or isinstance(tensors[0], (tuple, list))
        items = tensors[0] if several and len(tensors) == 1 else tensors
        for item in items:
            if not isinstance(item, Tensor):
                raise TypeError(f"{name}: expects Tensors, got {type(item).__name__}")
        results = tuple(raised(t) if t.ndim < count else t for t in items)
        return results if several else results[0]

    return named(function, name, text)


atleast_1d = _at_least(
    "atleast_1d", 1, lambda t: reshape(t, 1), "The tensor, or each tensor, with an axis at least."
)
atleast_2d = _at_least(
    "atleast_2d", 2, lambda t: reshape(t, (1, -1 if t.array.size else 0)),
    "The tensor, or each, with two axes at least: a vector becomes a row.",
)  # fmt: skip
atleast_3d = _at_least(
    "atleast_3d", 3,
    lambda t: unsqueeze(t, -1) if t.ndim == 2 else reshape(t, (1, t.array.size, 1)),
    "The tensor, or each, with three axes at least: (M, N) becomes (M, N, 1), (N,) (1, N, 1).",
)  # fmt: skip

# Mirrors, shifts, repetitions ----------------------------------------------------------------


class Flip(Function):
    """y[i] = x[n − 1 − i] along axes: its own inverse and its own adjoint."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, axes: tuple[int, ...]) -> Tensor:
        ctx.axes = axes
        index = [slice(None, None, -1 if axis in axes else None) for axis in range(input.ndim)]
        out = empty_like(input)
        launch = kernels.get(input.device).elementwise
        launch.copy_strided(out.array, input.array[(*index, Ellipsis)])
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return Flip.apply(grad_output, ctx.axes), None


@takes_tensor
def flip(input: Tensor, *axes: Any, dims: Any = None) -> Tensor:
    """The elements along the axes in reverse order: flip(x, 2), flip(x, (2, 3))."""
    wanted = sizes_of("flip", axes if dims is None else (dims,))
    return Flip.apply(input, axes_of("flip", wanted, input.ndim) if wanted else ())


@takes_tensor
def fliplr(input: Tensor) -> Tensor:
    """Axis 1 in reverse order."""
    return flip(with_axes("fliplr", input, 2), 1)


@takes_tensor
def flipud(input: Tensor) -> Tensor:
    """Axis 0 in reverse order."""
    return flip(with_axes("flipud", input, 1), 0)


def with_axes(operation: str, input: Tensor, least: int) -> Tensor:
    if input.ndim < least:
        raise ShapeError(
            f"{operation}: input must have at least {least} dimensions, got shape {input.shape}"
        )
    return input


@takes_tensor
def roll(
    input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None
) -> Tensor:
    """The elements moved on along the axes by `shifts`; what leaves at the end enters at the front.
    Without dims along the flattened tensor."""
    if dims is None or dims == () or dims == []:
        return reshape(roll(flatten(input), shifts, 0), input.shape)
    distances, axes = sizes_of("roll", (shifts,)), sizes_of("roll", (dims,))
    if len(distances) != len(axes):
        raise ShapeError(f"roll: shifts and dims must be as many, got {shifts!r} and {dims!r}")
    result = input
    for distance, dim in zip(distances, axes, strict=True):
        axis = real_axis("roll", dim, input)
        size = input.shape[axis]
        if size and (first := -distance % size):
            parts = narrow(result, axis, first, size - first), narrow(result, axis, 0, first)
            result = cat(parts, axis)
    return clone(result) if result is input else result


@takes_tensor
def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned by k right angles in the plane of two axes, from the first towards the second."""
    check_int("rot90", "k", k)
    axes = [axis_of("rot90", dim, input.ndim) for dim in dims]
    if len(axes) != 2 or axes[0] == axes[1] or input.ndim < 2:
        raise ShapeError(
            f"rot90: dims must be two different axes of a tensor of shape {input.shape}, got {dims}"
        )
    first, second = axes
    if k % 2 == 0:
        return flip(input, first, second) if k % 4 else clone(input)
    return transpose(flip(input, second if k % 4 == 1 else first), first, second)


@takes_tensor
def repeat(input: Tensor, *repeats: Any) -> Tensor:
    """A copy with each axis repeated so many times; more numbers than axes add axes in front."""
    counts = sizes_of("repeat", repeats)
    added = len(counts) - input.ndim
    if added < 0 or any(n < 0 for n in counts):
        raise ShapeError(
            f"repeat: expects a number from 0 for each axis of shape {input.shape} at least, got "
            f"{counts}"
        )
    sizes = (1,) * added + input.shape
    pairs = [size for pair in zip(counts, sizes, strict=True) for size in pair]
    between = reshape(input, [n for size in sizes for n in (1, size)])
    out = reshape(expand(between, pairs), [n * m for n, m in zip(counts, sizes, strict=True)])
    return _own_memory(out, input)


def _own_memory(result: Tensor, input: Tensor) -> Tensor:
    """The result, copied if it is a view of the input."""
    return clone(result) if np.may_share_memory(result.array, input.array) else result


@takes_tensor
def tile(input: Tensor, *reps: Any, dims: Any = None) -> Tensor:
    """As `repeat`, with fewer numbers than axes for the last axes alone."""
    counts = sizes_of("tile", reps if dims is None else (dims,))
    return repeat(input, (1,) * max(input.ndim - len(counts), 0) + counts)


@takes_tensor
def repeat_interleave(
    input: Tensor,
    repeats: int | Tensor | None = None,
    dim: int | None = None,
    *,
    output_size: int | None = None,
) -> Tensor:
    """Each element along dim (of the flattened tensor unless given) `repeats` times, one after the
    other. repeats alone: how often to repeat each position; its positions are the result."""
    if repeats is None:
        length = input.shape[0] if input.ndim == 1 else -1
        if length < 0:
            raise ShapeError(f"repeat_interleave: repeats must be 1-D, got shape {input.shape}")
        positions = np.repeat(np.arange(length), _repeats(input, length, output_size))
        return tensor(positions, dtype=int64, device=input.device)
    if dim is None:
        input, dim = flatten(input), 0
    axis = real_axis("repeat_interleave", dim, input)
    counts = _repeats(repeats, input.shape[axis], output_size)
    if counts.size == 1:
        before, after = input.shape[: axis + 1], input.shape[axis + 1 :]
        spread = expand(unsqueeze(input, axis + 1), (*before, int(counts[0]), *after))
        merged = (*before[:-1], before[-1] * int(counts[0]), *after)
        return _own_memory(reshape(spread, merged), input)
    positions = np.repeat(np.arange(input.shape[axis]), counts)
    return index_select(input, axis, tensor(positions, dtype=int64, device=input.device))


def _repeats(repeats: int | Tensor, size: int, output_size: int | None) -> np.ndarray:
    if isinstance(repeats, Tensor):
        counts = host(repeats).reshape(-1)
    else:
        counts = np.array([check_int("repeat_interleave", "repeats", repeats)])
    if counts.dtype.kind not in "iu" or (counts < 0).any():
        raise RuntimeError(f"repeat_interleave: repeats must be ints from 0, got {counts}")
    if counts.size not in (1, size):
        raise RuntimeError(
            f"repeat_interleave: expects 1 repeat or {size}, one a position, got {counts.size}"
        )
    total = int(counts.sum()) * (size if counts.size != size else 1)
    if output_size is not None and output_size != total:
        raise RuntimeError(f"repeat_interleave: output_size is {output_size}, not {total}")
    return counts


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """All slices of `size` positions of an axis, `step` apart; their elements are the last axis.

    A copy; torch's is a view.
    """
    if input.ndim == 0:
        input = reshape(input, 1)
        return reshape(unfold(input, dimension, size, step), -1)
    axis = axis_of("unfold", dimension, input.ndim)
    check_int("unfold", "step", step, 1)
    length = input.shape[axis]
    if not 0 <= check_int("unfold", "size", size) <= length:
        raise ShapeError(f"unfold: size must be from 0 to {length}, that of the axis, got {size}")
    count = (length - size) // step + 1
    starts = mul(reshape(arange(count, device=input.device), (count, 1)), step)
    positions = flatten(add(starts, arange(size, device=input.device)))
    windows = unflatten(index_select(input, axis, positions), axis, (count, size))
    return movedim(windows, axis + 1, -1)


# Joining and taking apart --------------------------------------------------------------------


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Join along axis 1; vectors along their only axis."""
    items = atleast_1d(tuple(tensors))
    return cat(items, 0 if items and items[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Join along axis 0; vectors count as rows."""
    return cat(atleast_2d(tuple(tensors)), 0)


row_stack = vstack


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Join along axis 2, after `atleast_3d`."""
    return cat(atleast_3d(tuple(tensors)), 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Join along axis 1; vectors count as columns."""
    items = tuple(tensors)
    return hstack([reshape(t, (t.array.size, 1)) if t.ndim < 2 else t for t in items])


@takes_tensor
def tensor_split(
    input: Tensor, indices_or_sections: int | Sequence[int] | Tensor, dim: int = 0
) -> tuple[Tensor, ...]:
    """Views of parts along an axis: so many, the first ones longer by one if need be; or those that
    end at the given positions."""
    axis = real_axis("tensor_split", dim, input)
    wanted: Any = indices_or_sections
    if isinstance(wanted, Tensor):
        wanted = wanted.tolist()
    length = input.shape[axis]
    if isinstance(wanted, (tuple, list)):
        ends = [*sizes_of("tensor_split", (wanted,)), length]
    else:
        count = check_int("tensor_split", "the number of sections", wanted, 1)
        ends = [(i + 1) * (length // count) + min(i + 1, length % count) for i in range(count)]
    before = (slice(None),) * axis
    starts = [0, *ends[:-1]]
    return tuple(get_item(input, (*before, slice(a, b))) for a, b in zip(starts, ends, strict=True))


def _split_along(operation: str, input: Tensor, sections: Any, axis: int, least: int) -> Any:
    with_axes(operation, input, least)
    if isinstance(sections, int) and (sections < 1 or input.shape[axis] % sections):
        raise ShapeError(
            f"{operation}: axis {axis} of shape {input.shape} does not split into {sections} equal "
            "parts"
        )
    return tensor_split(input, sections, axis)


@takes_tensor
def hsplit(input: Tensor, indices_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Views of equal parts, or of those that end at the positions, of axis 1; a vector's of 0."""
    return _split_along("hsplit", input, indices_or_sections, 0 if input.ndim == 1 else 1, 1)


@takes_tensor
def vsplit(input: Tensor, indices_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Views of equal parts, or of those that end at the positions, of axis 0."""
    return _split_along("vsplit", input, indices_or_sections, 0, 2)


@takes_tensor
def dsplit(input: Tensor, indices_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Views of equal parts, or of those that end at the positions, of axis 2."""
    return _split_along("dsplit", input, indices_or_sections, 2, 3)


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape to which all of these broadcast."""
    whole = [(shape,) if isinstance(shape, int) else tuple(shape) for shape in shapes]
    return broadcast_shape("broadcast_shapes", *whole)


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Each expanded to the shape to which all broadcast. Views."""
    items = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    shape = broadcast_shape("broadcast_tensors", *(t.shape for t in items))
    return tuple(broadcast_to(t, shape) for t in items)


# Diagonals and grids -------------------------------------------------------------------------


def _diagonal_of(array: Any, offset: int, axes: tuple[int, int]) -> Any:
    """A view of the diagonals, along a last axis, that may be written if the array may."""
    view = np.diagonal(array, offset, *axes)
    view.flags.writeable = array.flags.writeable
    return view


class Diagonal(View):
    look = staticmethod(_diagonal_of)

    @staticmethod
    def forward(ctx: Any, input: Tensor, offset: int, axes: tuple[int, int]) -> Tensor:
        ctx.place = input.shape, offset, axes
        return view_of(input, _diagonal_of(input.array, offset, axes))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return DiagEmbed.apply(grad_output, *ctx.place), None, None


class DiagEmbed(Function):
    """The adjoint of Diagonal: zeros elsewhere."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, shape: tuple[int, ...], offset: int, axes: tuple[int, int]
    ) -> Tensor:
        ctx.place = offset, axes
        out = zeros(shape, dtype=input.dtype, device=input.device)
        launch = kernels.get(input.device).elementwise
        launch.copy_strided(_diagonal_of(out.array, offset, axes), input.array)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return Diagonal.apply(grad_output, *ctx.place), None, None, None


def _plane(operation: str, dim1: int, dim2: int, ndim: int) -> tuple[int, int]:
    axes = axis_of(operation, dim1, ndim), axis_of(operation, dim2, ndim)
    if axes[0] == axes[1] or ndim < 2:
        raise ShapeError(f"{operation}: dim1 and dim2 must be two axes, got {dim1} and {dim2}")
    return axes


@takes_tensor
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonals of the planes of two axes, `offset` above the main one, along a last axis.

    A view.
    """
    axes = _plane("diagonal", dim1, dim2, input.ndim)
    return Diagonal.apply(input, check_int("diagonal", "offset", offset), axes)


@takes_tensor
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Square matrices in the plane of two new axes, with the last axis as their diagonal."""
    real_axis("diag_embed", -1, input)
    axes = _plane("diag_embed", dim1, dim2, input.ndim + 1)
    side = input.shape[-1] + abs(check_int("diag_embed", "offset", offset))
    shape = list(input.shape[:-1])
    for axis in sorted(axes):
        shape.insert(axis, side)
    if axes[0] > axes[1]:  # a diagonal above the main one lies below it in the transpose
        axes, offset = axes[::-1], -offset
    return DiagEmbed.apply(input, tuple(shape), offset, axes)


@takes_tensor
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The matrix with the given diagonal, of a vector; the diagonal, of a matrix, copied."""
    if input.ndim not in (1, 2):
        raise ShapeError(f"diag: input must be a vector or a matrix, got shape {input.shape}")
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    return clone(Diagonal.apply(input, check_int("diag", "diagonal", diagonal), (0, 1)))


@takes_tensor
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The matrix with all elements of the input along the given diagonal."""
    return diag_embed(flatten(input), offset)


@takes_tensor
def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    if input.ndim != 2:
        raise ShapeError(f"trace: input must be a matrix, got shape {input.shape}")
    return sum(diagonal(input))


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """The coordinates of a grid whose axes are the given vectors, one tensor an axis. Views.

    indexing: 'ij', the default, numbers matrices; 'xy' exchanges the first two axes of the results.
    """
    items = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    if not items:
        raise ValueError("meshgrid: expects at least one tensor")
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(f"meshgrid: indexing must be 'ij' or 'xy', got {indexing!r:.80}")
    for item in items:
        if not isinstance(item, Tensor) or item.ndim > 1:
            raise ShapeError(
                f"meshgrid: expects vectors, got {getattr(item, 'shape', type(item).__name__)}"
            )
    shape = tuple(math.prod(t.shape) for t in items)
    places = [(1,) * i + (n,) + (1,) * (len(shape) - i - 1) for i, n in enumerate(shape)]
    grids = [expand(reshape(t, at), shape) for t, at in zip(items, places, strict=True)]
    swap = indexing == "xy" and len(grids) > 1
    return tuple(transpose(grid, 0, 1) if swap else grid for grid in grids)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All combinations of the elements of vectors, a row each; of one vector, the vector."""
    if len(tensors) == 1:
        return tensors[0]
    return stack([flatten(grid) for grid in meshgrid(*tensors)], 1)


def block_diag(*tensors: Tensor) -> Tensor:
    """The matrix with the given matrices along its diagonal and zeros elsewhere."""
    blocks = atleast_2d(tuple(tensors))
    width = int(np.sum([block.shape[1] for block in blocks]))
    rows, start = [], 0
    for block in blocks:
        M, N = block.shape
        kind: Any = {"dtype": block.dtype, "device": block.device}
        rows.append(cat([zeros(M, start, **kind), block, zeros(M, width - start - N, **kind)], 1))
        start += N
    return cat(rows, 0)
