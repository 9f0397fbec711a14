"""Every backend keeps the contract of kernels.protocol, family by family."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from types import ModuleType
from typing import Any, get_type_hints

import pytest

from minigrad.kernels import protocol
from minigrad.ops.unary import Unary

BACKENDS = ("cpu", "reference", "cuda")
FAMILIES: dict[str, Any] = get_type_hints(protocol.Backend)
LAUNCHERS = {
    (family, name): member
    for family, kind in FAMILIES.items()
    for name, member in inspect.getmembers(kind, inspect.isfunction)
    if not name.startswith("_")
}


def parameters(launcher: Any) -> list[str]:
    """Names in order, without the output's; of a launcher made of a formula, those of the formula,
    of a compiled kernel, those of its Python source."""
    if hasattr(launcher, "formula"):
        return list(inspect.signature(launcher.formula).parameters)
    names = list(inspect.signature(getattr(launcher, "py_func", launcher)).parameters)
    return [name for name in names if name != "span"][1:]


def formulas(module: ModuleType) -> dict[str, list[str]]:
    """The launchers of a module that are made of formulas, with their parameters."""
    return {
        name: parameters(each)
        for name, each in vars(module).items()
        if hasattr(each, "formula") and each.formula.__module__ == module.__name__
    }


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
    without_self = list(inspect.signature(LAUNCHERS[family, launcher]).parameters)[1:]
    assert parameters(function) == without_self[1:]


@pytest.mark.parametrize("name", BACKENDS)
def test_functions_of_one_value_are_those_of_the_reference(name: str) -> None:
    """By two launchers each, of which the second says what is saved for it: x or y."""
    expected = formulas(backend("reference").unary)
    assert len(expected) > 30
    assert formulas(backend(name).unary) == expected
    for launcher, names in expected.items():
        if launcher.endswith("_forward"):
            assert names[0] == "x", launcher
        else:
            assert launcher.endswith("_backward_input"), launcher
            assert names[0] == "grad_output", launcher
            assert names[1] in ("x", "y"), launcher


def test_records_of_functions_of_one_value_save_what_their_slopes_read() -> None:
    launchers = formulas(backend("reference").unary)
    records = Unary.__subclasses__()
    assert len(records) > 30
    for record in records:
        assert callable(record._forward) or record._forward in launchers
        if isinstance(record._gradient, str):
            reads = launchers[record._gradient][1]
            assert record._saves == {"x": "input", "y": "output"}[reads], record


@pytest.mark.parametrize("name", BACKENDS)
def test_backend_imports_the_families_and_nothing_else(name: str) -> None:
    imports = [
        node for node in ast.walk(ast.parse(inspect.getsource(backend(name))))
        if isinstance(node, ast.ImportFrom)
    ]  # fmt: skip
    found = {each.name for node in imports for each in node.names}
    assert {each for each in found if not each.startswith("_")} == set(FAMILIES)
