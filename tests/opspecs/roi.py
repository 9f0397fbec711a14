"""roi_pool and roi_align against torchvision's. roi_pool's values are compared bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError, TargetError
from minigrad.ops.roi import roi_align, roi_pool
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import floats
from minigrad.vision import batched_nms, nms

SCALES = (1.0, 0.5, 0.25, 1 / 16, 1.5, 0.3)


@st.composite
def roi_cases(draw: st.DrawFn, align: bool) -> Case:
    N = draw(st.integers(1, 3))
    C = draw(st.sampled_from((1, 3, 5, 17)))
    H, W = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    scale = draw(st.sampled_from(SCALES))
    K = draw(st.integers(0, 5))
    # Halves decide the rounding; others, boxes outside the map and turned-round ones do the rest.
    steps = st.one_of(st.integers(-4, 2 * 9), st.integers(-60, 60))
    fine = draw(st.sampled_from((0.0, 0.0, 0.13)))
    corners = [[(draw(steps) / 2 + fine) / scale for _ in range(4)] for _ in range(K)]
    images = [draw(st.integers(0, N - 1)) for _ in range(K)]
    # torchvision multiplies cell (0, 0) by 0 for points outside the map, and so spreads its NaN.
    nan = not align and draw(st.integers(0, 5)) == 0
    x = draw(floats((N, C, H, W), kinds=("normal", "ties"), nan=nan))
    size = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    arguments: dict[str, Any] = {"output_size": size if draw(st.booleans()) else size[0]}
    arguments["spatial_scale"] = scale
    if align:
        arguments["sampling_ratio"] = draw(st.sampled_from((-1, 0, 1, 2, 3)))
        arguments["aligned"] = draw(st.booleans())
    if align:
        # torchvision breaks off on a grid of negative size; minigrad gives 0 there.
        corners = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners]
    # Only float32 numbers, so that both dtypes see the same boxes.
    rows = np.array(corners, np.float32).reshape(K, 4).astype(np.float64)
    boxes: Any = np.column_stack([np.array(images, np.float64), rows])
    if draw(st.booleans()):
        boxes = [rows[[image == n for image in images]] for n in range(N)]
    return Case((x, boxes), arguments, frozenset({1}))


def _errors(name: str) -> tuple[ErrorCase, ...]:
    x = np.zeros((2, 3, 5, 5))

    def box(*numbers: float) -> np.ndarray:
        return np.array([[0.0, 0, 0, 4, 4], numbers])

    good = box(1, 0, 0, 4, 4)
    torch_checks: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
        ((x, good[:, 1:], 2), {}, ShapeError, r"boxes must be \(K, 5\).*\(2, 4\)"),
        ((x, [good], 2), {}, ShapeError, r"an \(L, 4\) tensor for each of the 2 images"),
        ((x, good.astype(np.float32), 2), {}, DTypeError, r"input float64, boxes float32"),
    ]
    ours: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
        ((x, box(2, 0, 0, 4, 4), 2), {}, TargetError, r"image from 0 to 1 .*box 1: \[2.0, 0.0"),
        ((x, box(-1, 0, 0, 4, 4), 2), {}, TargetError, r"box 1: \[-1.0"),
        ((x, box(0.5, 0, 0, 4, 4), 2), {}, TargetError, r"box 1: \[0.5"),
        ((x, box(1, 0, np.nan, 4, 4), 2), {}, TargetError, r"box 1: \[1.0, 0.0, nan"),
        ((x, box(np.nan, 0, 0, 4, 4), 2), {}, TargetError, r"box 1: \[nan"),
        ((x, box(1, 0, 0, np.inf, 4), 2), {}, TargetError, r"finite coordinates.*inf"),
        ((x, box(1, 0, 0, 2.0**31, 4), 2), {}, TargetError, r"moderate size.*2147483648.0"),
        (
            (x, box(1, 0, 0, 2.0**20, 4), 2),
            {"spatial_scale": 2.0**11},
            TargetError,
            r"moderate size",
        ),
        ((x[0], good, 2), {}, ShapeError, r"input must be \(N, C, H, W\).*\(3, 5, 5\)"),
        ((x[:, :, :0], good, 2), {}, ShapeError, r"H and W at least 1"),
        ((x, good, 0), {}, ShapeError, r"output_size must be at least 1, got 0"),
        ((x, good, 2), {"spatial_scale": float("nan")}, ValueError, r"spatial_scale .*got nan"),
        ((x, good, 2), {"spatial_scale": "1"}, DTypeError, r"spatial_scale .*got '1'"),
        ((x, "boxes", 2), {}, TypeError, r"boxes must be a Tensor or a list of Tensors, got str"),
        ((x, [None, None], 2), {}, TypeError, r"boxes\[0\] must be a Tensor, got NoneType"),
    ]
    if name == "roi_align":
        ours.append(((x, box(1, 0, 0, 2**13, 2**13), 2), {}, TargetError, r"box 1.*8192"))
    return tuple(
        ErrorCase(args, kw, error, f"{name}: .*{match}", torch_raises=raises)
        for raises, calls in ((True, torch_checks), (False, ours))
        for args, kw, error, match in calls
    )


def _torchvision(name: str) -> Any:
    def oracle(torch: Any, *args: Any, **kwargs: Any) -> Any:
        import torchvision

        return getattr(torchvision.ops, name)(*args, **kwargs)

    return oracle


@st.composite
def nms_cases(draw: st.DrawFn, batched: bool) -> Case:
    """Boxes on a small grid, empty ones among them. No overlap is as large as a threshold but for
    rounding."""
    K = draw(st.integers(0, 12))
    corner = st.tuples(*(st.integers(0, 6) for _ in range(4)))
    corners = [draw(corner) for _ in range(K)]
    boxes = [[x, y, x + w, y + h] for x, y, w, h in corners]
    groups = (np.array([draw(st.integers(-1, 1)) for _ in range(K)], np.int64),)
    return Case(
        (
            np.array(boxes, np.float64).reshape(K, 4),
            draw(floats((K,))),
            *(groups if batched else ()),
            draw(st.sampled_from((0.0, 0.123, 0.37, 0.5, 1.0))),
        )
    )


def _batched_nms(torch: Any, boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> Any:
    """torchvision's, category by category; it shifts few boxes apart, which rounds them."""
    import torchvision

    keep = torch.zeros(len(boxes), dtype=torch.bool)
    for each in set(idxs.tolist()):
        places = torch.where(idxs == each)[0]
        keep[places[torchvision.ops.nms(boxes[places], scores[places], iou_threshold)]] = True
    order = torch.sort(scores, descending=True, stable=True).indices
    return order[keep[order]]


def _nms_errors(name: str) -> tuple[ErrorCase, ...]:
    boxes, scores = np.zeros((3, 4)), np.zeros(3)
    idxs = (np.zeros(3, np.int64),) if name == "batched_nms" else ()
    calls: list[tuple[tuple[Any, ...], type[Exception], str]] = [
        ((boxes[:, :3], scores, *idxs, 0.5), ShapeError, r"boxes must be \(K, 4\).*\(3, 3\)"),
        ((boxes, scores[:2], *idxs, 0.5), ShapeError, r"one score and one index .*\(2,\)"),
    ]
    if idxs:
        calls.append(((boxes, scores, scores, 0.5), DTypeError, r"idxs must be .*float64"))
    return tuple(
        ErrorCase(args, {}, error, f"{name}: .*{match}", torch_raises=error is ShapeError)
        for args, error, match in calls
    )


SPECS: list[OpSpec] = [
    OpSpec(
        name="roi_pool",
        function=roi_pool,
        oracle=_torchvision("roi_pool"),
        cases=roi_cases(align=False),
        gradcheck=False,
        exact=True,
        errors=_errors("roi_pool"),
    ),
    OpSpec(
        name="roi_align",
        function=roi_align,
        oracle=_torchvision("roi_align"),
        cases=roi_cases(align=True),
        errors=_errors("roi_align"),
    ),
    *(
        OpSpec(
            name=name,
            function=function,
            oracle=oracle,
            cases=nms_cases(batched=name == "batched_nms"),
            errors=_nms_errors(name),
            differentiable=False,
            exact=True,
        )
        for name, function, oracle in (
            ("nms", nms, _torchvision("nms")),
            ("batched_nms", batched_nms, _batched_nms),
        )
    ),
]
