"""Batch normalisation and the maximum over windows after it, in one pass over memory each way.

Arrays are those of pool.py and norm.py: input (N, H, W, C), out and window (N, H_out, W_out, C),
all C-ordered; mean (2, C) with the mean's rounding error in its second row.

The normalised map is as large as the input, but only its maxima are wanted, so it lives in
registers. So does its gradient, which is that of a maximum where one was found and else 0.

As in norm.py the lanes of _middle.py share a channel, whose numbers a thread keeps in registers;
the rows are pixels, of the output or of the input. As in pool.py a cell gathers its gradient.
"""

from __future__ import annotations

import numpy as np

from ._columns import column_totals, keep_sum
from ._device import cuda, through_relu
from ._index import arithmetic
from ._launch import kernel, launch
from ._middle import place, reduction, rows_of, spread
from ._reduce import add_compensated, exact_sum
from ._span import span
from .norm import change_of, gradient, slopes_of
from .pool import axes_of, bits_for, maximum_of, routed_to

# Forward ------------------------------------------------------------------------------------


def batch_norm_max_pool2d_forward_workspace(dims) -> int:
    return 0


@kernel
def _maxima(real, threads, bits):
    # Four flop and a comparison a tap, one pass over memory. Each thread owns outputs of one
    # channel.
    _, _, unravel = arithmetic(bits)
    maximum = maximum_of(real, bits)

    def maxima(
        out, window, input, mean, invstd, weight, bias, n_out, C,
        H, H_out, kH, sH, pH, dH, W, W_out, kW, sW, pW, dW,
        tile, tiles, depth, groups, outer, rows_each,
    ):  # fmt: skip
        rows, cols = (H, H_out, kH, sH, pH, dH), (W, W_out, kW, sW, pW, dW)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        if o >= 0:
            change = change_of(mean, invstd, weight, bias, real(0), c, C)
            first, end = rows_of(lane, rows_each, n_out)
            for r in span(first, end, depth):
                n, oh, ow, _ = unravel(r, H_out, W_out, 1)
                best, tap = maximum(input, change, n, oh, ow, c, C, rows, cols)
                out[r * C + c], window[r * C + c] = best, tap

    return maxima


def batch_norm_max_pool2d_forward(out, window, input, mean, invstd, weight, bias, scratch, dims):
    n_out = dims.N * dims.H_out * dims.W_out
    bits = bits_for(dims)
    plan = spread(1, n_out, dims.C, bits)
    launch(
        _maxima(out.dtype, plan.threads, bits), plan.shape, out, window, input,
        mean, invstd, weight, bias, n_out, dims.C, *axes_of(dims), *plan.cut,
    )  # fmt: skip


# Gradients of weight and bias ---------------------------------------------------------------


def batch_norm_max_pool2d_backward_affine_workspace(dims) -> int:
    return 2 * reduction(1, dims.N * dims.H_out * dims.W_out, dims.C).chunks * dims.C


@kernel
def _products(real, threads, bits):
    index, divide, unravel = arithmetic(bits)

    def products(
        partial, grad_output, window, input, mean, n_out, C,
        H, H_out, kH, sH, pH, dH, W, W_out, kW, sW, pW, dW,
        tile, tiles, depth, groups, outer, rows_each,
    ):  # fmt: skip
        # Four flop an output, one pass; of the input only the maxima are read. A block owns
        # partial[:, chunk, c], which is (Σ g·(x − μ), Σ g).
        shared = cuda.shared.array(threads, np.float64)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        total = rest = sum_g = rest_g = real(0)
        if o >= 0:
            centre, centre_rest = mean[c], mean[C + c]
            first, end = rows_of(lane, rows_each, n_out)
            for r in span(first, end, depth):
                n, oh, ow, _ = unravel(r, H_out, W_out, 1)
                tap = index(window[r * C + c])
                kh = divide(tap, kW)
                h = index(oh * sH - pH + kh * dH)
                w = index(ow * sW - pW + (tap - kh * kW) * dW)
                # A dilated window can miss the input; its tap does too.
                if 0 <= h < H and 0 <= w < W:
                    g = grad_output[r * C + c]
                    x = input[index(((n * H + h) * W + w) * C + c)]
                    sum_g, rest_g = add_compensated(sum_g, rest_g, g)
                    distance = (x - centre) - centre_rest
                    total, rest = add_compensated(total, rest, g * distance)
        keep_sum(partial, 0, shared, exact_sum(total, rest), tile, depth, lane, c, C)
        keep_sum(partial, 1, shared, exact_sum(sum_g, rest_g), tile, depth, lane, c, C)

    return products


def batch_norm_max_pool2d_backward_affine(
    grad_weight, grad_bias, grad_output, window, input, mean, invstd, scratch, dims
):
    # y = x̂·w + b, x̂ = (x − μ)·invstd, and o passes its gradient to y at its maximum m(o):
    # gw = Σ_o g[o]·x̂[m(o)], gb = Σ_o g[o].
    C, n_out = dims.C, dims.N * dims.H_out * dims.W_out
    bits = bits_for(dims)
    plan = reduction(1, n_out, C, bits)
    launch(
        _products(input.dtype, plan.threads, bits), plan.shape, scratch, grad_output,
        window, input, mean, n_out, C, *axes_of(dims), *plan.cut,
    )  # fmt: skip
    column_totals(grad_weight, grad_bias, scratch, invstd, plan.chunks, C)


# Gradient of the input ----------------------------------------------------------------------


def batch_norm_max_pool2d_backward_input_workspace(dims) -> int:
    return reduction(1, dims.N * dims.H * dims.W, dims.C).chunks * dims.C


@kernel
def _backward_input(real, threads, bits):
    _, _, unravel = arithmetic(bits)
    routed = routed_to(real, bits)

    def backward_input(
        partial, grad_input, grad_output, window, input, mean, invstd, weight, grad_weight,
        grad_bias, relu, n_in, C, H, H_out, kH, sH, pH, dH, W, W_out, kW, sW, pW, dW,
        tile, tiles, depth, groups, outer, rows_each,
    ):  # fmt: skip
        # Seven flop a cell and a comparison for each window it is in, one pass. A cell takes what
        # the maxima pass to it, and sends that through batch norm, and relu before it. Each thread
        # owns cells of one channel, a block partial[chunk, c], the sums of their gradients.
        shared = cuda.shared.array(threads, np.float64)
        rows, cols = (H, H_out, kH, sH, pH, dH), (W, W_out, kW, sW, pW, dW)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        total = rest = real(0)
        if o >= 0:
            slopes = slopes_of(mean, invstd, weight, grad_weight, grad_bias, real(n_in), c, C)
            first, end = rows_of(lane, rows_each, n_in)
            for r in span(first, end, depth):
                n, h, w, _ = unravel(r, H, W, 1)
                g, x = routed(grad_output, window, n, h, w, c, C, rows, cols), input[r * C + c]
                g = gradient(g, x, slopes)
                if relu:
                    g = through_relu(g, x, real(0))
                grad_input[r * C + c] = g
                total, rest = add_compensated(total, rest, g)
        keep_sum(partial, 0, shared, exact_sum(total, rest), tile, depth, lane, c, C)

    return backward_input


def batch_norm_max_pool2d_backward_input(
    grad_input, grad_sums, grad_output, window, input, mean, invstd, weight, grad_weight, grad_bias,
    relu, scratch, dims,
):  # fmt: skip
    C, n_in = dims.C, dims.N * dims.H * dims.W
    bits = bits_for(dims)
    plan = reduction(1, n_in, C, bits)
    launch(
        _backward_input(input.dtype, plan.threads, bits), plan.shape, scratch, grad_input,
        grad_output, window, input, mean, invstd, weight, grad_weight, grad_bias, relu,
        n_in, C,
        *axes_of(dims), *plan.cut,
    )  # fmt: skip
    column_totals(grad_sums, None, scratch, None, plan.chunks, C)
