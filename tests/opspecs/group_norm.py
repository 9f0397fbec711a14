"""layer_norm and group_norm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.ops.group_norm import group_norm, layer_norm
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import floats


@st.composite
def inputs(draw: st.DrawFn, shape: tuple[int, ...]) -> np.ndarray:
    """Some far from zero, where a variance from sums of squares would lose all its digits."""
    x = np.array(draw(floats(shape, nan=draw(st.integers(0, 7)) == 0)))
    # Exact in float32, so that both dtypes see the same spread.
    return x.astype(np.float32).astype(np.float64) + draw(st.sampled_from((0.0, 0.0, 64.0)))


def options(draw: st.DrawFn, shape: tuple[int, ...]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name in ("weight", "bias"):
        if draw(st.booleans()):
            chosen[name] = draw(floats(shape))
    if draw(st.booleans()):
        # Negative, it makes NaN of small variances; no variance of small integers is 0.37123.
        chosen["eps"] = draw(st.sampled_from((1e-5, 1e-3, 1, -0.37123)))
    return chosen


@st.composite
def group_norm_cases(draw: st.DrawFn) -> Case:
    groups = draw(st.sampled_from((1, 1, 2, 3, 5)))
    C = groups * draw(st.sampled_from((1, 2, 3, 17)))
    N = draw(st.integers(0, 3))
    rest = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
    if C // groups * int(np.prod(rest)) == 1:
        # The gradient of a single number is 0, of which torch gives the rounding of what cancels:
        # see tests/ops/test_norm.py.
        rest = (*rest, 2)
    return Case((draw(inputs((N, C, *rest))), groups), options(draw, (C,)))


@st.composite
def layer_norm_cases(draw: st.DrawFn) -> Case:
    shape = tuple(draw(st.lists(st.sampled_from((1, 2, 3, 5, 18)), min_size=1, max_size=3)))
    if math.prod(shape) == 1:  # nothing but rounding is left: tests/ops/test_norm.py
        shape = (*shape, 2)
    before = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
    named: Any = draw(st.sampled_from((shape, list(shape))))
    if len(shape) == 1 and draw(st.booleans()):
        named = shape[0]
    return Case((draw(inputs((*before, *shape))), named), options(draw, shape))


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape)


def centred(torch: Any, x: Any, dims: tuple[int, ...]) -> Any:
    """The same values but for a constant, which normalisation takes away: torch's own gradients
    lose digits far from zero, and in float64 they are the truth here."""
    return x - x.detach().mean(dims, keepdim=True) if x.dtype == torch.float64 else x


def torchs_group_norm(torch: Any, x: Any, num_groups: int, *args: Any, **options: Any) -> Any:
    if x.numel():
        groups = x.reshape(x.shape[0], num_groups, -1)
        x = centred(torch, groups, (2,)).reshape(x.shape)
    return torch.nn.functional.group_norm(x, num_groups, *args, **options)


def torchs_layer_norm(torch: Any, x: Any, shape: Any, **options: Any) -> Any:
    shape = (shape,) if isinstance(shape, int) else shape
    x = centred(torch, x, tuple(range(-len(shape), 0)))
    return torch.nn.functional.layer_norm(x, shape, **options)


X = zeros(2, 6, 3)
SPECS: list[OpSpec] = [
    OpSpec(
        name="group_norm",
        function=group_norm,
        oracle=torchs_group_norm,
        cases=group_norm_cases(),
        errors=(
            ErrorCase((X, 4), {}, ShapeError, r"group_norm: num_groups .*the 6 channels.*got 4"),
            ErrorCase((X, 0), {}, ShapeError, r"group_norm: num_groups .*got 0"),
            ErrorCase((X, 2.0), {}, DTypeError, r"group_norm: num_groups must be an int, got 2.0"),
            ErrorCase((zeros(6), 2), {}, ShapeError, r"group_norm: input must be \(N, C, …\)"),
            ErrorCase((X, 2, zeros(3)), {}, ShapeError, r"weight must have shape \(6,\)"),
            ErrorCase((X, 2, None, zeros(6, 1)), {}, ShapeError, r"bias must have .*\(6, 1\)"),
            ErrorCase((zeros(1, 2), 2), {}, ShapeError, r"group_norm: .*more than one number"),
            ErrorCase(
                (X, 2), {"eps": "1"}, DTypeError, r"group_norm: eps must be a number, got '1'"
            ),
        ),
    ),
    OpSpec(
        name="layer_norm",
        function=layer_norm,
        oracle=torchs_layer_norm,
        cases=layer_norm_cases(),
        errors=(
            ErrorCase((X, (6,)), {}, ShapeError, r"normalized_shape \(6,\).*\(2, 6, 3\)"),
            ErrorCase((X, (1, 2, 6, 3)), {}, ShapeError, r"layer_norm: .*\(1, 2, 6, 3\)"),
            ErrorCase((X, ()), {}, ShapeError, r"layer_norm: .*at least one size"),
            ErrorCase((X, (6, 3), zeros(3)), {}, ShapeError, r"weight must have shape \(6, 3\)"),
            ErrorCase((X, 3.0), {}, DTypeError, r"normalized_shape must be an int or several"),
        ),
    ),
]
