"""Random tensors and dropout. All draw their next stream from a Generator.

The same seed gives the same values on every device, whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..device import Generator, default_generator
from ..dtypes import as_dtype, bool_, float32, floating_dtype, int64, uint8
from ..engine import Function, Tensor
from ..errors import DTypeError, ShapeError
from ..layout import memory_order
from ..runtime.cuda import table
from .arithmetic import mul
from .creation import _kind, new_tensor, ones
from .operands import elementwise, empty_like, floating_operands, takes_tensor
from .overwrite import overwrite
from .promotion import check_fits
from .shape import sizes_of
from .unary import activated

__all__ = [
    "get_rng_state", "rand", "rand_like", "randint", "randn", "randn_like", "randperm",
    "set_rng_state",
]  # fmt: skip


def _stream(generator: Generator | None) -> tuple[int, int]:
    if generator is not None and not isinstance(generator, Generator):
        raise TypeError(f"generator must be a Generator, got {type(generator).__name__}")
    source = generator or default_generator
    key = source.next_stream()
    table.drawn(key, source.next_stream)
    return key


def get_rng_state() -> dict[str, int]:
    """Where the default generator stands; `set_rng_state` returns to it."""
    return default_generator.get_state()


def set_rng_state(state: dict[str, int]) -> None:
    """Draw from here on what was drawn after `get_rng_state` returned `state`."""
    default_generator.set_state(state)


def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform numbers in [0, 1), of shape `size`."""
    out = new_tensor("rand", size, dtype, device)
    floating_dtype("rand", dtype=out.dtype)
    seed, stream = _stream(generator)
    kernels.get(out.device).random.uniform(out.array.reshape(-1), 0.0, 1.0, seed, stream)
    out.requires_grad = requires_grad
    return out


def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal numbers of mean 0 and variance 1, of shape `size`."""
    out = new_tensor("randn", size, dtype, device)
    floating_dtype("randn", dtype=out.dtype)
    seed, stream = _stream(generator)
    kernels.get(out.device).random.normal(out.array.reshape(-1), 0.0, 1.0, seed, stream)
    out.requires_grad = requires_grad
    return out


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Integers in [low, high), of shape `size`: randint(high, size) or randint(low, high, size)."""
    if size is None:
        low, high, size = 0, low, high
    if isinstance(high, (tuple, list)) or not isinstance(size, (tuple, list)):
        raise DTypeError(
            f"randint: expects (high, size) or (low, high, size) with a tuple as size, got "
            f"low={low!r}, high={high!r}, size={size!r}"
        )
    if not all(isinstance(bound, (int, np.integer)) for bound in (low, high)):
        raise DTypeError(f"randint: low and high must be ints, got {low!r} and {high!r}")
    low, high = int(low), int(high)
    if low >= high:
        raise ValueError(f"randint: low must be less than high, got low={low} and high={high}")
    out = new_tensor("randint", (tuple(size),), dtype, device, int64)
    for bound in (low, high - 1):
        check_fits("randint", bound, int64)
        check_fits("randint", bound, out.dtype)
    seed, stream = _stream(generator)
    kernels.get(out.device).random.randint(out.array.reshape(-1), low, high, seed, stream)
    return out


def randperm(
    n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = None
) -> Tensor:
    """The integers 0 … n − 1 in random order, each order equally likely."""
    wanted = int64 if dtype is None else as_dtype(dtype)
    (n,) = sizes_of("randperm", (n,))
    # The largest whole number up to which the dtype holds all of them.
    limit = {bool_: 2, uint8: 2**8, float32: 2**24}.get(wanted, 2**32 - 1)
    if n > limit:
        raise ValueError(f"randperm: n must be at most {limit} for {wanted.name}, got {n}")
    out = new_tensor("randperm", (n,), wanted, device)
    seed, stream = _stream(generator)
    kernels.get(out.device).random.permutation(out.array, seed, stream)
    return out


def rand_like(
    input: Tensor, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """As `rand`, with the shape, and if not given the dtype and device, of `input`."""
    return rand(input.shape, **_kind(input, dtype, device), requires_grad=requires_grad)


def randn_like(
    input: Tensor, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """As `randn`, with the shape, and if not given the dtype and device, of `input`."""
    return randn(input.shape, **_kind(input, dtype, device), requires_grad=requires_grad)


# Dropout ------------------------------------------------------------------------------------


class Dropout(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, p: float, seed: int, stream: int) -> Tensor:
        ctx.p = p
        # Elements are numbered in memory order, which the mask has too.
        out, out_flat, (input_flat,) = elementwise("dropout", input)
        mask = empty_like(out, bool_)
        mask_flat = mask.array.transpose(memory_order(mask.array)).reshape(-1)
        kernels.get(input.device).random.dropout_forward(
            out_flat, mask_flat, input_flat, p, seed, stream
        )
        ctx.save_for_backward(mask)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # y = m·x/(1 − p), so dx = m·dy/(1 − p).
        (mask,) = ctx.saved_tensors
        grad_input, grad_flat, (mask_flat, grad_output_flat) = elementwise(
            "dropout", mask, grad_output, dtype=grad_output.dtype
        )
        kernels.get(mask.device).random.dropout_backward_input(
            grad_flat, grad_output_flat, mask_flat, ctx.p
        )
        return grad_input, None, None, None


def _checked(operation: str, input: Tensor, p: float) -> None:
    floating_operands(operation, input=input)
    check_number(operation, "p", p, low=0, high=1)


@takes_tensor
def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, zero each element with probability p and scale the others by 1/(1 − p).

    inplace: the result takes the place of the input, in memory and in the graph.
    """
    _checked("dropout", input, p)
    if not training or p == 0:
        return input
    return activated("dropout", Dropout, input, p, *_stream(None), inplace=inplace)


@takes_tensor
def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """As `dropout`, for whole channels of (N, C, H, W) or (C, H, W)."""
    _checked("dropout2d", input, p)
    if input.ndim not in (3, 4):
        raise ShapeError(
            f"dropout2d: input must be (N, C, H, W) or (C, H, W), got shape {input.shape}"
        )
    if not training or p == 0:
        return input
    kept = ones((*input.shape[:-2], 1, 1), dtype=input.dtype, device=input.device)
    scale = Dropout.apply(kept, p, *_stream(None))
    if inplace:
        return overwrite("dropout2d_", input, mul, scale, direct=True)
    return mul(input, scale)
