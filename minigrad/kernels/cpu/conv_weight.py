"""Gradients of a convolution's weight and bias, on channels-last arrays (see conv/direct.py).

The weight's is computed by one of the algorithms in conv/, as conv/plan.py chooses.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...geometry import Conv2dDims
from ._jit import helper, kernel
from ._rows import (
    chunk_count,
    combine_sums,
    fold_line,
    line_range,
    line_width,
    relu_gradient,
)
from ._tasks import tasks
from .conv import depthwise, rows, weight, winograd
from .conv.plan import plan_within, workspace_now

_CORRELATE = {
    "winograd": winograd.correlate,
    "rows": rows.correlate,
    "depthwise": depthwise.correlate,
    "few channels": weight.correlate,
    "direct": weight.correlate,
}


@lru_cache(maxsize=4096)
def _as_pixels(dims: Conv2dDims) -> Conv2dDims:
    """A 1×1 convolution is the same one of each pixel alone, which is one long sum."""
    d = dims
    one = (d.kH, d.kW, d.stride_h, d.stride_w, d.top, d.left, d.groups) == (1, 1, 1, 1, 0, 0, 1)
    if one and (d.H_out, d.W_out) == (d.H, d.W):
        return d._replace(N=d.N * d.H * d.W, H=1, W=1, H_out=1, W_out=1)
    return d


def conv2d_backward_weight_workspace(dims) -> int:
    return workspace_now(_as_pixels(dims), "weight")


def conv2d_backward_weight(grad_weight, grad_output, input, scratch, dims):
    # dW[kh, kw, k, c] = Σ_{n, oh, ow} X[n, oh·s − p + kh·d, ow·s − p + kw·d, k]
    #                                    · grad[n, oh, ow, c]
    dims = _as_pixels(dims)
    input = input.reshape(dims.N, dims.H, dims.W, dims.C_in)
    grad_output = grad_output.reshape(dims.N, dims.H_out, dims.W_out, dims.C_out)
    if dims.N == 0 or grad_weight.size == 0:
        grad_weight[...] = 0
        return
    chosen = plan_within(dims, "weight", grad_weight.dtype, scratch)
    _CORRELATE[chosen.algorithm](grad_weight, grad_output, input, scratch, dims, chosen)
    if chosen.exact is not None and not _is_finite(grad_weight, scratch):
        chosen = chosen.exact
        _CORRELATE[chosen.algorithm](grad_weight, grad_output, input, scratch, dims, chosen)


def _is_finite(array, scratch) -> bool:
    finite = scratch.view(np.bool_)[: array.size]
    return bool(np.isfinite(array.reshape(-1), out=finite).all())


@helper
def _add_line(sums, line):
    for j in range(line.size):
        sums[j] += np.float64(line[j])


@kernel
def _column_sums(span, partial, grad_output, C):
    # One flop an element, one pass. Parallel over chunks of lines (see _rows.py); each task owns
    # partial[chunk], whose first C places become the sums of the channels.
    chunks, width = partial.shape
    for chunk in tasks(span, chunks):
        sums = partial[chunk]
        sums[:] = 0
        start, end = line_range(chunk, chunks, grad_output.size, width)
        for at in range(start, end, width):
            _add_line(sums, grad_output[at : min(at + width, end)])
        fold_line(sums, C)


@lru_cache(maxsize=4096)
def conv2d_backward_bias_workspace(shape) -> int:
    N, H_out, W_out, C_out = shape
    return chunk_count(N * H_out * W_out * C_out) * line_width(C_out)


def conv2d_backward_bias(grad_bias, grad_output, scratch):
    # db[c] = Σ_{n, oh, ow} grad[n, oh, ow, c]
    C_out = grad_bias.size
    partial = scratch.reshape(-1, line_width(C_out))
    _column_sums(partial, grad_output.reshape(-1), C_out)
    combine_sums(grad_bias, partial)


@kernel
def _relu_column_sums(span, partial, grad_input, grad_output, out, C):
    # As _column_sums, with relu's gradient on the way.
    chunks, width = partial.shape
    for chunk in tasks(span, chunks):
        sums = partial[chunk]
        sums[:] = 0
        start, end = line_range(chunk, chunks, out.size, width)
        for at in range(start, end, width):
            place = slice(at, min(at + width, end))
            relu_gradient(sums, grad_input[place], grad_output[place], out[place])
        fold_line(sums, C)


def conv2d_backward_relu(grad_input, grad_bias, grad_output, out, scratch):
    # y = max(z + b, 0): dz = grad where y > 0, else 0; db[c] = Σ dz
    C_out = grad_bias.size
    partial = scratch.reshape(-1, line_width(C_out))
    _relu_column_sums(
        partial, grad_input.reshape(-1), grad_output.reshape(-1), out.reshape(-1), C_out
    )
    combine_sums(grad_bias, partial)
