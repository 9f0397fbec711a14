"""Pooling on channels-last arrays: vectors of channels, the window in registers.

Arrays: input (N, H, W, C), output and window (N, H_out, W_out, C), all C-ordered.

Ordinary and adaptive windows differ only in which cells they hold, and that separately for rows and
columns. `_Axis` tables list it for either direction, so that the kernels know nothing of stride,
padding and dilation. Inner loops read them number by number: `ow, kw = entries[b]` would make a
view of a row, which takes longer than all that is done with a vector of channels.

**Vectors overlap.** C channels are taken 16 at a time, the last of them from C − 16 on, so that
some may be taken twice; fewer than 16 are taken by 4, fewer than 4 one by one.

**Backward passes scatter.** A task owns some rows of cells. It goes through the outputs whose
windows reach them, in order, and adds what each gives to its own cells. For a maximum that is the
gradient where the output noted the cell's tap. The order in which a cell is added to is that of the
outputs, however the rows are divided.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...geometry import AdaptivePool2dDims, Pool2dDims, adaptive_window
from ._jit import inlined, kernel
from ._tasks import light_tasks
from ._vector import (
    add,
    divide,
    equals,
    exceeds,
    from_lane,
    load,
    scale,
    select,
    splat,
    store,
    widen,
)

# Channels of a vector; see above.
_MANY, _FEW = 16, 4


class _Axis(NamedTuple):
    """The windows of one axis, and for every cell the windows that hold it.

    windows[o] = (start, taps, first): output o reads `taps` cells, `step` apart, from `start` on;
    the first of them is tap `first` of the window.
    divisors[o]: what an average divides by; the two axes' divisors are multiplied.

    entries[index[i] : index[i + 1]] = (o, tap): cell i is this tap of the window of output o;
    scales: 1 / divisors[o] of each entry.
    """

    windows: np.ndarray
    step: int
    divisors: np.ndarray
    index: np.ndarray
    entries: np.ndarray
    scales: np.ndarray


def _axis(size: int, windows: np.ndarray, step: int, divisors: np.ndarray) -> _Axis:
    start, taps, first = windows.T
    output = np.repeat(np.arange(len(windows)), taps)
    nth = np.arange(len(output)) - np.repeat(np.cumsum(taps) - taps, taps)
    cell = start[output] + nth * step
    order = np.argsort(cell, kind="stable")
    index = np.zeros(size + 1, np.int64)
    np.cumsum(np.bincount(cell, minlength=size), out=index[1:])
    entries = np.stack([output, first[output] + nth], axis=1)[order]
    scales = (1 / divisors)[output][order]
    return _Axis(windows, step, divisors, index, entries, scales)


def _pool_axis(
    size: int, out: int, kernel_size: int, stride: int, pad: int, step: int, include_pad: bool
) -> _Axis:
    origin = np.arange(out) * stride - pad
    first = np.maximum(0, -(origin // step))
    # A dilated window can step over the whole input: then it has no tap.
    taps = np.clip((size - 1 - origin) // step + 1, first, kernel_size) - first
    divisors = np.minimum(origin + kernel_size, size + pad) - origin if include_pad else taps
    windows = np.stack([origin + first * step, taps, first], axis=1)
    return _axis(size, windows, step, np.maximum(divisors, 1).astype(np.float64))


def _adaptive_axis(size: int, out: int) -> _Axis:
    bounds = [adaptive_window(o, size, out) for o in range(out)]
    windows = np.array([(start, end - start, 0) for start, end in bounds], np.int64).reshape(-1, 3)
    return _axis(size, windows, 1, windows[:, 1].astype(np.float64))


@lru_cache(maxsize=1024)
def window_axes(dims: Pool2dDims | AdaptivePool2dDims) -> tuple[_Axis, _Axis]:
    d = dims
    if isinstance(d, AdaptivePool2dDims):
        return _adaptive_axis(d.H, d.H_out), _adaptive_axis(d.W, d.W_out)
    pad = d.count_include_pad
    rows = _pool_axis(d.H, d.H_out, d.kH, d.stride_h, d.pad_h, d.dilation_h, pad)
    cols = _pool_axis(d.W, d.W_out, d.kW, d.stride_w, d.pad_w, d.dilation_w, pad)
    if d.divisor_override:
        override = np.full(d.H_out, float(d.divisor_override))
        rows = _axis(d.H, rows.windows, rows.step, override)
        cols = _axis(d.W, cols.windows, cols.step, np.ones(d.W_out))
    return rows, cols


def _parts(dims: Pool2dDims | AdaptivePool2dDims) -> int:
    """Into how many parts the channels are cut, so that few output rows still make 16 tasks."""
    return min(-(-dims.C // _MANY), max(1, 16 // max(1, dims.N * dims.H_out)))


@inlined
def _blocks(C, lanes, part, parts):
    """The vectors of a part of the channels: first and one past the last."""
    blocks = (C + lanes - 1) // lanes
    return part * blocks // parts, (part + 1) * blocks // parts


# Maximum ------------------------------------------------------------------------------------


def _make_maximum(lanes: int):
    @inlined
    def maximum(out, window, at, input, source, row, col, kW):
        # row, col: (first tap, taps, elements from one tap to the next).
        kh, rows, row_step = row
        kw, cols, col_step = col
        best = splat(lanes, out.dtype.type(-np.inf))
        position = splat(lanes, window.dtype.type(kh * kW + kw))
        for i in range(rows):
            for j in range(cols):
                value = load(lanes, input, source + i * row_step + j * col_step)
                better = exceeds(value, best)
                tap = splat(lanes, window.dtype.type((kh + i) * kW + kw + j))
                best = select(better, value, best)
                position = select(better, tap, position)
        store(out, at, best)
        store(window, at, position)

    return maximum


_maximum_many, _maximum_few, _maximum_one = (_make_maximum(n) for n in (_MANY, _FEW, 1))


@kernel
def _maxima(span, out, window, input, rows, row_step, cols, col_step, kW, parts):
    # N·H_out·W_out·C·taps comparisons. Parallel over (n, oh, part of the channels): each task owns
    # its outputs.
    N, H_out, W_out, C = out.shape
    H, W = input.shape[1:3]
    count = N * H_out * parts
    for task in light_tasks(span, count, input.size // max(1, count)):
        out_row = task // parts
        n, oh = out_row // H_out, out_row % H_out
        part = task % parts
        h, taps, kh = rows[oh]
        row = (kh, taps, row_step * W * C)
        for ow in range(W_out):
            w, taps, kw = cols[ow, 0], cols[ow, 1], cols[ow, 2]
            col = (kw, taps, col_step * C)
            at = (out_row * W_out + ow) * C
            source = ((n * H + h) * W + w) * C
            if C >= _MANY:
                for block in range(*_blocks(C, _MANY, part, parts)):
                    c = min(block * _MANY, C - _MANY)
                    _maximum_many(out, window, at + c, input, source + c, row, col, kW)
            elif C >= _FEW:
                for block in range(*_blocks(C, _FEW, part, parts)):
                    c = min(block * _FEW, C - _FEW)
                    _maximum_few(out, window, at + c, input, source + c, row, col, kW)
            else:
                for c in range(C):
                    _maximum_one(out, window, at + c, input, source + c, row, col, kW)


def max_pool2d_forward(out, window, input, dims):
    rows, cols = window_axes(dims)
    _maxima(
        out, window, input, rows.windows, rows.step, cols.windows, cols.step, dims.kW, _parts(dims)
    )


@kernel
def _flat_indices(span, indices, window, rows, row_step, cols, col_step, W, kW):
    # Parallel over (n, oh): each task owns its outputs.
    N, H_out, W_out, C = indices.shape
    for out_row in light_tasks(span, N * H_out, W_out * C):
        n, oh = out_row // H_out, out_row % H_out
        h, row_taps, first_kh = rows[oh]
        for ow in range(W_out):
            w, col_taps, first_kw = cols[ow]
            for c in range(C):
                tap = np.int64(window[n, oh, ow, c])
                row = h + (tap // kW - first_kh) * row_step
                col = w + (tap % kW - first_kw) * col_step
                indices[n, oh, ow, c] = row * W + col if row_taps > 0 and col_taps > 0 else -1


def max_pool2d_indices(indices, window, dims):
    rows, cols = window_axes(dims)
    _flat_indices(
        indices, window, rows.windows, rows.step, cols.windows, cols.step, dims.W, dims.kW
    )


# Gradients ----------------------------------------------------------------------------------


def _row_groups(dims: Pool2dDims | AdaptivePool2dDims) -> int:
    """Into how many groups the rows of an image are cut, so that few images still make 16 tasks."""
    return min(-(-dims.H // 4), -(-16 // max(1, dims.N)))


@inlined
def _taps_within(start, taps, step, low, high):
    """First and one past the last of the taps start, start + step, … from `low` to before `high`"""
    return max(0, -((start - low) // step)), min(taps, -((start - high) // step))


def _make_route(lanes: int):
    @inlined
    def route(grad_input, cell, grad_output, window, at, skip, row, col, kW):
        # row, col: (first tap of the window, which of its taps, elements from one to the next).
        # The first `skip` lanes are another vector's.
        kh, first, last, row_step = row
        kw, cols, col_step = col
        zero = splat(lanes, grad_input.dtype.type(0))
        grad = select(from_lane(lanes, skip), load(lanes, grad_output, at), zero)
        position = load(lanes, window, at)
        for i in range(first, last):
            for j in range(cols):
                place = cell + i * row_step + j * col_step
                chosen = equals(position, window.dtype.type((kh + i) * kW + kw + j))
                total = add(load(lanes, grad_input, place), select(chosen, grad, zero))
                store(grad_input, place, total)

    return route


_route_many, _route_few, _route_one = (_make_route(n) for n in (_MANY, _FEW, 1))


@kernel
def _route_to_maxima(span, grad_input, grad_output, window, rows, row_step, cols, col_step, kW,
                     groups):  # fmt: skip
    # N·H_out·W_out·C·taps comparisons and additions. Parallel over (n, group of rows): each task
    # owns its cells.
    N, H, W, C = grad_input.shape
    H_out, W_out = grad_output.shape[1:3]
    cells = grad_input.reshape(-1)
    for task in light_tasks(span, N * groups, cells.size // max(1, N * groups)):
        n, group = task // groups, task % groups
        low, high = group * H // groups, (group + 1) * H // groups
        cleared = low
        for oh in range(H_out):
            h, taps, kh = rows[oh]
            first, last = _taps_within(h, taps, row_step, low, high)
            if first >= last:
                continue
            reached = h + (last - 1) * row_step + 1
            if reached > cleared:
                cells[(n * H + cleared) * W * C : (n * H + reached) * W * C] = 0
                cleared = reached
            row = (kh, first, last, row_step * W * C)
            for ow in range(W_out):
                w, taps, kw = cols[ow, 0], cols[ow, 1], cols[ow, 2]
                col = (kw, taps, col_step * C)
                at = ((n * H_out + oh) * W_out + ow) * C
                cell = ((n * H + h) * W + w) * C
                if C >= _MANY:
                    for place in range(0, C, _MANY):
                        c = min(place, C - _MANY)
                        _route_many(grad_input, cell + c, grad_output, window, at + c, place - c,
                                    row, col, kW)  # fmt: skip
                elif C >= _FEW:
                    for place in range(0, C, _FEW):
                        c = min(place, C - _FEW)
                        _route_few(grad_input, cell + c, grad_output, window, at + c, place - c,
                                   row, col, kW)  # fmt: skip
                else:
                    for c in range(C):
                        _route_one(grad_input, cell + c, grad_output, window, at + c, 0,
                                   row, col, kW)  # fmt: skip
        cells[(n * H + cleared) * W * C : (n * H + high) * W * C] = 0


def max_pool2d_backward_input(grad_input, grad_output, window, dims):
    # Y[o] = X[i*] with i* the maximum's cell: dY[o]/dX[i] = 1 if i = i*, else 0. So
    # dX[i] = Σ_{o, t: tap t of window o is cell i} (window[o] = t) · grad[o].
    rows, cols = window_axes(dims)
    _route_to_maxima(
        grad_input, grad_output, window,
        rows.windows, rows.step, cols.windows, cols.step, dims.kW, _row_groups(dims),
    )  # fmt: skip


# Average ------------------------------------------------------------------------------------
# Sums are kept in float64: a global average has thousands of terms, and memory is the bottleneck.


def _make_average(lanes: int):
    @inlined
    def average(out, at, input, source, rows, row_step, cols, col_step, factor):
        total = splat(lanes, 0.0)
        for i in range(rows):
            for j in range(cols):
                value = load(lanes, input, source + i * row_step + j * col_step)
                total = add(total, widen(value))
        store(out, at, scale(total, factor))

    return average


_average_many, _average_few, _average_one = (_make_average(n) for n in (_MANY, _FEW, 1))


@kernel
def _averages(span, out, input, rows, row_divisors, cols, col_divisors, parts):
    # N·H_out·W_out·C·taps additions. Parallel over (n, oh, part of the channels): each task owns
    # its outputs.
    N, H_out, W_out, C = out.shape
    H, W = input.shape[1:3]
    count = N * H_out * parts
    for task in light_tasks(span, count, input.size // max(1, count)):
        out_row = task // parts
        n, oh = out_row // H_out, out_row % H_out
        part = task % parts
        h, row_taps, _ = rows[oh]
        for ow in range(W_out):
            w, col_taps = cols[ow, 0], cols[ow, 1]
            at = (out_row * W_out + ow) * C
            source = ((n * H + h) * W + w) * C
            by = 1 / (row_divisors[oh] * col_divisors[ow])
            if C >= _MANY:
                for block in range(*_blocks(C, _MANY, part, parts)):
                    c = min(block * _MANY, C - _MANY)
                    _average_many(out, at + c, input, source + c, row_taps, W * C, col_taps, C, by)
            elif C >= _FEW:
                for block in range(*_blocks(C, _FEW, part, parts)):
                    c = min(block * _FEW, C - _FEW)
                    _average_few(out, at + c, input, source + c, row_taps, W * C, col_taps, C, by)
            else:
                for c in range(C):
                    _average_one(out, at + c, input, source + c, row_taps, W * C, col_taps, C, by)


def avg_pool2d_forward(out, input, dims):
    rows, cols = window_axes(dims)
    _averages(out, input, rows.windows, rows.divisors, cols.windows, cols.divisors, _parts(dims))


def _make_spread(lanes: int):
    @inlined
    def spread(grad_input, cell, grad_output, at, skip, first, last, row_step, cols, col_step,
               divisor):  # fmt: skip
        # As `route`, with the same for every tap.
        share = divide(load(lanes, grad_output, at), divisor)
        share = select(from_lane(lanes, skip), share, splat(lanes, grad_input.dtype.type(0)))
        for i in range(first, last):
            for j in range(cols):
                place = cell + i * row_step + j * col_step
                store(grad_input, place, add(load(lanes, grad_input, place), share))

    return spread


_spread_many, _spread_few, _spread_one = (_make_spread(n) for n in (_MANY, _FEW, 1))


@kernel
def _spread_over_windows(span, grad_input, grad_output, rows, row_divisors, cols, col_divisors,
                         groups):  # fmt: skip
    # N·H_out·W_out·C·taps additions. Parallel over (n, group of rows): each task owns its cells.
    N, H, W, C = grad_input.shape
    H_out, W_out = grad_output.shape[1:3]
    cells = grad_input.reshape(-1)
    for task in light_tasks(span, N * groups, cells.size // max(1, N * groups)):
        n, group = task // groups, task % groups
        low, high = group * H // groups, (group + 1) * H // groups
        cleared = low
        for oh in range(H_out):
            h, taps = rows[oh, 0], rows[oh, 1]
            first, last = _taps_within(h, taps, 1, low, high)
            if first >= last:
                continue
            reached = h + last
            if reached > cleared:
                cells[(n * H + cleared) * W * C : (n * H + reached) * W * C] = 0
                cleared = reached
            for ow in range(W_out):
                w, taps = cols[ow, 0], cols[ow, 1]
                at = ((n * H_out + oh) * W_out + ow) * C
                cell = ((n * H + h) * W + w) * C
                by = grad_input.dtype.type(row_divisors[oh] * col_divisors[ow])
                if C >= _MANY:
                    for place in range(0, C, _MANY):
                        c = min(place, C - _MANY)
                        _spread_many(grad_input, cell + c, grad_output, at + c, place - c,
                                     first, last, W * C, taps, C, by)  # fmt: skip
                elif C >= _FEW:
                    for place in range(0, C, _FEW):
                        c = min(place, C - _FEW)
                        _spread_few(grad_input, cell + c, grad_output, at + c, place - c,
                                    first, last, W * C, taps, C, by)  # fmt: skip
                else:
                    for c in range(C):
                        _spread_one(grad_input, cell + c, grad_output, at + c, 0,
                                    first, last, W * C, taps, C, by)  # fmt: skip
        cells[(n * H + cleared) * W * C : (n * H + high) * W * C] = 0


def avg_pool2d_backward_input(grad_input, grad_output, dims):
    # Y[o] = (1/D[o]) Σ_{i in window o} X[i]: dX[i] = Σ_{o: i in window o} grad[o] / D[o], and
    # D[oh, ow] is the product of a divisor per row and one per column.
    rows, cols = window_axes(dims)
    _spread_over_windows(
        grad_input, grad_output, rows.windows, rows.divisors, cols.windows, cols.divisors,
        _row_groups(dims),
    )  # fmt: skip


# Power average -------------------------------------------------------------------------------


@inlined
def _power(x, p):
    return x * x if p == 2 else x**p


@kernel
def _lp_averages(span, out, input, rows, row_divisors, cols, col_divisors, cells, p):
    # 2·N·H_out·W_out·C·taps flop for p = 2, else as many powers. Parallel over (n, oh): each task
    # owns its outputs.
    N, H_out, W_out, C = out.shape
    for out_row in light_tasks(span, N * H_out, input.size // max(1, N * H_out)):
        n, oh = out_row // H_out, out_row % H_out
        for ow in range(W_out):
            by = row_divisors[oh] * col_divisors[ow]
            for c in range(C):
                total = 0.0
                for h in range(rows[oh, 0], rows[oh, 0] + rows[oh, 1]):
                    for w in range(cols[ow, 0], cols[ow, 0] + cols[ow, 1]):
                        total += _power(np.float64(input[n, h, w, c]), p)
                total *= cells / by
                out[n, oh, ow, c] = np.sqrt(total) if p == 2 else total ** (1 / p)


def lp_pool2d_forward(out, input, dims, norm_type):
    rows, cols = window_axes(dims)
    _lp_averages(
        out, input, rows.windows, rows.divisors, cols.windows, cols.divisors,
        dims.kH * dims.kW, norm_type,
    )  # fmt: skip


@kernel
def _spread_powers(span, grad_input, grad_output, out, input, row_index, row_entries, row_scales,
                   col_index, col_entries, col_scales, cells, p):  # fmt: skip
    # A power, or for p = 2 a division, for each window that a cell is in. Parallel over (n, h):
    # each task owns its cells.
    N, H, W, C = grad_input.shape
    for in_row in light_tasks(span, N * H, W * C):
        n, h = in_row // H, in_row % H
        for w in range(W):
            for c in range(C):
                total = 0.0
                for a in range(row_index[h], row_index[h + 1]):
                    for b in range(col_index[w], col_index[w + 1]):
                        oh, ow = row_entries[a, 0], col_entries[b, 0]
                        norm = np.float64(out[n, oh, ow, c])
                        if norm != 0:
                            slope = 1 / norm if p == 2 else norm ** (1 - p)
                            slope *= row_scales[a] * col_scales[b]
                            total += grad_output[n, oh, ow, c] * slope
                x = np.float64(input[n, h, w, c])
                grad_input[n, h, w, c] = cells * total * (x if p == 2 else x ** (p - 1))


def lp_pool2d_backward_input(grad_input, grad_output, out, input, dims, norm_type):
    # Y^p = kH·kW/D · Σ X^p: dY/dX = kH·kW/D · (X/Y)^(p − 1). A window of zeros passes nothing on.
    rows, cols = window_axes(dims)
    _spread_powers(
        grad_input, grad_output, out, input, rows.index, rows.entries, rows.scales,
        cols.index, cols.entries, cols.scales, dims.kH * dims.kW, norm_type,
    )  # fmt: skip
