"""3×3 convolution of stride 1 by Winograd's F(m×m, 3×3): fewer products than the definition has.

See winograd_tile.py for the formula. The image is cut into m×m tiles of outputs, counted through
all images. A block of tiles goes through three steps while its data stays in the cache of a core:
    spread     the input pixels of each tile become a vector of channels for each product ξ;
    multiply   product ξ: (tiles × C_in) · (C_in × C_out), by the register tile of `_simd`;
    gather     the products of a tile become its m×m outputs.
The spread weight lies in panels as wide as the register tile, which reads them from end to end.

**Rounding.** For m = 2, the transforms add and halve, so that errors grow by a small factor, and an
output depends on the pixels of its own window alone. For m = 4, errors are some four times as large
and follow the largest pixel of the tile, so that it is used in precision "high" only. In either
form, infinite or overflowing values would give NaN where the definition gives infinity: a tile
whose result is not finite is computed again by the definition, a weight gradient by direct.py's
kernel.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ....runtime.threads import MAX_THREADS
from .._jit import kernel
from .._simd import PIXELS, UNBOUNDED, VECTOR_BYTES
from .._tasks import tasks, thread
from .direct_tile import convolve_tile, correlate_tile
from .winograd_tile import (
    GRADIENT,
    INPUT,
    OUTPUT,
    WEIGHT,
    WEIGHT_GRADIENT,
    gather_tile,
    products,
    spread_tile,
)

# Elements between the end of one product and the start of the next: keeps the products of a tile,
# which are used together, out of the same cache set.
_GAP = 16


def tile_count(N: int, H: int, W: int, outputs: int) -> int:
    """Tiles of N images of H × W outputs."""
    return N * -(-H // outputs) * -(-W // outputs)


def _block(K: int, C: int, gradient: bool) -> int:
    """Tiles of a block: few enough for the second-level cache, so many that it counts little to
    read the spread weight once for each block, or the sums of its gradient."""
    return 64 if gradient and K * C >= 16384 else 32


def _block_elements(K: int, C: int, outputs: int, block: int) -> int:
    """What one thread needs: the products of a block, twice, and a place for unwanted pixels."""
    return products(outputs) * (block * (K + C) + 2 * _GAP) + C


def _panels(K: int, C: int) -> int:
    """Elements of one product's panels, and what keeps products apart."""
    widest = 2 * VECTOR_BYTES // 4
    return K * -(-C // widest) * widest + _GAP


def _make_spread_weight(outputs: int):
    @kernel
    def spread_weight(span, spread, weight, zeros, width):
        """spread[ξ, panel, k, c] = (G g Gᵀ)[ξ] of the kernel g from channel k to channel c."""
        K, C = weight.shape[2:]
        for k in tasks(span, K):
            for c in range(0, C, width):
                spread_tile(
                    outputs, WEIGHT, spread, c * K + k * width, spread.shape[1],
                    weight, k * C + c, (3 * K * C, K * C), (0, 0), (3, 3), zeros, min(width, C - c),
                )  # fmt: skip

    return spread_weight


def _make_convolve(outputs: int, vectors: int):
    """The kernel whose register tile is `vectors` vectors of channels wide."""
    count_products = products(outputs)

    @kernel
    def convolve(span, target, source, weight, spread_weight, bias, use_bias, bounds, before,
                 workspaces, zeros, block):  # fmt: skip
        # 2·(m + 2)²·tiles·K·C flop beside the transforms. Parallel over blocks of tiles: each task
        # owns the pixels of its tiles.
        N, H, W, C = target.shape
        H_src, W_src, K = source.shape[1:]
        tiles_h, tiles_w = (H + outputs - 1) // outputs, (W + outputs - 1) // outputs
        tiles = N * tiles_h * tiles_w
        width = vectors * (VECTOR_BYTES // target.itemsize)
        step_in, step_out = block * K + _GAP, block * C + _GAP
        for task in tasks(span, (tiles + block - 1) // block):
            workspace = workspaces[thread(span)]
            spread = workspace[: count_products * step_in]
            product = workspace[count_products * step_in :]
            unwanted = workspace[count_products * (step_in + step_out) :]
            first = task * block
            count = min(block, tiles - first)
            for t in range(count):
                n, position = divmod(first + t, tiles_h * tiles_w)
                i = position // tiles_w * outputs - before[0]
                j = position % tiles_w * outputs - before[1]
                spread_tile(
                    outputs, INPUT, spread, t * K, step_in,
                    source, ((n * H_src + i) * W_src + j) * K,
                    (W_src * K, K), (i, j), (H_src, W_src), zeros, K,
                )  # fmt: skip
            for xi in range(count_products):
                for c0 in range(0, C, width):
                    for t in range(0, count, PIXELS):
                        convolve_tile(
                            PIXELS, vectors,
                            product, xi * step_out + t * C + c0, C,
                            spread, xi * step_in + t * K, K,
                            spread_weight, xi * spread_weight.shape[1] + c0 * K, width,
                            bias, 0, False, UNBOUNDED, (1, 1, K), (0, 0), (0, 0),
                            min(PIXELS, count - t), min(width, C - c0),
                        )  # fmt: skip
            for t in range(count):
                n, position = divmod(first + t, tiles_h * tiles_w)
                i, j = position // tiles_w * outputs, position % tiles_w * outputs
                finite = gather_tile(
                    outputs, OUTPUT, product, t * C, step_out, target, ((n * H + i) * W + j) * C,
                    (W * C, C), (i, j), (H, W), unwanted, bias, 0, use_bias, bounds, C,
                )  # fmt: skip
                if finite:
                    continue
                for h in range(i, min(i + outputs, H)):
                    for w in range(j, min(j + outputs, W)):
                        # The definition: only taps inside the source.
                        row, col = h - before[0], w - before[1]
                        a, b = max(0, -row), max(0, -col)
                        taps = min(3, H_src - row) - a, min(3, W_src - col) - b
                        for c0 in range(0, C, width):
                            convolve_tile(
                                PIXELS, vectors, target, ((n * H + h) * W + w) * C + c0, 0,
                                source, ((n * H_src + row + a) * W_src + col + b) * K, 0,
                                weight, (a * 3 + b) * K * C + c0, C, bias, c0, use_bias, bounds,
                                (taps[0], taps[1], K), (W_src * K, K), (3 * K * C, K * C),
                                1, min(width, C - c0),
                            )  # fmt: skip

    return convolve


def _make_correlate(outputs: int, vectors: int):
    """The weight-gradient kernel whose register tile is `vectors` vectors of channels wide."""
    count_products = products(outputs)

    @kernel
    def correlate(span, partial, source, grad_output, before, parts, rows, workspaces, zeros,
                  block):  # fmt: skip
        # 2·(m + 2)²·tiles·K·C flop beside the transforms. Parallel over (chunk of tiles, part of
        # the output channels): each task owns its channels of partial[chunk].
        chunks, _, step = partial.shape
        N, H, W, C = grad_output.shape
        H_src, W_src, K = source.shape[1:]
        tiles_h, tiles_w = (H + outputs - 1) // outputs, (W + outputs - 1) // outputs
        tiles = N * tiles_h * tiles_w
        width = vectors * (VECTOR_BYTES // partial.itemsize)
        step_in, step_out = block * K + _GAP, block * C + _GAP
        columns = (C + width - 1) // width
        for task in tasks(span, chunks * parts):
            workspace = workspaces[thread(span)]
            spread = workspace[: count_products * step_in]
            gradient = workspace[count_products * step_in :]
            chunk, part = task // parts, task % parts
            c_first = columns * part // parts * width
            channels = min(columns * (part + 1) // parts * width, C) - c_first
            start, last = tiles * chunk // chunks, tiles * (chunk + 1) // chunks
            for first in range(start, last, block):
                count = min(block, last - first)
                for t in range(count):
                    n, position = divmod(first + t, tiles_h * tiles_w)
                    i, j = position // tiles_w * outputs, position % tiles_w * outputs
                    spread_tile(
                        outputs, GRADIENT, gradient, t * channels, step_out,
                        grad_output, ((n * H + i) * W + j) * C + c_first,
                        (W * C, C), (i, j), (H, W), zeros, channels,
                    )  # fmt: skip
                    i, j = i - before[0], j - before[1]
                    spread_tile(
                        outputs, INPUT, spread, t * K, step_in,
                        source, ((n * H_src + i) * W_src + j) * K,
                        (W_src * K, K), (i, j), (H_src, W_src), zeros, K,
                    )  # fmt: skip
                for xi in range(count_products):
                    for c in range(0, channels, width):
                        for k in range(0, K, PIXELS):
                            correlate_tile(
                                PIXELS, vectors,
                                partial, (chunk * count_products + xi) * step + k * C + c_first + c,
                                C, first > start,
                                spread, xi * step_in, rows, k,
                                gradient, xi * step_out + c,
                                (1, 1, count), (0, 0, K), (0, 0, channels),
                                min(PIXELS, K - k), min(width, channels - c),
                            )  # fmt: skip

    return correlate


def _make_gather_weight(outputs: int):
    @kernel
    def gather_weight(span, grad_weight, partial):
        """Add the chunks in their order; then dg = Gᵀ[…]G. Parallel over input channels."""
        chunks, count_products, step = partial.shape
        K, C = grad_weight.shape[2:]
        for k in tasks(span, K):
            for chunk in range(1, chunks):
                for xi in range(count_products):
                    total = partial[0, xi, k * C : (k + 1) * C]
                    term = partial[chunk, xi, k * C : (k + 1) * C]
                    for c in range(C):
                        total[c] += term[c]
            gather_tile(
                outputs, WEIGHT_GRADIENT, partial, k * C, step, grad_weight, k * C,
                (3 * K * C, K * C), (0, 0), (3, 3), grad_weight, grad_weight, 0, False, UNBOUNDED,
                C,
            )  # fmt: skip

    return gather_weight


_FORMS = [(outputs, vectors) for outputs in (2, 4) for vectors in (1, 2)]
_convolve = {form: _make_convolve(*form) for form in _FORMS}
_correlate = {form: _make_correlate(*form) for form in _FORMS}
_spread_weight = {outputs: _make_spread_weight(outputs) for outputs in (2, 4)}
_gather_weight = {outputs: _make_gather_weight(outputs) for outputs in (2, 4)}


def _split(scratch, size, K, C, outputs, block):
    """The first `size` elements, zeros, and a workspace for each thread."""
    zeros = scratch[size : size + max(K, C)]
    zeros[:] = 0
    first = size + max(K, C)
    last = first + MAX_THREADS * _block_elements(K, C, outputs, block)
    return scratch[:size], zeros, scratch[first:last].reshape(MAX_THREADS, -1)


def workspace(K: int, C: int, outputs: int, chunks: int = 0) -> int:
    """Elements: the products for each pair of channels, and what _split wants after them. chunks:
    of the weight gradient, which has these products for each of them."""
    block = _block(K, C, chunks > 0)
    size = max(1, chunks) * products(outputs) * _panels(K, C)
    return size + max(K, C) + MAX_THREADS * _block_elements(K, C, outputs, block)


def spread_elements(K: int, C: int, outputs: int) -> int:
    """Of the spread weight."""
    return products(outputs) * _panels(K, C)


def spread(panels, weight, zeros, plan):
    """Fill the panels that convolve reads. zeros: as many as the weight has channels."""
    width = plan.vectors * (VECTOR_BYTES // weight.itemsize)
    _spread_weight[plan.tile](panels.reshape(products(plan.tile), -1), weight, zeros, width)


def convolve(
    target, source, weight, bias, use_bias, bounds, scratch, dims, axes, plan, spread_weight=None
):
    """spread_weight: by `spread`; if there is none, it is made here."""
    K, C = weight.shape[2:]
    outputs, count = plan.tile, products(plan.tile)
    block, size = _block(K, C, False), spread_elements(K, C, outputs)
    panels, zeros, workspaces = _split(scratch, size, K, C, outputs, block)
    panels = (panels if spread_weight is None else spread_weight).reshape(count, -1)
    if spread_weight is None:
        spread(panels, weight, zeros, plan)
    _convolve[outputs, plan.vectors](
        target, source, weight, panels, bias, use_bias, bounds, axes.before, workspaces, zeros,
        block,
    )  # fmt: skip


@lru_cache(maxsize=256)
def _row_offsets(K: int) -> np.ndarray:
    """Where a spread pixel has its channels: one after the other."""
    return np.arange(K)


def correlate(grad_weight, grad_output, input, scratch, dims, plan):
    K, C = dims.C_in, dims.C_out
    outputs, count = plan.tile, products(plan.tile)
    size = plan.chunks * count * _panels(K, C)
    block = _block(K, C, True)
    partial, zeros, workspaces = _split(scratch, size, K, C, outputs, block)
    partial = partial.reshape(plan.chunks, count, -1)
    _correlate[outputs, plan.vectors](
        partial, input, grad_output, (dims.top, dims.left), plan.parts, _row_offsets(K), workspaces,
        zeros, block,
    )  # fmt: skip
    _gather_weight[outputs](grad_weight, partial)
