"""Sizes of scratch: no launcher of the reference needs any, so each of the protocol's functions for
them returns 0."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import get_type_hints

from ..protocol import Backend


def _no_scratch(stub, module):
    """What the stub of the protocol stands for, as a function of a module."""

    def workspace(*sizes):
        return 0

    without_self = list(signature(stub).parameters.values())[1:]
    workspace.__signature__ = signature(stub).replace(parameters=without_self)
    workspace.__name__, workspace.__module__ = stub.__name__, module
    return workspace


for _family, _launchers in get_type_hints(Backend).items():
    _module = import_module(f"{__package__}.{_family}")
    for _name, _stub in vars(_launchers).items():
        if _name.endswith("_workspace"):
            setattr(_module, _name, _no_scratch(_stub, _module.__name__))
