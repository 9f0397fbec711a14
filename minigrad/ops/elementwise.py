"""Elementwise operations: one value in, one value out, with broadcasting."""

from __future__ import annotations

from typing import Any

from .. import kernels
from ..dtypes import floating_dtype, same_dtype
from ..engine import Function, Tensor
from ._operands import elementwise, empty_like


class Add(Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.shapes = left.shape, right.shape
        out, out_flat, (left_flat, right_flat) = elementwise("add", left, right)
        kernels.get(out.device).add_forward(out_flat, left_flat, right_flat)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return grad_output, grad_output


class ReLU(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        out, out_flat, (input_flat,) = elementwise("relu", input)
        kernels.get(out.device).relu_forward(out_flat, input_flat)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        grad_input, grad_flat, (out_flat, grad_output_flat) = elementwise("relu", out, grad_output)
        kernels.get(out.device).relu_backward_input(grad_flat, grad_output_flat, out_flat)
        return grad_input


def add(left: Tensor, right: Tensor) -> Tensor:
    """left + right, with broadcasting."""
    same_dtype("add", left=left.dtype, right=right.dtype)
    return Add.apply(left, right)


def relu(input: Tensor) -> Tensor:
    """max(input, 0). The derivative at 0 is 0; NaN propagates."""
    floating_dtype("relu", input=input.dtype)
    return ReLU.apply(input)


class Clone(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        out = empty_like(input)
        kernels.get(input.device).copy_strided(out.data, input.data)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return grad_output


def clone(input: Tensor) -> Tensor:
    """A copy in fresh memory; gradients flow through it."""
    return Clone.apply(input)
