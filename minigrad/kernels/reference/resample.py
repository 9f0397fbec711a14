"""Image resizing by its definition: each result is a weighted sum of inputs.

out[n, oh, ow, c] = Σ over r of row oh, k of column ow:
    row_weights[r] · col_weights[k] · input[n, row_cells[r], col_cells[k], c]
"""

from __future__ import annotations


def resample2d_forward(
    out, input, row_starts, row_cells, row_weights, col_starts, col_cells, col_weights
):
    out[...] = 0
    N, H_out, W_out, C = out.shape
    for n in range(N):
        for oh in range(H_out):
            for ow in range(W_out):
                for r in range(row_starts[oh], row_starts[oh + 1]):
                    for k in range(col_starts[ow], col_starts[ow + 1]):
                        weight = row_weights[r] * col_weights[k]
                        for c in range(C):
                            value = input[n, row_cells[r], col_cells[k], c]
                            out[n, oh, ow, c] += weight * value
