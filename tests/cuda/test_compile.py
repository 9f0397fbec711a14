"""Compiling kernels: what a launch packs is what the PTX declares, and the cache on disk."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.kernels.cuda import _compile, _launch, elementwise, unary

CAPABILITY = (9, 0)
RELU = ("float32*", "float32*", "int32", "int32")


def _relu() -> Any:
    return unary.relu_forward.kernel(np.float32, 1)


def _image() -> tuple[bytes, str]:
    image, entry = _compile.cached_image(_relu(), RELU, CAPABILITY)
    if _compile.image_kind == "ptx":  # Numba numbers what it compiles: names differ each time
        assert f".visible .entry {entry}(" in image.decode()
        assert image.endswith(b"}")
    return image, entry


@pytest.fixture
def compiled(monkeypatch, tmp_path) -> list[str]:
    """An empty cache for PTX, and the names of what was compiled since."""
    done: list[str] = []
    compile_ptx = _compile.compile_ptx

    def counted(variant: Any, types: Any, capability: Any) -> Any:
        done.append(repr(variant))
        return compile_ptx(variant, types, capability)

    monkeypatch.setattr(_compile, "compile_ptx", counted)
    monkeypatch.setattr(_compile, "image_kind", "ptx")
    monkeypatch.setattr(_compile, "_folder", lambda: tmp_path)
    return done


@pytest.mark.parametrize(
    ("name", "packed"),
    [("none", ""), ("boolean", "i"), ("int64", "i")],
    ids=lambda x: x or "left out",
)
def test_a_parameter_that_a_launch_packs_otherwise_is_refused(
    monkeypatch, name: str, packed: str
) -> None:
    add = elementwise._add.kernel(np.float32, 3)
    types = "float32*", "float32*", "int32", "float32", "none", "boolean", "none", "int64"
    _compile.compile_ptx(add, types, CAPABILITY)
    monkeypatch.setitem(_launch._FORMATS, name, packed)
    with pytest.raises(mg.DeviceError, match=r"elementwise.add\(float32, 3\).*none, int64.*\[8, "):
        _compile.compile_ptx(add, types, CAPABILITY)


def test_every_form_of_a_parameter_is_measured() -> None:
    ptx = """.visible .entry kernel(
        .param .u64 kernel_param_0, .param .u64 .ptr .align 1 kernel_param_1,
        .param .align 8 .b8 kernel_param_2[24], .param .f32 kernel_param_3,
        .param .u8 kernel_param_4
    )
    {
        .reg .u16 %r<2>;"""
    assert _compile._entry(ptx) == ("kernel", [8, 8, 24, 4, 1])


def test_compiling_leaves_numba_to_others(monkeypatch) -> None:
    """Another thread asks for its own GPU meanwhile, and so does everybody afterwards."""
    from numba.cuda import dispatcher

    def theirs() -> str:
        return "theirs"

    monkeypatch.setattr(dispatcher, "get_current_device", theirs)
    found: list[Any] = []

    def ask() -> None:
        found.append(dispatcher.get_current_device())

    with _compile._compiling_for(CAPABILITY):
        ask()
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert found[0].compute_capability == CAPABILITY
    assert found[1] == "theirs"
    assert dispatcher.get_current_device is theirs


def test_ptx_is_kept_as_text_and_not_linked(monkeypatch, tmp_path, compiled) -> None:
    monkeypatch.setattr(_compile, "link", None)
    assert _image() == _image()
    assert len(compiled) == 1
    assert [file.suffix for file in tmp_path.iterdir()] == [".ptx"]


def test_a_cubin_is_kept(monkeypatch, tmp_path, compiled) -> None:
    monkeypatch.setattr(_compile, "image_kind", "cubin")
    image, entry = _image()
    assert image.startswith(b"\x7fELF")
    assert _image() == (image, entry)
    assert len(compiled) == 1


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-20], lambda data: data[:10], lambda data: b"",
               lambda data: data[:-5] + b"#" + data[-4:]],
    ids=["truncated", "nearly empty", "empty", "one byte"],
)  # fmt: skip
def test_a_damaged_file_is_compiled_again(tmp_path, compiled, damage) -> None:
    _image()
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    again = _image()
    assert len(compiled) == 2
    assert _image() == again
    assert len(compiled) == 2


def test_a_full_disk_stops_nothing(monkeypatch, tmp_path, compiled) -> None:
    def fail(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    for _ in range(2):
        _image()
    assert len(compiled) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_stops_nothing(monkeypatch, tmp_path, compiled) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(_compile, "_folder", lambda: tmp_path / "file")
    for _ in range(2):
        _image()
    assert len(compiled) == 2


@pytest.mark.parametrize("package", ["numba", "llvmlite", "numba-cuda"])
def test_another_compiler_has_another_cache(monkeypatch, package: str) -> None:
    before = _compile._folder.__wrapped__()
    version = _compile.version
    monkeypatch.setattr(
        _compile, "version", lambda name: "0.0" if name == package else version(name)
    )
    assert _compile._folder.__wrapped__() != before


def test_a_change_inside_a_package_of_kernels_has_another_cache(monkeypatch, tmp_path) -> None:
    plan = tmp_path / "cuda" / "conv" / "plan.py"
    plan.parent.mkdir(parents=True)
    for file in (plan, tmp_path / "formulas.py"):
        file.touch()
    monkeypatch.setattr(_compile, "__file__", str(tmp_path / "cuda" / "_compile.py"))
    before = _compile._folder.__wrapped__()
    plan.write_text("# changed")
    assert _compile._folder.__wrapped__() != before


def test_the_libraries_of_the_toolkit_are_among_the_compilers() -> None:
    found = _compile.compiler_versions()
    assert any(name in found for name in ("nvidia-nvvm", "nvidia-cuda-nvcc-cu12"))
    assert any(name.startswith("nvidia-nvjitlink") for name in found)
