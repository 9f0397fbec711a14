"""Comparisons, logic and selection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.ops import compare
from minigrad.testing import ErrorCase, OpSpec
from minigrad.testing.strategies import bools, broadcastable, case, floats, integers, shapes

from .elementwise import NUMBERS, SPECIAL, one, refuses_shapes, two, zeros


def comparison(name: str, function: Callable[..., Any]) -> OpSpec:
    return OpSpec(
        name=name,
        function=function,
        oracle=lambda torch, a, b: getattr(torch, name)(a, b),
        cases=st.one_of(
            two(kinds=("ties",), **SPECIAL),
            shapes(max_dims=2).flatmap(lambda s: case(floats(s, kinds=("ties",)), NUMBERS)),
        ),
        errors=(refuses_shapes(name),),
        differentiable=False,
        exact=True,
        accepts_integers=True,
        accepts_mixed_dtypes=True,
    )


def predicate(name: str, function: Callable[..., Any]) -> OpSpec:
    return OpSpec(
        name=name,
        function=function,
        oracle=lambda torch, a: getattr(torch, name)(a),
        cases=one(**SPECIAL),
        differentiable=False,
        exact=True,
        accepts_integers=True,
    )


def logical(name: str, function: Callable[..., Any]) -> OpSpec:
    return OpSpec(
        name=name,
        function=function,
        oracle=lambda torch, a, b: getattr(torch, name)(a, b),
        cases=st.one_of(two(kinds=("ties",), **SPECIAL), two(bools)),
        errors=(ErrorCase((zeros(2), 1), {}, TypeError, f"{name}: .*Tensors, got int"),),
        differentiable=False,
        exact=True,
        accepts_integers=True,
        accepts_mixed_dtypes=True,
    )


def small_integers(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    return integers(shape, -9, 10)


def bitwise(name: str, function: Callable[..., Any]) -> OpSpec:
    return OpSpec(
        name=name,
        function=function,
        oracle=lambda torch, a, b: getattr(torch, name)(a, b),
        cases=st.one_of(two(small_integers), two(bools)),
        errors=(ErrorCase((zeros(2), zeros(2)), {}, DTypeError, f"{name}: .*float64"),),
        differentiable=False,
        exact=True,
    )


SPECS = [
    comparison("eq", compare.eq),
    comparison("ne", compare.ne),
    comparison("lt", compare.lt),
    comparison("le", compare.le),
    comparison("gt", compare.gt),
    comparison("ge", compare.ge),
    predicate("isnan", compare.isnan),
    predicate("isinf", compare.isinf),
    predicate("isfinite", compare.isfinite),
    predicate("logical_not", compare.logical_not),
    logical("logical_and", compare.logical_and),
    logical("logical_or", compare.logical_or),
    logical("logical_xor", compare.logical_xor),
    bitwise("bitwise_and", compare.bitwise_and),
    bitwise("bitwise_or", compare.bitwise_or),
    bitwise("bitwise_xor", compare.bitwise_xor),
    OpSpec(
        name="bitwise_not",
        function=lambda a: ~a,
        oracle=lambda torch, a: ~a,
        cases=st.one_of(one(small_integers), one(bools)),
        errors=(ErrorCase((zeros(2),), {}, DTypeError, "bitwise_xor: .*float64"),),
        differentiable=False,
        exact=True,
    ),
    OpSpec(
        name="where",
        function=compare.where,
        oracle=lambda torch, *args: torch.where(*args),
        cases=st.one_of(
            broadcastable(3, min_side=0).flatmap(
                lambda s: case(bools(s[0]), floats(s[1], **SPECIAL), floats(s[2]))
            ),
            broadcastable(2).flatmap(lambda s: case(bools(s[0]), floats(s[1]), NUMBERS)),
        ),
        errors=(
            ErrorCase((zeros(2), zeros(2), zeros(2)), {}, DTypeError, "where: condition .*float64"),
            ErrorCase(
                (zeros(2, dtype=bool), zeros(3), zeros(3)), {}, ShapeError, r"where: shapes \(2,\)"
            ),
        ),
        exact=True,
        accepts_integers=True,
        accepts_mixed_dtypes=True,
    ),
]
