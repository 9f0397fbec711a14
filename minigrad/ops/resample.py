"""Image resizing (interpolation): nearest, linear, cubic and area, with torch's index arithmetic.

All modes are separable: along each axis an output is a sum of a few inputs with weights. A table an
axis, made on the host in torch's arithmetic, says which ones; one launcher goes by two of them, and
with the transposed tables it computes the gradient. Axes of 3-D data are resized two at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..dtypes import float32
from ..engine import Function, Tensor
from ..errors import ShapeError
from .cast import clone
from .operands import empty_nhwc, floating_operands, nhwc, takes_tensor
from .pool import adaptive_avg_pool2d
from .shape import reshape, squeeze, unsqueeze
from .transfer import constant

__all__ = ["interpolate", "upsample", "upsample_bilinear", "upsample_nearest"]

# The dimensions of the inputs that a mode takes.
_MODES = {
    "nearest": (3, 4, 5), "nearest-exact": (3, 4, 5), "area": (3, 4, 5),
    "linear": (3,), "bilinear": (4,), "trilinear": (5,), "bicubic": (4,),
}  # fmt: skip

_KINDS = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}


class Method(NamedTuple):
    """How every axis is resized; kind: 'nearest', 'nearest-exact', 'linear' or 'cubic'."""

    kind: str
    align_corners: bool = False
    antialias: bool = False


class Axis(NamedTuple):
    """From how many positions to how many; scale: the factor that the user gave, if any."""

    size: int
    out: int
    scale: float | None


class Table(NamedTuple):
    """Output o is Σ weights[k] · input[cells[k]] over starts[o] ≤ k < starts[o + 1]."""

    starts: np.ndarray
    cells: np.ndarray
    weights: np.ndarray


class Resample(Function):
    """out[o] = Σ weight[o, i] · input[i]: dinput[i] = Σ weight[o, i] · grad[o]."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, rows: Axis, cols: Axis, method: Method) -> Tensor:
        ctx.sizes = rows.size, cols.size
        tables = [_tables(axis, method, input.dtype) for axis in (rows, cols)]
        ctx.transposed = [transposed for _, transposed in tables]
        return _resampled(input, (rows.out, cols.out), [table for table, _ in tables])

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return _resampled(grad_output, ctx.sizes, ctx.transposed), None, None, None


def _resampled(input: Tensor, size: tuple[int, int], tables: Sequence[Table]) -> Tensor:
    out, out_nhwc = empty_nhwc((*input.shape[:2], *size), input.dtype, input.device)
    kernels.get(input.device).resample.resample2d_forward(
        out_nhwc, nhwc(input), *(constant(array, input.device) for t in tables for array in t)
    )
    return out


# Tables -------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _tables(axis: Axis, method: Method, dtype: np.dtype) -> tuple[Table, Table]:
    """The table of an axis and its transpose."""
    if method.antialias:
        cells, weights, used = _filtered(axis, method, dtype)
    else:
        cells, weights = _interpolated(axis, method, dtype)
        used = np.ones(cells.shape, bool)
    outputs = np.broadcast_to(np.arange(axis.out)[:, None], cells.shape)[used]
    cells, weights = cells[used], weights[used]
    order = np.argsort(cells, kind="stable")
    return (
        _table(outputs, cells, weights, axis.out),
        _table(cells[order], outputs[order], weights[order], axis.size),
    )


def _table(results: np.ndarray, cells: np.ndarray, weights: np.ndarray, count: int) -> Table:
    starts = np.searchsorted(results, np.arange(count + 1))
    return Table(starts.astype(np.int64), np.ascontiguousarray(cells), weights)


def _step(axis: Axis, align_corners: bool, real: type) -> Any:
    """Input positions from one output to the next, as torch rounds it."""
    if align_corners:
        return real(axis.size - 1) / real(axis.out - 1) if axis.out > 1 else real(0)
    return real(1 / axis.scale) if axis.scale else real(axis.size) / real(axis.out)


def _interpolated(axis: Axis, method: Method, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """(cells, weights), each (outputs, taps): between the nearest one, two or four positions."""
    kind, size, last, o = method.kind, axis.size, axis.size - 1, np.arange(axis.out)
    if kind.startswith("nearest"):
        # In float32 whatever the dtype is.
        step, shift = _step(axis, False, np.float32), np.float32(0.5 * (kind == "nearest-exact"))
        cells = np.floor((o.astype(float32) + shift) * step).astype(np.int64)
        return np.minimum(cells, last)[:, None], np.ones((len(o), 1), dtype)
    if kind == "linear" and axis.out == size:
        position = o.astype(dtype)
    else:
        position = _positions(axis, method, dtype)
    if kind == "linear":
        position = np.maximum(position, 0)
    low = np.minimum(np.floor(position).astype(np.int64), last)
    t = np.clip(position - low.astype(dtype), 0, 1).astype(dtype)[:, None]
    if kind == "linear":
        cells, weights = low[:, None] + [0, 1], np.concatenate([1 - t, t], axis=1)
    else:
        cells = low[:, None] + [-1, 0, 1, 2]
        weights = _cubic(np.concatenate([t + 1, t, 1 - t, 2 - t], axis=1), -0.75)
    return np.clip(cells, 0, last), weights.astype(dtype)


def _positions(axis: Axis, method: Method, dtype: np.dtype) -> np.ndarray:
    real, o = dtype.type, np.arange(axis.out).astype(dtype)
    step = _step(axis, method.align_corners, real)
    return o * step if method.align_corners else (o + real(0.5)) * step - real(0.5)


def _filtered(
    axis: Axis, method: Method, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(cells, weights, whether used), each (outputs, taps): a filter as wide as a step."""
    real = dtype.type
    step = _step(axis, method.align_corners, real)
    half = 1 if method.kind == "linear" else 2
    support = real(half) * max(step, real(1))
    center = (np.arange(axis.out).astype(dtype) + real(0.5)) * step
    first = np.maximum((center - support + real(0.5)).astype(np.int64), 0)
    taps = 2 * math.ceil(support) + 1
    end = np.minimum((center + support + real(0.5)).astype(np.int64), axis.size)
    cells = first[:, None] + np.arange(taps)
    used = cells < end[:, None]
    distance = np.abs(cells - center[:, None] + real(0.5)).astype(dtype) / max(step, real(1))
    weights = np.maximum(1 - distance, 0) if half == 1 else _cubic(distance, -0.5)
    weights = np.where(used, weights, 0)
    return cells, (weights / weights.sum(axis=1, keepdims=True)).astype(dtype), used


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution (Keys 1981), by the distance from the point to a cell."""
    x = distance
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


# Public functions ---------------------------------------------------------------------------


@takes_tensor
def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resize to a size, or by a factor, of which one must be given.

    input (N, C, L), (N, C, H, W) or (N, C, D, H, W); each size becomes ⌊size · factor⌋.
    mode: 'nearest', 'nearest-exact', 'area' (the average over adaptive windows), 'linear' (3-D),
        'bilinear' and 'bicubic' (4-D), 'trilinear' (5-D).
    align_corners: the corners' centres stay in place, instead of their outer edges.
    recompute_scale_factor: go by the ratio of the sizes instead of by the factor.
    antialias: 'bilinear' and 'bicubic' average over as many pixels as one result covers.
    Raises ShapeError, DTypeError or ValueError.
    """
    floating_operands("interpolate", "input", input)
    if mode in ("nearest", "nearest-exact", "area") and align_corners is not None:
        raise ValueError(
            f"interpolate: mode {mode!r} takes no align_corners, got {align_corners!r}"
        )
    sizes, scales = _sizes(input, size, scale_factor)
    if recompute_scale_factor and size is not None:
        raise ValueError("interpolate: recompute_scale_factor is for a scale_factor, got a size")
    if recompute_scale_factor:
        scales = (None,) * len(sizes)
    if antialias and not (mode in ("bilinear", "bicubic") and input.ndim == 4):
        raise ValueError(
            "interpolate: antialias is for modes 'bilinear' and 'bicubic' of (N, C, H, W), got "
            f"mode {mode!r} and shape {input.shape}"
        )
    if input.ndim not in _MODES.get(mode, ()):
        raise ValueError(
            f"interpolate: modes and the dimensions that they take are {_MODES}, got mode {mode!r} "
            f"and shape {input.shape}"
        )
    if 0 in input.shape[1:]:
        raise ShapeError(f"interpolate: only the batch may be empty, got shape {input.shape}")
    method = Method(_KINDS.get(mode, mode), bool(align_corners), antialias)
    N, C, *spatial = input.shape
    if input.ndim == 3:
        out = _resize(unsqueeze(input, 2), (1, *sizes), (None, *scales), method)
        return squeeze(out, 2)
    if input.ndim == 5:
        D, H, W = spatial
        deep, *flat = sizes
        layers = _resize(reshape(input, N, C, D, H * W), (deep, H * W), (scales[0], None), method)
        out = _resize(reshape(layers, N, C * deep, H, W), flat, scales[1:], method)
        return reshape(out, N, C, *sizes)
    if mode == "nearest":
        # torch's 2-D kernels go by the sizes where they are the same or double.
        scales = tuple(
            None if out in (n, 2 * n) else scale
            for n, out, scale in zip(spatial, sizes, scales, strict=True)
        )
    return _resize(input, sizes, scales, method)


def _resize(
    input: Tensor, sizes: Sequence[int], scales: Sequence[float | None], method: Method
) -> Tensor:
    """Of the last two axes."""
    if method.kind == "area":
        return adaptive_avg_pool2d(input, (sizes[0], sizes[1]))
    H, W = input.shape[2:]
    rows, cols = Axis(H, sizes[0], scales[0]), Axis(W, sizes[1], scales[1])
    if method.antialias:
        # One axis after the other, because filters are wide; one that keeps its size is left alone.
        if cols.out == W and rows.out == H:
            return clone(input)
        if cols.out != W:
            input = Resample.apply(input, Axis(H, H, None), cols, method)
        if rows.out != H:
            input = Resample.apply(input, rows, Axis(cols.out, cols.out, None), method)
        return input
    return Resample.apply(input, rows, cols, method)


def _sizes(
    input: Tensor, size: Any, scale_factor: Any
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """The size of the result and the factor for each axis, checked."""
    if (size is None) == (scale_factor is None):
        raise ValueError(
            "interpolate: either size or scale_factor must be given, got "
            f"{size!r} and {scale_factor!r}"
        )
    name, given = ("size", size) if scale_factor is None else ("scale_factor", scale_factor)
    spatial = input.shape[2:]
    items = tuple(given) if isinstance(given, (tuple, list)) else (given,) * len(spatial)
    if len(items) != len(spatial):
        raise ValueError(
            f"interpolate: {name} must have a number for each of the axes {spatial}, got {given!r}"
        )
    scales: tuple[float | None, ...] = (None,) * len(items)
    if name == "size":
        try:
            sizes = tuple(n.__index__() for n in items)
        except (AttributeError, TypeError):
            raise TypeError(f"interpolate: size must be an int or ints, got {size!r}") from None
    else:
        scales = tuple(check_number("interpolate", name, factor) for factor in items)
        if not all(map(math.isfinite, scales)):  # type: ignore[arg-type]
            raise ValueError(f"interpolate: scale_factor must be finite, got {scale_factor!r}")
        sizes = tuple(int(n * factor) for n, factor in zip(spatial, scales, strict=True))  # type: ignore[operator]
    if not all(1 <= n < 2**31 for n in sizes):
        raise ShapeError(
            f"interpolate: sizes must be from 1 to {2**31 - 1}, got {sizes} for an input of shape "
            f"{input.shape}"
        )
    return sizes, scales


def upsample(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """The former name of `interpolate`."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
) -> Tensor:
    """`interpolate` with mode 'nearest'."""
    return interpolate(input, size, scale_factor)


def upsample_bilinear(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
) -> Tensor:
    """`interpolate` with mode 'bilinear' and aligned corners."""
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)
