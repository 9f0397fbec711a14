"""Reductions, one element at a time.

Input (outer, R, inner), reduced over the middle axis; results (outer, inner). Sums run in the
longest float there is, so that one term after the other is precise enough; integers in int64.
"""

from __future__ import annotations

import numpy as np

_ieee = np.errstate(all="ignore")


def _accumulator(array):
    return np.longdouble if array.dtype.kind == "f" else np.int64


def _columns(array):
    """Every place (o, i), and the elements array[o, :, i]."""
    outer, _, inner = array.shape
    for o, i in np.ndindex(outer, inner):
        yield (o, i), array[o, :, i]


@_ieee
def sum_forward(out, input, scratch, scale):
    """out[o, i] = scale · Σ_r input[o, r, i]"""
    number = _accumulator(input)
    for place, column in _columns(input):
        total = number(0)
        for x in column.astype(number):
            total += x
        out[place] = total * number(scale)


@_ieee
def squared_deviation_forward(out, input, center, scratch, scale):
    """out[o, i] = scale · Σ_r (input[o, r, i] − center[o, i])²"""
    number = _accumulator(input)
    for place, column in _columns(input):
        total, middle = number(0), number(center[place])
        for x in column.astype(number):
            total += (x - middle) ** 2
        out[place] = total * number(scale)


def argmax_forward(indices, input, scratch):
    """indices[o, i] = the first r with the largest input[o, r, i]; the first NaN if there is one"""
    for place, column in _columns(input):
        best = 0
        for r, x in enumerate(column):
            y = column[best]
            if x > y or (x != x and y == y):
                best = r
        indices[place] = best


def argmin_forward(indices, input, scratch):
    """indices[o, i] = the first r with the least input[o, r, i]; the first NaN, if there is one"""
    for place, column in _columns(input):
        best = 0
        for r, x in enumerate(column):
            y = column[best]
            if x < y or (x != x and y == y):
                best = r
        indices[place] = best


def take_forward(out, input, indices):
    """out[o, i] = input[o, indices[o, i], i]"""
    for place, column in _columns(input):
        out[place] = column[indices[place]]


def take_backward_input(grad_input, grad_output, indices):
    """grad_input[o, r, i] = grad_output[o, i] at r = indices[o, i], else 0"""
    for o, r, i in np.ndindex(grad_input.shape):
        grad_input[o, r, i] = grad_output[o, i] if r == indices[o, i] else 0


@_ieee
def prod_forward(out, input):
    """out[o, i] = Π_r input[o, r, i]"""
    for place, column in _columns(input):
        product = out.dtype.type(1)
        for x in column:
            product *= x
        out[place] = product


@_ieee
def prod_backward_input(grad_input, grad_output, input):
    """grad_input[o, r, i] = grad_output[o, i] · Π_{q ≠ r} input[o, q, i]"""
    for o, r, i in np.ndindex(input.shape):
        product = grad_output[o, i]
        for q in range(input.shape[1]):
            if q != r:
                product *= input[o, q, i]
        grad_input[o, r, i] = product


@_ieee
def cumsum_forward(out, input, reverse):
    """out[o, r, i] = Σ_{q ≤ r} input[o, q, i], or Σ_{q ≥ r} if reverse"""
    for (o, i), column in _columns(input):
        total = _accumulator(out)(0)
        for r in reversed(range(len(column))) if reverse else range(len(column)):
            total += column[r]
            out[o, r, i] = total
