"""torchvision's model definitions, read from the installed package with minigrad in torch's place.

    load("torchvision.models.resnet").resnet18(num_classes=10)  # a minigrad Module

The files in `torchvision/models` are executed as they are, but for the word `torch` in their import
statements, which becomes `minigrad`. What they import from the rest of torchvision stays
torchvision's (names of classes, presets of weights), but for the layers of `torchvision.ops`, which
are `minigrad.vision`'s.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import re
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

import minigrad as mg
import minigrad.vision

# Under this name the rewritten package is imported, so that its relative imports stay inside.
_ROOT = "torchvision_on_minigrad"
_LINES = (
    (re.compile(r"^(\s*)import torch$", re.M), r"\1import minigrad as torch"),
    (re.compile(r"^(\s*)import torch\.([\w.]+) as", re.M), r"\1import minigrad.\2 as"),
    (re.compile(r"^(\s*)from torch(\.[\w.]+)? import", re.M), r"\1from minigrad\2 import"),
    (re.compile(r"^(\s*)from torchvision\.", re.M), rf"\1from {_ROOT}."),
)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] != _ROOT:
            return None
        original = importlib.util.find_spec("torchvision" + name.removeprefix(_ROOT))
        package = original is not None and original.submodule_search_locations is not None
        return ModuleSpec(name, self, is_package=package)

    def create_module(self, spec):
        inside = spec.name.removeprefix(_ROOT).lstrip(".")
        if inside.split(".")[0] == "ops":
            file = "minigrad.vision" + inside.removeprefix("ops")
            if inside != "ops" and importlib.util.find_spec(file):
                return importlib.import_module(file)
            # A file that minigrad has not: its functions are in others.
            module = types.ModuleType(spec.name)
            module.__dict__.update(vars(minigrad.vision))
            return module
        if inside and inside.split(".")[0] != "models":
            return importlib.import_module(f"torchvision.{inside}")
        return types.ModuleType(spec.name)

    def exec_module(self, module):
        name = module.__spec__.name
        inside = name.removeprefix(_ROOT).lstrip(".")
        if not inside.startswith("models."):  # models/__init__.py would import all, video too
            return
        spec = importlib.util.find_spec(f"torchvision.{inside}")
        source = spec.loader.get_source(spec.name)
        for pattern, replacement in _LINES:
            source = pattern.sub(replacement, source)
        exec(compile(source, spec.origin, "exec"), module.__dict__)


def load(name: str) -> types.ModuleType:
    """The module of torchvision, on minigrad."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    return importlib.import_module(name.replace("torchvision", _ROOT, 1))


Load = Callable[[str], types.ModuleType]


def twins(build: Callable[[Load], Any], load: Load = load) -> tuple[Any, Any]:
    """A model on torch, and on minigrad with its weights, in float64: build(module by name)."""
    import torch

    torch.manual_seed(0)
    theirs, ours = build(importlib.import_module).double(), build(load).double()
    saved = theirs.state_dict()
    state = OrderedDict((name, mg.from_numpy(value.numpy())) for name, value in saved.items())
    state._metadata = saved._metadata  # the versions of the classes, which loading looks at
    ours.load_state_dict(state)
    assert list(ours.state_dict()) == list(saved)
    return theirs, ours
