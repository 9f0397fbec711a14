"""Direct convolution, weight gradient. Patches of the input: see _patch.py.

Arrays and formula as in conv_weight.py. A thread owns the weights of one row of taps, for a few
channels, and the pixels of a line of each tile. Threads with different pixels are added up in
shared memory, so that a block leaves one result for each weight.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...geometry import Conv2dDims
from ...runtime.cuda.array import DeviceArray
from ..protocol import UNLIMITED
from ._device import cuda
from ._index import index_bits, index_type
from ._launch import kernel, launch
from ._patch import COLS, MAX_THREADS, SHARED_BYTES, Block, Plan, shapes, staging, suits
from ._ptx import LANES, outer_products, vectors
from ._span import quotient
from ._span import span as span_of
from ._tile import COMBINED, FETCH, READ, VECTOR, WARPS, combine, split_off, vector_width


@kernel
def _correlate(
    real, kH, kW, stride_h, stride_w, channels, pixels, cols, across, wide, high,
    width, grad_width, stored, bits,
):  # fmt: skip
    block = Block(kH, kW, stride_h, stride_w, channels, pixels, cols, across, wide, high)
    index, int32, uint32 = index_type(bits), np.int32, np.uint32
    threads, tile_cols, block_cols = kH * block.threads, block.tile_cols, block.block_cols
    pitch, patch_size, results = block.pitch, block.patch, block.weights
    grads_size, groups = high * tile_cols * block_cols, wide * high
    shared_size = max(patch_size + grads_size, groups * results)
    stage = staging(block, threads, real, width, bits)
    vector = VECTOR // np.dtype(real).itemsize
    (fetch, put), (_, store) = vectors(grad_width), vectors(stored)
    read_sums, write_sums = vectors(vector)
    fetches = -(-grads_size // (threads * grad_width))
    length = fetches * grad_width
    rows, pixel_step, line_step = kW * channels, stride_w * channels, stride_h * pitch
    sum_count = rows * cols
    products = outer_products(
        rows, cols, pixels, vector, (1, vector, pixel_step), (1, vector, block_cols),
        block.run, block.gap,
    )  # fmt: skip
    group_step = block.run + block.gap

    def correlate(
        grad_weight, grad_output, input, span, N, C_in, H, W, C_out, H_out, W_out, top, left
    ):
        # 2·N·H_out·W_out·C_out·taps·C_in flop. A block owns the weights of `channels` input and
        # `block_cols` output channels, of one span of tiles of pixels; a thread a row of taps and
        # its pixels of each tile. The groups of threads with different pixels are added up last.
        panel = cuda.shared.array(shared_size, real, 16)
        grads_next = cuda.local.array(length, real)
        sums, part = cuda.local.array(sum_count, real), cuda.local.array(vector, real)
        for i in range(sum_count):
            sums[i] = real(0)

        number = int32(cuda.blockIdx.x)
        first_col, number = split_off(number, C_out, block_cols)
        first_k, split = split_off(number, C_in, channels)
        tiles_w = quotient(int32(W_out + tile_cols - 1), tile_cols)
        tiles_h = quotient(int32(H_out + high - 1), high)
        thread = uint32(cuda.threadIdx.x)
        col, group = uint32(thread % across * 4), uint32(thread // across)
        a, group = uint32(group % kH), uint32(group // kH)
        down, right = uint32(group // wide), uint32(group % wide * pixels)
        patch_at = uint32(down * line_step + a * pitch + group % wide * group_step)
        grads_at = uint32(patch_size + (down * tile_cols + right) * block_cols + col)

        first_tile = int32(split * span)
        end = int32(min(first_tile + span, N * tiles_h * tiles_w))
        for tile in span_of(first_tile, end, 1):
            line = quotient(tile, tiles_w)
            n = quotient(line, tiles_h)
            first_i = int32((line - n * tiles_h) * high)
            first_j = int32((tile - line * tiles_w) * tile_cols)
            first_h, first_w = int32(first_i * stride_h - top), int32(first_j * stride_w - left)
            stage(panel, input, n, first_h, first_w, H, W, C_in, first_k)
            for f in range(fetches):
                at = uint32((thread + f * threads) * grad_width)
                pixel, channel = uint32(at // block_cols), int32(first_col + at % block_cols)
                i, j = int32(first_i + pixel // tile_cols), int32(first_j + pixel % tile_cols)
                found = (at < grads_size) & (i < H_out) & (j < W_out) & (channel < C_out)
                line = index(index(n) * index(H_out) + index(i))
                read = index(index(line * index(W_out) + index(j)) * index(C_out) + index(channel))
                fetch(grads_next, f * grad_width, grad_output, read, found)
            for f in range(fetches):
                at = uint32((thread + f * threads) * grad_width)
                if at < grads_size:
                    put(panel, uint32(patch_size + at), grads_next, f * grad_width)
            cuda.syncthreads()
            # Pixels beyond the image have no part: an infinity that they read would become NaN.
            if int32(first_i + down) < H_out and int32(first_j + right) < W_out:
                products(sums, panel, patch_at, panel, grads_at)
            cuda.syncthreads()

        own = uint32(group * results + a * rows * block_cols + col)
        for i in range(rows):
            for c in range(0, cols, vector):
                write_sums(panel, uint32(own + i * block_cols + c), sums, i * cols + c)
        cuda.syncthreads()
        for first in span_of(uint32(thread * vector), results, threads * vector):
            at = uint32(first)
            for c in range(vector):
                sums[c] = real(0)
            for g in range(groups):
                read_sums(part, 0, panel, uint32(at + g * results), True)
                for c in range(vector):
                    sums[c] += part[c]
            row, channel = uint32(at // block_cols), int32(first_col + at % block_cols)
            tap = uint32(row // channels)
            k = int32(first_k + row - tap * channels)
            line = index(index(index(split) * (kH * kW) + tap) * index(C_in) + index(k))
            for c in range(0, vector, stored):
                if k < C_in and int32(channel + c) < C_out:
                    to = index(line * index(C_out) + index(int32(channel + c)))
                    store(grad_weight, to, sums, c)

    return correlate


def plan(d: Conv2dDims, itemsize: int) -> Plan | None:
    """None if this kind of convolution is not for here."""
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

    def share(block: Block) -> Plan:
        count, threads = block.tiles(N, H, W), kH * block.threads
        blocks = -(-C // block.block_cols) * -(-K // block.channels)
        span = -(-count // max(1, min(WARPS * LANES // (blocks * threads), count)))
        splits = -(-count // span)
        grads = block.high * block.tile_cols * block.block_cols
        products = block.pixels * (kW * block.channels * COLS + 2 * READ)
        each = products + FETCH * (block.patch + grads) / width / threads + 80
        added = 2 * kW * block.channels * COLS
        combined = COMBINED * splits * kH * kW * K * C if splits > 1 else 0
        everyone = max(blocks * splits * threads, WARPS * LANES)
        return Plan(everyone * (span * each + added + 150) + combined, block, splits, span)

    def fits(block: Block) -> bool:
        grads = block.high * block.tile_cols * block.block_cols
        groups = block.wide * block.high
        size = max(block.patch + grads, groups * block.weights)
        threads = kH * block.threads
        whole = W % block.pixels == 0 and threads % LANES == 0 and threads <= MAX_THREADS
        return whole and size * itemsize <= SHARED_BYTES and block.is_aligned

    head = kH, kW, stride_h, stride_w, min(K, 4)
    found = [Block(*head, pixels, COLS, *rest) for pixels, *rest in shapes(W, C)]
    return min((share(block) for block in found if fits(block)), default=None)


def correlate(
    grad_weight: DeviceArray,
    grad_output: DeviceArray,
    input: DeviceArray,
    scratch: DeviceArray,
    d: Conv2dDims,
    share: Plan,
) -> None:
    block, splits = share.block, share.splits
    out = scratch if splits > 1 else grad_weight
    bits = index_bits(out.size, grad_output.size, input.size)
    width = vector_width(d.C_in, input) if block.channels % 4 == 0 else 1
    grad_width, stored = vector_width(d.C_out, grad_output), vector_width(d.C_out, out)
    blocks = -(-d.C_out // block.block_cols) * -(-d.C_in // block.channels) * splits
    launch(
        _correlate(input.dtype, *block, width, grad_width, stored, bits),
        ((blocks,), (block.kH * block.threads,)), out, grad_output, input, share.span,
        d.N, d.C_in, d.H, d.W, d.C_out, d.H_out, d.W_out, d.top, d.left,
    )  # fmt: skip
    if splits > 1:
        combine(grad_weight, scratch, None, UNLIMITED, splits)
