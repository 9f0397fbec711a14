"""Direct convolution, forward and input gradient. Patches of the source: see _patch.py.

Arrays and formulas as in conv.py. The input gradient of a convolution with stride 1 is a
convolution with the kernel turned round:

    grad_input[n, i, j, k] = Σ_(a, b) Σ_c grad[n, i + top − a, j + left − b, c] · weight[a, b, k, c]
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np

from ...geometry import Conv2dDims
from ...runtime.cuda.array import DeviceArray
from ._device import cuda, device, limited
from ._index import index_bits, index_type
from ._launch import kernel, launch
from ._patch import COLS, MAX_TERMS, SHARED_BYTES, Block, Plan, shapes, staging, suits
from ._ptx import LANES, outer_products, vectors
from ._span import span as span_of
from ._tile import FETCH, VECTOR, WARPS, biased, split_off, vector_width


@kernel
def _convolve(
    real, kH, kW, stride_h, stride_w, channels, pixels, cols, across, wide, high,
    width, weight_width, stored, bits, turned,
):  # fmt: skip
    block = Block(kH, kW, stride_h, stride_w, channels, pixels, cols, across, wide, high)
    index, int32, uint32 = index_type(bits), np.int32, np.uint32
    threads, tile_cols, block_cols = block.threads, block.tile_cols, block.block_cols
    pitch, patch_size, weights_size, sum_count = (
        block.pitch, block.patch, block.weights, pixels * cols,
    )  # fmt: skip
    stage = staging(block, threads, real, width, bits)
    (fetch, put), (_, store) = vectors(weight_width), vectors(stored)
    fetches = -(-weights_size // (threads * weight_width))
    length = fetches * weight_width
    taps, vector = kH * kW, VECTOR // np.dtype(real).itemsize
    pixel_step, line_step, row_weights = (
        stride_w * channels, stride_h * pitch, kW * channels * block_cols,
    )  # fmt: skip
    products = outer_products(
        pixels, cols, kW * channels, vector,
        (pixel_step, vector * pixel_step, 1), (1, vector, block_cols), block.run, block.gap,
    )  # fmt: skip
    group_step = block.run + block.gap

    @device
    def place(at):
        """(tap, source channel, target channel) of the at-th weight, in the order of memory."""
        if turned:
            line = uint32(at // channels)
            return uint32(line // block_cols), uint32(at % channels), uint32(line % block_cols)
        line = uint32(at // block_cols)
        return uint32(line // channels), uint32(line % channels), uint32(at % block_cols)

    def convolve(
        target, source, weight, bias, least, most, N, H, W, K, H_target, W_target, C,
        before_h, before_w,
    ):  # fmt: skip
        # 2·N·H_target·W_target·C·taps·K flop. A block owns its rectangle of one image, 4·across
        # channels of it.
        patch = cuda.shared.array(patch_size, real, 16)
        weights = cuda.shared.array(weights_size, real, 16)
        weights_next = cuda.local.array(length, real)
        sums = cuda.local.array(sum_count, real)
        for i in range(sum_count):
            sums[i] = real(0)

        number = int32(cuda.blockIdx.x)
        first_col, number = split_off(number, C, block_cols)
        first_j, number = split_off(number, W_target, tile_cols)
        first_i, n = split_off(number, H_target, high)
        thread = uint32(cuda.threadIdx.x)
        col, group = uint32(thread % across * 4), uint32(thread // across)
        down, right = uint32(group // wide), uint32(group % wide * pixels)
        panel_at = uint32(down * line_step + group % wide * group_step)
        first_h = int32(first_i * stride_h - before_h)
        first_w = int32(first_j * stride_w - before_w)

        for first_k in span_of(0, K, channels):
            stage(patch, source, n, first_h, first_w, H, W, K, first_k)
            for i in range(fetches):
                at = uint32((thread + i * threads) * weight_width)
                tap, k, c = place(at)
                channel, k = int32(first_col + c), int32(first_k + k)
                found = (at < weights_size) & (channel < C) & (k < K)
                if turned:
                    line = index(index(taps - 1 - tap) * index(C) + index(channel))
                    read = index(line * index(K) + index(k))
                else:
                    line = index(index(tap) * index(K) + index(k))
                    read = index(line * index(C) + index(channel))
                fetch(weights_next, i * weight_width, weight, read, found)
            for i in range(fetches):
                at = uint32((thread + i * threads) * weight_width)
                if at < weights_size and turned:
                    tap, k, c = place(at)
                    to = uint32((tap * channels + k) * block_cols + c)
                    for number in range(weight_width):
                        weights[to + number * block_cols] = weights_next[i * weight_width + number]
                elif at < weights_size:
                    put(weights, at, weights_next, i * weight_width)
            cuda.syncthreads()
            for a in span_of(0, kH, 1):
                line = uint32(panel_at + a * pitch)
                products(sums, patch, line, weights, uint32(a * row_weights + col))
            cuda.syncthreads()

        for each in range(sum_count):
            channel = index(min(int32(first_col + col + each % cols), int32(C - 1)))
            sums[each] = limited(biased(sums[each], bias, channel), least, most)
        i = int32(first_i + down)
        line = index(index(n) * index(H_target) + index(i))
        for at in range(0, sum_count, stored):
            j, channel = int32(first_j + right + at // cols), int32(first_col + col + at % cols)
            if i < H_target and j < W_target and channel < C:
                pixel = index(line * index(W_target) + index(j))
                store(target, index(pixel * index(C) + index(channel)), sums, at)

    return convolve


def plan(d: Conv2dDims, adjoint: bool, itemsize: int) -> Plan | None:
    """None if this kind of convolution is not for here."""
    if adjoint:
        if (d.stride_h, d.stride_w) != (1, 1):
            return None
        sizes = d.N, d.H, d.W, d.C_in, d.C_out
    else:
        sizes = d.N, d.H_out, d.W_out, d.C_out, d.C_in
    if not suits(d, sizes):
        return None
    return _plan(*sizes, d.kH, d.kW, d.stride_h, d.stride_w, itemsize)


@lru_cache(1024)
def _plan(
    N: int, H: int, W: int, C: int, K: int, kH: int, kW: int, stride_h: int, stride_w: int,
    itemsize: int,
) -> Plan | None:  # fmt: skip
    width = VECTOR // itemsize

    def cost(block: Block) -> float:
        threads = block.tiles(N, H, W) * -(-C // block.block_cols) * block.threads
        fetched = (block.patch + block.weights) / width / block.threads
        chunk = kH * block.row_instructions(width) + FETCH * fetched + 60
        chunks, stored = -(-K // block.channels), 4 * block.pixels * block.cols
        return max(threads, WARPS * LANES) * (chunks * chunk + stored + 100)

    def fits(block: Block) -> bool:
        bytes = (block.patch + block.weights) * itemsize
        return bytes <= SHARED_BYTES and block.threads % LANES == 0 and block.is_aligned

    head = kH, kW, stride_h, stride_w, _channels(K, kW, itemsize)
    found = [
        Block(*head, pixels, min(COLS, C), across, wide, high)
        for pixels, across, wide, high in shapes(W, C)
    ]
    return min((Plan(cost(block), block) for block in found if fits(block)), default=None)


def _channels(K: int, kW: int, itemsize: int) -> int:
    """Of a patch: all of few, else 32 bytes of a pixel at a time, which memory moves as one; fewer
    of a wide kernel."""
    channels = K if K <= 4 else VECTOR * 2 // itemsize
    while channels > 4 and kW * channels > MAX_TERMS:
        channels //= 2
    return channels


def convolve(
    target: DeviceArray,
    source: DeviceArray,
    weight: DeviceArray,
    bias: DeviceArray | None,
    d: Conv2dDims,
    bounds: tuple[float, float],
    adjoint: bool,
    block: Block,
) -> None:
    bits = index_bits(target.size, source.size, weight.size)
    C, K = (d.C_in, d.C_out) if adjoint else (d.C_out, d.C_in)
    vectors_of_k = block.channels % 4 == 0
    width = vector_width(K, source) if vectors_of_k else 1
    by_k = vector_width(K, weight) if vectors_of_k else 1
    weight_width = by_k if adjoint else vector_width(C, weight)
    if adjoint:
        image = d.H_out, d.W_out, K, d.H, d.W, C, d.kH - 1 - d.top, d.kW - 1 - d.left
    else:
        image = d.H, d.W, K, d.H_out, d.W_out, C, d.top, d.left
    H_target, W_target = image[3:5]
    if block.cols == COLS:
        stored = vector_width(C, target)
    else:  # all channels, so that a thread's pixels are neighbours, if all lie in the image
        together = block.pixels * C if W_target % block.pixels == 0 else 1
        stored = gcd(together, vector_width(0, target))
    blocks = block.tiles(d.N, H_target, W_target) * -(-C // block.block_cols)
    launch(
        _convolve(target.dtype, *block, width, weight_width, stored, bits, int(adjoint)),
        ((blocks,), (block.threads,)), target, source, weight, bias, *bounds, d.N, *image,
    )  # fmt: skip
