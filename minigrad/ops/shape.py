"""Reshaping and views: operations that rearrange elements without computing on them.

Results are views of the input's memory wherever strides can express them, and then share its
version counter. Only `reshape`, `flatten` and `unflatten` may have to copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import index
from typing import Any, TypeVar

import numpy as np

from .. import kernels
from ..engine import Tensor, View
from ..errors import DTypeError, ShapeError
from ..layout import Order, broadcast, empty_array, memory_order
from .operands import takes_tensor
from .reduction import axis_of, unbroadcast

__all__ = [
    "broadcast_to", "flatten", "permute", "reshape", "squeeze", "t", "transpose", "unflatten",
    "unsqueeze",
]  # fmt: skip

Result = TypeVar("Result", Tensor, tuple[Tensor, ...])


def view_of(tensor: Tensor, array: np.ndarray) -> Tensor:
    """A tensor on a view of another's memory, with the same version counter."""
    return Tensor(array, tensor.device, False, tensor._version)


def sizes_of(operation: str, sizes: Sequence[Any]) -> tuple[int, ...]:
    """Ints given one by one or as one sequence: `f(2, 3)`, `f((2, 3))`, `f([2, 3])`."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = sizes[0]
    try:
        return tuple(map(index, sizes))
    except TypeError:
        raise DTypeError(f"{operation}: sizes must be ints, got {tuple(sizes)!r}") from None


# Reshape ------------------------------------------------------------------------------------


def can_view(array: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether strides can express `array.reshape(shape)`, for a shape of the same size.

    Axes that merge, or of which one is split, must follow one another in memory.
    """
    if array.flags.c_contiguous or array.size == 0:
        return True
    return _strides_express(array.shape, array.strides, shape)


@lru_cache(maxsize=4096)
def _strides_express(
    array_shape: tuple[int, ...], strides: tuple[int, ...], shape: tuple[int, ...]
) -> bool:
    old = [(n, s) for n, s in zip(array_shape, strides, strict=True) if n != 1]
    new = [n for n in shape if n != 1]
    i = j = 0
    while i < len(old):
        first, old_size, new_size = i, old[i][0], new[j]
        while old_size != new_size:
            if old_size < new_size:
                i += 1
                old_size *= old[i][0]
            else:
                j += 1
                new_size *= new[j]
        if any(old[k][1] != old[k + 1][0] * old[k + 1][1] for k in range(first, i)):
            return False
        i, j = i + 1, j + 1
    return True


def _reshaped(tensor: Tensor, shape: tuple[int, ...], order: Order | None = None) -> Tensor:
    """Elements in logical order under another shape: a view, or else a copy laid out in `order`."""
    data = tensor.array
    if can_view(data, shape):
        return view_of(tensor, data.reshape(shape))
    out = empty_array(shape, data.dtype, tensor.device, order)
    launch = kernels.get(tensor.device).elementwise
    # Either side may be the one whose memory the other's shape can be laid over.
    if can_view(out, data.shape):
        launch.copy_strided(out.reshape(data.shape), data)
    else:
        between = empty_array(data.shape, data.dtype, tensor.device)
        launch.copy_strided(between, data)
        launch.copy_strided(out, between.reshape(shape))
    return Tensor(out, tensor.device)


class Reshape(View):
    @staticmethod
    def look(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return array.reshape(shape)

    @staticmethod
    def forward(ctx: Any, input: Tensor, shape: tuple[int, ...]) -> Tensor:
        data = input.array
        ctx.shape, ctx.order = data.shape, None
        if can_view(data, shape):
            return view_of(input, data.reshape(shape))
        ctx.order = memory_order(data)
        return _reshaped(input, shape)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # Where forward copied channels-last memory to C order, the gradient is copied back, so
        # that what lies before meets its own memory order again.
        if ctx.order is not None:
            return _laid_out(grad_output, ctx.shape, ctx.order), None
        return _reshaped(grad_output, ctx.shape), None


def _laid_out(grad: Tensor, shape: tuple[int, ...], order: Order) -> Tensor:
    """`grad` under another shape, in memory order `order`."""
    reshaped = _reshaped(grad, shape)
    if reshaped.array.transpose(order).flags.c_contiguous:
        return reshaped
    out = empty_array(shape, grad.dtype, grad.device, order)
    kernels.get(grad.device).elementwise.copy_strided(out, reshaped.array)
    return Tensor(out, grad.device)


def _inferred(operation: str, size: int, shape: tuple[int, ...], source: object) -> tuple[int, ...]:
    """`shape` with its −1 replaced, checked to hold `size` elements."""
    if shape.count(-1) > 1:
        raise ShapeError(f"{operation}: only one size can be inferred, got {shape}")
    known = math.prod(n for n in shape if n != -1)
    fits = all(n >= -1 for n in shape)
    if -1 in shape:
        if known == 0 and size == 0 and fits:
            raise ShapeError(
                f"{operation}: the size −1 in {shape} can be anything for a tensor of 0 elements"
            )
        fits = fits and known > 0 and size % known == 0
        shape = tuple(size // known if n == -1 else n for n in shape) if fits else shape
    elif known != size:
        fits = False
    if not fits:
        raise ShapeError(f"{operation}: shape {shape} is invalid for {source} ({size} elements)")
    return shape


@takes_tensor
def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The elements in their logical (row-major) order under another shape; one size may be −1.

    A view where strides permit, else a copy. A channels-last (N, C, H, W) tensor flattens in
    torch's order, channel by channel, and so is copied unless C = 1 or H = W = 1.
    Raises ShapeError if the number of elements differs.
    """
    wanted, size = sizes_of("reshape", shape), input.array.size
    if math.prod(wanted) != size or min(wanted, default=0) < 0:
        wanted = _inferred("reshape", size, wanted, f"a tensor of shape {input.shape}")
    return Reshape.apply(input, wanted)


@takes_tensor
def view(input: Tensor, *size: Any) -> Tensor:
    """As `reshape`. Where torch would refuse because strides do not permit a view, it copies."""
    return reshape(input, *size)


@takes_tensor
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Merge the axes start_dim to end_dim into one; a tensor of no axes gets one. The tensor itself
    where there is nothing to merge."""
    shape = input.array.shape
    first = axis_of("flatten", start_dim, len(shape))
    last = axis_of("flatten", end_dim, len(shape))
    if first > last:
        raise ShapeError(
            f"flatten: start_dim must not come after end_dim, got {start_dim} and {end_dim} for "
            f"shape {shape}"
        )
    if first == last and shape:
        return input
    merged = math.prod(shape[first : last + 1])
    return Reshape.apply(input, (*shape[:first], merged, *shape[last + 1 :]))


@takes_tensor
def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Split axis dim into axes of the given sizes, one of which may be −1."""
    axis = real_axis("unflatten", dim, input)
    wanted = sizes_of("unflatten", (tuple(sizes),))
    if not wanted:
        raise ShapeError("unflatten: sizes must not be empty")
    split = _inferred("unflatten", input.shape[axis], wanted, f"axis {axis} of {input.shape}")
    return Reshape.apply(input, (*input.shape[:axis], *split, *input.shape[axis + 1 :]))


@takes_tensor
def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Drop axes of size 1: all of them, or those that dim names (others stay)."""
    if dim is None:
        dropped = set(range(input.ndim))
    else:
        dims = dim if isinstance(dim, (tuple, list)) else (dim,)
        dropped = {axis_of("squeeze", axis, input.ndim) for axis in dims}
    shape = tuple(n for axis, n in enumerate(input.shape) if n != 1 or axis not in dropped)
    return Reshape.apply(input, shape)


@takes_tensor
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """Insert an axis of size 1 before axis dim; −1 appends one."""
    axis = axis_of("unsqueeze", dim, input.ndim + 1)
    return Reshape.apply(input, (*input.shape[:axis], 1, *input.shape[axis:]))


def unbatched(operation: str, input: Tensor) -> tuple[Tensor, Callable[[Result], Result]]:
    """Give a (C, H, W) input a batch of one; the second value takes it off the result again."""
    if input.ndim == 4:
        return input, lambda result: result
    if input.ndim == 3:
        return unsqueeze(input, 0), _without_batch
    raise ShapeError(
        f"{operation}: input must be (N, C, H, W) or (C, H, W), got shape {input.shape}"
    )


def _without_batch(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(squeeze(tensor, 0) for tensor in result)
    return squeeze(result, 0)


# Permute ------------------------------------------------------------------------------------


def real_axis(operation: str, dim: int, input: Tensor) -> int:
    """An axis that exists: a zero-dimensional tensor has none."""
    axis = axis_of(operation, dim, input.ndim)
    if input.ndim == 0:
        raise ShapeError(f"{operation}: the tensor must have at least one dimension")
    return axis


class Permute(View):
    @staticmethod
    def look(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return array.transpose(axes)

    @staticmethod
    def forward(ctx: Any, input: Tensor, axes: tuple[int, ...]) -> Tensor:
        ctx.axes = axes
        return view_of(input, Permute.look(input.array, axes))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        inverse = sorted(range(len(ctx.axes)), key=ctx.axes.__getitem__)
        return view_of(grad_output, grad_output.array.transpose(inverse)), None


@takes_tensor
def permute(input: Tensor, *dims: Any) -> Tensor:
    """Axis k of the result is axis dims[k] of the input: permute(x, (2, 0, 1))."""
    wanted = sizes_of("permute", dims)
    axes = tuple(axis_of("permute", dim, input.ndim) for dim in wanted)
    if sorted(axes) != list(range(input.ndim)):
        raise ShapeError(
            f"permute: dims must name every axis of shape {input.shape} once, got {wanted}"
        )
    return Permute.apply(input, axes)


@takes_tensor
def t(input: Tensor) -> Tensor:
    """A matrix with its two axes exchanged; a tensor of fewer axes as it is. A view."""
    if input.ndim > 2:
        raise ShapeError(f"t: expects at most two dimensions, got shape {input.shape}")
    return transpose(input, 0, 1) if input.ndim == 2 else view(input, input.shape)


@takes_tensor
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Exchange two axes."""
    axes = list(range(input.ndim))
    first, second = (axis_of("transpose", dim, input.ndim) for dim in (dim0, dim1))
    if input.ndim:
        axes[first], axes[second] = axes[second], axes[first]
    return Permute.apply(input, tuple(axes))


@takes_tensor
def reversed_axes(input: Tensor) -> Tensor:
    """`x.T`: the axes in reverse order."""
    return Permute.apply(input, tuple(range(input.ndim))[::-1])


@takes_tensor
def matrix_transpose(input: Tensor) -> Tensor:
    """`x.mT`: the last two axes exchanged."""
    if input.ndim < 2:
        raise ShapeError(f"mT: the tensor must have at least 2 dimensions, got {input.shape}")
    return transpose(input, -2, -1)


@takes_tensor
def matrix_adjoint(input: Tensor) -> Tensor:
    """`x.H`: a matrix with its two axes exchanged; there are no complex numbers."""
    if input.ndim not in (0, 2):
        raise ShapeError(f"H: the tensor must be a matrix, got shape {input.shape}")
    return reversed_axes(input)


# Expand -------------------------------------------------------------------------------------


class Expand(View):
    look = staticmethod(broadcast)

    @staticmethod
    def forward(ctx: Any, input: Tensor, shape: tuple[int, ...]) -> Tensor:
        ctx.shape = input.shape
        return view_of(input, broadcast(input.array, shape))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return unbroadcast(grad_output, ctx.shape), None


@takes_tensor
def expand(input: Tensor, *size: Any) -> Tensor:
    """Repeat axes of size 1 without copying, and add axes in front; −1 keeps a size.

    The elements of the result share memory: clone it before changing it in place.
    """
    wanted = sizes_of("expand", size)
    added = len(wanted) - input.ndim
    if added < 0:
        raise ShapeError(
            f"expand: sizes {wanted} are fewer than the {input.ndim} axes of shape {input.shape}"
        )
    shape = []
    for axis, n in enumerate(wanted):
        old = input.shape[axis - added] if axis >= added else None
        if n == -1 and old is not None:
            n = old
        if n < 0 or old not in (None, 1, n):
            raise ShapeError(
                f"expand: axis {axis} of sizes {wanted} does not fit the tensor of shape "
                f"{input.shape}; only axes of size 1 repeat"
            )
        shape.append(n)
    if math.prod(n or 1 for n in shape) >= 2**60:
        raise ShapeError(f"expand: sizes {wanted} are more than an array can have")
    return Expand.apply(input, tuple(shape))


@takes_tensor
def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """Expanded to the shape of `other`."""
    return expand(input, other.shape)


@takes_tensor
def broadcast_to(input: Tensor, shape: Sequence[int]) -> Tensor:
    """Expanded to `shape`; the same as `expand`."""
    return expand(input, shape)
