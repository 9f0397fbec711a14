"""Image resizing by its definition: each result is a weighted sum of inputs.

out[n, oh, ow, c] = Σ over r of row oh, k of column ow:
    row_weights[r] · col_weights[k] · input[n, row_cells[r], col_cells[k], c]
"""

from __future__ import annotations

import numpy as np


def resample2d_forward(
    out, input, row_starts, row_cells, row_weights, col_starts, col_cells, col_weights
):
    out[...] = 0
    for n, oh, ow, c in np.ndindex(out.shape):
        for r in range(row_starts[oh], row_starts[oh + 1]):
            for k in range(col_starts[ow], col_starts[ow + 1]):
                weight = row_weights[r] * col_weights[k]
                out[n, oh, ow, c] += weight * input[n, row_cells[r], col_cells[k], c]
