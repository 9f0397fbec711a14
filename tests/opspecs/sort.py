"""Sorting. The order of equal elements is ours to choose; torch's stable order is the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.ops.sort import argsort, kthvalue, median, sort, topk
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import distinct, floats, shapes


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


@st.composite
def selection_cases(draw: st.DrawFn, ties: bool) -> Case:
    """For median and kthvalue: one axis, of even or odd length. The index among equals is free."""
    shape = draw(st.one_of(shapes(min_side=1), st.sampled_from(((33,), (2, 16), (9, 1, 5)))))
    # Equal zeros have one sign; distinct values stay distinct as integers.
    x = np.asarray(
        draw(floats(shape, kinds=("ties",))) + 0.0 if ties else 100 * draw(distinct(shape))
    )
    if draw(st.booleans()) and not ties:
        x = np.array(x, subok=False)
        x.reshape(-1)[draw(st.integers(0, x.size - 1))] = np.nan
    dim = draw(st.integers(-len(shape), len(shape) - 1)) if shape else draw(st.integers(-1, 0))
    return Case((x,), {"dim": dim, "keepdim": draw(st.booleans())})


@st.composite
def median_cases(draw: st.DrawFn, ties: bool) -> Case:
    """Along an axis, or of all."""
    drawn = draw(selection_cases(ties))
    return drawn if draw(st.booleans()) else Case(drawn.args)


@st.composite
def kthvalue_cases(draw: st.DrawFn, ties: bool) -> Case:
    drawn = draw(selection_cases(ties))
    shape = drawn.args[0].shape
    k = draw(st.integers(1, shape[drawn.kwargs["dim"]] if shape else 1))
    return Case((drawn.args[0], k), drawn.kwargs)


def values_of(result: Any) -> Any:
    return result.values if isinstance(result, tuple) else result


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
            ErrorCase(
                (np.zeros((2, 3)), np.array([1, 2])), {}, DTypeError, r"topk: k must be an int"
            ),
            ErrorCase((np.zeros((2, 3)), 2**70), {}, ShapeError, r"topk: k must be from 0 .*got"),
        ),
    ),
    OpSpec(
        name="kthvalue",
        function=kthvalue,
        oracle=lambda torch, *args, **kw: torch.kthvalue(*args, **kw),
        cases=kthvalue_cases(ties=False),
        gradcheck=False,
        exact=True,
        accepts_integers=True,
        errors=(
            *_errors("kthvalue", 1),
            ErrorCase((np.zeros((2, 3)), 0), {}, ShapeError, r"k must be from 1 to the 3 .*got 0"),
            ErrorCase((np.zeros((2, 3)), 4), {}, ShapeError, r"k must be from 1 to the 3 .*got 4"),
            ErrorCase((np.zeros((2, 0)), 1), {}, ShapeError, r"k must be from 1 to the 0 .*got 1"),
            ErrorCase((np.zeros(3), True), {}, DTypeError, r"kthvalue: k must be an int, got True"),
        ),
    ),
    OpSpec(
        name="median",
        function=median,
        oracle=lambda torch, *args, **kw: torch.median(*args, **kw),
        cases=median_cases(ties=False),
        gradcheck=False,
        exact=True,
        accepts_integers=True,
        errors=(
            *_errors("median"),
            ErrorCase((np.zeros((2, 0)), 1), {}, ShapeError, r"median: .*\(2, 0\) must not be"),
            ErrorCase((np.zeros((2, 3)), (0, 1)), {}, DTypeError, r"median: dim must be an int"),
        ),
    ),
    OpSpec(
        name="kthvalue among equals",
        function=lambda *args, **kw: kthvalue(*args, **kw).values,
        oracle=lambda torch, *args, **kw: torch.kthvalue(*args, **kw).values,
        cases=kthvalue_cases(ties=True),
        differentiable=False,
        exact=True,
        accepts_integers=True,
    ),
    OpSpec(
        name="median along an axis among equals",
        function=lambda *args, **kw: values_of(median(*args, **kw)),
        oracle=lambda torch, *args, **kw: values_of(torch.median(*args, **kw)),
        cases=selection_cases(ties=True),
        differentiable=False,
        exact=True,
        accepts_integers=True,
    ),
    OpSpec(
        name="median of all, equals sharing the gradient",
        function=median,
        oracle=lambda torch, x: torch.median(x),
        cases=selection_cases(ties=True).map(lambda drawn: Case(drawn.args)),
        gradcheck=False,
        exact=True,
        accepts_integers=True,
    ),
]
