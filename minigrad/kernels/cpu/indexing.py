"""Gather and scatter: selecting and placing elements by position. Arrays are seen as (B, J, A), see
the reference."""

from __future__ import annotations

import numpy as np

from ._jit import exact_helper, kernel, serial_kernel
from ._tasks import elements, light_tasks, lower_to, tasks, whole

_BLOCK = 256  # elements or rows that one task handles


@kernel
def accumulate_index(span, positions, bad, index, low, size, step):
    # One pass over the indices. Parallel over elements.
    if whole(span):
        bad[0] = positions.size
    for i in elements(span, positions.size):
        at = index[i]
        if at < low or at >= size:
            lower_to(bad, np.int64(i))
        else:
            positions[i] += step * (at + size if at < 0 else at)


@kernel
def gather_positions(span, positions, bad, index, size):
    # One pass over the indices. Parallel over o.
    O, M, I = index.shape  # noqa: E741
    if whole(span):
        bad[0] = index.size
    for o in light_tasks(span, O, M * I):
        for m in range(M):
            for i in range(I):
                at = index[o, m, i]
                if at < 0 or at >= size:
                    lower_to(bad, (o * M + m) * I + i)
                else:
                    positions[o, m, i] = (o * size + at) * I + i


@serial_kernel
def mask_positions(positions, count, mask):
    # Serial: where an element goes depends on all before it. No branch: found ≤ i.
    found = 0
    for i in range(mask.size):
        positions[found] = i
        found += mask[i]
    count[0] = found


@kernel
def index_forward(span, out, input, positions):
    # Parallel over blocks of rows m of one b; each row is contiguous.
    B, M, A = out.shape
    blocks = (M + _BLOCK - 1) // _BLOCK
    for task in tasks(span, B * blocks):
        b, m0 = task // blocks, task % blocks * _BLOCK
        for m in range(m0, min(m0 + _BLOCK, M)):
            for a in range(A):
                out[b, m, a] = input[b, positions[m], a]


@serial_kernel
def _group(ends, order, positions):
    # Counting sort, stable: the m of position j are order[ends[j − 1] : ends[j]], ascending.
    ends[:] = 0
    for m in range(positions.size):
        ends[positions[m]] += 1
    total = 0
    for j in range(ends.size):
        count = ends[j]
        ends[j] = total
        total += count
    for m in range(positions.size):
        j = positions[m]
        order[ends[j]] = m
        ends[j] += 1


@kernel
def _sum_groups(span, grad_input, grad_output, ends, order):
    # Parallel over blocks of positions j of one b. Each task owns its rows and adds their terms in
    # the order of m, in float64: deterministic.
    B, J, A = grad_input.shape
    blocks = (J + 31) // 32
    for task in tasks(span, B * blocks):
        b, j0 = task // blocks, task % blocks * 32
        for j in range(j0, min(j0 + 32, J)):
            first = ends[j - 1] if j > 0 else 0
            last = ends[j]
            if last == first:
                for a in range(A):
                    grad_input[b, j, a] = 0
            elif last == first + 1:
                m = order[first]
                for a in range(A):
                    grad_input[b, j, a] = grad_output[b, m, a]
            else:
                for a in range(A):
                    total = 0.0
                    for k in range(first, last):
                        total += grad_output[b, order[k], a]
                    grad_input[b, j, a] = total


def index_backward_input_workspace(J, M):
    return J + M


def index_backward_input(grad_input, grad_output, positions, scratch):
    # out[b, m, a] = input[b, positions[m], a]: input[b, j, a] is read by every m with
    # positions[m] = j, so its gradient is the sum of theirs.
    J = grad_input.shape[1]
    ends, order = scratch[:J], scratch[J:]
    _group(ends, order, positions)
    _sum_groups(grad_input, grad_output, ends, order)


@kernel
def put(span, target, values, positions):
    # Parallel over blocks of columns a of one b; rows in order, so the last m wins.
    B, M, A = values.shape
    blocks = (A + _BLOCK - 1) // _BLOCK
    for task in tasks(span, B * blocks):
        b, a0 = task // blocks, task % blocks * _BLOCK
        for m in range(M):
            for a in range(a0, min(a0 + _BLOCK, A)):
                target[b, positions[m], a] = values[b, m, a]


@kernel
def triangle_forward(span, out, input, diagonal, lower):
    # One pass. Parallel over rows.
    B, R, C = out.shape
    for row in tasks(span, B * R):
        b, r = row // R, row % R
        # Columns [first, last) are kept.
        first = 0 if lower else min(max(r + diagonal, 0), C)
        last = min(max(r + diagonal + 1, 0), C) if lower else C
        for c in range(C):
            out[b, r, c] = 0
        for c in range(first, last):
            out[b, r, c] = input[b, r, c]


@exact_helper
def _advanced(start, count, step):
    """start + count·step: the product is rounded, then the sum."""
    return start + count * step


@kernel
def arange(span, out, start, step):
    # One pass. Parallel over elements.
    for i in light_tasks(span, out.size, 1):
        out[i] = _advanced(start, i, step)


@kernel
def linspace(span, out, start, end):
    # One pass. Parallel over elements. Both ends are exact.
    n = out.size
    step = (end - start) / max(n - 1, 1)
    half = (n + 1) // 2
    for i in tasks(span, n):
        out[i] = _advanced(start, i, step) if i < half else _advanced(end, n - 1 - i, -step)
