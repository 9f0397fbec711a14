"""Elementwise arithmetic, functions, comparisons, selection, conversions and in-place updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.dtypes import float64
from minigrad.ops import arithmetic, division, unary
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import (
    broadcastable,
    case,
    distinct,
    floats,
    positive,
    shapes,
)

SIDES = {"max_dims": 4, "max_side": 5, "min_side": 0}
NUMBERS = st.sampled_from((-2, -1, 0, 1, 2, 3, -0.5, 0.5, 2.5, 1e-3))
SPECIAL = {"nan": True, "inf": True}


def one(values: Callable[..., Any] = floats, **options: Any) -> st.SearchStrategy[Case]:
    return shapes(**SIDES).flatmap(lambda shape: case(values(shape, **options)))


def two(
    left: Callable[..., Any] = floats, right: Callable[..., Any] | None = None, **options: Any
) -> st.SearchStrategy[Case]:
    """Two tensors that broadcast."""
    second = right or left
    return broadcastable(2, max_dims=4, min_side=0).flatmap(
        lambda drawn: case(left(drawn[0], **options), second(drawn[1], **options))
    )


def with_number(
    values: Callable[..., Any] = floats, numbers: st.SearchStrategy[Any] = NUMBERS
) -> st.SearchStrategy[Case]:
    """A tensor and a Python number, on either side."""
    tensor = shapes(max_dims=3, max_side=5).flatmap(values)
    return st.one_of(case(tensor, numbers), case(numbers, tensor))


def halves(shape: tuple[int, ...], **options: Any) -> st.SearchStrategy[np.ndarray]:
    """Multiples of a half, at which rounding has to choose."""
    return floats(shape, kinds=("ties",), **options).map(lambda a: np.asarray(np.array(a) * 1.5))


def zeros(*shape: int, dtype: Any = float64) -> np.ndarray:
    return np.zeros(shape, dtype)


def refuses_shapes(name: str) -> ErrorCase:
    return ErrorCase(
        (zeros(2, 3), zeros(4)), {}, ShapeError, rf"{name}: shapes \(2, 3\) and \(4,\)"
    )


ARITHMETIC = [
    OpSpec(
        name="add",
        function=arithmetic.add,
        oracle=lambda torch, a, b, **kw: torch.add(torch.as_tensor(a), b, **kw),
        cases=st.one_of(
            two(),
            broadcastable(2).flatmap(
                lambda s: case(floats(s[0]), floats(s[1]), alpha=st.sampled_from((1, 2, -1)))
            ),
        ),
        errors=(
            refuses_shapes("add"),
            ErrorCase(
                (zeros(2, dtype=np.int64), zeros(2, dtype=np.int64)),
                {"alpha": 0.5},
                DTypeError,
                "add: alpha must be an int .* int64, got 0.5",
            ),
            ErrorCase(
                (zeros(2, dtype=np.uint8), 300),
                {},
                DTypeError,
                "add: 300 does not fit .*uint8",
                torch_raises=False,
            ),
            ErrorCase((zeros(2), "1"), {}, TypeError, "add: .*number.* got str"),
        ),
        accepts_integers=True,
        accepts_mixed_dtypes=True,
    ),
    OpSpec(
        name="add with a number",
        function=lambda a, b: a + b,
        oracle=lambda torch, a, b: a + b,
        cases=with_number(),
        accepts_integers=True,
    ),
    OpSpec(
        name="sub",
        function=arithmetic.sub,
        oracle=lambda torch, a, b: torch.sub(a, b),
        cases=two(),
        errors=(
            refuses_shapes("sub"),
            ErrorCase((zeros(2, dtype=bool), zeros(2, dtype=bool)), {}, DTypeError, "sub: .*bool"),
        ),
        accepts_integers=True,
        accepts_mixed_dtypes=True,
    ),
    OpSpec(
        name="sub with a number",
        function=lambda a, b: a - b,
        oracle=lambda torch, a, b: a - b,
        cases=with_number(),
        accepts_integers=True,
    ),
    OpSpec(
        name="mul",
        function=arithmetic.mul,
        oracle=lambda torch, a, b: torch.mul(a, b),
        cases=two(**SPECIAL),
        errors=(refuses_shapes("mul"),),
        accepts_integers=True,
        accepts_mixed_dtypes=True,
    ),
    OpSpec(
        name="mul with a number",
        function=lambda a, b: a * b,
        oracle=lambda torch, a, b: a * b,
        cases=with_number(),
        accepts_integers=True,
    ),
    OpSpec(
        name="div",
        function=arithmetic.div,
        oracle=lambda torch, a, b: torch.div(a, b),
        cases=two(floats, positive),
        errors=(refuses_shapes("div"),),
        accepts_integers=True,
        accepts_mixed_dtypes=True,
    ),
    OpSpec(
        name="div of special values",
        function=arithmetic.div,
        oracle=lambda torch, a, b: torch.div(a, b),
        cases=two(kinds=("ties",), **SPECIAL),
        gradcheck=False,
        accepts_integers=True,
        accepts_mixed_dtypes=True,
    ),
    OpSpec(
        name="div with a number",
        function=lambda a, b: a / b,
        oracle=lambda torch, a, b: a / b,
        cases=with_number(positive),
        accepts_integers=True,
    ),
    OpSpec(
        name="pow",
        function=arithmetic.pow,
        oracle=lambda torch, a, b: torch.pow(a, b),
        cases=two(positive, floats),
        errors=(refuses_shapes("pow"),),
        accepts_integers=True,
        accepts_mixed_dtypes=True,
    ),
    OpSpec(
        name="pow at zeros and ties",
        function=arithmetic.pow,
        oracle=lambda torch, a, b: torch.pow(a, b),
        cases=two(kinds=("ties",)),
        gradcheck=False,
        accepts_integers=True,
        accepts_mixed_dtypes=True,
    ),
    OpSpec(
        name="pow with a number",
        function=lambda a, b: a**b,
        oracle=lambda torch, a, b: a**b,
        cases=with_number(positive, numbers=st.sampled_from((0, 1, 2, 3, -0.5, 0.5, -2.0))),
        accepts_integers=True,
    ),
    OpSpec(
        name="pow at zero with a number",
        function=arithmetic.pow,
        oracle=lambda torch, a, b: torch.pow(a, b),
        # Without −0, whose sign torch's shortcut of x^0.5 to √x keeps.
        cases=case(
            floats((7,), kinds=("ties",)).map(lambda array: array + 0.0),
            st.sampled_from((0, 1, 2, 3, 0.5, -1.0, 2.5)),
        ),
        gradcheck=False,
        accepts_integers=True,
        errors=(
            ErrorCase(
                (zeros(2, dtype=np.int64), -1), {}, DTypeError, "pow: .*negative powers, got .*-1"
            ),
        ),
    ),
    OpSpec(
        name="fmod",
        # By a number that is not 0 as an integer either.
        function=lambda a, b: division.fmod(a, b * b + 1),
        oracle=lambda torch, a, b: torch.fmod(a, b * b + 1),
        cases=two(**SPECIAL),
        errors=(refuses_shapes("fmod"),),
        gradcheck=False,  # jumps at every multiple of the divisor
        accepts_integers=True,
        accepts_mixed_dtypes=True,
    ),
    OpSpec(
        name="maximum",
        function=arithmetic.maximum,
        oracle=lambda torch, a, b: torch.maximum(a, b),
        cases=two(**SPECIAL),
        errors=(refuses_shapes("maximum"),),
        gradcheck=False,
        accepts_integers=True,
        accepts_mixed_dtypes=True,
    ),
    OpSpec(
        name="minimum",
        function=arithmetic.minimum,
        oracle=lambda torch, a, b: torch.minimum(a, b),
        cases=two(**SPECIAL),
        errors=(refuses_shapes("minimum"),),
        gradcheck=False,
        accepts_integers=True,
        accepts_mixed_dtypes=True,
    ),
    OpSpec(
        name="neg",
        function=arithmetic.neg,
        oracle=lambda torch, a: torch.neg(a),
        cases=one(**SPECIAL),
        errors=(ErrorCase((zeros(2, dtype=bool),), {}, DTypeError, "neg: .*bool"),),
        exact=True,
        accepts_integers=True,
    ),
    OpSpec(
        name="square",
        function=arithmetic.square,
        oracle=lambda torch, a: torch.square(a),
        cases=one(),
        accepts_integers=True,
    ),
    OpSpec(
        name="reciprocal",
        function=arithmetic.reciprocal,
        oracle=lambda torch, a: torch.reciprocal(a),
        cases=one(positive),
        accepts_integers=True,
    ),
]


def clamp_cases(values: Callable[..., Any], **options: Any) -> st.SearchStrategy[Case]:
    bound = st.sampled_from((None, -1, 0, 1, 1.5))
    return shapes(**SIDES).flatmap(
        lambda shape: case(values(shape, **options), min=bound, max=bound).filter(
            lambda drawn: set(drawn.kwargs.values()) != {None}
        )
    )


def normal_around(center: float, shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    return floats(shape, kinds=("normal",)).map(lambda array: array + center)


def extreme(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Values up to ±1000, where a careless exponential overflows."""
    return floats(shape).map(lambda array: array * 400)


FUNCTIONS = [
    OpSpec(
        name="abs",
        function=unary.abs,
        oracle=lambda torch, a: torch.abs(a),
        cases=one(**SPECIAL),
        gradcheck_cases=one(distinct),
        exact=True,
        accepts_integers=True,
    ),
    OpSpec(
        name="exp",
        function=unary.exp,
        oracle=lambda torch, a: torch.exp(a),
        cases=one(**SPECIAL),
        accepts_integers=True,
    ),
    OpSpec(
        name="log",
        function=unary.log,
        oracle=lambda torch, a: torch.log(a),
        cases=one(**SPECIAL),
        gradcheck_cases=one(positive),
        accepts_integers=True,
    ),
    OpSpec(
        name="sqrt",
        function=unary.sqrt,
        oracle=lambda torch, a: torch.sqrt(a),
        cases=one(**SPECIAL),
        gradcheck_cases=one(positive),
        accepts_integers=True,
    ),
    OpSpec(
        name="sigmoid",
        function=unary.sigmoid,
        oracle=lambda torch, a: torch.sigmoid(a),
        cases=st.one_of(one(**SPECIAL), one(extreme)),
        gradcheck_cases=one(),
        accepts_integers=True,
    ),
    OpSpec(
        name="tanh",
        function=unary.tanh,
        oracle=lambda torch, a: torch.tanh(a),
        cases=st.one_of(one(**SPECIAL), one(extreme)),
        gradcheck_cases=one(),
        accepts_integers=True,
    ),
    OpSpec(
        name="relu",
        function=unary.relu,
        oracle=lambda torch, a: torch.relu(a),
        cases=one(**SPECIAL),
        gradcheck_cases=one(distinct),
        exact=True,
    ),
    OpSpec(
        name="clamp",
        function=unary.clamp,
        oracle=lambda torch, a, **kw: torch.clamp(a, **kw),
        cases=clamp_cases(floats, **SPECIAL),
        gradcheck_cases=clamp_cases(distinct),
        errors=(
            ErrorCase((zeros(2),), {}, ValueError, "clamp: at least one of min and max"),
            ErrorCase(
                (zeros(2), np.nan),
                {},
                ValueError,
                "clamp: min must not be NaN",
                torch_raises=False,
            ),
            ErrorCase((zeros(2), "0"), {}, TypeError, "clamp: min must be a number, got '0'"),
        ),
        accepts_integers=True,
    ),
    OpSpec(
        name="clamp by tensors",
        function=unary.clamp,
        oracle=lambda torch, a, low, high: torch.clamp(a, low, high),
        # No ties: torch's releases differ about their gradients.
        cases=broadcastable(3, min_side=0).flatmap(
            lambda s: case(
                *(normal_around(c, shape) for c, shape in zip((0, -0.3, 0.2), s, strict=True))
            )
        ),
        gradcheck=False,
        accepts_integers=True,
        accepts_mixed_dtypes=True,
    ),
    OpSpec(
        name="sign",
        function=unary.sign,
        oracle=lambda torch, a: torch.sign(a),
        cases=one(**SPECIAL),
        gradcheck=False,
        accepts_integers=True,
    ),
]

SPECS = [
    *ARITHMETIC,
    *FUNCTIONS,
    *(
        OpSpec(
            name=name,
            function=getattr(unary, name),
            oracle=lambda torch, a, name=name: getattr(torch, name)(a),
            cases=one(**SPECIAL),
            gradcheck_cases=one(positive),
            accepts_integers=True,
        )
        for name in ("sin", "cos", "atan", "expm1", "log1p", "erf", "log2", "log10", "rsqrt")
    ),
    *(
        OpSpec(
            name=name,
            function=getattr(unary, name),
            oracle=lambda torch, a, name=name: getattr(torch, name)(a),
            cases=one(halves, **SPECIAL),
            gradcheck=False,
            exact=True,
            accepts_integers=True,
            errors=(ErrorCase((zeros(2, dtype=bool),), {}, DTypeError, name, torch_raises=False),),
        )
        for name in ("floor", "ceil", "trunc", "round")
    ),
]
