"""The functions that kernels use instead of the C library's, against it.

float32 results are compared with Python's math in float64, whose error is invisible there; float64
results with math itself, which is at most one ULP off.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pytest

from minigrad.kernels.cpu import _erf, _exp, _log
from minigrad.kernels.cpu._jit import FASTMATH
from minigrad.kernels.cpu._rows import backwards

numba = pytest.importorskip("numba")

INFINITY = math.inf
SPREAD = np.exp(np.linspace(-85, 4.4, 4001))  # 1e-37 … 81
SIGNED = np.concatenate([-SPREAD[::-1], SPREAD, np.linspace(-3, 3, 4001)])


def _compiled(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    @numba.njit(fastmath=FASTMATH, error_model="numpy")
    def over(out, x):
        for i in range(out.size):
            out[i] = function(x[i])

    def run(x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        over(out, x)
        return out

    return run


@numba.njit
def _normal_tail(x):
    return _erf.normal_tail(x)[0]


@numba.njit
def _normal_density(x):
    return _erf.normal_tail(x)[1]


@numba.njit
def _exponential(x):
    return _exp.exp(x)


@numba.njit
def _expm1(x):
    return _exp.expm1(x)


@numba.njit
def _tanh(x):
    return _exp.tanh(x)


@numba.njit
def _logarithm(x):
    return _log.log(x)


@numba.njit
def _log1p(x):
    return _log.log1p(x)


@numba.njit
def _error(x):
    return _erf.erf(x)


def _total(function: Callable[[float], float], overflow: float) -> Callable[[float], float]:
    """`function` with `overflow` where Python raises."""

    def total(x: float) -> float:
        try:
            return function(x)
        except OverflowError:
            return overflow

    return total


def _exact_normal_density(x: float) -> float:
    # math.exp(−x·x/2) itself loses digits to the rounding of x·x.
    return float((-(Decimal(x) ** 2) / 2).exp()) / math.sqrt(2 * math.pi)


def _exact_normal_tail(x: float) -> float:
    # And so does erfc(v) to that of v = |x|/√2: d erfc(v)/dv = −2·e^(−v²)/√π.
    v = abs(x) / math.sqrt(2)
    rounding = float(abs(Decimal(x)) / Decimal(2).sqrt() - Decimal(v))
    return math.erfc(v) / 2 - math.exp(-v * v) / math.sqrt(math.pi) * rounding


# Function, oracle, points, ULP, and values at (0, −0, ∞, −∞).
FUNCTIONS = {
    "exp": (_exponential, _total(math.exp, INFINITY), SIGNED, 2, (1, 1, INFINITY, 0)),
    "expm1": (_expm1, _total(math.expm1, INFINITY), SIGNED, 3, (0, -0.0, INFINITY, -1)),
    "tanh": (_tanh, math.tanh, SIGNED, 4, (0, -0.0, 1, -1)),
    "log": (
        _logarithm, math.log, np.concatenate([SPREAD, 1 / SPREAD, np.linspace(0.5, 2, 4001)]), 2,
        (-INFINITY, -INFINITY, INFINITY, math.nan),
    ),
    "log1p": (
        _log1p, math.log1p, np.concatenate([SIGNED[SIGNED > -0.9999], 1 / SPREAD]), 2,
        (0, -0.0, INFINITY, math.nan),
    ),
    "erf": (_error, math.erf, SIGNED, 4, (0, -0.0, 1, -1)),
    "normal tail": (
        _normal_tail, _exact_normal_tail, np.linspace(-37, 37, 8001), 10, (0.5, 0.5, 0, 0),
    ),
    "normal density": (
        _normal_density, _exact_normal_density, np.linspace(-37, 37, 8001), 4,
        (_exact_normal_density(0.0), _exact_normal_density(0.0), 0, 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_a_few_ulp_from_the_c_library(name: str, dtype: type) -> None:
    function, oracle, points, ulp, _ = FUNCTIONS[name]
    x = points.astype(dtype)
    if name == "gauss" and dtype is np.float64:
        # math.exp(−x·x) itself loses digits to the rounding of x·x.
        ulp += 2 * 25
    exact = np.array([oracle(float(value)) for value in x])
    with np.errstate(over="ignore", under="ignore"):
        expected = exact.astype(dtype)
    result = _compiled(function)(x)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(result[~finite], expected[~finite])
    error = np.abs(result[finite].astype(np.float64) - exact[finite])
    unit = np.spacing(np.abs(expected[finite])).astype(np.float64)
    worst = np.argmax(error / unit)
    assert error[worst] <= ulp * unit[worst], (x[finite][worst], error[worst] / unit[worst])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_at_zeros_infinities_and_nan(name: str, dtype: type) -> None:
    function, *_, ends = FUNCTIONS[name]
    x = np.array([0.0, -0.0, INFINITY, -INFINITY, math.nan], dtype)
    result = _compiled(function)(x)
    expected = np.array([*ends, math.nan], dtype)
    np.testing.assert_allclose(result, expected, rtol=4 * np.finfo(dtype).eps)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_subnormal_numbers_keep_their_digits(dtype: type) -> None:
    x = np.array([np.finfo(dtype).smallest_subnormal * 5, np.finfo(dtype).tiny / 3], dtype)
    for function in (_expm1, _tanh, _log1p):
        np.testing.assert_array_equal(_compiled(function)(x), x)
    expected = np.log(x.astype(np.float64)).astype(dtype)
    np.testing.assert_allclose(_compiled(_logarithm)(x), expected, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logarithms_outside_their_domain(dtype: type) -> None:
    assert np.isnan(_compiled(_logarithm)(np.array([-1e-3, -5], dtype))).all()
    assert np.isnan(_compiled(_log1p)(np.array([-1.5, -7], dtype))).all()
    assert _compiled(_log1p)(np.array([-1], dtype))[0] == -INFINITY


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("tasks", [1, 2, 5, 64])
def test_tasks_taken_backwards_are_each_taken_once(tasks: int, threads: int) -> None:
    taken = [backwards.py_func(task, tasks, threads) for task in range(tasks)]
    assert sorted(taken) == list(range(tasks))
    if threads == 1:
        assert taken == list(range(tasks))[::-1]
