"""Max unpooling: the inverse of max pooling, on channels-last arrays."""

from __future__ import annotations

from ._jit import kernel
from ._tasks import tasks


@kernel
def max_unpool2d_forward(span, out, input, positions):
    # One pass over either array. Parallel over images: each task owns its image, and of values
    # that go to one place the last one stays.
    N, H, W, C = input.shape
    W_out = out.shape[2]
    for n in tasks(span, N):
        out[n] = 0
        for h in range(H):
            for w in range(W):
                for c in range(C):
                    place = positions[n, h, w, c]
                    out[n, place // W_out, place % W_out, c] = input[n, h, w, c]


@kernel
def max_unpool2d_backward_input(span, grad_input, grad_output, positions):
    # One pass. Parallel over (n, h): each task owns its row of grad_input.
    N, H, W, C = grad_input.shape
    W_out = grad_output.shape[2]
    for task in tasks(span, N * H):
        n, h = task // H, task % H
        for w in range(W):
            for c in range(C):
                place = positions[n, h, w, c]
                grad_input[n, h, w, c] = grad_output[n, place // W_out, place % W_out, c]
