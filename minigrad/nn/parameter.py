"""Parameters: tensors that a Module lists, and those whose shape the first input will tell."""

from __future__ import annotations

from typing import Any, TypeGuard

from ..device import Device, as_device
from ..dtypes import as_dtype, float32
from ..engine import Size, Tensor
from ..errors import ShapeError
from ..layout import empty_array

__all__ = ["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter"]


class Parameter(Tensor):
    """A tensor that a Module lists among its parameters. It shares the memory of `data`."""

    __slots__ = ()

    def __init__(self, data: Tensor, requires_grad: bool = True) -> None:
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter: data must be a Tensor, got {type(data).__name__}")
        super().__init__(data.array, data.device, requires_grad, version=data._version)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class Buffer(Tensor):
    """A tensor that a Module lists among its buffers. It shares the memory of `data`.

    persistent: whether state dicts have it.
    """

    __slots__ = ("persistent",)

    def __init__(self, data: Tensor, *, persistent: bool = True) -> None:
        if not isinstance(data, Tensor):
            raise TypeError(f"Buffer: data must be a Tensor, got {type(data).__name__}")
        super().__init__(data.array, data.device, version=data._version)
        self.persistent = persistent


class _Uninitialized(Tensor):
    """A tensor that has a dtype and a device, and will get a shape."""

    __slots__ = ()
    _becomes: type[Tensor] = Tensor

    @property
    def shape(self) -> Size:
        raise ShapeError(
            "an uninitialised parameter or buffer has no shape yet; call the lazy module once"
        )

    def materialize(self, shape: tuple[int, ...], device: Any = None, dtype: Any = None) -> None:
        """Become an ordinary parameter or buffer, whose values are not set yet."""
        self.device = self.device if device is None else as_device(device)
        dtype = self.array.dtype if dtype is None else as_dtype(dtype)
        self.array = empty_array(tuple(shape), dtype, self.device)
        self.__class__ = self._becomes  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def _nothing(device: Device | str | None, dtype: Any) -> Tensor:
    device = as_device(device)
    array = empty_array((0,), float32 if dtype is None else as_dtype(dtype), device)
    return Tensor(array, device)


class UninitializedParameter(_Uninitialized, Parameter):
    """A parameter of a lazy module, before its first call."""

    __slots__ = ()
    _becomes: type[Tensor] = Parameter

    def __init__(
        self, requires_grad: bool = True, device: Device | str | None = None, dtype: Any = None
    ) -> None:
        Parameter.__init__(self, _nothing(device, dtype), requires_grad)


class UninitializedBuffer(_Uninitialized):
    """A buffer of a lazy module, before its first call."""

    __slots__ = ()

    def __init__(self, device: Device | str | None = None, dtype: Any = None) -> None:
        empty = _nothing(device, dtype)
        super().__init__(empty.array, empty.device)


def is_lazy(tensor: Any) -> TypeGuard[_Uninitialized]:
    return isinstance(tensor, _Uninitialized)
