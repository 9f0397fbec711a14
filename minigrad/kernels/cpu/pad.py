"""Padding on (B, H, W, A) arrays: copies by tables of positions."""

from __future__ import annotations

from ._jit import kernel
from ._tasks import tasks


@kernel
def pad_forward(span, out, input, rows, cols, value):
    # One pass over the output. Parallel over (b, oh): each task owns its output row.
    B, H_out, W_out, A = out.shape
    for task in tasks(span, B * H_out):
        b, oh = task // H_out, task % H_out
        h = rows[oh]
        for ow in range(W_out):
            w = cols[ow]
            if h >= 0 and w >= 0:
                for a in range(A):
                    out[b, oh, ow, a] = input[b, h, w, a]
            else:
                for a in range(A):
                    out[b, oh, ow, a] = value


@kernel
def pad_backward_input(
    span, grad_input, grad_output, row_starts, row_targets, col_starts, col_targets
):
    # One pass over grad_output. Parallel over (b, h): each task owns its row of grad_input and
    # sums in the order of the output positions.
    B, H, W, A = grad_input.shape
    for task in tasks(span, B * H):
        b, h = task // H, task % H
        for w in range(W):
            for a in range(A):
                grad_input[b, h, w, a] = 0
            for r in range(row_starts[h], row_starts[h + 1]):
                for c in range(col_starts[w], col_starts[w + 1]):
                    oh, ow = row_targets[r], col_targets[c]
                    for a in range(A):
                        grad_input[b, h, w, a] += grad_output[b, oh, ow, a]
