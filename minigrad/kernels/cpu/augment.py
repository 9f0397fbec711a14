"""Data augmentation: from stored images to a batch in one pass, that is, gather, crop, flip,
rotate, resize, normalise.

A batch must be the same bits whether the serial or the parallel kernel made it. So the arithmetic
per image is compiled without reassociation, and each sum in it has one product at most, which
leaves one way to contract it.

`serial` asks for the calling thread alone: a loader's background thread must not start a second
parallel region beside the training step's.
"""

from __future__ import annotations

import numba
import numpy as np

from ._jit import kernel
from ._tasks import light_tasks


def _exact(function):
    """A helper without fastmath, compiled into the kernels of this file.

    Said explicitly: a helper that leaves it out inherits its caller's.
    """
    return numba.njit(fastmath=False, error_model="numpy", nogil=True)(function)


@_exact
def _crop_image(out, image, top, left, flip, table, background):
    H_out, W_out, C = out.shape
    H, W = image.shape[:2]
    # Columns [first, last) of the window lie inside the image.
    first = min(max(-left, 0), W_out)
    last = max(min(W - left, W_out), first)
    origin, step = (W_out - 1, -1) if flip else (0, 1)
    for oh in range(H_out):
        h = top + oh
        if h < 0 or h >= H:
            for ow in range(W_out):
                for c in range(C):
                    out[oh, ow, c] = background[c]
            continue
        for c in range(C):
            for w in range(first):
                out[oh, origin + step * w, c] = background[c]
            for w in range(first, last):
                out[oh, origin + step * w, c] = table[c, image[h, left + w, c]]
            for w in range(last, W_out):
                out[oh, origin + step * w, c] = background[c]


# N·H_out·W_out·C look-ups in a table of 1 KiB a channel. Parallel over images; each thread owns
# its images: deterministic.
@kernel
def _crop(span, out, images, indices, offsets, flips, table, background, elements):
    for n in light_tasks(span, out.shape[0], elements):
        _crop_image(
            out[n], images[indices[n]], offsets[n, 0], offsets[n, 1], flips[n], table, background
        )


def augment_crop(out, images, indices, offsets, flips, table, background, serial):
    elements = 0 if serial else out[:1].size
    _crop(out, images, indices, offsets, flips, table, background, elements)


@_exact
def _look_up(pixels, image, table):
    """What the image's pixels become, flat, and zeros for the reads beyond: see _sample_image."""
    H, W, C = image.shape
    for h in range(H):
        for c in range(C):
            for w in range(W):
                pixels[(h * W + w) * C + c] = table[c, image[h, w, c]]
    for i in range(H * W * C, pixels.size):
        pixels[i] = 0


@_exact
def _clip(value, high):
    """To [0, high]; 0 for NaN, so that no index made from it lies outside."""
    value = value if value > np.float32(0) else np.float32(0)
    return value if value < high else high


@_exact
def _between(p00, p01, p10, p11, right, below):
    upper = p00 + right * (p01 - p00)
    lower = p10 + right * (p11 - p10)
    return upper + below * (lower - upper)


@_exact
def _sample_image(out, pixels, matrix, background, H_out, W_out, H, W, frame_h, frame_w):
    # In the last column and row the right and lower neighbours are whatever follows in `pixels`,
    # with weight 0. Flat unsigned indices spare Numba's test for negative ones.
    f = np.float32
    next_column = np.uint64(background.size)
    next_row = np.uint64(W) * next_column
    half, one = f(0.5), f(1)
    scale_w, scale_h, last_w, last_h = f(W) / f(frame_w), f(H) / f(frame_h), f(W - 1), f(H - 1)
    edge_w, edge_h = f(frame_w), f(frame_h)
    xx, xy, yx, yy = matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[1, 1]
    at = np.uint64(0)
    for oh in range(H_out):
        row_x, row_y = xy * f(oh) + matrix[0, 2], yy * f(oh) + matrix[1, 2]
        for ow in range(W_out):
            x, y = xx * f(ow) + row_x, yx * f(ow) + row_y
            if x > -one and x < edge_w and y > -one and y < edge_h:
                covered_x = min(min(x + one, edge_w - x), one)
                covered_y = min(min(y + one, edge_h - y), one)
                bare = one - covered_x * covered_y
                x = _clip((x + half) * scale_w - half, last_w)
                y = _clip((y + half) * scale_h - half, last_h)
                x0, y0 = int(x), int(y)
                right, below = x - f(x0), y - f(y0)
                i = np.uint64(y0) * next_row + np.uint64(x0) * next_column
                for c in range(next_column):
                    pixel = _between(
                        pixels[i], pixels[i + next_column],
                        pixels[i + next_row], pixels[i + next_row + next_column], right, below,
                    )  # fmt: skip
                    out[at + c] = pixel + bare * (background[c] - pixel)
                    i += np.uint64(1)
            else:  # NaN too
                for c in range(next_column):
                    out[at + c] = background[c]
            at += next_column


def augment_affine_workspace(N, H, W, C):
    return N * (H * W + W + 1) * C


@_exact
def _affine_image(n, out, images, indices, matrices, table, background, scratch, frame_h, frame_w):
    H, W = images.shape[1:3]
    H_out, W_out = out.shape[1:3]
    size = scratch.size // out.shape[0]
    pixels = scratch[n * size : (n + 1) * size]
    _look_up(pixels, images[indices[n]], table)
    _sample_image(
        out[n].reshape(-1), pixels, matrices[n], background, H_out, W_out, H, W, frame_h, frame_w
    )


# About 30·C flop and 4·C gathers an output pixel, one look-up an input pixel. Parallel over images;
# each thread owns its images: deterministic.
@kernel
def _affine(span, out, images, indices, matrices, table, background, scratch, frame_h, frame_w,
            elements):  # fmt: skip
    for n in light_tasks(span, out.shape[0], elements):
        _affine_image(
            n, out, images, indices, matrices, table, background, scratch, frame_h, frame_w
        )


def augment_affine(
    out, images, indices, matrices, table, background, scratch, frame_h, frame_w, serial
):
    elements = 0 if serial else out[:1].size
    _affine(out, images, indices, matrices, table, background, scratch, frame_h, frame_w, elements)
