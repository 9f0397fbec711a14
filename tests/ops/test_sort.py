"""What the table cannot ask of sorting: how equals stand, who owns the indices, empty medians."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import ShapeError, Tensor
from minigrad.device import Device

devices = pytest.mark.parametrize("device", [Device("cpu"), Device("reference")], ids=str)


@devices
def test_equal_elements_keep_their_order_whatever_is_asked(device: Device) -> None:
    x = Tensor(np.array([1.0, 0.0, 1.0, -0.0, np.nan, 1.0, np.nan]), device)
    assert mg.argsort(x).tolist() == [1, 3, 0, 2, 5, 4, 6]
    assert mg.argsort(x, descending=True).tolist() == [4, 6, 0, 2, 5, 1, 3]
    assert mg.topk(x, 4).indices.tolist() == [4, 6, 0, 2]
    assert mg.topk(x, 3, largest=False).indices.tolist() == [1, 3, 0]
    assert mg.kthvalue(x, 4).indices.item() == 2


@devices
@pytest.mark.parametrize("select", [mg.sort, lambda x: mg.topk(x, 2), lambda x: mg.median(x, 0)])
def test_backward_does_not_read_the_indices_that_the_caller_holds(device: Device, select) -> None:
    x = Tensor(np.array([3.0, 1.0, 2.0]), device, requires_grad=True)
    values, indices = select(x)
    values.sum().backward(retain_graph=True)
    expected, x.grad = x.grad.numpy().copy(), None
    indices.array[...] = 2**40
    values.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), expected)


@devices
def test_the_median_of_nothing_is_nan(device: Device) -> None:
    assert np.isnan(mg.median(Tensor(np.zeros((0, 3)), device)).item())
    assert mg.median(Tensor(np.zeros((0, 3)), device), 1).values.shape == (0,)
    with pytest.raises(ShapeError, match=r"^median: .*\(0, 3\) must not be empty"):
        mg.median(Tensor(np.zeros((0, 3), np.int64), device))


@devices
def test_the_median_is_the_first_nan_if_there_are_some(device: Device) -> None:
    values, indices = mg.median(Tensor(np.array([1.0, np.nan, 3.0, np.nan, 0.0]), device), 0)
    assert np.isnan(values.item())
    assert indices.item() == 1


def test_results_have_torchs_field_names() -> None:
    x = mg.tensor([[2.0, 1.0], [0.0, 3.0]])
    assert mg.sort(x).values.tolist() == [[1.0, 2.0], [0.0, 3.0]]
    assert x.median(1).indices.tolist() == [1, 0]
    assert x.kthvalue(2).values.tolist() == [2.0, 3.0]
    assert (x.aminmax(dim=0).min.tolist(), x.aminmax().max.item()) == ([0.0, 1.0], 3.0)
