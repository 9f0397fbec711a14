"""From stored images to a batch in one pass: gather, crop, flip, rotate, resize, normalise.

Parallel over the batch's elements, each with one owner; neighbouring threads write neighbouring
channels and pixels. The tables stay in the nearest cache. An index outside the images reads
nothing: its image is background. `serial` speaks of the host's threads.
"""

from __future__ import annotations

from ._device import cuda, device
from ._index import arithmetic, index_bits
from ._launch import kernel, launch, over
from ._span import span


# N·H_out·W_out·C look-ups in a table of 1 KiB a channel.
@kernel
def _crop(real, bits):
    _, _, unravel = arithmetic(bits)

    def crop(
        out, images, indices, offsets, flips, table, background,
        M, H, W, C, H_out, W_out, size,
    ):  # fmt: skip
        for i in span(cuda.grid(1), size, cuda.gridsize(1)):
            n, oh, ow, c = unravel(i, H_out, W_out, C)
            m = indices[n]
            h = offsets[2 * n] + oh
            w = offsets[2 * n + 1] + (W_out - 1 - ow if flips[n] else ow)
            if 0 <= m < M and 0 <= h < H and 0 <= w < W:
                out[i] = table[c * 256 + images[((m * H + h) * W + w) * C + c]]
            else:
                out[i] = background[c]

    return crop


def augment_crop(out, images, indices, offsets, flips, table, background, serial):
    launch(
        _crop(out.dtype, index_bits(out.size)), over(out.size),
        out, images, indices, offsets, flips, table, background,
        *images.shape, *out.shape[1:3], out.size,
    )  # fmt: skip


def augment_affine_workspace(N, H, W, C):
    return 0


@device
def _clip(value, high, zero):
    """To [0, high]; 0 for NaN, so that no index made from it lies outside."""
    value = value if value > zero else zero
    return value if value < high else high


# About 40 flop and 4 look-ups an element.
@kernel
def _affine(real, bits):
    _, _, unravel = arithmetic(bits)

    def affine(
        out, images, indices, matrices, table, background,
        frame_h, frame_w, M, H, W, C, H_out, W_out, size,
    ):  # fmt: skip
        zero, half, one = real(0), real(0.5), real(1)
        edge_h, edge_w = real(frame_h), real(frame_w)
        for i in span(cuda.grid(1), size, cuda.gridsize(1)):
            n, oh, ow, c = unravel(i, H_out, W_out, C)
            m, a = indices[n], 6 * n  # matrices[n] begins at a
            x = matrices[a] * real(ow) + (matrices[a + 1] * real(oh) + matrices[a + 2])
            y = matrices[a + 3] * real(ow) + (matrices[a + 4] * real(oh) + matrices[a + 5])
            outside = background[c]
            if 0 <= m < M and -one < x < edge_w and -one < y < edge_h:
                covered_x = min(min(x + one, edge_w - x), one)
                covered_y = min(min(y + one, edge_h - y), one)
                x = _clip((x + half) * (real(W) / edge_w) - half, real(W - 1), zero)
                y = _clip((y + half) * (real(H) / edge_h) - half, real(H - 1), zero)
                x0, y0 = int(x), int(y)
                x1, y1 = min(x0 + 1, W - 1), min(y0 + 1, H - 1)
                right, below = x - real(x0), y - real(y0)
                upper, lower = ((m * H + y0) * W) * C + c, ((m * H + y1) * W) * C + c
                row = c * 256
                p00, p01 = table[row + images[upper + x0 * C]], table[row + images[upper + x1 * C]]
                p10, p11 = table[row + images[lower + x0 * C]], table[row + images[lower + x1 * C]]
                top, bottom = p00 + right * (p01 - p00), p10 + right * (p11 - p10)
                pixel = top + below * (bottom - top)
                bare = one - covered_x * covered_y
                out[i] = pixel + bare * (outside - pixel)
            else:  # NaN too
                out[i] = outside

    return affine


def augment_affine(
    out, images, indices, matrices, table, background, scratch, frame_h, frame_w, serial
):
    launch(
        _affine(out.dtype, index_bits(out.size)), over(out.size),
        out, images, indices, matrices, table, background,
        frame_h, frame_w, *images.shape, *out.shape[1:3], out.size,
    )  # fmt: skip
