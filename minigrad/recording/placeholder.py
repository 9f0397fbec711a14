"""Placeholder: an array whose values are not there yet.

While a step of the host is recorded, nothing is computed. Operations get arrays of this class: they
find shapes, strides and views, which do not depend on values. Whatever would read or write values
other than by a launcher is refused, so that nothing of it is silently missing from a replay.
Launchers themselves may fill and copy arrays, which is recorded. Once nothing is being recorded, a
placeholder is an array like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import GraphError
from ..runtime.recording import current

# NumPy functions that compute a view, or say something of addresses, and read no element.
_VIEWS = frozenset(
    {
        np.broadcast_to, np.diagonal, np.expand_dims, np.may_share_memory, np.moveaxis, np.ndim,
        np.reshape, np.shape, np.shares_memory, np.size, np.squeeze, np.swapaxes, np.transpose,
    }
)  # fmt: skip
# Methods of arrays that read or write values.
_READS = (
    "__bool__", "__complex__", "__contains__", "__copy__", "__deepcopy__", "__float__",
    "__index__", "__int__", "__iter__", "__reduce__", "__reduce_ex__", "all", "any",
    "argmax", "argmin", "argpartition", "argsort", "astype", "byteswap", "choose", "clip",
    "compress", "copy", "cumprod", "cumsum", "dot", "dump", "dumps", "fill", "flatten", "item",
    "max", "mean", "min", "nonzero", "partition", "prod", "put", "repeat", "resize", "round",
    "searchsorted", "sort", "std", "sum", "take", "tobytes", "tofile", "tolist", "trace", "var",
)  # fmt: skip


class UnknownValueError(GraphError):
    """Values are asked for that are not there yet."""


class Placeholder(np.ndarray):
    """What operations work on while a step of the host is recorded."""

    def __getitem__(self, index: Any) -> Any:
        if current.recording is None:
            return super().__getitem__(index)
        items = index if isinstance(index, tuple) else (index,)
        positions = [item for item in items if isinstance(item, int | np.integer)]
        views = [item for item in items if item is None or isinstance(item, slice)]
        dots = [item for item in items if item is Ellipsis]
        one_element = len(positions) == self.ndim and not dots
        if one_element or len(positions) + len(views) + len(dots) < len(items):
            raise _refusal("indexing")
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        if current.recording is None:
            stripped(self)[stripped(index)] = stripped(value)
        else:
            current.recording.assign(self[index], value)

    def reshape(self, *shape: Any, **options: Any) -> Any:
        if current.recording is not None:
            options["copy"] = False  # ValueError where the elements would have to move
        return super().reshape(*shape, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if current.recording is None:
            return function(*map(stripped, args), **{k: stripped(v) for k, v in kwargs.items()})
        if function is np.copyto and not kwargs:
            return current.recording.assign(*args)
        if function not in _VIEWS:
            raise _refusal(f"numpy.{function.__name__}")
        if function is np.broadcast_to:
            kwargs = {**kwargs, "subok": True}
        return super().__array_function__(function, types, args, kwargs)

    def __array_ufunc__(self, ufunc: Any, method: Any, *inputs: Any, **kwargs: Any) -> Any:
        if current.recording is not None:
            raise _refusal(f"numpy.{ufunc.__name__}")
        kwargs = {k: stripped(v) for k, v in kwargs.items()}
        return getattr(ufunc, method)(*map(stripped, inputs), **kwargs)


def _address(name: str) -> Any:
    # Where it is going to lie is not known yet; operations only compare addresses.
    def attribute(self: Placeholder) -> Any:
        if current.recording is not None and current.recording.launching:
            raise _refusal(name)
        return getattr(stripped(self), name)

    return property(attribute)


for _name in ("__array_interface__", "__array_struct__", "ctypes", "data"):
    setattr(Placeholder, _name, _address(_name))


def _refusing(name: str) -> Any:
    def method(self: Placeholder, *args: Any, **kwargs: Any) -> Any:
        if current.recording is not None:
            raise _refusal(name)
        return getattr(stripped(self), name)(*map(stripped, args), **kwargs)

    return method


for _name in _READS:
    setattr(Placeholder, _name, _refusing(_name))


def stripped(value: Any) -> Any:
    """The value; placeholders in it, also in tuples and lists, as plain arrays."""
    if isinstance(value, Placeholder):
        return value.view(np.ndarray)
    if type(value) in (tuple, list):
        return type(value)(map(stripped, value))
    return value


def _refusal(what: str) -> UnknownValueError:
    return UnknownValueError(
        f"{what}: a captured step is not computed while it is recorded, so its values cannot be "
        "read or changed by NumPy; use minigrad's operations"
    )
