"""Tensors made from data, from constants and from number ranges.

All take dtype (default: the default dtype, or what the data suggest), device (default: the default
device) and requires_grad.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..device import CPU, as_device
from ..dtypes import (
    SUPPORTED,
    as_dtype,
    bool_,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    uint8,
    unsupported,
)
from ..engine import Size, Tensor
from ..errors import DTypeError, ShapeError
from ..layout import MemoryFormat, axes_by_stride, c_axes, memory_order
from ..runtime.allocation import allocate
from .arithmetic import pow
from .cast import TYPE_NAMES, to
from .operands import named, takes_other_names, takes_tensor
from .promotion import check_fits, fitting
from .shape import sizes_of
from .transfer import is_cuda, placed

__all__ = [
    "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "IntTensor",
    "LongTensor", "ShortTensor", "arange", "as_tensor", "asarray", "empty", "empty_like", "eye",
    "from_numpy", "frombuffer", "full", "full_like", "linspace", "logspace", "ones", "ones_like",
    "scalar_tensor", "tensor", "zeros", "zeros_like",
]  # fmt: skip

# From data ----------------------------------------------------------------------------------


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A copy of `data`: a number, nested lists of numbers, a NumPy array or a Tensor.

    Python floats become the default dtype, ints int64, bools bool; NumPy data keep their dtype,
    which must be one that tensors have unless dtype is given.
    Raises DTypeError for other data, ShapeError for nested lists of unequal lengths.
    """
    wanted = None if dtype is None else as_dtype(dtype)
    if isinstance(data, Tensor):
        device = data.device if device is None else device
        copy = to(data.detach(), wanted or data.dtype, as_device(device), copy=True)
        return Tensor(copy.array, copy.device, requires_grad)
    source = _array(data)
    wanted = wanted or _natural_dtype(source, data)
    if source.dtype.kind not in "iufb":
        raise DTypeError(f"tensor: data must be numbers, got dtype {source.dtype}: {data!r:.80}")
    if wanted.kind in "iu" and not isinstance(data, (np.ndarray, np.generic)):
        _check_integers(source, wanted)
    target = as_device(device)
    out = allocate(source.shape, wanted, CPU)
    kernels.get(CPU if is_cuda(target) else target).elementwise.copy_strided(out, source)
    return Tensor(placed(out, target), target, requires_grad)


def _array(data: Any) -> np.ndarray:
    try:
        return np.asarray(data)
    except ValueError:
        raise ShapeError("tensor: nested lists must have equal lengths at every level") from None
    except OverflowError:
        raise DTypeError(f"tensor: a number does not fit int64: {data!r:.80}") from None


def _check_integers(numbers: np.ndarray, dtype: np.dtype) -> None:
    """Python numbers must fit an integer dtype; negative ones wrap around in uint8, as in torch."""
    if numbers.size == 0 or numbers.dtype.kind == "b":
        return
    limit = np.iinfo(dtype).max
    for number in (numbers.min().item(), numbers.max().item()):  # NaN is both
        if not -limit - 1 <= number <= limit:
            raise DTypeError(f"tensor: {number!r} does not fit dtype {dtype.name}")


def _natural_dtype(array: np.ndarray, data: Any) -> np.dtype:
    """The dtype of data when none is asked for."""
    leaf = data
    while isinstance(leaf, (list, tuple)) and len(leaf):
        leaf = leaf[0]
    if array.dtype == float64 and not hasattr(leaf, "dtype"):
        return get_default_dtype()
    if array.dtype not in SUPPORTED:
        raise unsupported("tensor: dtype", array.dtype, "dtype=minigrad.float32")
    return array.dtype


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """As `tensor`, but shares memory with a Tensor or NumPy array that needs no conversion."""
    if isinstance(data, Tensor):
        return to(data, data.dtype if dtype is None else dtype, as_device(device or data.device))
    if isinstance(data, np.ndarray) and (dtype is None or as_dtype(dtype) == data.dtype):
        return _shared("as_tensor", data, device)
    return tensor(data, dtype=dtype, device=device)


def asarray(
    obj: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    copy: bool | None = None,
    requires_grad: bool | None = None,
) -> Tensor:
    """As `as_tensor`; a Tensor stays in its graph, unless requires_grad says what the result shall
    be. copy: always, or (False) never: ValueError where one is needed."""
    own = isinstance(obj, Tensor)
    source = obj.detach() if own and requires_grad is not None else obj
    out = as_tensor(source, dtype=dtype, device=device)
    shared = (own or isinstance(obj, np.ndarray)) and np.may_share_memory(
        out.array, obj.array if own else obj
    )
    if copy is False and not shared:
        raise ValueError(f"asarray: copy=False, but this {type(obj).__name__} needs a copy")
    if copy and shared:
        out = to(out, copy=True)
    if requires_grad is not None:
        out.requires_grad = requires_grad
    return out


def frombuffer(
    buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A vector on the memory of a buffer, from the byte `offset` on: `count` elements, or all. A
    read-only buffer is copied."""
    out = from_numpy(np.frombuffer(buffer, as_dtype(dtype), count, offset))
    out.requires_grad = requires_grad
    return out


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory. A read-only or unaligned array is copied."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expects a NumPy array, got {type(array).__name__}")
    return _shared("from_numpy", array, None)


def _shared(operation: str, array: np.ndarray, device: Any) -> Tensor:
    if array.dtype not in SUPPORTED:
        raise unsupported(f"{operation}: dtype", array.dtype, "array.astype(np.float32)")
    if not (array.flags.writeable and array.flags.aligned):
        return tensor(array, device=device)
    target = as_device(device)
    return Tensor(placed(np.asarray(array), target), target)


# Constants ----------------------------------------------------------------------------------


def new_tensor(
    operation: str,
    sizes: tuple[Any, ...],
    dtype: Any,
    device: Any,
    default: np.dtype | None = None,
) -> Tensor:
    """Uninitialised, C-ordered, of checked sizes."""
    shape = sizes_of(operation, sizes)
    if any(n < 0 for n in shape):
        raise ShapeError(f"{operation}: sizes must be at least 0, got {shape}")
    if math.prod(n or 1 for n in shape) >= 2**60:
        raise ShapeError(f"{operation}: sizes {shape} are more than memory can be")
    wanted = (default or get_default_dtype()) if dtype is None else as_dtype(dtype)
    return Tensor(allocate(shape, wanted, as_device(device)), as_device(device))


def _filled(operation: str, out: Tensor, value: float, requires_grad: bool) -> Tensor:
    value = fitting(operation, value, out.dtype)
    kernels.get(out.device).elementwise.fill(out.array.reshape(-1), value)
    out.requires_grad = requires_grad
    return out


def scalar_tensor(
    s: float, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A number without axes, of the default dtype unless one is given."""
    return full((), float(s) if dtype is None else s, dtype, device, requires_grad)


@takes_other_names
def empty(
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: MemoryFormat | None = None,
) -> Tensor:
    """Uninitialised tensor of shape `size`, in C order unless a memory_format is given."""
    return _placed(new_tensor("empty", size, dtype, device), memory_format, requires_grad)


@takes_other_names
def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of shape `size`."""
    return _filled("zeros", new_tensor("zeros", size, dtype, device), 0, requires_grad)


@takes_other_names
def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of shape `size`."""
    return _filled("ones", new_tensor("ones", size, dtype, device), 1, requires_grad)


def full(
    size: Any, fill_value: float, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`fill_value` everywhere, of shape `size`; its type decides the dtype if none is given."""
    value = fill_value.item() if isinstance(fill_value, (Tensor, np.generic)) else fill_value
    if not isinstance(value, bool):
        check_number("full", "fill_value", value)
    default = bool_ if isinstance(value, bool) else int64 if isinstance(value, int) else None
    sizes = size if isinstance(size, (tuple, list)) else (size,)
    out = new_tensor("full", tuple(sizes), dtype, device, default)
    return _filled("full", out, value, requires_grad)


def eye(
    n: int,
    m: int | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """(n, m) with ones on the diagonal; m = n unless given."""
    columns = n if m is None else m
    out = zeros(n, columns, dtype=dtype, device=device)
    count = min(n, columns)
    if count:
        diagonal = out.array.reshape(-1)[: count * (columns + 1) : columns + 1]
        kernels.get(out.device).elementwise.fill(diagonal[:count], 1)
    out.requires_grad = requires_grad
    return out


class LikeTensor(Protocol):
    """A function that makes tensors of the shape of others."""

    def __call__(
        self,
        input: Tensor,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        memory_format: MemoryFormat | None = None,
    ) -> Tensor: ...


def like_tensor(name: str, make: Callable[..., Tensor], text: str) -> LikeTensor:
    """make(shape, dtype=…, device=…), as a function of a tensor."""

    def function(
        input: Tensor,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        memory_format: MemoryFormat | None = None,
    ) -> Tensor:
        out = in_order_of(input, make, **_kind(input, dtype, device))
        return _placed(out, memory_format, requires_grad)

    text = (
        f"{text} with the shape, and if not given the dtype, device and memory order, of `input`."
    )
    return named(function, name, text, make.__module__)


empty_like = like_tensor("empty_like", empty, "Uninitialised,")
zeros_like = like_tensor("zeros_like", zeros, "Zeros")
ones_like = like_tensor("ones_like", ones, "Ones")


def full_like(
    input: Tensor,
    fill_value: float,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: MemoryFormat | None = None,
) -> Tensor:
    """`fill_value` with the shape, and if not given the dtype, device and memory order, of
    `input`."""
    out = in_order_of(input, full, fill_value, **_kind(input, dtype, device))
    return _placed(out, memory_format, requires_grad)


def in_order_of(input: Tensor, make: Callable[..., Tensor], *args: Any, **kind: Any) -> Tensor:
    """make(shape, *args, **kind) of the input's shape, its axes in memory in the same order."""
    array = input.array
    order = memory_order(array)
    if order is None:  # it has gaps, or elements that share a place, which have no order
        order = c_axes(array.ndim) if 0 in array.strides else axes_by_stride(array)
    out = make(tuple([input.array.shape[axis] for axis in order]), *args, **kind)
    if order == c_axes(len(order)):
        return out
    return Tensor(
        out.array.transpose([order.index(axis) for axis in range(len(order))]), out.device
    )


def _kind(input: Tensor, dtype: Any, device: Any) -> dict[str, Any]:
    return {
        "dtype": input.dtype if dtype is None else dtype,
        "device": input.device if device is None else device,
    }


def _placed(out: Tensor, memory_format: MemoryFormat | None, requires_grad: bool) -> Tensor:
    """A new tensor, in the memory order that is asked for."""
    if memory_format is not None:
        out = to(out, memory_format=memory_format)
    out.requires_grad = requires_grad
    return out


@takes_tensor
def new_empty(
    input: Tensor,
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uninitialised, of shape `size`, with the dtype and device of this tensor unless given."""
    return empty(*size, **_kind(input, dtype, device), requires_grad=requires_grad)


@takes_tensor
def new_zeros(
    input: Tensor,
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Zeros of shape `size`, with the dtype and device of this tensor unless given."""
    return zeros(*size, **_kind(input, dtype, device), requires_grad=requires_grad)


@takes_tensor
def new_ones(
    input: Tensor,
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones of shape `size`, with the dtype and device of this tensor unless given."""
    return ones(*size, **_kind(input, dtype, device), requires_grad=requires_grad)


def new(input: Tensor, *data: Any) -> Tensor:
    """torch's old constructor, x.new(2, 3) or x.new([2, 3]), with the dtype and device of this
    tensor. See `TypedConstructor`."""
    return TypedConstructor(input.dtype, input.device)(*data)


def new_full(
    input: Tensor,
    size: Any,
    fill_value: float,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`fill_value` of shape `size`, with the dtype and device of this tensor unless given."""
    return full(size, fill_value, **_kind(input, dtype, device), requires_grad=requires_grad)


def new_from_data(
    input: Tensor, data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A copy of `data` with the dtype and device of this tensor unless given."""
    return tensor(data, **_kind(input, dtype, device), requires_grad=requires_grad)


# Ranges -------------------------------------------------------------------------------------


def _number(operation: str, name: str, value: Any) -> float:
    if isinstance(value, (Tensor, np.generic)):
        value = value.item()
    if not math.isfinite(check_number(operation, name, value)):
        raise ValueError(f"{operation}: {name} must be finite, got {value!r}")
    return value


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, … before `end`: ⌈(end − start)/step⌉ numbers; arange(end) starts at 0.

    int64 if all three are ints, else the default dtype.
    """
    if end is None:
        start, end = 0, start
    start, end, step = (
        _number("arange", name, value)
        for name, value in (("start", start), ("end", end), ("step", step))
    )
    if step == 0 or (end - start) * step < 0:
        raise ValueError(
            f"arange: step must lead from start to end, got start={start}, end={end}, step={step}"
        )
    whole = all(isinstance(value, int) for value in (start, end, step))
    if not whole and not math.isfinite((end - start) / step):
        raise ValueError(f"arange: step {step} is too small to lead from {start} to {end}")
    count = -((start - end) // step) if whole else math.ceil((end - start) / step)
    out = new_tensor("arange", (int(count),), dtype, device, int64 if whole else None)
    if out.dtype == bool_:
        raise DTypeError("arange: dtype must not be bool")
    if out.dtype.kind in "iu":
        # As torch: numbers are cut off before they are added up.
        start, step = int(start), int(step)
        check_fits("arange", start, out.dtype)
        check_fits("arange", start + max(out.array.size - 1, 0) * step, out.dtype)
    else:
        start, step = float(start), float(step)
    kernels.get(out.device).indexing.arange(out.array, start, step)
    out.requires_grad = requires_grad
    return out


def linspace(
    start: float,
    end: float,
    steps: int,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` numbers from start to end, both included, at equal distances."""
    first, last = _number("linspace", "start", start), _number("linspace", "end", end)
    out = new_tensor("linspace", (steps,), dtype, device)
    if out.dtype.kind not in "f":
        raise DTypeError(f"linspace: dtype must be float32 or float64, got {out.dtype.name}")
    kernels.get(out.device).indexing.linspace(out.array, float(first), float(last))
    out.requires_grad = requires_grad
    return out


def logspace(
    start: float,
    end: float,
    steps: int,
    base: float = 10.0,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` powers of the base whose exponents lie at equal distances, from start to end."""
    check_number("logspace", "base", base)
    out = pow(base, linspace(start, end, steps, dtype, device))
    out.requires_grad = requires_grad
    return out


class TypedConstructor:
    """torch's old constructors: LongTensor(2, 3) has that shape and undefined elements,
    LongTensor([2, 3]) these numbers; isinstance(x, LongTensor) asks for the dtype, and for a GPU or
    none. device="cuda" makes those of torch.cuda."""

    def __init__(self, dtype: np.dtype, device: Any = None) -> None:
        self._dtype, self._device = dtype, device
        self._name = f"torch.{'cuda.' if device == 'cuda' else ''}{TYPE_NAMES[dtype]}"

    def __call__(self, *data: Any) -> Tensor:
        if len(data) == 1 and not isinstance(data[0], (int, np.integer, Size)):
            return tensor(data[0], self._dtype, self._device)
        return empty(*(data or (0,)), dtype=self._dtype, device=self._device)

    def __instancecheck__(self, instance: Any) -> bool:
        on_gpu = self._device is not None
        return (
            isinstance(instance, Tensor)
            and instance.dtype == self._dtype
            and is_cuda(instance.device) == on_gpu
        )


FloatTensor, DoubleTensor = TypedConstructor(float32), TypedConstructor(float64)
LongTensor, IntTensor = TypedConstructor(int64), TypedConstructor(int32)
ShortTensor, CharTensor = TypedConstructor(int16), TypedConstructor(int8)
ByteTensor, BoolTensor = TypedConstructor(uint8), TypedConstructor(bool_)
