"""Operand preparation: how tensors become the arrays that launchers take, and back.

Operations compute on array values only through launchers. What they do themselves is free: views,
shapes, and asking for memory.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from .. import kernels
from ..device import Device, same_device
from ..dtypes import NARROW, floating_dtype, int64, is_floating
from ..engine import Tensor
from ..engine.gradient import copy
from ..errors import ShapeError
from ..kernels.protocol import Elementwise
from ..layout import (
    CHANNELS_LAST,
    FROM_NHWC,
    Order,
    broadcast,
    c_axes,
    contiguous,
    empty_array,
    flat,
    memory_order,
)
from ..runtime.allocation import allocate

P = ParamSpec("P")
R = TypeVar("R")


def takes_tensor(function: Callable[P, R]) -> Callable[P, R]:
    """For public functions: `input` must be a Tensor, and what is annotated bool a bool. NumPy's
    names of arguments are taken as well, and sizes that come one by one by their name."""
    parameters = inspect.signature(function).parameters
    call = cast("Callable[..., R]", function)
    aliases, rest = _other_names(function.__name__, parameters), _rest(parameters)
    flags = {name: i - 1 for i, name in enumerate(parameters) if _is_flag(parameters[name])}

    @functools.wraps(function)
    def checked(input: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(input, Tensor):
            raise TypeError(
                f"{function.__name__}: input must be a Tensor, got {type(input).__name__}; "
                "minigrad.tensor(...) makes one"
            )
        if kwargs:
            args, kwargs = _together(function.__name__, rest, args, _renamed(kwargs, aliases))
        for name, position in flags.items():
            flag = args[position] if position < len(args) else kwargs.get(name, False)
            if flag is not True and flag is not False and not isinstance(flag, np.bool_):
                raise TypeError(f"{function.__name__}: {name} must be a bool, got {flag!r:.80}")
        return call(input, *args, **kwargs)

    return cast("Callable[P, R]", checked)


def named(function: Callable[P, R], name: str, text: str, module: str = "") -> Callable[P, R]:
    """The function under the name and with the docstring that it is to have in public."""
    function.__name__ = function.__qualname__ = name
    function.__doc__, function.__module__ = text, module or function.__module__
    return function


def takes_other_names(function: Callable[P, R]) -> Callable[P, R]:
    """As `takes_tensor` for functions whose first argument is no Tensor: names only."""
    call = cast("Callable[..., R]", function)
    parameters = inspect.signature(function).parameters
    aliases, rest = _other_names(function.__name__, parameters), _rest(parameters)

    @functools.wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            args, kwargs = _together(function.__name__, rest, args, _renamed(kwargs, aliases))
        return call(*args, **kwargs)

    return cast("Callable[P, R]", renamed)


# Where torch's methods and functions name an argument differently.
_TORCHS_NAMES = {
    "broadcast_to": {"size": "shape"},
    "max": {"other": "dim"},
    "min": {"other": "dim"},
    "split": {"split_size": "split_size_or_sections", "split_sizes": "split_size_or_sections"},
}


def _rest(parameters: Mapping[str, inspect.Parameter]) -> str:
    """The name of the arguments that come one by one; "" if none do."""
    return next((name for name, p in parameters.items() if p.kind is p.VAR_POSITIONAL), "")


def _together(
    function: str, rest: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of which one that was given as a whole, `zeros(size=(2, 3))`, is in its place."""
    if rest not in kwargs:
        return args, kwargs
    if args:
        raise TypeError(f"{function}: got {rest} twice, {args} and {kwargs[rest]!r:.80}")
    whole = kwargs.pop(rest)
    return (whole,), kwargs


def _other_names(function: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    names = {"axis": "dim", "keepdims": "keepdim"}
    aliases = {numpys: ours for numpys, ours in names.items() if ours in parameters}
    aliases |= _TORCHS_NAMES.get(function, {})
    # np.sum(tensor) calls tensor.sum(axis=None, out=None). What NumPy's max returns is not what
    # torch's does, so np.max is refused.
    return aliases if function in ("max", "min") else aliases | {"out": ""}


def _renamed(kwargs: dict[str, Any], aliases: dict[str, str]) -> dict[str, Any]:
    """Without an argument `out` that is None, where that has the alias ""."""
    named = {aliases.get(name, name): value for name, value in kwargs.items()}
    out = named.pop("", None)
    return named if out is None else named | {"out": out}


def _is_flag(parameter: inspect.Parameter) -> bool:
    return parameter.annotation in (bool, "bool") and parameter.kind is not parameter.KEYWORD_ONLY


def floating_operands(operation: str, names: str, *operands: Tensor | None) -> np.dtype:
    """Check that the operands are tensors of one floating dtype on one device, of which one whose
    name ends in "?" may be None; returns the dtype.

        floating_operands("linear", "input weight bias?", input, weight, bias)
    """
    dtype = device = None
    for place, operand in enumerate(operands):  # of every operation
        if operand is None and _may_be_none(names)[place]:
            continue
        if not isinstance(operand, Tensor):
            break
        own = operand.array.dtype
        if dtype is None:
            dtype, device = own, operand.device
        elif (own is not dtype and own != dtype) or operand.device is not device:
            break
    else:
        if dtype is not None and is_floating(dtype):
            return dtype
    # What does not fit is found out here.
    given: dict[str, Any] = {
        name.rstrip("?"): operand
        for name, operand in zip(names.split(), operands, strict=True)
        if operand is not None or not name.endswith("?")
    }
    for name, operand in given.items():
        if not isinstance(operand, Tensor):
            raise TypeError(
                f"{operation}: {name} must be a Tensor, got {type(operand).__name__}; "
                "minigrad.tensor(...) makes one"
            )
    same_device(operation, **{name: operand.device for name, operand in given.items()})
    return floating_dtype(operation, **{name: operand.dtype for name, operand in given.items()})


@functools.cache
def _may_be_none(names: str) -> list[bool]:
    return [name.endswith("?") for name in names.split()]


def check_writable(operation: str, tensor: Tensor) -> None:
    """A tensor that changes in place must not be a broadcast view."""
    array = tensor.array
    repeats = (
        array.size > 1
        and 0 in array.strides
        and any(step == 0 and n > 1 for n, step in zip(array.shape, array.strides, strict=True))
    )
    if repeats or not array.flags.writeable:
        raise ValueError(
            f"{operation}: elements of this tensor of shape {tensor.shape} share memory (expand "
            "makes such tensors); clone it first"
        )


def same_elements(one: Any, other: Any) -> bool:
    """Whether two arrays are the same memory, element by element."""
    same = one.shape == other.shape and one.strides == other.strides
    return same and address_of(one) == address_of(other)


def address_of(array: Any) -> int:
    return array.ctypes.data if isinstance(array, np.ndarray) else array.pointer


def empty(shape: tuple[int, ...], dtype: np.dtype, device: Device) -> Tensor:
    """Uninitialised C-ordered tensor."""
    return Tensor(allocate(shape, dtype, device), device)


def empty_like(tensor: Tensor, dtype: np.dtype | None = None) -> Tensor:
    """Uninitialised tensor of the same shape, device and memory order."""
    order, device = memory_order(tensor.array), tensor.device
    return Tensor(empty_array(tensor.shape, dtype or tensor.dtype, device, order), device)


def empty_nhwc(
    shape: tuple[int, ...], dtype: np.dtype, device: Device
) -> tuple[Tensor, np.ndarray]:
    """Uninitialised (N, C, H, W) tensor stored channels-last, and its NHWC array for a launcher."""
    N, C, H, W = shape
    array = allocate((N, H, W, C), dtype, device)
    return from_nhwc(array, device), array


def from_nhwc(array: np.ndarray, device: Device) -> Tensor:
    """The (N, C, H, W) tensor of an NHWC array."""
    return Tensor(array.transpose(FROM_NHWC), device)


def nhwc(tensor: Tensor) -> np.ndarray:
    """The C-ordered NHWC array of an (N, C, H, W) tensor: free if stored channels-last."""
    array = tensor.array.transpose(CHANNELS_LAST)
    return array if array.flags.c_contiguous else contiguous(array, tensor.device)


def c_order(tensor: Tensor) -> np.ndarray:
    """The C-ordered array of a tensor: free if stored so."""
    array = tensor.array
    return array if array.flags.c_contiguous else contiguous(array, tensor.device)


def scratch(elements: int, dtype: np.dtype, device: Device) -> np.ndarray:
    if not elements and device.type == "cpu":
        return _nothing(dtype)
    return allocate((elements,), dtype, device)


@functools.cache
def _nothing(dtype: np.dtype) -> np.ndarray:
    return np.empty(0, dtype)


def repeated(array: np.ndarray, size: int) -> np.ndarray:
    """The one element of `array` as a flat array of stride 0."""
    if isinstance(array, np.ndarray):
        return np.ndarray((size,), array.dtype, buffer=array, strides=(0,))
    return np.broadcast_to(array.reshape(1), (size,))


_broadcast_shapes = functools.lru_cache(4096)(np.broadcast_shapes)


def broadcast_shape(operation: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return _broadcast_shapes(*shapes)
    except ValueError:
        listed = " and ".join(str(shape) for shape in shapes)
        raise ShapeError(f"{operation}: shapes {listed} do not broadcast together") from None


class Overwritten(Tensor):
    """A tensor that changes in place, as an operand: `elementwise` puts the result into its memory
    if that has its shape, dtype and no gaps."""

    __slots__ = ()


def kept(tensor: Tensor) -> Tensor:
    """To save for a backward pass that reads this operand: a copy if it is about to change."""
    return copy(tensor) if type(tensor) is Overwritten else tensor


def _same_memory(tensor: Tensor) -> Tensor:
    return Tensor(tensor.array, tensor.device, version=tensor._version)


def elementwise(
    operation: str, *operands: Tensor, dtype: np.dtype | None = None
) -> tuple[Tensor, np.ndarray, list[np.ndarray]]:
    """Broadcast operands for an elementwise launcher.

    Returns the uninitialised output, its flat array, and the operands' flat arrays in the same
    memory order. The output takes the order of the first operand that has its full shape.
    """
    first, into = operands[0].array, None
    alike = in_order = True  # of one shape, but for numbers; C-ordered
    device, shape, wanted = operands[0].device, first.shape, dtype or first.dtype
    for t in operands:
        array = t.array
        if t.device is not device:
            same_device(operation, **{f"operand {i}": t.device for i, t in enumerate(operands)})
        if array.shape != shape and array.shape:  # of the first that is no number, all have it
            alike, shape = alike and not shape, array.shape
        flags = array.flags
        if not (flags.c_contiguous and flags.writeable):
            in_order = False
        if type(t) is Overwritten and array.dtype == wanted:
            into = t
    if alike and in_order:  # as most often: the general way below takes half as long again
        if into is not None and into.array.shape == shape:
            out = _same_memory(into)
        else:
            out = empty(shape, wanted, device)
        size = out.array.size
        flats = [
            a.reshape(-1) if (a := t.array).shape == shape else repeated(a, size) for t in operands
        ]
        return out, out.array.reshape(-1), flats
    if not alike:
        shape = broadcast_shape(operation, *[t.array.shape for t in operands])
    order: Order | None = None
    if into is not None and into.array.shape == shape:
        order = memory_order(into.array)
    if into is not None and order is not None:
        out = _same_memory(into)
    else:
        for t in operands:
            if t.array.shape == shape and (order := memory_order(t.array)) is not None:
                break
        order = order or c_axes(len(shape))
        out = Tensor(empty_array(shape, wanted, device, order), device)
    flats = []
    for t in operands:
        data = t.array
        if data.shape == shape:
            flats.append(flat(data, order, device))
        elif data.size == 1 != (size := math.prod(shape)):
            flats.append(repeated(data, size))
        else:
            flats.append(flat(broadcast(data, shape), order, device))
    return out, out.array.transpose(order).reshape(-1), flats


def pointwise(
    operation: str,
    launcher: Callable[[Elementwise], Callable[..., None]],
    *operands: Tensor,
    dtype: np.dtype | None = None,
    numbers: tuple[float, ...] = (),
) -> Tensor:
    """The result of an elementwise launcher, such as `lambda launch: launch.mul_forward`, on
    operands that broadcast, and numbers; nothing is recorded."""
    narrow = operands[-1].array.dtype
    if narrow.kind == "i" and narrow in NARROW:
        wide = [widened(operand) for operand in operands]
        stored = int64 if dtype in NARROW else dtype
        out = pointwise(operation, launcher, *wide, dtype=stored, numbers=numbers)
        return out if dtype is not None and stored == dtype else narrowed(out, narrow)
    out, out_flat, flats = elementwise(operation, *operands, dtype=dtype)
    launcher(kernels.get(out.device).elementwise)(out_flat, *flats, *numbers)
    return out


def widened(tensor: Tensor) -> Tensor:
    """A narrow integer tensor as int64, in which its values are computed with."""
    return narrowed(tensor, int64) if tensor.array.dtype in NARROW else tensor


def narrowed(tensor: Tensor, dtype: np.dtype) -> Tensor:
    """A copy of the tensor in an integer dtype, which keeps the lowest bits."""
    out = empty_like(tensor, dtype)
    kernels.get(tensor.device).elementwise.copy_strided(out.array, tensor.array)
    return out
