"""Reductions of the middle axis of a C-ordered (outer, R, inner) array to (outer, inner).

Threads share the work as _middle.py says. What needs several chunks takes two stages: partial
results of the chunks to scratch, then the same kernel over them. Running sums and products give
each lane one contiguous segment of R instead: it reduces its own, learns from shared memory what
the lanes before it have, and walks through its segment again.
"""

from __future__ import annotations

import numpy as np

from ._device import cuda, device
from ._launch import kernel, launch, over
from ._middle import place, reduction, rows_of, spread, whole
from ._reduce import PRODUCT, SUM, add_compensated, exact_sum, fold
from ._span import fit, quotient, span

# Sums -----------------------------------------------------------------------------------------

_STRETCH = 32  # terms


@kernel
def _sums(number, threads, squared, single):
    """out[o, chunk, i] = scale · Σ input, or the sum of squared distances from center[o, i].
    single: of float32."""

    def sums(out, input, center, scale, R, inner, tile, tiles, depth, groups, outer, rows):
        # In float64 for floats, int64 for integers. Stretches are summed first, then added up, so
        # that float64 inputs keep their precision. A stretch of float32 is a compensated sum, as
        # exact as one in float64, which most GPUs compute slowly; squares need its range as well.
        # 1 flop an element, 3 if squared, 7 if compensated. A block owns the results of its
        # columns.
        shared = cuda.shared.array(threads, number)
        o, i, lane = place(tile, tiles, depth, groups, outer, inner)
        total = number(0)
        if o >= 0:
            shift = number(center[o * inner + i]) if squared else number(0)
            first, end = rows_of(lane, rows, R)
            for start in span(first, end, _STRETCH * depth):
                part, small, rest = number(0), np.float32(0), np.float32(0)
                for r in span(start, min(start + _STRETCH * depth, end), depth):
                    x = input[(o * R + r) * inner + i]
                    if single:
                        small, rest = add_compensated(small, rest, np.float32(x))
                    else:
                        distance = number(x) - shift
                        part += distance * distance if squared else distance
                total += exact_sum(small, rest) if single else part
        total = fold(shared, total, tile, depth, lane, SUM)
        if lane == 0:
            out[(o * cuda.gridDim.y + cuda.blockIdx.y) * inner + i] = total * scale

    return sums


def sum_forward_workspace(shape) -> int:
    outer, _, inner = shape
    return outer * reduction(*shape).chunks * inner if outer * inner else 0


def _run_sums(squared, out, input, center, scratch, scale):
    if not out.size:
        return
    outer, R, inner = input.shape
    number = scratch.dtype.type
    single = int(input.dtype == np.float32 and not squared)
    plan = reduction(outer, R, inner)
    if plan.chunks > 1:
        first = _sums(number, plan.threads, squared, single)
        launch(first, plan.shape, scratch, input, center, number(1), R, inner, *plan.cut)
        input, R, squared, single = scratch, plan.chunks, 0, 0
        plan = whole(outer, plan.chunks, inner)
    last = _sums(number, plan.threads, squared, single)
    launch(last, plan.shape, out, input, center, number(scale), R, inner, *plan.cut)


def sum_forward(out, input, scratch, scale):
    # `center` is not read; the output stands in for it.
    _run_sums(0, out, input, out, scratch, scale)


def squared_deviation_forward(out, input, center, scratch, scale):
    _run_sums(1, out, input, center, scratch, scale)


# Extrema --------------------------------------------------------------------------------------


@device
def _beats(x, y, largest):
    """x > y, or x < y for the least; NaN beats every number, but not another NaN."""
    return (x > y if largest else x < y) or (x != x and y == y)


@kernel
def _extremum(real, threads, largest):
    """The first position of the largest or least element of each chunk.

    The candidates are the positions 0 … R − 1, or those in positions (outer, R, inner).
    """

    def extremum(
        best, input, positions, length, R, inner, tile, tiles, depth, groups, outer, rows
    ):  # fmt: skip
        # One comparison an element. length: of the input's middle axis. A block owns the results of
        # its columns. Position −1 is that of a lane without rows; lanes after it have none either.
        values = cuda.shared.array(threads, real)
        places = cuda.shared.array(threads, np.int64)
        at = cuda.threadIdx.x
        o, i, lane = place(tile, tiles, depth, groups, outer, inner)
        value, position = real(0), -1
        if o >= 0:
            first, end = rows_of(lane, rows, R)
            for r in span(first, end, depth):
                p = r if positions is None else positions[(o * R + r) * inner + i]
                x = input[(o * length + p) * inner + i]
                if r == first or _beats(x, value, largest):
                    value, position = x, p
        values[at], places[at] = value, position
        cuda.syncthreads()
        left = depth
        while left > 1:
            half = (left + 1) // 2
            if lane < left - half:
                other = at + half * tile
                earlier = places[other] < places[at]
                better = _beats(values[other], values[at], largest)
                worse = _beats(values[at], values[other], largest)
                if places[other] >= 0 and (better or (earlier and not worse)):
                    values[at], places[at] = values[other], places[other]
            cuda.syncthreads()
            left = half
        if lane == 0:
            best[(o * cuda.gridDim.y + cuda.blockIdx.y) * inner + i] = places[at]

    return extremum


def argmax_forward_workspace(shape) -> int:
    return sum_forward_workspace(shape)


argmin_forward_workspace = argmax_forward_workspace


def _run_extremum(largest, indices, input, scratch):
    if not indices.size:
        return
    outer, R, inner = input.shape
    plan, positions, length = reduction(outer, R, inner), None, R
    if plan.chunks > 1:
        first = _extremum(input.dtype, plan.threads, largest)
        launch(first, plan.shape, scratch, input, None, length, R, inner, *plan.cut)
        positions, R, plan = scratch, plan.chunks, whole(outer, plan.chunks, inner)
    last = _extremum(input.dtype, plan.threads, largest)
    launch(last, plan.shape, indices, input, positions, length, R, inner, *plan.cut)


def argmax_forward(indices, input, scratch):
    _run_extremum(1, indices, input, scratch)


def argmin_forward(indices, input, scratch):
    _run_extremum(0, indices, input, scratch)


@kernel
def _take(real):
    def take(out, input, indices, R, inner, n):
        # Each thread owns its outputs.
        for k in span(cuda.grid(1), n, cuda.gridsize(1)):
            o = quotient(k, inner)
            out[k] = input[(o * R + indices[k]) * inner + k - o * inner]

    return take


def take_forward(out, input, indices):
    R, inner = input.shape[1:]
    launch(_take(out.dtype), over(out.size), out, input, indices, R, inner, out.size)


@kernel
def _take_backward(real, threads):
    def take_backward(
        grad_input, grad_output, indices, R, inner, tile, tiles, depth, groups, outer, rows
    ):  # fmt: skip
        # y = x[index]: dy/dx is 1 at the index, else 0. Each thread owns rows of one column.
        o, i, lane = place(tile, tiles, depth, groups, outer, inner)
        if o >= 0:
            index, grad = indices[o * inner + i], grad_output[o * inner + i]
            first, end = rows_of(lane, rows, R)
            for r in span(first, end, depth):
                grad_input[(o * R + r) * inner + i] = grad if r == index else real(0)

    return take_backward


def take_backward_input(grad_input, grad_output, indices):
    if grad_input.size:
        R, inner = grad_input.shape[1:]
        plan = spread(*grad_input.shape)
        variant = _take_backward(grad_input.dtype, plan.threads)
        launch(variant, plan.shape, grad_input, grad_output, indices, R, inner, *plan.cut)


# Products and running sums --------------------------------------------------------------------


@device
def segment_of(lane, R, depth):
    """The steps start … end − 1 of 0 … R − 1 that belong to a lane, as wide as R."""
    each = quotient(fit(R + depth - 1, R), depth)
    start, end = np.int64(lane) * each, np.int64(lane + 1) * each
    return fit(min(start, np.int64(R)), R), fit(min(end, np.int64(R)), R)


@kernel
def _product(real, threads):
    def product(out, input, R, inner, tile, tiles, depth, groups, outer, rows):
        # One multiplication an element. A block owns the results of its columns.
        shared = cuda.shared.array(threads, real)
        o, i, lane = place(tile, tiles, depth, groups, outer, inner)
        total = real(1)
        if o >= 0:
            for r in span(lane, R, depth):
                total *= input[(o * R + r) * inner + i]
        total = fold(shared, total, tile, depth, lane, PRODUCT)
        if lane == 0:
            out[o * inner + i] = total

    return product


def prod_forward(out, input):
    if out.size:
        R, inner = input.shape[1:]
        plan = whole(*input.shape)
        launch(_product(out.dtype, plan.threads), plan.shape, out, input, R, inner, *plan.cut)


@kernel
def _product_backward(real, threads):
    def product_backward(
        grad_input, grad_output, input, R, inner, tile, tiles, depth, groups, outer, rows
    ):  # fmt: skip
        # y = Π x_r: dy/dx_r is the product of all others, that is of those before r and those after
        # r. A quotient y / x_r would fail at zeros. A lane owns the segment start … end − 1.
        parts = cuda.shared.array(threads, real)
        at = cuda.threadIdx.x
        o, i, lane = place(tile, tiles, depth, groups, outer, inner)
        start, end = segment_of(lane, R, depth) if o >= 0 else (0, 0)
        base = o * R * inner + i
        part = real(1)
        for r in range(start, end):
            part *= input[base + r * inner]
        parts[at] = part
        cuda.syncthreads()
        if o >= 0:
            before, after = grad_output[o * inner + i], real(1)
            for k in range(lane):
                before *= parts[at - (lane - k) * tile]
            for r in range(start, end):
                grad_input[base + r * inner] = before
                before *= input[base + r * inner]
            for k in range(lane + 1, depth):
                after *= parts[at + (k - lane) * tile]
            for r in range(end - 1, start - 1, -1):
                grad_input[base + r * inner] *= after
                after *= input[base + r * inner]

    return product_backward


def prod_backward_input(grad_input, grad_output, input):
    if input.size:
        R, inner = input.shape[1:]
        plan = whole(*input.shape)
        variant = _product_backward(input.dtype, plan.threads)
        launch(variant, plan.shape, grad_input, grad_output, input, R, inner, *plan.cut)


@kernel
def _cumsum(number, threads):
    def cumsum(out, input, reverse, R, inner, tile, tiles, depth, groups, outer, rows):
        # Two additions an element, in float64 for floats: a running sum of float32 would lose what
        # a sum does not. A lane owns the steps start … end − 1.
        sums = cuda.shared.array(threads, number)
        at = cuda.threadIdx.x
        o, i, lane = place(tile, tiles, depth, groups, outer, inner)
        start, end = segment_of(lane, R, depth) if o >= 0 else (0, 0)
        base = o * R * inner + i
        total = number(0)
        for step in range(start, end):
            r = R - 1 - step if reverse else step
            total += number(input[base + r * inner])
        sums[at] = total
        cuda.syncthreads()
        total = number(0)
        if o >= 0:
            for k in range(lane):
                total += sums[at - (lane - k) * tile]
        for step in range(start, end):
            r = R - 1 - step if reverse else step
            total += number(input[base + r * inner])
            out[base + r * inner] = total

    return cumsum


def cumsum_forward(out, input, reverse):
    if out.size:
        R, inner = input.shape[1:]
        number = np.float64 if out.dtype.kind == "f" else np.int64
        plan = whole(*input.shape)
        variant = _cumsum(number, plan.threads)
        launch(variant, plan.shape, out, input, bool(reverse), R, inner, *plan.cut)
