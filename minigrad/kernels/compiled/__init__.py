"""Pointwise formulas that the compiled backends share, a file a family.

A formula is written for scalars, and calls mathematics by NumPy's names. Every backend compiles it
with functions of its own under these names, so the derivation stands once, and the digits are the
backend's. The reference has formulas of its own: they are the definition.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from numpy import exp

_POINTWISE: set[Callable[..., Any]] = set()
_HELPERS: set[Callable[..., Any]] = set()


def pointwise(formula: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a formula of which every backend makes a launcher."""
    _POINTWISE.add(formula)
    return formula


def helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a function that formulas call."""
    _HELPERS.add(function)
    return function


@helper
def sigmoid(x):
    """1/(1 + e^−x) for x ≥ 0, e^x/(1 + e^x) for x < 0: the exponent is never positive, so nothing
    overflows and small results keep their digits."""
    one = type(x)(1)
    e = exp(-abs(x))
    return (e if x < 0 else one) / (one + e)


def compiled_for(
    backend: str,
    mathematics: dict[str, Any],
    family: ModuleType,
    make_launcher: Callable[..., Any],
    make_helper: Callable[..., Any],
) -> dict[str, Any]:
    """The functions of a family, by name, for the module of that name in the package `backend`.

    What `mathematics` has takes the place of what the family has under that name. A function
    without a mark runs on the host: it is a launcher that chooses among others.
    """
    names = {**vars(family), **mathematics}
    names["__name__"] = f"{backend}.{family.__name__.rpartition('.')[2]}"
    found = {}
    for name, function in vars(family).items():
        if not isinstance(function, FunctionType) or name in mathematics:
            continue
        own = FunctionType(function.__code__, names)
        if function in _HELPERS:
            names[name] = found[name] = make_helper(own)
        elif function.__module__ == family.__name__:
            names[name] = found[name] = make_launcher(own) if function in _POINTWISE else own
    return found
