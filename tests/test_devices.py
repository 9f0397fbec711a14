"""Devices by name, and what a machine without a GPU says of "cuda"."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import minigrad as mg
from minigrad.runtime.cuda import driver, memory


@pytest.fixture
def no_driver(monkeypatch) -> None:
    """As in a new process on a machine whose driver cannot be started."""
    monkeypatch.setattr(driver, "_drivers", {})
    monkeypatch.setattr(memory, "_memories", {})
    monkeypatch.setattr(driver, "find_spec", lambda name: None)


def test_unknown_devices_are_refused() -> None:
    with pytest.raises(mg.DeviceError, match=r"'cpu', 'cuda', 'reference'.*got 'gpu'"):
        mg.zeros(2, device="gpu")


def test_without_the_packages_cuda_says_what_to_install(no_driver) -> None:
    assert not mg.cuda.is_available()
    assert mg.cuda.device_count() == 0
    assert 'pip install "minigrad[cuda]"' in str(mg.cuda.why_unavailable())
    for use in (
        lambda: mg.zeros(2, device="cuda"),
        lambda: mg.zeros(2).cuda(),
        lambda: mg.nn.Linear(2, 2).to("cuda"),
        mg.cuda.synchronize,
        mg.cuda.get_device_name,
    ):
        with pytest.raises(mg.DeviceError, match="minigrad"):
            use()


def test_a_failed_move_leaves_the_module_as_it_was(no_driver) -> None:
    layer = mg.nn.Linear(2, 2)
    with pytest.raises(mg.DeviceError):
        layer.to("cuda")
    assert {p.device.type for p in layer.parameters()} == {"cpu"}
    assert layer(mg.ones(1, 2)).shape == (1, 2)


def test_asking_for_cuda_leaves_the_cpu_working(no_driver) -> None:
    with pytest.raises(mg.DeviceError):
        mg.zeros(2, device="cuda")
    assert mg.ones(3).sum().item() == 3


# Names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cpu", "reference", "cuda", "cuda:0", "cuda:3"])
def test_a_device_is_what_its_name_says(name: str) -> None:
    kind, _, number = name.partition(":")
    device = mg.Device(name)
    assert (device.type, device.index) == (kind, int(number) if number else None)
    assert device == mg.Device(kind, device.index) == name == str(device)
    assert hash(device) == hash(name)
    assert pickle.loads(pickle.dumps(device)) == copy.deepcopy(device) == device


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_devices_are_equal_and_printed_as_torchs(name: str) -> None:
    mine, theirs = mg.Device(name), torch.device(name)
    assert (repr(mine), str(mine)) == (repr(theirs), str(theirs))
    for other in ("cpu", "cuda", "cuda:0", "cuda:1"):
        assert (mine == mg.Device(other)) == (theirs == torch.device(other))


@pytest.mark.parametrize("name", ["cuda:", "cuda:-1", "cuda:x", "cpu:0", "reference:1", "cuda:1:1"])
def test_names_without_a_meaning_are_refused(name: str) -> None:
    with pytest.raises(mg.DeviceError, match=f"got '{name}'"):
        mg.Device(name)
