"""DLPack and CUDA's array interface: tensors shared with other libraries, without a copy.

    torch.from_dlpack(x)            # a torch tensor on minigrad's memory
    mg.from_dlpack(torch_tensor)    # and back

Both sides see each other's changes; neither knows the other's graph, so a tensor that requires a
gradient must be detached first.

Lent memory comes back while the GPU may still work on it: what a library has queued does not keep
memory alive, and which streams it used is not known. So whoever gives memory back waits for the GPU
first: minigrad for its own stream when a tensor on another library's memory goes, and for all
streams when another library is done with minigrad's memory.

Sources: https://dmlc.github.io/dlpack/latest/, version 0 capsules, which all libraries read;
https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ..device import CPU, as_device
from ..dtypes import SUPPORTED, unsupported
from ..engine import Tensor
from ..engine.grad_mode import mode
from ..errors import DeviceError, GraphError
from .transfer import is_cuda

if TYPE_CHECKING:
    from ..runtime.cuda.driver import Driver

__all__ = ["from_dlpack"]

_CPU, _CUDA = 1, 2  # DLDeviceType
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}  # DLDataTypeCode, by NumPy's kind
_NAME, _USED = b"dltensor", b"used_dltensor"


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _DLTensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)


def _python(name: str, result: Any, *args: Any) -> Any:
    return ctypes.PYFUNCTYPE(result, *args)((name, ctypes.pythonapi))


# Capsules are passed by address: a destructor's capsule has no references left to count.
_new = _python("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_is_valid = _python("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_pointer = _python("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_set_name = _python("PyCapsule_SetName", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)

# What is lent, by the address of its struct, until the borrower calls the deleter.
_lent: dict[int, tuple[Any, ...]] = {}


# Given back while work was captured, when nobody may wait for the GPU.
_late: list[tuple[Any, ...]] = []


@_Deleter
def _delete(address: int) -> None:
    lent = _lent.pop(address, None)
    if lent is not None:
        driver = lent[-1].driver
        _late.append(lent)
        with suppress(DeviceError):  # another library captures: the next one that comes back waits
            if driver.wait_for_all_unless_recorded():
                _late[:] = [each for each in _late if each[-1].driver is not driver]


@_Destructor
def _destroy(capsule: int) -> None:
    """A capsule that nobody took gives back what it lends."""
    if _is_valid(capsule, _NAME):
        _delete(_pointer(capsule, _NAME))


def _stream(index: int) -> int:
    """The handle of our stream on a device; the default stream is called 1 here, and not 0."""
    from ..runtime.cuda.driver import driver

    return driver(index).stream or 1


def _shareable(operation: str, tensor: Tensor) -> None:
    if tensor.requires_grad:
        raise GraphError(
            f"{operation}: the tensor requires a gradient, and the other library would not record "
            "what happens to it; use .detach()"
        )


def _refuse_in_captured_step(operation: str) -> None:
    mode.observer.refuse(
        f"{operation}: a captured step must not hand memory to another library or take it, because "
        "a replay would not; do it outside"
    )


def dlpack_device(input: Tensor) -> tuple[int, int]:
    """(kind of device, its number), as DLPack counts them."""
    return (_CUDA, input.device.index or 0) if is_cuda(input.device) else (_CPU, 0)


def to_dlpack(input: Tensor, *, stream: Any = None, **options: Any) -> Any:
    """The capsule by which another library takes a tensor's memory.

    stream: where the other library will use it; our work is finished before, so it need not wait.
    """
    _shareable("__dlpack__", input)
    if not is_cuda(input.device):
        return input.array.__dlpack__(**options)
    from ..runtime.cuda import checks

    _refuse_in_captured_step("__dlpack__")
    array: Any = input.array
    checks.run(array.driver.index)
    n = input.ndim
    shape = (ctypes.c_int64 * n)(*array.shape)
    strides = (ctypes.c_int64 * n)(*[step // array.itemsize for step in array.strides])
    managed = _Managed()
    managed.tensor = _DLTensor(
        array.pointer, _CUDA, array.driver.index, n, _CODES[array.dtype.kind],
        8 * array.itemsize, 1, shape, strides, 0,
    )  # fmt: skip
    managed.deleter = ctypes.cast(_delete, ctypes.c_void_p)
    address = ctypes.addressof(managed)
    _lent[address] = managed, shape, strides, array
    return _new(address, _NAME, ctypes.cast(_destroy, ctypes.c_void_p))


def from_dlpack(x: Any) -> Tensor:
    """A tensor on the memory of another library's array: anything with `__dlpack__`.

    Raises DTypeError for a dtype that minigrad lacks, DeviceError for memory that is neither the
    host's nor the GPU's.
    """
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise TypeError(f"from_dlpack: {type(x).__name__} does not offer its memory by DLPack")
    kind, number = x.__dlpack_device__()
    if kind == _CPU:
        array = np.from_dlpack(x)
        _check_dtype(array.dtype)
        return Tensor(array, CPU)
    if kind != _CUDA:
        raise DeviceError(
            "from_dlpack: minigrad reads the host's memory and that of NVIDIA GPUs, got device "
            f"{(int(kind), number)}"
        )
    from ..runtime.cuda.array import DeviceArray
    from ..runtime.cuda.driver import driver

    _refuse_in_captured_step("from_dlpack")
    capsule = x.__dlpack__(stream=_stream(number))
    address = _pointer(id(capsule), _NAME)
    _set_name(id(capsule), _USED)
    lender = driver(number)
    borrowed: Any = DeviceArray(np.asarray(_Borrowed(address, lender)), lender)
    return Tensor(borrowed, as_device(number))


def borrowed(value: Any) -> Tensor:
    """A tensor of the values of another library's tensor or array; half precision is widened.

    Raises TypeError for what is neither, DTypeError for a dtype that minigrad lacks.
    """
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, (np.ndarray, np.generic)):
        value = value.detach() if hasattr(value, "detach") else value
        if hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] != _CPU:
            return from_dlpack(value)
        try:
            value = np.from_dlpack(value)
        except (BufferError, RuntimeError):  # NumPy has no bfloat16
            value = np.from_dlpack(value.float())
        except AttributeError:
            raise TypeError(f"{type(value).__name__} does not offer its memory by DLPack") from None
    array = np.asarray(value)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    _check_dtype(array.dtype)
    return Tensor(array, CPU)


class _Borrowed:
    """Another library's memory, seen as `DeviceArray` wants it; gives it back when deleted."""

    def __init__(self, address: int, driver: Driver) -> None:
        self._driver = driver
        self._managed = _Managed.from_address(address)
        tensor, n = self._managed.tensor, self._managed.tensor.ndim
        kind = {code: kind for kind, code in _CODES.items()}.get(tensor.code, "V")
        dtype = np.dtype(bool) if kind == "b" else np.dtype(f"{kind}{tensor.bits // 8}")
        _check_dtype(dtype)
        shape = tuple(tensor.shape[:n])
        strides = [step * dtype.itemsize for step in tensor.strides[:n]] if tensor.strides else None
        self.__array_interface__ = {
            "version": 3, "shape": shape, "typestr": dtype.str,
            "data": ((tensor.data or 0) + tensor.byte_offset, False),
            "strides": None if strides is None else tuple(strides),
        }  # fmt: skip

    def __del__(self) -> None:
        if self._managed.deleter:
            with suppress(DeviceError):  # after an error there is nothing to wait for
                self._driver.wait_unless_recorded()
            _Deleter(self._managed.deleter)(ctypes.addressof(self._managed))


def _check_dtype(dtype: np.dtype) -> None:
    if dtype not in SUPPORTED:
        raise unsupported("from_dlpack: dtype", dtype, "the other library, to float32")


def cuda_array_interface(input: Tensor) -> dict[str, Any]:
    """`x.__cuda_array_interface__`, by which Numba, CuPy and torch read a tensor on the GPU."""
    if not is_cuda(input.device):
        raise AttributeError("__cuda_array_interface__: the tensor lies in the host's memory")
    _shareable("__cuda_array_interface__", input)

    array: Any = input.array
    return {
        "version": 3, "shape": array.shape, "strides": array.strides,
        "typestr": array.dtype.str, "data": (array.pointer, not array.flags.writeable),
        "stream": _stream(array.driver.index),
    }  # fmt: skip
