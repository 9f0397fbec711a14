"""Data augmentation: from stored images to a batch, by definition: gather, move, look up.

Pixels are uint8. `table[c, v]` is what the value v of channel c becomes (scaling and
normalisation in one look-up), `background[c]` what lies outside an image.
"""

from __future__ import annotations

from math import floor

import numpy as np


def augment_crop(out, images, indices, offsets, flips, table, background, serial):
    """out[n, oh, ow, c] = table[c, images[indices[n], top + oh, left + w, c]]

    with (top, left) = offsets[n] and w = ow, or W_out − 1 − ow if flips[n].
    """
    W_out, (H, W) = out.shape[2], images.shape[1:3]
    for n, oh, ow, c in np.ndindex(out.shape):
        h = offsets[n, 0] + oh
        w = offsets[n, 1] + (W_out - 1 - ow if flips[n] else ow)
        inside = 0 <= h < H and 0 <= w < W
        out[n, oh, ow, c] = table[c, images[indices[n], h, w, c]] if inside else background[c]


def augment_affine(
    out, images, indices, matrices, table, background, scratch, frame_h, frame_w, serial
):
    """Sample each image, resized to frame_h × frame_w, at (x, y) = matrices[n] · (ow, oh, 1).

    The resized image at (x, y) is the stored one at x' = (x + ½)·W / frame_w − ½, clamped to it,
    between its four nearest pixels. Beyond the frame the background takes over linearly within one
    pixel: covered = clip(min(x + 1, frame_w − x), 0, 1), times the same of y. With frame = (H, W)
    this is bilinear sampling among pixels surrounded by background; with the identity as matrix it
    is bilinear resizing.
    """
    f = np.float32
    N, H_out, W_out, C = out.shape
    H, W = images.shape[1:3]
    scale_h, scale_w = f(H) / f(frame_h), f(W) / f(frame_w)
    half, one = f(0.5), f(1)
    for n, oh, ow in np.ndindex(N, H_out, W_out):
        m = matrices[n]
        x = m[0, 0] * f(ow) + (m[0, 1] * f(oh) + m[0, 2])
        y = m[1, 0] * f(ow) + (m[1, 1] * f(oh) + m[1, 2])
        if not (-1 < x < frame_w and -1 < y < frame_h):
            out[n, oh, ow] = background
            continue
        covered_x = min(min(x + one, f(frame_w) - x), one)
        covered_y = min(min(y + one, f(frame_h) - y), one)
        covered = covered_x * covered_y
        x = min(max((x + half) * scale_w - half, f(0)), f(W - 1))
        y = min(max((y + half) * scale_h - half, f(0)), f(H - 1))
        x0, y0 = floor(x), floor(y)
        x1, y1 = min(x0 + 1, W - 1), min(y0 + 1, H - 1)
        right, below = x - f(x0), y - f(y0)
        image = images[indices[n]]
        for c in range(C):
            p00, p01 = table[c, image[y0, x0, c]], table[c, image[y0, x1, c]]
            p10, p11 = table[c, image[y1, x0, c]], table[c, image[y1, x1, c]]
            upper = (one - right) * p00 + right * p01
            lower = (one - right) * p10 + right * p11
            pixel = (one - below) * upper + below * lower
            if covered < one:
                pixel = covered * pixel + (one - covered) * background[c]
            out[n, oh, ow, c] = pixel
