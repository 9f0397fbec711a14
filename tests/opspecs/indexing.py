"""Selecting elements by position."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError, TargetError, Tensor
from minigrad.ops import indexing, select
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import bools, floats, integers, shapes


def zeros(*sizes: int) -> np.ndarray:
    return np.zeros(sizes)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@st.composite
def indices(draw: st.DrawFn, sizes: tuple[int, ...]) -> tuple[Any, ...]:
    """Anything that an index may hold, for an array of these sizes."""
    # Index arrays of one call broadcast together; masks make arrays of their own length.
    common = draw(st.sampled_from(((), (1,), (3,), (2, 3), (0,))))
    mask_used = False
    items: list[Any] = []
    axis, ellipsis_used = 0, False
    while axis < len(sizes):
        kind = draw(st.sampled_from(("int", "slice", "array", "mask", "none", "rest", "end")))
        size = sizes[axis]
        if kind == "int" and size:
            items.append(draw(st.integers(-size, size - 1)))
        elif kind == "slice":
            bound = st.none() | st.integers(-size - 1, size + 1)
            items.append(slice(draw(bound), draw(bound), draw(st.sampled_from((None, 1, 2, 3)))))
        elif kind == "array" and not mask_used and (size or 0 in common):
            kept = tuple(draw(st.sampled_from((1, n))) if n else n for n in common)
            items.append(draw(integers(kept, -size, size)) if size else np.empty(common, np.int64))
        elif (
            kind == "mask"
            and not mask_used
            and not any(isinstance(item, np.ndarray) for item in items)
        ):
            width = draw(st.integers(1, min(2, len(sizes) - axis)))
            items.append(draw(bools(sizes[axis : axis + width])))
            mask_used, axis = True, axis + width - 1
        elif kind == "none":
            items.append(None)
            continue
        elif kind == "rest" and not ellipsis_used:
            items.append(Ellipsis)
            ellipsis_used = True
            axis += draw(st.integers(0, len(sizes) - axis))
            continue
        elif kind == "end" and not ellipsis_used:
            break
        else:
            continue
        axis += 1
    return tuple(items)


@st.composite
def get_item_cases(draw: st.DrawFn) -> Case:
    # All axes of one size, so that an index fits wherever an Ellipsis moves it.
    size = draw(st.integers(0, 4))
    sizes = (size,) * draw(st.integers(0, 4))
    return Case((draw(floats(sizes)), *draw(indices(sizes))))


@st.composite
def uneven_cases(draw: st.DrawFn) -> Case:
    """Different sizes and no Ellipsis: index arrays in any places, out of C order too."""
    sizes = draw(shapes(min_dims=2, max_dims=4, min_side=1, max_side=5))
    common = draw(st.sampled_from(((2,), (2, 3), ())))
    items: list[Any] = [
        draw(integers(common, -n, n)) if draw(st.booleans()) else slice(None) for n in sizes
    ]
    return Case((draw(floats(sizes)), *items))


def get_item(x: Tensor, *index: Any) -> Tensor:
    return indexing.get_item(x, index)


def set_item(x: Tensor, value: Any, *index: Any) -> Tensor:
    indexing.set_item(x, index, value)
    return x.clone()


def torch_set_item(torch: Any, x: Any, value: Any, *index: Any) -> Any:
    x[index] = value
    return x.clone()


@st.composite
def set_item_cases(draw: st.DrawFn) -> Case:
    """Distinct positions: what wins among equal ones torch leaves open."""
    sizes = draw(shapes(min_dims=1, max_dims=4, min_side=1, max_side=5))
    items: list[Any] = []
    kind = draw(st.sampled_from(("basic", "array", "mask")))
    place = draw(st.integers(0, len(sizes) - 1))
    for axis, size in enumerate(sizes):
        if axis == place and kind == "array":
            order = draw(st.permutations(range(size)))
            items.append(ints(*order[: draw(st.integers(0, size))]))
        elif axis == place and kind == "mask":
            items.append(draw(bools((size,))))
        elif draw(st.booleans()):
            items.append(slice(draw(st.integers(0, size - 1)), None, draw(st.sampled_from((1, 2)))))
        else:
            items.append(draw(st.integers(-size, size - 1)))
    selected = np.empty(sizes)[tuple(items)].shape
    target = np.empty(sizes)
    if kind == "basic" or not any(isinstance(i, int) for i in items):
        # Values of a broadcastable shape; with ints beside arrays NumPy and torch order axes
        # differently, so there only a number is assigned.
        kept = tuple(draw(st.sampled_from((1, n))) for n in selected)
        value: Any = draw(floats(kept[draw(st.integers(0, len(kept))) :]))
    else:
        value = draw(st.sampled_from((0, 2.5, -1)))
    return Case((draw(floats(target.shape)), value, *items))


@st.composite
def gather_cases(draw: st.DrawFn) -> Case:
    sizes = draw(shapes(min_dims=1, max_dims=4, min_side=1, max_side=5))
    axis = draw(st.integers(0, len(sizes) - 1))
    shape = tuple(
        draw(st.integers(0, 6)) if a == axis else draw(st.sampled_from((n, max(n - 1, 1))))
        for a, n in enumerate(sizes)
    )
    dim = draw(st.sampled_from((axis, axis - len(sizes))))
    return Case((draw(floats(sizes)), dim, draw(integers(shape, 0, sizes[axis]))))


@st.composite
def index_select_cases(draw: st.DrawFn) -> Case:
    sizes = draw(shapes(min_dims=1, max_dims=4, min_side=1, max_side=5))
    axis = draw(st.integers(0, len(sizes) - 1))
    count = draw(st.integers(0, 6))
    return Case((draw(floats(sizes)), axis, draw(integers((count,), 0, sizes[axis]))))


@st.composite
def masked_fill_cases(draw: st.DrawFn) -> Case:
    sizes = draw(shapes(max_dims=4, max_side=5))
    kept = tuple(draw(st.sampled_from((1, n))) for n in sizes)[draw(st.integers(0, len(sizes))) :]
    return Case((draw(floats(sizes, nan=True)), draw(bools(kept)), draw(st.integers(-3, 3))))


@st.composite
def triangle_cases(draw: st.DrawFn) -> Case:
    sizes = draw(shapes(min_dims=2, max_dims=4, max_side=6))
    return Case((draw(floats(sizes, nan=True)), draw(st.integers(-7, 7))))


def too_far(operation: str) -> str:
    return rf"{operation}: index -?\d+ is out of range for axis 1 of size 3"


SPECS = [
    OpSpec(
        name="get_item",
        function=get_item,
        oracle=lambda torch, x, *index: x[index],
        cases=get_item_cases() | uneven_cases(),
        exact=True,
        view=True,
        accepts_integers=True,
        errors=(
            ErrorCase((zeros(2, 3), 0, 3), {}, TargetError, too_far("indexing")),
            ErrorCase((zeros(2, 3), 0, -4), {}, TargetError, too_far("indexing")),
            ErrorCase((zeros(2, 3), slice(None), ints(0, 3)), {}, TargetError, too_far("indexing")),
            ErrorCase((zeros(2, 3), ints(0), ints(-4)), {}, TargetError, r"indexing: index -4"),
            ErrorCase((zeros(2, 3), 0, 0, 0), {}, TargetError, r"too many indices .*3 for 2"),
            ErrorCase(
                (zeros(2, 3), Ellipsis, 0, Ellipsis),
                {},
                TargetError,
                r"only one Ellipsis",
                torch_raises=False,
            ),
            ErrorCase(
                (zeros(2, 3), slice(None, None, -1)), {}, ValueError, r"step .* positive, got -1"
            ),
            ErrorCase((zeros(2, 3), 1.0), {}, DTypeError, r"an index must be .*got float"),
            ErrorCase((zeros(2, 3), zeros(2)), {}, DTypeError, r"ints or bools, got dtype float"),
            ErrorCase((zeros(2, 3), np.ones(3, bool)), {}, TargetError, r"mask of shape \(3,\)"),
            ErrorCase(
                (zeros(2, 3), ints(0, 1), ints(0, 1, 2)), {}, ShapeError, r"\(2,\), \(3,\) do not"
            ),
            ErrorCase(
                (zeros(2, 3), np.zeros(2, np.uint8)),
                {},
                DTypeError,
                r"uint8 index",
                torch_raises=False,
            ),
        ),
    ),
    OpSpec(
        name="set_item",
        accepts_mixed_dtypes=True,
        accepts_mixed_devices=True,
        function=set_item,
        oracle=torch_set_item,
        cases=set_item_cases(),
        differentiable=False,
        exact=True,
        mutates=frozenset({0}),
        accepts_integers=True,
        errors=(
            ErrorCase((zeros(2, 3), 0, 0, 3), {}, TargetError, too_far("indexing")),
            ErrorCase((zeros(2, 3), zeros(2), 0), {}, ShapeError, r"__setitem__: .*\(2,\).*\(3,\)"),
        ),
    ),
    OpSpec(
        name="gather",
        function=select.gather,
        oracle=lambda torch, x, dim, index: torch.gather(x, dim, index),
        cases=gather_cases(),
        exact=True,
        accepts_integers=True,
        errors=(
            ErrorCase((zeros(2, 3), 1, ints(3).reshape(1, 1)), {}, TargetError, too_far("gather")),
            ErrorCase((zeros(2, 3), 1, ints(-1).reshape(1, 1)), {}, TargetError, too_far("gather")),
            ErrorCase(
                (zeros(2, 3), 1, np.zeros((3, 1), np.int64)), {}, ShapeError, r"gather: .*\(3, 1\)"
            ),
            ErrorCase((zeros(2, 3), 1, ints(0)), {}, ShapeError, r"gather: .*\(1,\).*\(2, 3\)"),
            ErrorCase((zeros(2, 3), 1, zeros(2, 1)), {}, DTypeError, r"gather: index .*float"),
        ),
    ),
    OpSpec(
        name="index_select",
        function=select.index_select,
        oracle=lambda torch, x, dim, index: torch.index_select(x, dim, index),
        cases=index_select_cases(),
        exact=True,
        accepts_integers=True,
        errors=(
            ErrorCase((zeros(2, 3), 1, ints(3)), {}, TargetError, too_far("indexing")),
            ErrorCase((zeros(2, 3), 1, ints(-1)), {}, TargetError, too_far("indexing")),
            ErrorCase((zeros(2, 3), 1, ints(0)[None]), {}, ShapeError, r"index_select: .*\(1, 1\)"),
            ErrorCase((zeros(2, 3), 1, zeros(1)), {}, DTypeError, r"index_select: index"),
        ),
    ),
    OpSpec(
        name="masked_fill",
        function=select.masked_fill,
        oracle=lambda torch, x, mask, value: torch.masked_fill(x, mask, value),
        cases=masked_fill_cases(),
        exact=True,
        accepts_integers=True,
        errors=(
            ErrorCase((zeros(2, 3), np.ones(2, bool), 0), {}, ShapeError, r"masked_fill: .*\(2,\)"),
            ErrorCase((zeros(2), zeros(2), 0), {}, DTypeError, r"masked_fill: mask .*float"),
            ErrorCase(
                (ints(1, 2), np.ones(2, bool), 0.5),
                {},
                DTypeError,
                r"masked_fill: 0\.5 .*int64",
                torch_raises=False,
            ),
        ),
    ),
    *(
        OpSpec(
            name=name,
            function=getattr(select, name),
            oracle=lambda torch, x, diagonal, name=name: getattr(torch, name)(x, diagonal),
            cases=triangle_cases(),
            exact=True,
            accepts_integers=True,
            errors=(ErrorCase((zeros(3), 0), {}, ShapeError, rf"{name}: .* at least 2 dimen"),),
        )
        for name in ("tril", "triu")
    ),
]
