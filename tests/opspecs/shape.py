"""Reshaping, permuting, expanding, joining, splitting."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.ops import join, shape
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import floats, shapes


def zeros(*sizes: int) -> np.ndarray:
    return np.zeros(sizes)


@st.composite
def reshape_cases(draw: st.DrawFn) -> Case:
    """A shape with the same elements, given whole or with one −1."""
    old = draw(shapes(min_side=0, max_side=6))
    size, new = math.prod(old), []
    rest = size
    for _ in range(draw(st.integers(0, 3))):
        divisors = [d for d in range(1, 13) if rest and rest % d == 0] or [0, 1]
        new.append(draw(st.sampled_from(divisors)))
        rest = rest // new[-1] if new[-1] else rest
    new.append(rest if size else 0)
    if size and draw(st.booleans()):
        new[draw(st.integers(0, len(new) - 1))] = -1
    return Case((draw(floats(old)), tuple(new)))


@st.composite
def flatten_cases(draw: st.DrawFn) -> Case:
    sizes = draw(shapes(max_dims=5, max_side=5))
    limit = max(len(sizes), 1)
    first = draw(st.integers(0, limit - 1))
    last = draw(st.integers(first, limit - 1))
    first, last = (draw(st.sampled_from((axis, axis - limit))) for axis in (first, last))
    return Case((draw(floats(sizes)), first, last))


@st.composite
def with_axes(
    draw: st.DrawFn, count: int, extra: int = 0, min_dims: int = 1, min_side: int = 0
) -> Case:
    """An array and `count` axes of it, counted from either end."""
    sizes = draw(shapes(min_dims=min_dims, max_dims=4, min_side=min_side, max_side=4))
    limit = len(sizes) + extra
    axes = [draw(st.integers(-limit, limit - 1)) for _ in range(count)]
    return Case((draw(floats(sizes)), *axes))


@st.composite
def squeeze_cases(draw: st.DrawFn) -> Case:
    sizes = tuple(draw(st.lists(st.sampled_from((1, 1, 2, 3)), max_size=5)))
    axes = draw(st.lists(st.integers(0, max(len(sizes) - 1, 0)), unique=True, max_size=3))
    dim = draw(st.sampled_from((None, tuple(axes), *axes[:1]))) if sizes else None
    return Case((draw(floats(sizes)), *(() if dim is None else (dim,))))


@st.composite
def permute_cases(draw: st.DrawFn) -> Case:
    sizes = draw(shapes(max_dims=5, max_side=4))
    order = draw(st.permutations(range(len(sizes))))
    return Case((draw(floats(sizes)), tuple(a - draw(st.sampled_from((0, len(sizes)))) for a in order)))  # noqa: E501  # fmt: skip


@st.composite
def expand_cases(draw: st.DrawFn) -> Case:
    sizes = draw(shapes(max_dims=3, max_side=3))
    target = [n if n != 1 else draw(st.integers(0, 3)) for n in sizes]
    target = [draw(st.sampled_from((n, -1))) if n == m else n
              for n, m in zip(target, sizes, strict=True)]  # fmt: skip
    leading = draw(st.lists(st.integers(0, 3), max_size=2))
    return Case((draw(floats(sizes)), (*leading, *target)))


@st.composite
def cat_cases(draw: st.DrawFn) -> Case:
    sizes = list(draw(shapes(min_dims=1, max_dims=4, max_side=4)))
    axis = draw(st.integers(0, len(sizes) - 1))
    tensors = []
    for _ in range(draw(st.integers(1, 4))):
        sizes[axis] = draw(st.integers(0, 4))
        tensors.append(draw(floats(tuple(sizes))))
    return Case((tensors, axis - draw(st.sampled_from((0, len(sizes))))))


@st.composite
def stack_cases(draw: st.DrawFn) -> Case:
    sizes = draw(shapes(max_dims=3, max_side=4))
    tensors = [draw(floats(sizes)) for _ in range(draw(st.integers(1, 4)))]
    return Case((tensors, draw(st.integers(-len(sizes) - 1, len(sizes)))))


@st.composite
def split_cases(draw: st.DrawFn) -> Case:
    sizes = draw(shapes(min_dims=1, max_dims=4, max_side=6))
    axis = draw(st.integers(0, len(sizes) - 1))
    if draw(st.booleans()):
        size: Any = draw(st.integers(1, 7))
    else:
        cuts = sorted(draw(st.lists(st.integers(0, sizes[axis]), max_size=3)))
        size = [b - a for a, b in zip((0, *cuts), (*cuts, sizes[axis]), strict=True)]
    return Case((draw(floats(sizes)), size, axis))


@st.composite
def chunk_cases(draw: st.DrawFn) -> Case:
    sizes = draw(shapes(min_dims=1, max_dims=4, max_side=7))
    axis = draw(st.integers(-len(sizes), len(sizes) - 1))
    return Case((draw(floats(sizes)), draw(st.integers(1, 5)), axis))


@st.composite
def unflatten_cases(draw: st.DrawFn) -> Case:
    split = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    sizes = list(draw(shapes(min_dims=1, max_dims=3, max_side=3)))
    axis = draw(st.integers(0, len(sizes) - 1))
    sizes[axis] = math.prod(split)
    if draw(st.booleans()):
        split[draw(st.integers(0, len(split) - 1))] = -1
    return Case((draw(floats(tuple(sizes))), axis, tuple(split)))


def view(name: str, function: Any, oracle: Any, cases: Any, *errors: ErrorCase) -> OpSpec:
    """An operation that moves elements and changes none."""
    return OpSpec(
        name=name, function=function, oracle=oracle, cases=cases, errors=errors,
        exact=True, view=True, accepts_integers=True,
    )  # fmt: skip


SPECS = [
    view(
        "reshape",
        shape.reshape,
        lambda torch, x, sizes: torch.reshape(x, sizes),
        reshape_cases(),
        ErrorCase((zeros(2, 3), (4, 2)), {}, ShapeError, r"reshape: shape \(4, 2\).*\(2, 3\)"),
        ErrorCase((zeros(2, 3), (5, -1)), {}, ShapeError, r"reshape: shape \(5, -1\) is invalid"),
        ErrorCase((zeros(2, 3), (-1, -1)), {}, ShapeError, r"reshape: only one size"),
        ErrorCase((zeros(2, 3), (-2, -3)), {}, ShapeError, r"reshape: shape \(-2, -3\)"),
        ErrorCase((zeros(0, 3), (0, -1)), {}, ShapeError, r"reshape: the size −1 in \(0, -1\)"),
        ErrorCase((zeros(2, 3), (2.0, 3)), {}, DTypeError, r"reshape: sizes must be ints.*2\.0"),
    ),
    view(
        "flatten",
        shape.flatten,
        lambda torch, x, first, last: torch.flatten(x, first, last),
        flatten_cases(),
        ErrorCase((zeros(2, 3), 1, 0), {}, ShapeError, r"flatten: start_dim .*1 and 0"),
        ErrorCase((zeros(2, 3), 0, 2), {}, ShapeError, r"flatten: dim must be .*got 2"),
    ),
    view(
        "unflatten",
        shape.unflatten,
        lambda torch, x, dim, sizes: torch.unflatten(x, dim, sizes),
        unflatten_cases(),
        ErrorCase((zeros(2, 6), 1, (2, 2)), {}, ShapeError, r"unflatten: shape \(2, 2\)"),
        ErrorCase((zeros(2, 6), 1, ()), {}, ShapeError, r"unflatten: sizes must not be empty"),
    ),
    view(
        "squeeze",
        shape.squeeze,
        lambda torch, x, *dim: torch.squeeze(x, *dim),
        squeeze_cases(),
        ErrorCase((zeros(2, 1), 2), {}, ShapeError, r"squeeze: dim must be .*got 2"),
    ),
    view(
        "unsqueeze",
        shape.unsqueeze,
        lambda torch, x, dim: torch.unsqueeze(x, dim),
        with_axes(1, extra=1, min_dims=0),
        ErrorCase((zeros(2), 2), {}, ShapeError, r"unsqueeze: dim must be in \[-2, 1\]"),
    ),
    view(
        "permute",
        shape.permute,
        lambda torch, x, dims: torch.permute(x, dims),
        permute_cases(),
        ErrorCase((zeros(2, 3), (0, 0)), {}, ShapeError, r"permute: dims .*\(2, 3\).*\(0, 0\)"),
        ErrorCase((zeros(2, 3), (0,)), {}, ShapeError, r"permute: dims must name every axis"),
        ErrorCase((zeros(2, 3), (0, 2)), {}, ShapeError, r"permute: dim must be .*got 2"),
    ),
    view(
        "transpose",
        shape.transpose,
        lambda torch, x, dim0, dim1: torch.transpose(x, dim0, dim1),
        with_axes(2),
        ErrorCase((zeros(2, 3), 0, 2), {}, ShapeError, r"transpose: dim must be .*got 2"),
    ),
    view(
        "matrix_transpose",
        shape.matrix_transpose,
        lambda torch, x: x.mT,
        with_axes(0, min_dims=2),
        ErrorCase((zeros(2),), {}, ShapeError, r"mT: .* at least 2 dimensions"),
    ),
    view(
        "expand",
        shape.expand,
        lambda torch, x, sizes: x.expand(sizes),
        expand_cases(),
        ErrorCase((zeros(2, 3), (4, 3)), {}, ShapeError, r"expand: axis 0 of sizes \(4, 3\)"),
        ErrorCase((zeros(2, 3), (3,)), {}, ShapeError, r"expand: sizes \(3,\) are fewer"),
        ErrorCase((zeros(3), (-1, 3)), {}, ShapeError, r"expand: axis 0 of sizes \(-1, 3\)"),
    ),
    OpSpec(
        name="cat",
        function=join.cat,
        oracle=lambda torch, tensors, dim: torch.cat(tensors, dim),
        cases=cat_cases(),
        exact=True,
        accepts_integers=True,
        accepts_mixed_dtypes=True,
        errors=(
            ErrorCase(([],), {}, ValueError, r"cat: expects a non-empty sequence"),
            ErrorCase(
                ([zeros(2, 3), zeros(2, 4)],), {}, ShapeError, r"cat: shapes .*\(2, 3\).*\(2, 4\)"
            ),
            ErrorCase(([zeros(2, 3), zeros(2)],), {}, ShapeError, r"cat: shapes must be equal"),
            ErrorCase(([zeros(2), zeros(2)], 1), {}, ShapeError, r"cat: dim must be .*got 1"),
            ErrorCase(([zeros(), zeros()],), {}, ShapeError, r"cat: .* at least one dimension"),
        ),
    ),
    OpSpec(
        name="stack",
        function=join.stack,
        oracle=lambda torch, tensors, dim: torch.stack(tensors, dim),
        cases=stack_cases(),
        exact=True,
        accepts_integers=True,
        accepts_mixed_dtypes=True,
        errors=(
            ErrorCase(([],), {}, ValueError, r"stack: expects a non-empty sequence"),
            ErrorCase(([zeros(2), zeros(3)],), {}, ShapeError, r"stack: shapes .*\(2,\).*\(3,\)"),
            ErrorCase(([zeros(2)], 2), {}, ShapeError, r"stack: dim must be .*got 2"),
        ),
    ),
    view(
        "split",
        join.split,
        lambda torch, x, size, dim: torch.split(x, size, dim),
        split_cases(),
        ErrorCase((zeros(3), 0), {}, ShapeError, r"split: the size of a part .*got 0"),
        ErrorCase((zeros(3), [1, 1]), {}, ShapeError, r"split: sizes .*add up to 3.*\(1, 1\)"),
        ErrorCase((zeros(3), [4, -1]), {}, ShapeError, r"split: sizes must be at least 0"),
        ErrorCase((zeros(), 1), {}, ShapeError, r"split: .* at least one dimension"),
    ),
    view(
        "chunk",
        join.chunk,
        lambda torch, x, chunks, dim: torch.chunk(x, chunks, dim),
        chunk_cases(),
        ErrorCase((zeros(3), 0), {}, ValueError, r"chunk: chunks must be positive, got 0"),
    ),
    replace(
        view(
            "unbind",
            join.unbind,
            lambda torch, x, dim: torch.unbind(x, dim),
            with_axes(1),
            ErrorCase((zeros(),), {}, ShapeError, r"unbind: .* at least one dimension"),
        ),
        # An axis of size 0 gives no result at all.
        gradcheck_cases=with_axes(1, min_side=1),
    ),
]
