"""Matrix products by definition: out[b, m, n] = bias[n] + Σ_k left[b, m, k] · right[b, k, n]"""

from __future__ import annotations

import numpy as np

from .conv import limit


def _products(dims):
    """Every (b, m, k, n) whose product is a term of the sum."""
    for b, m, n, k in np.ndindex(dims.B, dims.M, dims.N, dims.K):
        yield b, m, k, n


def matmul_forward(out, left, right, bias, scratch, dims, bounds):
    """out[b, m, n] = bias[n] + Σ_k left[b, m, k] · right[b, k, n], limited to `bounds`"""
    out[...] = 0 if bias is None else bias
    for b, m, k, n in _products(dims):
        out[b, m, n] += left[b, m, k] * right[b, k, n]
    limit(out, bounds)


def matmul_backward_left(grad_left, grad_output, right, scratch, dims):
    """∂out[b, m, n] / ∂left[b, m, k] = right[b, k, n]"""
    grad_left[...] = 0
    for b, m, k, n in _products(dims):
        grad_left[b, m, k] += grad_output[b, m, n] * right[b, k, n]


def matmul_backward_right(grad_right, grad_output, left, scratch, dims):
    """∂out[b, m, n] / ∂right[b, k, n] = left[b, m, k]"""
    grad_right[...] = 0
    for b, m, k, n in _products(dims):
        grad_right[b, k, n] += grad_output[b, m, n] * left[b, m, k]


def matmul_backward_bias(grad_bias, grad_output, scratch, dims):
    """∂out[b, m, n] / ∂bias[n] = 1"""
    grad_bias[...] = 0
    for b, m, n in np.ndindex(grad_output.shape):
        grad_bias[n] += grad_output[b, m, n]
