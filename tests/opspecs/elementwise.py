"""Elementwise arithmetic, functions, comparisons, selection, conversions and in-place updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.dtypes import float32, float64
from minigrad.ops import arithmetic, cast, compare, elementwise, inplace
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import (
    bools,
    broadcastable,
    case,
    distinct,
    floats,
    integers,
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
    ),
    OpSpec(
        name="div of special values",
        function=arithmetic.div,
        oracle=lambda torch, a, b: torch.div(a, b),
        cases=two(kinds=("ties",), **SPECIAL),
        gradcheck=False,
        accepts_integers=True,
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
    ),
    OpSpec(
        name="pow at zeros and ties",
        function=arithmetic.pow,
        oracle=lambda torch, a, b: torch.pow(a, b),
        cases=two(kinds=("ties",)),
        gradcheck=False,
        accepts_integers=True,
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
        cases=case(floats((7,), kinds=("ties",)), st.sampled_from((0, 1, 2, 3, 0.5, -1.0, 2.5))),
        gradcheck=False,
        accepts_integers=True,
        errors=(
            ErrorCase(
                (zeros(2, dtype=np.int64), -1), {}, DTypeError, "pow: .*negative powers, got .*-1"
            ),
        ),
    ),
    OpSpec(
        name="maximum",
        function=arithmetic.maximum,
        oracle=lambda torch, a, b: torch.maximum(a, b),
        cases=two(**SPECIAL),
        errors=(refuses_shapes("maximum"),),
        gradcheck=False,
        accepts_integers=True,
    ),
    OpSpec(
        name="minimum",
        function=arithmetic.minimum,
        oracle=lambda torch, a, b: torch.minimum(a, b),
        cases=two(**SPECIAL),
        errors=(refuses_shapes("minimum"),),
        gradcheck=False,
        accepts_integers=True,
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


def extreme(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Values up to ±1000, where a careless exponential overflows."""
    return floats(shape).map(lambda array: array * 400)


FUNCTIONS = [
    OpSpec(
        name="abs",
        function=elementwise.abs,
        oracle=lambda torch, a: torch.abs(a),
        cases=one(**SPECIAL),
        gradcheck_cases=one(distinct),
        exact=True,
        accepts_integers=True,
    ),
    OpSpec(
        name="exp",
        function=elementwise.exp,
        oracle=lambda torch, a: torch.exp(a),
        cases=one(**SPECIAL),
        accepts_integers=True,
    ),
    OpSpec(
        name="log",
        function=elementwise.log,
        oracle=lambda torch, a: torch.log(a),
        cases=one(**SPECIAL),
        gradcheck_cases=one(positive),
        accepts_integers=True,
    ),
    OpSpec(
        name="sqrt",
        function=elementwise.sqrt,
        oracle=lambda torch, a: torch.sqrt(a),
        cases=one(**SPECIAL),
        gradcheck_cases=one(positive),
        accepts_integers=True,
    ),
    OpSpec(
        name="sigmoid",
        function=elementwise.sigmoid,
        oracle=lambda torch, a: torch.sigmoid(a),
        cases=st.one_of(one(**SPECIAL), one(extreme)),
        gradcheck_cases=one(),
        accepts_integers=True,
    ),
    OpSpec(
        name="tanh",
        function=elementwise.tanh,
        oracle=lambda torch, a: torch.tanh(a),
        cases=st.one_of(one(**SPECIAL), one(extreme)),
        gradcheck_cases=one(),
        accepts_integers=True,
    ),
    OpSpec(
        name="relu",
        function=elementwise.relu,
        oracle=lambda torch, a: torch.relu(a),
        cases=one(**SPECIAL),
        gradcheck_cases=one(distinct),
        exact=True,
    ),
    OpSpec(
        name="clamp",
        function=elementwise.clamp,
        oracle=lambda torch, a, **kw: torch.clamp(a, **kw),
        cases=clamp_cases(floats, **SPECIAL),
        gradcheck_cases=clamp_cases(distinct),
        errors=(
            ErrorCase((zeros(2),), {}, ShapeError, "clamp: at least one of min and max"),
            ErrorCase((zeros(2), "0"), {}, TypeError, "clamp: min must be a number, got str"),
        ),
        accepts_integers=True,
    ),
    OpSpec(
        name="sign",
        function=elementwise.sign,
        oracle=lambda torch, a: torch.sign(a),
        cases=one(**SPECIAL),
        gradcheck=False,
        accepts_integers=True,
    ),
]


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


LOGIC = [
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
    ),
]


def updates(*numbers: Any) -> st.SearchStrategy[Case]:
    """A tensor to change, and what broadcasts to it, or a number."""
    shape = shapes(max_dims=4, max_side=4)

    def operand_shapes(target: tuple[int, ...]) -> st.SearchStrategy[tuple[int, ...]]:
        drop = st.integers(0, len(target))
        ones = st.lists(st.booleans(), min_size=len(target), max_size=len(target))
        return st.tuples(drop, ones).map(
            lambda drawn: tuple(
                1 if single else size for size, single in zip(target, drawn[1], strict=True)
            )[drawn[0] :]
        )

    tensors = shape.flatmap(
        lambda target: operand_shapes(target).flatmap(
            lambda other: case(floats(target), positive(other))
        )
    )
    return st.one_of(tensors, shape.flatmap(lambda s: case(floats(s), st.sampled_from(numbers))))


def update(
    name: str,
    function: Callable[..., Any],
    cases: st.SearchStrategy[Case],
    errors: tuple[ErrorCase, ...] = (),
    accepts_integers: bool = False,
    accepts_mixed_dtypes: bool = False,
) -> OpSpec:
    return OpSpec(
        name=name,
        function=function,
        oracle=lambda torch, a, *args, **kw: getattr(a, name)(*args, **kw),
        cases=cases,
        errors=errors,
        differentiable=False,
        view=True,
        mutates=frozenset({0}),
        accepts_integers=accepts_integers,
        accepts_mixed_dtypes=accepts_mixed_dtypes,
    )


def refuses_growth(name: str) -> ErrorCase:
    return ErrorCase(
        (zeros(3), zeros(2, 3)), {}, ShapeError, rf"{name}: .*\(2, 3\).*tensor's shape \(3,\)"
    )


def refuses_float(name: str) -> ErrorCase:
    return ErrorCase((zeros(3, dtype=np.int64), 0.5), {}, DTypeError, f"{name}: .*float32.*int64")


IN_PLACE = [
    update("add_", inplace.add_, updates(2, -1), (refuses_growth("add_"), refuses_float("add_")),
           accepts_integers=True),
    update("sub_", inplace.sub_, updates(2, -1), (refuses_growth("sub_"), refuses_float("sub_")),
           accepts_integers=True),
    update("mul_", inplace.mul_, updates(2, -1), (refuses_growth("mul_"), refuses_float("mul_")),
           accepts_integers=True),
    update("div_", inplace.div_, updates(2.5, -1), (refuses_growth("div_"), refuses_float("div_"))),
    update("copy_", inplace.copy_, updates(0).filter(lambda c: isinstance(c.args[1], np.ndarray)),
           (refuses_growth("copy_"),), accepts_integers=True, accepts_mixed_dtypes=True),
    update("fill_", inplace.fill_, shapes(**SIDES).flatmap(lambda s: case(floats(s), NUMBERS)),
           (ErrorCase((zeros(2), "0"), {}, TypeError, "fill_: value .*str"),),
           accepts_integers=True),
    update("zero_", inplace.zero_, one(), accepts_integers=True),
    update("clamp_", inplace.clamp_, shapes(**SIDES).flatmap(
        lambda s: case(floats(s, **SPECIAL), min=-1, max=st.sampled_from((None, 1)))
    ), (refuses_float("clamp_"),), accepts_integers=True),
]  # fmt: skip


COPIES = [
    OpSpec(
        name="to",
        function=lambda a, dtype: cast.to(a, dtype),
        oracle=lambda torch, a, dtype: a.to(getattr(torch, dtype.name)).clone(),
        cases=shapes(**SIDES).flatmap(
            lambda s: case(floats(s), st.sampled_from((float32, float64)))
        ),
        errors=(
            ErrorCase((zeros(2), np.int32), {}, DTypeError, "dtype must be one of .*int32",
                      torch_raises=False),
        ),
        view=True,
        gradcheck=False,
        accepts_integers=True,
    ),
    OpSpec(
        name="clone",
        function=cast.clone,
        oracle=lambda torch, a: torch.clone(a),
        cases=one(**SPECIAL),
        exact=True,
        accepts_integers=True,
    ),
    OpSpec(
        name="contiguous",
        function=cast.contiguous,
        oracle=lambda torch, a: a.contiguous(),
        cases=one(**SPECIAL),
        view=True,
        exact=True,
        accepts_integers=True,
    ),
]  # fmt: skip

SPECS = [*ARITHMETIC, *FUNCTIONS, *LOGIC, *IN_PLACE, *COPIES]
