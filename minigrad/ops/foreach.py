"""Operations on lists of tensors, under torch's names, for optimizers of one's own:
`_foreach_add_(parameters, gradients, alpha=-0.1)` adds to each parameter its gradient.

Of the other arguments, too, a list has one item for each tensor; what is no list is for all. The
tensors have their turns one after the other: nothing is computed together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..engine import Tensor
from ..errors import ShapeError
from .methods import Methods
from .vector_norm import vector_norm


def _rows(name: str, *lists: Any) -> list[list[Any]]:
    """The arguments of each call."""
    lengths = [len(each) for each in lists if isinstance(each, (list, tuple))]
    if not lengths or len(set(lengths)) > 1:
        raise ShapeError(f"{name}: expects lists of tensors of one length, got lengths {lengths}")
    return [
        [each[index] if isinstance(each, (list, tuple)) else each for each in lists]
        for index in range(lengths[0])
    ]


def _each(name: str, function: Callable[..., Tensor]) -> Callable[..., Any]:
    """A function of lists that returns the results as a tuple, or the list that it changed."""

    def foreach(*args: Any, **options: Any) -> Any:
        rows = _rows(name, *args, *options.values())
        count = len(args)
        results = [
            function(*row[:count], **dict(zip(options, row[count:], strict=True))) for row in rows
        ]
        return args[0] if name.endswith("_") else tuple(results)

    foreach.__name__ = foreach.__qualname__ = name
    foreach.__doc__ = f"`{function.__name__}` of each tensor of a list; see the module."
    return foreach


def _with_factors(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """addcmul and addcdiv, which call a list of factors `scalars`."""

    @functools.wraps(function)
    def each(
        input: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1, scalars: Any = None
    ) -> Tensor:
        return function(input, tensor1, tensor2, value=value if scalars is None else scalars)

    return each


def _norm(input: Tensor, ord: float = 2, dtype: Any = None) -> Tensor:
    return vector_norm(input, ord, dtype=dtype)


# Those that have a form in place, too, and the methods that do them.
_METHODS = {
    name: name
    for name in (
        "abs", "add", "addcdiv", "addcmul", "clamp_max", "clamp_min", "div", "exp", "lerp", "log",
        "mul", "neg", "pow", "reciprocal", "round", "rsqrt", "sigmoid", "sign", "sqrt", "sub",
        "tanh",
    )
} | {"maximum": "clamp_min", "minimum": "clamp_max"}  # fmt: skip
_OF_ONE: dict[str, Callable[..., Any]] = {
    name + ending: getattr(Methods, method + ending)
    for name, method in _METHODS.items() for ending in ("", "_")
}  # fmt: skip
for _name in ("addcdiv", "addcdiv_", "addcmul", "addcmul_"):
    _OF_ONE[_name] = _with_factors(_OF_ONE[_name])
_OF_ONE |= {"copy_": Methods.copy_, "norm": _norm, "zero_": Methods.zero_}
FUNCTIONS = {f"_foreach_{name}": _each(f"_foreach_{name}", each) for name, each in _OF_ONE.items()}
