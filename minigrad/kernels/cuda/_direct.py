"""Direct convolution: a patch of the source in shared memory serves all taps of a tile of pixels.

An implicit GEMM (_tile.py) fetches a source pixel anew for every tap, with its own address and its
own comparison with the image's edges. Here a block owns a rectangle of target pixels of one image
and fetches what their taps read once. A thread owns neighbouring pixels of a line, so that what it
has read for one tap of a row serves the others from registers, too. Few channels do not leave a
tile empty: the terms of a row are its kW taps, each with all channels of the patch.

The size of the kernel, its stride and the number of channels of a patch are constants of the
compiled code: addresses within the patch are known to the compiler.

Arrays and formulas as in conv.py and conv_weight.py, for one group and dilation 1. The input
gradient of a convolution with stride 1 is a convolution with the kernel turned round:

    grad_input[n, i, j, k] = Σ_(a, b) Σ_c grad[n, i + top − a, j + left − b, c] · weight[a, b, k, c]

`plan_convolve` and `plan_correlate` say whether this takes fewer instructions than the tiles do.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from ...geometry import Conv2dDims
from ...runtime.cuda.array import DeviceArray
from . import _tile as tiles
from ._device import cuda, device
from ._index import index_bits, index_type
from ._launch import kernel, launch
from ._ptx import LANES, outer_products, vectors
from ._span import quotient
from ._span import span as span_of
from ._tile import VECTOR, WARPS, combine, finish, split_off, vector_width

_COLS = 4  # channels of the target that a thread computes, if there are as many
_SHARED = 48 * 1024  # bytes of shared memory that every GPU gives a block
_MAX_TERMS = 32  # of a kernel's row: kW taps with the channels of a patch
_MAX_THREADS = 256


class Block(NamedTuple):
    """What a block of threads owns: `across` groups of `cols` target channels, and a rectangle of
    wide · pixels columns and `high` lines of target pixels. channels: of the source, in a patch."""

    kH: int
    kW: int
    stride_h: int
    stride_w: int
    channels: int
    pixels: int
    cols: int
    across: int
    wide: int
    high: int

    @property
    def threads(self) -> int:
        """Each owns `pixels` neighbours of a line and `cols` channels."""
        return self.across * self.wide * self.high

    @property
    def tile_cols(self) -> int:
        return self.pixels * self.wide

    @property
    def block_cols(self) -> int:
        return _COLS * self.across

    @property
    def lines(self) -> int:
        """Of the patch."""
        return (self.high - 1) * self.stride_h + self.kH

    @property
    def line(self) -> int:
        """Numbers of a line of the patch, whole vectors."""
        pixels = (self.tile_cols - 1) * self.stride_w + self.kW
        return -(-pixels * self.channels // 4) * 4

    @property
    def run(self) -> int:
        """Numbers from what a thread reads of a line to what its neighbour reads. A gap follows
        them if neighbours would find their numbers in the same banks of shared memory."""
        return self.pixels * self.stride_w * self.channels

    @property
    def gap(self) -> int:
        return 4 if self.run % 8 == 0 else 0

    @property
    def pitch(self) -> int:
        """From a line to the next, an odd number of vectors, for the same reason."""
        return (self.line + (self.line - 1) // self.run * self.gap) // 8 * 8 + 4

    @property
    def patch(self) -> int:
        return self.lines * self.pitch

    @property
    def weights(self) -> int:
        """Numbers of the weights that belong to a patch."""
        return self.kH * self.kW * self.channels * self.block_cols

    @property
    def is_aligned(self) -> bool:
        """Whether what each thread reads of a line starts with a vector."""
        return self.run % 4 == 0

    def tiles(self, N: int, H: int, W: int) -> int:
        """How many rectangles cover N target images."""
        return N * -(-H // self.high) * -(-W // self.tile_cols)

    def row_instructions(self, width: int) -> int:
        """Of a thread, for the taps of one row of the kernel and the channels of a patch, with
        vectors of `width`."""
        terms = self.kW * self.channels
        line = (self.pixels - 1) * self.stride_w * self.channels + terms
        reads = -(-line // width) + terms * -(-self.cols // width)
        return terms * self.pixels * self.cols + tiles.READ * reads + 12


def _stage(block: Block, threads: int, real: Any, width: int, bits: int) -> Any:
    """A device function that fetches a patch in vectors of `width`."""
    int32, uint32 = np.int32, np.uint32
    lines, pitch, channels = block.lines, block.pitch, block.channels
    line_size, run, gap = block.line, block.run, block.gap
    count = int32 if bits == 32 else np.int64
    # The lanes share a line, `rows` lines at a time.
    columns = line_size // width
    lanes = -(-columns // -(-columns // threads))
    rows = threads // lanes
    fetches = -(-lines // rows)
    length = fetches * width
    fetch, put = vectors(width)

    @device
    def stage(patch, source, n, first_h, first_w, H, W, C, first_channel):
        """patch[line, pixel, channel] = source[n, first_h + line, first_w + pixel,
        first_channel + channel], 0 outside the image."""
        numbers = cuda.local.array(length, real)
        thread = uint32(cuda.threadIdx.x)
        down, across = uint32(thread // lanes), uint32(thread % lanes)
        step = np.int64(W) * C * rows
        for x in span_of(uint32(across * width), line_size, lanes * width):
            pixel = quotient(x, channels)
            channel = int32(first_channel + x - pixel * channels)
            w = int32(first_w + pixel)
            inside = (uint32(w) < uint32(W)) & (channel < C)
            line = count(count(n) * H + first_h + down)
            at = np.int64(count(count(line * W + w) * C + channel))
            for i in range(fetches):
                h = uint32(first_h + down + i * rows)
                fetch(numbers, i * width, source, at, inside & (h < uint32(H)))
                at += step
            to = np.int64(uint32(down * pitch + x + quotient(x, run) * gap))
            for i in range(fetches):
                if down < rows and uint32(down + i * rows) < lines:
                    put(patch, to + i * rows * pitch, numbers, i * width)

    return stage


class Plan(NamedTuple):
    """cost: instructions of all threads, as in _tile.py. A weight gradient is cut into so many
    splits, each a span of tiles of pixels."""

    cost: float
    block: Block
    splits: int = 1
    span: int = 0


# Forward and input gradient ----------------------------------------------------------------------


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
    stage = _stage(block, threads, real, width, bits)
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

    def convolve(
        target, source, weight, bias, relu, N, H, W, K, H_target, W_target, C, before_h, before_w
    ):
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
                row, channel = uint32(at // block_cols), int32(first_col + at % block_cols)
                tap = uint32(row // channels)
                k = int32(first_k + row - tap * channels)
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
                if at < weights_size:
                    put(weights, at, weights_next, i * weight_width)
            cuda.syncthreads()
            for a in span_of(0, kH, 1):
                line = uint32(panel_at + a * pitch)
                products(sums, patch, line, weights, uint32(a * row_weights + col))
            cuda.syncthreads()

        for p in range(pixels):
            for j in range(cols):
                channel = index(min(int32(first_col + col + j), int32(C - 1)))
                sums[p * cols + j] = finish(sums[p * cols + j], bias, channel, relu, real(0))
        i = int32(first_i + down)
        line = index(index(n) * index(H_target) + index(i))
        for at in range(0, sum_count, stored):
            j, channel = int32(first_j + right + at // cols), int32(first_col + col + at % cols)
            if i < H_target and j < W_target and channel < C:
                pixel = index(line * index(W_target) + index(j))
                store(target, index(pixel * index(C) + index(channel)), sums, at)

    return convolve


def plan_convolve(d: Conv2dDims, adjoint: bool, itemsize: int) -> Plan | None:
    """None if this kind of convolution is not for here."""
    if adjoint:
        if (d.stride_h, d.stride_w) != (1, 1):
            return None
        sizes = d.N, d.H, d.W, d.C_in, d.C_out
    else:
        sizes = d.N, d.H_out, d.W_out, d.C_out, d.C_in
    if not _suits(d, sizes):
        return None
    return _plan_convolve(*sizes, d.kH, d.kW, d.stride_h, d.stride_w, itemsize)


def _suits(d: Conv2dDims, sizes: tuple[int, ...]) -> bool:
    one = d.groups == d.dilation_h == d.dilation_w == 1
    return one and d.kH * d.kW > 1 and 0 not in sizes


@lru_cache(1024)
def _plan_convolve(
    N: int, H: int, W: int, C: int, K: int, kH: int, kW: int, stride_h: int, stride_w: int,
    itemsize: int,
) -> Plan | None:  # fmt: skip
    width = VECTOR // itemsize

    def cost(block: Block) -> float:
        threads = block.tiles(N, H, W) * -(-C // block.block_cols) * block.threads
        fetched = (block.patch + block.weights) / width / block.threads
        chunk = kH * block.row_instructions(width) + tiles.FETCH * fetched + 60
        chunks, stored = -(-K // block.channels), 4 * block.pixels * block.cols
        return max(threads, WARPS * LANES) * (chunks * chunk + stored + 100)

    def fits(block: Block) -> bool:
        bytes = (block.patch + block.weights) * itemsize
        return bytes <= _SHARED and block.threads % LANES == 0 and block.is_aligned

    head = kH, kW, stride_h, stride_w, _channels(K, kW, itemsize)
    found = [
        Block(*head, pixels, min(_COLS, C), across, wide, high)
        for pixels, across, wide, high in _shapes(W, C)
    ]
    return min((Plan(cost(block), block) for block in found if fits(block)), default=None)


def _channels(K: int, kW: int, itemsize: int) -> int:
    """Of a patch: all of few, else 32 bytes of a pixel at a time, which memory moves as one; fewer
    of a wide kernel."""
    channels = K if K <= 4 else VECTOR * 2 // itemsize
    while channels > 4 and kW * channels > _MAX_TERMS:
        channels //= 2
    return channels


def _shapes(W: int, C: int) -> Iterator[tuple[int, int, int, int]]:
    """(pixels, across, wide, high) of blocks with up to _MAX_THREADS threads."""
    for pixels, across, wide, high in itertools.product((8, 4, 2), *[(1, 2, 4, 8, 16, 32)] * 3):
        whole = pixels * (wide // 2) < W and _COLS * (across // 2) < C
        if whole and across * wide * high <= _MAX_THREADS and pixels * wide <= 64:
            yield pixels, across, wide, high


def convolve(
    target: DeviceArray,
    source: DeviceArray,
    weight: DeviceArray,
    bias: DeviceArray | None,
    d: Conv2dDims,
    relu: bool,
    adjoint: bool,
    block: Block,
) -> None:
    bits = index_bits(target.size, source.size, weight.size)
    C, K = (d.C_in, d.C_out) if adjoint else (d.C_out, d.C_in)
    vectors_of_k = block.channels % 4 == 0
    width = vector_width(K, source) if vectors_of_k else 1
    weight_width = 1 if adjoint else vector_width(C, weight)
    if adjoint:
        image = d.H_out, d.W_out, K, d.H, d.W, C, d.kH - 1 - d.top, d.kW - 1 - d.left
    else:
        image = d.H, d.W, K, d.H_out, d.W_out, C, d.top, d.left
    H_target, W_target = image[3:5]
    if block.cols == _COLS:
        stored = vector_width(C, target)
    else:  # all channels, so that a thread's pixels are neighbours, if all lie in the image
        together = block.pixels * C if W_target % block.pixels == 0 else 1
        stored = gcd(together, vector_width(0, target))
    blocks = block.tiles(d.N, H_target, W_target) * -(-C // block.block_cols)
    launch(
        _convolve(target.dtype, *block, width, weight_width, stored, bits, int(adjoint)),
        ((blocks,), (block.threads,)), target, source, weight, bias, relu, d.N, *image,
    )  # fmt: skip


# Weight gradient ---------------------------------------------------------------------------------


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
    stage = _stage(block, threads, real, width, bits)
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


def plan_correlate(d: Conv2dDims, itemsize: int) -> Plan | None:
    """None if this kind of convolution is not for here."""
    sizes = d.N, d.H_out, d.W_out, d.C_out, d.C_in
    if not _suits(d, sizes):
        return None
    return _plan_correlate(*sizes, d.kH, d.kW, d.stride_h, d.stride_w, itemsize)


@lru_cache(1024)
def _plan_correlate(
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
        products = block.pixels * (kW * block.channels * _COLS + 2 * tiles.READ)
        each = products + tiles.FETCH * (block.patch + grads) / width / threads + 80
        added = 2 * kW * block.channels * _COLS
        combined = tiles.COMBINED * splits * kH * kW * K * C if splits > 1 else 0
        everyone = max(blocks * splits * threads, WARPS * LANES)
        return Plan(everyone * (span * each + added + 150) + combined, block, splits, span)

    def fits(block: Block) -> bool:
        grads = block.high * block.tile_cols * block.block_cols
        groups = block.wide * block.high
        size = max(block.patch + grads, groups * block.weights)
        threads = kH * block.threads
        whole = W % block.pixels == 0 and threads % LANES == 0 and threads <= _MAX_THREADS
        return whole and size * itemsize <= _SHARED and block.is_aligned

    head = kH, kW, stride_h, stride_w, min(K, 4)
    if kW * min(K, 4) > _MAX_TERMS:
        return None
    found = [Block(*head, pixels, _COLS, *rest) for pixels, *rest in _shapes(W, C)]
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
        combine(grad_weight, scratch, None, False, splits)
