"""Tensors on the GPU: where they live, how they travel, and what may not be read."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.dtypes import SUPPORTED
from minigrad.runtime.cuda.array import DeviceArray


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_the_device_has_torchs_names(name: str) -> None:
    x = mg.zeros(2, device=name)
    assert x.device == "cuda:0"
    assert x.is_cuda
    assert not x.cpu().is_cuda


@pytest.mark.parametrize("dtype", SUPPORTED, ids=str)
def test_values_survive_the_way_there_and_back(dtype) -> None:
    values = (np.arange(24).reshape(2, 3, 4) % 3).astype(dtype)
    there = mg.tensor(values).cuda()
    np.testing.assert_array_equal(there.cpu().numpy(), values)
    np.testing.assert_array_equal(there.transpose(0, 2)[1].cpu().numpy(), values.T[1])
    np.testing.assert_array_equal(mg.from_dlpack(there).cpu().numpy(), values, strict=True)


def test_memory_order_survives_the_way_there_and_back() -> None:
    x = mg.randn(2, 3, 4, 5).permute(0, 3, 1, 2)
    assert x.cuda().stride() == x.stride()
    assert x.cuda().cpu().stride() == x.stride()


def test_to_changes_device_and_dtype_at_once() -> None:
    x = mg.tensor([1.5, -2.0]).to("cuda", mg.int64)
    assert (x.device, x.dtype, x.tolist()) == ("cuda:0", mg.int64, [1, -2])


def test_gradients_come_back_from_the_gpu() -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    (x.cuda() ** 2).sum().backward()
    assert x.grad.device == "cpu"
    assert x.grad.tolist() == [2.0, 4.0]


def test_a_module_moves_with_its_buffers() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).to("cuda")
    assert {t.device.type for t in (*model.parameters(), *model.buffers())} == {"cuda"}
    assert model(mg.randn(1, 1, 4, 4, device="cuda")).device == "cuda:0"
    assert {p.device.type for p in model.to("cpu").parameters()} == {"cpu"}


def test_numpy_sees_no_gpu_memory() -> None:
    x = mg.zeros(3, device="cuda")
    with pytest.raises(mg.DeviceError, match=r"\.cpu\(\)"):
        x.numpy()
    with pytest.raises(mg.DeviceError, match=r"\.cpu\(\)"):
        np.asarray(x)


def test_operands_on_two_devices_are_refused() -> None:
    with pytest.raises(mg.DeviceError, match="cuda"):
        mg.zeros(3, device="cuda") + mg.zeros(3)


def test_printing_reads_the_values() -> None:
    assert repr(mg.tensor([1.0, 2.0], device="cuda")) == "tensor([1., 2.], device='cuda:0')"


# Values that the GPU checks ---------------------------------------------------------------------


def test_a_bad_target_is_reported_at_the_next_synchronisation() -> None:
    logits = mg.zeros(3, 4, device="cuda")
    F.cross_entropy(logits, mg.tensor([0, 7, 1], device="cuda"))
    with pytest.raises(mg.TargetError, match=r"position \(1,\) is 7.*\[0, 4\)"):
        mg.cuda.synchronize()
    mg.cuda.synchronize()  # reported once


def test_reading_a_value_reports_too() -> None:
    x = mg.arange(4.0, device="cuda")
    picked = x[mg.tensor([1, 9], device="cuda")]
    with pytest.raises(mg.TargetError, match="index 9 is out of range"):
        picked.tolist()


# Arrays without reads ---------------------------------------------------------------------------


def test_views_follow_numpys_geometry() -> None:
    array = mg.zeros(4, 6, device="cuda").array
    host = np.zeros((4, 6), np.float32)
    for view, twin in (
        (array.T, host.T),
        (array[1:, ::2], host[1:, ::2]),
        (array.reshape(2, 2, 6), host.reshape(2, 2, 6)),
        (np.broadcast_to(array[:1], (3, 6)), np.broadcast_to(host[:1], (3, 6))),
        (np.moveaxis(array, 0, 1), np.moveaxis(host, 0, 1)),
    ):
        assert isinstance(view, DeviceArray)
        assert (view.shape, view.strides) == (twin.shape, twin.strides)
        assert np.may_share_memory(view, array)


def test_a_reshape_that_would_copy_is_refused() -> None:
    with pytest.raises(ValueError, match="cop"):
        mg.zeros(4, 6, device="cuda").array.T.reshape(-1)


@pytest.mark.parametrize(
    "read",
    [np.asarray, np.sum, lambda a: a + 1, list, lambda a: a[np.array([0])], np.copy],
    ids=["asarray", "sum", "add", "list", "index", "copy"],
)
def test_every_read_is_refused(read) -> None:
    with pytest.raises((mg.DeviceError, TypeError)):
        read(mg.zeros(4, device="cuda").array)


# Pinned memory ----------------------------------------------------------------------------------


def test_pinned_memory_is_copied_while_the_host_goes_on() -> None:
    x = mg.arange(6.0).reshape(2, 3).pin_memory()
    assert x.is_pinned()
    assert x[1].is_pinned()
    assert not mg.zeros(2).is_pinned()
    there = x.to("cuda", non_blocking=True)
    del x
    assert there.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_gpu_memory_cannot_be_pinned() -> None:
    with pytest.raises(mg.DeviceError, match="pin_memory"):
        mg.zeros(2, device="cuda").pin_memory()


def test_a_number_of_the_host_stands_beside_a_tensor_of_the_gpu() -> None:
    x = mg.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    scale = mg.tensor(3.0, dtype=mg.float64, requires_grad=True)
    y = scale * x + mg.tensor(1)
    y.sum().backward()
    assert (y.device, y.dtype, y.tolist()) == (x.device, mg.float32, [4.0, 7.0])
    assert scale.grad is not None
    assert (scale.grad.device, scale.grad.dtype, scale.grad.item()) == ("cpu", mg.float64, 3.0)
    with pytest.raises(mg.DeviceError):
        x + mg.tensor([1.0, 2.0], device="cpu")
