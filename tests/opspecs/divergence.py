"""binary_cross_entropy, of probabilities and of logits, and kl_div."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError, TargetError
from minigrad.ops.divergence import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    kl_div,
)
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import floats, positive, shapes

from .loss import quiet

SIDES: dict[str, Any] = {"max_dims": 3, "max_side": 5, "min_side": 0}
REDUCTIONS = st.sampled_from(("mean", "sum", "none"))


@st.composite
def binary_cases(draw: st.DrawFn, smooth: bool = False) -> Case:
    """Probabilities, some so near to 0 and 1 that the logarithm's limit matters, or there."""
    shape = draw(shapes(**SIDES))
    x = np.asarray(np.array(draw(floats(shape, kinds=("uniform",)))) * 0.9 + 0.05)
    target = np.asarray(np.array(draw(floats(shape, kinds=("uniform",)))) * 0.9 + 0.05)
    constant: set[int | str] = {"weight"}
    if not smooth and draw(st.booleans()):
        target = np.asarray(np.round(target))
    if not smooth and x.size and draw(st.booleans()):
        edges = np.array([0.0, 1.0, 1e-30, 1e-44, 1e-5, 1 - 2.0**-20])
        x.reshape(-1)[:: draw(st.integers(1, 3))] = edges[draw(st.integers(0, 5))]
        # Where x is 0 or 1 the slope in the target is infinite.
        constant |= {1} if ((x == 0) | (x == 1)).any() and draw(st.booleans()) else set()
    keywords: dict[str, Any] = {"reduction": draw(REDUCTIONS)}
    if draw(st.booleans()):
        keywords["weight"] = draw(positive(shape[draw(st.integers(0, len(shape))) :]))
    return Case((x, target), keywords, frozenset(constant))


@st.composite
def logits_cases(draw: st.DrawFn, wide: bool) -> Case:
    shape = draw(shapes(**SIDES))
    x = np.asarray(np.array(draw(floats(shape, nan=wide))) * draw(st.sampled_from((1, 30, 500))))
    if not wide:
        x = np.asarray(draw(floats(shape)))
    # Hard and soft targets.
    target = draw(floats(shape, kinds=("uniform",)))
    if draw(st.booleans()):
        target = np.asarray(np.round(target))
    keywords: dict[str, Any] = {"reduction": draw(REDUCTIONS)}
    constant = {"weight", "pos_weight"}
    for name in ("weight", "pos_weight"):
        if draw(st.booleans()):
            keywords[name] = draw(positive(shape[draw(st.integers(0, len(shape))) :]))
    return Case((x, target), keywords, frozenset(constant))


@st.composite
def kl_div_cases(draw: st.DrawFn, smooth: bool = False) -> Case:
    shape = draw(shapes(**SIDES))
    log_target = draw(st.booleans())
    x = draw(floats(shape, nan=not smooth and draw(st.booleans())))
    target = draw(floats(shape) if log_target else positive(shape))
    reduction = draw(st.sampled_from(("mean", "sum", "none", "batchmean")))
    return Case((x, target), {"reduction": reduction, "log_target": log_target})


@st.composite
def kl_div_zero_cases(draw: st.DrawFn) -> Case:
    """Targets of exactly 0, where the gradient of the target has no value."""
    drawn = draw(kl_div_cases())
    target = np.array(drawn.args[1])
    if not drawn.kwargs["log_target"] and target.size:
        target.reshape(-1)[:: draw(st.integers(1, 3))] = 0
    return Case((drawn.args[0], target), drawn.kwargs, frozenset({1}))


BCE = "binary_cross_entropy_with_logits"
X, T = np.zeros((2, 3)), np.ones((2, 3))
SPECS: list[OpSpec] = [
    OpSpec(
        name="binary_cross_entropy",
        function=binary_cross_entropy,
        oracle=lambda torch, *args, **kw: torch.nn.functional.binary_cross_entropy(*args, **kw),
        cases=binary_cases(),
        gradcheck_cases=binary_cases(smooth=True),
        errors=tuple(
            ErrorCase(args, kw, error, f"^binary_cross_entropy: .*{match}", torch_raises=raises)
            for args, kw, error, match, raises in (
                ((X + 1.5, T), {}, TargetError, r"input must be .*from 1.5 to 1.5", True),
                ((X - 1e-9, T), {}, TargetError, r"input must be .*from -1e-09 to -1e-09", True),
                ((X * np.nan, T), {}, TargetError, r"input must be .*from nan to nan", True),
                ((X, T * 2), {}, TargetError, r"target must be .*from 2.0 to 2.0", True),
                ((X, T * np.inf), {}, TargetError, r"target must be .*from inf to inf", True),
                ((X, T[0]), {}, ShapeError, r"input's shape \(2, 3\), got \(3,\)", True),
                ((X, T, T[0, :2]), {}, ShapeError, r"weight: .*\(2, 3\) and \(2,\)", True),
                ((X, T, np.ones((4, 2, 3))), {}, ShapeError, r"of shape \(4, 2, 3\)", True),
                ((X, T), {"reduction": None}, ValueError, r"reduction must be .*None", True),
                ((X, 1.0), {}, TypeError, r"target must be a Tensor, got float", True),
                ((X, T.astype(np.int64)), {}, DTypeError, r"target int64", True),
            )
        ),
    ),
    OpSpec(
        name=BCE,
        function=binary_cross_entropy_with_logits,
        accepts_mixed_dtypes=True,
        oracle=lambda torch, *args, **kw: torch.nn.functional.binary_cross_entropy_with_logits(
            *args, **kw
        ),
        cases=logits_cases(wide=True),
        gradcheck_cases=logits_cases(wide=False),
        errors=tuple(
            ErrorCase(args, kw, error, f"{BCE}: .*{match}", torch_raises=raises)
            for args, kw, error, match, raises in (
                ((X, T[:1]), {}, ShapeError, r"input's shape \(2, 3\), got \(1, 3\)", True),
                ((X, T), {"reduction": "max"}, ValueError, r"reduction must be .*'max'", True),
                ((X, T), {"pos_weight": T[0, :2]}, ShapeError, r"\(2, 3\) and \(2,\)", True),
                (
                    (X, T),
                    {"weight": np.ones((4, 2, 3))},
                    ShapeError,
                    r"of shape \(4, 2, 3\)",
                    False,
                ),
                ((X, None), {}, TypeError, r"target must be a Tensor, got NoneType", True),
                ((X, T.astype(np.int64)), {}, DTypeError, r"target int64", True),
            )
        ),
    ),
    OpSpec(
        name="kl_div",
        accepts_mixed_dtypes=True,
        function=quiet(kl_div),
        oracle=quiet(lambda torch, *args, **kw: torch.nn.functional.kl_div(*args, **kw)),
        cases=st.one_of(kl_div_cases(), kl_div_zero_cases()),
        gradcheck_cases=kl_div_cases(smooth=True),
        errors=(
            ErrorCase((X, T), {"reduction": "max"}, ValueError, r"reduction must be .*'max'"),
            ErrorCase((X, T[:, :2]), {}, ShapeError, r"kl_div: shapes \(2, 3\) and \(2, 2\)"),
            ErrorCase((X, None), {}, TypeError, r"kl_div: target must be a Tensor"),
        ),
    ),
]
