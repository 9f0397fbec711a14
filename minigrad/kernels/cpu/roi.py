"""RoI pooling and RoI align: pooling over regions of interest, on channels-last arrays: the inner
loops run over channels.

Forward passes are parallel over (region, row of bins), each task owning its row of results.
Backward passes are parallel over (image, block of channels): each task owns those channels of that
image and goes through the image's regions in order, so overlapping regions add up in a fixed order.
"""

from __future__ import annotations

import math

import numpy as np

from ..formulas import box_overlap, roi_axis, roi_cells, roi_corners
from ._jit import helper, kernel, serial_kernel
from ._tasks import tasks

# Channels of one backward task. With 16 of 256 channels it would skip through gradients and image
# in steps of 1 KiB, which share few lines of a cache: four times as long.
_BLOCK = 128
_LEAST = -float(np.finfo(np.float32).max)


@serial_kernel
def roi_check(bad, boxes, N, spatial_scale, largest):
    bad[0] = len(boxes)
    for k in range(len(boxes) - 1, -1, -1):
        image = boxes[k, 0]
        x1, y1 = boxes[k, 1] * spatial_scale, boxes[k, 2] * spatial_scale
        x2, y2 = boxes[k, 3] * spatial_scale, boxes[k, 4] * spatial_scale
        fits = 0 <= image < N and image == math.floor(image)
        for value in (x1, y1, x2, y2):
            fits = fits and abs(value) < 2**31 - 1  # and is no NaN
        if not fits or max(x2 - x1, 1.0) * max(y2 - y1, 1.0) > largest:
            bad[0] = k


# Maximum ------------------------------------------------------------------------------------


@helper
def _take_larger(best, place, cells, position):
    for c in range(len(best)):
        larger = cells[c] > best[c]
        best[c] = cells[c] if larger else best[c]
        place[c] = position if larger else place[c]


def roi_pool_forward(out, argmax, input, boxes, spatial_scale):
    _roi_pool_forward(out, argmax, input, boxes, input.dtype.type(spatial_scale))


@kernel
def _roi_pool_forward(span, out, argmax, input, boxes, spatial_scale):
    H, W = input.shape[1:3]
    K, H_out, W_out, _ = out.shape
    dtype = input.dtype.type
    for task in tasks(span, K * H_out):
        k, ph = task // H_out, task % H_out
        n = int(boxes[k, 0])
        x1, y1, x2, y2 = boxes[k, 1], boxes[k, 2], boxes[k, 3], boxes[k, 4]
        top, bottom = roi_cells(y1, y2, ph, H_out, H, spatial_scale, dtype)
        for pw in range(W_out):
            left, right = roi_cells(x1, x2, pw, W_out, W, spatial_scale, dtype)
            best, place = out[k, ph, pw], argmax[k, ph, pw]
            best[:] = 0 if top >= bottom or left >= right else dtype(_LEAST)
            place[:] = -1
            for h in range(top, bottom):
                for w in range(left, right):
                    _take_larger(best, place, input[n, h, w], np.int32(h * W + w))


@helper
def _add_at(image, grads, places, stride):
    """image[place·stride + c] += grads[c] for the channels c that have a place."""
    for c in range(len(grads)):
        if places[c] >= 0:
            image[np.uint64(places[c]) * stride + np.uint64(c)] += grads[c]


@kernel
def roi_pool_backward_input(span, grad_input, grad_output, argmax, boxes):
    N, _, _, C = grad_input.shape
    K, H_out, W_out, _ = grad_output.shape
    bins = H_out * W_out
    grads, places = grad_output.reshape(K * bins, C), argmax.reshape(K * bins, C)
    blocks = (C + _BLOCK - 1) // _BLOCK
    for task in tasks(span, N * blocks):
        n, first = task // blocks, task % blocks * _BLOCK
        last = min(first + _BLOCK, C)
        grad_input[n, :, :, first:last] = 0
        image = grad_input[n].reshape(-1)[first:]
        for k in range(K):
            if int(boxes[k, 0]) == n:
                for bin in range(k * bins, (k + 1) * bins):
                    _add_at(image, grads[bin, first:last], places[bin, first:last], np.uint64(C))


# Bilinear mean ------------------------------------------------------------------------------


@helper
def _add_point(total, top_left, top_right, bottom_left, bottom_right, weights):
    a, b, c, d = weights
    for i in range(len(total)):
        total[i] += a * top_left[i] + b * top_right[i] + c * bottom_left[i] + d * bottom_right[i]


@helper
def _add_scaled(target, source, scale):
    for i in range(len(target)):
        target[i] += source[i] * scale


def roi_align_forward(out, input, boxes, spatial_scale, sampling_ratio, aligned):
    scale = input.dtype.type(spatial_scale)
    _roi_align_forward(out, input, boxes, scale, sampling_ratio, aligned)


@kernel
def _roi_align_forward(span, out, input, boxes, spatial_scale, sampling_ratio, aligned):
    H, W = input.shape[1:3]
    K, H_out, W_out, _ = out.shape
    dtype = input.dtype.type
    for task in tasks(span, K * H_out):
        k, ph = task // H_out, task % H_out
        image = input[int(boxes[k, 0])]
        y0, bin_h, grid_h = roi_axis(
            boxes[k, 2], boxes[k, 4], H_out, spatial_scale, sampling_ratio, aligned, dtype
        )
        x0, bin_w, grid_w = roi_axis(
            boxes[k, 1], boxes[k, 3], W_out, spatial_scale, sampling_ratio, aligned, dtype
        )
        share = dtype(1) / dtype(max(grid_h * grid_w, 1))
        for pw in range(W_out):
            total = out[k, ph, pw]
            total[:] = 0
            for i in range(grid_h):
                h, h1, weight_h, weight_h1 = roi_corners(y0, bin_h, ph, i, grid_h, H, dtype)
                for j in range(grid_w):
                    w, w1, weight_w, weight_w1 = roi_corners(x0, bin_w, pw, j, grid_w, W, dtype)
                    if h >= 0 and w >= 0:
                        weights = (
                            weight_h * weight_w, weight_h * weight_w1,
                            weight_h1 * weight_w, weight_h1 * weight_w1,
                        )  # fmt: skip
                        _add_point(
                            total, image[h, w], image[h, w1], image[h1, w], image[h1, w1], weights
                        )
            for c in range(len(total)):
                total[c] *= share


def roi_align_backward_input(
    grad_input, grad_output, boxes, spatial_scale, sampling_ratio, aligned
):
    scale = grad_input.dtype.type(spatial_scale)
    _roi_align_backward_input(grad_input, grad_output, boxes, scale, sampling_ratio, aligned)


@kernel
def _roi_align_backward_input(
    span, grad_input, grad_output, boxes, spatial_scale, sampling_ratio, aligned
):
    N, H, W, C = grad_input.shape
    K, H_out, W_out, _ = grad_output.shape
    dtype = grad_input.dtype.type
    blocks = (C + _BLOCK - 1) // _BLOCK
    for task in tasks(span, N * blocks):
        n, first = task // blocks, task % blocks * _BLOCK
        last = min(first + _BLOCK, C)
        image = grad_input[n, :, :, first:last]
        image[...] = 0
        for k in range(K):
            if int(boxes[k, 0]) != n:
                continue
            y0, bin_h, grid_h = roi_axis(
                boxes[k, 2], boxes[k, 4], H_out, spatial_scale, sampling_ratio, aligned, dtype
            )
            x0, bin_w, grid_w = roi_axis(
                boxes[k, 1], boxes[k, 3], W_out, spatial_scale, sampling_ratio, aligned, dtype
            )
            share = dtype(1) / dtype(max(grid_h * grid_w, 1))
            for bin in range(H_out * W_out):
                ph, pw = bin // W_out, bin % W_out
                grad = grad_output[k, ph, pw, first:last]
                for i in range(grid_h):
                    h, h1, weight_h, weight_h1 = roi_corners(y0, bin_h, ph, i, grid_h, H, dtype)
                    for j in range(grid_w):
                        w, w1, weight_w, weight_w1 = roi_corners(x0, bin_w, pw, j, grid_w, W, dtype)
                        if h >= 0 and w >= 0:
                            _add_scaled(image[h, w], grad, weight_h * weight_w * share)
                            _add_scaled(image[h, w1], grad, weight_h * weight_w1 * share)
                            _add_scaled(image[h1, w], grad, weight_h1 * weight_w * share)
                            _add_scaled(image[h1, w1], grad, weight_h1 * weight_w1 * share)


# Suppression --------------------------------------------------------------------------------


@serial_kernel
def nms_forward(keep, boxes, order, groups, iou_threshold):
    # K²/2 overlaps at most. Each kept box decides over later ones: one after the other.
    real = boxes.dtype.type
    keep[:] = True
    for i in range(len(order)):
        first = order[i]
        if keep[first]:
            x1, y1, x2, y2 = boxes[first]
            for j in range(i + 1, len(order)):
                other = order[j]
                if keep[other] and groups[other] == groups[first]:
                    overlap = box_overlap(
                        x1, y1, x2, y2,
                        boxes[other, 0], boxes[other, 1], boxes[other, 2], boxes[other, 3], real,
                    )  # fmt: skip
                    keep[other] = not overlap > iou_threshold
