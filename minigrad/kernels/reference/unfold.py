"""im2col and col2im: unfold and fold by their definition.

    columns[n, c, kh, kw, oh, ow] = input[n, c, oh·sH − pH + kh·dH, ow·sW − pW + kw·dW]

with input = 0 outside the image; fold adds each column back to where it comes from.
"""

from __future__ import annotations

import numpy as np


def _entries(dims):
    """Every entry (n, c, kh, kw, oh, ow) of the columns, and the pixel (h, w) that it shows."""
    d = dims
    for n, c, kh, kw, oh, ow in np.ndindex(d.N, d.C, d.kH, d.kW, d.H_out, d.W_out):
        h = oh * d.stride_h - d.pad_h + kh * d.dilation_h
        w = ow * d.stride_w - d.pad_w + kw * d.dilation_w
        yield (n, c, kh, kw, oh, ow), h, w


def unfold_forward(columns, input, dims):
    for entry, h, w in _entries(dims):
        inside = 0 <= h < dims.H and 0 <= w < dims.W
        columns[entry] = input[entry[0], entry[1], h, w] if inside else 0


def fold_forward(out, columns, dims):
    out[...] = 0
    for entry, h, w in _entries(dims):
        if 0 <= h < dims.H and 0 <= w < dims.W:
            out[entry[0], entry[1], h, w] += columns[entry]
