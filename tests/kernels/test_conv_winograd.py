"""3×3 convolutions large enough for Winograd's algorithm, against torch's float64 results.

The cases of tests/opspecs are too small for it. float64 proves the formula and the edges; in
float32 the transforms may cost a few times the rounding error of torch's own convolution, and in
precision "high", with larger tiles, what set_float32_matmul_precision says.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.dtypes import float32
from minigrad.geometry import conv2d_dims
from minigrad.kernels.cpu.conv.plan import Direction, plan, plan_within, workspace

LABELS = ("result", "input", "weight", "bias")
# How much larger than torch's the error in float32 may be.
FACTOR = 6.0
# In precision "high": of the largest result.
HIGH_ERROR = 1e-5


@pytest.fixture
def precision(monkeypatch: pytest.MonkeyPatch) -> Any:
    """set_float32_matmul_precision, undone at the end."""
    for settings_of in (mg.backends.cpu, mg.backends.cuda):
        for name in vars(settings_of).keys() & {"allow_fast_winograd", "allow_tf32"}:
            monkeypatch.setattr(settings_of, name, getattr(settings_of, name))
    return mg.set_float32_matmul_precision


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    C_in, C_out = draw(st.sampled_from(((16, 32), (32, 16), (33, 17), (48, 40), (17, 64))))
    H, W = draw(st.sampled_from(((8, 8), (4, 6), (10, 4), (9, 10), (16, 5))))
    padding = draw(st.sampled_from((1, (1, 1), 0, (0, 1), 2, (2, 0))))
    return {
        "shape": (128 * 4 // (H * W) + 25, C_in, H, W),
        "C_out": C_out,
        "padding": padding,
        "bias": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**31)),
    }


def arrays(case: dict[str, Any]) -> list[np.ndarray | None]:
    rng = np.random.default_rng(case["seed"])
    C_in, C_out = case["shape"][1], case["C_out"]
    draw = rng.standard_normal
    x, w, b = draw(case["shape"]), draw((C_out, C_in, 3, 3)), draw(C_out)
    return [a if a is None else a.astype(np.float32) for a in (x, w, b if case["bias"] else None)]


def results(library: Any, function: Any, make: Any, given: list[Any], padding: Any) -> list[Any]:
    """The result and all gradients, for one upstream gradient."""
    x, w, b = (None if a is None else make(a) for a in given)
    out = function(x, w, b, padding=padding)
    drawn = np.random.default_rng(1).standard_normal(tuple(out.shape)).astype(given[0].dtype)
    out.backward(library.tensor(drawn))
    grads = [None if t is None else t.grad for t in (x, w, b)]
    return [None if t is None else np.array(t.detach().numpy()) for t in (out, *grads)]


def ours(given: list[Any], padding: Any, function: Any = F.conv2d) -> list[Any]:
    return results(mg, function, lambda a: mg.tensor(a, requires_grad=True), given, padding)


def torchs(given: list[Any], padding: Any, name: str = "conv2d") -> list[Any]:
    function = getattr(torch.nn.functional, name)
    return results(torch, function, lambda a: torch.tensor(a, requires_grad=True), given, padding)


def doubled(given: list[Any]) -> list[Any]:
    return [None if a is None else a.astype(np.float64) for a in given]


def tile_side(case: dict[str, Any], fast: bool = False) -> int:
    """Of the tiles of Winograd's algorithm; 0 if it is another one."""
    weight = case["C_out"], case["shape"][1], 3, 3
    dims = conv2d_dims(case["shape"], weight, None, 1, case["padding"], 1, 1)
    chosen = plan(dims, "forward", float32, fast)
    return chosen.tile if chosen.algorithm == "winograd" else 0


@st.composite
def large_cases(draw: st.DrawFn) -> dict[str, Any]:
    """For tiles of 4×4, of which there are 64 or a few less."""
    H, W = draw(st.sampled_from(((8, 8), (12, 11), (7, 16), (15, 4), (23, 24), (32, 31))))
    tiles = -(-H // 4) * -(-W // 4)
    N, C_in = -(-draw(st.integers(60, 120)) // tiles), draw(st.sampled_from((32, 33, 64)))
    return draw(cases()) | {"shape": (N, C_in, H, W)}


@settings(max_examples=12)
@given(cases())
def test_float64_equals_torch(case: dict[str, Any]) -> None:
    given = doubled(arrays(case))
    for name, mine, theirs in zip(
        LABELS, ours(given, case["padding"]), torchs(given, case["padding"]), strict=True
    ):
        if theirs is not None:
            np.testing.assert_allclose(mine, theirs, 1e-11, 1e-11 * abs(theirs).max(), err_msg=name)


@settings(max_examples=12)
@given(cases())
def test_float32_is_nearly_as_exact_as_torch(case: dict[str, Any]) -> None:
    given = arrays(case)
    exact = torchs(doubled(given), case["padding"])
    for name, truth, mine, theirs in zip(
        LABELS, exact, ours(given, case["padding"]), torchs(given, case["padding"]), strict=True
    ):
        if truth is not None:
            scale = abs(truth).max()
            allowed = FACTOR * max(abs(theirs - truth).max(), scale * np.finfo(np.float32).eps)
            assert abs(mine - truth).max() <= allowed, name


def test_the_cases_take_the_algorithm() -> None:
    taken = []

    @settings(max_examples=40, database=None)
    @given(cases())
    def collect(case: dict[str, Any]) -> None:
        taken.append(tile_side(case) == 2)

    collect()
    assert sum(taken) > len(taken) / 2
    assert not all(taken)  # and some do not, at the border of the rule


@settings(max_examples=16, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=large_cases())
def test_errors_in_precision_high_are_what_its_docstring_says(case: Any, precision: Any) -> None:
    given = arrays(case)
    exact = torchs(doubled(given), case["padding"])
    precision("high")
    for name, truth, mine in zip(LABELS, exact, ours(given, case["padding"]), strict=True):
        if truth is not None:
            assert abs(mine - truth).max() <= HIGH_ERROR * abs(truth).max(), name


def test_the_large_cases_take_large_tiles() -> None:
    taken = []

    @settings(max_examples=40, database=None)
    @given(large_cases())
    def collect(case: dict[str, Any]) -> None:
        assert tile_side(case) != 4
        taken.append(tile_side(case, fast=True))

    collect()
    assert taken.count(4) > len(taken) / 3
    assert set(taken) > {4}


def test_the_precision_holds_from_the_next_operation_on(precision: Any) -> None:
    given = arrays({"shape": (16, 32, 8, 8), "C_out": 32, "bias": True, "seed": 0})
    gradients = LABELS[:3]  # the bias's is a plain sum
    before = ours(given, 1)
    precision("high")
    high = ours(given, 1)
    assert not any((a == b).all() for a, b, _ in zip(before, high, gradients, strict=False))
    wide = doubled(given)
    in_high = ours(wide, 1)
    precision("highest")
    for a, b in zip(ours(given, 1), before, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(ours(wide, 1), in_high, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_setting_that_changes_meanwhile_finds_enough_memory(precision: Any) -> None:
    """The setting is read when a convolution is launched, its scratch allocated before."""
    dims = conv2d_dims((16, 32, 8, 8), (32, 32, 3, 3), None, 1, 1, 1, 1)
    for direction in get_args(Direction):
        low, high = (plan(dims, direction, float32, fast) for fast in (False, True))
        assert low.workspace != high.workspace
        for asked in (False, True):
            scratch = np.empty(workspace(dims, direction, asked), np.float32)
            for now in (False, True):
                precision("high" if now else "highest")
                chosen = plan_within(dims, direction, float32, scratch)
                assert chosen.workspace <= scratch.size
                if scratch.size >= max(low.workspace, high.workspace):
                    assert chosen == (high if now else low)


def test_transposed_convolution_in_precision_high(precision: Any) -> None:
    precision("high")
    rng = np.random.default_rng(0)
    shapes = (20, 32, 8, 8), (32, 24, 3, 3), (24,)
    given = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    pairs = zip(
        ours(given, 1, F.conv_transpose2d), torchs(doubled(given), 1, "conv_transpose2d"),
        strict=True,
    )  # fmt: skip
    for mine, theirs in pairs:
        assert abs(mine - theirs).max() <= HIGH_ERROR * abs(theirs).max()


def test_transposed_convolution_equals_torch() -> None:
    rng = np.random.default_rng(0)
    for padding in (0, 1, 2):
        given = [rng.standard_normal(s) for s in ((20, 32, 8, 8), (32, 24, 3, 3), (24,))]
        pairs = zip(
            ours(given, padding, F.conv_transpose2d), torchs(given, padding, "conv_transpose2d"),
            strict=True,
        )  # fmt: skip
        for mine, theirs in pairs:
            np.testing.assert_allclose(mine, theirs, 1e-11, 1e-11 * abs(theirs).max())


@pytest.mark.parametrize("name", ["highest", "high"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_infinities_and_nan_stay_in_the_windows_that_hold_them(
    value: float, name: str, precision: Any
) -> None:
    """As in torch: inf in a window gives ±inf, not NaN, and nothing beside the window changes."""
    precision(name)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 32, 8, 8)).astype(np.float32)
    w = rng.standard_normal((32, 32, 3, 3)).astype(np.float32)
    # One pixel at a corner, one in the middle, one channel of one image each.
    x[3, 5, 0, 0] = x[7, 1, 4, 3] = value
    mine, theirs = ours([x, w, None], 1), torchs([x, w, None], 1)
    # The upstream gradient is finite, so the input's gradient is, too.
    for name, a, b in zip(LABELS, mine, theirs, strict=True):
        if b is None:
            continue
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b), err_msg=name)
        np.testing.assert_array_equal(np.isinf(a), np.isinf(b), err_msg=name)
        ordinary = np.isfinite(b)
        np.testing.assert_allclose(
            a[ordinary], b[ordinary], 1e-3, 1e-4 if abs(value) != 3e38 else 1e33, err_msg=name
        )


def test_chains_with_relu_take_it_too() -> None:
    mg.manual_seed(0)
    model = mg.nn.Sequential(mg.nn.Conv2d(32, 32, 3, padding=1), mg.nn.ReLU())
    x = mg.randn(8, 32, 8, 8)
    joined = model(x)
    with mg.nn.no_fusion():
        np.testing.assert_array_equal(joined.detach().numpy(), model(x).detach().numpy())
    x.array[2, 3, 4, 4] = -np.inf
    joined = model(x)
    with mg.nn.no_fusion():
        np.testing.assert_array_equal(joined.detach().numpy(), model(x).detach().numpy())


def test_the_rule_wants_whole_tiles_and_enough_of_them() -> None:
    def suits(shape: tuple[int, ...], size: int = 3, stride: int = 1, groups: int = 1) -> bool:
        weight = 64, shape[1] // groups, size, size
        dims = conv2d_dims(shape, weight, None, stride, "same" if stride == 1 else 1, 1, groups)
        return plan(dims, "forward", float32).algorithm == "winograd"

    assert suits((64, 64, 8, 8))
    assert not suits((64, 64, 16, 16), stride=2)
    assert not suits((64, 64, 8, 8), size=5)
    assert not suits((64, 64, 8, 8), groups=2)
    assert not suits((64, 64, 7, 7))
    assert not suits((1, 64, 8, 8))
    assert not suits((64, 8, 8, 8))
