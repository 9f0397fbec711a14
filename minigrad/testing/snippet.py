"""Reproducer: a program that repeats a failed call in torch and in minigrad, for the failure's
message."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from .oracle import map_arrays, seed_of
from .spec import Case, OpSpec

# Larger arrays are printed as the call that draws them, where there is one.
_LITERAL = 16


def reproduction(spec: OpSpec, case: Case, dtype: str = "float32", device: str = "cpu") -> str:
    """Python source that calls `spec.function` and `spec.oracle` on the arrays of `case`."""
    names: list[str] = []
    lines = [
        "import numpy as np",
        "import torch",
        "from minigrad import Tensor",
        "from minigrad.device import Device",
        "from minigrad.testing.oracle import upstream_gradient",
        "from minigrad.testing.strategies import bool_values, integer_values, values",
        "",
    ]

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def __repr__(self) -> str:
            return self.name

    def name_array(path: tuple[int | str, ...], array: np.ndarray) -> Named:
        name = "_".join(f"arg{p}" if isinstance(p, int) else p for p in path)
        cast = f".astype(np.{dtype})" if array.dtype.kind == "f" else ""
        lines.append(f"{name} = {_literal(array)}{cast}")
        names.append(name)
        return Named(name)

    args, kwargs = map_arrays(case, name_array)
    arguments = ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])
    floating = [n for n in names if _is_floating(case, n, names)]
    lines += ["", _definition("function", spec.function), _definition("oracle", spec.oracle), ""]
    lines += ["# torch"]
    lines += _tensors(names, floating, "torch.from_numpy({0}.copy())", spec.differentiable)
    lines += [f"theirs = oracle(torch, {_on(arguments, names, 't_')})", "print(theirs)"]
    gradient = f"upstream_gradient({seed_of(case)}, 0, tuple({{0}}.shape))"
    if floating and spec.differentiable:
        lines += _backward("theirs", floating, f"torch.from_numpy({gradient}).to({{0}}.dtype)")
    lines.append("")
    lines += ["# minigrad"]
    build = f"Tensor({{0}}.copy(), Device({device!r}))"
    lines += _tensors(names, floating, build, spec.differentiable)
    lines += [f"mine = function({_on(arguments, names, 't_')})", "print(mine)"]
    if floating and spec.differentiable:
        lines += _backward(
            "mine", floating, f"Tensor({gradient}.astype({{0}}.dtype), {{0}}.device)"
        )
    return "\n".join(lines)


def _is_floating(case: Case, name: str, names: list[str]) -> bool:
    found: list[bool] = []

    def look(path: tuple[int | str, ...], array: np.ndarray) -> None:
        found.append(array.dtype.kind == "f" and path[0] not in case.constant)

    map_arrays(case, look)
    return found[names.index(name)]


def _tensors(names: list[str], floating: list[str], build: str, differentiable: bool) -> list[str]:
    lines = [f"t_{name} = {build.format(name)}" for name in names]
    if differentiable:
        lines += [f"t_{name}.requires_grad = True" for name in floating]
    return lines


def _backward(result: str, floating: list[str], gradient: str) -> list[str]:
    return [
        f"first = {result}[0] if isinstance({result}, (tuple, list)) else {result}",
        "if first.requires_grad:",
        f"    first.backward({gradient.format('first')})",
        *(f"    print(t_{name}.grad)" for name in floating),
    ]


def _on(arguments: str, names: list[str], prefix: str) -> str:
    tree = ast.parse(f"f({arguments})", mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names:
            node.id = prefix + node.id
    return ast.unparse(tree)[2:-1]


def _literal(array: np.ndarray) -> str:
    recipe = getattr(array, "recipe", None)
    if recipe and array.size > _LITERAL:
        return recipe
    body = repr(np.asarray(array).tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
    shape = f".reshape({array.shape})" if array.size == 0 else ""
    return f"np.array({body}, np.{array.dtype.name}){shape}"


def _definition(name: str, function: Callable[..., Any]) -> str:
    """An import where the function has a name, else its source."""
    module, qualified = function.__module__, getattr(function, "__qualname__", "")
    if qualified.isidentifier():
        return f"from {module} import {qualified} as {name}"
    source = _source(function)
    if source.startswith("lambda"):
        return f"{name} = {source}"
    own = getattr(function, "__name__", qualified)
    alias = "" if own == name else f"{name} = {own}"
    return f"# {qualified} of {module}\n{source}{alias}"


def _source(function: Callable[..., Any]) -> str:
    """The text of a function; of a lambda, without what stands around it."""
    module = inspect.getmodule(function)
    if module is None or not inspect.isfunction(function):
        return f"# no source: {function!r}"
    try:
        text, whole = inspect.getsource(function), inspect.getsource(module)
    except OSError:
        return f"# no source: {function!r}"
    code = function.__code__
    if code.co_name != "<lambda>":
        return textwrap.dedent(text)
    parameters = code.co_varnames[: code.co_argcount]
    for node in ast.walk(ast.parse(whole)):
        if (
            isinstance(node, ast.Lambda)
            and node.lineno == code.co_firstlineno
            and tuple(a.arg for a in node.args.args) == parameters
        ):
            return textwrap.dedent(ast.get_source_segment(whole, node) or text)
    return textwrap.dedent(text)
