"""Unfold and fold."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.ops.unfold import fold, unfold
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import floats

from .conv import KERNELS, axes, int_or_pair


@st.composite
def unfold_cases(draw: st.DrawFn, folded: bool) -> Case:
    kH, kW = draw(st.sampled_from(KERNELS))
    H, stride_h, pad_h, dilation_h, H_out = draw(axes(kH, False, None))
    W, stride_w, pad_w, dilation_w, W_out = draw(axes(kW, False, None))
    N = draw(st.sampled_from((0, 1, 2, 3)))
    C = draw(st.sampled_from((1, 2, 3)))
    shape = (C * kH * kW, H_out * W_out) if folded else (C, H, W)
    if N != 1 or draw(st.booleans()):
        shape = (N, *shape)
    arguments: dict[str, Any] = {
        "kernel_size": int_or_pair(draw, (kH, kW)),
        "dilation": int_or_pair(draw, (dilation_h, dilation_w)),
        "padding": int_or_pair(draw, (pad_h, pad_w)),
        "stride": int_or_pair(draw, (stride_h, stride_w)),
    }
    if folded:
        arguments = {"output_size": int_or_pair(draw, (H, W))} | arguments
    count = draw(st.integers(0, len(arguments)))
    items = list(arguments.items())
    x = draw(floats(shape, nan=draw(st.integers(0, 5)) == 0))
    return Case((x, *(value for _, value in items[:count])), dict(items[count:]))


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape)


def unfold_errors() -> tuple[ErrorCase, ...]:
    x = zeros(2, 3, 5, 6)
    calls: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
        ((zeros(5, 6), 2), {}, ShapeError, r"input must be \(N, C, H, W\) or \(C, H, W\)"),
        ((x, 6), {}, ShapeError, r"a 6×6 kernel .*does not fit the 5×6 image padded to 5×6"),
        ((x, 2), {"dilation": 5}, ShapeError, r"with dilation \(5, 5\) does not fit the 5×6"),
        ((x, 0), {}, ShapeError, r"kernel_size must be at least 1, got 0"),
        ((x, 2), {"stride": 0}, ShapeError, r"stride must be at least 1, got 0"),
        ((x, 2), {"padding": -1}, ShapeError, r"padding must be at least 0, got -1"),
        ((x, 2.0), {}, DTypeError, r"kernel_size must be an int or a pair of ints, got 2.0"),
        ((zeros(2, 3, 0, 6), 1), {"padding": 1}, ShapeError, r"only the batch may be empty"),
    ]
    return tuple(ErrorCase(args, kw, error, f"unfold: .*{m}") for args, kw, error, m in calls)


def fold_errors() -> tuple[ErrorCase, ...]:
    x = zeros(2, 12, 20)
    calls: list[tuple[tuple[Any, ...], type[Exception], str]] = [
        ((zeros(12), (5, 6), 2), ShapeError, r"input must be \(N, C·kH·kW, L\).*\(12,\)"),
        ((zeros(2, 13, 20), (5, 6), 2), ShapeError, r"the 13 rows .*multiple of the 4 elements"),
        ((x, (5, 7), 2), ShapeError, r"output_size \(5, 7\) has 4×6 = 24 windows, got 20"),
        ((x, (1, 6), 2), ShapeError, r"a 2×2 kernel .*does not fit the 1×6 image"),
        ((x, (5, 6), 0), ShapeError, r"kernel_size must be at least 1, got 0"),
        ((x, (0, 6), 2), ShapeError, r"output_size must be at least 1"),
        ((x, (5, 6, 7), 2), ShapeError, r"output_size must be an int or a pair"),
    ]
    return tuple(ErrorCase(args, {}, error, f"fold: .*{m}") for args, error, m in calls)


SPECS: list[OpSpec] = [
    OpSpec(
        name="unfold",
        function=unfold,
        oracle=lambda torch, *args, **kwargs: torch.nn.functional.unfold(*args, **kwargs),
        cases=unfold_cases(folded=False),
        exact=True,
        errors=unfold_errors(),
    ),
    OpSpec(
        name="fold",
        function=fold,
        oracle=lambda torch, *args, **kwargs: torch.nn.functional.fold(*args, **kwargs),
        cases=unfold_cases(folded=True),
        errors=fold_errors(),
    ),
]
