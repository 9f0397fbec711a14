"""Batch normalisation of (rows, C) arrays and then an activation, in one pass over memory each way:
norm.py's kernels.

Only batch norm's input is read and kept: z, which the activation gets, is made of it again.
"""

from __future__ import annotations

from ._middle import reduction
from .norm import LIMITS, SILU, backward_affine, backward_input, forward


def _activation(bounds):
    """Which, and its limits."""
    return (SILU, (0.0, 0.0)) if bounds is None else (LIMITS, tuple(map(float, bounds)))


def batch_norm_activation_forward_workspace(rows: int, C: int) -> int:
    return 0


def batch_norm_activation_forward(out, input, mean, invstd, weight, bias, bounds, scratch):
    forward(out, input, mean, invstd, weight, bias, *_activation(bounds))


def batch_norm_activation_backward_affine_workspace(rows: int, C: int) -> int:
    return 2 * reduction(1, rows, C).chunks * C


def batch_norm_activation_backward_affine(
    grad_weight, grad_bias, grad_output, input, mean, invstd, weight, bias, bounds, scratch
):
    backward_affine(
        grad_weight, grad_bias, grad_output, input, mean, invstd, weight, bias, scratch,
        *_activation(bounds),
    )  # fmt: skip


def batch_norm_activation_backward_input_workspace(rows: int, C: int) -> int:
    return 0


def batch_norm_activation_backward_input(
    grad_input, grad_output, input, mean, invstd, weight, bias, grad_weight, grad_bias, training,
    bounds, scratch,
):  # fmt: skip
    backward_input(
        grad_input, grad_output, input, mean, invstd, weight, bias, grad_weight, grad_bias,
        training, *_activation(bounds),
    )  # fmt: skip
