"""im2col and col2im: rows of an image and rows of columns, copied or added piece by piece.

For tap (kh, kw), output row oh shows the image row h = oh·sH − pH + kh·dH, and its outputs
[first, last) the columns ow·sW − pW + kw·dW inside [0, W).
"""

from __future__ import annotations

from ._jit import helper, kernel
from ._tasks import tasks


@helper
def _inside(size, outputs, origin, stride):
    """The outputs o with 0 <= o·stride + origin < size."""
    first = 0 if origin >= 0 else (stride - 1 - origin) // stride
    last = 0 if origin >= size else (size - 1 - origin) // stride + 1
    return min(first, outputs), max(min(first, outputs), min(last, outputs))


@helper
def _copy(row, source, first, last, stride):
    """row[o] = source[(o − first)·stride] for the outputs inside the image, else 0."""
    row[:first] = 0
    row[last:] = 0
    inner = row[first:last]
    if stride == 1:
        for o in range(len(inner)):
            inner[o] = source[o]
    else:
        for o in range(len(inner)):
            inner[o] = source[o * stride]


@helper
def _add(target, row, stride):
    """target[o·stride] += row[o]."""
    if stride == 1:
        for o in range(len(row)):
            target[o] += row[o]
    else:
        for o in range(len(row)):
            target[o * stride] += row[o]


@kernel
def unfold_forward(span, columns, input, dims):
    # One pass over the columns. Parallel over (n, c, kh, kw): each task owns its row of columns.
    d = dims
    for task in tasks(span, d.N * d.C * d.kH * d.kW):
        plane, tap = task // (d.kH * d.kW), task % (d.kH * d.kW)
        n, c, kh, kw = plane // d.C, plane % d.C, tap // d.kW, tap % d.kW
        origin = kw * d.dilation_w - d.pad_w
        first, last = _inside(d.W, d.W_out, origin, d.stride_w)
        for oh in range(d.H_out):
            h = oh * d.stride_h - d.pad_h + kh * d.dilation_h
            row = columns[n, c, kh, kw, oh]
            if 0 <= h < d.H and first < last:
                source = input[n, c, h, first * d.stride_w + origin :]
                _copy(row, source, first, last, d.stride_w)
            else:
                row[:] = 0


@kernel
def fold_forward(span, out, columns, dims):
    # One pass over the columns. Parallel over (n, c): each task owns its plane, and adds the taps
    # in their order.
    d = dims
    for plane in tasks(span, d.N * d.C):
        n, c = plane // d.C, plane % d.C
        out[n, c] = 0
        for kh in range(d.kH):
            for kw in range(d.kW):
                origin = kw * d.dilation_w - d.pad_w
                first, last = _inside(d.W, d.W_out, origin, d.stride_w)
                for oh in range(d.H_out):
                    h = oh * d.stride_h - d.pad_h + kh * d.dilation_h
                    if 0 <= h < d.H and first < last:
                        target = out[n, c, h, first * d.stride_w + origin :]
                        _add(target, columns[n, c, kh, kw, oh, first:last], d.stride_w)
