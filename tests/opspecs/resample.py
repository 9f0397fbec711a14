"""Resizing, sampling at the points of a grid, and sub-pixel rearrangement."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import ShapeError
from minigrad.ops.grid import affine_grid, grid_sample
from minigrad.ops.resample import interpolate
from minigrad.ops.shuffle import channel_shuffle, pixel_shuffle, pixel_unshuffle
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import floats

MODES = {
    3: ("nearest", "nearest-exact", "area", "linear"),
    4: ("nearest", "nearest-exact", "area", "bilinear", "bilinear", "bicubic", "bicubic"),
    5: ("nearest", "nearest-exact", "area", "trilinear"),
}


@st.composite
def interpolate_cases(draw: st.DrawFn, antialias: bool) -> Case:
    ndim = 4 if antialias else draw(st.sampled_from((3, 4, 4, 4, 5)))
    mode = draw(st.sampled_from(("bilinear", "bicubic") if antialias else MODES[ndim]))
    spatial = tuple(draw(st.integers(2 if antialias else 1, 7)) for _ in range(ndim - 2))
    kwargs: dict[str, Any] = {"mode": mode}
    if "linear" in mode or mode == "bicubic":
        kwargs["align_corners"] = draw(st.sampled_from((None, False, True)))
    if antialias:
        kwargs["antialias"] = True
    if draw(st.booleans()):
        # torch's antialiased result of width 1 contradicts its own gradient.
        least = 2 if antialias else 1
        sizes = tuple(draw(st.integers(least, 9)) for _ in spatial)
        kwargs["size"] = sizes[0] if len(set(sizes)) == 1 else sizes
    else:
        # No factor that puts a point on the border of two pixels but for rounding.
        possible = [f for f in (0.5, 0.7, 1.5, 2, 3) if min(spatial) * f >= 1 + antialias]
        factors = tuple(draw(st.sampled_from(possible)) for _ in spatial)
        kwargs["scale_factor"] = factors[0] if len(set(factors)) == 1 else factors
        kwargs["recompute_scale_factor"] = draw(st.sampled_from((None, False, True)))
    shape = (draw(st.integers(0 if ndim == 4 else 1, 2)), draw(st.sampled_from((1, 3, 5, 17))))
    return Case((draw(floats((*shape, *spatial))),), kwargs)


def interpolate_errors() -> tuple[ErrorCase, ...]:
    x = np.zeros((2, 3, 4, 5))
    size = {"size": 4}
    calls: list[tuple[np.ndarray, dict[str, Any], type[Exception], str]] = [
        (x, {}, ValueError, r"either size or scale_factor must be given"),
        (x, size | {"scale_factor": 2}, ValueError, r"must be given, got 4 and 2"),
        (x, {"size": (4, 4, 4)}, ValueError, r"each of the axes \(4, 5\), got \(4, 4, 4\)"),
        (x, {"scale_factor": (2.0,)}, ValueError, r"scale_factor must have .*got \(2.0,\)"),
        (x, {"size": 2.5}, TypeError, r"size must be an int or ints, got 2.5"),
        (x, {"size": (0, 2)}, ShapeError, r"from 1 to 2147483647, got \(0, 2\) .*\(2, 3, 4, 5\)"),
        (x, {"scale_factor": 0.1}, ShapeError, r"from 1 to .*, got \(0, 0\)"),
        (x, {"scale_factor": float("nan")}, ValueError, r"must be finite, got nan"),
        (x, size | {"recompute_scale_factor": True}, ValueError, r"is for a scale_factor"),
        (x, size | {"align_corners": False}, ValueError, r"'nearest' takes no align_corners"),
        (x, size | {"antialias": True}, ValueError, r"antialias is for .*got mode 'nearest'"),
        (x, size | {"mode": "linear"}, ValueError, r"got mode 'linear' and shape"),
        (x, size | {"mode": "cubic"}, ValueError, r"got mode 'cubic'"),
        (x[:, :0], size, ShapeError, r"only the batch may be empty"),
    ]
    huge = ErrorCase((x,), {"scale_factor": 1e30}, ShapeError, "interpolate: .*from 1 to", False)
    return huge, *(ErrorCase((a,), kw, error, f"interpolate: .*{m}") for a, kw, error, m in calls)


# Off the middle of two pixels, where the nearest one changes, and off the pixels themselves, where
# the slope does.
FRACTIONS = (0.2, 0.3, 0.7, 0.85)


@st.composite
def grid_sample_cases(draw: st.DrawFn) -> Case:
    N, C = draw(st.integers(0, 2)), draw(st.sampled_from((1, 3, 17)))
    H, W, H_out, W_out = (draw(st.integers(1, 6)) for _ in range(4))
    align = draw(st.booleans())
    seed = draw(st.integers(0, 2**16))
    generator = np.random.default_rng(seed)
    axes = []
    for size in (W, H):
        pixels = generator.integers(-size - 2, 2 * size + 2, (N, H_out, W_out)) + generator.choice(
            FRACTIONS, (N, H_out, W_out)
        )
        axes.append(2 * pixels / max(size - 1, 1) - 1 if align else (2 * pixels + 1) / size - 1)
    kwargs = {
        "mode": draw(st.sampled_from(("bilinear", "bilinear", "nearest", "bicubic"))),
        "padding_mode": draw(st.sampled_from(("zeros", "border", "reflection"))),
        "align_corners": align,
    }
    return Case((draw(floats((N, C, H, W))), np.stack(axes, axis=-1)), kwargs)


def grid_sample_errors() -> tuple[ErrorCase, ...]:
    x, grid = np.zeros((2, 3, 4, 5)), np.zeros((2, 6, 7, 2))
    calls: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
        ((x, grid), {"mode": "cubic"}, ValueError, r"mode must be one of .*got 'cubic'"),
        ((x, grid), {"padding_mode": "edge"}, ValueError, r"padding_mode must .*got 'edge'"),
        ((x[0], grid), {}, ShapeError, r"input must be \(N, C, H, W\)"),
        ((x[:, :, :0], grid), {}, ShapeError, r"with H and W at least 1"),
        ((x, grid[:1]), {}, ShapeError, r"grid must be .*N = 2, got shape \(1, 6, 7, 2\)"),
        ((x, grid[..., :1]), {}, ShapeError, r"grid must be \(N, H_out, W_out, 2\)"),
    ]
    fixed = {"align_corners": False}
    return tuple(
        ErrorCase(args, fixed | kw, error, f"grid_sample: .*{m}") for args, kw, error, m in calls
    )


@st.composite
def affine_grid_cases(draw: st.DrawFn) -> Case:
    N, axes = draw(st.integers(1, 3)), draw(st.sampled_from((2, 2, 3)))
    align = draw(st.booleans())
    size = (N, 1, *(draw(st.integers(1 + align, 4)) for _ in range(axes)))
    return Case((draw(floats((N, axes, axes + 1))), size), {"align_corners": align})


@st.composite
def shuffle_cases(draw: st.DrawFn, name: str) -> Case:
    factor = draw(st.integers(1, 3))
    # torch's pixel_shuffle has no gradient for an empty batch.
    batch = (2,) if name == "channel_shuffle" else draw(st.sampled_from(((), (2,), (2, 3))))
    C, H, W = (draw(st.integers(1, 3)) for _ in range(3))
    if name == "pixel_unshuffle":
        H, W = H * factor, W * factor
    else:
        C *= factor**2
    return Case((draw(floats((*batch, C, H, W))), factor))


def shuffle_errors(name: str) -> tuple[ErrorCase, ...]:
    x = np.zeros((2, 3, 5, 7))
    return tuple(
        ErrorCase((array, factor), {}, error, f"{name}: .*{match}")
        for array, factor, error, match in (
            (x, 2, ShapeError, r"\(2, 3, 5, 7\)"),
            (x, 0, ValueError, r"(factor|groups) must be at least 1, got 0"),
            (x[0, 0], 1, ShapeError, r"must be \(…, C, H, W\), got shape \(5, 7\)"),
        )
    )


def _functional(name: str) -> Any:
    return lambda torch, *args, **kwargs: getattr(torch.nn.functional, name)(*args, **kwargs)


def _native(name: str) -> Any:
    return lambda torch, *args: getattr(torch, name)(*args)


SPECS: list[OpSpec] = [
    OpSpec(
        name="interpolate",
        function=interpolate,
        oracle=_functional("interpolate"),
        cases=interpolate_cases(antialias=False),
        errors=interpolate_errors(),
    ),
    OpSpec(
        name="interpolate_antialias",
        function=interpolate,
        oracle=_functional("interpolate"),
        cases=interpolate_cases(antialias=True),
    ),
    OpSpec(
        name="grid_sample",
        function=grid_sample,
        oracle=_functional("grid_sample"),
        cases=grid_sample_cases(),
        errors=grid_sample_errors(),
    ),
    OpSpec(
        name="affine_grid",
        function=affine_grid,
        oracle=_functional("affine_grid"),
        cases=affine_grid_cases(),
        errors=tuple(
            ErrorCase((np.zeros(shape), size, False), {}, ShapeError, f"affine_grid: .*{match}")
            for shape, size, match in (
                ((2, 2, 3), (2, 1, 4), r"size must be .*got \(2, 1, 4\)"),
                ((2, 2, 3), (2, 1, 0, 4), r"size must be .*got \(2, 1, 0, 4\)"),
                ((2, 3, 3), (2, 1, 4, 4), r"theta must be \(2, 2, 3\).*\(2, 3, 3\)"),
            )
        ),
    ),
    *(
        OpSpec(
            name=name,
            function=function,
            oracle=_native(name),
            cases=shuffle_cases(name),
            exact=True,
            accepts_integers=True,
            view=True,
            errors=shuffle_errors(name),
        )
        for name, function in (
            ("pixel_shuffle", pixel_shuffle),
            ("pixel_unshuffle", pixel_unshuffle),
            ("channel_shuffle", channel_shuffle),
        )
    ),
]
