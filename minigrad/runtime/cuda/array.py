"""An array in GPU memory: NumPy's geometry without its reads.

Shapes, strides and views of a GPU array follow the same rules as NumPy's, so NumPy computes them:
inside is an ndarray whose address is the device's. Only its geometry is used; the host must never
read through it, so it stays private, and every way by which NumPy would read raises an error.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DeviceError

if TYPE_CHECKING:
    from .driver import Driver

# NumPy functions that compute a view, or say something of addresses, and read no element.
_VIEWS = frozenset(
    {
        np.broadcast_to, np.diagonal, np.expand_dims, np.may_share_memory, np.moveaxis, np.ndim,
        np.reshape, np.shape, np.shares_memory, np.size, np.squeeze, np.swapaxes, np.transpose,
    }
)  # fmt: skip


class DeviceArray:
    """What launchers of the CUDA backend get. Not for users, who have Tensors.

    geometry: an ndarray at a device address, whose base keeps the memory alive. driver: of the
    device. pointer: the address, if it is known: NumPy takes long to tell.
    """

    __slots__ = ("__weakref__", "_geometry", "_pointer", "driver")

    def __init__(self, geometry: np.ndarray, driver: Driver, pointer: int | None = None) -> None:
        self._geometry, self.driver, self._pointer = geometry, driver, pointer

    shape = property(attrgetter("_geometry.shape"))
    strides = property(attrgetter("_geometry.strides"))
    dtype = property(attrgetter("_geometry.dtype"))
    ndim = property(attrgetter("_geometry.ndim"))
    size = property(attrgetter("_geometry.size"))
    itemsize = property(attrgetter("_geometry.itemsize"))
    nbytes = property(attrgetter("_geometry.nbytes"))
    flags = property(attrgetter("_geometry.flags"))

    @property
    def base(self) -> Any:
        """What keeps the memory alive: one object for an array and all its views."""
        return self._geometry.base

    @property
    def owner(self) -> Any:
        """What gives the memory back when it goes: no ndarray, one for an array and its views."""
        owner = self._geometry.base
        while isinstance(owner, np.ndarray):
            owner = owner.base
        return owner

    @property
    def pointer(self) -> int:
        """The device address of element (0, 0, …)."""
        if self._pointer is None:
            self._pointer = self._geometry.__array_interface__["data"][0]
        return self._pointer

    # Views ----------------------------------------------------------------------------------

    @property
    def T(self) -> DeviceArray:
        return DeviceArray(self._geometry.T, self.driver, self._pointer)

    def transpose(self, *axes: Any) -> DeviceArray:
        return DeviceArray(self._geometry.transpose(*axes), self.driver, self._pointer)

    def reshape(self, *shape: Any) -> DeviceArray:
        """A view; ValueError where the elements would have to move."""
        geometry = np.reshape(self._geometry, _sizes(shape), copy=False)
        return DeviceArray(geometry, self.driver, self._pointer)

    def view(self, dtype: Any) -> DeviceArray:
        return DeviceArray(self._geometry.view(dtype), self.driver, self._pointer)

    def strided(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> DeviceArray:
        """A view of a vector without gaps, with these strides."""
        geometry = np.ndarray(shape, self.dtype, self._geometry, strides=strides)
        return DeviceArray(geometry, self.driver, self._pointer)

    def __getitem__(self, index: Any) -> DeviceArray:
        """By integers, slices, None and Ellipsis only; always a view, also of one element."""
        items = index if isinstance(index, tuple) else (index,)
        for item in items:
            if not (item is None or item is Ellipsis or isinstance(item, slice | int | np.integer)):
                raise _refusal(f"indexing by {type(item).__name__}")
        if not any(item is Ellipsis for item in items):
            items = (*items, Ellipsis)
        return DeviceArray(self._geometry[items], self.driver)

    def __len__(self) -> int:
        return len(self._geometry)

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        if function not in _VIEWS:
            raise _refusal(f"numpy.{function.__name__}")
        if function is np.reshape:
            kwargs = {**kwargs, "copy": False}
        result = function(*map(_geometry, args), **{k: _geometry(v) for k, v in kwargs.items()})
        return DeviceArray(result, self.driver) if isinstance(result, np.ndarray) else result

    # Reads ----------------------------------------------------------------------------------

    __array_ufunc__ = None

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise _refusal("NumPy")

    def __iter__(self) -> Any:
        raise _refusal("iteration")

    def __repr__(self) -> str:
        return (
            f"DeviceArray(shape={self.shape}, dtype={self.dtype.name}, at={self.pointer:#x}, "
            f"device={self.driver.index})"
        )


def _geometry(value: Any) -> Any:
    return value._geometry if isinstance(value, DeviceArray) else value


def _sizes(shape: tuple[Any, ...]) -> Any:
    return shape[0] if len(shape) == 1 else shape


def _refusal(what: str) -> DeviceError:
    return DeviceError(f"{what} cannot read GPU memory; .cpu() brings a tensor to the host")
