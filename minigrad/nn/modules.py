"""torch.nn.modules' files by name: `nn.modules.batchnorm._BatchNorm`, `nn.modules.utils._pair`.

torch divides its layers among files in another way. Each of its files has here the names of the
file of ours that has most of its classes, and all of nn's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from itertools import repeat
from types import ModuleType
from typing import Any

from . import (
    activation,
    attention,
    containers,
    conv,
    embedding,
    layers,
    losses,
    module,
    padding,
    resample,
    stateless,
)


def _ntuple(n: int) -> Callable[[Any], tuple[Any, ...]]:
    def parse(x: Any) -> tuple[Any, ...]:
        return tuple(x) if isinstance(x, Iterable) else tuple(repeat(x, n))

    return parse


utils = ModuleType(f"{__name__}.utils", "Numbers as tuples, for layers of one's own.")
vars(utils).update(_ntuple=_ntuple)
for _n, _name in enumerate(("_single", "_pair", "_triple", "_quadruple"), 1):
    setattr(utils, _name, _ntuple(_n))

_FILES = {
    "activation": activation, "batchnorm": layers, "container": containers, "conv": conv,
    "distance": embedding, "dropout": stateless, "flatten": stateless, "fold": stateless,
    "instancenorm": layers, "linear": layers, "loss": losses, "module": module,
    "normalization": layers, "padding": padding, "pixelshuffle": resample, "pooling": stateless,
    "sparse": embedding, "transformer": attention, "upsampling": resample, "utils": utils,
}  # fmt: skip


class _File(ModuleType):
    def __getattr__(self, name: str) -> Any:
        ours = _FILES[self.__name__.rpartition(".")[2]]
        return getattr(ours, name) if hasattr(ours, name) else __getattr__(name)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(import_module(__package__), name)


for _name in _FILES:
    # `from torch.nn.modules.utils import _pair` looks for a module here.
    globals()[_name] = sys.modules[f"{__name__}.{_name}"] = _File(f"{__name__}.{_name}")
