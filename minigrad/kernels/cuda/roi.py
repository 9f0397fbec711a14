"""Pooling over regions of interest, on channels-last arrays: one thread an element, neighbours
along the channels.

Rounding decides which cells a bin holds and where a point lies: kernels/formulas.py states it.

Backward passes gather: a thread goes through the regions in order and takes what belongs to its
cells. So overlapping regions add up in a fixed order, without atomics.

The host learns of a bad box only later. What would reach outside of the map, or walk through a
region without end, is left out here.
"""

from __future__ import annotations

import numpy as np

from ..formulas import box_overlap, roi_axis, roi_cells, roi_corners
from ._device import THREADS, absolute, cuda, device, floor
from ._index import arithmetic, index_bits
from ._launch import kernel, launch, over
from ._span import span
from .elementwise import fill

_LEAST = -float(np.finfo(np.float32).max)
_FAR = 2.0**32  # no scaled coordinate that the check lets pass is as large
_LARGEST = 2.0**25  # pixels of a region that is walked through; the check lets half as many pass


@kernel
def _check(_):
    # One block: each thread finds the first bad one of its boxes. In float64, whatever the boxes
    # are: they are few, and the CPU does the same.
    threads = int(THREADS)

    def check(bad, boxes, K, N, spatial_scale, largest):
        firsts = cuda.shared.array(threads, np.int64)
        first = K
        for k in span(cuda.threadIdx.x, K, threads):
            image = np.float64(boxes[5 * k])
            x1, y1 = boxes[5 * k + 1] * spatial_scale, boxes[5 * k + 2] * spatial_scale
            x2, y2 = boxes[5 * k + 3] * spatial_scale, boxes[5 * k + 4] * spatial_scale
            fits = image >= 0 and image < N and image == floor(image)
            for value in (x1, y1, x2, y2):
                fits = fits and absolute(value) < 2.0**31 - 1  # and is no NaN
            if not fits or max(x2 - x1, 1.0) * max(y2 - y1, 1.0) > largest:
                first = min(first, k)
        firsts[cuda.threadIdx.x] = first
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            for other in range(threads):
                first = min(first, firsts[other])
            bad[0] = first

    return check


def roi_check(bad, boxes, N, spatial_scale, largest):
    shape = (1,), (THREADS,)
    launch(_check(np.float64), shape, bad, boxes, len(boxes), N, spatial_scale, float(largest))


@device
def _image(boxes, k, N, spatial_scale, real):
    """The image of box k; −1 for a box that the check refuses."""
    image = boxes[5 * k]
    fits = image >= real(0) and image < real(N)
    for i in range(1, 5):
        fits = fits and absolute(boxes[5 * k + i] * spatial_scale) < real(_FAR)
    return int(image) if fits else -1


# Maximum ------------------------------------------------------------------------------------


@kernel
def _roi_pool(real, bits):
    # One comparison for each cell of each bin. Each thread owns its results.
    index, _, unravel = arithmetic(bits)

    def roi_pool(out, argmax, input, boxes, spatial_scale, n_out, N, H, W, C, H_out, W_out):
        for at in span(cuda.grid(1), n_out, cuda.gridsize(1)):
            k, ph, pw, c = unravel(at, H_out, W_out, C)
            n = _image(boxes, k, N, spatial_scale, real)
            best, place = real(0), -1
            if n >= 0:
                x1, y1, x2, y2 = 5 * k + 1, 5 * k + 2, 5 * k + 3, 5 * k + 4
                top, bottom = roi_cells(boxes[y1], boxes[y2], ph, H_out, H, spatial_scale, real)
                left, right = roi_cells(boxes[x1], boxes[x2], pw, W_out, W, spatial_scale, real)
                if top < bottom and left < right:
                    best = real(_LEAST)
                for h in range(top, bottom):
                    row = index((n * H + h) * W)
                    for w in range(left, right):
                        value = input[index((row + w) * C + c)]
                        if value > best:
                            best, place = value, index(h * W + w)
            out[at] = best
            argmax[at] = place

    return roi_pool


def roi_pool_forward(out, argmax, input, boxes, spatial_scale):
    N, H, W, C = input.shape
    _, H_out, W_out, _ = out.shape
    variant = _roi_pool(out.dtype, index_bits(out.size, input.size))
    launch(
        variant, over(out.size), out, argmax, input, boxes, float(spatial_scale), out.size,
        N, H, W, C, H_out, W_out,
    )  # fmt: skip


_SHARES = 64  # of an image's cells, at most
_ENOUGH_THREADS = 2**17
_AT_ONCE = 8


@kernel
def _roi_pool_backward(real, bits):
    # Every choice of a region is read by all the threads that share its image, each of which adds
    # the gradients of those that are its cells. Thread (n, share, c) owns the cells of that image
    # and channel whose number is `share` modulo `shares`, a power of two.
    index, _, unravel = arithmetic(bits)

    def roi_pool_backward(grad_input, grad_output, argmax, boxes, tasks, shares, K, bins, cells, C):
        chosen = cuda.local.array(_AT_ONCE, np.int32)
        for task in span(cuda.grid(1), tasks, cuda.gridsize(1)):
            _, n, share, c = unravel(task, tasks, shares, C)
            for k in range(K):
                end = (k + 1) * bins if boxes[5 * k] == real(n) else 0
                for start in span(k * bins, end, _AT_ONCE):
                    # Several at once: each read takes its time.
                    for i in range(_AT_ONCE):
                        bin = min(start + i, end - 1)
                        chosen[i] = argmax[index(bin * C + c)]
                    for i in range(_AT_ONCE):
                        mine = chosen[i] >= 0 and chosen[i] & (shares - 1) == share
                        if mine and start + i < end:
                            cell = index((n * cells + chosen[i]) * C + c)
                            grad_input[cell] += grad_output[index((start + i) * C + c)]

    return roi_pool_backward


def roi_pool_backward_input(grad_input, grad_output, argmax, boxes):
    # out[k, ph, pw, c] = input[cell]: dinput[cell] = Σ grad_output over those that chose the cell.
    N, H, W, C = grad_input.shape
    fill(grad_input.reshape(-1), 0)
    shares = 1
    while shares < min(_SHARES, H * W) and 2 * shares * N * C <= _ENOUGH_THREADS:
        shares *= 2
    bins = grad_output.shape[1] * grad_output.shape[2]
    variant = _roi_pool_backward(grad_input.dtype, index_bits(grad_input.size, argmax.size))
    launch(
        variant, over(N * shares * C), grad_input, grad_output, argmax, boxes, N * shares * C,
        shares, len(boxes), bins, H * W, C,
    )  # fmt: skip


# Bilinear mean ------------------------------------------------------------------------------


@device
def _region(boxes, k, H_out, W_out, spatial_scale, sampling_ratio, aligned, real):
    """roi_axis of rows and of columns; without points for a region that the check refuses."""
    y0, bin_h, grid_h = roi_axis(
        boxes[5 * k + 2], boxes[5 * k + 4], H_out, spatial_scale, sampling_ratio, aligned, real
    )
    x0, bin_w, grid_w = roi_axis(
        boxes[5 * k + 1], boxes[5 * k + 3], W_out, spatial_scale, sampling_ratio, aligned, real
    )
    area = max(bin_h * real(H_out), real(1)) * max(bin_w * real(W_out), real(1))
    if sampling_ratio <= 0 and area > real(_LARGEST):
        grid_h = grid_w = 0
    return y0, bin_h, grid_h, x0, bin_w, grid_w


@kernel
def _roi_align(real, bits):
    # 8 flop for each point of each bin. Each thread owns its results.
    index, _, unravel = arithmetic(bits)

    def roi_align(
        out, input, boxes, spatial_scale, sampling_ratio, aligned, n_out, N, H, W, C, H_out, W_out
    ):
        for at in span(cuda.grid(1), n_out, cuda.gridsize(1)):
            k, ph, pw, c = unravel(at, H_out, W_out, C)
            n = _image(boxes, k, N, spatial_scale, real)
            total = real(0)
            if n >= 0:
                y0, bin_h, grid_h, x0, bin_w, grid_w = _region(
                    boxes, k, H_out, W_out, spatial_scale, sampling_ratio, aligned, real
                )
                for i in range(grid_h):
                    h, h1, weight_h, weight_h1 = roi_corners(y0, bin_h, ph, i, grid_h, H, real)
                    row, row1 = index((n * H + h) * W), index((n * H + h1) * W)
                    for j in range(grid_w):
                        w, w1, weight_w, weight_w1 = roi_corners(x0, bin_w, pw, j, grid_w, W, real)
                        if h >= 0 and w >= 0:
                            total += (
                                weight_h * weight_w * input[index((row + w) * C + c)]
                                + weight_h * weight_w1 * input[index((row + w1) * C + c)]
                                + weight_h1 * weight_w * input[index((row1 + w) * C + c)]
                                + weight_h1 * weight_w1 * input[index((row1 + w1) * C + c)]
                            )
                total *= real(1) / real(max(grid_h * grid_w, 1))
            out[at] = total

    return roi_align


def roi_align_forward(out, input, boxes, spatial_scale, sampling_ratio, aligned):
    N, H, W, C = input.shape
    _, H_out, W_out, _ = out.shape
    variant = _roi_align(out.dtype, index_bits(out.size, input.size))
    launch(
        variant, over(out.size), out, input, boxes, float(spatial_scale), sampling_ratio,
        bool(aligned), out.size, N, H, W, C, H_out, W_out,
    )  # fmt: skip


@device
def _reached(cell, low, high, spatial_scale, real):
    """Whether points of a region may touch a cell on one axis; never wrongly no. A region is at
    least one pixel long, a point touches the cells next to it, and rounding shifts by some."""
    first, last = low * spatial_scale, high * spatial_scale
    slack = real(3) + (absolute(first) + absolute(last)) * real(2.0**-19)
    return min(first, last) - slack <= real(cell) and real(cell) <= max(first, last) + slack


@device
def _near(cell, start, step, count, real):
    """[first, last): all i of 0 … count − 1 for which start + i·step … start + (i + 1)·step may
    come nearer to the cell than a pixel, and few others."""
    if not step > real(0):
        return 0, count
    slack = real(2) + real(count) * real(2.0**-19)
    first = (real(cell) - real(1) - start) / step - slack
    last = (real(cell) + real(1) - start) / step + slack
    first = int(min(max(first, real(0)), real(count)))
    return first, int(min(max(last, real(0)), real(count)))


@device
def _weight(cell, start, bin_size, bin, grid, size, real):
    """Σ over the points of a bin of the weight that a cell has in them, on one axis."""
    total = real(0)
    step = bin_size / real(max(grid, 1))
    first, last = _near(cell, start + real(bin) * bin_size, step, grid, real)
    for point in range(first, last):
        low, high, low_weight, high_weight = roi_corners(
            start, bin_size, bin, point, grid, size, real
        )
        if low == cell:
            total += low_weight
        if high == cell:
            total += high_weight
    return total


@kernel
def _roi_align_backward(real, bits):
    # Each thread owns its cell. For each region that comes near it: a few points of one or two bins
    # along each axis.
    #
    # Points form a grid, so that a weight is a product of one for the row and one for the column:
    # dinput[h, w] = Σ_{k, ph, pw} (Σ_i weight[i, h]) · (Σ_j weight[j, w]) / points · grad_output.
    index, _, unravel = arithmetic(bits)

    def roi_align_backward(
        grad_input, grad_output, boxes, spatial_scale, sampling_ratio, aligned, n_in, N, H, W, C,
        K, H_out, W_out,
    ):  # fmt: skip
        for at in span(cuda.grid(1), n_in, cuda.gridsize(1)):
            n, h, w, c = unravel(at, H, W, C)
            total = real(0)
            for k in range(K):
                x1, y1, x2, y2 = 5 * k + 1, 5 * k + 2, 5 * k + 3, 5 * k + 4
                if (
                    boxes[5 * k] == real(n)
                    and _reached(h, boxes[y1], boxes[y2], spatial_scale, real)
                    and _reached(w, boxes[x1], boxes[x2], spatial_scale, real)
                    and _image(boxes, k, N, spatial_scale, real) == n
                ):
                    y0, bin_h, grid_h, x0, bin_w, grid_w = _region(
                        boxes, k, H_out, W_out, spatial_scale, sampling_ratio, aligned, real
                    )
                    share = real(1) / real(max(grid_h * grid_w, 1))
                    ph0, ph1 = _near(h, y0, bin_h, H_out, real)
                    pw0, pw1 = _near(w, x0, bin_w, W_out, real)
                    for ph in range(ph0, ph1):
                        weight_h = _weight(h, y0, bin_h, ph, grid_h, H, real)
                        if weight_h > real(0):
                            weight_h *= share
                            row = index((k * H_out + ph) * W_out)
                            for pw in range(pw0, pw1):
                                weight = weight_h * _weight(w, x0, bin_w, pw, grid_w, W, real)
                                if weight > real(0):
                                    total += weight * grad_output[index((row + pw) * C + c)]
            grad_input[at] = total

    return roi_align_backward


def roi_align_backward_input(
    grad_input, grad_output, boxes, spatial_scale, sampling_ratio, aligned
):
    N, H, W, C = grad_input.shape
    K, H_out, W_out, _ = grad_output.shape
    variant = _roi_align_backward(grad_input.dtype, index_bits(grad_input.size, grad_output.size))
    launch(
        variant, over(grad_input.size), grad_input, grad_output, boxes, float(spatial_scale),
        sampling_ratio, bool(aligned), grad_input.size, N, H, W, C, K, H_out, W_out,
    )  # fmt: skip


# Suppression --------------------------------------------------------------------------------


@kernel
def _nms(real):
    # K²/2 overlaps at most. One block, because each kept box decides over later ones: its threads
    # share those.
    threads = int(THREADS)

    def nms(keep, boxes, order, groups, iou_threshold, K):
        for i in range(K):
            cuda.syncthreads()
            first = order[i]
            if keep[first]:
                x1, y1, x2, y2 = 4 * first, 4 * first + 1, 4 * first + 2, 4 * first + 3
                for j in span(i + 1 + cuda.threadIdx.x, K, threads):
                    other = order[j]
                    if keep[other] and groups[other] == groups[first]:
                        overlap = box_overlap(
                            boxes[x1], boxes[y1], boxes[x2], boxes[y2], boxes[4 * other],
                            boxes[4 * other + 1], boxes[4 * other + 2], boxes[4 * other + 3], real,
                        )  # fmt: skip
                        if overlap > iou_threshold:
                            keep[other] = False

    return nms


def nms_forward(keep, boxes, order, groups, iou_threshold):
    fill(keep, True)
    # The threshold in float64, as the CPU compares.
    threshold = np.float64(iou_threshold)
    shape = (1,), (THREADS,)
    launch(_nms(boxes.dtype), shape, keep, boxes, order, groups, threshold, len(order))
