"""Functions of one value, element by element, by Python's own."""

from __future__ import annotations

import math

import numpy as np

from .activation import _map


def _finite(function):
    """The function where its argument is finite, NaN elsewhere."""
    return lambda x: function(x) if math.isfinite(x) else math.nan


def sin_forward(out, input):
    _map(out, _finite(math.sin), input)


def cos_forward(out, input):
    _map(out, _finite(math.cos), input)


def expm1_forward(out, input):
    """e^x − 1"""
    _map(out, lambda x: math.inf if x > 709 else math.expm1(x), input)


def log1p_forward(out, input):
    """ln(1 + x)"""
    _map(out, lambda x: math.log1p(x) if x > -1 else -math.inf if x == -1 else math.nan, input)


def erf_forward(out, input):
    """2/√π · ∫₀ˣ e^(−t²) dt"""
    _map(out, math.erf, input)


def floor_forward(out, input):
    _map(out, np.floor, input)


def ceil_forward(out, input):
    _map(out, np.ceil, input)


def trunc_forward(out, input):
    _map(out, np.trunc, input)


def round_forward(out, input):
    """Halves to the even neighbour."""
    _map(out, np.rint, input)
