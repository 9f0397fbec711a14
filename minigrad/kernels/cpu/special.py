"""Functions of one value on flat arrays: one pass over memory, as in elementwise.py."""

from __future__ import annotations

import numpy as np
from numba import prange

from ._erf import erf
from ._exp import expm1
from ._jit import kernel
from ._log import log1p


@kernel
def sin_forward(out, input):
    for i in prange(out.size):
        out[i] = np.sin(input[i])


@kernel
def cos_forward(out, input):
    for i in prange(out.size):
        out[i] = np.cos(input[i])


@kernel
def expm1_forward(out, input):
    for i in prange(out.size):
        out[i] = expm1(input[i])


@kernel
def log1p_forward(out, input):
    for i in prange(out.size):
        out[i] = log1p(input[i])


@kernel
def erf_forward(out, input):
    for i in prange(out.size):
        out[i] = erf(input[i])


@kernel
def floor_forward(out, input):
    for i in prange(out.size):
        out[i] = np.floor(input[i])


@kernel
def ceil_forward(out, input):
    for i in prange(out.size):
        out[i] = np.ceil(input[i])


@kernel
def trunc_forward(out, input):
    for i in prange(out.size):
        out[i] = np.trunc(input[i])


@kernel
def round_forward(out, input):
    for i in prange(out.size):
        out[i] = np.rint(input[i])
