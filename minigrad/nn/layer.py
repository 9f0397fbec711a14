"""Layers that are records: a class lists the arguments of its constructor, with types and defaults,
as attributes.

    class Threshold(Layer):
        threshold: float
        value: float
        inplace: bool = False

The arguments become attributes of the layer, and its repr shows them. Names that begin with an
underscore are no arguments; those after `_: KW_ONLY` are given by name. Subclasses outside of this
package are ordinary ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, dataclass_transform

from .module import Module

_ALL: tuple[str, ...] = ("all arguments",)
_SELF = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
Fields = dict[str, inspect.Parameter]


def own_fields(cls: type) -> Fields:
    """The arguments that a class lists, which are attributes of its instances, not of the class.
    None of one outside of this package."""
    fields: Fields = {}
    if cls.__module__.partition(".")[0] != __name__.partition(".")[0]:
        return fields
    kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for name, its_type in inspect.get_annotations(cls).items():
        if name == "_":
            kind = inspect.Parameter.KEYWORD_ONLY
        elif not name.startswith("_"):
            default = vars(cls).get(name, inspect.Parameter.empty)
            fields[name] = inspect.Parameter(name, kind, default=default, annotation=its_type)
            if name in vars(cls):
                delattr(cls, name)
    return fields


def constructor(fields: Fields) -> Callable[..., None]:
    """An __init__ that calls self._begin(**arguments), those left out with their defaults."""
    signature = inspect.Signature([_SELF, *fields.values()])

    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            given = signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}: {error}") from None
        given.apply_defaults()
        del given.arguments["self"]
        self._begin(**given.arguments)

    construct.__name__ = "__init__"
    construct.__signature__ = signature  # type: ignore[attr-defined]
    return construct


@dataclass_transform()
class Layer(Module):
    """Base of such layers."""

    _fields: ClassVar[Fields] = {}
    _shown = _ALL  # what repr shows

    def __init_subclass__(cls) -> None:
        if own := own_fields(cls):
            cls._fields = cls._fields | own
            if "__init__" not in vars(cls):
                cls.__init__ = constructor(cls._fields)  # type: ignore[method-assign]

    def _begin(self, **fields: Any) -> None:
        Module.__init__(self)
        self._start(**fields)

    def _start(self, **fields: Any) -> None:
        """Take the arguments; subclasses check and complete them."""
        for name, value in fields.items():
            setattr(self, name, value)

    def extra_repr(self) -> str:
        names = tuple(self._fields) if self._shown is _ALL else self._shown
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)
