"""Convolutions of few channels (conv/rows.py, conv/few_channels.py), against torch in float64.

Most cases of tests/opspecs are too narrow for its tiles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.dtypes import float32
from minigrad.geometry import conv2d_dims
from minigrad.kernels.cpu.conv.plan import plan
from minigrad.kernels.cpu.conv.rows_tile import PIXELS

# (N, C_in, H, W), C_out, kernel size, options.
Case = tuple[tuple[int, int, int, int], int, tuple[int, int], dict[str, Any]]

# Both go along rows: tiles of every length and width, rows that end inside a tile, one channel and
# many, borders on all sides of either kind.
SLIDING: list[Case] = [
    ((4, 16, 32, 32), 16, (3, 3), {"padding": 1}),
    ((5, 1, 28, 28), 16, (3, 3), {"padding": 1}),
    ((9, 3, 32, 32), 16, (3, 3), {"padding": 1}),
    ((2, 5, 28, 29), 7, (3, 3), {"padding": 2}),
    ((2, 17, 14, 16), 20, (3, 3), {"padding": (0, 1)}),
    ((2, 3, 9, 18), 20, (4, 3), {"padding": (2, 0)}),
    ((1, 1, 9, 18), 20, (5, 3), {"padding": (4, 2)}),
    ((1, 2, 1, 32), 40, (3, 3), {"padding": 1}),
    ((1, 20, 8, 8), 20, (3, 3), {"padding": 1}),
]
# Only the result does: stride and dilation of a row are equal, or the window is not 3 wide.
FORWARD: list[Case] = [
    ((5, 3, 64, 64), 16, (5, 5), {"stride": 2, "dilation": 2}),
    ((2, 9, 14, 28), 40, (5, 5), {"padding": 2}),
    ((3, 6, 17, 31), 5, (3, 3), {"padding": 2, "stride": 2, "dilation": 2}),
    ((2, 8, 31, 31), 5, (7, 7), {"padding": 2, "dilation": (2, 1), "stride": (3, 1)}),
    ((1, 4, 16, 16), 20, (1, 1), {}),
]
# Input gradients of few channels: columns that no window reaches, steps that skip columns.
NARROW: list[Case] = [
    ((2, 3, 21, 22), 24, (7, 7), {"stride": 2, "padding": 3}),
    ((2, 2, 12, 13), 5, (2, 3), {"stride": (2, 3), "dilation": (1, 2)}),
    ((2, 1, 3, 40), 20, (3, 5), {"stride": (1, 4), "padding": (1, 2)}),
    ((1, 8, 5, 4), 3, (3, 9), {"padding": (1, 6)}),
]


def arrays(case: Case, dtype: Any) -> list[np.ndarray]:
    shape, C_out, size, _ = case
    draw = np.random.default_rng(0).standard_normal
    return [draw(s).astype(dtype) for s in (shape, (C_out, shape[1], *size), (C_out,))]


def results(given: list[np.ndarray], options: dict[str, Any]) -> list[np.ndarray]:
    """The result and all gradients, for one upstream gradient."""
    tensors = [mg.tensor(a, requires_grad=True) for a in given]
    out = F.conv2d(*tensors, **options)
    drawn = np.random.default_rng(1).standard_normal(out.shape).astype(given[0].dtype)
    out.backward(mg.tensor(drawn))
    return [out.detach().numpy(), *(t.grad.numpy() for t in tensors)]


def expected(given: list[np.ndarray], options: dict[str, Any]) -> list[np.ndarray]:
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in given]
    out = torch.nn.functional.conv2d(*tensors, **options)
    drawn = np.random.default_rng(1).standard_normal(tuple(out.shape)).astype(given[0].dtype)
    out.backward(torch.tensor(drawn, dtype=torch.float64))
    return [out.detach().numpy(), *(t.grad.numpy() for t in tensors)]


def plans(case: Case) -> tuple[bool, bool]:
    """Whether the result and the weight gradient go along rows."""
    shape, C_out, size, options = case
    dims = conv2d_dims(
        shape, (C_out, shape[1], *size), None, options.get("stride", 1), options.get("padding", 0),
        options.get("dilation", 1), 1,
    )  # fmt: skip
    forward, weight = (plan(dims, direction, float32) for direction in ("forward", "weight"))
    return forward.algorithm == "rows", weight.algorithm == "rows"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [*SLIDING, *FORWARD, *NARROW])
def test_result_and_gradients_equal_torch(case: Case, dtype: Any) -> None:
    given = arrays(case, dtype)
    tolerance = 4e-6 if dtype == np.float32 else 1e-13
    for mine, theirs in zip(results(given, case[3]), expected(given, case[3]), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.skipif(PIXELS[0] != (16, 14), reason="the cases are for tiles of this size")
def test_the_cases_above_go_along_rows() -> None:
    assert [plans(case) for case in SLIDING[:-1]] == [(True, True)] * (len(SLIDING) - 1)
    assert [plans(case)[0] for case in FORWARD] == [True] * len(FORWARD)


@pytest.mark.parametrize("place", [(0, 0), (0, 31), (7, 0), (7, 31), (3, 15), (3, 16)])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_window(place: tuple[int, int], value: float) -> None:
    """Also in the weight gradient, where an element at the border has no product with some taps."""
    given = arrays(((2, 3, 8, 32), 16, (3, 3), {}), np.float32)
    given[0][1, 2, place[0], place[1]] = value
    mine, theirs = (f(given, {"padding": 1}) for f in (results, expected))
    for array, reference in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(np.isnan(array), np.isnan(reference))
        np.testing.assert_array_equal(np.isinf(array), np.isinf(reference))


def test_padding_is_not_multiplied_by_an_infinite_weight() -> None:
    given = [np.zeros((1, 1, 8, 16), np.float32), np.ones((4, 1, 3, 3), np.float32)]
    given[0][:] = 1
    given[1][:, :, 0, 0] = np.inf
    out = F.conv2d(*map(mg.tensor, given), padding=1).numpy()
    assert not np.isnan(out).any()
    assert np.isinf(out[:, :, 1:, 1:]).all()
    assert np.isfinite(out[:, :, 0]).all()
    assert np.isfinite(out[..., 0]).all()


@pytest.mark.parametrize("case", SLIDING[:3])
def test_bits_do_not_depend_on_the_threads(case: Case) -> None:
    given, before = arrays(case, np.float32), mg.get_num_threads()
    runs = []
    try:
        for threads in (before, 1):
            mg.set_num_threads(threads)
            runs.append(results(given, case[3]))
    finally:
        mg.set_num_threads(before)
    for many, one in zip(*runs, strict=True):
        np.testing.assert_array_equal(many, one)
