"""Pooling on channels-last arrays: one thread an element, neighbours along the channels.

Arrays: input (N, H, W, C), output and window (N, H_out, W_out, C), all C-ordered.

Ordinary and adaptive windows differ only in which cells they hold, and that separately for rows and
columns. The functions of `_windows` say so for one axis, in either direction; an axis is a tuple
(size, outputs, taps, stride, pad, dilation), adaptive if its stride is 0.

**Backward passes gather.** A cell sums over the outputs whose windows hold it, instead of outputs
adding to cells. So every cell is written exactly once, by one thread, also where windows overlap,
and the order of the sum is fixed. For a maximum the cell takes the gradients of those outputs that
noted this cell's tap.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ...geometry import AdaptivePool2dDims, Pool2dDims
from ._device import THREADS, cuda, device, isnan, power
from ._index import arithmetic, index_bits
from ._launch import kernel, launch, over
from ._reduce import SUM, add_compensated, fold
from ._span import quotient, span
from .norm import normalised

# A window of so many cells is read by so many threads.
_LARGE_WINDOW = 128
_LANES = 32

Dims = Pool2dDims | AdaptivePool2dDims


def axes_of(dims: Dims) -> tuple[int, ...]:
    """Both axes, as kernels take them: H, H_out, kH, sH, pH, dH, W, W_out, kW, sW, pW, dW."""
    d = dims
    if isinstance(d, AdaptivePool2dDims):
        return d.H, d.H_out, d.kH, 0, 0, 1, d.W, d.W_out, d.kW, 0, 0, 1
    return (
        d.H, d.H_out, d.kH, d.stride_h, d.pad_h, d.dilation_h,
        d.W, d.W_out, d.kW, d.stride_w, d.pad_w, d.dilation_w,
    )  # fmt: skip


def bits_for(dims: Dims) -> int:
    d, axes = dims, axes_of(dims)
    reach = [
        (outputs + 1) * max(stride, 1 if stride else size) + size + 2 * pad + taps * dilation
        for size, outputs, taps, stride, pad, dilation in (axes[:6], axes[6:])
    ]
    return index_bits(d.N * d.H * d.W * d.C, d.N * d.H_out * d.W_out * d.C, d.kH * d.kW, *reach)


@cache
def _windows(bits: int) -> Any:
    """(cells, outputs, tap): device functions of one axis."""
    index, divide, _ = arithmetic(bits)

    @device
    def cells(o, axis):
        """(origin, first, last) of window o: cells origin + tap·dilation for first ≤ tap < last."""
        size, outputs, taps, stride, pad, dilation = axis
        if stride == 0:
            start = divide(o * size, outputs)
            return start, index(0), index(divide((o + 1) * size - 1, outputs) + 1 - start)
        origin = index(o * stride - pad)
        first = divide(dilation - 1 - origin, dilation) if origin < 0 else index(0)
        # A dilated window can step over the whole axis: then it has no tap.
        reached = divide(size - 1 - origin, dilation) + 1 if origin < size else 0
        return origin, first, index(max(first, min(reached, taps)))

    @device
    def outputs(i, axis):
        """The outputs [first, last) whose windows may hold cell i; `tap` says which do.

        Adaptive: ⌊o·size/outputs⌋ ≤ i < ⌈(o + 1)·size/outputs⌉ is the same relation with o and i
        exchanged. Ordinary: i = o·stride − pad + tap·dilation with 0 ≤ tap < taps.
        """
        size, outputs, taps, stride, pad, dilation = axis
        if stride == 0:
            last = divide((i + 1) * outputs - 1, size) + 1 if outputs > 0 else 0
            return divide(i * outputs, size), index(last)
        least = index(i + pad - (taps - 1) * dilation)
        first = divide(least + stride - 1, stride) if least > 0 else index(0)
        return first, index(min(divide(i + pad, stride) + 1, outputs))

    @device
    def tap(i, o, axis):
        """The tap of window o that is cell i; −1 if none is. o: one of `outputs`."""
        size, outputs, _, stride, pad, dilation = axis
        if stride == 0:
            return index(i - divide(o * size, outputs))
        distance = index(i + pad - o * stride)
        nth = divide(distance, dilation)
        return nth if nth * dilation == distance else index(-1)

    return cells, outputs, tap


# Maximum ------------------------------------------------------------------------------------


@cache
def maximum_of(real: type, bits: int) -> Any:
    """maximum: a device function, the (value, tap) of one window's maximum."""
    index, _, _ = arithmetic(bits)
    cells, _, _ = _windows(bits)

    @device
    def maximum(input, change, n, oh, ow, c, C, rows, cols):
        """change: None, or what normalises the values first."""
        (H, _, _, _, _, dH), (W, _, kW, _, _, dW) = rows, cols
        top, kh0, kh1 = cells(oh, rows)
        left, kw0, kw1 = cells(ow, cols)
        best = real(-np.inf)
        position = index(0 if kh0 == kh1 or kw0 == kw1 else kh0 * kW + kw0)
        for kh in range(kh0, kh1):
            row = index((n * H + top + kh * dH) * W + left)
            for kw in range(kw0, kw1):
                value = input[index((row + kw * dW) * C + c)]
                if change is not None:
                    value = normalised(value, change)
                if value > best or isnan(value):
                    best, position = value, index(kh * kW + kw)
        return best, position

    return maximum


@kernel
def _maxima(real, bits):
    # N·H_out·W_out·C·taps comparisons; what windows share is read from cache. Each thread owns its
    # outputs.
    _, _, unravel = arithmetic(bits)
    maximum = maximum_of(real, bits)

    def maxima(out, window, input, n_out, C, H, H_out, kH, sH, pH, dH, W, W_out, kW, sW, pW, dW):
        rows, cols = (H, H_out, kH, sH, pH, dH), (W, W_out, kW, sW, pW, dW)
        for at in span(cuda.grid(1), n_out, cuda.gridsize(1)):
            n, oh, ow, c = unravel(at, H_out, W_out, C)
            out[at], window[at] = maximum(input, None, n, oh, ow, c, C, rows, cols)

    return maxima


def max_pool2d_forward(out, window, input, dims):
    variant = _maxima(out.dtype, bits_for(dims))
    launch(variant, over(out.size), out, window, input, out.size, dims.C, *axes_of(dims))


@kernel
def _flat_indices(_, bits):
    # One pass. Each thread owns its indices.
    index, divide, unravel = arithmetic(bits)
    cells, _, _ = _windows(bits)

    def flat_indices(indices, window, n_out, C, H, H_out, kH, sH, pH, dH, W, W_out, kW, sW, pW, dW):
        rows, cols = (H, H_out, kH, sH, pH, dH), (W, W_out, kW, sW, pW, dW)
        for at in span(cuda.grid(1), n_out, cuda.gridsize(1)):
            _, oh, ow, _ = unravel(at, H_out, W_out, C)
            top, kh0, kh1 = cells(oh, rows)
            left, kw0, kw1 = cells(ow, cols)
            tap = index(window[at])
            kh = divide(tap, kW)
            place = (top + kh * dH) * np.int64(W) + left + (tap - kh * kW) * dW
            indices[at] = place if kh0 < kh1 and kw0 < kw1 else -1

    return flat_indices


def max_pool2d_indices(indices, window, dims):
    variant = _flat_indices(indices.dtype, bits_for(dims))
    launch(variant, over(indices.size), indices, window, indices.size, dims.C, *axes_of(dims))


@cache
def routed_to(real: type, bits: int) -> Any:
    """routed: a device function, what a cell gets of the gradients of the maxima.

    Y[o] = X[i*] with i* the maximum's cell: dY[o]/dX[i] = 1 if i = i*, else 0. So
    dX[i] = Σ_{o, t: tap t of window o is cell i} (window[o] = t) · grad[o].
    """
    index, _, _ = arithmetic(bits)
    _, outputs, tap = _windows(bits)

    @device
    def routed(grad_output, window, n, h, w, c, C, rows, cols):
        H_out, W_out, kW = rows[1], cols[1], cols[2]
        oh0, oh1 = outputs(h, rows)
        ow0, ow1 = outputs(w, cols)
        total = real(0)
        for oh in range(oh0, oh1):
            kh = tap(h, oh, rows)
            for ow in range(ow0, ow1):
                kw = tap(w, ow, cols)
                source = index(((n * H_out + oh) * W_out + ow) * C + c)
                if kh >= 0 and kw >= 0 and window[source] == index(kh * kW + kw):
                    total += grad_output[source]
        return total

    return routed


@kernel
def _route_to_maxima(real, bits):
    # N·H·W·C·(windows a cell is in) comparisons. Each thread owns its cells.
    _, _, unravel = arithmetic(bits)
    routed = routed_to(real, bits)

    def route_to_maxima(
        grad_input, grad_output, window, n_in, C, H, H_out, kH, sH, pH, dH, W, W_out, kW, sW, pW, dW
    ):
        rows, cols = (H, H_out, kH, sH, pH, dH), (W, W_out, kW, sW, pW, dW)
        for at in span(cuda.grid(1), n_in, cuda.gridsize(1)):
            n, h, w, c = unravel(at, H, W, C)
            grad_input[at] = routed(grad_output, window, n, h, w, c, C, rows, cols)

    return route_to_maxima


def max_pool2d_backward_input(grad_input, grad_output, window, dims):
    variant = _route_to_maxima(grad_input.dtype, bits_for(dims))
    cells = grad_input.size
    launch(variant, over(cells), grad_input, grad_output, window, cells, dims.C, *axes_of(dims))


# Average ------------------------------------------------------------------------------------
# Sums are compensated: a global average has thousands of terms, and memory is the bottleneck.


@cache
def _divisors(bits: int) -> Any:
    """divisor: a device function, what an average divides by on one axis; the two axes' divisors
    are multiplied."""
    cells, _, _ = _windows(bits)

    @device
    def divisor(o, axis, include_pad):
        size, _, taps, stride, pad, _ = axis
        origin, first, last = cells(o, axis)
        if stride > 0 and include_pad:
            return min(origin + taps, size + pad) - origin
        return max(last - first, 1)

    return divisor


@kernel
def _averages(real, bits, lanes):
    # N·H_out·W_out·C·taps additions. A block owns threads/lanes outputs; `lanes` threads share the
    # cells of each, lane by lane in turn, and add up their sums in a tree.
    index, _, unravel = arithmetic(bits)
    cells, _, _ = _windows(bits)
    divisor = _divisors(bits)
    threads = int(THREADS)
    columns = threads // int(lanes)

    def averages(
        out, input, n_out, include_pad, override, C,
        H, H_out, kH, sH, pH, dH, W, W_out, kW, sW, pW, dW,
    ):  # fmt: skip
        rows, cols = (H, H_out, kH, sH, pH, dH), (W, W_out, kW, sW, pW, dW)
        partial = cuda.shared.array(threads, real)
        lane = quotient(cuda.threadIdx.x, columns)
        column = cuda.threadIdx.x - lane * columns
        for first in span(cuda.blockIdx.x * columns, n_out, cuda.gridDim.x * columns):
            at = first + column
            total, rest, by = real(0), real(0), override
            if at < n_out:
                n, oh, ow, c = unravel(at, H_out, W_out, C)
                top, kh0, kh1 = cells(oh, rows)
                left, kw0, kw1 = cells(ow, cols)
                corner = index((n * H + top) * W + left)
                kh, kw = kh0, index(kw0 + lane)
                for _ in span(lane, (kh1 - kh0) * (kw1 - kw0), lanes):
                    while kw >= kw1:
                        kh, kw = index(kh + 1), index(kw - (kw1 - kw0))
                    value = input[index((corner + kh * W + kw) * C + c)]
                    total, rest = add_compensated(total, rest, value)
                    kw = index(kw + lanes)
                if override == 0:
                    by = divisor(oh, rows, include_pad) * divisor(ow, cols, include_pad)
            total = fold(partial, total + rest, columns, lanes, lane, SUM)
            if at < n_out and lane == 0:
                out[at] = total / real(by)

    return averages


def _average_options(dims: Dims) -> tuple[bool, int]:
    """(count_include_pad, divisor_override or 0)."""
    if isinstance(dims, AdaptivePool2dDims):
        return False, 0
    return bool(dims.count_include_pad), dims.divisor_override


def avg_pool2d_forward(out, input, dims):
    lanes = _LANES if dims.kH * dims.kW >= _LARGE_WINDOW else 1
    launch(
        _averages(out.dtype, bits_for(dims), lanes), over(out.size * lanes),
        out, input, out.size, *_average_options(dims), dims.C, *axes_of(dims),
    )  # fmt: skip


@kernel
def _spread_over_windows(real, bits):
    # 2·N·H·W·C·(windows a cell is in) flop. Each thread owns its cells.
    #
    # Y[o] = (1/D[o]) Σ_{i in window o} X[i]: dX[i] = Σ_{o: i in window o} grad[o] / D[o].
    index, _, unravel = arithmetic(bits)
    _, outputs, _ = _windows(bits)
    divisor = _divisors(bits)

    def spread_over_windows(
        grad_input, grad_output, n_in, include_pad, override, C,
        H, H_out, kH, sH, pH, dH, W, W_out, kW, sW, pW, dW,
    ):  # fmt: skip
        rows, cols = (H, H_out, kH, sH, pH, dH), (W, W_out, kW, sW, pW, dW)
        for at in span(cuda.grid(1), n_in, cuda.gridsize(1)):
            n, h, w, c = unravel(at, H, W, C)
            oh0, oh1 = outputs(h, rows)
            ow0, ow1 = outputs(w, cols)
            total, rest = real(0), real(0)
            for oh in range(oh0, oh1):
                by_h = divisor(oh, rows, include_pad)
                for ow in range(ow0, ow1):
                    by = by_h * divisor(ow, cols, include_pad) if override == 0 else override
                    value = grad_output[index(((n * H_out + oh) * W_out + ow) * C + c)]
                    total, rest = add_compensated(total, rest, value / real(by))
            grad_input[at] = total + rest

    return spread_over_windows


def avg_pool2d_backward_input(grad_input, grad_output, dims):
    launch(
        _spread_over_windows(grad_input.dtype, bits_for(dims)), over(grad_input.size),
        grad_input, grad_output, grad_input.size, *_average_options(dims), dims.C, *axes_of(dims),
    )  # fmt: skip


# Power average -------------------------------------------------------------------------------


@kernel
def _lp_averages(real, bits):
    # N·H_out·W_out·C·taps powers. Each thread owns its outputs.
    index, _, unravel = arithmetic(bits)
    cells, _, _ = _windows(bits)
    divisor = _divisors(bits)

    def lp_averages(
        out, input, n_out, p, C, H, H_out, kH, sH, pH, dH, W, W_out, kW, sW, pW, dW
    ):  # fmt: skip
        rows, cols = (H, H_out, kH, sH, pH, dH), (W, W_out, kW, sW, pW, dW)
        for at in span(cuda.grid(1), n_out, cuda.gridsize(1)):
            n, oh, ow, c = unravel(at, H_out, W_out, C)
            top, kh0, kh1 = cells(oh, rows)
            left, kw0, kw1 = cells(ow, cols)
            total, rest = real(0), real(0)
            for kh in range(kh0, kh1):
                row = index((n * H + top + kh) * W + left)
                for kw in range(kw0, kw1):
                    value = power(input[index((row + kw) * C + c)], p)
                    total, rest = add_compensated(total, rest, value)
            by = real(divisor(oh, rows, True) * divisor(ow, cols, True))
            out[at] = power((total + rest) * (real(kH * kW) / by), real(1) / p)

    return lp_averages


def lp_pool2d_forward(out, input, dims, norm_type):
    variant = _lp_averages(out.dtype, bits_for(dims))
    launch(variant, over(out.size), out, input, out.size, norm_type, dims.C, *axes_of(dims))


@kernel
def _spread_powers(real, bits):
    # A power for each window that a cell is in. Each thread owns its cells.
    #
    # Y^p = kH·kW/D · Σ X^p: dY/dX = kH·kW/D · (X/Y)^(p − 1). A window of zeros passes nothing on.
    index, _, unravel = arithmetic(bits)
    _, outputs, _ = _windows(bits)
    divisor = _divisors(bits)

    def spread_powers(
        grad_input, grad_output, out, input, n_in, p, C,
        H, H_out, kH, sH, pH, dH, W, W_out, kW, sW, pW, dW,
    ):  # fmt: skip
        rows, cols = (H, H_out, kH, sH, pH, dH), (W, W_out, kW, sW, pW, dW)
        for at in span(cuda.grid(1), n_in, cuda.gridsize(1)):
            n, h, w, c = unravel(at, H, W, C)
            oh0, oh1 = outputs(h, rows)
            ow0, ow1 = outputs(w, cols)
            total, rest = real(0), real(0)
            for oh in range(oh0, oh1):
                for ow in range(ow0, ow1):
                    source = index(((n * H_out + oh) * W_out + ow) * C + c)
                    norm = out[source]
                    if norm != real(0):
                        by = real(divisor(oh, rows, True) * divisor(ow, cols, True))
                        share = power(norm, real(1) - p) / by
                        total, rest = add_compensated(total, rest, grad_output[source] * share)
            slope = real(kH * kW) * power(input[at], p - real(1))
            grad_input[at] = (total + rest) * slope

    return spread_powers


def lp_pool2d_backward_input(grad_input, grad_output, out, input, dims, norm_type):
    launch(
        _spread_powers(grad_input.dtype, bits_for(dims)), over(grad_input.size),
        grad_input, grad_output, out, input, grad_input.size, norm_type, dims.C, *axes_of(dims),
    )  # fmt: skip
