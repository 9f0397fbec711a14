"""Elementwise operations, one element at a time."""

from __future__ import annotations

import numpy as np


def fill(out, value):
    """out[i] = value"""
    for i in range(out.size):
        out[i] = value


def copy_strided(out, input):
    """out[index] = input[index], converted to out's dtype."""
    for index in np.ndindex(out.shape):
        out[index] = input[index]


def add_forward(out, left, right):
    """out[i] = left[i] + right[i]"""
    for i in range(out.size):
        out[i] = left[i] + right[i]


def relu_forward(out, input):
    """out[i] = max(input[i], 0); NaN stays NaN."""
    for i in range(out.size):
        out[i] = 0 if input[i] < 0 else input[i]


def relu_backward_input(grad_input, grad_output, out):
    """grad_input[i] = grad_output[i] if out[i] > 0 else 0"""
    for i in range(grad_input.size):
        grad_input[i] = 0 if out[i] <= 0 else grad_output[i]
