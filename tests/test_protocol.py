"""Both backends keep the contract of kernels.protocol, and export nothing besides."""

from __future__ import annotations

import inspect
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

from minigrad.kernels import protocol

BACKENDS = ("cpu", "reference", "cuda")


def launchers() -> dict[str, Any]:
    return {
        name: member
        for name, member in inspect.getmembers(protocol.Backend, inspect.isfunction)
        if not name.startswith("_")
    }


def parameters(function: Any) -> list[str]:
    """Names in order; of a compiled kernel, those of its Python source."""
    return list(inspect.signature(getattr(function, "py_func", function)).parameters)


def backend(name: str) -> ModuleType:
    if name == "cuda":
        pytest.importorskip("numba_cuda", reason="minigrad's 'cuda' extra is not installed")
    return import_module(f"minigrad.kernels.{name}")


def test_the_protocol_lists_launchers() -> None:
    assert {"fill", "conv2d_forward", "relu_backward_input"} <= set(launchers())


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("launcher", launchers())
def test_launcher_exists_with_the_parameters_of_the_protocol(launcher: str, name: str) -> None:
    assert hasattr(backend(name), launcher), f"kernels.{name} lacks {launcher}"
    expected = parameters(launchers()[launcher])[1:]  # without self
    assert parameters(getattr(backend(name), launcher)) == expected


@pytest.mark.parametrize("name", BACKENDS)
def test_backend_exports_the_launchers_and_nothing_else(name: str) -> None:
    exported = backend(name).__all__
    assert sorted(set(exported)) == sorted(exported)
    assert set(exported) == set(launchers())


@pytest.mark.parametrize("others", [("cpu", "reference"), ("cuda", "reference")], ids="-".join)
def test_backends_mirror_each_other_file_by_file(others: tuple[str, str]) -> None:
    """A launcher lives in a module of the same name on every backend."""

    def module(name: str, launcher: str) -> str:
        function = getattr(backend(name), launcher)
        return getattr(function, "py_func", function).__module__.rsplit(".", 1)[1]

    differ = {
        launcher: modules
        for launcher in launchers()
        if len(modules := {module(other, launcher) for other in others}) > 1
    }
    assert not differ
