"""Max unpooling: the inverse of max pooling: values go back to where they came from, all else is
zero."""

from __future__ import annotations

import numpy as np


def max_unpool2d_forward(out, input, positions):
    """out[n, oh, ow, c] = input[n, h, w, c] at oh·W_out + ow = positions[n, h, w, c], else 0"""
    out[...] = 0
    for n, h, w, c in np.ndindex(positions.shape):
        oh, ow = divmod(positions[n, h, w, c], out.shape[2])
        out[n, oh, ow, c] = input[n, h, w, c]


def max_unpool2d_backward_input(grad_input, grad_output, positions):
    """∂out[n, oh, ow, c] / ∂input[n, h, w, c] = 1"""
    for n, h, w, c in np.ndindex(positions.shape):
        oh, ow = divmod(positions[n, h, w, c], grad_output.shape[2])
        grad_input[n, h, w, c] = grad_output[n, oh, ow, c]
