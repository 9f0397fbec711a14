"""RoI pooling and RoI align: pooling over regions of interest; and which regions to keep. Rounding
follows torchvision.

Sources: Girshick 2015, "Fast R-CNN", §2.1 (roi_pool); He et al. 2017, "Mask R-CNN", §3 (roi_align).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_int, check_number
from ..device import same_device
from ..dtypes import bool_, int64
from ..engine import Function, Tensor
from ..errors import DTypeError, ShapeError, TargetError
from ..geometry import Size2d, pair
from ..runtime.allocation import allocate
from .creation import zeros
from .indexing import get_item
from .operands import c_order, empty, empty_nhwc, floating_operands, nhwc, takes_tensor
from .sort import argsort
from .transfer import check_rows

__all__ = ["roi_align", "roi_pool"]

Boxes = Tensor | Sequence[Tensor]

# The points of one region that roi_align reads without a sampling_ratio: one a feature pixel.
_LARGEST_REGION = 2**24


class RoIPool(Function):
    """out = input at argmax: the gradient goes there; regions that overlap add up."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, boxes: np.ndarray, size: tuple[int, int], spatial_scale: float
    ) -> Tensor:
        C = input.shape[1]
        out, out_nhwc = empty_nhwc((len(boxes), C, *size), input.dtype, input.device)
        argmax = allocate(out_nhwc.shape, np.dtype(np.int32), input.device)
        launch = kernels.get(input.device).roi
        launch.roi_pool_forward(out_nhwc, argmax, nhwc(input), boxes, spatial_scale)
        if ctx.needs_input_grad[0]:
            ctx.shape, ctx.boxes, ctx.argmax = input.shape, boxes, argmax
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_input, out = empty_nhwc(ctx.shape, grad_output.dtype, grad_output.device)
        kernels.get(grad_output.device).roi.roi_pool_backward_input(
            out, nhwc(grad_output), ctx.argmax, ctx.boxes
        )
        return grad_input, None, None, None


class RoIAlign(Function):
    """out = Σ weight · input over the corners of all points: the gradient goes back by weight."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        boxes: np.ndarray,
        size: tuple[int, int],
        options: tuple[float, int, bool],
    ) -> Tensor:
        ctx.shape, ctx.boxes, ctx.options = input.shape, boxes, options
        C = input.shape[1]
        out, out_nhwc = empty_nhwc((len(boxes), C, *size), input.dtype, input.device)
        kernels.get(input.device).roi.roi_align_forward(out_nhwc, nhwc(input), boxes, *options)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_input, out = empty_nhwc(ctx.shape, grad_output.dtype, grad_output.device)
        kernels.get(grad_output.device).roi.roi_align_backward_input(
            out, nhwc(grad_output), ctx.boxes, *ctx.options
        )
        return grad_input, None, None, None


def roi_pool(
    input: Tensor, boxes: Boxes, output_size: Size2d, spatial_scale: float = 1.0
) -> Tensor:
    """The maximum over each bin of each region.

    input (N, C, H, W); boxes (K, 5), rows (image, x1, y1, x2, y2) in image pixels, or a list of one
    (L, 4) tensor an image → (K, C, *output_size). spatial_scale: feature pixels per image pixel.
    Scaled coordinates are rounded, halves away from zero; a region holds at least one cell; a bin
    outside the map gives 0. NaN is never the maximum. Only the input receives a gradient.
    Raises ShapeError, DTypeError, DeviceError, or TargetError for a box with no such image or with
    coordinates that are not finite or beyond int32.
    """
    rows, size = _checked("roi_pool", input, boxes, output_size, spatial_scale, math.inf)
    return RoIPool.apply(input, rows, size, float(spatial_scale))


@takes_tensor
def roi_align(
    input: Tensor,
    boxes: Boxes,
    output_size: Size2d,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """The mean over points of each bin of each region, read by bilinear interpolation.

    Shapes as for roi_pool; nothing is rounded. sampling_ratio: points of a bin along each axis;
    below 1, as many as the bin covers pixels, rounded up. aligned: shift by half a pixel, so that
    pixels are squares around their coordinates; without it a region is at least 1×1. Points beyond
    the map by more than a pixel count as 0.
    Raises as roi_pool; TargetError also for a region of more than 2**24 pixels without a
    sampling_ratio.
    """
    check_int("roi_align", "sampling_ratio", sampling_ratio)
    if sampling_ratio > 2**12:
        raise ValueError(f"roi_align: sampling_ratio must be at most 4096, got {sampling_ratio}")
    largest = math.inf if sampling_ratio > 0 else _LARGEST_REGION
    rows, size = _checked("roi_align", input, boxes, output_size, spatial_scale, largest)
    options = float(spatial_scale), sampling_ratio, bool(aligned)
    return RoIAlign.apply(input, rows, size, options)


def region_rows(
    operation: str, input: Tensor, boxes: Boxes, output_size: Size2d, spatial_scale: float
) -> Tensor:
    """The checked boxes of either form as rows (image, x1, y1, x2, y2)."""
    rows, _ = _checked(operation, input, boxes, output_size, spatial_scale, math.inf)
    return Tensor(rows, input.device)


def suppress(
    operation: str, boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float
) -> Tensor:
    """Of `vision.nms` and, with groups, of `vision.batched_nms`."""
    floating_operands(operation, "boxes scores", boxes, scores)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ShapeError(f"{operation}: boxes must be (K, 4), got shape {boxes.shape}")
    if groups is None:
        groups = zeros(len(boxes), dtype=int64, device=boxes.device)
    same_device(operation, boxes=boxes.device, idxs=groups.device)
    if groups.dtype != int64:
        raise DTypeError(f"{operation}: idxs must be an int64 tensor, got {groups.dtype}")
    if scores.shape != boxes.shape[:1] or groups.shape != scores.shape:
        raise ShapeError(
            f"{operation}: expects one score and one index for each of {len(boxes)} boxes, got "
            f"shapes {scores.shape} and {groups.shape}"
        )
    check_number(operation, "iou_threshold", iou_threshold)
    order = argsort(scores.detach(), descending=True, stable=True)
    keep = empty((len(boxes),), bool_, boxes.device)
    kernels.get(boxes.device).roi.nms_forward(
        keep.array, c_order(boxes), c_order(order), c_order(groups), float(iou_threshold)
    )
    return get_item(order, get_item(keep, order))


# Checks -------------------------------------------------------------------------------------


def _checked(
    operation: str,
    input: Tensor,
    boxes: Boxes,
    output_size: Size2d,
    spatial_scale: float,
    largest: float,
) -> tuple[np.ndarray, tuple[int, int]]:
    """The boxes as a private array (K, 5), all of them inside what kernels can work with."""
    if isinstance(boxes, Tensor):
        floating_operands(operation, "input boxes", input, boxes)
    else:
        if not isinstance(boxes, Sequence) or isinstance(boxes, str):
            raise TypeError(
                f"{operation}: boxes must be a Tensor or a list of Tensors, "
                f"got {type(boxes).__name__}"
            )
        names = " ".join(["input", *[f"boxes[{i}]" for i in range(len(boxes))]])
        floating_operands(operation, names, input, *boxes)
    if input.ndim != 4 or 0 in input.shape[2:]:
        raise ShapeError(
            f"{operation}: input must be (N, C, H, W) with H and W at least 1, got shape "
            f"{input.shape}"
        )
    if input.shape[2] * input.shape[3] >= 2**31:
        raise ShapeError(f"{operation}: a map must have less than 2**31 cells, got {input.shape}")
    size = pair(operation, "output_size", output_size, minimum=1)
    if not math.isfinite(check_number(operation, "spatial_scale", spatial_scale)):
        raise ValueError(f"{operation}: spatial_scale must be finite, got {spatial_scale!r}")
    rows = _rows(operation, input, boxes)
    bad = allocate((1,), int64, input.device)
    launch = kernels.get(input.device).roi
    launch.roi_check(bad, rows, input.shape[0], float(spatial_scale), largest)

    images = input.shape[0]

    def refuse(k: int, box: Sequence[float]) -> None:
        raise TargetError(
            f"{operation}: boxes must name an image from 0 to {images - 1} and have finite "
            f"coordinates of moderate size, got box {k}: {list(box)}"
        )

    check_rows(bad, rows, input.device, refuse)
    return rows, size


def _rows(operation: str, input: Tensor, boxes: Boxes) -> np.ndarray:
    """The boxes of either form as a new (K, 5) array."""
    launch = kernels.get(input.device).elementwise
    if isinstance(boxes, Tensor):
        if boxes.ndim != 2 or boxes.shape[1] != 5:
            raise ShapeError(
                f"{operation}: boxes must be (K, 5), rows (image, x1, y1, x2, y2), got shape "
                f"{boxes.shape}"
            )
        rows = allocate(boxes.shape, boxes.dtype, input.device)
        launch.copy_strided(rows, boxes.array)
        return rows
    if len(boxes) != input.shape[0] or any(b.ndim != 2 or b.shape[1] != 4 for b in boxes):
        raise ShapeError(
            f"{operation}: a list of boxes must hold an (L, 4) tensor for each of the "
            f"{input.shape[0]} images, got shapes {[b.shape for b in boxes]}"
        )
    rows = allocate((sum(b.shape[0] for b in boxes), 5), input.dtype, input.device)
    start = 0
    for n, each in enumerate(boxes):
        part = rows[start : start + each.shape[0]]
        launch.copy_strided(part[:, 1:], each.array)
        launch.fill(image := allocate((len(part),), input.dtype, input.device), n)
        launch.copy_strided(part[:, 0], image)
        start += len(part)
    return rows
