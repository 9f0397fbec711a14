"""Convolution into few channels, from the side of the source: the input gradient of a first layer.

Where the target has three channels, a tile of direct.py would multiply vectors of which three lanes
are live. Instead every source pixel is multiplied once by all taps of a kernel row, a vector of
kW·C elements:
    product[j', b, c] = Σ_{taps a} Σ_k source[n, row(i, a), j', k] · weight[a, k, b, c]
and the target adds up what belongs to each of its pixels, where column j' with tap b goes to
column j = j'·stride + b·dilation − left:
    target[n, i, j, c] = bias[c] + Σ_{(j', b) → j} product[j', b, c]
Arrays and tables as in direct.py, but the weight as (kH, K, kW, C), its taps in reverse.
"""

from __future__ import annotations

from ....geometry import Conv2dDims
from ....runtime.threads import MAX_THREADS
from .._jit import helper, kernel
from .._simd import PIXELS, UNBOUNDED, VECTOR_BYTES
from .._tasks import tasks, thread
from .direct_tile import convolve_tile


@helper
def _add(sums, terms):
    for p in range(sums.size):
        sums[p] += terms[p]


def _make_convolve(vectors: int):
    """The kernel whose register tile is `vectors` vectors of products wide."""

    @kernel
    def convolve(span, target, source, weight, bias, use_bias, workspaces,
                 rows, row_steps, stride, dilation, left):  # fmt: skip
        # 2·N·H·W_src·taps·K·kW·C flop. Parallel over target rows, which the tasks own.
        N, H, W, C = target.shape
        H_src, W_src, K = source.shape[1:]
        kW = weight.shape[2]
        products = kW * C
        width = vectors * (VECTOR_BYTES // target.itemsize)
        for task in tasks(span, N * H):
            n, i = task // H, task % H
            line = workspaces[thread(span)]
            tap, taps, row = rows[i]
            for c0 in range(0, products, width):
                for j in range(0, W_src, PIXELS):
                    convolve_tile(
                        PIXELS, vectors, line, j * products + c0, products,
                        source, ((n * H_src + row) * W_src + j) * K, K,
                        weight, tap * K * products + c0, products, bias, 0, False, UNBOUNDED,
                        (taps, 1, K), (row_steps[1] * W_src * K, 0),
                        (row_steps[0] * K * products, 0),
                        min(PIXELS, W_src - j), min(width, products - c0),
                    )  # fmt: skip
            pixels = target[n, i].reshape(-1)
            for c in range(C):
                pixels[c::C] = bias[c] if use_bias else target.dtype.type(0)
            for b in range(kW):
                origin = b * dilation - left
                # Source columns from which this tap goes to a column inside the target.
                low = max(0, -(origin // stride))
                high = min(W_src, (W - 1 - origin) // stride + 1)
                if low < high:
                    first, last = low * stride + origin, (high - 1) * stride + origin
                    for c in range(C):
                        _add(
                            pixels[first * C + c : last * C + c + 1 : stride * C],
                            line[
                                low * products + (kW - 1 - b) * C + c : high * products : products
                            ],
                        )

    return convolve


_convolve = {vectors: _make_convolve(vectors) for vectors in (1, 2)}


def convolve_workspace(dims: Conv2dDims) -> int:
    """Elements for the products of one source row, for each thread."""
    return MAX_THREADS * dims.W_out * dims.kW * dims.C_in


def convolve(target, source, weight, bias, use_bias, bounds, scratch, dims, axes, plan):
    """The input gradient, which has no limits."""
    _convolve[plan.vectors](
        target, source, weight, bias, use_bias,
        scratch[: convolve_workspace(dims)].reshape(MAX_THREADS, -1),
        axes.rows.positions, axes.rows.steps, dims.stride_w, dims.dilation_w, dims.left,
    )  # fmt: skip
