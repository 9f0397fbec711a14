"""Sorting. The order of equal elements is ours to choose; torch's stable order is the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.ops.sort import argsort, sort, topk
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import floats, shapes


@st.composite
def sort_cases(draw: st.DrawFn) -> Case:
    """Short and long axes, many equal elements, NaN, infinities and both zeros."""
    shape = draw(st.one_of(shapes(), st.sampled_from(((33,), (2, 17), (9, 1, 5), (70,), (0, 3)))))
    x = draw(floats(shape, kinds=("normal", "ties"), nan=draw(st.booleans()), inf=True))
    dim = draw(st.integers(-len(shape), len(shape) - 1)) if shape else draw(st.integers(-1, 0))
    arguments: dict[str, Any] = {"dim": dim, "descending": draw(st.booleans())}
    return Case((x,), arguments | {"stable": draw(st.booleans())})


@st.composite
def topk_cases(draw: st.DrawFn) -> Case:
    drawn = draw(sort_cases())
    shape, dim = drawn.args[0].shape, drawn.kwargs["dim"]
    k = draw(st.integers(0, shape[dim] if shape else 1))
    return Case((drawn.args[0], k, dim, draw(st.booleans())))


def _stable_topk(torch: Any, x: Any, k: int, dim: int, largest: bool) -> Any:
    if x.ndim == 0:
        return torch.topk(x, k, dim, largest)
    values, indices = torch.sort(x, dim=dim, descending=largest, stable=True)
    return values.narrow(dim, 0, k), indices.narrow(dim, 0, k)


def _errors(name: str, *before: Any) -> tuple[ErrorCase, ...]:
    x = np.zeros((2, 3))
    return (
        ErrorCase(
            (x, *before), {"dim": 2}, ShapeError, rf"{name}: dim must be in \[-2, 1\].*got 2"
        ),
        ErrorCase((x, *before), {"dim": 0.5}, DTypeError, r"dim must be an int"),
        ErrorCase((None, *before), {}, TypeError, r"input must be a Tensor, got NoneType"),
    )


SPECS: list[OpSpec] = [
    OpSpec(
        name="sort",
        function=sort,
        oracle=lambda torch, x, dim, descending, stable: torch.sort(
            x, dim=dim, descending=descending, stable=True
        ),
        cases=sort_cases(),
        gradcheck=False,
        exact=True,
        accepts_integers=True,
        errors=_errors("sort"),
    ),
    OpSpec(
        name="argsort",
        function=argsort,
        oracle=lambda torch, x, dim, descending, stable: torch.argsort(
            x, dim=dim, descending=descending, stable=True
        ),
        cases=sort_cases(),
        differentiable=False,
        exact=True,
        accepts_integers=True,
        errors=_errors("sort"),
    ),
    OpSpec(
        name="topk",
        function=topk,
        oracle=_stable_topk,
        cases=topk_cases(),
        gradcheck=False,
        exact=True,
        accepts_integers=True,
        errors=(
            *_errors("topk", 1),
            ErrorCase(
                (np.zeros((2, 3)), 4), {}, ShapeError, r"topk: k must be from 0 to the 3 .*got 4"
            ),
            ErrorCase((np.zeros((2, 3)), -1), {}, ShapeError, r"topk: k must be from 0 .*got -1"),
            ErrorCase((np.zeros((2, 3)), 1.5), {}, DTypeError, r"topk: k must be an int, got 1.5"),
        ),
    ),
]
