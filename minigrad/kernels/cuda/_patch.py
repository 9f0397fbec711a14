"""Direct convolution, what its kernels have in common: a patch of the source in shared memory.

An implicit GEMM (_tile.py) fetches a source pixel anew for every tap, with its own address and its
own comparison with the image's edges. Here a block owns a rectangle of target pixels of one image
and fetches what their taps read once. A thread owns neighbouring pixels of a line, so that what it
has read for one tap of a row serves the others from registers, too. Few channels do not leave a
tile empty: the terms of a row are its kW taps, each with all channels of the patch.

The size of the kernel, its stride and the number of channels of a patch are constants of the
compiled code: addresses within the patch are known to the compiler. For one group and dilation 1.

A plan has the number of instructions of all threads, to be compared with that of the tiles.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ...geometry import Conv2dDims
from ._device import cuda, device
from ._ptx import vectors
from ._span import quotient
from ._span import span as span_of
from ._tile import READ

COLS = 4  # channels of the target that a thread computes, if there are as many
SHARED_BYTES = 48 * 1024  # of shared memory, which every GPU gives a block
MAX_TERMS = 32  # of a kernel's row, kW taps with the channels of a patch: they are unrolled
MAX_THREADS = 256


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
        return COLS * self.across

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
        return terms * self.pixels * self.cols + READ * reads + 12


def staging(block: Block, threads: int, real: Any, width: int, bits: int) -> Any:
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


def suits(d: Conv2dDims, sizes: tuple[int, ...]) -> bool:
    """sizes: none is 0; the last is the number of source channels."""
    one = d.groups == d.dilation_h == d.dilation_w == 1
    narrow = d.kW * min(sizes[-1], 4) <= MAX_TERMS
    return one and narrow and d.kH * d.kW > 1 and 0 not in sizes


def shapes(W: int, C: int) -> Iterator[tuple[int, int, int, int]]:
    """(pixels, across, wide, high) of blocks with up to MAX_THREADS threads."""
    for pixels, across, wide, high in itertools.product((8, 4, 2), *[(1, 2, 4, 8, 16, 32)] * 3):
        whole = pixels * (wide // 2) < W and COLS * (across // 2) < C
        if whole and across * wide * high <= MAX_THREADS and pixels * wide <= 64:
            yield pixels, across, wide, high
