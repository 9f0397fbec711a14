"""Batch normalisation over the batches of all ranks together.

Ranks exchange count, mean and variance of each channel in the forward pass, and the two sums of the
backward pass, all in float64 and added in the order of the ranks, through the host's memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..dtypes import float64
from ..engine import Function, Tensor
from ..errors import ShapeError
from ..ops.norm import Running, affine_gradients, batch_statistics, parameter
from ..ops.operands import scratch
from ..ops.rows import empty_rows, to_rows
from ..ops.transfer import host, placed
from .group import ProcessGroup


def _gathered(group: ProcessGroup, vector: np.ndarray) -> np.ndarray:
    """(ranks, n) of a vector (n,) of each rank."""
    everyone = np.empty(group.size() * vector.size)
    counts = [vector.size] * group.size()
    group.wait(group.control.all_gather(everyone, vector, counts), "SyncBatchNorm")
    return everyone.reshape(group.size(), -1)


def _placed(values: np.ndarray, like: Tensor) -> Tensor:
    return Tensor(placed(values.astype(like.dtype), like.device), like.device)


class SyncBatchNorm(Function):
    """Of `ops.norm.BatchNorm` in training: the same on the concatenation of all ranks' inputs."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running: Running,
        momentum: float,
        eps: float,
        group: ProcessGroup,
    ) -> Tensor:
        rows = to_rows(input, 1)
        (count, C), device = rows.shape, input.device
        group.agree("SyncBatchNorm", f"{C} channels, {input.dtype.name}")
        mine = np.zeros(1 + 2 * C)
        mine[0] = count
        if count:
            # Without eps, the variance is what invstd says to a rounding error; ∞ stands for 0.
            means, invstd = batch_statistics(rows, Running(None, None), 0.0, 0.0, device)
            mine[1 : C + 1] = np.sum(host(means), 0, dtype=float64)
            mine[C + 1 :] = 1 / np.square(host(invstd), dtype=float64)
        ranks = _gathered(group, mine)
        n = ranks[:, 0].sum()
        if n < 2:
            raise ShapeError(
                "SyncBatchNorm: training needs more than one value per channel in all, got shape "
                f"{tuple(input.shape)} here and {int(n)} values on all ranks"
            )
        # m, v: the ranks' means and variances. μ = Σ n·m / Σ n, σ² = Σ n·(v + (m − μ)²) / Σ n
        counts, m, v = ranks[:, :1], ranks[:, 1 : C + 1], ranks[:, C + 1 :]
        mu = (counts * m).sum(0) / n
        squares = (counts * (v + (m - mu) ** 2)).sum(0)
        high = mu.astype(input.dtype)
        mean = _placed(np.stack([high, mu - high]), input)
        invstd = _placed(1 / np.sqrt(squares / n + eps), input)
        if running.mean is not None and running.var is not None:
            for tensor, new in ((running.mean, mu), (running.var, squares / (n - 1))):
                moved = (1 - momentum) * host(tensor).astype(float64) + momentum * new
                tensor.copy_(_placed(moved, tensor))
        if running.batches is not None:
            running.batches.add_(1)
        out, out_rows = empty_rows(input.array.shape, 1, input.dtype, device)
        if count:
            launch = kernels.get(device).norm
            workspace = scratch(launch.batch_norm_forward_workspace(count, C), input.dtype, device)
            launch.batch_norm_forward(
                out_rows, rows, mean.array, invstd.array, parameter(weight), parameter(bias),
                workspace,
            )  # fmt: skip
        ctx.save_for_backward(input, weight, mean, invstd)
        ctx.group, ctx.share = group, count / n
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # As BatchNorm's, but the means of g and of g·x̂ are over all ranks' rows:
        # gx = (g − Σg/n − x̂·Σ(g·x̂)/n)·invstd·w. The kernel divides by this rank's rows, so it gets
        # the sums times rows/n. Weight and bias have this rank's sums, as if others were constant.
        input, weight, mean, invstd = ctx.saved_tensors
        device, dtype = input.device, input.dtype
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_rows, rows = to_rows(grad_output, 1), to_rows(input, 1)
        grad_weight, grad_bias = affine_gradients(grad_rows, rows, mean, invstd)
        ctx.group.agree("SyncBatchNorm: backward")
        C = rows.shape[1]
        sums = np.concatenate([host(grad_weight), host(grad_bias)], dtype=float64)
        sums = _gathered(ctx.group, sums).sum(0) * ctx.share
        grad_input = None
        if needs_input:
            launch = kernels.get(device).norm
            grad_input, out = empty_rows(input.array.shape, 1, dtype, device)
            if out.size:
                workspace = scratch(
                    launch.batch_norm_backward_input_workspace(*out.shape), dtype, device
                )
                launch.batch_norm_backward_input(
                    out, grad_rows, rows, mean.array, invstd.array, parameter(weight),
                    _placed(sums[:C], input).array, _placed(sums[C:], input).array, True, workspace,
                )  # fmt: skip
        return (
            grad_input,
            grad_weight if needs_weight else None,
            grad_bias if needs_bias else None,
            *(None,) * 4,
        )
