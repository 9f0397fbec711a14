"""The launch: which types it finds in its arguments, and the parameters that reach the driver."""

from __future__ import annotations

import ctypes
import json
import threading
from typing import Any

import numpy as np
import pytest

from minigrad.kernels.cuda import _compile, _launch
from minigrad.runtime.cuda.array import DeviceArray

_CTYPES = {
    "int32": ctypes.c_int32, "int64": ctypes.c_int64, "uint64": ctypes.c_uint64,
    "float32": ctypes.c_float, "float64": ctypes.c_double, "boolean": ctypes.c_bool,
    "none": ctypes.c_uint64,
}  # fmt: skip
SHAPE = (2, 3), (32,)


class Recorder:
    """Stands for the driver; reads a launch's parameters as the driver does, by their addresses."""

    compute_capability = (9, 0)

    def __init__(self) -> None:
        self.index = 0
        self.loaded: list[tuple[int, bytes]] = []
        self.types: list[tuple[str, ...]] = []
        self.launched: list[tuple[Any, ...]] = []

    def load(self, image: bytes, entry: str) -> tuple[int, str]:
        self.loaded.append((self.index, image))
        return self.index, entry

    def launch(self, handle: Any, grid: Any, block: Any, address: int) -> None:
        types = handle[1].split()
        self.types.append(tuple(types))
        cells = (ctypes.c_void_p * len(types)).from_address(address)
        self.launched.append(
            tuple(
                _CTYPES.get(name, ctypes.c_uint64).from_address(cell).value
                for name, cell in zip(types, cells, strict=True)
            )
        )


@pytest.fixture
def driver(monkeypatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(_launch, "driver", lambda: recorder)
    monkeypatch.setattr(
        _compile, "cached_image", lambda variant, types, capability: (b"", " ".join(types))
    )
    return recorder


def _variant(dtype: Any = np.float32) -> Any:
    def make(real: Any) -> Any:
        return lambda *args: None

    return _launch.Kernel(make)(dtype)


def _array(dtype: Any, driver: Any) -> DeviceArray:
    """Nobody reads it: the address is the host's."""
    return DeviceArray(np.zeros(3, dtype), driver)


def test_each_argument_reaches_the_driver_as_its_type_says(driver) -> None:
    variant, array, flags = _variant(), _array(np.float32, driver), _array(np.bool_, driver)
    args = (
        array, flags, None, 7, -(2**31), 2**31, True, np.bool_(False), 0.5, np.float64(0.1),
        np.int64(-3), np.uint64(2**63),
    )  # fmt: skip
    _launch.launch(variant, SHAPE, *args)
    assert driver.launched == [
        (array.pointer, flags.pointer, 0, 7, -(2**31), 2**31, True, False, 0.5, 0.1, -3, 2**63)
    ]


def test_types_are_told_apart(driver) -> None:
    variant = _variant()
    args = (
        (1, "int32"), (1.0, "float32"), (True, "boolean"), (None, "none"), (np.int32(1), "int32"),
        (_array(np.float64, driver), "float64*"), (_array(np.float32, driver), "float32*"),
        (_array(np.bool_, driver), "uint8*"), (_array(np.uint8, driver), "uint8*"),
        (2**31, "int64"), (-(2**31) - 1, "int64"),
    )  # fmt: skip
    for arg, _ in args * 2:
        _launch.launch(variant, SHAPE, arg)
    assert driver.types == [(name,) for _, name in args * 2]


def test_a_number_too_large_for_float32_is_infinite(driver) -> None:
    variant, wide = _variant(), _variant(np.int64)
    for value in (1e39, -1e39):
        _launch.launch(variant, SHAPE, value)
        _launch.launch(wide, SHAPE, value)
    assert driver.launched == [(np.inf,), (1e39,), (-np.inf,), (-1e39,)]


def test_what_no_kernel_takes_is_refused(driver) -> None:
    with pytest.raises(TypeError, match="not str"):
        _launch.launch(_variant(), SHAPE, "text")
    with pytest.raises(TypeError, match="not ndarray"):
        _launch.launch(_variant(), SHAPE, np.zeros(3))


def test_a_kernel_is_loaded_once_on_each_device(driver) -> None:
    variant = _variant()
    for index in (0, 0, 1, 0, 1):
        driver.index = index
        _launch.launch(variant, SHAPE, 1)
    assert [index for index, _ in driver.loaded] == [0, 1]


def test_an_empty_grid_launches_nothing(driver) -> None:
    _launch.launch(_variant(), ((0,), (32,)), 1)
    assert driver.launched == []


def test_threads_do_not_share_parameters(driver) -> None:
    """One is about to launch when another one packs."""
    variant, other = _variant(), _variant()
    read = driver.launch

    def interrupted(*launch: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=_launch.launch, args=(other, SHAPE, 2))
            thread.start()
            thread.join()
        read(*launch)

    driver.launch = interrupted
    _launch.launch(variant, SHAPE, 1)
    assert driver.launched == [(2,), (1,)]


def test_a_view_knows_its_address() -> None:
    geometry = np.zeros((2, 3, 4), np.float32)
    array = DeviceArray(geometry, Recorder(), geometry.ctypes.data)
    for view in (
        array, array.T, array.transpose(2, 0, 1), array.reshape(6, 4), array.view(np.int32),
        array[1], array[:, 1:], array[::-1], np.moveaxis(array, 0, 1),
    ):  # fmt: skip
        assert view.pointer == view._geometry.ctypes.data


def test_the_largest_block_of_each_launch_is_kept_for_the_check(
    driver, monkeypatch, tmp_path: Any
) -> None:
    variant = _variant()
    monkeypatch.setattr(_launch, "KERNELS", [variant.kernel])
    for block in ((32,), (8, 16), (64,)):
        _launch.launch(variant, ((1,), block), None, 1)
    _launch._write_launches(tmp_path)
    (file,) = tmp_path.iterdir()
    record = json.loads(file.read_text())
    assert (record["types"], record["threads"]) == (["none", "int32"], 128)
