"""Losses."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError, TargetError
from minigrad.ops.loss import cross_entropy, nll_loss
from minigrad.ops.pointwise_loss import huber_loss, l1_loss, mse_loss, smooth_l1_loss
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import Shape, broadcastable, floats, integers, positive, shapes

from .softmax import CLASSES, logits

REDUCTIONS = st.sampled_from(("mean", "sum", "none"))
SMOOTHING = st.sampled_from((0.0, 0.1, 1.0))


# Classification -----------------------------------------------------------------------------


@st.composite
def input_shapes(draw: st.DrawFn) -> tuple[Shape, int, Shape]:
    """(input shape, classes, target shape): (C,), (N, C), (N, C, d1) and (N, C, d1, d2)."""
    C = draw(CLASSES)
    if draw(st.integers(0, 7)) == 0:
        return (C,), C, ()
    N, extra = draw(st.integers(0, 5)), draw(st.sampled_from(((), (), (3,), (2, 3), (1, 1))))
    return (N, C, *extra), C, (N, *extra)


@st.composite
def index_cases(draw: st.DrawFn, smooth: bool = False, smoothing: bool = True) -> Case:
    """Class indices: no row, some rows or all rows ignored, with −100 or with a class."""
    shape, C, target_shape = draw(input_shapes())
    target = np.array(draw(integers(target_shape, 0, C)))
    ignore_index = draw(st.sampled_from((-100, 0, C - 1, C + 7)))
    ignored = draw(st.sampled_from((0.0, 0.0, 0.5, 1.0)))
    target[draw(floats(target_shape, kinds=("uniform",))) < ignored] = ignore_index
    kwargs: dict[str, Any] = {"ignore_index": ignore_index, "reduction": draw(REDUCTIONS)}
    if smooth and (target == ignore_index).all():
        kwargs["reduction"] = "sum"  # the mean would be NaN
    if draw(st.booleans()):
        kwargs["weight"] = draw(positive((C,)))
    if smoothing:
        kwargs["label_smoothing"] = draw(SMOOTHING)
    input = draw(floats(shape) if smooth else logits(shape))
    return Case((input, target), kwargs, frozenset({"weight"}))


@st.composite
def probability_cases(draw: st.DrawFn, smooth: bool = False) -> Case:
    """Class probabilities, mostly normalised; they have a gradient too."""
    shape, C, _ = draw(input_shapes().filter(lambda drawn: drawn[0][0] > 0 or not smooth))
    target = draw(positive(shape))
    if draw(st.booleans()):
        target = target / target.sum(axis=min(1, len(shape) - 1), keepdims=True)
    kwargs: dict[str, Any] = {"reduction": draw(REDUCTIONS), "label_smoothing": draw(SMOOTHING)}
    if draw(st.booleans()):
        kwargs["weight"] = draw(positive((C,)))
    input = draw(floats(shape) if smooth else logits(shape))
    return Case((input, target), kwargs, frozenset({"weight"}))


def _target_errors(name: str) -> tuple[ErrorCase, ...]:
    x, t = np.zeros((2, 4)), np.array([1, 3])

    def error(error: type[Exception], match: str, *args: Any, **kwargs: Any) -> ErrorCase:
        return ErrorCase(args, kwargs, error, rf"^{name}: {match}")

    return (
        error(
            TargetError, r"target at position \(1,\) is 4, must be in \[0, 4\)",
            x, np.array([0, 4]),
        ),
        error(TargetError, r"target at position \(0,\) is -1, must be", x, np.array([-1, -2])),
        error(
            TargetError, r"target at position \(1, 2\) is 9, must be",
            np.zeros((2, 4, 3)), np.array([[0, 1, 2], [3, -100, 9]]),
        ),
        error(TargetError, r"target at position \(\) is 5", np.zeros(4), np.array(5)),
        error(
            ShapeError, r"input of shape \(2, 4\) needs target of shape \(2,\), got \(3,\)",
            x, np.array([0, 1, 2]),
        ),
        error(
            ShapeError, r"input of shape \(2, 4, 3\) needs target of shape \(2, 3\), got \(2,\)",
            np.zeros((2, 4, 3)), t,
        ),
        error(ShapeError, r"weight must have shape \(4,\).* got \(3,\)", x, t, np.ones(3)),
        error(ShapeError, r"input must be .* got shape \(\)", np.zeros(()), np.array(0)),
        error(DTypeError, r"target must .*int64, got bool", x, np.array([True, False])),
        error(DTypeError, r".*input float64, weight float32", x, t, np.ones(4, np.float32)),
        error(DTypeError, r".*int64", np.zeros((2, 4), np.int64), t),
        error(ValueError, r"reduction must be one of .* got 'average'", x, t, reduction="average"),
        error(ValueError, r"reduction must be one of .* got 1", x, t, reduction=1),
        error(TypeError, r"target must be a Tensor, got list", x, [1, 3]),
        error(TypeError, r"target must be a Tensor, got int", x, 1),
        error(TypeError, r"weight must be a Tensor, got list", x, t, [1.0] * 4),
        error(DTypeError, r".*input float64, weight int64", x, t, np.ones(4, np.int64)),
        error(DTypeError, r"ignore_index must be an int, got 1.5", x, t, ignore_index=1.5),
        error(DTypeError, r"ignore_index: .* does not fit", x, t, ignore_index=2**63),
        error(TargetError, r"target at position \(0,\) is 4611686018427387904",
              x, np.array([2**62, 0])),
        error(TargetError, r"target at position \(1,\) is -4611686018427387904",
              x, np.array([0, -(2**62)])),
    )  # fmt: skip


CROSS_ENTROPY_ERRORS = (
    *(
        ErrorCase(
            (np.zeros((2, 4)), np.array([0, 1])), {"label_smoothing": value}, error,
            f"^cross_entropy: label_smoothing must be {match}", torch_raises=raises,
        )
        for value, error, match, raises in (
            (np.nan, ValueError, r"in \[0, 1\], got nan", False),
            (-0.1, ValueError, r"in \[0, 1\], got -0.1", False),
            ("0.1", TypeError, "a number, got '0.1'", True),
            (None, TypeError, "a number, got None", True),
        )
    ),
    ErrorCase(
        (np.zeros((2, 4)), np.array([0, 1])), {"label_smoothing": 1.5},
        ValueError, r"^cross_entropy: label_smoothing must be in \[0, 1\], got 1.5",
    ),
    ErrorCase(
        (np.zeros((2, 4)), np.zeros((2, 3))), {},
        ShapeError, r"^cross_entropy: .*input's shape \(2, 4\), got target of shape \(2, 3\)",
    ),
    ErrorCase(
        (np.zeros((2, 4)), np.zeros((2, 4), np.float32)), {},
        DTypeError, r"^cross_entropy: .*float64.*float32", torch_raises=False,
    ),
    ErrorCase(
        (np.zeros((2, 4)), np.zeros((2, 4))), {"ignore_index": 1},
        ValueError, r"^cross_entropy: ignore_index=1 needs class indices",
    ),
)  # fmt: skip


# Differences --------------------------------------------------------------------------------


@st.composite
def difference_cases(draw: st.DrawFn, beta: bool = False, smooth: bool = False) -> Case:
    """Equal and broadcasting shapes, empty ones, equal elements.

    smooth: differences away from the kinks at 0 and ±beta, for numerical differentiation.
    """
    if smooth:
        shape = draw(shapes(min_side=1, max_side=4))
        input, target = draw(floats(shape, kinds=("normal",))), draw(floats(shape, kinds=("ties",)))
        difference = np.where(input < target, -1, 1) * np.maximum(abs(input - target), 0.1)
        input = target + np.where(abs(abs(difference) - 0.5) < 0.05, 0.3, difference)
    else:
        equal = shapes(max_side=5).map(lambda s: (s, s))
        pairs = st.one_of(equal, equal, broadcastable(min_side=0))
        input, target = (draw(floats(shape)) for shape in draw(pairs))
    kwargs: dict[str, Any] = {"reduction": draw(REDUCTIONS)}
    if beta:
        kwargs["beta"] = draw(st.sampled_from((0.0, 0.5) if smooth else (0.0, 0.5, 1.0, 2.0)))
    elif draw(st.booleans()) and input.shape == target.shape:
        kwargs["weight"] = draw(positive(input.shape))
    return Case((input, target), kwargs)


@st.composite
def huber_cases(draw: st.DrawFn, smooth: bool = False) -> Case:
    drawn = draw(difference_cases(smooth=smooth))
    deltas = (0.5,) if smooth else (0.5, 1.0, 2, np.inf)
    return Case(drawn.args, {**drawn.kwargs, "delta": draw(st.sampled_from(deltas))})


def weighted(drawn: Case) -> Case:
    """With a weight, which every loss treats in its own way."""
    if "weight" in drawn.kwargs or drawn.args[0].shape != drawn.args[1].shape:
        return drawn
    weight = np.linspace(0.5, 2, drawn.args[0].size).reshape(drawn.args[0].shape)
    return Case(drawn.args, {**drawn.kwargs, "weight": weight})


def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Without the warning about broadcasting, which the tests of losses check by themselves."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return function(*args, **kwargs)

    return call


def _difference_errors(name: str) -> tuple[ErrorCase, ...]:
    return (
        ErrorCase(
            (np.zeros((2, 3)), np.zeros((2, 4))), {},
            ShapeError, rf"^{name}: shapes \(2, 3\) and \(2, 4\) do not broadcast",
        ),
        ErrorCase(
            (np.zeros(3), np.zeros(3)), {"reduction": "average"},
            ValueError, rf"^{name}: reduction must be one of .* got 'average'",
        ),
        ErrorCase(
            (np.zeros(3), [0.0, 0.0, 0.0]), {},
            TypeError, rf"^{name}: target must be a Tensor, got list",
        ),
        ErrorCase((np.zeros(3), 1.0), {}, TypeError, rf"^{name}: target must be a .* got float"),
        ErrorCase(
            (np.zeros(3), np.zeros(3)), {"reduction": ["mean"]},
            ValueError, rf"^{name}: reduction must be one of .* got \['mean'\]",
        ),
    )  # fmt: skip


def _weight_error(name: str) -> ErrorCase:
    return ErrorCase(
        (np.zeros((3, 2)), np.zeros((3, 2))), {"weight": np.ones(2)},
        ShapeError, rf"^{name}: weight must have input's shape \(3, 2\), got \(2,\)",
    )  # fmt: skip


SPECS = [
    OpSpec(
        name="cross_entropy",
        function=cross_entropy,
        oracle=lambda torch, *args, **kwargs: torch.nn.functional.cross_entropy(*args, **kwargs),
        cases=index_cases(),
        gradcheck_cases=index_cases(smooth=True),
        gradient_scale=1.0,
        errors=(*_target_errors("cross_entropy"), *CROSS_ENTROPY_ERRORS),
    ),
    OpSpec(
        name="cross_entropy of class probabilities",
        function=cross_entropy,
        oracle=lambda torch, *args, **kwargs: torch.nn.functional.cross_entropy(*args, **kwargs),
        cases=probability_cases(),
        gradcheck_cases=probability_cases(smooth=True),
        gradient_scale=1.0,
    ),
    OpSpec(
        name="nll_loss",
        function=nll_loss,
        oracle=lambda torch, *args, **kwargs: torch.nn.functional.nll_loss(*args, **kwargs),
        cases=index_cases(smoothing=False),
        gradcheck_cases=index_cases(smooth=True, smoothing=False),
        errors=_target_errors("nll_loss"),
    ),
    OpSpec(
        name="mse_loss",
        accepts_mixed_dtypes=True,
        function=quiet(mse_loss),
        oracle=quiet(
            lambda torch, *args, **kwargs: torch.nn.functional.mse_loss(*args, **kwargs)
        ),
        cases=difference_cases(),
        gradcheck_cases=difference_cases(smooth=True),
        # The weight's gradient is (d² − the mean of all d²)/Σw: 0 for a single element.
        gradient_scale=1.0,
        errors=(*_difference_errors("mse_loss"), _weight_error("mse_loss")),
    ),
    OpSpec(
        name="l1_loss",
        accepts_mixed_dtypes=True,
        function=quiet(l1_loss),
        oracle=quiet(
            lambda torch, *args, **kwargs: torch.nn.functional.l1_loss(*args, **kwargs)
        ),
        cases=difference_cases(),
        gradcheck_cases=difference_cases(smooth=True),
        errors=(*_difference_errors("l1_loss"), _weight_error("l1_loss")),
    ),
    OpSpec(
        name="smooth_l1_loss",
        accepts_mixed_dtypes=True,
        function=quiet(smooth_l1_loss),
        oracle=quiet(
            lambda torch, *args, **kwargs: torch.nn.functional.smooth_l1_loss(*args, **kwargs)
        ),
        cases=difference_cases(beta=True),
        gradcheck_cases=difference_cases(beta=True, smooth=True),
        errors=(
            *_difference_errors("smooth_l1_loss"),
            ErrorCase(
                (np.zeros(3), np.zeros(3)), {"beta": -1.0},
                ValueError, r"^smooth_l1_loss: beta must be at least 0, got -1",
            ),
            *(
                ErrorCase(
                    (np.zeros(3), np.zeros(3)), {"beta": beta},
                    error, f"^smooth_l1_loss: beta {match}", torch_raises=raises,
                )
                for beta, error, match, raises in (
                    (np.nan, ValueError, "must be at least 0, got nan", False),
                    ("1", TypeError, "must be a number, got '1'", True),
                    (10**400, ValueError, "does not fit float64", True),
                )
            ),
        ),
    ),
    OpSpec(
        name="huber_loss",
        function=quiet(huber_loss),
        oracle=quiet(lambda torch, *args, **kw: torch.nn.functional.huber_loss(*args, **kw)),
        cases=st.one_of(huber_cases(), huber_cases().map(weighted)),
        gradcheck_cases=huber_cases(smooth=True),
        errors=(
            ErrorCase(
                (np.zeros(3), np.zeros(3)), {"delta": 0},
                ValueError, r"^huber_loss: delta must be a positive number, got 0",
            ),
            ErrorCase(
                (np.zeros(3), np.zeros(3)), {"delta": "1"},
                TypeError, r"^huber_loss: delta must be a number, got '1'",
            ),
            ErrorCase(
                (np.zeros(3), np.zeros(3, np.float32)), {},
                DTypeError, r"^huber_loss: .*input float64, target float32", torch_raises=False,
            ),
            ErrorCase(
                (np.zeros(3), np.zeros(3, np.int64)), {},
                DTypeError, r"^huber_loss: .*input float64, target int64", torch_raises=False,
            ),
            *_difference_errors("huber_loss"),
            _weight_error("huber_loss"),
        ),
    ),
]  # fmt: skip
