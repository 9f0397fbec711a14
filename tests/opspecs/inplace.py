"""Updates in place, conversions and copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.dtypes import float32, float64
from minigrad.ops import cast
from minigrad.ops.inplace import InPlace
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import case, floats, positive, shapes

from .elementwise import NUMBERS, SIDES, SPECIAL, one, zeros


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
    accepts_mixed_devices: bool = False,
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
        accepts_mixed_devices=accepts_mixed_devices,
    )


def refuses_growth(name: str) -> ErrorCase:
    return ErrorCase(
        (zeros(3), zeros(2, 3)), {}, ShapeError, rf"{name}: .*\(2, 3\).*tensor's shape \(3,\)"
    )


def refuses_float(name: str) -> ErrorCase:
    return ErrorCase((zeros(3, dtype=np.int64), 0.5), {}, DTypeError, f"{name}: .*float32.*int64")


IN_PLACE = [
    update("add_", InPlace.add_, updates(2, -1), (refuses_growth("add_"), refuses_float("add_")),
           accepts_integers=True, accepts_mixed_dtypes=True),
    update("sub_", InPlace.sub_, updates(2, -1), (refuses_growth("sub_"), refuses_float("sub_")),
           accepts_integers=True, accepts_mixed_dtypes=True),
    update("mul_", InPlace.mul_, updates(2, -1), (refuses_growth("mul_"), refuses_float("mul_")),
           accepts_integers=True, accepts_mixed_dtypes=True),
    update("div_", InPlace.div_, updates(2.5, -1), (refuses_growth("div_"), refuses_float("div_")),
           accepts_mixed_dtypes=True),
    update("copy_", InPlace.copy_, updates(0).filter(lambda c: isinstance(c.args[1], np.ndarray)),
           (refuses_growth("copy_"),), accepts_integers=True, accepts_mixed_dtypes=True,
           accepts_mixed_devices=True),
    update("fill_", InPlace.fill_, shapes(**SIDES).flatmap(lambda s: case(floats(s), NUMBERS)),
           (ErrorCase((zeros(2), "0"), {}, TypeError, "fill_: value must be a number, got '0'"),),
           accepts_integers=True),
    update("zero_", InPlace.zero_, one(), accepts_integers=True),
    update("clamp_", InPlace.clamp_, shapes(**SIDES).flatmap(
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
            ErrorCase((zeros(2), np.float16), {}, DTypeError, r"float16 .*float32.*\.to\(minigrad",
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

SPECS = [*IN_PLACE, *COPIES]
