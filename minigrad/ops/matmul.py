"""Matrix products and the linear layer."""

from __future__ import annotations

import math
from typing import Any

from .. import kernels
from ..dtypes import float64, int64
from ..engine import Function, Tensor
from ..engine.gradient import full
from ..errors import ShapeError
from ..geometry import MatmulDims
from ..kernels.protocol import UNLIMITED
from ..layout import contiguous
from ..runtime.allocation import allocate
from .arithmetic import add, mul
from .cast import to
from .operands import broadcast_shape, c_order, empty, floating_operands, scratch
from .reduce import sum
from .shape import expand, reshape, unsqueeze

__all__ = ["matmul"]

_WHOLE_ELEMENTS = 2**22  # of the products of integers that are there at once


class MatMul(Function):
    """(B, M, K) @ (B, K, N) → (B, M, N), of operands and a result that may have other shapes of as
    many elements."""

    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor, dims: MatmulDims, shape: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.dims = dims
        out = empty(shape, left.dtype, left.device)
        launch = kernels.get(left.device).matmul
        workspace = scratch(launch.matmul_forward_workspace(dims), left.dtype, left.device)
        launch.matmul_forward(
            _stack(out, dims.B, dims.M, dims.N), _stack(left, dims.B, dims.M, dims.K),
            _stack(right, dims.B, dims.K, dims.N), None, workspace, dims, UNLIMITED,
        )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # Y = L·R:  dL = dY·Rᵀ,  dR = Lᵀ·dY
        left, right = ctx.saved_tensors
        dims, dtype, device = ctx.dims, left.dtype, left.device
        launch = kernels.get(device).matmul
        left_sizes, right_sizes = (dims.B, dims.M, dims.K), (dims.B, dims.K, dims.N)
        grad = _stack(grad_output, dims.B, dims.M, dims.N)
        grad_left = grad_right = None
        if ctx.needs_input_grad[0]:
            grad_left = empty(left.array.shape, dtype, device)
            out, matrices = _stack(grad_left, *left_sizes), _stack(right, *right_sizes)
            workspace = scratch(launch.matmul_backward_left_workspace(dims), dtype, device)
            launch.matmul_backward_left(out, grad, matrices, workspace, dims)
        if ctx.needs_input_grad[1]:
            grad_right = empty(right.array.shape, dtype, device)
            out, matrices = _stack(grad_right, *right_sizes), _stack(left, *left_sizes)
            workspace = scratch(launch.matmul_backward_right_workspace(dims), dtype, device)
            launch.matmul_backward_right(out, grad, matrices, workspace, dims)
        return grad_left, grad_right, None, None


def _stack(tensor: Tensor, *sizes: int) -> Any:
    """The C-ordered array of B matrices: free if stored so."""
    return c_order(tensor).reshape(sizes)


class Linear(Function):
    """(M, K) @ (N, K)ᵀ + (N,) → (M, N)"""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        dims: MatmulDims,
        bounds: tuple[float, float] = UNLIMITED,
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.dims = dims
        out = empty((dims.M, dims.N), input.dtype, input.device)
        launch = kernels.get(input.device).matmul
        workspace = scratch(launch.matmul_forward_workspace(dims), input.dtype, input.device)
        launch.matmul_forward(
            out.array[None], c_order(input)[None], _stored(weight)[None],
            None if bias is None else c_order(bias), workspace, dims, bounds,
        )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # Y = X·Wᵀ + b:  dX = dY·W,  dWᵀ = Xᵀ·dY,  db = Σ_m dY[m]
        input, weight, *_ = ctx.saved_tensors
        dims, dtype, device = ctx.dims, input.dtype, input.device
        launch = kernels.get(device).matmul
        grad = c_order(grad_output)[None]
        grad_input = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_input = empty(input.shape, dtype, device)
            workspace = scratch(launch.matmul_backward_left_workspace(dims), dtype, device)
            launch.matmul_backward_left(
                grad_input.array[None], grad, _stored(weight)[None], workspace, dims
            )
        if ctx.needs_input_grad[1]:
            stored = allocate((1, dims.K, dims.N), dtype, device)
            workspace = scratch(launch.matmul_backward_right_workspace(dims), dtype, device)
            launch.matmul_backward_right(stored, grad, c_order(input)[None], workspace, dims)
            grad_weight = Tensor(stored[0].T, device)
        if ctx.needs_input_grad[2]:
            grad_bias = empty((dims.N,), dtype, device)
            if dims.N:
                workspace = scratch(launch.matmul_backward_bias_workspace(dims), float64, device)
                launch.matmul_backward_bias(grad_bias.array, grad, workspace, dims)
        return grad_input, grad_weight, grad_bias, None


def _stored(weight: Tensor) -> Any:
    """The C-ordered (in, out) array of a weight, in which order the product reads it: free for
    weights that nn made, which are shown as (out, in), as in torch, but stored so."""
    return contiguous(weight.array.T, weight.device)


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Matrix product, with torch's rules.

    (…, M, K) @ (…, K, N) → (…, M, N), leading dimensions broadcast. A one-dimensional operand is a
    row on the left and a column on the right, and its dimension is dropped from the result. Two of
    one integer dtype give that dtype.
    """
    whole = all(isinstance(t, Tensor) and t.dtype.kind in "iu" for t in (input, other))
    if not whole or input.dtype != other.dtype:
        floating_operands("matmul", "input other", input, other)
    if input.ndim == 0 or other.ndim == 0:
        raise ShapeError(
            f"matmul: operands must have at least one dimension, got shapes {input.shape} and "
            f"{other.shape}"
        )
    # A vector has no rows, or no columns, in the result, and one in the product.
    rows, columns = input.array.shape[:-1], other.array.shape[-1:] if other.ndim > 1 else ()
    M, K, N = math.prod(rows[-1:]), input.array.shape[-1], math.prod(columns)
    if other.array.shape[-2:][0] != K:
        raise ShapeError(
            f"matmul: inner sizes must agree, got shapes {input.shape} and {other.shape}"
        )
    if other.ndim <= 2 and not whole:
        # One matrix for all rows: the leading dimensions of the left operand are rows too.
        dims = MatmulDims(1, math.prod(rows), K, N)
        return MatMul.apply(input, other, dims, (*rows, *columns))
    batch = broadcast_shape("matmul", input.array.shape[:-2], other.array.shape[:-2])
    if whole:
        left = reshape(input, (*rows[:-1], M, K))
        right = reshape(other, (*other.array.shape[:-2], K, N))
        return reshape(_whole_product(left, right, (*batch, M, N)), (*batch, *rows[-1:], *columns))
    left = input if rows[:-1] == batch else expand(input, (*batch, M, K))
    right = other if other.array.shape[:-2] == batch else expand(other, (*batch, K, N))
    dims = MatmulDims(math.prod(batch), M, K, N)
    return MatMul.apply(left, right, dims, (*batch, *rows[-1:], *columns))


def _whole_product(left: Tensor, right: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Of integers: Σ_k left[…, m, k]·right[…, k, n], some k at once so that memory stays small."""
    K, total = left.shape[-1], full(shape, int64, left.device, 0)
    step = max(_WHOLE_ELEMENTS // max(math.prod(shape), 1), 1)
    for k in range(0, K, step):
        columns, rows = left[..., k : k + step], right[..., k : k + step, :]
        total = add(total, sum(mul(unsqueeze(columns, -1), unsqueeze(rows, -3)), -2))
    return to(total, left.dtype)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input · weightᵀ + bias.  input (…, in), weight (out, in), bias (out,) → (…, out).

    A weight (in,) without bias gives (…,), as in torch.
    """
    return affine(Linear, input, weight, bias)


def affine(function: type[Linear], input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`linear` by way of another function of rows."""
    floating_operands("linear", "input weight bias?", input, weight, bias)
    shape, weight_shape = input.array.shape, weight.array.shape
    if len(weight_shape) not in (1, 2):
        raise ShapeError(f"linear: weight must have 1 or 2 dimensions, got shape {weight_shape}")
    if len(weight_shape) == 1:
        if bias is not None:
            raise ShapeError(
                f"linear: a weight of shape {weight_shape} takes no bias, got one of shape "
                f"{bias.shape}"
            )
        return matmul(input, weight)
    N, K = weight_shape
    if not shape or shape[-1] != K:
        raise ShapeError(
            f"linear: weight of shape {weight_shape} expects {K} input features, got input of "
            f"shape {shape}"
        )
    if bias is not None and bias.array.shape != (N,):
        raise ShapeError(f"linear: bias must have shape ({N},), got {bias.shape}")
    if len(shape) == 2:
        return function.apply(input, weight, bias, MatmulDims(1, shape[0], K, N))
    M = math.prod(shape[:-1])
    out = function.apply(reshape(input, (M, K)), weight, bias, MatmulDims(1, M, K, N))
    return reshape(out, (*shape[:-1], N))
