"""Spatial transformer: an image sampled at the points of a grid, and affine grids.

Source: Jaderberg et al. 2015, "Spatial transformer networks".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import kernels
from ..engine import Function, Tensor
from ..errors import ShapeError
from ..kernels.formulas import BORDER, REFLECTION, ZEROS
from .arithmetic import mul
from .creation import linspace, ones, zeros
from .join import stack
from .matmul import matmul
from .operands import c_order, empty, empty_nhwc, floating_operands, nhwc
from .shape import expand, reshape, sizes_of, transpose

__all__ = ["affine_grid", "grid_sample"]

# The cells that a point reads along each axis.
_TAPS = {"bilinear": 2, "nearest": 1, "bicubic": 4}
_PADDING = {"zeros": ZEROS, "border": BORDER, "reflection": REFLECTION}


class GridSample(Function):
    """out = Σ weight(x, y) · input: dinput = Σ weight · grad, dx = Σ_c grad · Σ ∂weight/∂x · input.

    The formulas of weights and their derivatives are in kernels/formulas.py.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, grid: Tensor, options: tuple[int, int, bool]) -> Tensor:
        N, H_out, W_out, _ = grid.shape
        out, out_nhwc = empty_nhwc((N, input.shape[1], H_out, W_out), input.dtype, input.device)
        kernels.get(input.device).grid.grid_sample_forward(
            out_nhwc, nhwc(input), c_order(grid), *options
        )
        ctx.save_for_backward(input, grid)
        ctx.options = options
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, grid = ctx.saved_tensors
        launch = kernels.get(input.device).grid
        grad, points = nhwc(grad_output), c_order(grid)
        grad_input = grad_grid = None
        if ctx.needs_input_grad[0]:
            grad_input, out = empty_nhwc(input.shape, input.dtype, input.device)
            launch.grid_sample_backward_input(out, grad, points, *ctx.options)
        if ctx.needs_input_grad[1]:
            grad_grid = empty(grid.shape, grid.dtype, grid.device)
            launch.grid_sample_backward_grid(
                grad_grid.array, grad, nhwc(input), points, *ctx.options
            )
        return grad_input, grad_grid, None


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """The input at the points of a grid.

    input (N, C, H, W), grid (N, H_out, W_out, 2) of points (x, y) → (N, C, H_out, W_out).
    x = −1 and 1 are the outer edges of the first and last pixel, with align_corners their centres.
    mode: 'bilinear', 'nearest' (halves to even; no gradient for the grid) or 'bicubic'.
    padding_mode: what lies outside: 'zeros', 'border' (the edge) or 'reflection'.
    NaN and what is too far for an index reads 0, or an edge where positions are clipped to one.
    Raises ShapeError, DTypeError or ValueError.
    """
    floating_operands("grid_sample", "input grid", input, grid)
    for name, value, known in (
        ("mode", mode, _TAPS),
        ("padding_mode", padding_mode, _PADDING),
    ):
        if value not in known:
            raise ValueError(
                f"grid_sample: {name} must be one of {', '.join(known)}, got {value!r}"
            )
    if input.ndim != 4 or 0 in input.shape[2:]:
        raise ShapeError(
            f"grid_sample: input must be (N, C, H, W) with H and W at least 1, got shape "
            f"{input.shape}"
        )
    if grid.ndim != 4 or grid.shape[0] != input.shape[0] or grid.shape[3] != 2:
        raise ShapeError(
            f"grid_sample: grid must be (N, H_out, W_out, 2) with N = {input.shape[0]}, got shape "
            f"{grid.shape}"
        )
    options = _TAPS[mode], _PADDING[padding_mode], bool(align_corners)
    return GridSample.apply(input, grid, options)


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The grid of an affine map, for `grid_sample`.

    theta (N, 2, 3), size (N, C, H, W) → (N, H, W, 2); theta (N, 3, 4), size (N, C, D, H, W) →
    (N, D, H, W, 3). Entry (h, w) is theta · (x, y, 1) of that pixel's centre. Raises ShapeError or
    DTypeError.
    """
    floating_operands("affine_grid", "theta", theta)
    N, *places = (*(sizes := sizes_of("affine_grid", (tuple(size),)))[:1], *sizes[2:])
    axes = len(places)
    if axes not in (2, 3) or any(n < 1 for n in sizes):
        raise ShapeError(
            f"affine_grid: size must be (N, C, H, W) or (N, C, D, H, W), each ≥ 1, got {sizes}"
        )
    if theta.shape != (N, axes, axes + 1):
        raise ShapeError(
            f"affine_grid: theta must be {(N, axes, axes + 1)} for the size {sizes}, got shape "
            f"{theta.shape}"
        )
    coordinates = []
    for axis in reversed(range(axes)):  # x comes first, and it runs along the last axis
        along = [1] * axes
        along[axis] = places[axis]
        centres = reshape(_centres(places[axis], theta, bool(align_corners)), along)
        coordinates.append(expand(centres, places))
    coordinates.append(ones(places, dtype=theta.dtype, device=theta.device))
    base = reshape(stack(coordinates, -1), -1, axes + 1)
    return reshape(matmul(base, transpose(theta, 1, 2)), N, *places, axes)


def _centres(n: int, like: Tensor, align_corners: bool) -> Tensor:
    """Of n pixels from −1 to 1."""
    if n == 1:
        return zeros((1,), dtype=like.dtype, device=like.device)
    ends = linspace(-1, 1, n, dtype=like.dtype, device=like.device)
    return ends if align_corners else mul(ends, (n - 1) / n)
