"""Gather and scatter: selecting and placing elements by position, one element at a time.

Positions are numbers along one axis: the array is seen as (B, J, A), before, along and after it.
"""

from __future__ import annotations

import numpy as np


def accumulate_index(positions, bad, index, low, size, step):
    """positions[i] += step·(index[i] mod size) where index[i] is in [low, size), low = −size or 0.

    bad[0] = the first i whose index is not, else the number of indices.
    """
    bad[0] = positions.size
    for i in range(positions.size - 1, -1, -1):
        if low <= index[i] < size:
            positions[i] += step * (index[i] % size)
        else:
            bad[0] = i


def gather_positions(positions, bad, index, size):
    """positions[o, m, i] = the number of (o, index[o, m, i], i) in an array (O, size, I)."""
    bad[0] = index.size
    _, M, I = index.shape  # noqa: E741
    for o, m, i in np.ndindex(index.shape):
        if 0 <= index[o, m, i] < size:
            positions[o, m, i] = (o * size + index[o, m, i]) * I + i
        else:
            bad[0] = min(bad[0], (o * M + m) * I + i)


def mask_positions(positions, count, mask):
    """The numbers of the true elements, in order; count[0] of them."""
    count[0] = 0
    for i in range(mask.size):
        if mask[i]:
            positions[count[0]] = i
            count[0] += 1


def index_forward(out, input, positions):
    """out[b, m, a] = input[b, positions[m], a]"""
    for b, m, a in np.ndindex(out.shape):
        out[b, m, a] = input[b, positions[m], a]


def index_backward_input(grad_input, grad_output, positions, scratch):
    """grad_input[b, j, a] = Σ_{m: positions[m] = j} grad_output[b, m, a]"""
    grad_input[...] = 0
    for b, m, a in np.ndindex(grad_output.shape):
        grad_input[b, positions[m], a] += grad_output[b, m, a]


def put(target, values, positions):
    """target[b, positions[m], a] = values[b, m, a]; of equal positions the last m wins."""
    for b, m, a in np.ndindex(values.shape):
        target[b, positions[m], a] = values[b, m, a]


def triangle_forward(out, input, diagonal, lower):
    """out[b, r, c] = input[b, r, c] where c − r ≤ diagonal (lower) or ≥ diagonal (upper), else 0"""
    for b, r, c in np.ndindex(out.shape):
        inside = c - r <= diagonal if lower else c - r >= diagonal
        out[b, r, c] = input[b, r, c] if inside else 0


def arange(out, start, step):
    """out[i] = start + i·step"""
    for i in range(out.size):
        out[i] = start + i * step


def linspace(out, start, end):
    """out[i] = start + i·(end − start)/(n − 1), counted from the nearer end."""
    n = out.size
    step = (end - start) / max(n - 1, 1)
    for i in range(n):
        out[i] = start + i * step if i < (n + 1) // 2 else end - (n - 1 - i) * step
