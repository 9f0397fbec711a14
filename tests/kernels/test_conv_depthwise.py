"""Depthwise convolutions with more channels and pixels than the op table's cases, against torch.

All borders, strides and dilations, kernels of more taps than a register tile of the weight gradient
has, several partial sums, whole and partial vectors of channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.dtypes import float32
from minigrad.geometry import conv2d_dims
from minigrad.kernels.cpu.conv.plan import plan

LABELS = ("result", "input", "weight", "bias")
TOLERANCES = {np.float32: 3e-5, np.float64: 1e-11}


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    size = st.tuples(st.integers(1, 22), st.integers(1, 22))
    step = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = draw(st.tuples(st.integers(1, 5), st.integers(1, 5))), draw(step), 1
    if draw(st.booleans()):
        dilation = draw(step)
    reach = np.multiply(np.array(kernel) - 1, dilation)
    padding = tuple(int(draw(st.integers(0, r + 1))) for r in reach)
    H, W = draw(size)
    return {
        "shape": (
            draw(st.sampled_from((1, 2, 5, 19))),
            draw(st.sampled_from((2, 3, 8, 16, 17, 40, 64, 117))),
            max(H, int(reach[0]) + 1),
            max(W, int(reach[1]) + 1),
        ),
        "kernel": kernel,
        "options": {"stride": stride, "padding": padding, "dilation": dilation},
        "multiplier": draw(st.sampled_from((1, 1, 1, 2))),
        "bias": draw(st.booleans()),
        "dtype": draw(st.sampled_from((np.float32, np.float64))),
        "seed": draw(st.integers(0, 2**31)),
    }


def results(library: Any, function: Any, arrays: list[Any], options: dict[str, Any]) -> list[Any]:
    """The result and all gradients, for one upstream gradient."""
    x, w, b = (None if a is None else library.tensor(a, requires_grad=True) for a in arrays)
    out = function(x, w, b, **options)
    drawn = np.random.default_rng(1).standard_normal(tuple(out.shape)).astype(arrays[0].dtype)
    out.backward(library.tensor(drawn))
    grads = [None if t is None else t.grad for t in (x, w, b)]
    return [None if t is None else np.array(t.detach().numpy()) for t in (out, *grads)]


def compare(name: str, arrays: list[Any], options: dict[str, Any]) -> None:
    """Ours in the arrays' dtype beside torch's in float64."""
    mine = results(mg, getattr(F, name), arrays, options)
    exact = [None if a is None else a.astype(np.float64) for a in arrays]
    theirs = results(torch, getattr(torch.nn.functional, name), exact, options)
    tolerance = TOLERANCES[arrays[0].dtype.type]
    for label, a, b in zip(LABELS, mine, theirs, strict=True):
        if b is not None:
            assert a.dtype == arrays[0].dtype
            np.testing.assert_allclose(a, b, 0, tolerance * max(1, abs(b).max()), err_msg=label)


def draw_arrays(case: dict[str, Any]) -> list[Any]:
    rng = np.random.default_rng(case["seed"])
    C = case["shape"][1]
    C_out = C * case["multiplier"]
    shapes = (case["shape"], (C_out, 1, *case["kernel"]), (C_out,) if case["bias"] else None)
    return [None if s is None else rng.standard_normal(s).astype(case["dtype"]) for s in shapes]


@settings(max_examples=60)
@given(cases())
def test_equals_torch(case: dict[str, Any]) -> None:
    options = {**case["options"], "groups": case["shape"][1]}
    compare("conv2d", draw_arrays(case), options)


@settings(max_examples=30)
@given(cases())
def test_transposed_equals_torch(case: dict[str, Any]) -> None:
    options = {**case["options"], "groups": case["shape"][1]}
    reach = np.multiply(np.array(case["kernel"]) - 1, options["dilation"])
    # Something has to be left of the result.
    options["padding"] = tuple(
        int(min(p, r // 2)) for p, r in zip(options["padding"], reach, strict=True)
    )
    arrays = draw_arrays(case | {"multiplier": 1})
    compare("conv_transpose2d", arrays, options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(64, 64, 32, 32), (3, 40, 60, 70), (1, 200, 30, 30)])
def test_large_images_equal_torch(shape: tuple[int, ...], dtype: Any) -> None:
    """Many rows to a tile of the weight gradient, several tiles and chunks, all parts."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(dtype) for s in (shape, (shape[1], 1, 3, 3), shape[1])]
    compare("conv2d", arrays, {"padding": 1, "groups": shape[1]})


def test_relu_of_a_chain_is_in_the_same_pass() -> None:
    mg.manual_seed(0)
    model = mg.nn.Sequential(mg.nn.Conv2d(40, 40, 3, padding=1, groups=40), mg.nn.ReLU())
    x = mg.randn(4, 40, 9, 20)
    x.array[2, 3, 4, 4] = np.nan
    joined = model(x)
    with mg.nn.no_fusion():
        np.testing.assert_array_equal(joined.detach().numpy(), model(x).detach().numpy())


def test_a_window_that_is_larger_than_the_table_of_tiles_falls_back() -> None:
    """Every border of a 31×31 window uses other taps."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((2, 8, 31, 31), (8, 1, 31, 31))]
    options = {"padding": 15, "groups": 8}
    dims = conv2d_dims(arrays[0].shape, arrays[1].shape, None, 1, options["padding"], 1, 8)

    assert plan(dims, "forward", float32).algorithm == "depthwise"
    assert plan(dims, "weight", float32).algorithm == "direct"
    compare("conv2d", [*arrays, None], options)


def test_nan_and_infinity_stay_in_their_channel_and_window() -> None:
    x = np.zeros((1, 20, 6, 6), np.float32)
    x[0, 3, 2, 2], x[0, 17, 5, 5] = np.nan, np.inf
    out = F.conv2d(mg.tensor(x), mg.ones(20, 1, 3, 3), padding=1, groups=20).numpy()
    expected = torch.nn.functional.conv2d(
        torch.tensor(x), torch.ones(20, 1, 3, 3), padding=1, groups=20
    )
    np.testing.assert_array_equal(out, expected.numpy())
