"""Convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.geometry import conv_output_size, conv_transpose_output_size
from minigrad.ops.conv import conv2d, conv_transpose2d
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import floats, sizes_around

# Multiply-adds of one case: the reference backend is slow.
BUDGET = 12_000

KERNELS = ((1, 1), (2, 2), (3, 3), (5, 5), (1, 3), (3, 2))

# (groups, input channels of a group, output channels of a group). One channel, parts of a vector,
# a full vector and one more, more than two; few and many input channels; depthwise convolution
# with one and with two filters a channel; groups that are vectors wide and groups that are not.
CHANNELS = (
    (1, 1, 1), (1, 3, 8), (1, 1, 16), (1, 3, 17), (1, 8, 3), (1, 8, 8), (1, 15, 1), (1, 16, 16),
    (1, 17, 15), (1, 2, 33), (1, 33, 3), (1, 33, 33),
    (2, 1, 1), (2, 8, 3), (2, 3, 16), (2, 9, 17), (3, 1, 5), (3, 4, 2), (8, 1, 1), (3, 1, 2),
    (17, 1, 1), (33, 1, 2),
)  # fmt: skip


@st.composite
def axes(
    draw: st.DrawFn, kernel: int, same: bool, padding: int | None
) -> tuple[int, int, int, int, int]:
    """(size, stride, padding, dilation, outputs): sizes that leave a last column unused, too."""
    stride = 1 if same else draw(st.sampled_from((1, 1, 2, 3)))
    dilation = draw(st.sampled_from((1, 1, 2, 3)))
    span = dilation * (kernel - 1) + 1
    if padding is None:
        # More padding than the kernel reaches makes outputs of the bias alone.
        padding = draw(st.sampled_from((0, 1, 2, span)))
    size = draw(st.integers(1, 5)) if same else draw(sizes_around(span, stride, padding))
    outputs = size if same else conv_output_size(size, kernel, stride, 2 * padding, dilation)
    return size, stride, padding, dilation, outputs


def int_or_pair(draw: st.DrawFn, pair: tuple[int, int]) -> int | tuple[int, int]:
    return pair[0] if pair[0] == pair[1] and draw(st.booleans()) else pair


@st.composite
def conv2d_cases(draw: st.DrawFn) -> Case:
    kH, kW = draw(st.sampled_from(KERNELS))
    named = draw(st.sampled_from((None, None, None, "same", "valid")))
    fixed = 0 if named else None
    rows, cols = (draw(axes(k, named == "same", fixed)) for k in (kH, kW))
    H, stride_h, pad_h, dilation_h, H_out = rows
    W, stride_w, pad_w, dilation_w, W_out = cols

    N = draw(st.sampled_from((0, 1, 2, 8, 9)))
    unit = max(N, 1) * H_out * W_out * kH * kW
    affordable = [c for c in CHANNELS if unit * c[0] * c[1] * c[2] <= BUDGET]
    groups, C_group, K_out = draw(st.sampled_from(affordable or [CHANNELS[0]]))
    C_in, C_out = groups * C_group, groups * K_out

    shape = (C_in, H, W) if draw(st.booleans()) and draw(st.booleans()) else (N, C_in, H, W)
    special = draw(st.integers(0, 7)) == 0
    arguments: dict[str, Any] = {
        "bias": draw(floats((C_out,))) if draw(st.booleans()) else None,
        "stride": int_or_pair(draw, (stride_h, stride_w)),
        "padding": named or int_or_pair(draw, (pad_h, pad_w)),
        "dilation": int_or_pair(draw, (dilation_h, dilation_w)),
        "groups": groups,
    }
    # Some by position, the rest by name: torch's order and torch's names.
    count = draw(st.integers(0, len(arguments)))
    items = list(arguments.items())
    return Case(
        (
            draw(floats(shape, nan=special)),
            draw(floats((C_out, C_group, kH, kW))),
            *(value for _, value in items[:count]),
        ),
        dict(items[count:]),
    )


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape)


def bad_calls() -> tuple[ErrorCase, ...]:
    x, w = zeros(2, 4, 5, 5), zeros(6, 4, 3, 3)
    calls: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
        ((zeros(2, 3, 5, 5), w), {}, ShapeError,
         r"weight of shape \(6, 4, 3, 3\) .*expects 4 input channels.*\(2, 3, 5, 5\)"),
        ((zeros(8, 1024, 768), zeros(16, 3, 5, 5)), {"padding": 1, "stride": 2}, ShapeError,
         r"expects 3 input channels"),
        ((x, w), {"groups": 2}, ShapeError, r"groups=2 expects 8 input channels"),
        ((x, zeros(6, 1, 3, 3)), {"groups": 4}, ShapeError,
         r"groups must be a positive divisor of the 6 output channels, got 4"),
        ((x, w), {"groups": 0}, ShapeError, r"groups must be a positive divisor.*got 0"),
        ((x, w), {"groups": -1}, ShapeError, r"groups must be a positive divisor.*got -1"),
        ((x, zeros(6, 4, 3)), {}, ShapeError, r"weight must have 4 dimensions.*\(6, 4, 3\)"),
        ((x, w, zeros(5)), {}, ShapeError, r"bias must have shape \(6,\), got \(5,\)"),
        ((x, w, zeros(6, 1)), {}, ShapeError, r"bias must have shape \(6,\), got \(6, 1\)"),
        ((zeros(2, 4, 2, 5), w), {}, ShapeError,
         r"a 3×3 kernel .*does not fit the 2×5 input padded to 2×5"),
        ((x, w), {"dilation": 3}, ShapeError, r"with dilation \(3, 3\) does not fit the 5×5"),
        ((x, w), {"stride": 0}, ShapeError, r"stride must be at least 1, got 0"),
        ((x, w), {"stride": (1, -1)}, ShapeError, r"stride must be at least 1"),
        ((x, w), {"stride": (1, 1, 1)}, ShapeError, r"stride must be an int or a pair"),
        ((x, w), {"stride": 1.0}, DTypeError, r"stride must be an int or a pair of ints, got 1.0"),
        ((x, w), {"dilation": 0}, ShapeError, r"dilation must be at least 1, got 0"),
        ((x, w), {"padding": -1}, ShapeError, r"padding must be at least 0, got -1"),
        ((x, w), {"padding": "full"}, ValueError, r"padding must be 'same', 'valid'.*'full'"),
        ((x, w), {"padding": "same", "stride": 2}, ValueError, r"'same' needs stride 1"),
        ((zeros(4, 5), w), {}, ShapeError, r"input must be \(N, C, H, W\) or \(C, H, W\)"),
        ((zeros(1, 2, 4, 5, 5), w), {}, ShapeError, r"input must be \(N, C, H, W\)"),
        ((x.astype(np.float32), w), {}, DTypeError, r"one dtype, got input float32, weight"),
        ((x, w, np.zeros(6, np.float32)), {}, DTypeError, r"bias float32"),
    ]  # fmt: skip
    return tuple(ErrorCase(args, kw, error, f"conv2d: .*{m}") for args, kw, error, m in calls)


@st.composite
def transposed_axes(draw: st.DrawFn, kernel: int) -> tuple[int, int, int, int, int, int]:
    """(size, stride, padding, dilation, output_padding, outputs)."""
    stride = draw(st.sampled_from((1, 2, 2, 3)))
    dilation = draw(st.sampled_from((1, 1, 2, 3)))
    span = dilation * (kernel - 1) + 1
    size = draw(st.integers(1, 4))
    extra = draw(st.integers(0, max(stride, dilation) - 1))
    # As much padding as leaves an output, or none, or some.
    most = ((size - 1) * stride + span + extra - 1) // 2
    padding = draw(st.sampled_from(sorted({0, min(1, most), min(2, most), most})))
    outputs = conv_transpose_output_size(size, kernel, stride, padding, dilation, extra)
    return size, stride, padding, dilation, extra, outputs


@st.composite
def conv_transpose2d_cases(draw: st.DrawFn) -> Case:
    kH, kW = draw(st.sampled_from(KERNELS))
    rows, cols = (draw(transposed_axes(k)) for k in (kH, kW))
    H, stride_h, pad_h, dilation_h, extra_h, _ = rows
    W, stride_w, pad_w, dilation_w, extra_w, _ = cols
    N = draw(st.sampled_from((0, 1, 2, 8, 9)))
    unit = max(N, 1) * H * W * kH * kW
    affordable = [c for c in CHANNELS if unit * c[0] * c[1] * c[2] <= BUDGET]
    groups, C_group, K_out = draw(st.sampled_from(affordable or [CHANNELS[0]]))
    C_in, C_out = groups * C_group, groups * K_out
    shape = (C_in, H, W) if draw(st.booleans()) and draw(st.booleans()) else (N, C_in, H, W)
    # torch multiplies NaN by the zeros of the padding in the weight's gradient; here a tap that
    # reaches no output has the gradient 0.
    special = pad_h == pad_w == 0 and draw(st.integers(0, 3)) == 0
    arguments: dict[str, Any] = {
        "bias": draw(floats((C_out,))) if draw(st.booleans()) else None,
        "stride": int_or_pair(draw, (stride_h, stride_w)),
        "padding": int_or_pair(draw, (pad_h, pad_w)),
        "output_padding": int_or_pair(draw, (extra_h, extra_w)),
        "groups": groups,
        "dilation": int_or_pair(draw, (dilation_h, dilation_w)),
    }
    count = draw(st.integers(0, len(arguments)))
    items = list(arguments.items())
    return Case(
        (
            draw(floats(shape, nan=special)),
            draw(floats((C_in, K_out, kH, kW))),
            *(value for _, value in items[:count]),
        ),
        dict(items[count:]),
    )


def bad_transposed_calls() -> tuple[ErrorCase, ...]:
    x, w = zeros(2, 4, 5, 5), zeros(4, 6, 3, 3)
    calls: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
        ((zeros(2, 6, 5, 5), w), {}, ShapeError,
         r"weight of shape \(4, 6, 3, 3\) .*expects 4 input channels.*\(2, 6, 5, 5\)"),
        ((x, w), {"groups": 3}, ShapeError, r"positive divisor of the 4 input channels, got 3"),
        ((x, w), {"groups": 0}, ShapeError, r"groups must be a positive divisor.*got 0"),
        ((x, zeros(4, 6, 3)), {}, ShapeError, r"weight must have 4 dimensions.*\(4, 6, 3\)"),
        ((x, zeros(4, 0, 3, 3)), {}, ShapeError, r"weight must not be empty"),
        ((x, w, zeros(4)), {}, ShapeError, r"bias must have shape \(6,\), got \(4,\)"),
        ((x, w, zeros(6)), {"groups": 2}, ShapeError, r"bias must have shape \(12,\)"),
        ((zeros(2, 4, 0, 5), w), {}, ShapeError, r"makes 2×7 of the 0×5 input"),
        ((x, w), {"padding": 4}, ShapeError, r"padding \(4, 4\) makes -1×-1 of the 5×5 input"),
        ((x, w), {"output_padding": 1}, ShapeError, r"smaller than the stride or the dilation"),
        ((x, w), {"output_padding": (1, 2), "stride": 2}, ShapeError,
         r"got output_padding \(1, 2\), stride \(2, 2\), dilation \(1, 1\)"),
        ((x, w), {"output_padding": -1}, ShapeError, r"output_padding must be at least 0, got -1"),
        ((x, w), {"stride": 0}, ShapeError, r"stride must be at least 1, got 0"),
        ((x, w), {"stride": -1}, ShapeError, r"stride must be at least 1, got -1"),
        ((x, w), {"padding": -1}, ShapeError, r"padding must be at least 0, got -1"),
        ((x, w), {"dilation": 0}, ShapeError, r"dilation must be at least 1, got 0"),
        ((zeros(4, 5), w), {}, ShapeError, r"input must be \(N, C, H, W\) or \(C, H, W\)"),
        ((x.astype(np.float32), w), {}, DTypeError, r"one dtype, got input float32, weight"),
    ]  # fmt: skip
    return tuple(
        ErrorCase(args, kw, error, f"conv_transpose2d: .*{m}") for args, kw, error, m in calls
    )


SPECS: list[OpSpec] = [
    OpSpec(
        name="conv2d",
        function=conv2d,
        oracle=lambda torch, *args, **kwargs: torch.nn.functional.conv2d(*args, **kwargs),
        cases=conv2d_cases(),
        errors=bad_calls(),
    ),
    OpSpec(
        name="conv_transpose2d",
        function=conv_transpose2d,
        oracle=lambda torch, *args, **kwargs: torch.nn.functional.conv_transpose2d(*args, **kwargs),
        cases=conv_transpose2d_cases(),
        errors=bad_transposed_calls(),
    ),
]
