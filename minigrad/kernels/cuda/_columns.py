"""Sums over the rows of (R, C) matrices: what channels sum up, gradients of biases above all.

In two stages. Threads share the matrix as _middle.py says; a block makes something of its chunk of
rows and keeps the sums of that in partial (sums, chunks, C); `column_totals` adds up the chunks.
"""

from __future__ import annotations

import numpy as np

from ._device import cuda, device, through_relu
from ._launch import kernel, launch
from ._middle import AT_ONCE, load_rows, place, reduction, rows_of, whole
from ._reduce import SUM, add_compensated, exact_sum, fold
from ._span import span


@device
def keep_sum(partial, k, shared, value, tile, depth, lane, c, C):
    """partial[k, chunk, c] = Σ value over the lanes of column c. All threads of the block take
    part."""
    total = fold(shared, value, tile, depth, lane, SUM)
    if lane == 0:
        partial[(k * cuda.gridDim.y + cuda.blockIdx.y) * C + c] = total


@kernel
def _column_totals(real, threads):
    def column_totals(first, second, partial, scale, R, C, tile, tiles, depth, groups, outer, rows):
        # One addition an element, for two sums at a time. A block owns its tile of columns.
        shared = cuda.shared.array(threads, real)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        total = other = real(0)
        if o >= 0:
            for r in span(lane, R, depth):
                total += partial[r * C + c]
                if second is not None:
                    other += partial[(R + r) * C + c]
        total = fold(shared, total, tile, depth, lane, SUM)
        if second is not None:
            other = fold(shared, other, tile, depth, lane, SUM)
        if lane == 0:
            first[c] = total if scale is None else total * scale[c]
            if second is not None:
                second[c] = other

    return column_totals


def column_totals(first, second, partial, scale, R, C):
    """first[c] = scale[c] · Σ_r partial[0, r, c] and second[c] = Σ_r partial[1, r, c].

    partial (2, R, C), or (1, R, C) if second is None. A scale of None is 1.
    """
    plan = whole(1, R, C)
    variant = _column_totals(partial.dtype, plan.threads)
    launch(variant, plan.shape, first, second, partial, scale, R, C, *plan.cut)


@kernel
def _relu_sums(real, threads):
    def relu_sums(
        partial, grad_input, grad_output, out, R, C, tile, tiles, depth, groups, outer, rows
    ):  # fmt: skip
        # One addition a number, one pass. A block owns partial[chunk, c] and its part of
        # grad_input.
        shared = cuda.shared.array(threads, np.float64)
        grads, outs = cuda.local.array(AT_ONCE, real), cuda.local.array(AT_ONCE, real)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        total = rest = real(0)
        if o >= 0:
            first, end = rows_of(lane, rows, R)
            stride = depth * C
            for r in span(first, end, AT_ONCE * depth):
                at = r * C + c
                load_rows(grads, grad_output, at, stride, r, depth, end)
                load_rows(outs, out, at, stride, r, depth, end)
                for k in range(AT_ONCE):
                    if r + k * depth < end:
                        g = through_relu(grads[k], outs[k], real(0))
                        grad_input[at + k * stride] = g
                        total, rest = add_compensated(total, rest, g)
        keep_sum(partial, 0, shared, exact_sum(total, rest), tile, depth, lane, c, C)

    return relu_sums


def relu_sums(grad_input, sums, grad_output, out, scratch, R, C):
    """grad_input (R, C): what passes through relu, which made `out`; sums[c] = Σ_r of it. scratch:
    a number for each of `reduction`'s chunks and each column."""
    plan = reduction(1, R, C)
    variant = _relu_sums(out.dtype, plan.threads)
    launch(variant, plan.shape, scratch, grad_input, grad_output, out, R, C, *plan.cut)
    column_totals(sums, None, scratch, None, plan.chunks, C)
