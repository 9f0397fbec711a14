"""Convolution by its definition: nested loops over every index.

    out[n, oh, ow, co] = bias[co]
        + Σ_{kh, kw, ci} input[n, oh·sH − top + kh·dH, ow·sW − left + kw·dW, g·C_in/G + ci]
                         · weight[kh, kw, ci, co]
with g = co // (C_out/G) the group of the output channel, and input = 0 outside the image. The
gradients, of the weight in conv_weight.py, run over the same indices and follow from the product
rule.
"""

from __future__ import annotations

from ..protocol import Repacking


def products(dims):
    """Every (n, oh, ow, co, kh, kw, ci, h, w, c) whose product is a term of the sum."""
    d = dims
    C_group, K = d.C_out // d.groups, d.C_in // d.groups
    for n in range(d.N):
        for oh in range(d.H_out):
            for ow in range(d.W_out):
                for co in range(d.C_out):
                    for kh in range(d.kH):
                        for kw in range(d.kW):
                            h = oh * d.stride_h - d.top + kh * d.dilation_h
                            w = ow * d.stride_w - d.left + kw * d.dilation_w
                            if 0 <= h < d.H and 0 <= w < d.W:
                                for ci in range(K):
                                    c = co // C_group * K + ci
                                    yield n, oh, ow, co, kh, kw, ci, h, w, c


def conv2d_forward(out, input, weight, bias, repacked, scratch, dims, bounds):
    """out[n, oh, ow, co] = bias[co] + Σ input[n, h, w, c] · weight[kh, kw, ci, co], limited
    to `bounds`"""
    out[...] = 0 if bias is None else bias
    for n, oh, ow, co, kh, kw, ci, h, w, c in products(dims):
        out[n, oh, ow, co] += input[n, h, w, c] * weight[kh, kw, ci, co]
    limit(out, bounds)


def limit(out, bounds):
    """Each element within bounds, of which NaN is none; NaN stays NaN."""
    low, high = bounds
    flat = out.reshape(-1)
    for i in range(flat.size):
        if flat[i] < low:
            flat[i] = low
        elif flat[i] > high:
            flat[i] = high


def conv2d_repacking(dims):
    return Repacking(0, ())


def conv2d_repack(repacked, seen, weight, source, dims):
    """Weights are read as they lie."""


def conv2d_backward_input(grad_input, grad_output, weight, scratch, dims):
    """∂out[n, oh, ow, co] / ∂input[n, h, w, c] = weight[kh, kw, ci, co]"""
    grad_input[...] = 0
    for n, oh, ow, co, kh, kw, ci, h, w, c in products(dims):
        grad_input[n, h, w, c] += grad_output[n, oh, ow, co] * weight[kh, kw, ci, co]


def conv_transpose2d_forward(out, input, weight, bias, scratch, dims):
    """Every input pixel adds its multiple of the kernel to the output, stride apart:

        out[n, ih·sH − top + kh·dH, iw·sW − left + kw·dW, co] +=
            Σ_ci input[n, ih, iw, ci] · weight[kh, kw, co, ci]

    In the names of `dims`, the convolution from out to input, whose input is `out` here:
    """
    out[...] = 0 if bias is None else bias
    for n, ih, iw, ci, kh, kw, co, h, w, c in products(dims):
        out[n, h, w, c] += input[n, ih, iw, ci] * weight[kh, kw, co, ci]
