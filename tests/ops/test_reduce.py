"""What the table cannot ask of reductions: uint8, and inputs that are no tensors."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor
from minigrad.device import Device

devices = pytest.mark.parametrize("device", [Device("cpu"), Device("reference")], ids=str)


@devices
@pytest.mark.parametrize("dim", [None, 0, 1, (0, 1), ()], ids=str)
def test_any_and_all_of_uint8_are_uint8(device: Device, dim) -> None:
    array = np.array([[0, 2, 255], [0, 1, 0]], np.uint8)
    x, axes = Tensor(array, device), None if dim is None else dim
    assert mg.any(x, dim).dtype == mg.all(x, dim).dtype == np.uint8
    np.testing.assert_array_equal(mg.any(x, dim).numpy(), np.any(array, axis=axes))
    np.testing.assert_array_equal(mg.all(x, dim).numpy(), np.all(array, axis=axes))


NAMES = (
    "sum mean var std var_mean std_mean prod logsumexp amax amin aminmax max min argmax argmin any "
    "all cumsum count_nonzero norm median kthvalue sort argsort topk"
)


@pytest.mark.parametrize("name", NAMES.split())
@pytest.mark.parametrize("bad", [None, [1.0, 2.0], np.ones(2), 1.5, "x"], ids=repr)
def test_what_is_no_tensor_is_refused_by_name(name: str, bad: object) -> None:
    more = (1,) if name in ("logsumexp", "cumsum", "kthvalue", "topk") else ()
    with pytest.raises(TypeError, match=rf"^{name}: input must be a Tensor, got"):
        getattr(mg, name)(bad, *more)


@pytest.mark.parametrize("length", [31, 32, 33, 100, 40_000])
@pytest.mark.parametrize("nans", [0, 1, 3])
def test_argmax_and_argmin_of_long_rows_are_the_first_and_nan_wins(length: int, nans: int) -> None:
    rng = np.random.default_rng(length + nans)
    x = rng.integers(-9, 10, (5, length)).astype(np.float32)
    for row in x:
        row[rng.integers(0, length, nans)] = np.nan
    for dim, array in ((1, x), (0, x.T)):
        tensor = mg.Tensor(np.ascontiguousarray(array))
        np.testing.assert_array_equal(tensor.argmax(dim).array, array.argmax(dim))
        np.testing.assert_array_equal(tensor.argmin(dim).array, array.argmin(dim))


@pytest.mark.parametrize("columns", [2, 3, 16, 33, 200, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_sums_of_columns_are_exact_to_the_last_digit(columns: int, dtype) -> None:
    rng = np.random.default_rng(columns)
    x = (rng.standard_normal((2, 4099, columns)) * 1000 + 1e5).astype(dtype)
    expected = x.sum(1, dtype=np.float64 if dtype == np.float32 else dtype)
    error = np.abs(mg.Tensor(x).sum(1).array - expected)
    assert (error <= (2**-24 * np.abs(expected) if dtype == np.float32 else 0)).all()
