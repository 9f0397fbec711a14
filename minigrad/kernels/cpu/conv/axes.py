"""Index tables: which taps each target position uses, and which source positions they read.

**Forward and input gradient are one kernel.** Both compute, for every target pixel, a sum over the
taps of a window in a source image:
    target[n, i, j, c] = bias[c]
        + Σ_{taps (a, b)} Σ_k source[n, row(i, a), col(j, b), k] · weight[a, b, k, c]
where the valid taps of row i form an arithmetic progression, and so do the source rows they read.
The tables hold those progressions, for either direction, so that kernels know nothing of stride,
padding and dilation. Only valid taps are visited: no work is spent on padding.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np

from ....geometry import Conv2dDims


class Axis(NamedTuple):
    """positions[i] = (tap, taps, source): target i uses the `taps` taps that start at `tap`; the
    first of them reads `source`. steps: from a tap to the next, in the kernel and in the source.

    runs[r] = (target, length, target_step, source_shift): `length` positions, starting at `target`
    and `target_step` apart, that use the same taps, each reading `source_shift` further on than the
    one before.
    """

    positions: np.ndarray
    runs: np.ndarray
    steps: tuple[int, int]


class Axes(NamedTuple):
    """before: where stride is 1, target pixel (i, j) sees source row i − before[0] with its first
    tap, inside or not, and column j − before[1]."""

    rows: Axis
    cols: Axis
    before: tuple[int, int]


@lru_cache(maxsize=4096)
def forward_axes(dims: Conv2dDims) -> Axes:
    d = dims
    return Axes(
        _forward_axis(d.H, d.H_out, d.kH, d.stride_h, d.top, d.dilation_h),
        _forward_axis(d.W, d.W_out, d.kW, d.stride_w, d.left, d.dilation_w),
        (d.top, d.left),
    )


@lru_cache(maxsize=4096)
def adjoint_axes(dims: Conv2dDims) -> Axes:
    """Of the input gradient. Y = X ⋆ W reads X[oh·s − p + kh·d] for tap kh, so X[ih] collects
    Y[oh]·W[kh] over all (oh, kh) with oh·s + kh·d = ih + p."""
    d = dims
    return Axes(
        _adjoint_axis(d.H, d.H_out, d.kH, d.stride_h, d.top, d.dilation_h),
        _adjoint_axis(d.W, d.W_out, d.kW, d.stride_w, d.left, d.dilation_w),
        (d.kH - 1 - d.top, d.kW - 1 - d.left),  # the reversed taps u = kH − 1 − kh
    )


def _forward_axis(size: int, out: int, kernel: int, stride: int, before: int, step: int) -> Axis:
    """Output o reads input o·stride − before + t·step for every tap t where that is inside."""
    positions = []
    for o in range(out):
        origin = o * stride - before
        first = -(origin // step) if origin < 0 else 0
        last = min(kernel - 1, (size - 1 - origin) // step)
        taps = max(0, last - first + 1)
        positions.append((first, taps, origin + first * step) if taps else (0, 0, 0))
    return _axis(positions, list(range(out)), (1, step))


def _adjoint_axis(size: int, out: int, kernel: int, stride: int, before: int, step: int) -> Axis:
    """Input i receives from output o through tap t when i + before = o·stride + t·step.

    Taps are counted backwards, u = kernel − 1 − t, so that o grows with u. Neighbours of one phase
    (i + before) mod stride share their taps, so runs are looked for phase by phase.
    """
    positions = []
    for i in range(size):
        taps = [
            (kernel - 1 - t, (i + before - t * step) // stride)
            for t in reversed(range(kernel))
            if (i + before - t * step) % stride == 0 and 0 <= i + before - t * step < out * stride
        ]
        tap, source = taps[0] if taps else (0, 0)
        positions.append((tap, len(taps), source))
    order = sorted(range(size), key=lambda i: ((i + before) % stride, i))
    tap_step = stride // gcd(stride, step)
    return _axis(positions, order, (tap_step, tap_step * step // stride))


def _axis(positions: list[tuple[int, int, int]], order: list[int], steps: tuple[int, int]) -> Axis:
    """Join the positions, taken in `order`, into runs of equal taps and equal steps."""
    runs: list[list[int]] = []
    for target in order:
        tap, taps, source = positions[target]
        if runs:
            first, length, target_step, source_shift = runs[-1]
            previous = first + (length - 1) * target_step
            step = [target - previous, source - positions[previous][2]]
            same_taps = positions[first][:2] == (tap, taps)
            if same_taps and (length == 1 or step == [target_step, source_shift]):
                runs[-1] = [first, length + 1, *step]
                continue
        runs.append([target, 1, 0, 0])
    return Axis(
        np.array(positions, dtype=np.int64).reshape(-1, 3),
        np.array(runs, dtype=np.int64).reshape(-1, 4),
        steps,
    )
