"""RoI pooling and RoI align: pooling over regions of interest by its definition.

roi_pool: a region covers the cells from round(x1·scale) to round(x2·scale), both included, at least
one; it is cut into H_out × W_out bins, and each result is the maximum over its bin.
roi_align: a bin's result is the mean over a grid of points, each read by bilinear interpolation.
Sources: Girshick 2015, "Fast R-CNN", §2.1; He et al. 2017, "Mask R-CNN", §3.
"""

from __future__ import annotations

import numpy as np

from ..formulas import box_overlap, roi_axis, roi_cells, roi_corners


def roi_check(bad, boxes, N, spatial_scale, largest):
    for k in range(len(boxes)):
        image, x1, y1, x2, y2 = (float(value) for value in boxes[k])
        scaled = [value * spatial_scale for value in (x1, y1, x2, y2)]
        fits = all(abs(value) < 2**31 - 1 for value in scaled)  # and is no NaN
        area = max(scaled[2] - scaled[0], 1) * max(scaled[3] - scaled[1], 1)
        if not (0 <= image < N and image == int(image) and fits and area <= largest):
            bad[0] = k
            return
    bad[0] = len(boxes)


# Maximum ------------------------------------------------------------------------------------


def roi_pool_forward(out, argmax, input, boxes, spatial_scale):
    """out[k, ph, pw, c] = max over the cells (h, w) of bin (ph, pw) of input[n, h, w, c]

    An empty bin gives 0. The search starts at the least float32, so NaN is never taken.
    """
    H, W, C = input.shape[1:]
    K, H_out, W_out, _ = out.shape
    dtype = input.dtype.type
    scale = dtype(spatial_scale)
    for k, ph, pw in np.ndindex(K, H_out, W_out):
        n, (x1, y1, x2, y2) = int(boxes[k, 0]), boxes[k, 1:]
        top, bottom = roi_cells(y1, y2, ph, H_out, H, scale, dtype)
        left, right = roi_cells(x1, x2, pw, W_out, W, scale, dtype)
        empty = top >= bottom or left >= right
        for c in range(C):
            best, place = 0 if empty else -np.finfo(np.float32).max, -1
            for h in range(top, bottom):
                for w in range(left, right):
                    if input[n, h, w, c] > best:
                        best, place = input[n, h, w, c], h * W + w
            out[k, ph, pw, c], argmax[k, ph, pw, c] = best, place


def roi_pool_backward_input(grad_input, grad_output, argmax, boxes):
    """The gradient of a maximum goes to the cell that it came from."""
    W = grad_input.shape[2]
    grad_input[...] = 0
    for k, ph, pw, c in np.ndindex(grad_output.shape):
        place = argmax[k, ph, pw, c]
        if place >= 0:
            cell = int(boxes[k, 0]), place // W, place % W, c
            grad_input[cell] += grad_output[k, ph, pw, c]


# Bilinear mean ------------------------------------------------------------------------------


def _points(boxes, shape, out_shape, spatial_scale, sampling_ratio, aligned):
    """Every (k, ph, pw, n, h, w, weight): cell (h, w) of image n counts in that result."""
    H, W = shape[1:3]
    K, H_out, W_out, _ = out_shape
    dtype = boxes.dtype.type
    options = dtype(spatial_scale), sampling_ratio, aligned, dtype
    for k in range(K):
        n, x1, y1, x2, y2 = boxes[k]
        y0, bin_h, grid_h = roi_axis(y1, y2, H_out, *options)
        x0, bin_w, grid_w = roi_axis(x1, x2, W_out, *options)
        count = dtype(max(grid_h * grid_w, 1))
        for ph, pw, i, j in np.ndindex(H_out, W_out, grid_h, grid_w):
            low_h, high_h, *row_weights = roi_corners(y0, bin_h, ph, i, grid_h, H, dtype)
            low_w, high_w, *col_weights = roi_corners(x0, bin_w, pw, j, grid_w, W, dtype)
            if low_h >= 0 and low_w >= 0:
                for h, row_weight in zip((low_h, high_h), row_weights, strict=True):
                    for w, col_weight in zip((low_w, high_w), col_weights, strict=True):
                        yield k, ph, pw, int(n), h, w, row_weight * col_weight / count


def roi_align_forward(out, input, boxes, spatial_scale, sampling_ratio, aligned):
    """out[k, ph, pw, c] = Σ weight · input[n, h, w, c] / (number of points)"""
    out[...] = 0
    points = _points(boxes, input.shape, out.shape, spatial_scale, sampling_ratio, aligned)
    for k, ph, pw, n, h, w, weight in points:
        for c in range(input.shape[3]):
            out[k, ph, pw, c] += weight * input[n, h, w, c]


def roi_align_backward_input(
    grad_input, grad_output, boxes, spatial_scale, sampling_ratio, aligned
):
    grad_input[...] = 0
    points = _points(
        boxes, grad_input.shape, grad_output.shape, spatial_scale, sampling_ratio, aligned
    )
    for k, ph, pw, n, h, w, weight in points:
        for c in range(grad_input.shape[3]):
            grad_input[n, h, w, c] += weight * grad_output[k, ph, pw, c]


# Suppression --------------------------------------------------------------------------------


def nms_forward(keep, boxes, order, groups, iou_threshold):
    """Box by box in their order: each that is still kept drops those after it, of its group, that
    overlap it by more than the threshold."""
    keep[...] = True
    with np.errstate(invalid="ignore"):
        for i, first in enumerate(order):
            for other in order[i + 1 :] if keep[first] else ():
                overlap = box_overlap(*boxes[first], *boxes[other], boxes.dtype.type)
                if groups[first] == groups[other] and overlap > iou_threshold:
                    keep[other] = False
