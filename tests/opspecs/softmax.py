"""Softmax and its logarithm."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from minigrad import DTypeError, ShapeError
from minigrad.ops.softmax import log_softmax, softmax
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import Shape, floats, shapes

# Class counts around one vector register, the switch to folded maxima (64), and odd halves of it.
CLASSES = st.sampled_from((1, 2, 3, 10, 16, 17, 63, 64, 65, 131))


def logits(shape: Shape) -> SearchStrategy[np.ndarray]:
    """Scores of every kind: ordinary, tied, all equal, and so large that exp overflows."""
    return st.one_of(
        floats(shape),
        floats(shape).map(lambda array: array * 1000),
        st.sampled_from((-1000.0, 0.0, 1000.0)).map(lambda value: np.full(shape, value)),
    )


@st.composite
def softmax_cases(draw: st.DrawFn) -> Case:
    """Any shape along any axis, and long rows; infinities and NaN among the values."""
    if draw(st.booleans()):
        shape: Shape = (draw(st.integers(0, 5)), draw(CLASSES))
    else:
        shape = draw(shapes(max_dims=4, max_side=5))
    dim = draw(st.integers(-max(len(shape), 1), max(len(shape), 1) - 1))
    values = draw(st.one_of(logits(shape), floats(shape, nan=True, inf=True)))
    return Case((values, dim))


@st.composite
def smooth_cases(draw: st.DrawFn) -> Case:
    shape = draw(shapes(min_dims=1, max_dims=3, min_side=1, max_side=5))
    return Case((draw(floats(shape)), draw(st.integers(-len(shape), len(shape) - 1))))


def _errors(name: str) -> tuple[ErrorCase, ...]:
    x = np.zeros((2, 3))
    return (
        ErrorCase((x, 2), {}, ShapeError, rf"^{name}: dim must be in \[-2, 1\].* got 2"),
        ErrorCase((x, -3), {}, ShapeError, rf"^{name}: dim must be in \[-2, 1\].* got -3"),
        ErrorCase((np.zeros((2, 3), np.int64), 1), {}, DTypeError, rf"^{name}: .*int64"),
    )


def _softmax_oracle(torch: Any, input: Any, dim: int) -> Any:
    return torch.softmax(input, dim)


def _log_softmax_oracle(torch: Any, input: Any, dim: int) -> Any:
    return torch.log_softmax(input, dim)


SPECS = [
    OpSpec(
        name="softmax",
        function=softmax,
        oracle=_softmax_oracle,
        cases=softmax_cases(),
        gradcheck_cases=smooth_cases(),
        gradient_scale=1.0,
        errors=_errors("softmax"),
    ),
    OpSpec(
        name="log_softmax",
        function=log_softmax,
        oracle=_log_softmax_oracle,
        cases=softmax_cases(),
        gradcheck_cases=smooth_cases(),
        gradient_scale=1.0,
        errors=_errors("log_softmax"),
    ),
]
