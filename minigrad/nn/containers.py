"""Containers: modules that hold modules, in a row, in a list, under names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, TypeVar

from ..engine import Tensor
from ..engine.grad_mode import mode
from . import fusion
from .module import Module
from .parameter import Parameter

__all__ = [
    "DataParallel", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential",
]  # fmt: skip

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

    def pop(self, key: int) -> Any:
        module = self._modules[_position(self, key)]
        del self[key]
        return module

    def __iadd__(self: T, modules: Iterable[Module]) -> T:
        return self.extend(modules)

    def __add__(self: T, modules: Iterable[Module]) -> T:
        return type(self)(*self, *modules)

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
        mode.observer.call(self)  # for layers that run as one, and are not called themselves
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

    def __add__(self, modules: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *modules])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._modules[_position(self, index)]

    def __repr__(self) -> str:
        """Neighbours that look the same are one line."""
        lines = [f"{self._get_name()}("]
        start = 0
        for text, group in groupby(map(repr, self)):
            count = len(list(group))
            label = f"({start}): " if count == 1 else f"({start}-{start + count - 1}): {count} x "
            lines.append("  " + (label + text).replace("\n", "\n  "))
            start += count
        return "\n".join([*lines, ")"]) if self._modules else f"{self._get_name()}()"


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


def _as_parameter(value: Any) -> Any:
    """A tensor as a Parameter; anything else as it is."""
    plain = isinstance(value, Tensor) and not isinstance(value, Parameter)
    return Parameter(value) if plain else value


class ParameterList(Module):
    """A list of parameters, under the names "0", "1", …; a tensor becomes a Parameter."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self._size = 0
        self.extend(values or ())

    def append(self, value: Any) -> ParameterList:
        self._size += 1
        self[self._size - 1] = value
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        for value in values:
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[Any]) -> ParameterList:
        return self.extend(values)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(self._size))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)([self[k] for k in range(self._size)[index]])
        return getattr(self, str(self._place(index)))

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, str(self._place(index)), _as_parameter(value))

    def _place(self, index: int) -> int:
        try:
            return range(self._size)[index.__index__()]
        except IndexError:
            raise IndexError(f"ParameterList: index {index} of {self._size} values") from None

    def extra_repr(self) -> str:
        return "\n".join(f"({k}): {_described(value)}" for k, value in enumerate(self))


class ParameterDict(Module):
    """A dict of parameters; a tensor becomes a Parameter."""

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        self._keys: dict[str, None] = {}
        self.update(parameters or {})

    def update(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        pairs = parameters.items() if hasattr(parameters, "items") else parameters
        for key, value in pairs:
            self[key] = value

    def keys(self) -> Iterable[str]:
        return self._keys.keys()

    def values(self) -> Iterable[Any]:
        return (self[key] for key in self._keys)

    def items(self) -> Iterable[tuple[str, Any]]:
        return ((key, self[key]) for key in self._keys)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self._keys else default

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str) -> Any:
        value = self[key]
        del self[key]
        return value

    def clear(self) -> None:
        for key in tuple(self._keys):
            del self[key]

    def __getitem__(self, key: str) -> Any:
        if key not in self._keys:
            raise KeyError(key)
        return getattr(self, key)

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"ParameterDict: a key must be a string, got {key!r}")
        if key not in self._keys and hasattr(self, key):
            raise KeyError(f"ParameterDict: {key!r} is the name of an attribute")
        setattr(self, key, _as_parameter(value))
        self._keys[key] = None

    def __delitem__(self, key: str) -> None:
        del self._keys[key]
        delattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def extra_repr(self) -> str:
        return "\n".join(f"({key}): {_described(value)}" for key, value in self.items())


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        sizes = "x".join(map(str, value.shape))
        return f"{type(value).__name__} containing: [{value.dtype.name} of size {sizes}]"
    return f"Object of type: {type(value).__name__}"


class DataParallel(Module):
    """The module under the name `module`, as torch's wrapper has it: state dicts of both fit. A
    batch is not divided among GPUs; it is computed where the module is."""

    def __init__(
        self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0
    ) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


def data_parallel(
    module: Module,
    inputs: Any,
    device_ids: Any = None,
    output_device: Any = None,
    dim: int = 0,
    module_kwargs: dict[str, Any] | None = None,
) -> Any:
    """module(*inputs, **module_kwargs), as DataParallel does it."""
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    return module(*inputs, **(module_kwargs or {}))
