"""Softmax and its logarithm along one axis."""

from __future__ import annotations

import warnings
from typing import Any

from .. import kernels
from ..engine import Function, Tensor
from .cast import to
from .operands import floating_operands, scratch, takes_tensor
from .reduction import axis_of
from .rows import empty_rows, to_rows

__all__ = ["log_softmax", "softmax"]


class Softmax(Function):
    """y = e^x / Σ e^x along an axis, or ln y: the kernels state the derivatives from the result."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, axis: int, log: bool) -> Tensor:
        device, dtype = input.device, input.dtype
        out, rows = empty_rows(input.shape, axis, dtype, device)
        launch = kernels.get(device).softmax
        if rows.size and log:
            workspace = scratch(launch.log_softmax_forward_workspace(*rows.shape), dtype, device)
            launch.log_softmax_forward(rows, to_rows(input, axis), workspace)
        elif rows.size:
            workspace = scratch(launch.softmax_forward_workspace(*rows.shape), dtype, device)
            launch.softmax_forward(rows, to_rows(input, axis), workspace)
        ctx.save_for_backward(out)
        ctx.axis, ctx.log = axis, log
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = ctx.saved_tensors
        grad_input, grad_rows = empty_rows(out.shape, ctx.axis, out.dtype, out.device)
        if grad_rows.size:
            launch = kernels.get(out.device).softmax
            backward = (
                launch.log_softmax_backward_input if ctx.log else launch.softmax_backward_input
            )
            backward(grad_rows, to_rows(grad_output, ctx.axis), to_rows(out, ctx.axis))
        return grad_input, None, None


def _softmax(operation: str, input: Tensor, dim: int | None, dtype: Any, log: bool) -> Tensor:
    if dtype is not None:
        input = to(input, dtype=dtype)
    floating_operands(operation, "input", input)
    if dim is None:
        dim = 0 if input.ndim in (0, 1, 3) else 1
        warnings.warn(
            f"{operation}: leaving out dim is deprecated; dim={dim} is taken for "
            f"{input.ndim} dimensions",
            UserWarning,
            stacklevel=3,
        )
    axis = axis_of(operation, dim, input.ndim)
    if input.ndim == 0:
        return Softmax.apply(input.reshape(1), 0, log).reshape(())
    return Softmax.apply(input, axis, log)


@takes_tensor
def softmax(
    input: Tensor, dim: int | None = None, dtype: Any = None, *, _stacklevel: int = 3
) -> Tensor:
    """exp(input) / Σ exp(input) along dim; any shape, same shape out.

    Neither overflows nor loses precision for large inputs. A slice of −∞ alone, or with NaN or +∞,
    becomes NaN. dtype: convert the input first. Leaving out dim is deprecated. Raises ShapeError
    for a dim out of range, DTypeError for an input that is not floating.
    """
    return _softmax("softmax", input, dim, dtype, log=False)


@takes_tensor
def log_softmax(
    input: Tensor, dim: int | None = None, dtype: Any = None, *, _stacklevel: int = 3
) -> Tensor:
    """input − log Σ exp(input) along dim: log(softmax(input, dim)), without its underflow.

    Arguments and errors are those of `softmax`.
    """
    return _softmax("log_softmax", input, dim, dtype, log=True)
