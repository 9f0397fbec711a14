"""Gradients of leaves: accumulated, cleared and read, and the arithmetic of gradients.

Sums, copies and constants come from the kernels of the tensor's device, and nothing here is
recorded on the tape.
"""

from __future__ import annotations

import threading

import numpy as np

from .. import kernels
from ..device import Device, same_device
from ..errors import DTypeError, ShapeError
from ..layout import Order, empty_array, flat, memory_order, order_of
from ..runtime.forks import Rank, hold_over_forks
from .grad_mode import mode
from .tensor import Tensor

_turn = threading.RLock()
hold_over_forks(_turn, Rank.GRADIENTS)


def accumulate(leaf: Tensor, grad: Tensor, shared: bool) -> None:
    """leaf.grad ← leaf.grad + grad, in new memory. shared: somebody else may hold grad's memory.

    Threads that share a leaf take turns, so that no sum is lost.
    """
    with _turn:
        if mode.observer.accumulate(leaf, grad):
            return
        if leaf.grad is not None:
            leaf.grad = add(leaf.grad, grad)
        else:
            leaf.grad = copy(grad) if shared or _overlaps(grad.array) else grad.detach()


def clear_grad(leaf: Tensor, set_to_none: bool = True) -> None:
    """Forget the leaf's gradient, or put zeros in its place."""
    mode.observer.clear_grad(leaf)
    if set_to_none or leaf.grad is None:
        leaf.grad = None
    else:  # a new array: the old one may be shared
        leaf.grad = zeros_like(leaf)


def read_grad(leaf: Tensor) -> Tensor | None:
    """The leaf's gradient, to compute with or to change in place."""
    mode.observer.read_grad(leaf)
    return leaf.grad


def add(left: Tensor, right: Tensor) -> Tensor:
    """left + right, of one shape and dtype, in left's memory order if it has one."""
    check_gradient("backward: the gradient so far", left, right.array.shape, right.array.dtype)
    device = left.device
    if device is not right.device:
        same_device("backward", gradient_so_far=device, gradient=right.device)
    order = memory_order(left.array) or order_of(right.array)
    out = empty_array(left.shape, left.dtype, device, order)
    total, first, second = [flat(each, order, device) for each in (out, left.array, right.array)]
    kernels.get(device).elementwise.add_forward(total, first, second, 1)
    return Tensor(out, device)


def copy(tensor: Tensor) -> Tensor:
    """In new memory, of the same memory order."""
    data, device = tensor.array, tensor.device
    out = empty_array(data.shape, data.dtype, device, memory_order(data))
    kernels.get(device).elementwise.copy_strided(out, data)
    return Tensor(out, device)


def zeros_like(tensor: Tensor) -> Tensor:
    """Of the same memory order."""
    return full(tensor.shape, tensor.dtype, tensor.device, 0, memory_order(tensor.array))


def full(
    shape: tuple[int, ...], dtype: np.dtype, device: Device, value: float,
    order: Order | None = None,
) -> Tensor:  # fmt: skip
    data = empty_array(shape, dtype, device, order)
    kernels.get(device).elementwise.fill(flat(data, order_of(data), device), value)
    return Tensor(data, device)


def check_gradient(what: str, gradient: object, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """what: the gradient's description."""
    if not isinstance(gradient, Tensor):
        raise TypeError(f"{what} must be a Tensor, got {type(gradient).__name__}")
    data = gradient.array
    if data.shape != shape:
        raise ShapeError(f"{what} must have shape {shape}, got {data.shape}")
    if data.dtype != dtype:
        raise DTypeError(f"{what} must have dtype {dtype.name}, got {data.dtype.name}")


def _overlaps(array: np.ndarray) -> bool:
    """Whether several elements share one place, as after a broadcast."""
    return 0 in array.strides and any(
        s == 0 and n > 1 for s, n in zip(array.strides, array.shape, strict=True)
    )
