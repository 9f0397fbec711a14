"""Convolution in groups of few channels; one filter for each channel is the extreme.

Arrays as in conv.py. A sum has few terms, and a tile of _tile.py would stay empty: here a thread
computes one result. Neighbours are neighbouring channels, which read neighbouring places, and what
neighbouring pixels share stays in the caches.
"""

from __future__ import annotations

import numpy as np

from ...geometry import Conv2dDims
from ...runtime.cuda.array import DeviceArray
from ._device import cuda, device
from ._index import index_bits, index_type
from ._launch import kernel, launch, over
from ._tile import combine, finish

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
        reach = i + before - tap * dilation
        at = reach // stride if reach % stride == 0 else -1
    else:
        at = i * stride - before + tap * dilation
    return np.int32(at) if at >= 0 and at < length else np.int32(-1)


@kernel
def _convolve(real, bits, adjoint):
    """conv.py's formula. 2·N·H_out·W_out·C_out·taps·K flop, memory-bound. Each thread owns its
    elements of the target."""
    index, int32 = index_type(bits), np.int32

    def convolve(
        target, source, weight, bias, relu, N, C_in, H, W, C_out, kH, kW,
        H_out, W_out, stride_h, stride_w, top, left, dilation_h, dilation_w, groups,
    ):  # fmt: skip
        C_target, H_target, W_target = (C_in, H, W) if adjoint else (C_out, H_out, W_out)
        C_source, H_source, W_source = (C_out, H_out, W_out) if adjoint else (C_in, H, W)
        C, K = C_target // groups, C_source // groups
        size = N * H_target * W_target * C_target
        for element in range(cuda.grid(1), size, cuda.gridsize(1)):
            at = index(element)
            pixel, c = index(at // index(C_target)), int32(at % index(C_target))
            line, j = index(pixel // index(W_target)), int32(pixel % index(W_target))
            n, i = index(line // index(H_target)), int32(line % index(H_target))
            g = c // C
            total = real(0)
            for kh in range(kH):
                h = _source(i, kh, stride_h, top, dilation_h, H_source, adjoint)
                for kw in range(kW):
                    w = _source(j, kw, stride_w, left, dilation_w, W_source, adjoint)
                    if h >= 0 and w >= 0:
                        tap = kh * kW + kw
                        read = index((n * index(H_source) + index(h)) * index(W_source) + index(w))
                        read = index(read * index(C_source) + index(g * K))
                        # Along the sum, weights are C_out apart forward, neighbours in the adjoint.
                        if adjoint:
                            first, step = index((tap * C + c % C) * C_out + g * K), index(1)
                        else:
                            first, step = index(tap * K * C_out + c), index(C_out)
                        for k in range(K):
                            factor = weight[index(first + index(k) * step)]
                            total += source[index(read + index(k))] * factor
            target[at] = finish(total, bias, index(c), relu, real(0))

    return convolve


@kernel
def _correlate(real, bits):
    """The weight gradient of conv.py, over a span of output pixels. Each thread owns one sum:
    neighbours are of neighbouring output channels, then taps, which read almost the same."""
    index, int32 = index_type(bits), np.int32

    def correlate(
        grad_weight, grad_output, input, spans, pixels_each, N, C_in, H, W, C_out, kH, kW,
        H_out, W_out, stride_h, stride_w, top, left, dilation_h, dilation_w, groups,
    ):  # fmt: skip
        C, K = C_out // groups, C_in // groups
        size = kH * kW * K * C_out
        for task in range(cuda.grid(1), spans * size, cuda.gridsize(1)):
            span, element = task // size, int32(task % size)
            co, row = element % C_out, element // C_out
            channel, tap = co // C * K + row % K, row // K
            tap_h, tap_w = tap // kW * dilation_h - top, tap % kW * dilation_w - left
            start, end = span * pixels_each, min((span + 1) * pixels_each, N * H_out * W_out)
            ow, line = int32(start % W_out), start // W_out
            oh, n = int32(line % H_out), int32(line // H_out)
            total = real(0)
            for pixel in range(start, end):
                h, w = int32(oh * stride_h + tap_h), int32(ow * stride_w + tap_w)
                if h >= 0 and h < H and w >= 0 and w < W:
                    read = index((index(n) * index(H) + index(h)) * index(W) + index(w))
                    value = input[index(read * index(C_in) + index(channel))]
                    total += value * grad_output[index(index(pixel) * index(C_out) + index(co))]
                ow = int32(ow + 1)
                if ow == W_out:
                    ow, oh = int32(0), int32(oh + 1)
                    if oh == H_out:
                        oh, n = int32(0), int32(n + 1)
            grad_weight[index(task)] = total

    return correlate


def convolve(
    target: DeviceArray,
    source: DeviceArray,
    weight: DeviceArray,
    bias: DeviceArray | None,
    dims: Conv2dDims,
    relu: bool,
    adjoint: bool,
) -> None:
    variant = _convolve(target.dtype, index_bits(target.size, source.size, weight.size), adjoint)
    launch(variant, over(target.size), target, source, weight, bias, relu, *dims)


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
        combine(grad_weight, scratch, None, False, spans)
