"""Unfold and fold: one thread an element, neighbours along W.

Tap (kh, kw) of output (oh, ow) shows the pixel h = oh·sH − pH + kh·dH, w = ow·sW − pW + kw·dW.
"""

from __future__ import annotations

from ...geometry import Pool2dDims
from ._device import cuda, device
from ._index import arithmetic, index_bits
from ._launch import kernel, launch, over
from ._span import span


def _bits(dims: Pool2dDims) -> int:
    d = dims
    elements = d.N * d.C * max(d.kH * d.kW * d.H_out * d.W_out, d.H * d.W)
    reach_h = d.H + 2 * d.pad_h + d.kH * d.dilation_h + d.stride_h
    return index_bits(elements, reach_h, d.W + 2 * d.pad_w + d.kW * d.dilation_w + d.stride_w)


@kernel
def _unfold(real, bits):
    # One pass over the columns. Each thread owns its entry.
    index, divide, unravel = arithmetic(bits)

    def unfold(columns, input, n_out, H, W, kH, kW, H_out, W_out, sH, sW, pH, pW, dH, dW):
        for at in span(cuda.grid(1), n_out, cuda.gridsize(1)):
            taps, kw, oh, ow = unravel(at, kW, H_out, W_out)
            plane = divide(taps, kH)
            h = index(oh * sH - pH + (taps - plane * kH) * dH)
            w = index(ow * sW - pW + kw * dW)
            inside = h >= 0 and h < H and w >= 0 and w < W
            columns[at] = input[index((plane * H + h) * W + w)] if inside else real(0)

    return unfold


def unfold_forward(columns, input, dims):
    variant = _unfold(columns.dtype, _bits(dims))
    launch(variant, over(columns.size), columns, input, columns.size, *dims[2:14])


@kernel
def _fold(real, bits):
    # One pass over the columns. Each thread owns its pixel and adds the taps in their order.
    #
    # h = oh·sH − pH + kh·dH: pixel h is tap kh of output (h + pH − kh·dH) / sH, if that is one.
    index, divide, unravel = arithmetic(bits)

    @device
    def output(pixel, tap, outputs, stride, pad, dilation):
        distance = index(pixel + pad - tap * dilation)
        if distance < 0:
            return index(-1)
        o = divide(distance, stride)
        return o if o * stride == distance and o < outputs else index(-1)

    def fold(out, columns, n_out, H, W, kH, kW, H_out, W_out, sH, sW, pH, pW, dH, dW):
        for at in span(cuda.grid(1), n_out, cuda.gridsize(1)):
            plane, h, w, _ = unravel(at, H, W, 1)
            total = real(0)
            for kh in range(kH):
                oh = output(h, kh, H_out, sH, pH, dH)
                if oh >= 0:
                    for kw in range(kW):
                        ow = output(w, kw, W_out, sW, pW, dW)
                        if ow >= 0:
                            taps = index((plane * kH + kh) * kW + kw)
                            total += columns[index((taps * H_out + oh) * W_out + ow)]
            out[at] = total

    return fold


def fold_forward(out, columns, dims):
    launch(_fold(out.dtype, _bits(dims)), over(out.size), out, columns, out.size, *dims[2:14])
