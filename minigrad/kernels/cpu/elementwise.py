"""Elementwise kernels on flat arrays: one pass over memory, vectorised by Numba.

A scalar operand arrives as an array of stride 0, for which Numba compiles a second variant.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ._jit import kernel


@kernel
def fill(out, value):
    for i in prange(out.size):
        out[i] = value


def copy_strided(out, input):
    np.copyto(out, input, casting="unsafe")


@kernel
def add_forward(out, left, right):
    for i in prange(out.size):
        out[i] = left[i] + right[i]


@kernel
def relu_forward(out, input):
    # NaN stays NaN: it is not less than zero.
    for i in prange(out.size):
        out[i] = 0 if input[i] < 0 else input[i]


@kernel
def relu_backward_input(grad_input, grad_output, out):
    # y = max(x, 0): dy/dx = 1 where y > 0, else 0. At x = 0 torch chooses 0.
    for i in prange(grad_input.size):
        grad_input[i] = 0 if out[i] <= 0 else grad_output[i]
