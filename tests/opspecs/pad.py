"""Padding in its four modes. Forward copies, so values are compared bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.ops.pad import pad
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import floats


@st.composite
def amounts(draw: st.DrawFn, size: int, mode: str) -> tuple[int, int]:
    """(before, after) that torch takes for one axis, up to its limits and with cuts."""
    cut = draw(st.integers(0, 3)) == 0
    if mode == "constant":
        before = draw(st.integers(-size if cut else 0, 3))
        return before, draw(st.integers(-max(0, size + min(before, 0)) if cut else 0, 3))
    if mode == "circular":
        before = -draw(st.integers(0, size - 1)) if cut else 0
        rest = size + before
        after = draw(st.integers(0, rest))
        pair = (before, after) if cut else (draw(st.integers(0, size)), after)
        return pair if draw(st.booleans()) else pair[::-1]
    most = size - 1 if mode == "reflect" else 4
    before = draw(st.integers(1 - size if cut else 0, most))
    return before, draw(st.integers(max(1 - size, 1 - size - before) if cut else 0, most))


@st.composite
def pad_cases(draw: st.DrawFn, mode: str) -> Case:
    if mode == "constant":
        shape = tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=5)))
        padded = draw(st.integers(0, len(shape)))
    else:
        padded = draw(st.sampled_from((1, 2, 2, 3)))
        sizes = draw(st.lists(st.integers(1, 4), min_size=padded, max_size=padded))
        channels = draw(st.sampled_from((1, 3, 17)))
        batch = [draw(st.integers(0, 2))] if draw(st.booleans()) else []
        shape = (*batch, channels, *sizes)
    numbers: list[int] = []
    for k in range(padded):
        numbers += draw(amounts(shape[-1 - k], mode))
    arguments: dict[str, Any] = {"mode": mode}
    if mode == "constant":
        arguments = {"value": draw(st.sampled_from((None, 0, 1.5, -2, True)))}
    x = draw(floats(shape, nan=draw(st.integers(0, 5)) == 0))
    return Case((x, draw(st.sampled_from((tuple, list)))(numbers)), arguments)


def _errors(mode: str) -> tuple[ErrorCase, ...]:
    x = np.zeros((1, 2, 3, 4))
    calls: list[tuple[np.ndarray, Any, dict[str, Any], type[Exception], str]] = [
        (x, (1,), {}, ShapeError, r"two numbers for each of at most 4 axes, got \(1,\)"),
        (x, (1,) * 10, {}, ShapeError, r"at most 4 axes.*\(1, 2, 3, 4\)"),
        (x, (1.5, 1), {}, DTypeError, r"pad must be a sequence of ints, got \(1.5, 1\)"),
        (x, 1, {}, DTypeError, r"pad must be a sequence of ints, got 1"),
        (x, (2**40, 0, 0, 0), {}, ShapeError, r"an axis of 4 padded by \(1099511627776, 0\)"),
    ]
    if mode == "constant":
        calls += [
            (x, (1, 1), {"mode": "mirror"}, ValueError, r"mode must be one of .*got 'mirror'"),
            (x, (1, 1), {"value": "0"}, TypeError, r"value must be a number, got '0'"),
            (x, (-3, -2), {}, ShapeError, r"an axis of 4 padded by \(-3, -2\) would have -1"),
        ]
    else:
        calls += [
            (x, (1, 1), {}, ShapeError, r"pads the last 1, 2 or 3 axes.*\(1, 2, 3, 4\)"),
            (x, (1, 1, 0, -3), {}, ShapeError, r"an axis of 3 padded by \(0, -3\) would have 0")
            if mode != "circular"
            else (x, (5, 0, 0, 0), {}, ShapeError, r"up to the axis' size.*\(5, 0\).* size of 4"),
            (x, (1, 1, 1, 1), {"value": 1.0}, ValueError, r"takes no value, got 1.0"),
        ]
    if mode == "reflect":
        calls += [
            (x, (4, 0, 0, 0), {}, ShapeError, r"below the axis' size of 4, got \(4, 0\)"),
            (x[:, :0], (1, 1, 1, 1), {}, ShapeError, r"allows only the batch to be empty"),
        ]
    # Some releases of torch take a pad that leaves nothing of an axis.
    differs = [(1, 1, 0, -3)] if mode in ("reflect", "replicate") else []
    return tuple(
        ErrorCase((a, p), {"mode": mode} | kw, error, f"pad: .*{match}", p not in differs)
        for a, p, kw, error, match in calls
    )


SPECS: list[OpSpec] = [
    OpSpec(
        name=f"pad_{mode}",
        function=pad,
        oracle=lambda torch, *args, **kwargs: torch.nn.functional.pad(*args, **kwargs),
        cases=pad_cases(mode),
        exact=True,
        accepts_integers=True,
        errors=_errors(mode),
    )
    for mode in ("constant", "reflect", "replicate", "circular")
]
