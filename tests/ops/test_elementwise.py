"""Operators of Tensor, numbers and NumPy arrays beside tensors, and updates in place.

Values, gradients, layouts and dtypes of each operation are in tests/opspecs.
"""

from __future__ import annotations

import operator

import numpy as np
import pytest

from minigrad import GraphError, Tensor
from minigrad.device import Device
from minigrad.dtypes import bool_, float32, float64, int64
from minigrad.ops import reduce


def tensor(values, dtype=float32, requires_grad=False) -> Tensor:
    return Tensor(np.array(values, dtype), requires_grad=requires_grad)


BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize("apply", BINARY + COMPARISONS)
def test_numpy_array_on_either_side_gives_a_tensor(apply) -> None:
    array = np.array([1, 2, 3], np.float32)
    t = tensor([3, 2, 1])
    for left, right in ((array, t), (t, array)):
        result = apply(left, right)
        assert isinstance(result, Tensor)
        np.testing.assert_array_equal(
            result.array, apply(np.asarray(getattr(left, "array", left)),
                               np.asarray(getattr(right, "array", right)))
        )  # fmt: skip


@pytest.mark.parametrize("apply", BINARY)
def test_numpy_scalar_takes_the_dtype_of_the_tensor(apply) -> None:
    t = tensor([1, 2, 4])
    for number in (np.float64(2), np.float32(2), np.int64(2)):
        assert isinstance(apply(number, t), Tensor)
        assert apply(number, t).dtype == apply(t, number).dtype == float32


def test_numpy_array_of_another_dtype_is_promoted_with() -> None:
    result = tensor([1]) + np.array([1.0])
    assert (result.dtype, result.tolist()) == (float64, [2.0])


@pytest.mark.parametrize("apply", BINARY + COMPARISONS[2:])
def test_operand_of_another_kind_is_a_type_error(apply) -> None:
    for other in ("1", None, [1.0]):
        with pytest.raises(TypeError):
            apply(tensor([1]), other)
        with pytest.raises(TypeError):
            apply(other, tensor([1]))


def test_tensor_is_hashed_by_identity_though_equality_is_elementwise() -> None:
    a, b = tensor([1, 2]), tensor([1, 2])
    assert (a == b).dtype == bool_
    assert len({a, b}) == 2
    assert {a: "first"}[a] == "first"
    assert (a == "text") is False
    assert (a != None) is True  # noqa: E711


@pytest.mark.parametrize(
    ("values", "dtype", "number", "expected"),
    [
        ([1, 2], int64, 2, int64),
        ([1, 2], int64, 0.5, float32),
        ([1, 2], int64, True, int64),
        ([True, False], bool_, 1, int64),
        ([True, False], bool_, True, bool_),
        ([True, False], bool_, 0.5, float32),
        ([1, 2], float64, 1, float64),
        ([1, 2], float32, 0.1, float32),
    ],
)
def test_dtype_of_a_tensor_and_a_number_is_torchs(values, dtype, number, expected) -> None:
    import torch

    theirs = (torch.tensor(values, dtype=getattr(torch, dtype.name)) + number).numpy()
    assert theirs.dtype == expected
    for result in (tensor(values, dtype) + number, number + tensor(values, dtype)):
        assert result.dtype == expected
        np.testing.assert_array_equal(result.array, theirs)


def test_gradient_of_a_tensor_used_twice_adds_up() -> None:
    x = tensor([1, 2, 3], requires_grad=True)
    (x * x + x / x - 2 * x).sum().backward()
    np.testing.assert_allclose(x.grad.array, [0, 2, 4])


# In place -----------------------------------------------------------------------------------


def test_update_in_place_keeps_the_memory_and_counts_the_change() -> None:
    t = tensor([[1, 2], [3, 4]])
    data, view = t.array, Tensor(t.array[:, 1])
    t += 1
    t -= tensor([0, 1])
    t *= 2
    t /= 4
    assert t.array is data
    np.testing.assert_array_equal(t.array, [[1, 1], [2, 2]])
    np.testing.assert_array_equal(view.array, [1, 2])
    assert t._version.value == 4


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_update_of_a_strided_view_changes_its_elements_only(device) -> None:
    base = np.zeros((4, 6), np.float32)
    view = Tensor(base[1:3, ::2], Device(device))
    view.fill_(1).add_(Tensor(np.array([1, 2, 3], np.float32), Device(device)), alpha=2)
    expected = np.zeros((4, 6), np.float32)
    expected[1:3, ::2] = [3, 5, 7]
    np.testing.assert_array_equal(base, expected)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_operand_that_overlaps_the_tensor_is_read_before_it_is_changed(device) -> None:
    data = np.arange(6, dtype=np.float32)
    Tensor(data[1:], Device(device)).add_(Tensor(data[:-1], Device(device)))
    np.testing.assert_array_equal(data, [0, 1, 3, 5, 7, 9])
    data = np.arange(1, 5, dtype=np.float32)
    Tensor(data, Device(device)).mul_(Tensor(data[1:2], Device(device)))
    np.testing.assert_array_equal(data, [2, 4, 6, 8])
    square = np.arange(4, dtype=np.float32).reshape(2, 2)
    Tensor(square, Device(device)).copy_(Tensor(square.T, Device(device)))
    np.testing.assert_array_equal(square, [[0, 2], [1, 3]])


def test_backward_notices_that_a_saved_tensor_was_changed() -> None:
    x, w = tensor([1, 2], requires_grad=True), tensor([3, 4])
    y = x * w
    w.zero_()
    with pytest.raises(GraphError, match="changed in place"):
        y.sum().backward()


# Sums ---------------------------------------------------------------------------------------


def test_float32_sum_of_a_million_terms_is_within_one_unit_of_float64() -> None:
    values = np.random.default_rng(0).random(1_000_003).astype(np.float32)
    exact = values.astype(np.float64).sum()
    assert abs(float(reduce.sum(Tensor(values)).array) - exact) <= np.spacing(np.float32(exact))
    columns = values[:1_000_000].reshape(-1, 5)
    exact = columns.astype(np.float64).sum(0)
    error = np.abs(reduce.sum(Tensor(columns), 0).array - exact)
    assert (error <= np.spacing(exact.astype(np.float32))).all()


def test_reduction_of_channels_last_memory_makes_no_copy(monkeypatch) -> None:
    from minigrad import layout

    stored = np.ones((2, 4, 5, 3), np.float32)
    x = Tensor(stored.transpose(0, 3, 1, 2))
    monkeypatch.setattr(layout.kernels, "get", lambda _: pytest.fail("copied"))
    for axes in ((2, 3), (0, 2, 3), (1,), (0,), (0, 1, 2, 3)):
        plan = reduce.reduction(x.array, axes)
        assert np.shares_memory(plan.array(x.array, x.device), stored)
