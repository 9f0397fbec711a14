"""Convolution in groups of few channels; one filter for each channel is the extreme.

Arrays as in conv.py. A sum has few terms, and a tile of _tile.py would stay empty: here a thread
computes one result. Neighbours are neighbouring channels, which read neighbouring places, and what
neighbouring pixels share stays in the caches.
"""

from __future__ import annotations

import numpy as np

from ...geometry import Conv2dDims
from ...runtime.cuda.array import DeviceArray
from ..protocol import UNLIMITED
from ._device import cuda, device, limited
from ._index import arithmetic, index_bits, index_type
from ._launch import kernel, launch, over
from ._span import quotient, span
from ._tile import biased, combine

_CHANNELS = 16  # of a group; from so many on, tiles are better
_TASKS = 1 << 17  # threads that keep a GPU busy
_LEAST_PIXELS = 32  # that are worth a thread


def suits(dims: Conv2dDims) -> bool:
    return dims.groups > 1 and max(dims.C_in, dims.C_out) // dims.groups < _CHANNELS


@device
def _source(i, tap, stride, before, dilation, length, adjoint):
    """What target i reads through the tap, or -1. Forward: i·stride − before + tap·dilation; the
    adjoint the o with i + before = o·stride + tap·dilation, if there is one."""
    if adjoint:
        reach = np.int32(i + before - tap * dilation)
        at = quotient(reach, stride)
        found = reach >= 0 and np.int32(at * stride) == reach and at < length
    else:
        at = np.int32(i * stride - before + tap * dilation)
        found = at >= 0 and at < length
    return at if found else np.int32(-1)


@kernel
def _convolve(real, bits, adjoint):
    """conv.py's formula. 2·N·H_out·W_out·C_out·taps·K flop, memory-bound. Each thread owns its
    elements of the target."""
    index, int32 = index_type(bits), np.int32
    count, _, unravel = arithmetic(bits)

    def convolve(
        target, source, weight, bias, least, most, N, C_in, H, W, C_out, kH, kW,
        H_out, W_out, stride_h, stride_w, top, left, dilation_h, dilation_w, groups,
    ):  # fmt: skip
        C_target, H_target, W_target = (C_in, H, W) if adjoint else (C_out, H_out, W_out)
        C_source, H_source, W_source = (C_out, H_out, W_out) if adjoint else (C_in, H, W)
        C, K = quotient(C_target, groups), quotient(C_source, groups)
        size = count(N * H_target * W_target * C_target)
        for at in span(cuda.grid(1), size, cuda.gridsize(1)):
            n, i, j, c = unravel(at, H_target, W_target, C_target)
            g = quotient(int32(c), C)
            own = int32(c - g * C)
            total = real(0)
            for kh in span(0, kH, 1):
                h = _source(i, kh, stride_h, top, dilation_h, H_source, adjoint)
                for kw in span(0, kW, 1):
                    w = _source(j, kw, stride_w, left, dilation_w, W_source, adjoint)
                    if h >= 0 and w >= 0:
                        tap = index(kh * kW + kw)
                        line = index(index(n) * index(H_source) + index(h))
                        read = index(line * index(W_source) + index(w))
                        read = index(read * index(C_source) + index(g * K))
                        # Along the sum, weights are C_out apart forward, neighbours in the adjoint.
                        if adjoint:
                            first = index(tap * index(C) + index(own))
                            first = index(first * index(C_out) + index(g * K))
                            step = index(1)
                        else:
                            first = index(tap * index(K) * index(C_out) + index(c))
                            step = index(C_out)
                        for k in span(0, K, 1):
                            factor = weight[index(first + index(k) * step)]
                            total += source[index(read + index(k))] * factor
            target[at] = limited(biased(total, bias, index(c)), least, most)

    return convolve


@kernel
def _correlate(real, bits):
    """The weight gradient of conv.py, over a span of output pixels. Each thread owns one sum:
    neighbours are of neighbouring output channels, then taps, which read almost the same."""
    index, int32 = index_type(bits), np.int32
    count, _, unravel = arithmetic(bits)

    def correlate(
        grad_weight, grad_output, input, spans, pixels_each, N, C_in, H, W, C_out, kH, kW,
        H_out, W_out, stride_h, stride_w, top, left, dilation_h, dilation_w, groups,
    ):  # fmt: skip
        C, K = quotient(C_out, groups), quotient(C_in, groups)
        size = int32(kH * kW * K * C_out)
        for task in span(cuda.grid(1), count(spans * size), cuda.gridsize(1)):
            part = int32(quotient(task, size))
            # The sum's place in the weights (kH, kW, K, C_out)
            kh, kw, k, co = unravel(int32(task - part * size), kW, K, C_out)
            channel = int32(quotient(int32(co), C) * K + k)
            tap_h, tap_w = int32(kh * dilation_h - top), int32(kw * dilation_w - left)
            start = count(part * pixels_each)
            end = count(min(start + pixels_each, N * H_out * W_out))
            n, oh, ow, _ = unravel(start, H_out, W_out, 1)
            oh, ow = int32(oh), int32(ow)
            total = real(0)
            for pixel in span(start, end, 1):
                h, w = int32(oh * stride_h + tap_h), int32(ow * stride_w + tap_w)
                if h >= 0 and h < H and w >= 0 and w < W:
                    read = index((index(n) * index(H) + index(h)) * index(W) + index(w))
                    value = input[index(read * index(C_in) + index(channel))]
                    total += value * grad_output[index(index(pixel) * index(C_out) + index(co))]
                ow = int32(ow + 1)
                if ow == W_out:
                    ow, oh = int32(0), int32(oh + 1)
                    if oh == H_out:
                        oh, n = int32(0), count(n + 1)
            grad_weight[index(task)] = total

    return correlate


def convolve(
    target: DeviceArray,
    source: DeviceArray,
    weight: DeviceArray,
    bias: DeviceArray | None,
    dims: Conv2dDims,
    bounds: tuple[float, float],
    adjoint: bool,
) -> None:
    variant = _convolve(target.dtype, index_bits(target.size, source.size, weight.size), adjoint)
    launch(variant, over(target.size), target, source, weight, bias, *bounds, *dims)


def _spans(d: Conv2dDims) -> tuple[int, int]:
    """Into how many spans of output pixels the sums are cut, and pixels of each."""
    pixels = d.N * d.H_out * d.W_out
    weights = d.kH * d.kW * (d.C_in // d.groups) * d.C_out
    spans = max(1, min(_TASKS // weights, pixels // _LEAST_PIXELS))
    pixels_each = max(1, -(-pixels // spans))
    return max(1, -(-pixels // pixels_each)), pixels_each


def correlate_workspace(dims: Conv2dDims) -> int:
    spans, _ = _spans(dims)
    weights = dims.kH * dims.kW * (dims.C_in // dims.groups) * dims.C_out
    return spans * weights if spans > 1 else 0


def correlate(
    grad_weight: DeviceArray,
    grad_output: DeviceArray,
    input: DeviceArray,
    scratch: DeviceArray,
    dims: Conv2dDims,
) -> None:
    spans, pixels_each = _spans(dims)
    out = scratch if spans > 1 else grad_weight
    variant = _correlate(input.dtype, index_bits(out.size, grad_output.size, input.size))
    shape = over(spans * grad_weight.size)
    launch(variant, shape, out, grad_output, input, spans, pixels_each, *dims)
    if spans > 1:
        combine(grad_weight, scratch, None, UNLIMITED, spans)
