"""Functions of one value, by libdevice's functions: see _map.py for the loops around them."""

from __future__ import annotations

from . import _device
from ._map import apply, pointwise


@pointwise
def _sin(real):
    return lambda x: _device.sin(x)


def sin_forward(out, input):
    apply(_sin, out, input)


@pointwise
def _cos(real):
    return lambda x: _device.cos(x)


def cos_forward(out, input):
    apply(_cos, out, input)


@pointwise
def _expm1(real):
    return lambda x: _device.expm1(x)


def expm1_forward(out, input):
    apply(_expm1, out, input)


@pointwise
def _log1p(real):
    return lambda x: _device.log1p(x)


def log1p_forward(out, input):
    apply(_log1p, out, input)


@pointwise
def _erf(real):
    return lambda x: _device.erf(x)


def erf_forward(out, input):
    apply(_erf, out, input)


@pointwise
def _floor(real):
    return lambda x: _device.floor(x)


def floor_forward(out, input):
    apply(_floor, out, input)


@pointwise
def _ceil(real):
    return lambda x: _device.ceil(x)


def ceil_forward(out, input):
    apply(_ceil, out, input)


@pointwise
def _trunc(real):
    return lambda x: _device.trunc(x)


def trunc_forward(out, input):
    apply(_trunc, out, input)


@pointwise
def _round(real):
    # Halves to the even neighbour.
    return lambda x: _device.rint(x)


def round_forward(out, input):
    apply(_round, out, input)
