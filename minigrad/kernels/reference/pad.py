"""Padding by its definition: every output position reads the position that a table names."""

from __future__ import annotations

import numpy as np


def pad_forward(out, input, rows, cols, value):
    """out[b, oh, ow, a] = input[b, rows[oh], cols[ow], a], or the value where a table says −1."""
    for b, oh, ow, a in np.ndindex(out.shape):
        h, w = rows[oh], cols[ow]
        inside = h >= 0 and w >= 0
        out[b, oh, ow, a] = input[b, h, w, a] if inside else value


def pad_backward_input(grad_input, grad_output, row_starts, row_targets, col_starts, col_targets):
    """Every input position collects the gradients of the output positions that read it."""
    for b, h, w, a in np.ndindex(grad_input.shape):
        grad_input[b, h, w, a] = 0
        for oh in row_targets[row_starts[h] : row_starts[h + 1]]:
            for ow in col_targets[col_starts[w] : col_starts[w + 1]]:
                grad_input[b, h, w, a] += grad_output[b, oh, ow, a]
