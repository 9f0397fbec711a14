"""The operators and methods of Tensor, in one list.

A method is the public function of the same name, with the tensor as first argument.
"""

from __future__ import annotations

from ..engine import Tensor
from ..engine.backward import register_hook
from . import elementwise


def attach() -> None:
    methods = {
        "__add__": elementwise.add,
        "clone": elementwise.clone,
        "relu": elementwise.relu,
        "register_hook": register_hook,
    }
    for name, function in methods.items():
        setattr(Tensor, name, function)


attach()
