"""Layers that are records: a class lists the arguments of its constructor, with types and defaults,
as attributes.

    class Threshold(Layer):
        threshold: float
        value: float
        inplace: bool = False

The arguments become attributes of the layer, and its repr shows them. Names that begin with an
underscore are no arguments. Subclasses outside of this package are ordinary ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, dataclass_transform

from .module import Module

_ALL: tuple[str, ...] = ("all arguments",)
_SELF = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _constructor(fields: dict[str, Any]) -> Callable[..., None]:
    """An __init__ with these arguments and defaults."""
    parameters = [_SELF] + [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for name, default in fields.items()
    ]
    signature = inspect.Signature(parameters)

    def construct(self: Layer, *args: Any, **kwargs: Any) -> None:
        Module.__init__(self)
        try:
            given = signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}: {error}") from None
        given.apply_defaults()
        del given.arguments["self"]
        self._start(**given.arguments)

    construct.__name__ = "__init__"
    construct.__signature__ = signature  # type: ignore[attr-defined]
    return construct


@dataclass_transform()
class Layer(Module):
    """Base of such layers."""

    _fields: ClassVar[dict[str, Any]] = {}
    _shown = _ALL  # what repr shows

    def __init_subclass__(cls) -> None:
        if not cls.__module__.startswith(__name__.partition(".")[0]):
            return
        own = [name for name in inspect.get_annotations(cls) if not name.startswith("_")]
        if own:
            defaults = {name: vars(cls).get(name, inspect.Parameter.empty) for name in own}
            for name in own:
                if name in vars(cls):
                    delattr(cls, name)  # it is an attribute of layers, not of the class
            cls._fields = cls._fields | defaults
            if "__init__" not in vars(cls):
                cls.__init__ = _constructor(cls._fields)  # type: ignore[method-assign]

    def _start(self, **fields: Any) -> None:
        """Take the arguments; subclasses check and complete them."""
        for name, value in fields.items():
            setattr(self, name, value)

    def extra_repr(self) -> str:
        names = tuple(self._fields) if self._shown is _ALL else self._shown
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)
