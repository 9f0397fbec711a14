"""Pooling: maximum and average, over ordinary and adaptive windows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from minigrad import DTypeError, ShapeError
from minigrad.geometry import pool_output_size
from minigrad.ops.pool import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    lp_pool2d,
    max_pool2d,
)
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import batch_sizes, distinct, floats, sizes_around

# Cells that the windows of one case read, all together: the reference backend is slow.
BUDGET = 8000

# Full vectors of channels, parts of one, single channels, and two of these together.
CHANNELS = (1, 2, 3, 4, 5, 16, 17, 22)


class Axis(NamedTuple):
    """One axis of a pooling."""

    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int


@st.composite
def axes(
    draw: st.DrawFn, dilated: bool, ceil_mode: bool, stride_is_kernel: bool, padded: bool = True
) -> Axis:
    """Sizes at the edges of the window. The window of 17 makes positions that overflow a byte."""
    kernel = draw(st.sampled_from((1, 2, 2, 3, 3, 4, 5, 17)))
    dilation = draw(st.sampled_from((1, 1, 2, 3))) if dilated and kernel < 17 else 1
    stride = kernel if stride_is_kernel else draw(st.sampled_from((1, 2, 3)))
    padding = draw(st.integers(0, kernel // 2)) if padded else 0
    span = dilation * (kernel - 1) + 1
    if ceil_mode and draw(st.booleans()):
        # Smaller than the window, which ceil_mode lets reach past the end.
        size = max(1, span - 2 * padding - draw(st.integers(0, stride - 1)))
    else:
        size = draw(sizes_around(span, stride, padding))
    # Where padding and dilation make a window miss the input, torch returns a position outside it.
    if padding and dilation > 1:
        size = max(size, dilation)
    return Axis(size, kernel, stride, padding, dilation)


def int_or_pair(draw: st.DrawFn, pair: tuple[int, int]) -> int | tuple[int, int]:
    return pair[0] if pair[0] == pair[1] and draw(st.booleans()) else pair


def input_shape(draw: st.DrawFn, H: int, W: int, cells: int) -> tuple[int, ...]:
    """Batched or not, with as many channels as the budget allows."""
    N = draw(batch_sizes(2))
    affordable = [C for C in CHANNELS if max(N, 1) * C * cells <= BUDGET]
    C = draw(st.sampled_from(affordable or [1]))
    return (C, H, W) if draw(st.booleans()) and draw(st.booleans()) else (N, C, H, W)


def positional_or_keywords(
    draw: st.DrawFn, input: np.ndarray, arguments: dict[str, Any], least: int = 1
) -> Case:
    """Some arguments by position, the rest by name: torch's order and torch's names."""
    count = draw(st.integers(least, len(arguments)))
    items = list(arguments.items())
    return Case((input, *(value for _, value in items[:count])), dict(items[count:]))


def windows(
    draw: st.DrawFn, dilated: bool, padded: bool = True
) -> tuple[Axis, Axis, bool, bool, int]:
    """Two axes, whether stride is left to its default, ceil_mode, and the cells of one channel."""
    ceil_mode, default_stride = draw(st.booleans()), draw(st.booleans())
    rows, cols = (draw(axes(dilated, ceil_mode, default_stride, padded)) for _ in range(2))
    cells = 1
    for axis in (rows, cols):
        cells *= axis.kernel * pool_output_size(*axis, ceil_mode)
    return rows, cols, default_stride, ceil_mode, cells


def maxima_values(shape: tuple[int, ...]) -> SearchStrategy[np.ndarray]:
    """Ties and ±0, NaN and infinities, sometimes nothing but −inf."""
    return st.one_of(
        floats(shape),
        floats(shape, nan=True, inf=True),
        st.just(np.full(shape, -np.inf)),
    )


@st.composite
def max_pool2d_cases(draw: st.DrawFn, smooth: bool = False) -> Case:
    rows, cols, default_stride, ceil_mode, cells = windows(draw, dilated=True)
    shape = input_shape(draw, rows.size, cols.size, cells)
    return positional_or_keywords(
        draw,
        draw(distinct(shape) if smooth else maxima_values(shape)),
        {
            "kernel_size": int_or_pair(draw, (rows.kernel, cols.kernel)),
            "stride": None if default_stride else int_or_pair(draw, (rows.stride, cols.stride)),
            "padding": int_or_pair(draw, (rows.padding, cols.padding)),
            "dilation": int_or_pair(draw, (rows.dilation, cols.dilation)),
            "ceil_mode": ceil_mode,
            "return_indices": draw(st.booleans()),
        },
    )


@st.composite
def avg_pool2d_cases(draw: st.DrawFn, smooth: bool = False) -> Case:
    rows, cols, default_stride, ceil_mode, cells = windows(draw, dilated=False)
    shape = input_shape(draw, rows.size, cols.size, cells)
    special = not smooth and draw(st.booleans())
    return positional_or_keywords(
        draw,
        draw(floats(shape, nan=special, inf=special)),
        {
            "kernel_size": int_or_pair(draw, (rows.kernel, cols.kernel)),
            "stride": None if default_stride else int_or_pair(draw, (rows.stride, cols.stride)),
            "padding": int_or_pair(draw, (rows.padding, cols.padding)),
            "ceil_mode": ceil_mode,
            "count_include_pad": draw(st.booleans()),
            "divisor_override": draw(st.sampled_from((None, None, 1, 3, -2))),
        },
    )


@st.composite
def adaptive_output(draw: st.DrawFn) -> tuple[int, int, Any, int]:
    """H, W, output_size, and the cells of one channel; there may be more windows than rows."""
    H, W = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    if draw(st.booleans()):
        output_size: Any = draw(st.sampled_from((1, 1, 2, 3, 5)))
        return H, W, output_size, (H + 5) * (W + 5)
    choices = st.one_of(st.none(), st.integers(1, 11))
    return H, W, (draw(choices), draw(choices)), (H + 11) * (W + 11)


@st.composite
def adaptive_max_pool2d_cases(draw: st.DrawFn, smooth: bool = False) -> Case:
    H, W, output_size, cells = draw(adaptive_output())
    shape = input_shape(draw, H, W, cells)
    return positional_or_keywords(
        draw,
        draw(distinct(shape) if smooth else maxima_values(shape)),
        {"output_size": output_size, "return_indices": draw(st.booleans())},
    )


@st.composite
def adaptive_avg_pool2d_cases(draw: st.DrawFn, smooth: bool = False) -> Case:
    H, W, output_size, cells = draw(adaptive_output())
    shape = input_shape(draw, H, W, cells)
    special = not smooth and draw(st.booleans())
    values = floats(shape, nan=special, inf=special)
    return positional_or_keywords(draw, draw(values), {"output_size": output_size})


@st.composite
def lp_pool2d_cases(draw: st.DrawFn, smooth: bool = False) -> Case:
    """Powers of both signs for p of 1 and 2; else positive numbers, whose powers do not cancel."""
    rows, cols, default_stride, ceil_mode, cells = windows(draw, dilated=False, padded=False)
    shape = input_shape(draw, rows.size, cols.size, cells)
    norm_type = draw(st.sampled_from((1, 2, 2.0, 2, 3, 0.5, 1.5, -2)))
    values = draw(distinct(shape) if smooth else floats(shape))
    if norm_type not in (1, 2) or smooth:
        values = np.abs(values) + 0.5
    return positional_or_keywords(
        draw,
        values,
        {
            "norm_type": norm_type,
            "kernel_size": int_or_pair(draw, (rows.kernel, cols.kernel)),
            "stride": None if default_stride else int_or_pair(draw, (rows.stride, cols.stride)),
            "ceil_mode": ceil_mode,
        },
        least=2,
    )


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape)


def window_errors(name: str, dilated: bool) -> tuple[ErrorCase, ...]:
    """What max_pool2d and avg_pool2d refuse alike."""
    x = zeros(2, 3, 5, 5)
    cases: list[tuple[tuple[Any, ...], type[Exception], str]] = [
        ((zeros(2, 3, 5, 4), (3, 5)), ShapeError, r"a 3×5 window .* exceeds the 5×4 input"),
        ((x, 2, 1, 2), ShapeError, r"padding must be at most half the kernel, got .*\(2, 2\)"),
        ((x, (3, 2), 1, (1, 2)), ShapeError, r"padding must be at most half"),
        ((x, 2, 1, -1), ShapeError, r"padding must be at least 0, got -1"),
        ((x, 2, 0), ShapeError, r"stride must be at least 1, got 0"),
        ((x, 2, (1, 0)), ShapeError, r"stride must be at least 1"),
        ((x, 2, 2**40), ShapeError, r"stride must be at most"),
        ((x, 0), ShapeError, r"kernel_size must be at least 1, got 0"),
        ((x, (2, 2, 2)), ShapeError, r"kernel_size must be an int or a pair"),
        ((x, 2.0), DTypeError, r"kernel_size must be an int or a pair of ints, got 2.0"),
        ((zeros(5, 5), 2), ShapeError, r"input must be \(N, C, H, W\) or \(C, H, W\)"),
        ((zeros(1, 2, 3, 5, 5), 2), ShapeError, r"input must be \(N, C, H, W\)"),
        ((zeros(2, 0, 5, 5), 2), ShapeError, r"only the batch may be empty.*\(2, 0, 5, 5\)"),
        ((zeros(2, 3, 0, 5), 1), ShapeError, r"only the batch may be empty"),
    ]
    if dilated:
        cases += [
            ((x, 3, 1, 0, 3), ShapeError, r"a 3×3 window with dilation \(3, 3\) exceeds"),
            ((x, 2, 1, 2, 3), ShapeError, r"padding must be at most half the kernel"),
            ((x, 2, 1, 0, 0), ShapeError, r"dilation must be at least 1, got 0"),
        ]
    # torch takes integers here; minigrad's kernels are for floating types.
    integers = np.zeros((1, 1, 4, 4), np.int64)
    return (
        *(ErrorCase(args, {}, error, f"{name}: {match}") for args, error, match in cases),
        ErrorCase(
            (integers, 2),
            {},
            DTypeError,
            rf"{name}: input must be float.*int64",
            torch_raises=False,
        ),
    )


def adaptive_errors(name: str) -> tuple[ErrorCase, ...]:
    x = zeros(2, 3, 5, 5)
    cases: list[tuple[tuple[Any, ...], type[Exception], str]] = [
        ((x, -1), ShapeError, r"output_size must be at least 0, got"),
        ((x, (2, 2, 2)), ShapeError, r"output_size must be an int or a pair"),
        ((x, (2.0, 2)), DTypeError, r"output_size must be an int or a pair of ints"),
        ((zeros(5, 5), 2), ShapeError, r"input must be \(N, C, H, W\) or \(C, H, W\)"),
        ((zeros(2, 3, 0, 5), 2), ShapeError, r"only the batch may be empty.*\(2, 3, 0, 5\)"),
        ((np.zeros((1, 1, 4, 4), np.int64), 1), DTypeError, r"input must be float.*int64"),
    ]
    return tuple(ErrorCase(args, {}, error, f"{name}: {match}") for args, error, match in cases)


SPECS: list[OpSpec] = [
    OpSpec(
        name="max_pool2d",
        function=max_pool2d,
        oracle=lambda torch, *args, **kwargs: torch.nn.functional.max_pool2d(*args, **kwargs),
        cases=max_pool2d_cases(),
        gradcheck_cases=max_pool2d_cases(smooth=True),
        errors=window_errors("max_pool2d", dilated=True),
        exact=True,
    ),
    OpSpec(
        name="avg_pool2d",
        function=avg_pool2d,
        oracle=lambda torch, *args, **kwargs: torch.nn.functional.avg_pool2d(*args, **kwargs),
        cases=avg_pool2d_cases(),
        gradcheck_cases=avg_pool2d_cases(smooth=True),
        errors=(
            *window_errors("avg_pool2d", dilated=False),
            ErrorCase(
                (zeros(1, 1, 4, 4), 2),
                {"divisor_override": 0},
                ValueError,
                r"avg_pool2d: divisor_override must not be 0",
            ),
            ErrorCase(
                (zeros(1, 1, 4, 4), 2),
                {"divisor_override": 0.5},
                DTypeError,
                r"avg_pool2d: divisor_override must be an int",
            ),
        ),
        float32_ulps=4.0,
    ),
    OpSpec(
        name="adaptive_max_pool2d",
        function=adaptive_max_pool2d,
        oracle=lambda torch, *args, **kwargs: torch.nn.functional.adaptive_max_pool2d(
            *args, **kwargs
        ),
        cases=adaptive_max_pool2d_cases(),
        gradcheck_cases=adaptive_max_pool2d_cases(smooth=True),
        errors=(
            *adaptive_errors("adaptive_max_pool2d"),
            ErrorCase(
                (zeros(2, 0, 5, 5), 1), {}, ShapeError, r"adaptive_max_pool2d: only the batch"
            ),
        ),
        exact=True,
    ),
    OpSpec(
        name="adaptive_avg_pool2d",
        function=adaptive_avg_pool2d,
        oracle=lambda torch, *args, **kwargs: torch.nn.functional.adaptive_avg_pool2d(
            *args, **kwargs
        ),
        cases=adaptive_avg_pool2d_cases(),
        gradcheck_cases=adaptive_avg_pool2d_cases(smooth=True),
        errors=adaptive_errors("adaptive_avg_pool2d"),
        float32_ulps=4.0,
    ),
    OpSpec(
        name="lp_pool2d",
        function=lp_pool2d,
        oracle=lambda torch, *args, **kwargs: torch.nn.functional.lp_pool2d(*args, **kwargs),
        cases=lp_pool2d_cases(),
        gradcheck_cases=lp_pool2d_cases(smooth=True),
        errors=(
            ErrorCase((zeros(1, 1, 4, 4), 2, 5), {}, ShapeError, r"lp_pool2d: a 5×5 window"),
            ErrorCase((zeros(5, 5), 2, 2), {}, ShapeError, r"lp_pool2d: input must be \(N, C"),
            ErrorCase(
                (zeros(1, 1, 4, 4), 0, 2),
                {},
                ValueError,
                r"norm_type must not be 0",
                torch_raises=False,
            ),
            ErrorCase((zeros(1, 1, 4, 4), "2", 2), {}, TypeError, r"norm_type must be a number"),
        ),
    ),
]
