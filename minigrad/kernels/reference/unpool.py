"""Max unpooling: the inverse of max pooling: values go back to where they came from, all else is
zero."""

from __future__ import annotations


def _elements(positions, W_out):
    """Every (n, h, w, c), image row by row, and the place (oh, ow) of its value."""
    N, H, W, C = positions.shape
    for n in range(N):
        for h in range(H):
            for w in range(W):
                for c in range(C):
                    place = positions[n, h, w, c]
                    yield n, h, w, c, place // W_out, place % W_out


def max_unpool2d_forward(out, input, positions):
    out[...] = 0
    for n, h, w, c, oh, ow in _elements(positions, out.shape[2]):
        out[n, oh, ow, c] = input[n, h, w, c]


def max_unpool2d_backward_input(grad_input, grad_output, positions):
    """∂out[n, oh, ow, c] / ∂input[n, h, w, c] = 1"""
    for n, h, w, c, oh, ow in _elements(positions, grad_output.shape[2]):
        grad_input[n, h, w, c] = grad_output[n, oh, ow, c]
