"""Scalar formulas that every backend computes to the same bits: regions of interest, losses.

Rounding decides which cells a bin of a region holds, so the index arithmetic is stated once: the
reference calls these functions as they are, the other backends compile them. `product` is where a
compiler must not fuse a multiplication with the addition behind it; each backend says how.
"""

from __future__ import annotations

import math

import numpy as np


def product(x, y):
    """x·y, rounded before anything is added to it."""
    return x * y


# Regions of interest -------------------------------------------------------------------------


def round_half_away(x, real):
    """The nearest integer, halves away from zero, as C's round; Python's goes to even."""
    whole = int(x)
    rest = x - real(whole)
    if rest >= real(0.5):
        return whole + 1
    return whole - 1 if rest <= real(-0.5) else whole


def roi_cells(low, high, bin, bins, size, spatial_scale, real):
    """The cells [first, last) of one bin of a region on one axis, clipped to `size` cells.

    The region goes from the pixel `low` to the pixel `high`, both included, and is cut into `bins`
    bins. real: the input's dtype, in which all is computed.
    """
    start = round_half_away(product(low, spatial_scale), real)
    end = round_half_away(product(high, spatial_scale), real)
    bin_size = real(max(end - start + 1, 1)) / real(bins)
    # int: on a GPU, floor and ceil give floats.
    first = int(math.floor(product(real(bin), bin_size))) + start  # noqa: RUF046
    last = int(math.ceil(product(real(bin + 1), bin_size))) + start  # noqa: RUF046
    return min(max(first, 0), size), min(max(last, 0), size)


def roi_axis(low, high, bins, spatial_scale, sampling_ratio, aligned, real):
    """(start, size of a bin, number of points in a bin) of a region on one axis."""
    offset = real(0.5) if aligned else real(0)
    start = product(low, spatial_scale) - offset
    length = product(high, spatial_scale) - offset - start
    if not aligned:
        length = max(length, real(1))
    points = int(math.ceil(length / real(bins)))  # noqa: RUF046
    grid = sampling_ratio if sampling_ratio > 0 else max(points, 0)
    return start, length / real(bins), grid


def roi_corners(start, bin_size, bin, point, grid, size, real):
    """(low, high, weight of low, weight of high) of one point of a bin; low is −1 outside."""
    position = start + product(real(bin), bin_size)
    position += product(real(point) + real(0.5), bin_size) / real(grid)
    if position < real(-1) or position > real(size):
        return -1, -1, real(0), real(0)
    position = max(position, real(0))
    low = int(position)
    if low >= size - 1:
        return size - 1, size - 1, real(1), real(0)
    high_weight = position - real(low)
    return low, low + 1, real(1) - high_weight, high_weight


def box_overlap(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2, real):
    """Intersection over union of two boxes; NaN if both are empty."""
    width = max(min(ax2, bx2) - max(ax1, bx1), real(0))
    height = max(min(ay2, by2) - max(ay1, by1), real(0))
    intersection = product(width, height)
    union = product(ax2 - ax1, ay2 - ay1) + product(bx2 - bx1, by2 - by1) - intersection
    return intersection / union


# Losses of a difference ----------------------------------------------------------------------

SQUARED, ABSOLUTE, SMOOTH = 0, 1, 2


def difference_loss(kind, d, beta, half):
    """f(d) of one difference: d², |d|, or d²/2β near 0 and |d| − β/2 beyond β; half = β/2."""
    if kind == SQUARED:
        return d * d
    if kind == SMOOTH and abs(d) < beta:
        return d * d / (beta + beta)
    return abs(d) - half


# Sampling at the points of a grid --------------------------------------------------------------

ZEROS, BORDER, REFLECTION = 0, 1, 2

# Beyond that many pixels a point counts as nowhere: its position does not fit an int32.
_NOWHERE = 2.0**30


def grid_position(x, size, taps, padding, align_corners, real):
    """(position in pixels, its derivative) of a coordinate whose −1 and 1 are the ends of an axis.

    Cubic sampling (4 taps) pads its taps instead of the position.
    """
    if align_corners:
        slope = real(size - 1) / real(2)
        position = product(x + real(1), slope)
    else:
        slope = real(size) / real(2)
        position = (product(x + real(1), real(size)) - real(1)) / real(2)
    if taps == 4 or padding == ZEROS:
        return position, slope
    if padding == REFLECTION:
        edge = real(0) if align_corners else real(-0.5)
        span = real(size - 1) if align_corners else real(size)
        distance = position - edge
        if distance < real(0):
            distance, slope = -distance, -slope
        if span > real(0) and distance < span * real(_NOWHERE):
            turns = int(math.floor(distance / span))  # noqa: RUF046
            distance -= product(real(turns), span)
            if turns & 1 == 1:
                distance, slope = span - distance, -slope
        position = distance + edge
    if not position > real(0):  # NaN, too
        return real(0), real(0)
    if position >= real(size - 1):
        return real(size - 1), real(0)
    return position, slope


def grid_tap(position, tap, size, taps, padding, align_corners, real):
    """(cell, weight, derivative of the weight by the position) of one tap; cell −1 is none.

    taps: 1 for the nearest cell (halves to even), 2 for linear and 4 for cubic interpolation.
    """
    if not abs(position) < real(_NOWHERE):
        return -1, real(0), real(0)
    cell = int(math.floor(position))  # noqa: RUF046
    t = position - real(cell)
    weight, slope = real(1), real(0)
    if taps == 1:
        if t > real(0.5) or (t == real(0.5) and cell & 1 == 1):
            cell += 1
    elif taps == 2:
        weight, slope = (t, real(1)) if tap == 1 else (real(1) - t, real(-1))
        cell += tap
    else:
        a = real(-0.75)
        sign = real(1) if tap < 2 else real(-1)
        d = sign * (t + real(1 - tap))
        if tap == 1 or tap == 2:
            weight = ((a + real(2)) * d - (a + real(3))) * d * d + real(1)
            slope = (real(3) * (a + real(2)) * d - real(2) * (a + real(3))) * d
        else:
            weight = (((d - real(5)) * d + real(8)) * d - real(4)) * a
            slope = ((real(3) * d - real(10)) * d + real(8)) * a
        slope *= sign
        cell += tap - 1
        if padding == BORDER:
            cell = min(max(cell, 0), size - 1)
        elif padding == REFLECTION:
            # About the first and last cell, or about their outer edges. In 64 bits, or with a
            # sign, a GPU would divide by a subroutine.
            period = max(2 * (size - 1), 1) if align_corners else 2 * size
            if cell < 0:
                cell = -cell if align_corners else -1 - cell
            cell = np.int64(np.uint32(cell) % np.uint32(period))  # type: ignore[assignment]
            if cell >= size:
                cell = period - cell if align_corners else period - 1 - cell
    if cell < 0 or cell >= size:
        cell = -1
    return cell, weight, slope
