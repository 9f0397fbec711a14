"""max_unpool2d, on indices that max_pool2d gave: all different in each plane."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError, TargetError
from minigrad.ops.unpool import max_unpool2d
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import floats

from .conv import int_or_pair


class Axis(NamedTuple):
    """One axis: its input, the output size that follows, and one that may be asked for."""

    size: int
    kernel: int
    stride: int
    pad: int
    usual: int
    named: int


@st.composite
def unpool_axes(draw: st.DrawFn) -> Axis:
    kernel = draw(st.integers(1, 3))
    stride = draw(st.sampled_from((kernel, 1, 2, 3)))
    size = draw(st.integers(1, 4))
    pad = draw(st.integers(0, min(kernel // 2, ((size - 1) * stride + kernel - 1) // 2)))
    usual = (size - 1) * stride + kernel - 2 * pad
    named = draw(st.integers(max(1, usual - stride + 1), usual + stride - 1))
    return Axis(size, kernel, stride, pad, usual, named)


@st.composite
def unpool_cases(draw: st.DrawFn) -> Case:
    rows, cols = (draw(unpool_axes()) for _ in range(2))
    named = draw(st.booleans())
    out = tuple(axis.named if named else axis.usual for axis in (rows, cols))
    if rows.size * cols.size > out[0] * out[1]:  # too few places for different indices
        rows = cols = Axis(3, 1, 1, 0, 3, 3)
        out = (3, 3)
    sizes, kernel, stride, pad, _, _ = zip(rows, cols, strict=True)
    N, C = draw(st.integers(0, 3)), draw(st.sampled_from((1, 3, 5)))
    generator = np.random.default_rng(draw(st.integers(0, 999)))
    cells = sizes[0] * sizes[1]
    planes = [generator.permutation(out[0] * out[1])[:cells] for _ in range(N * C)]
    indices = np.array(planes, np.int64).reshape(N, C, *sizes)
    x = draw(floats((N, C, *sizes), nan=draw(st.integers(0, 5)) == 0))
    if N == 1 and draw(st.booleans()):
        x, indices = draw(floats(indices.shape[1:])), indices[0]
    arguments: dict[str, Any] = {
        "kernel_size": int_or_pair(draw, kernel),
        "stride": int_or_pair(draw, stride),
        "padding": int_or_pair(draw, pad),
    }
    if named:
        whole = x.ndim == 4 and draw(st.booleans())
        arguments["output_size"] = [*(x.shape[:-2] if whole else ()), *out]
    return Case((x, indices), arguments)


def _errors() -> tuple[ErrorCase, ...]:
    x, i = np.zeros((1, 2, 3, 3)), np.zeros((1, 2, 3, 3), np.int64)
    calls: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
        ((x, i + 36, 2), {}, TargetError, r"indices must be in \[0, 36\) for .*6×6, got 36"),
        ((x, i - 1, 2), {}, TargetError, r"got -1"),
        ((x, i[:, :1], 2), {}, ShapeError, r"input's shape \(1, 2, 3, 3\), got \(1, 1, 3, 3\)"),
        ((x, x, 2), {}, DTypeError, r"indices must be an int64 tensor, got float64"),
        ((x[0, 0], i[0, 0], 2), {}, ShapeError, r"input must be \(N, C, H, W\) or \(C, H, W\)"),
        ((x, i, 0), {}, ShapeError, r"kernel_size must be at least 1"),
        ((x, i, 2), {"output_size": (8, 6)}, ShapeError, r"differ from \(6, 6\).*got \(8, 6\)"),
        ((x, i, 2), {"output_size": (6,)}, ShapeError, r"output_size must be \(H_out, W_out\)"),
        ((x, i, 2), {"padding": 3}, ShapeError, r"output size must be at least 1"),
    ]
    return tuple(
        # torch computes a size from a kernel of 0 and more padding than there is.
        ErrorCase(args, kw, error, f"max_unpool2d: .*{m}", torch_raises=args[2] > 0 and not kw)
        for args, kw, error, m in calls
    )


SPECS: list[OpSpec] = [
    OpSpec(
        name="max_unpool2d",
        function=max_unpool2d,
        oracle=lambda torch, *args, **kw: torch.nn.functional.max_unpool2d(*args, **kw),
        cases=unpool_cases(),
        exact=True,
        errors=_errors(),
    ),
]
