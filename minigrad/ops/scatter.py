"""Scatter: values placed at, or added to, positions of a copy of a tensor; and the selections by
flat position, by mask and by mirrored index that go with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import kernels
from ..arguments import check_number
from ..device import same_device
from ..dtypes import bool_, int64, is_floating, same_dtype
from ..engine import Function, Tensor
from ..errors import DTypeError, ShapeError
from .arithmetic import add, maximum, minimum, mul, product, quotient, sub
from .cast import clone, to
from .compare import eq, isnan, lt, where
from .creation import full_like, ones, ones_like, zeros, zeros_like
from .division import div
from .indexing import get_item
from .operands import broadcast_shape, c_order, empty, takes_tensor
from .promotion import scalar
from .reduce import cumsum, sum
from .reduction import axis_of
from .select import (
    Window,
    gather,
    gathered_sums,
    index_select,
    index_tensor,
    window_positions,
)
from .shape import broadcast_to, flatten, reshape
from .sort import argsort
from .unary import clamp

__all__ = [
    "index_add", "index_copy", "index_fill", "index_reduce", "masked_scatter", "masked_select",
    "put", "scatter", "scatter_add", "scatter_reduce", "take", "take_along_dim",
]  # fmt: skip

# At the positions of an index ----------------------------------------------------------------


def _placed(input: Tensor, values: Tensor, positions: Tensor, window: Window) -> Tensor:
    """A copy of the input with values at positions of a window; of equal ones the last wins."""
    backend = kernels.get(input.device)
    out = empty(input.shape, input.dtype, input.device)
    backend.elementwise.copy_strided(out.array, input.array)
    part = out.array[window]
    whole = part.size == out.array.size
    target = out.array if whole else c_order(Tensor(part, input.device))
    backend.indexing.put(
        target.reshape(1, -1, 1), c_order(values).reshape(1, -1, 1), positions.array.reshape(-1)
    )
    if not whole:
        backend.elementwise.copy_strided(part, target)
    return out


class Scatter(Function):
    """y[p(m)] = v[m], else x: dx = grad, 0 at every p(m); dv[m] = grad[p(m)]."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, axis: int, index: Tensor, values: Tensor) -> Tensor:
        ctx.axis, (ctx.window, positions) = axis, window_positions("scatter", input, axis, index)
        ctx.save_for_backward(positions, index)
        return _placed(input, values, positions, ctx.window)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        positions, index = ctx.saved_tensors
        grad_input = grad_values = None
        if ctx.needs_input_grad[0]:
            nothing = zeros_like(index, dtype=grad_output.dtype)
            grad_input = _placed(grad_output, nothing, positions, ctx.window)
        if ctx.needs_input_grad[3]:
            grad_values = gather(grad_output, ctx.axis, index)
        return grad_input, None, None, grad_values


class ScatterAdd(Function):
    """y = x + Σ_m v[m] at p(m): dx = grad, dv[m] = grad[p(m)]."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, axis: int, index: Tensor, values: Tensor) -> Tensor:
        window, positions = window_positions("scatter_add", input, axis, index)
        ctx.axis = axis
        ctx.save_for_backward(index)
        return add(input, gathered_sums(values, positions, window, input.shape))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        return grad_output, None, None, gather(grad_output, ctx.axis, index)


def _scattered(
    operation: str,
    apply: Callable[..., Tensor],
    input: Tensor,
    dim: int,
    index: Tensor,
    source: Tensor,
) -> Tensor:
    """apply(input, axis, index, the part of source that the index covers), checked."""
    index = index_tensor(operation, input, index)
    if not isinstance(source, Tensor):
        raise TypeError(f"{operation}: src must be a Tensor, got {type(source).__name__}")
    same_dtype(operation, input=input.dtype, src=source.dtype)
    same_device(operation, input=input.device, src=source.device)
    axis = axis_of(operation, dim, input.ndim)
    if input.ndim < 2:  # numbers count as one element along the axis
        index, source = (reshape(t, 1) if t.ndim == 0 else t for t in (index, source))
    if input.ndim == 0:
        return reshape(_scattered(operation, apply, reshape(input, 1), 0, index, source), ())
    if index.array.size == 0:
        return clone(input)
    fits = input.ndim == index.ndim == source.ndim and _all_fit(index, input, source, axis)
    if not fits:
        raise ShapeError(
            f"{operation}: an index of shape {index.shape} does not fit an input of shape "
            f"{input.shape} and values of shape {source.shape} along axis {axis}"
        )
    covered = tuple(slice(n) for n in index.shape)
    return apply(input, axis, index, get_item(source, covered))


def _all_fit(index: Tensor, input: Tensor, source: Tensor, axis: int) -> bool:
    """Whether an index is nowhere longer than the values, nor than the input but along the axis."""
    sizes = zip(index.shape, input.shape, source.shape, strict=True)
    return not [a for a, (n, m, k) in enumerate(sizes) if n > k or (n > m and a != axis)]


class ScatterExtremum(Function):
    """y = the largest or least of x, if include_self, and of all v[m] with p(m) there: the gradient
    is shared equally among all that equal it."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, axis: int, index: Tensor, values: Tensor, largest: bool,
        include_self: bool,
    ) -> Tensor:  # fmt: skip
        window, positions = window_positions("scatter_reduce", input, axis, index)
        # In order, so that the last value at a position is the extreme one. NaN counts as the
        # largest there, and wins among the least as well.
        sorted_values = flatten(values)
        order = argsort(sorted_values, 0, descending=not largest)
        places = Tensor(index_select(flatten(positions), 0, order).array, input.device)
        out = _placed(input, index_select(sorted_values, 0, order), places, window)
        missing = gathered_sums(to(isnan(values), input.dtype), positions, window, input.shape)
        out = where(lt(0, missing), math.nan, out) if is_floating(input.dtype) else out
        if include_self:
            out = (maximum if largest else minimum)(input, out)
        ctx.save_for_backward(input, index, values, out, positions)
        ctx.axis, ctx.window, ctx.include_self = axis, window, include_self
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, index, values, out, positions = ctx.saved_tensors
        dtype = input.dtype
        own = to(eq(input, out), dtype)
        won = to(eq(values, gather(out, ctx.axis, index)), dtype)
        count = add(own, gathered_sums(won, positions, ctx.window, input.shape))
        share = quotient(grad_output, count)
        grad_input = product(share, own)
        if not ctx.include_self:
            grad_input = _placed(grad_input, zeros_like(values), positions, ctx.window)
        grad_values = product(gather(share, ctx.axis, index), won)
        return grad_input, None, None, grad_values, None, None


@takes_tensor
def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Tensor | float | None = None,
    *,
    value: float | None = None,
    reduce: str | None = None,
) -> Tensor:
    """A copy with out[index[i, j], j] = src[i, j] for dim 0, and so on for other axes.

    src: a tensor, or a number for all. Of equal positions the last wins. reduce='add' adds to what
    is there; torch's 'multiply' is left out.
    """
    filling: Any = value if src is None else src
    if reduce not in (None, "add"):
        raise RuntimeError(f"scatter: reduce must be 'add' or None, got {reduce!r:.80}")
    index = index_tensor("scatter", input, index)
    if not isinstance(filling, Tensor):
        check_number("scatter", "value", filling)
        filling = full_like(index, filling, dtype=input.dtype)
    apply = Scatter.apply if reduce is None else ScatterAdd.apply
    return _scattered("scatter", apply, input, dim, index, filling)


@takes_tensor
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """input + the sums of src by position: out[index[i, j], j] += src[i, j] for dim 0."""
    return _scattered("scatter_add", ScatterAdd.apply, input, dim, index, src)


@takes_tensor
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """A copy in which the values of src that fall on one position are reduced, with what is there
    if include_self: to their sum, mean, amax or amin. torch's prod is left out."""
    if reduce not in ("sum", "mean", "amax", "amin"):
        raise RuntimeError(
            f"scatter_reduce: reduce must be sum, mean, amax or amin, got {reduce!r:.80}"
        )

    def apply(input: Tensor, axis: int, index: Tensor, values: Tensor) -> Tensor:
        if reduce in ("amax", "amin"):
            return ScatterExtremum.apply(input, axis, index, values, reduce == "amax", include_self)
        hits = ScatterAdd.apply(zeros_like(input), axis, index, ones_like(values))
        reached = lt(0, hits)
        start = input if include_self else where(reached, 0, input)
        total = ScatterAdd.apply(start, axis, index, values)
        if reduce == "sum":
            return total
        count = add(hits, 1) if include_self else where(reached, hits, 1)
        mode = None if is_floating(input.dtype) else "floor"
        return div(total, count, rounding_mode=mode)

    return _scattered("scatter_reduce", apply, input, dim, index, src)


# At the positions of an axis -----------------------------------------------------------------


def _spread(
    operation: str, input: Tensor, dim: int, index: Tensor, source: Tensor
) -> tuple[Tensor, int, Tensor, Tensor]:
    """Input, axis, index and source of the scatter that changes whole positions of an axis."""
    index = index_tensor(operation, input, index)
    axis = axis_of(operation, dim, input.ndim)
    shape = list(input.shape) or [1]
    if index.ndim > 1:
        raise ShapeError(f"{operation}: index must be a vector, got shape {index.shape}")
    shape[axis] = index.array.size
    if source.ndim == input.ndim == 0:
        source = reshape(source, 1)
    if source.shape != tuple(shape):
        raise ShapeError(
            f"{operation}: expects a source of shape {tuple(shape)} for an index of "
            f"{index.array.size} positions of axis {axis} of {input.shape}, got {source.shape}"
        )
    places = reshape(index, (-1 if index.array.size else 0,) + (1,) * (len(shape) - axis - 1))
    whole = input if input.ndim else reshape(input, 1)
    return whole, axis, broadcast_to(places, shape), source


@takes_tensor
def index_add(
    input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1
) -> Tensor:
    """input + alpha·source at the positions `index` (K,) of an axis; equal positions add up."""
    spread = _spread("index_add", input, dim, index, source)
    values = spread[3] if alpha == 1 else mul(spread[3], alpha)
    return reshape(_scattered("index_add", ScatterAdd.apply, *spread[:3], values), input.shape)


@takes_tensor
def index_reduce(
    input: Tensor,
    dim: int,
    index: Tensor,
    source: Tensor,
    reduce: str,
    *,
    include_self: bool = True,
) -> Tensor:
    """`scatter_reduce` of source at the positions `index` (K,) of an axis: mean, amax or amin."""
    spread = _spread("index_reduce", input, dim, index, source)
    return reshape(scatter_reduce(*spread, reduce, include_self=include_self), input.shape)


@takes_tensor
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """A copy of the input with `source` at the positions `index` (K,) of an axis."""
    spread = _spread("index_copy", input, dim, index, source)
    return reshape(_scattered("index_copy", Scatter.apply, *spread), input.shape)


@takes_tensor
def index_fill(input: Tensor, dim: int, index: Tensor, value: float | Tensor) -> Tensor:
    """A copy of the input with `value` at the positions `index` (K,) of an axis."""
    index = index_tensor("index_fill", input, index)
    if isinstance(value, Tensor) and value.ndim:
        raise ShapeError(f"index_fill: value must have no dimensions, got shape {value.shape}")
    axis = axis_of("index_fill", dim, input.ndim)
    shape = list(input.shape)
    shape[axis : axis + 1] = [index.array.size] * min(input.ndim, 1)
    kind: Any = {"dtype": bool_, "device": input.device}
    chosen = index_copy(zeros(input.shape, **kind), axis, index, ones(shape, **kind))
    if not isinstance(value, Tensor):
        value = scalar("index_fill", value, input.dtype, input.device)
    return where(chosen, to(value, input.dtype), input)


# At flat positions, and by masks -------------------------------------------------------------


def _wrapped(operation: str, input: Tensor, index: Tensor) -> Tensor:
    """Flat positions, of which negative ones count from the end."""
    index = index_tensor(operation, input, index)
    return where(lt(index, 0), add(index, input.array.size), index)


@takes_tensor
def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements at flat positions; the shape is the index's."""
    positions = flatten(_wrapped("take", input, index))
    return reshape(index_select(flatten(input), 0, positions), index.shape)


@takes_tensor
def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of the input with the source's elements at, or added to, flat positions."""
    positions = flatten(_wrapped("put", input, index))
    if source.array.size != index.array.size:
        raise ShapeError(
            f"put: index and source must have as many elements, got {index.shape} and "
            f"{source.shape}"
        )
    apply = ScatterAdd.apply if accumulate else Scatter.apply
    filled = _scattered("put", apply, flatten(input), 0, positions, flatten(source))
    return reshape(filled, input.shape)


@takes_tensor
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """`gather` with an index that broadcasts with the input along other axes; flattened without
    dim. Negative indices count from the end."""
    indices = index_tensor("take_along_dim", input, indices)
    if dim is None:
        return take(input, flatten(indices))
    axis = axis_of("take_along_dim", dim, input.ndim)
    if indices.ndim != input.ndim:
        raise ShapeError(
            f"take_along_dim: expects as many dimensions, got {input.shape} and {indices.shape}"
        )
    shape = list(broadcast_shape(
        "take_along_dim",
        *((*t.shape[:axis], 1, *t.shape[axis + 1 :]) for t in (input, indices)),
    ))  # fmt: skip
    own, wanted = [*shape], [*shape]
    own[axis], wanted[axis] = input.shape[axis], indices.shape[axis]
    positions = where(lt(indices, 0), add(indices, input.shape[axis]), indices)
    return gather(broadcast_to(input, own), axis, broadcast_to(positions, wanted))


def _mask(operation: str, mask: Any) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dtype != bool_:
        got = mask.dtype.name if isinstance(mask, Tensor) else type(mask).__name__
        raise DTypeError(f"{operation}: mask must be a bool tensor, got {got}")
    return mask


@takes_tensor
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the bool mask is true, along one axis; both broadcast."""
    shape = broadcast_shape("masked_select", input.shape, _mask("masked_select", mask).shape)
    return get_item(broadcast_to(input, shape), broadcast_to(mask, shape))


@takes_tensor
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """The elements of source in their order where the bool mask, broadcast to the input, is true;
    the input elsewhere."""
    shape = broadcast_shape("masked_scatter", input.shape, _mask("masked_scatter", mask).shape)
    same_dtype("masked_scatter", input=input.dtype, source=source.dtype)
    chosen = flatten(broadcast_to(mask, shape))
    numbers = sub(cumsum(to(chosen, int64), 0), 1)
    wanted = int(sum(chosen))
    if wanted > source.array.size:
        raise ShapeError(
            f"masked_scatter: the mask asks for {wanted} elements, source has {source.array.size}"
        )
    if not wanted:
        return clone(broadcast_to(input, shape))
    values = index_select(flatten(source), 0, clamp(numbers, 0, None))
    return where(mask, reshape(values, shape), broadcast_to(input, shape))
