"""Gradients of a convolution's weight and bias: conv.py's loops with another factor summed."""

from __future__ import annotations

import numpy as np

from .conv import products


def conv2d_backward_weight(grad_weight, grad_output, input, scratch, dims):
    """∂out[n, oh, ow, co] / ∂weight[kh, kw, ci, co] = input[n, h, w, c]"""
    grad_weight[...] = 0
    for n, oh, ow, co, kh, kw, ci, h, w, c in products(dims):
        grad_weight[kh, kw, ci, co] += grad_output[n, oh, ow, co] * input[n, h, w, c]


def conv2d_backward_bias(grad_bias, grad_output, scratch):
    """∂out[n, oh, ow, co] / ∂bias[co] = 1"""
    grad_bias[...] = 0
    for n, oh, ow, co in np.ndindex(grad_output.shape):
        grad_bias[co] += grad_output[n, oh, ow, co]


def conv2d_backward_relu(grad_input, grad_bias, grad_output, out, scratch):
    """∂ max(z, 0) / ∂z = 1 where the maximum is not 0, else 0; ∂z / ∂bias[co] = 1"""
    for place in np.ndindex(out.shape):
        grad_input[place] = grad_output[place] if not out[place] <= 0 else 0
    conv2d_backward_bias(grad_bias, grad_input, scratch)
