"""3×3 convolution of stride 1 by Winograd's F(2×2, 3×3): 16 products for 4 outputs instead of 36.

See winograd_tile.py for the formula. The image is cut into 2×2 tiles of outputs, counted through
all images. A block of tiles goes through three steps while its data stays in the cache of a core:
    spread     the 4×4 input pixels of each tile become 16 vectors of channels;
    multiply   product ξ: (tiles × C_in) · (C_in × C_out), by the register tile of `_simd`;
    gather     the 16 products of a tile become its 2×2 outputs.

**Rounding.** The transforms add and halve, so that errors grow by a small factor, and an output
depends on the pixels of its own window alone. But infinite or overflowing values would give NaN
where the definition gives infinity: a tile whose result is not finite is computed again by it, a
weight gradient by direct.py's kernel.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ....runtime.threads import MAX_THREADS
from .._jit import kernel
from .._simd import PIXELS, VECTOR_BYTES
from .._tasks import tasks, thread
from .direct_tile import convolve_tile, correlate_tile
from .winograd_tile import (
    GRADIENT,
    INPUT,
    OUTPUT,
    PRODUCTS,
    WEIGHT,
    WEIGHT_GRADIENT,
    gather_tile,
    spread_tile,
)

# Elements between the end of one product and the start of the next: keeps the 16 of them, which
# are used together, out of the same cache set.
_GAP = 16


def tile_count(N: int, H: int, W: int) -> int:
    """Tiles of N images of H × W outputs."""
    return N * ((H + 1) // 2) * ((W + 1) // 2)


def _block(K: int, C: int) -> int:
    """Tiles of a block: its products fill a part of the second-level cache."""
    return max(PIXELS, min(32, 4096 // (K + C)) // PIXELS * PIXELS)


def _block_elements(K: int, C: int) -> int:
    """What one thread needs: the products of a block, twice, and a place for unwanted pixels."""
    return PRODUCTS * (_block(K, C) * (K + C) + 2 * _GAP) + C


@kernel
def _spread_weight(span, spread, weight, zeros):
    """spread[ξ, k, c] = (G g Gᵀ)[ξ] of the kernel g from channel k to channel c."""
    K, C = weight.shape[2:]
    for k in tasks(span, K):
        spread_tile(
            WEIGHT, spread, k * C, K * C, weight, k * C, (3 * K * C, K * C), (0, 0), (3, 3),
            zeros, C,
        )  # fmt: skip


def _make_convolve(vectors: int):
    """The kernel whose register tile is `vectors` vectors of channels wide."""

    @kernel
    def convolve(span, target, source, weight, spread_weight, bias, use_bias, relu, before,
                 workspaces, zeros, block):  # fmt: skip
        # 2·16·tiles·K·C flop beside the transforms. Parallel over blocks of tiles: each task owns
        # the pixels of its tiles.
        N, H, W, C = target.shape
        H_src, W_src, K = source.shape[1:]
        tiles_h, tiles_w = (H + 1) // 2, (W + 1) // 2
        tiles = N * tiles_h * tiles_w
        width = vectors * (VECTOR_BYTES // target.itemsize)
        step_in, step_out = block * K + _GAP, block * C + _GAP
        for task in tasks(span, (tiles + block - 1) // block):
            workspace = workspaces[thread(span)]
            spread = workspace[: PRODUCTS * step_in]
            products = workspace[PRODUCTS * step_in :]
            unwanted = workspace[PRODUCTS * (step_in + step_out) :]
            first = task * block
            count = min(block, tiles - first)
            for t in range(count):
                n, position = divmod(first + t, tiles_h * tiles_w)
                i, j = position // tiles_w * 2 - before[0], position % tiles_w * 2 - before[1]
                spread_tile(
                    INPUT, spread, t * K, step_in, source, ((n * H_src + i) * W_src + j) * K,
                    (W_src * K, K), (i, j), (H_src, W_src), zeros, K,
                )  # fmt: skip
            for xi in range(PRODUCTS):
                for c0 in range(0, C, width):
                    for t in range(0, count, PIXELS):
                        convolve_tile(
                            PIXELS, vectors,
                            products, xi * step_out + t * C + c0, C,
                            spread, xi * step_in + t * K, K,
                            spread_weight, xi * K * C + c0, C,
                            bias, 0, False, False, (1, 1, K), (0, 0), (0, 0),
                            min(PIXELS, count - t), min(width, C - c0),
                        )  # fmt: skip
            for t in range(count):
                n, position = divmod(first + t, tiles_h * tiles_w)
                i, j = position // tiles_w * 2, position % tiles_w * 2
                finite = gather_tile(
                    OUTPUT, products, t * C, step_out, target, ((n * H + i) * W + j) * C,
                    (W * C, C), (i, j), (H, W), unwanted, bias, 0, use_bias, relu, C,
                )  # fmt: skip
                if finite:
                    continue
                for pixel in range(4):
                    h, w = i + pixel // 2, j + pixel % 2
                    if h < H and w < W:
                        # The definition: only taps inside the source.
                        row, col = h - before[0], w - before[1]
                        a, b = max(0, -row), max(0, -col)
                        taps = min(3, H_src - row) - a, min(3, W_src - col) - b
                        for c0 in range(0, C, width):
                            convolve_tile(
                                PIXELS, vectors, target, ((n * H + h) * W + w) * C + c0, 0,
                                source, ((n * H_src + row + a) * W_src + col + b) * K, 0,
                                weight, (a * 3 + b) * K * C + c0, C, bias, c0, use_bias, relu,
                                (taps[0], taps[1], K), (W_src * K, K), (3 * K * C, K * C),
                                1, min(width, C - c0),
                            )  # fmt: skip

    return convolve


def _make_correlate(vectors: int):
    """The weight-gradient kernel whose register tile is `vectors` vectors of channels wide."""

    @kernel
    def correlate(span, partial, source, grad_output, before, parts, rows, workspaces, zeros,
                  block):  # fmt: skip
        # 2·16·tiles·K·C flop beside the transforms. Parallel over (chunk of tiles, part of the
        # output channels): each task owns its channels of partial[chunk].
        chunks, _, K, C = partial.shape
        N, H, W = grad_output.shape[:3]
        H_src, W_src = source.shape[1:3]
        tiles_h, tiles_w = (H + 1) // 2, (W + 1) // 2
        tiles = N * tiles_h * tiles_w
        width = vectors * (VECTOR_BYTES // partial.itemsize)
        step_in, step_out = block * K + _GAP, block * C + _GAP
        columns = (C + width - 1) // width
        for task in tasks(span, chunks * parts):
            workspace = workspaces[thread(span)]
            spread = workspace[: PRODUCTS * step_in]
            gradient = workspace[PRODUCTS * step_in :]
            chunk, part = task // parts, task % parts
            c_first = columns * part // parts * width
            channels = min(columns * (part + 1) // parts * width, C) - c_first
            partial[chunk, :, :, c_first : c_first + channels] = 0
            last = tiles * (chunk + 1) // chunks
            for first in range(tiles * chunk // chunks, last, block):
                count = min(block, last - first)
                for t in range(count):
                    n, position = divmod(first + t, tiles_h * tiles_w)
                    i, j = position // tiles_w * 2, position % tiles_w * 2
                    spread_tile(
                        GRADIENT, gradient, t * channels, step_out,
                        grad_output, ((n * H + i) * W + j) * C + c_first,
                        (W * C, C), (i, j), (H, W), zeros, channels,
                    )  # fmt: skip
                    i, j = i - before[0], j - before[1]
                    spread_tile(
                        INPUT, spread, t * K, step_in, source, ((n * H_src + i) * W_src + j) * K,
                        (W_src * K, K), (i, j), (H_src, W_src), zeros, K,
                    )  # fmt: skip
                for xi in range(PRODUCTS):
                    for c in range(0, channels, width):
                        for k in range(0, K, PIXELS):
                            correlate_tile(
                                PIXELS, vectors,
                                partial, ((chunk * PRODUCTS + xi) * K + k) * C + c_first + c, C,
                                spread, xi * step_in, rows, k,
                                gradient, xi * step_out + c,
                                (1, 1, count), (0, 0, K), (0, 0, channels),
                                min(PIXELS, K - k), min(width, channels - c),
                            )  # fmt: skip

    return correlate


_convolve = {vectors: _make_convolve(vectors) for vectors in (1, 2)}
_correlate = {vectors: _make_correlate(vectors) for vectors in (1, 2)}


@kernel
def _gather_weight(span, grad_weight, partial):
    """Add the chunks in their order; then dg = Gᵀ[…]G. Parallel over input channels."""
    chunks, products, K, C = partial.shape
    for k in tasks(span, K):
        for chunk in range(1, chunks):
            for xi in range(products):
                total, term = partial[0, xi, k], partial[chunk, xi, k]
                for c in range(C):
                    total[c] += term[c]
        gather_tile(
            WEIGHT_GRADIENT, partial, k * C, K * C, grad_weight, k * C, (3 * K * C, K * C),
            (0, 0), (3, 3), grad_weight, grad_weight, 0, False, False, C,
        )  # fmt: skip


def _split(scratch, size, K, C):
    """The first `size` elements, zeros, and a workspace for each thread."""
    zeros = scratch[size : size + max(K, C)]
    zeros[:] = 0
    first = size + max(K, C)
    last = first + MAX_THREADS * _block_elements(K, C)
    return scratch[:size], zeros, scratch[first:last].reshape(MAX_THREADS, -1)


def workspace(K: int, C: int, chunks: int = 1) -> int:
    """Elements: 16 products for each pair of channels, and what _split wants after them. chunks: of
    the weight gradient, which has these products for each of them."""
    return chunks * PRODUCTS * K * C + max(K, C) + MAX_THREADS * _block_elements(K, C)


def convolve(target, source, weight, bias, use_bias, relu, scratch, dims, axes, plan):
    K, C = weight.shape[2:]
    spread_weight, zeros, workspaces = _split(scratch, PRODUCTS * K * C, K, C)
    _spread_weight(spread_weight, weight, zeros)
    _convolve[plan.vectors](
        target, source, weight, spread_weight, bias, use_bias, relu, axes.before, workspaces, zeros,
        _block(K, C),
    )  # fmt: skip


@lru_cache(maxsize=256)
def _row_offsets(K: int) -> np.ndarray:
    """Where a spread pixel has its channels: one after the other."""
    return np.arange(K)


def correlate(grad_weight, grad_output, input, scratch, dims, plan):
    K, C = dims.C_in, dims.C_out
    partial, zeros, workspaces = _split(scratch, plan.chunks * PRODUCTS * K * C, K, C)
    partial = partial.reshape(plan.chunks, PRODUCTS, K, C)
    _correlate[plan.vectors](
        partial, input, grad_output, (dims.top, dims.left), plan.parts, _row_offsets(K), workspaces,
        zeros, _block(K, C),
    )  # fmt: skip
    _gather_weight(grad_weight, partial)
