"""Reductions, one element at a time.

Input (outer, R, inner), reduced over the middle axis; results (outer, inner). Sums run in the
longest float there is, so that one term after the other is precise enough; integers in int64.
"""

from __future__ import annotations

import numpy as np

_ieee = np.errstate(all="ignore")


def _accumulator(array):
    return np.longdouble if array.dtype.kind == "f" else np.int64


@_ieee
def sum_forward(out, input, scratch, scale):
    """out[o, i] = scale · Σ_r input[o, r, i]"""
    outer, R, inner = input.shape
    number = _accumulator(input)
    for o in range(outer):
        for i in range(inner):
            total = number(0)
            for r in range(R):
                total += number(input[o, r, i])
            out[o, i] = total * number(scale)


@_ieee
def squared_deviation_forward(out, input, center, scratch, scale):
    """out[o, i] = scale · Σ_r (input[o, r, i] − center[o, i])²"""
    outer, R, inner = input.shape
    number = _accumulator(input)
    for o in range(outer):
        for i in range(inner):
            total = number(0)
            for r in range(R):
                total += (number(input[o, r, i]) - number(center[o, i])) ** 2
            out[o, i] = total * number(scale)


def argmax_forward(indices, input, scratch):
    """indices[o, i] = the first r with the largest input[o, r, i]; the first NaN if there is one"""
    outer, R, inner = input.shape
    for o in range(outer):
        for i in range(inner):
            best = 0
            for r in range(1, R):
                x, y = input[o, r, i], input[o, best, i]
                if x > y or (x != x and y == y):
                    best = r
            indices[o, i] = best


def argmin_forward(indices, input, scratch):
    """indices[o, i] = the first r with the least input[o, r, i]; the first NaN, if there is one"""
    outer, R, inner = input.shape
    for o in range(outer):
        for i in range(inner):
            best = 0
            for r in range(1, R):
                x, y = input[o, r, i], input[o, best, i]
                if x < y or (x != x and y == y):
                    best = r
            indices[o, i] = best


def take_forward(out, input, indices):
    """out[o, i] = input[o, indices[o, i], i]"""
    outer, _, inner = input.shape
    for o in range(outer):
        for i in range(inner):
            out[o, i] = input[o, indices[o, i], i]


def take_backward_input(grad_input, grad_output, indices):
    """grad_input[o, r, i] = grad_output[o, i] at r = indices[o, i], else 0"""
    outer, R, inner = grad_input.shape
    for o in range(outer):
        for i in range(inner):
            for r in range(R):
                grad_input[o, r, i] = grad_output[o, i] if r == indices[o, i] else 0


@_ieee
def prod_forward(out, input):
    """out[o, i] = Π_r input[o, r, i]"""
    outer, R, inner = input.shape
    for o in range(outer):
        for i in range(inner):
            product = out.dtype.type(1)
            for r in range(R):
                product *= input[o, r, i]
            out[o, i] = product


@_ieee
def prod_backward_input(grad_input, grad_output, input):
    """grad_input[o, r, i] = grad_output[o, i] · Π_{q ≠ r} input[o, q, i]"""
    outer, R, inner = input.shape
    for o in range(outer):
        for i in range(inner):
            for r in range(R):
                product = grad_output[o, i]
                for q in range(R):
                    if q != r:
                        product *= input[o, q, i]
                grad_input[o, r, i] = product


@_ieee
def cumsum_forward(out, input, reverse):
    """out[o, r, i] = Σ_{q ≤ r} input[o, q, i], or Σ_{q ≥ r} if reverse"""
    outer, R, inner = input.shape
    for o in range(outer):
        for i in range(inner):
            total = _accumulator(out)(0)
            for r in reversed(range(R)) if reverse else range(R):
                total += input[o, r, i]
                out[o, r, i] = total
