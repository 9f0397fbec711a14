"""Containers: modules that hold modules, in a row, in a list, under names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from . import fusion
from .module import Module

__all__ = ["ModuleDict", "ModuleList", "Sequential"]

T = TypeVar("T", bound="_Listed")


def _position(container: Module, index: Any) -> str:
    """The name of the module at an int index, which may be negative."""
    count = len(container._modules)
    try:
        position = index.__index__()
    except AttributeError:
        raise TypeError(
            f"{type(container).__name__}: an index must be an int or a slice, got {index!r}"
        ) from None
    if not -count <= position < count:
        raise IndexError(f"{type(container).__name__}: index {index} of {count} modules")
    return list(container._modules)[position]


class _Listed(Module):
    """Modules under the names "0", "1", … that are read and changed as those of a list."""

    def append(self: T, module: Module) -> T:
        self.add_module(str(len(self._modules)), module)
        return self

    def extend(self: T, modules: Iterable[Module]) -> T:
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        modules = list(self)
        modules.insert(index, module)
        self._renew(modules)

    def _renew(self, modules: list[Module]) -> None:
        """As in torch, the modules are numbered anew."""
        self._modules.clear()
        self.extend(modules)

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, _position(self, index), module)

    def __delitem__(self, index: Any) -> None:
        if not isinstance(index, slice):
            _position(self, index)  # checks
        modules = list(self)
        del modules[index]
        self._renew(modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())


class Sequential(_Listed):
    """Calls its modules one after the other.

    Some chains of them run as one operation, with the same result: see nn/fusion.py.

    Sequential(a, b, c), or Sequential(OrderedDict([("conv", a), ("relu", b)])) with names.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            self.extend(args)

    def forward(self, input: Any) -> Any:
        for step in fusion.steps(tuple(self._modules.values())):
            input = step(input)
        return input

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            part = type(self).__new__(type(self))
            Sequential.__init__(part, dict(list(self._modules.items())[index]))
            return part
        return self._modules[_position(self, index)]


class ModuleList(_Listed):
    """A list of modules that a network calls as it likes."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._modules[_position(self, index)]


class ModuleDict(Module):
    """A dict of modules that a network calls as it likes."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        for name, module in dict(modules).items():
            self[name] = module

    def keys(self) -> Iterable[str]:
        return self._modules.keys()

    def values(self) -> Iterable[Any]:
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        return self._modules.items()

    def pop(self, key: str) -> Any:
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        self._modules.clear()

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)
