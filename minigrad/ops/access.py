"""Conversions to Python: a tensor seen from outside, its facts, its values as numbers, lists and
arrays, its copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..dtypes import SUPPORTED, is_floating
from ..engine import Tensor
from ..errors import DeviceError, DTypeError, GraphError, ShapeError
from .cast import clone
from .compare import eq
from .creation import tensor as new_tensor
from .extrema import any as any_
from .join import unbind
from .operands import address_of
from .overwrite import copy_
from .reduction import axis_of
from .shape import reshape
from .transfer import host, is_cuda

__all__ = [
    "conj", "get_device", "is_complex", "is_floating_point", "is_nonzero", "is_same_size",
    "is_signed", "is_tensor", "numel", "real", "resolve_conj",
]  # fmt: skip

# Facts --------------------------------------------------------------------------------------


def size(input: Tensor, dim: int | None = None) -> Any:
    """The shape, or the size of one axis."""
    return input.shape if dim is None else input.shape[axis_of("size", dim, input.ndim)]


def stride(input: Tensor) -> tuple[int, ...]:
    """How many elements lie in memory from one position of each axis to the next."""
    return tuple(step // input.array.itemsize for step in input.array.strides)


def storage_offset(input: Tensor) -> int:
    """How many elements lie in memory before the first one of this view."""
    root: Any = input.array
    while isinstance(root.base, np.ndarray):
        root = root.base
    return (address_of(input.array) - address_of(root)) // input.array.itemsize


def data_ptr(input: Tensor) -> int:
    """The address of the first element."""
    return address_of(input.array)


def nbytes(input: Tensor) -> int:
    """The bytes that all elements take."""
    return input.array.size * input.array.itemsize


def get_device(input: Tensor) -> int:
    """The number of the tensor's GPU; −1 for the host's memory."""
    return -1 if input.device.index is None else input.device.index


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape."""
    return input.shape == other.shape


def is_tensor(obj: Any) -> bool:
    """Whether an object is a Tensor."""
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> bool:
    """Whether the elements are floating-point numbers."""
    return is_floating(input.dtype)


def is_host(input: Tensor) -> bool:
    """Whether the tensor lies in the host's memory."""
    return not is_cuda(input.device)


def never(input: Tensor) -> bool:
    """False: minigrad has no such tensors."""
    return False


is_complex = never


def conj(input: Tensor) -> Tensor:
    """The tensor itself: its numbers are real."""
    return input


real = resolve_conj = conj


def is_signed(input: Tensor) -> bool:
    """Whether the dtype has negative numbers."""
    return input.dtype.kind in "if"


def is_nonzero(input: Tensor) -> bool:
    """Whether the one element is not zero."""
    return to_bool(input)


def dim(input: Tensor) -> int:
    """The number of axes."""
    return input.array.ndim


def numel(input: Tensor) -> int:
    """The number of elements."""
    return input.array.size


def element_size(input: Tensor) -> int:
    """Bytes an element."""
    return input.array.itemsize


def length(input: Tensor) -> int:
    """`len(x)`: the size of the first axis."""
    if input.ndim == 0:
        raise TypeError("len() of a 0-d tensor")
    return input.shape[0]


# Values -------------------------------------------------------------------------------------


def item(input: Tensor) -> Any:
    """The value of a tensor of one element, as a Python number."""
    if input.array.size != 1:
        raise ShapeError(f"item: the tensor must have one element, got shape {input.shape}")
    return host(input).item()


def tolist(input: Tensor) -> Any:
    """Nested lists of Python numbers."""
    return host(input).tolist()


def numpy(input: Tensor, *, force: bool = False) -> np.ndarray:
    """A NumPy array that shares the tensor's memory, for a tensor that requires no gradient.

    force: of any tensor, outside the graph; a GPU's is copied.
    """
    if force:
        return host(input)
    if input.requires_grad:
        raise GraphError(
            "numpy: the tensor requires a gradient, and NumPy would not record what happens to it; "
            "use .detach().numpy()"
        )
    if is_cuda(input.device):
        raise DeviceError(
            "numpy: a tensor in GPU memory cannot be seen by NumPy; .cpu() copies it to the host"
        )
    return host(input)


def to_array(input: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """`numpy.asarray(x)`."""
    array = numpy(input)
    if dtype is not None and np.dtype(dtype) != array.dtype:
        if copy is False:
            raise ValueError(f"an array of dtype {dtype} would need a copy")
        return array.astype(dtype)
    return array.copy() if copy else array


def from_array(input: Tensor, array: Any, *_: Any) -> Any:
    """What a NumPy function such as `numpy.exp(x)` returns: its array as a tensor."""
    return Tensor(np.asarray(array), input.device) if array.dtype in SUPPORTED else array


def to_bool(input: Tensor) -> bool:
    """`bool(x)`, for a tensor of one element."""
    if input.array.size != 1:
        raise ShapeError(
            f"bool: the truth of a tensor of shape {input.shape} is ambiguous; use any() or all()"
        )
    return bool(host(input).item())


def to_float(input: Tensor) -> float:
    """`float(x)`, for a tensor of one element."""
    return float(item(input))


def to_int(input: Tensor) -> int:
    """`int(x)`, for a tensor of one element; decimals are cut off."""
    return int(item(input))


def to_index(input: Tensor) -> int:
    """The int that `range(x)` and `sequence[x]` take: of an integer tensor of one element."""
    if input.dtype.kind not in "iu":
        raise DTypeError(f"index: only integer tensors count positions, got {input.dtype.name}")
    return item(input)


def format_with(input: Tensor, spec: str) -> str:
    """`f"{x:.2f}"`, for a tensor of one element; without a format the text of any tensor, that of a
    tensor without axes being its number's."""
    if input.array.size == 1 and (spec or input.ndim == 0):
        return format(item(input), spec)
    if spec:
        raise TypeError(
            f"format: {spec!r} formats one number, got a tensor of shape {input.shape}; use .item()"
        )
    return str(input)


def iterate(input: Tensor) -> Iterator[Tensor]:
    """`for row in x`: views of the positions of the first axis."""
    if input.ndim == 0:
        raise TypeError("iteration over a 0-d tensor")
    return iter(unbind(input))


def contains(input: Tensor, element: Any) -> bool:
    """`element in x`: whether any element equals it."""
    return to_bool(any_(eq(input.detach(), element)))


# Copies -------------------------------------------------------------------------------------


def requires_grad_(input: Tensor, requires_grad: bool = True) -> Tensor:
    """Whether operations on this leaf are recorded. Returns the tensor."""
    input.requires_grad = requires_grad
    return input


def _called(input: Tensor, function: Callable[..., Any], *more: Tensor) -> Tensor:
    """input ← function of its elements, and of others that broadcast, one after the other."""
    others = [np.broadcast_to(host(tensor), input.shape) for tensor in more]
    columns = zip(*(each.ravel().tolist() for each in (host(input), *others)), strict=True)
    results = [function(*numbers) for numbers in columns]
    return copy_(input, reshape(new_tensor(results, input.dtype, input.device), input.shape))


def apply_(input: Tensor, callable: Callable[[Any], Any]) -> Tensor:
    """input ← callable(element), a call of Python for each. Slow. Returns input."""
    return _called(input, callable)


def map_(input: Tensor, tensor: Tensor, callable: Callable[[Any, Any], Any]) -> Tensor:
    """input ← callable(element, that of tensor). Slow. Returns input."""
    return _called(input, callable, tensor)


def map2_(input: Tensor, x: Tensor, y: Tensor, callable: Callable[[Any, Any, Any], Any]) -> Tensor:
    """input ← callable(element, that of x, that of y). Slow. Returns input."""
    return _called(input, callable, x, y)


def deepcopy(input: Tensor, memo: dict[int, Any]) -> Tensor:
    """`copy.deepcopy(x)` of a leaf: values and gradient in memory of their own."""
    if input.node is not None:
        raise GraphError(
            f"deepcopy: a tensor computed by {input.node.name} cannot be copied with its graph; "
            "copy its .detach()"
        )
    copy = type(input).__new__(type(input))
    memo[id(input)] = copy
    Tensor.__init__(copy, clone(input.detach()).array, input.device, input.requires_grad)
    for name, value in getattr(input, "__dict__", {}).items():
        setattr(copy, name, value)
    if input.grad is not None:
        copy.grad = clone(input.grad.detach())
    return copy
