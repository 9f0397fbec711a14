"""Search and counting: positions of what is not zero, unique values, positions in sorted rows,
histograms, quantiles. Made of sorting, running sums and selection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..arguments import check_int, check_number
from ..dtypes import bool_, float64, floating_dtype, int32, int64, is_floating
from ..engine import Tensor
from ..errors import DTypeError, ShapeError
from .arithmetic import mul, sub
from .cast import clone, to
from .compare import bitwise_and, bitwise_not, eq, ge, isnan, le, lt, ne, where
from .creation import arange, full, linspace, ones, ones_like, tensor, zeros
from .division import div, remainder
from .extrema import all, amax, amin, argmax
from .extrema import any as any_
from .functions import lerp
from .indexing import _true_positions, get_item
from .join import cat, stack
from .operands import c_order, takes_tensor
from .promotion import operands
from .rearrange import movedim, roll
from .reduce import cumsum, sum
from .reduction import Dim, axis_of
from .scan import cummax
from .scatter import index_add, scatter
from .select import gather, index_select, narrow, tril, triu
from .shape import (
    broadcast_to,
    flatten,
    real_axis,
    reshape,
    sizes_of,
    squeeze,
    unsqueeze,
)
from .sort import SortResult, argsort, sort, taken
from .unary import ceil, clamp, floor, round

__all__ = [
    "argwhere", "bincount", "bucketize", "histc", "histogram", "isin", "mode", "nanmean",
    "nanquantile", "nansum", "nonzero", "quantile", "searchsorted", "tril_indices", "triu_indices",
    "unique", "unique_consecutive", "unravel_index",
]  # fmt: skip

# What is not zero ----------------------------------------------------------------------------


@takes_tensor
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The positions of all elements that are not 0, in row-major order: (count, axes), a row each;
    as_tuple: one vector an axis, fit to index with. Waits for a GPU."""
    truth = c_order(to(input.detach(), bool_))
    numbers = Tensor(_true_positions(truth, input.device), input.device)
    columns = _coordinates(numbers, input.shape)
    if as_tuple:
        return columns if input.ndim else nonzero(reshape(input, 1), as_tuple=True)
    if not columns:
        return zeros(len(numbers), 0, dtype=int64, device=input.device)
    return stack(columns, 1)


def _coordinates(positions: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Flat positions in a shape as positions along each of its axes."""
    columns, step = [], 1
    for size in reversed(shape):
        before = div(positions, step, rounding_mode="floor") if step > 1 else positions
        columns.append(remainder(before, size) if size else before)
        step *= size
    return tuple(reversed(columns))


@takes_tensor
def unravel_index(indices: Tensor, shape: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Flat positions in a shape as positions along each of its axes."""
    if is_floating(indices.dtype) or indices.dtype == bool_:
        raise DTypeError(f"unravel_index: indices must be integers, got {indices.dtype.name}")
    sizes = sizes_of("unravel_index", (shape,))
    size = math.prod(sizes)
    if indices.array.size and not bool(all(bitwise_and(ge(indices, 0), lt(indices, size)))):
        raise ValueError(f"unravel_index: indices must be from 0 to {size - 1} for shape {sizes}")
    return _coordinates(indices, sizes)


@takes_tensor
def argwhere(input: Tensor) -> Tensor:
    """The positions of all elements that are not 0, a row each: `nonzero`."""
    return nonzero(input)


def _places(chosen: Tensor, dtype: Any) -> Tensor:
    return to(stack(nonzero(chosen, as_tuple=True)), int64 if dtype is None else dtype)


def tril_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """(2, count): rows and columns of the lower triangle of a (row, col) matrix."""
    return _places(tril(ones(row, col, dtype=bool_, device=device), offset), dtype)


def triu_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """(2, count): rows and columns of the upper triangle of a (row, col) matrix."""
    return _places(triu(ones(row, col, dtype=bool_, device=device), offset), dtype)


# Unique values -------------------------------------------------------------------------------


@takes_tensor
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The different values of all elements, in order (whatever `sorted` says); on demand also where
    each element is among them, and how often each occurs. Waits for a GPU.

    dim: the different slices along an axis, ordered by their first elements that differ.
    """
    slices = _slices("unique", input, dim)
    order = argsort(slices[:, -1], 0)
    for column in range(slices.shape[1] - 2, -1, -1):
        order = index_select(order, 0, argsort(index_select(slices[:, column], 0, order), 0))
    starts, numbers, counts = _runs(index_select(slices, 0, order))
    found = index_select(order, 0, starts), scatter(numbers, 0, order, numbers), counts
    return _unique(input, dim, found, return_inverse, return_counts)


@takes_tensor
def unique_consecutive(
    input: Tensor,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """As `unique`, of runs of equal elements: a value that comes back later counts anew."""
    found = _runs(_slices("unique_consecutive", input, dim))
    return _unique(input, dim, found, return_inverse, return_counts)


def _slices(operation: str, input: Tensor, dim: int | None) -> Tensor:
    """(n, elements of each): the slices along an axis, or all elements, one each."""
    if dim is None:
        return reshape(input.detach(), (input.array.size, 1))
    axis = real_axis(operation, dim, input)
    if input.array.size == 0 and input.shape[axis]:
        raise ShapeError(f"{operation}: no slices of shape {input.shape} along axis {axis}")
    return flatten(unsqueeze(movedim(input.detach(), axis, 0), -1), 1)


def _runs(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of runs of equal rows: where they start, the run of each row, their lengths."""
    length, device = len(rows), rows.device
    if length == 0:
        none = zeros(0, dtype=int64, device=device)
        return none, none, none
    differ = ne(narrow(rows, 0, 1, length - 1), narrow(rows, 0, 0, length - 1))
    first = cat([ones(1, dtype=bool_, device=device), any_(differ, 1)])
    starts = nonzero(first, as_tuple=True)[0]
    ends = cat([narrow(starts, 0, 1, len(starts) - 1), full(1, length, device=device)])
    return starts, sub(cumsum(first, 0), 1), sub(ends, starts)


def _unique(
    input: Tensor,
    dim: int | None,
    found: tuple[Tensor, Tensor, Tensor],
    return_inverse: bool,
    return_counts: bool,
) -> Any:
    """The slices at the positions found; on demand the number of each slice, and their counts."""
    places, inverse, counts = found
    if dim is None:
        values = index_select(flatten(input.detach()), 0, places)
        inverse = reshape(inverse, input.shape)
    else:
        values = index_select(input.detach(), dim, places)
    if not (return_inverse or return_counts):
        return values
    return values, *[inverse] * return_inverse, *[counts] * return_counts


# Positions in sorted rows --------------------------------------------------------------------


def searchsorted(
    sorted_sequence: Tensor,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where each value would go in ascending sequences along the last axis: before equal elements,
    or behind them with right=True (side="right"). One sequence serves all values, or each row its
    own. Positions are int64, with out_int32 int32."""
    if side not in (None, "left", "right"):
        raise ValueError(f"searchsorted: side must be 'left' or 'right', got {side!r:.80}")
    behind = right if side is None else side == "right"
    if not isinstance(sorted_sequence, Tensor):
        raise TypeError(
            f"searchsorted: sorted_sequence must be a Tensor, got {type(sorted_sequence).__name__}"
        )
    ordered = sorted_sequence.detach()
    if sorter is not None:
        ordered = gather(ordered, -1, sorter)
    if not isinstance(input, Tensor):
        input = full((), input, dtype=ordered.dtype, device=ordered.device)
    values = input.detach()
    dtype = int32 if out_int32 else int64
    if ordered.ndim == 1:
        return to(reshape(_ranks(ordered, flatten(values), behind), values.shape), dtype)
    if ordered.shape[:-1] != values.shape[:-1]:
        raise ShapeError(
            f"searchsorted: all sizes but the last must agree, got {ordered.shape} and "
            f"{values.shape}"
        )
    return to(_ranks(ordered, values, behind), dtype)


def _ranks(ordered: Tensor, values: Tensor, behind: bool) -> Tensor:
    """How many elements of each row of `ordered` a stable sort puts before each value."""
    n, m = ordered.shape[-1], values.shape[-1]
    if m == 0:
        return to(values, int64)
    rows = [ordered, values] if behind else [values, ordered]
    order = argsort(cat(rows, -1), -1)
    is_element = lt(order, n) if behind else ge(order, m)
    passed = cumsum(is_element, -1)
    ranks = scatter(passed, -1, order, passed)
    return clone(narrow(ranks, -1, n if behind else 0, m))


def bucketize(
    input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """The number of the interval between ascending boundaries in which each value lies."""
    if not isinstance(boundaries, Tensor) or boundaries.ndim != 1:
        raise ShapeError(
            "bucketize: boundaries must be a vector, got "
            f"{getattr(boundaries, 'shape', type(boundaries).__name__)}"
        )
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


def isin(
    elements: Tensor | float,
    test_elements: Tensor | float,
    *,
    assume_unique: bool = False,
    invert: bool = False,
) -> Tensor:
    """Whether each of the elements is among the test_elements; with invert, whether it is not."""
    one, other = (
        each if isinstance(each, Tensor) else tensor(each, device=source)
        for each, source in ((elements, _place(test_elements)), (test_elements, _place(elements)))
    )
    left, right = operands("isin", one.detach(), other.detach())
    ordered = flatten(sort(flatten(right)).values)
    counts = sub(searchsorted(ordered, left, right=True), searchsorted(ordered, left))
    return eq(counts, 0) if invert else ne(counts, 0)


def _place(value: Any) -> Any:
    return value.device if isinstance(value, Tensor) else None


# Counting ------------------------------------------------------------------------------------


@takes_tensor
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, 2, … occurs in a vector of ints, or the sums of the weights there.

    Waits for a GPU.
    """
    check_int("bincount", "minlength", minlength, 0)
    if input.ndim != 1 or (weights is not None and weights.shape != input.shape):
        got = input.shape if weights is None else f"{input.shape} and {weights.shape}"
        raise ShapeError(f"bincount: expects a vector, and weights of its shape, got {got}")
    if is_floating(input.dtype) or input.dtype == bool_:
        raise DTypeError(f"bincount: input must be integers, got {input.dtype.name}")
    if len(input) == 0:
        return zeros(minlength, dtype=int64, device=input.device)
    if int(amin(input)) < 0:
        raise ValueError(f"bincount: input must be at least 0, got {int(amin(input))}")
    if weights is None:
        counts = ones(len(input), dtype=int64, device=input.device)
    else:
        counts = to(weights.detach(), weights.dtype if is_floating(weights.dtype) else float64)
    length = max(int(amax(input)) + 1, minlength)
    start = zeros(length, dtype=counts.dtype, device=input.device)
    return index_add(start, 0, to(input, int64), counts)


@takes_tensor
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of `bins` equal intervals from min to max, the last one closed;
    others do not count. Where both are equal, from the least to the largest. Waits for a GPU."""
    dtype = floating_dtype("histc", input=input.dtype)
    check_int("histc", "bins", bins, 1)
    low, high = check_number("histc", "min", min), check_number("histc", "max", max)
    values = flatten(input.detach())
    if low == high and len(values):
        low, high = float(amin(values)), float(amax(values))
    if low == high:
        low, high = low - 1, high + 1
    if not low < high:
        raise RuntimeError(f"histc: min must not be above max, got {low} and {high}")
    inside = get_item(values, bitwise_and(ge(values, low), le(values, high)))
    places = to(floor(div(mul(sub(inside, low), bins), high - low)), int64)
    return to(bincount(clamp(places, None, bins - 1), minlength=bins), dtype)


@takes_tensor
def histogram(
    input: Tensor,
    bins: int | Tensor,
    *,
    range: Sequence[float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> tuple[Tensor, Tensor]:
    """(how many elements, or what weight, lies in each bin; the edges of the bins), as `histc`.

    bins: their number, or ascending edges. range: (low, high). density: the integral is 1.
    """
    dtype = floating_dtype("histogram", input=input.dtype)
    values = flatten(input.detach())
    if isinstance(bins, Tensor):
        edges = bins.detach()
    else:
        check_int("histogram", "bins", bins, 1)
        found = (float(amin(values)), float(amax(values))) if len(values) else (0.0, 1.0)
        low, high = found if range is None else range
        wide = (low, high) if low < high else (low - 0.5, high + 0.5)
        edges = linspace(*wide, bins + 1, dtype=dtype, device=input.device)
    if edges.ndim != 1 or len(edges) < 2:
        raise ShapeError(f"histogram: bins must have two edges at least, got shape {edges.shape}")
    inside = bitwise_and(ge(values, edges[0]), le(values, edges[-1]))
    places = sub(searchsorted(edges, values[inside], right=True), 1)
    shares = ones_like(values) if weight is None else flatten(weight.detach())
    counts = zeros(len(edges) - 1, dtype=dtype, device=input.device)
    counts = index_add(counts, 0, clamp(places, None, len(edges) - 2), shares[inside])
    if density:
        counts = div(counts, mul(sub(edges[1:], edges[:-1]), sum(counts)))
    return counts, edges


@takes_tensor
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> SortResult:
    """The value that occurs most often along dim, the least of several; and where it is last."""
    axis = axis_of("mode", dim, input.ndim)
    if input.ndim == 0:
        return sort(input)
    if input.shape[axis] == 0:
        raise ShapeError(f"mode: axis {axis} of a tensor of shape {input.shape} must not be empty")
    ordered, order = sort(movedim(input.detach(), axis, -1), -1)
    places = broadcast_to(arange(ordered.shape[-1], device=input.device), ordered.shape)
    first = ne(ordered, roll(ordered, 1, -1))  # of a run of equal values; NaN equals nothing
    first[..., 0] = True
    lengths = sub(places, cummax(where(first, places, 0), -1).values)
    found = gather(order, -1, argmax(lengths, -1, keepdim=True))
    return taken(input, axis, movedim(found, -1, axis), keepdim)


# Without NaN, and quantiles ------------------------------------------------------------------


@takes_tensor
def nansum(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ over dim of what is not NaN."""
    return sum(where(isnan(input), 0, input), dim, keepdim, dtype=dtype)


@takes_tensor
def nanmean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over dim of what is not NaN."""
    floating_dtype("nanmean", input=input.dtype)
    count = sum(bitwise_not(isnan(input)), dim, keepdim)
    total = nansum(input, dim, keepdim, dtype=dtype)
    return div(total, to(count, total.dtype))


_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


@takes_tensor
def quantile(
    input: Tensor,
    q: float | Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """The q-quantiles along dim, or of all elements; NaN where there is one.

    q: a number from 0 to 1, or a vector of them, which becomes the first axis of the result.
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation)


@takes_tensor
def nanquantile(
    input: Tensor,
    q: float | Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """As `quantile`, of what is not NaN."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation)


def _quantile(
    operation: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str
) -> Tensor:
    dtype = floating_dtype(operation, input=input.dtype)
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(
            f"{operation}: interpolation must be one of {', '.join(_INTERPOLATIONS)}, got "
            f"{interpolation!r:.80}"
        )
    if isinstance(q, Tensor):
        fractions = q
    else:
        fractions = full((), check_number(operation, "q", q), dtype=dtype, device=input.device)
    valid = bitwise_and(ge(fractions, 0), le(fractions, 1))
    if fractions.ndim > 1 or not bool(all(valid)):
        raise RuntimeError(f"{operation}: q must be from 0 to 1, one or a vector, got {q!r:.80}")
    axis = axis_of(operation, 0 if dim is None else dim, input.ndim)
    kept = [1] * input.ndim if dim is None else [*input.shape]
    rows = flatten(input) if dim is None or input.ndim == 0 else movedim(input, axis, -1)
    if rows.shape[-1] == 0:
        raise RuntimeError(f"{operation}: input must not be empty, got shape {input.shape}")
    ordered = sort(rows, -1).values
    missing = isnan(ordered)
    count = to(sum(bitwise_not(missing), -1, keepdim=True), dtype)
    places = mul(clamp(sub(count, 1), 0, None), reshape(fractions, -1))
    if operation == "quantile":
        places = where(any_(missing, -1, keepdim=True), rows.shape[-1] - 1.0, places)
    if interpolation in ("lower", "higher", "nearest"):
        places = {"lower": floor, "higher": ceil, "nearest": round}[interpolation](places)
    below = gather(ordered, -1, to(floor(places), int64))
    result = below
    if interpolation in ("linear", "midpoint"):
        weight = sub(places, floor(places)) if interpolation == "linear" else 0.5
        result = lerp(below, gather(ordered, -1, to(ceil(places), int64)), weight)
    result = movedim(result, -1, 0)  # (q, …)
    if keepdim and input.ndim:
        if dim is not None:
            kept[axis] = 1
        result = reshape(result, (result.shape[0], *kept))
    return result if fractions.ndim else squeeze(result, 0)
