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
