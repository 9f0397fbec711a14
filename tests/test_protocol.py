"""Every backend keeps the contract of kernels.protocol, family by family."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from types import ModuleType
from typing import Any, get_type_hints

import pytest

from minigrad.kernels import protocol

BACKENDS = ("cpu", "reference", "cuda")
FAMILIES: dict[str, Any] = get_type_hints(protocol.Backend)
LAUNCHERS = {
    (family, name): member
    for family, kind in FAMILIES.items()
    for name, member in inspect.getmembers(kind, inspect.isfunction)
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
    expected = {("elementwise", "fill"), ("conv", "conv2d_forward"), ("pool", "max_pool2d_forward")}
    assert expected <= set(LAUNCHERS)
    names = [name for _, name in LAUNCHERS]
    assert len(names) == len(set(names)), "a launcher's name is found by grepping for it"


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(("family", "launcher"), LAUNCHERS)
def test_launcher_exists_with_the_parameters_of_the_protocol(
    family: str, launcher: str, name: str
) -> None:
    """Its family is the module of that name on every backend, so they mirror one another."""
    module = getattr(backend(name), family)
    assert module.__name__ == f"minigrad.kernels.{name}.{family}"
    assert hasattr(module, launcher), f"kernels.{name}.{family} lacks {launcher}"
    function = getattr(module, launcher)
    assert getattr(function, "py_func", function).__module__ == module.__name__
    expected = parameters(LAUNCHERS[family, launcher])[1:]  # without self
    assert parameters(function) == expected


@pytest.mark.parametrize("name", BACKENDS)
def test_backend_imports_the_families_and_nothing_else(name: str) -> None:
    imports = [
        node for node in ast.walk(ast.parse(inspect.getsource(backend(name))))
        if isinstance(node, ast.ImportFrom)
    ]  # fmt: skip
    found = {each.name for node in imports for each in node.names}
    assert {each for each in found if not each.startswith("_")} == set(FAMILIES)
