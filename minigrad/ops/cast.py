"""Type conversion and copies: to another dtype, device or memory order."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import kernels
from ..device import Device, as_device
from ..dtypes import (
    as_dtype,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
)
from ..engine import Function, Tensor
from ..engine.gradient import copy
from ..errors import DeviceError, ShapeError
from ..layout import CHANNELS_LAST, MemoryFormat, Order, empty_array
from .operands import named, takes_tensor
from .transfer import converted, is_cuda

__all__ = ["clone"]


class To(Function):
    """A copy with another dtype and device, in the same memory order."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, dtype: np.dtype, device: Device, wait: builtins.bool = True
    ) -> Tensor:
        ctx.source = input.dtype, input.device
        return Tensor(converted(input.array, dtype, input.device, device, wait), device)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return To.apply(grad_output, *ctx.source), None, None, None


class Clone(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        return copy(input)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return grad_output


class Contiguous(Function):
    """A copy with another memory order."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, order: Order | None) -> Tensor:
        out = empty_array(input.shape, input.dtype, input.device, order)
        kernels.get(input.device).elementwise.copy_strided(out, input.array)
        return Tensor(out, input.device)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return grad_output, None


@takes_tensor
def to(
    input: Tensor,
    *args: Any,
    dtype: Any = None,
    device: Any = None,
    non_blocking: builtins.bool = False,
    copy: builtins.bool = False,
    memory_format: MemoryFormat | None = None,
) -> Tensor:
    """The tensor with another dtype, on another device, or both; itself if nothing changes.

    to(dtype), to(device), to(device, dtype), to(other tensor), or by keyword; non_blocking and copy
    may follow. copy: a new tensor in any case. memory_format: laid out so, see `contiguous`.
    non_blocking: a copy of pinned memory to a GPU need not be done when this returns; all other
    copies are. Gradients flow through it, back in the original dtype.

    Conversion to int64 cuts off decimals; NaN and what an int64 cannot hold become −2⁶³, and −2³¹
    for int32. Smaller integers are the lowest bytes of the int32 or int64. That is so on every
    device; it is also what torch gives on x86.
    """
    flags = []
    for arg in args:
        if isinstance(arg, builtins.bool):
            flags.append(arg)
        elif isinstance(arg, Tensor):
            dtype, device = arg.dtype, arg.device
        elif isinstance(arg, (str, Device, builtins.int)):
            device = arg
        elif arg is not None:
            dtype = arg
    non_blocking, copy = (*flags, *(non_blocking, copy)[len(flags) :])
    dtype = input.dtype if dtype is None else as_dtype(dtype)
    device = input.device if device is None else as_device(device)
    if dtype == input.dtype and device == input.device:
        return (
            clone(input, memory_format=memory_format) if copy else _laid_out(input, memory_format)
        )
    return _laid_out(To.apply(input, dtype, device, not non_blocking), memory_format)


def pin_memory(input: Tensor) -> Tensor:
    """A copy in host memory that a GPU reads by itself: see `to(…, non_blocking=True)`."""
    if is_cuda(input.device):
        raise DeviceError(f"pin_memory: only host memory can be pinned, got {input.device}")
    from ..runtime.cuda import memory

    pinned = memory.empty_pinned(input.shape, input.dtype)
    kernels.get(input.device).elementwise.copy_strided(pinned, input.array)
    return Tensor(pinned, input.device)


def is_pinned(input: Tensor) -> builtins.bool:
    """Whether the tensor lies in pinned host memory."""
    if is_cuda(input.device):
        return False
    from ..runtime.cuda import memory

    return memory.is_pinned(input.array)


def _as(name: str, dtype: Any, text: str) -> Callable[[Tensor], Tensor]:
    """The function that converts to a dtype."""

    def function(input: Tensor) -> Tensor:
        return to(input, dtype=dtype)

    return named(function, name, text)


float = _as("float", float32, "As float32.")
double = _as("double", float64, "As float64.")
long = _as("long", int64, "As int64; decimals are cut off.")
int = _as("int", int32, "As int32; decimals are cut off.")
short = _as("short", int16, "As int16.")
char = _as("char", int8, "As int8.")
byte = _as("byte", uint8, "As uint8.")
bool = _as("bool", bool_, "True where the value is not zero; NaN is not zero.")
half = _as("half", float16, "Refused: minigrad computes in float32 and float64.")
bfloat16 = _as("bfloat16", "bfloat16", "Refused: minigrad computes in float32 and float64.")


# torch's names of tensors of one dtype, by which `type` calls and takes them.
TYPE_NAMES = {
    float32: "FloatTensor", float64: "DoubleTensor", int64: "LongTensor", int32: "IntTensor",
    int16: "ShortTensor", int8: "CharTensor", uint8: "ByteTensor", bool_: "BoolTensor",
}  # fmt: skip


@takes_tensor
def type(input: Tensor, dtype: Any = None, non_blocking: builtins.bool = False) -> Any:
    """torch's name of the dtype, 'torch.FloatTensor' for float32, without an argument; else the
    tensor converted to a dtype, which may be given by that name."""
    if dtype is None:
        return f"torch.{'cuda.' if is_cuda(input.device) else ''}{TYPE_NAMES[input.dtype]}"
    dtype = getattr(dtype, "_name", dtype)  # LongTensor and its kind
    named = {name: dtype for dtype, name in TYPE_NAMES.items()}
    if isinstance(dtype, str) and (name := dtype.rpartition(".")[2]) in named:
        on_gpu = ".cuda." in dtype
        stays = is_cuda(input.device) == on_gpu
        device = input.device if stays else "cuda" if on_gpu else "cpu"
        return to(input, named[name], device=device, non_blocking=non_blocking)
    return to(input, as_dtype(dtype), non_blocking=non_blocking)


def cuda(
    input: Tensor,
    device: Any = None,
    non_blocking: builtins.bool = False,
    memory_format: MemoryFormat | None = None,
) -> Tensor:
    """On a GPU, by default the current one."""
    return to(
        input, device="cuda" if device is None else device, non_blocking=non_blocking,
        memory_format=memory_format,
    )  # fmt: skip


def cpu(input: Tensor, memory_format: MemoryFormat | None = None) -> Tensor:
    """In the host's memory, with the compiled kernels."""
    return to(input, "cpu", memory_format=memory_format)


def type_as(input: Tensor, other: Tensor) -> Tensor:
    """As the dtype of `other`, on its device."""
    return to(input, other)


@takes_tensor
def clone(input: Tensor, *, memory_format: MemoryFormat | None = None) -> Tensor:
    """A copy in fresh memory, in the same memory order unless a memory_format is given; gradients
    flow through it."""
    order = _order(input, memory_format)
    return Clone.apply(input) if order is None else Contiguous.apply(input, order)


@takes_tensor
def contiguous(
    input: Tensor, memory_format: MemoryFormat | None = MemoryFormat.contiguous_format
) -> Tensor:
    """The tensor itself if its elements lie in C order, or, for channels_last, if those of a pixel
    lie side by side; else a copy that does."""
    return _laid_out(input, memory_format)


def is_contiguous(
    input: Tensor, memory_format: MemoryFormat | None = MemoryFormat.contiguous_format
) -> builtins.bool:
    """Whether the elements lie in C order, or, for channels_last, in (N, H, W, C) order."""
    if memory_format is MemoryFormat.channels_last and input.ndim != 4:
        return False
    order = _order(input, memory_format)
    return order is None or input.array.transpose(order).flags.c_contiguous


def _order(input: Tensor, memory_format: MemoryFormat | None) -> Order | None:
    """The memory order of a format; None if any will do."""
    if memory_format is None or memory_format is MemoryFormat.preserve_format:
        return None
    if memory_format is MemoryFormat.contiguous_format:
        return tuple(range(input.ndim))
    if memory_format is not MemoryFormat.channels_last:
        raise TypeError(
            "memory_format must be minigrad.contiguous_format, preserve_format or channels_last, "
            f"got {memory_format!r:.80}"
        )
    if input.ndim != 4:
        raise ShapeError(f"channels_last is for (N, C, H, W), got a tensor of shape {input.shape}")
    return CHANNELS_LAST


def _laid_out(input: Tensor, memory_format: MemoryFormat | None) -> Tensor:
    """The tensor itself if it lies in memory as the format says, else a copy that does."""
    order = _order(input, memory_format)
    if order is None or input.array.transpose(order).flags.c_contiguous:
        return input
    return Contiguous.apply(input, order)
