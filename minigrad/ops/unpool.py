"""Max unpooling: the inverse of max pooling, as far as there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..device import same_device
from ..dtypes import int64
from ..engine import Function, Tensor
from ..errors import DTypeError, ShapeError, TargetError
from ..geometry import Size2d, pair
from ..runtime.allocation import allocate
from .operands import empty_nhwc, floating_operands, nhwc
from .shape import unbatched
from .transfer import check_rows

__all__ = ["max_unpool2d"]


class MaxUnpool2d(Function):
    """out[position] = input: each input's gradient is read where its value went."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, positions: np.ndarray, size: tuple[int, int]) -> Tensor:
        ctx.shape, ctx.positions = input.shape, positions
        out, out_nhwc = empty_nhwc((*input.shape[:2], *size), input.dtype, input.device)
        kernels.get(input.device).unpool.max_unpool2d_forward(out_nhwc, nhwc(input), positions)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_input, out = empty_nhwc(ctx.shape, grad_output.dtype, grad_output.device)
        kernels.get(grad_output.device).unpool.max_unpool2d_backward_input(
            out, nhwc(grad_output), ctx.positions
        )
        return grad_input, None, None


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Size2d,
    stride: Size2d | None = None,
    padding: Size2d = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Put the maxima back where max_pool2d(…, return_indices=True) found them; zeros elsewhere.

    input and indices (N, C, H, W) or (C, H, W) → (N, C, H_out, W_out) with
    H_out = (H − 1)·stride + kernel_size − 2·padding, or output_size, (H_out, W_out) or with the
    leading sizes too, which may differ from that by less than the stride.
    Of equal indices the last value stays, and each reads its gradient there.
    Raises ShapeError, DTypeError, DeviceError, or TargetError for an index outside the output.
    """
    operation = "max_unpool2d"
    floating_operands(operation, "input", input)
    if not isinstance(indices, Tensor) or indices.dtype != int64:
        got = indices.dtype.name if isinstance(indices, Tensor) else type(indices).__name__
        raise DTypeError(f"{operation}: indices must be an int64 tensor, got {got}")
    same_device(operation, input=input.device, indices=indices.device)
    if indices.shape != input.shape:
        raise ShapeError(
            f"{operation}: indices must have input's shape {input.shape}, got {indices.shape}"
        )
    size = _output_size(input, kernel_size, stride, padding, output_size)
    input, restore = unbatched(operation, input)
    indices, _ = unbatched(operation, indices)
    return restore(MaxUnpool2d.apply(input, _positions(indices, size), size))


def _output_size(
    input: Tensor,
    kernel_size: Size2d,
    stride: Size2d | None,
    padding: Size2d,
    output_size: Sequence[int] | None,
) -> tuple[int, int]:
    operation = "max_unpool2d"
    kernel = pair(operation, "kernel_size", kernel_size, minimum=1)
    strides = kernel if stride is None else pair(operation, "stride", stride, minimum=1)
    pads = pair(operation, "padding", padding)
    if input.ndim not in (3, 4) or 0 in input.shape[-3:]:
        raise ShapeError(
            f"{operation}: input must be (N, C, H, W) or (C, H, W), of which only N may be 0, got "
            f"shape {input.shape}"
        )
    usual = tuple(
        (n - 1) * s + k - 2 * p
        for n, s, k, p in zip(input.shape[-2:], strides, kernel, pads, strict=True)
    )
    if output_size is None:
        return pair(operation, "output size", (usual[0], usual[1]), minimum=1)
    try:
        wanted = tuple(output_size)
    except TypeError:
        wanted = ()
    if len(wanted) not in (2, 4, input.ndim):
        raise ShapeError(
            f"{operation}: output_size must be (H_out, W_out) or have as many sizes as the input "
            f"of shape {input.shape}, got {output_size!r}"
        )
    size = pair(operation, "output_size", (wanted[-2], wanted[-1]), minimum=1)
    if any(not u - s < n < u + s for n, u, s in zip(size, usual, strides, strict=True)):
        raise ShapeError(
            f"{operation}: output_size must differ from {usual} by less than the stride {strides}, "
            f"got {size}"
        )
    return size


def _positions(indices: Tensor, size: tuple[int, int]) -> np.ndarray:
    """A private NHWC copy of the indices, each checked to lie in the output."""
    backend = kernels.get(indices.device)
    wanted = nhwc(indices)
    device = indices.device
    positions, bad = allocate(wanted.shape, int64, device), allocate((1,), int64, device)
    backend.elementwise.fill(positions.reshape(-1), 0)
    cells = size[0] * size[1]
    backend.indexing.accumulate_index(positions.reshape(-1), bad, wanted.reshape(-1), 0, cells, 1)

    def refuse(_: int, values: Sequence[float]) -> None:
        raise TargetError(
            f"max_unpool2d: indices must be in [0, {cells}) for an output of {size[0]}×{size[1]}, "
            f"got {values[0]}"
        )

    check_rows(bad, wanted.reshape(-1), device, refuse)
    return positions
