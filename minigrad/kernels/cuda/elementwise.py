"""Elementwise operations by the formulas of compiled/elementwise.py, sums and powers.

Copies between any strides are in _copy.py.
"""

from __future__ import annotations

import numpy as np

from ..compiled import elementwise
from ._copy import copy
from ._device import cuda, power
from ._launch import kernel, launch, over
from ._map import launchers, pointwise, scalar, step
from ._span import span

globals().update(launchers(elementwise))


def copy_strided(out, input):
    copy(out, input)


@kernel
def _fill(real):
    def fill(out, out_step, value, n):
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            out[i * out_step] = value

    return fill


def fill(out, value):
    launch(_fill(out.dtype), over(out.size), out, step(out), scalar(value, out.dtype), out.size)


# Arithmetic ---------------------------------------------------------------------------------


@pointwise
def _add(left, right, alpha):
    return left + alpha * right


@pointwise
def _add_bools(left, right, alpha):
    # A sum of bools is their OR, as a product is their AND.
    return left | right if alpha else left


def add_forward(out, left, right, alpha):
    (_add_bools if out.dtype.kind == "b" else _add)(out, left, right, alpha)


@pointwise
def _pow(left, right):
    return power(left, right)


@pointwise
def _integer_pow(left, right):
    """left^right by squaring; for a negative exponent the integer part of the quotient."""
    base, exponent = np.int64(left), np.int64(right)
    if exponent < 0:
        odd = exponent & np.int64(1)
        if base == 1 or (base == -1 and odd == 0):
            return np.int64(1)
        return np.int64(-1) if base == -1 else np.int64(0)
    result = np.int64(1)
    while exponent > 0:
        if exponent & np.int64(1):
            result *= base
        base *= base
        exponent >>= np.int64(1)
    return result


def pow_forward(out, left, right):
    (_pow if out.dtype.kind == "f" else _integer_pow)(out, left, right)
