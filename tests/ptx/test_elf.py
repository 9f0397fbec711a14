"""The library without code: the loader finds it by its soname, and its symbols as they are."""

from __future__ import annotations

import ctypes
import os
import sys

import pytest

from minigrad.testing.ptx.elf import shared_library

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ELF is loaded on Linux")


def _address(function) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value


def test_a_loaded_library_is_found_by_its_soname_with_its_symbols(tmp_path) -> None:
    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    def double(n: int) -> int:
        return 2 * n

    symbols = {"double_it": _address(double), "also": _address(double), "far": 0x7FFF_1234_5678}
    soname = f"libminigrad-test-{os.getpid()}.so.3"
    (tmp_path / "any name.so").write_bytes(shared_library(soname, symbols))
    with pytest.raises(OSError, match=soname):
        ctypes.CDLL(soname, mode=os.RTLD_NOLOAD)
    ctypes.CDLL(str(tmp_path / "any name.so"))
    found = ctypes.CDLL(soname, mode=os.RTLD_NOLOAD)
    assert {name: _address(getattr(found, name)) for name in symbols} == symbols
    assert found.double_it(21) == 42
    with pytest.raises(AttributeError):
        found.triple_it  # noqa: B018


def test_an_unknown_processor_is_named(monkeypatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    with pytest.raises(OSError, match="x86_64, aarch64, this processor is pdp11"):
        shared_library("libx.so", {})
