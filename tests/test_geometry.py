"""Output sizes against torch and against figures worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.geometry import (
    adaptive_pool2d_dims,
    adaptive_window,
    conv2d_dims,
    pair,
    pool2d_dims,
)

SMALL = st.integers(1, 5)


def conv_size(shape: tuple[int, ...], weight: tuple[int, ...], **kwargs: Any) -> tuple[int, ...]:
    arguments = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | kwargs
    dims = conv2d_dims((1, *shape), weight, None, **arguments)
    return dims.C_out, dims.H_out, dims.W_out


# ⌊(1024 + 2 − 5) / 2⌋ + 1 = 511 and ⌊(768 + 2 − 5) / 2⌋ + 1 = 383, and so on.
@pytest.mark.parametrize(
    ("shape", "expected"),
    [((3, 1024, 768), (16, 511, 383)), ((3, 1920, 1080), (16, 959, 539))],
)
def test_conv2d_size_of_a_5x5_kernel_with_padding_1_and_stride_2(
    shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert conv_size(shape, (16, 3, 5, 5), stride=2, padding=1) == expected


def test_conv2d_kernel_for_3_channels_refuses_8() -> None:
    with pytest.raises(
        ShapeError, match=r"conv2d: .*expects 3 input channels.*\(1, 8, 1024, 768\)"
    ):
        conv_size((8, 1024, 768), (16, 3, 5, 5), stride=2, padding=1)


@pytest.mark.parametrize("size", [*range(1, 12), 28, 32])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 3)])
def test_conv2d_same_padding_keeps_the_size_and_puts_the_odd_one_last(
    size: int, kernel: int, dilation: int
) -> None:
    dims = conv2d_dims((1, 1, size, size), (1, 1, kernel, kernel), None, 1, "same", dilation, 1)
    assert (dims.H_out, dims.W_out) == (size, size)
    assert dims.top == dims.left == dilation * (kernel - 1) // 2


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.tuples(SMALL, SMALL),
    stride=st.tuples(SMALL, SMALL),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    dilation=st.tuples(SMALL, SMALL),
)
def test_conv2d_size_is_torchs_or_both_refuse(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    import torch

    options = {"stride": stride, "padding": padding, "dilation": dilation}
    # Not on the meta device, which in some releases of torch finds that everything fits.
    input, weight = torch.empty(1, 2, *size), torch.empty(3, 2, *kernel)
    try:
        expected = tuple(torch.nn.functional.conv2d(input, weight, **options).shape[1:])
    except RuntimeError:
        with pytest.raises(ShapeError, match="does not fit"):
            conv_size((2, *size), (3, 2, *kernel), **options)
    else:
        assert conv_size((2, *size), (3, 2, *kernel), **options) == expected


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.tuples(SMALL, SMALL),
    stride=st.one_of(st.none(), st.tuples(SMALL, SMALL)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    ceil_mode=st.booleans(),
)
def test_pool_size_is_torchs_or_both_refuse(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int] | None,
    padding: tuple[int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
) -> None:
    import torch

    arguments = kernel, stride, padding, dilation, ceil_mode
    input = torch.empty((1, 1, *size), device="meta")
    try:
        expected = tuple(torch.nn.functional.max_pool2d(input, *arguments).shape[2:])
    except RuntimeError:
        with pytest.raises(ShapeError, match=r"max_pool2d: .*(exceeds|at most half)"):
            pool2d_dims("max_pool2d", (1, 1, *size), *arguments)
    else:
        dims = pool2d_dims("max_pool2d", (1, 1, *size), *arguments)
        assert (dims.H_out, dims.W_out) == expected


def test_ceil_mode_drops_a_window_that_would_start_in_the_far_padding() -> None:
    # Rounding up, ⌈(5 + 2 − 3) / 3⌉ + 1 = 3; but the third window would start at 6 − 1 = 5.
    # On 6 cells it starts at 5, inside.
    rounded_up = pool2d_dims("max_pool2d", (1, 1, 5, 6), 3, 3, 1, 1, ceil_mode=True)
    assert (rounded_up.H_out, rounded_up.W_out) == (2, 3)
    rounded_down = pool2d_dims("max_pool2d", (1, 1, 5, 6), 3, 3, 1, 1, ceil_mode=False)
    assert (rounded_down.H_out, rounded_down.W_out) == (2, 2)


@given(size=st.integers(1, 60), out=st.integers(1, 60))
def test_adaptive_windows_cover_every_cell_and_fit_the_stated_width(size: int, out: int) -> None:
    windows = [adaptive_window(position, size, out) for position in range(out)]
    assert {cell for start, end in windows for cell in range(start, end)} == set(range(size))
    assert windows == sorted(windows)
    dims = adaptive_pool2d_dims("adaptive_avg_pool2d", (1, 1, size, size), out)
    assert min(end - start for start, end in windows) >= 1
    assert max(end - start for start, end in windows) <= dims.kH == dims.kW


@given(size=st.integers(1, 40), factor=st.integers(1, 8))
def test_adaptive_windows_are_those_of_a_plain_pooling_where_sizes_divide(
    size: int, factor: int
) -> None:
    windows = [adaptive_window(position, size * factor, size) for position in range(size)]
    assert windows == [(o * factor, (o + 1) * factor) for o in range(size)]


def test_adaptive_none_keeps_the_size() -> None:
    dims = adaptive_pool2d_dims("adaptive_avg_pool2d", (2, 3, 7, 5), (None, 2))
    assert (dims.H_out, dims.W_out) == (7, 2)


@pytest.mark.parametrize("value", [3, (3, 3), [3, 3], (3,)])
def test_pair_takes_an_int_or_two(value: Any) -> None:
    assert pair("op", "stride", value) == (3, 3)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ((1, 2, 3), ShapeError),
        ((), ShapeError),
        (-1, ShapeError),
        ((1, -1), ShapeError),
        (2**31, ShapeError),
        (1.5, DTypeError),
        ("2", DTypeError),
        (None, DTypeError),
    ],
)
def test_pair_refuses_anything_else(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"op: stride must be"):
        pair("op", "stride", value)


@given(divisor=st.integers(-5, 5))
def test_divisor_override_is_any_number_but_zero(divisor: int) -> None:
    assume(divisor != 0)
    arguments = ("avg_pool2d", (1, 1, 4, 4), 2, None, 0, 1, False, True)
    assert pool2d_dims(*arguments, divisor).divisor_override == divisor
    with pytest.raises(ValueError, match="divisor_override must not be 0"):
        pool2d_dims(*arguments, 0)
