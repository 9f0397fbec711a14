"""Reductions over any axes, and running sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.ops import extrema, reduce, vector_norm
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import case, distinct, floats, positive, shapes

SPECIAL = {"nan": True, "inf": True}


def axes(ndim: int) -> st.SearchStrategy[Any]:
    """None, an axis counted from either end, or several."""
    one = st.integers(-ndim, ndim - 1) if ndim else st.sampled_from((0, -1))
    several = st.lists(
        st.integers(0, max(ndim - 1, 0)), min_size=1, max_size=ndim or 1, unique=True
    )
    return st.one_of(st.none(), one, several.map(tuple)) if ndim else st.one_of(st.none(), one)


def over_axes(
    values: Callable[..., Any] = floats, min_side: int = 0, **options: Any
) -> st.SearchStrategy[Case]:
    return shapes(max_dims=4, max_side=6, min_side=min_side).flatmap(
        lambda shape: case(values(shape, **options), dim=axes(len(shape)), keepdim=st.booleans())
    )


def over_one_axis(
    values: Callable[..., Any] = floats, min_side: int = 0, keepdim: bool = True, **options: Any
) -> st.SearchStrategy[Case]:
    return shapes(max_dims=4, max_side=6, min_side=min_side).flatmap(
        lambda shape: case(
            values(shape, **options),
            st.integers(-max(len(shape), 1), max(len(shape), 1) - 1),
            **({"keepdim": st.booleans()} if keepdim else {}),
        )
    )


def flat_or_one_axis(
    values: Callable[..., Any] = floats, min_side: int = 0, **options: Any
) -> st.SearchStrategy[Case]:
    whole = shapes(max_dims=4, max_side=6, min_side=min_side).flatmap(
        lambda shape: case(values(shape, **options))
    )
    return st.one_of(whole, over_one_axis(values, min_side, **options))


# Long enough to be cut into chunks, in each of the three forms: rows, columns, both. Where plain
# loops do all the work there are no chunks.
SIZES = (701, 401, 201, 91) if numba.config.DISABLE_JIT else (70001, 40001, 20001, 9001)
LONG = st.sampled_from(
    (((SIZES[0],), 0), ((3, SIZES[1]), 1), ((SIZES[2], 7), 0), ((2, SIZES[3], 5), 1))
)


def long(values: Callable[..., Any] = floats) -> st.SearchStrategy[Case]:
    return LONG.flatmap(lambda drawn: case(values(drawn[0]), drawn[1]))


def zeros(*shape: int, dtype: Any = np.float64) -> np.ndarray:
    return np.zeros(shape, dtype)


def refuses_dims(name: str) -> tuple[ErrorCase, ...]:
    return (
        ErrorCase((zeros(2, 3), 2), {}, ShapeError, rf"{name}: dim must be in \[-2, 1\].*got 2"),
        ErrorCase((zeros(2, 3), (0, -2)), {}, ShapeError, f"{name}: dim names an axis twice"),
        ErrorCase((zeros(2, 3), 2**62), {}, ShapeError, rf"{name}: dim must be in .*got {2**62}"),
        ErrorCase((zeros(2, 3), "0"), {}, DTypeError, rf"{name}: dim must be an int.*got '0'"),
        ErrorCase((zeros(2, 3), (0, 1.5)), {}, DTypeError, rf"{name}: dim must be an int.*1.5"),
        ErrorCase(
            (zeros(2, 3), np.array([0, 1])), {}, DTypeError, rf"{name}: dim must be an int.*tensor"
        ),
    )


def refuses_empty(name: str) -> ErrorCase:
    return ErrorCase(
        (zeros(3, 0), 1), {}, ShapeError, rf"{name}: .*shape \(3, 0\) must not be empty"
    )


def refuses_integers(name: str) -> ErrorCase:
    return ErrorCase((zeros(2, dtype=np.int64),), {}, DTypeError, f"{name}: .*int64")


def moments(min_side: int = 0) -> st.SearchStrategy[Case]:
    return shapes(min_dims=min(min_side, 1), max_dims=4, max_side=6, min_side=min_side).flatmap(
        lambda shape: case(
            floats(shape, kinds=("normal",)), dim=axes(len(shape)), keepdim=st.booleans(),
            correction=st.sampled_from((0, 1, -1)),
        )
    )  # fmt: skip


SUMS = [
    OpSpec(
        name="sum",
        function=reduce.sum,
        oracle=lambda torch, *args, **kw: torch.sum(*args, **kw),
        cases=over_axes(**SPECIAL),
        errors=refuses_dims("sum"),
        accepts_integers=True,
    ),
    OpSpec(
        name="sum of many",
        function=reduce.sum,
        # torch adds up float32 in float32; the measure is its float64 result.
        oracle=lambda torch, *args: torch.sum(*args),
        cases=long(positive),
        float32_ulps=1.0,
        accepts_integers=True,
    ),
    OpSpec(
        name="mean",
        function=reduce.mean,
        oracle=lambda torch, *args, **kw: torch.mean(*args, **kw),
        cases=over_axes(**SPECIAL),
        gradcheck_cases=over_axes(min_side=1),
        errors=(*refuses_dims("mean"), refuses_integers("mean")),
    ),
    OpSpec(
        name="var",
        function=reduce.var,
        oracle=lambda torch, *args, **kw: torch.var(*args, **kw),
        cases=moments(),
        gradcheck_cases=moments(min_side=2),
        errors=(*refuses_dims("var"), refuses_integers("var")),
    ),
    OpSpec(
        name="var of many, far from zero",
        function=lambda x, dim: reduce.var(x, dim),
        # In two passes: torch.var's own float64 result is hundreds of ULP off here, since it keeps
        # a running mean.
        oracle=lambda torch, x, dim: (
            (x - x.mean(dim, keepdim=True)).square().sum(dim) / (x.shape[dim] - 1)
        ),
        cases=long(lambda shape: floats(shape).map(lambda array: array + 10)),
        float32_ulps=64.0,
        gradcheck=False,
    ),
    OpSpec(
        name="std",
        function=reduce.std,
        oracle=lambda torch, *args, **kw: torch.std(*args, **kw),
        cases=moments(),
        gradcheck_cases=moments(min_side=2),
        errors=(*refuses_dims("std"), refuses_integers("std")),
    ),
    OpSpec(
        name="std(unbiased=False)",
        function=lambda x: reduce.std(x, False),
        oracle=lambda torch, x: torch.std(x, False),
        cases=shapes(max_dims=3, min_side=2).flatmap(lambda shape: case(floats(shape))),
        gradcheck=False,
    ),
    OpSpec(
        name="logsumexp",
        function=reduce.logsumexp,
        oracle=lambda torch, *args, **kw: torch.logsumexp(*args, **kw),
        cases=st.one_of(
            over_one_axis(**SPECIAL),
            over_one_axis(lambda shape: floats(shape).map(lambda array: array * 400)),
        ),
        gradcheck_cases=over_one_axis(),
        errors=refuses_dims("logsumexp"),
    ),
    OpSpec(
        name="prod",
        function=reduce.prod,
        oracle=lambda torch, *args, **kw: torch.prod(*args, **kw),
        cases=flat_or_one_axis(),
        errors=refuses_dims("prod")[:1],
        accepts_integers=True,
    ),
    OpSpec(
        name="cumsum",
        function=reduce.cumsum,
        oracle=lambda torch, *args, **kw: torch.cumsum(*args, **kw),
        cases=over_one_axis(keepdim=False, **SPECIAL),
        errors=refuses_dims("cumsum")[:1],
        accepts_integers=True,
    ),
]


def extremum(name: str, function: Callable[..., Any]) -> OpSpec:
    """amax and amin: the gradient is shared among ties, so the cases have many."""
    return OpSpec(
        name=name,
        function=function,
        # dim=None is torch's dim=().
        oracle=lambda torch, x, dim=None, keepdim=False: getattr(torch, name)(
            x, () if dim is None else dim, keepdim
        ),
        cases=over_axes(min_side=1, kinds=("ties", "normal"), **SPECIAL),
        gradcheck_cases=over_axes(distinct, min_side=1),
        errors=(*refuses_dims(name), refuses_empty(name)),
        accepts_integers=True,
    )


def selection(name: str, function: Callable[..., Any]) -> OpSpec:
    """max and min: of all, or values and indices along an axis."""
    return OpSpec(
        name=name,
        function=function,
        oracle=lambda torch, *args, **kw: getattr(torch, name)(*args, **kw),
        cases=flat_or_one_axis(min_side=1, kinds=("ties", "normal"), **SPECIAL),
        gradcheck_cases=flat_or_one_axis(distinct, min_side=1),
        errors=(
            *refuses_dims(name)[:1],
            refuses_empty(name),
            ErrorCase((zeros(0),), {}, ShapeError, rf"{name}: .*shape \(0,\) must not be empty"),
            ErrorCase((zeros(2), (0,)), {}, DTypeError, rf"{name}: dim must be an int.*\(0,\)"),
        ),
        accepts_integers=True,
    )


def position(name: str, function: Callable[..., Any]) -> OpSpec:
    return OpSpec(
        name=name,
        function=function,
        oracle=lambda torch, *args, **kw: getattr(torch, name)(*args, **kw),
        cases=flat_or_one_axis(min_side=1, kinds=("ties", "normal"), **SPECIAL),
        errors=(*refuses_dims(name)[:1], refuses_empty(name)),
        differentiable=False,
        exact=True,
        accepts_integers=True,
    )


def truth(name: str, function: Callable[..., Any]) -> OpSpec:
    return OpSpec(
        name=name,
        function=function,
        oracle=lambda torch, *args, **kw: getattr(torch, name)(*args, **kw),
        cases=over_axes(kinds=("ties",), nan=True),
        errors=refuses_dims(name),
        differentiable=False,
        exact=True,
        accepts_integers=True,
    )


def of_many(spec: OpSpec) -> OpSpec:
    return OpSpec(
        name=f"{spec.name} of many",
        function=spec.function,
        oracle=spec.oracle,
        cases=long(lambda shape: floats(shape, kinds=("ties", "normal"), nan=True)),
        differentiable=False,
        exact=True,
        accepts_integers=True,
    )


def pair(name: str, function: Callable[..., Any]) -> OpSpec:
    return OpSpec(
        name=name,
        function=function,
        # torch.var_mean keeps a running mean, which is further off than torch.mean.
        oracle=lambda torch, x, dim=None, keepdim=False, correction=1: (
            getattr(torch, name.removesuffix("_mean"))(
                x, dim=dim, keepdim=keepdim, correction=correction
            ),
            torch.mean(x, dim, keepdim),
        ),
        cases=moments(),
        gradcheck_cases=moments(min_side=2),
        errors=(
            *refuses_dims(name),
            refuses_integers(name),
            ErrorCase(
                (zeros(3),), {"correction": "1"}, TypeError,
                f"{name}: correction must be a number, got '1'",
            ),
            ErrorCase(
                (zeros(3), 0, "yes"), {}, TypeError,
                f"{name}: unbiased must be a bool or None, got 'yes'",
            ),
        ),
    )  # fmt: skip


# Orders: at and between those that have formulas of their own.
ORDERS = st.sampled_from((1, 2, 2.0, 3, 1.5, 0.5, -1, -2.5, np.inf, -np.inf))
INFINITE = st.sampled_from((np.inf, -np.inf))


def norms(
    values: Callable[..., Any] = floats, orders: Any = ORDERS, **options: Any
) -> st.SearchStrategy[Case]:
    """Zeros and ties, where the gradient is torch's choice."""
    return shapes(max_dims=4, max_side=5, min_side=1).flatmap(
        lambda shape: case(
            values(shape, **options), orders, axes(len(shape)), keepdim=st.booleans()
        )
    )


NORM_ERRORS = (
    (zeros(2, 3), {"dim": 2}, ShapeError, r"dim must be in \[-2, 1\].*got 2", True),
    (zeros(2, dtype=np.int64), {}, DTypeError, "int64", True),
    (zeros(0, 3), {"ORDER": np.inf}, ShapeError, r"for order inf .*\(0, 3\) must not be", True),
    (zeros(3, 0), {"ORDER": -1, "dim": 1}, ShapeError, r"for order -1 .*\(3, 0\) must not", True),
    (zeros(3), {"ORDER": np.nan}, ValueError, "the order must not be NaN", False),
    (zeros(3), {"ORDER": 10**400}, ValueError, "the order does not fit float64", True),
    (zeros(3), {"keepdim": "yes"}, TypeError, "keepdim must be a bool, got 'yes'", True),
    (zeros(3), {"ORDER": [2]}, TypeError, r"the order must be a number, got \[2\]", True),
    (zeros(3), {"dtype": "float32"}, DTypeError, "float64 does not convert to float32", True),
    (zeros(3), {"dtype": "int64"}, DTypeError, "float64 does not convert to int64", True),
)


def norm_errors(name: str, order: str) -> tuple[ErrorCase, ...]:
    return tuple(
        ErrorCase(
            (input,),
            {order if key == "ORDER" else key: value for key, value in keywords.items()},
            error, f"^{name}: .*{match}", torch_raises=raises,
        )
        for input, keywords, error, match, raises in NORM_ERRORS
    )  # fmt: skip


NORMS = [
    OpSpec(
        name="norm",
        function=vector_norm.norm,
        oracle=lambda torch, *args, **kw: torch.norm(*args, **kw),
        # NaN takes the whole gradient of an infinite order.
        cases=st.one_of(norms(nan=True), norms(orders=INFINITE, nan=True)),
        gradcheck_cases=norms(distinct),
        errors=(
            *norm_errors("norm", "p"),
            ErrorCase(
                (zeros(3), "nuc"), {}, ValueError, "norm: p must be a number or 'fro', .*nuc"
            ),
        ),
    ),
    OpSpec(
        name="norm('fro')",
        function=vector_norm.norm,
        oracle=lambda torch, *args, **kw: torch.norm(*args, **kw),
        cases=shapes().flatmap(lambda shape: case(floats(shape))),
        gradcheck_cases=shapes(min_side=1).flatmap(lambda shape: case(distinct(shape))),
    ),
    OpSpec(
        name="vector_norm",
        function=vector_norm.vector_norm,
        oracle=lambda torch, *args, **kw: torch.linalg.vector_norm(*args, **kw),
        cases=norms(kinds=("ties",), inf=True),
        gradcheck_cases=norms(distinct),
        errors=norm_errors("vector_norm", "ord"),
    ),
    OpSpec(
        name="vector_norm of order 0",
        function=lambda x, dim: vector_norm.vector_norm(x, 0, dim),
        oracle=lambda torch, x, dim: torch.linalg.vector_norm(x, 0, dim),
        cases=shapes().flatmap(
            lambda shape: case(floats(shape, kinds=("ties",), nan=True), dim=axes(len(shape)))
        ),
        differentiable=False,
        exact=True,
    ),
    OpSpec(
        name="vector_norm of many",
        function=lambda x, dim: vector_norm.vector_norm(x, 2, dim),
        # torch.linalg.vector_norm adds up one after the other: 20 ULP off in float64.
        oracle=lambda torch, x, dim: x.square().sum(dim).sqrt(),
        cases=long(),
        float32_ulps=1.0,
        gradcheck=False,
    ),
]


def torchs_aminmax(torch: Any, x: Any, **options: Any) -> tuple[Any, Any]:
    """torch.aminmax, which has a derivative in later releases only: that of amin and amax."""
    torch.aminmax(x.detach(), **options)  # refuses what it refuses
    dim = options.pop("dim", None)
    axes = () if dim is None else dim
    return torch.amin(x, axes, **options), torch.amax(x, axes, **options)


EXTREMA = [
    OpSpec(
        name="aminmax",
        function=extrema.aminmax,
        oracle=torchs_aminmax,
        cases=shapes(max_dims=4, max_side=6, min_side=1).flatmap(
            lambda shape: case(
                floats(shape, kinds=("ties", "normal"), **SPECIAL),
                dim=st.integers(-max(len(shape), 1), max(len(shape), 1) - 1) | st.none(),
                keepdim=st.just(False),
            )
        ),
        gradcheck=False,
        errors=(
            ErrorCase((zeros(3, 0),), {"dim": 1}, ShapeError, r"aminmax: .*\(3, 0\) must not be"),
            ErrorCase((zeros(3),), {"dim": (0,)}, DTypeError, "aminmax: dim must be an int"),
            ErrorCase((zeros(3),), {"keepdim": 2}, TypeError, "aminmax: keepdim must be a bool"),
        ),
        accepts_integers=True,
    ),
    OpSpec(
        name="count_nonzero",
        function=reduce.count_nonzero,
        oracle=lambda torch, *args, **kw: torch.count_nonzero(*args, **kw),
        cases=shapes(max_dims=4, max_side=6).flatmap(
            lambda shape: case(floats(shape, kinds=("ties",), nan=True), dim=axes(len(shape)))
        ),
        errors=refuses_dims("count_nonzero"),
        differentiable=False,
        exact=True,
        accepts_integers=True,
    ),
    extremum("amax", extrema.amax),
    extremum("amin", extrema.amin),
    selection("max", extrema.max),
    selection("min", extrema.min),
    position("argmax", extrema.argmax),
    position("argmin", extrema.argmin),
    of_many(position("argmax", extrema.argmax)),
    of_many(position("argmin", extrema.argmin)),
    truth("any", extrema.any),
    truth("all", extrema.all),
]

PAIRS = [pair("var_mean", reduce.var_mean), pair("std_mean", reduce.std_mean)]

SPECS = [*SUMS, *PAIRS, *NORMS, *EXTREMA]
