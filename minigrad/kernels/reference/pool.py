"""Pooling by its definition: the cells of each window, one after the other.

max_pool2d: out[n, oh, ow, c] = max over the cells (h, w) of window (oh, ow) of input[n, h, w, c]
avg_pool2d: out[n, oh, ow, c] = Σ over the same cells of input[n, h, w, c] / divisor(oh, ow)
lp_pool2d: out[n, oh, ow, c] = (kH·kW · Σ over them of input[n, h, w, c]^p / divisor(oh, ow))^(1/p)
"""

from __future__ import annotations

import math

import numpy as np

from ...geometry import AdaptivePool2dDims, adaptive_window


def _cells(dims, oh, ow):
    """Row by row, every (kh, kw, h, w): tap (kh, kw) of window (oh, ow) is cell (h, w)."""
    d = dims
    if isinstance(d, AdaptivePool2dDims):
        top, bottom = adaptive_window(oh, d.H, d.H_out)
        left, right = adaptive_window(ow, d.W, d.W_out)
        for h in range(top, bottom):
            for w in range(left, right):
                yield h - top, w - left, h, w
    else:
        for kh in range(d.kH):
            for kw in range(d.kW):
                h = oh * d.stride_h - d.pad_h + kh * d.dilation_h
                w = ow * d.stride_w - d.pad_w + kw * d.dilation_w
                if 0 <= h < d.H and 0 <= w < d.W:
                    yield kh, kw, h, w


def _divisor(dims, oh, ow):
    """The number of cells of window (oh, ow), with those in the padding or without."""
    d = dims
    if isinstance(d, AdaptivePool2dDims):
        top, bottom = adaptive_window(oh, d.H, d.H_out)
        left, right = adaptive_window(ow, d.W, d.W_out)
        return (bottom - top) * (right - left)
    if d.divisor_override != 0:
        return d.divisor_override
    top, left = oh * d.stride_h - d.pad_h, ow * d.stride_w - d.pad_w
    bottom, right = min(top + d.kH, d.H + d.pad_h), min(left + d.kW, d.W + d.pad_w)
    if not d.count_include_pad:
        top, left = max(top, 0), max(left, 0)
        bottom, right = min(bottom, d.H), min(right, d.W)
    return (bottom - top) * (right - left)


def _outputs(dims):
    """Every (n, oh, ow, c)."""
    return np.ndindex(dims.N, dims.H_out, dims.W_out, dims.C)


def max_pool2d_forward(out, window, input, dims):
    """Equal values: the first stays. NaN is taken, and only another NaN replaces it."""
    for n, oh, ow, c in _outputs(dims):
        best, position = -math.inf, None
        for kh, kw, h, w in _cells(dims, oh, ow):
            value = input[n, h, w, c]
            if position is None or value > best or math.isnan(value):
                best, position = value, kh * dims.kW + kw
        out[n, oh, ow, c] = best
        window[n, oh, ow, c] = 0 if position is None else position


def max_pool2d_indices(indices, window, dims):
    """indices[n, oh, ow, c] = h·W + w of the window's cell at tap kh·kW + kw"""
    for n, oh, ow, c in _outputs(dims):
        indices[n, oh, ow, c] = -1
        for kh, kw, h, w in _cells(dims, oh, ow):
            if window[n, oh, ow, c] == kh * dims.kW + kw:
                indices[n, oh, ow, c] = h * dims.W + w


def max_pool2d_backward_input(grad_input, grad_output, window, dims):
    """∂out[n, oh, ow, c] / ∂input[n, h, w, c] = 1 for the maximum's cell, 0 for the others"""
    grad_input[...] = 0
    for n, oh, ow, c in _outputs(dims):
        for kh, kw, h, w in _cells(dims, oh, ow):
            if window[n, oh, ow, c] == kh * dims.kW + kw:
                grad_input[n, h, w, c] += grad_output[n, oh, ow, c]


def avg_pool2d_forward(out, input, dims):
    """out[n, oh, ow, c] = Σ input[n, h, w, c] / divisor, summed in float64"""
    for n, oh, ow, c in _outputs(dims):
        total = 0.0
        for _, _, h, w in _cells(dims, oh, ow):
            total += float(input[n, h, w, c])
        out[n, oh, ow, c] = total / _divisor(dims, oh, ow)


def avg_pool2d_backward_input(grad_input, grad_output, dims):
    """∂out[n, oh, ow, c] / ∂input[n, h, w, c] = 1 / divisor for every cell of the window"""
    grad_input[...] = 0
    for n, oh, ow, c in _outputs(dims):
        for _, _, h, w in _cells(dims, oh, ow):
            grad_input[n, h, w, c] += grad_output[n, oh, ow, c] / _divisor(dims, oh, ow)


def lp_pool2d_forward(out, input, dims, norm_type):
    """out[n, oh, ow, c] = (kH·kW · Σ input[n, h, w, c]^p / divisor)^(1/p), in float64"""
    with np.errstate(all="ignore"):
        for n, oh, ow, c in _outputs(dims):
            total = np.float64(0)
            for _, _, h, w in _cells(dims, oh, ow):
                total += np.float64(input[n, h, w, c]) ** norm_type
            mean = total / _divisor(dims, oh, ow)
            out[n, oh, ow, c] = (dims.kH * dims.kW * mean) ** (1 / norm_type)


def lp_pool2d_backward_input(grad_input, grad_output, out, input, dims, norm_type):
    """∂out / ∂input[n, h, w, c] = kH·kW / divisor · out^(1 − p) · input^(p − 1), 0 where out is"""
    total = np.zeros(input.shape)
    with np.errstate(all="ignore"):
        for n, oh, ow, c in _outputs(dims):
            norm = np.float64(out[n, oh, ow, c])
            slope = norm ** (1 - norm_type) if norm != 0 else 0
            share = dims.kH * dims.kW * slope / _divisor(dims, oh, ow)
            for _, _, h, w in _cells(dims, oh, ow):
                total[n, h, w, c] += grad_output[n, oh, ow, c] * share
        grad_input[...] = total * np.float64(input) ** (norm_type - 1)
