"""Boxes: conversions, areas, overlaps and non-maximum suppression.

A box is (x1, y1, x2, y2), 'xyxy', with x1 ≤ x2 and y1 ≤ y2; 'xywh' is a corner with width and
height, 'cxcywh' the centre with them. Batches of boxes may have any axes in front.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..dtypes import float32
from ..engine import Tensor, no_grad
from ..errors import ShapeError
from ..ops.arithmetic import maximum, minimum
from ..ops.cast import clone, to
from ..ops.compare import where
from ..ops.creation import arange
from ..ops.extrema import amax, amin
from ..ops.extrema import any as any_of
from ..ops.join import cat, stack
from ..ops.roi import suppress
from ..ops.unary import atan, clamp

__all__ = [
    "batched_nms", "box_area", "box_convert", "box_iou", "clip_boxes_to_image",
    "complete_box_iou", "distance_box_iou", "generalized_box_iou", "masks_to_boxes", "nms",
    "remove_small_boxes",
]  # fmt: skip

_FORMATS = ("xyxy", "xywh", "cxcywh")


def check_boxes(operation: str, **boxes: Tensor) -> None:
    for name, given in boxes.items():
        if not isinstance(given, Tensor):
            raise TypeError(f"{operation}: {name} must be a Tensor, got {type(given).__name__}")
        if given.ndim == 0 or given.shape[-1] != 4:
            raise ShapeError(f"{operation}: {name} must be (…, 4), got shape {given.shape}")


def _check_format(operation: str, name: str, fmt: str) -> None:
    if fmt not in _FORMATS:
        raise ValueError(f"{operation}: {name} must be one of {', '.join(_FORMATS)}, got {fmt!r}")


# Suppression --------------------------------------------------------------------------------


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression: boxes that no better one overlaps by more than the threshold.

    boxes (K, 4), scores (K,) → int64 indices of those kept, by falling score, equal ones in order.
    A GPU does it in one block of threads. Raises ShapeError, DTypeError or DeviceError.
    """
    return suppress("nms", boxes, scores, None, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """As `nms`, but only boxes of one category, idxs (K,) int64, suppress one another."""
    return suppress("batched_nms", boxes, scores, idxs, iou_threshold)


def remove_small_boxes(boxes: Tensor, min_size: float) -> Tensor:
    """int64 indices of the boxes (K, 4) whose width and height are at least min_size."""
    check_boxes("remove_small_boxes", boxes=boxes)
    large = ((boxes[:, 2:] - boxes[:, :2]) >= min_size).all(1)
    return arange(len(boxes), device=boxes.device)[large]


# Conversions --------------------------------------------------------------------------------


def clip_boxes_to_image(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (…, 4) cut to an image of `size` = (height, width)."""
    check_boxes("clip_boxes_to_image", boxes=boxes)
    height, width = size
    clipped = [clamp(boxes[..., 0::2], 0, width), clamp(boxes[..., 1::2], 0, height)]
    return stack(clipped, -1).reshape(boxes.shape)


def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """Boxes (…, 4) in another format. Raises ValueError for an unknown one."""
    check_boxes("box_convert", boxes=boxes)
    _check_format("box_convert", "in_fmt", in_fmt)
    _check_format("box_convert", "out_fmt", out_fmt)
    if in_fmt == out_fmt:
        return clone(boxes)
    low, high = _corners(boxes, in_fmt)
    if out_fmt == "xyxy":
        return cat([low, high], -1)
    start = low if out_fmt == "xywh" else (low + high) / 2
    return cat([start, high - low], -1)


def _corners(boxes: Tensor, fmt: str) -> tuple[Tensor, Tensor]:
    """(x1, y1) and (x2, y2)."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if fmt == "xyxy":
        return first, second
    if fmt == "xywh":
        return first, first + second
    return first - second / 2, first + second / 2


def masks_to_boxes(masks: Tensor) -> Tensor:
    """The box around what is not 0 in each mask, its last row and column included.

    masks (N, H, W) → (N, 4) float32; zeros for an empty mask.
    """
    if masks.ndim != 3:
        raise ShapeError(f"masks_to_boxes: masks must be (N, H, W), got shape {masks.shape}")
    if 0 in masks.shape:
        return to(arange(0, device=masks.device), float32).reshape(0, 1).expand(0, 4)
    bounds = []
    for reduced in (1, 2):  # what remains: columns, rows
        used = any_of(masks != 0, reduced)
        places = arange(used.shape[1], device=masks.device)
        last = amax(where(used, places, -1), 1)
        first = amin(where(used, places, used.shape[1]), 1)
        bounds.append((where(last < 0, 0, first), clamp(last, min=0)))
    (x1, x2), (y1, y2) = bounds
    return to(stack([x1, y1, x2, y2], 1), float32)


# Overlaps -----------------------------------------------------------------------------------


class Overlap(NamedTuple):
    """Of pairs of boxes: areas of intersection and union, and the sides (w, h) of the box around
    both."""

    intersection: Tensor
    union: Tensor
    around: Tensor


def area(sides: Tensor) -> Tensor:
    """Of sides (…, 2)."""
    return sides[..., 0] * sides[..., 1]


def overlap_of(corners1: tuple[Tensor, Tensor], corners2: tuple[Tensor, Tensor]) -> Overlap:
    """Of pairs: corners (x1, y1) and (x2, y2), which broadcast."""
    (low1, high1), (low2, high2) = corners1, corners2
    intersection = area(clamp(minimum(high1, high2) - maximum(low1, low2), min=0))
    union = area(high1 - low1) + area(high2 - low2) - intersection
    return Overlap(intersection, union, maximum(high1, high2) - minimum(low1, low2))


def centre_penalty(
    corners1: tuple[Tensor, Tensor], corners2: tuple[Tensor, Tensor], around: Tensor, eps: float
) -> Tensor:
    """The squared distance of the centres by that of the corners of the box around both."""
    (low1, high1), (low2, high2) = corners1, corners2
    between = (low1 + high1) / 2 - (low2 + high2) / 2
    return (between**2).sum(-1) / ((around**2).sum(-1) + eps)


def aspect_penalty(
    corners1: tuple[Tensor, Tensor], corners2: tuple[Tensor, Tensor], iou: Tensor, eps: float
) -> Tensor:
    """α·v, v by how much the angles of the diagonals differ; no gradient passes through α."""
    (low1, high1), (low2, high2) = corners1, corners2
    sides1, sides2 = high1 - low1, high2 - low2
    angles = (atan(sides[..., 0] / sides[..., 1]) for sides in (sides1, sides2))
    v = (next(angles) - next(angles)) ** 2 * (4 / math.pi**2)
    with no_grad():
        alpha = v / (1 - iou + v + eps)
    return alpha * v


def _all_pairs(
    operation: str, boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy"
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Overlap]:
    """Corners (…, N, 1, 2) and (…, 1, M, 2), and the overlap (…, N, M)."""
    check_boxes(operation, boxes1=boxes1, boxes2=boxes2)
    _check_format(operation, "fmt", fmt)
    corners1 = _corners(boxes1.unsqueeze(-2), fmt)
    corners2 = _corners(boxes2.unsqueeze(-3), fmt)
    return corners1, corners2, overlap_of(corners1, corners2)


def box_area(boxes: Tensor, fmt: str = "xyxy") -> Tensor:
    """(…, 4) → (…). Raises ValueError for an unknown format."""
    check_boxes("box_area", boxes=boxes)
    _check_format("box_area", "fmt", fmt)
    return area(boxes[..., 2:] - boxes[..., :2] if fmt == "xyxy" else boxes[..., 2:])


def box_iou(boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy") -> Tensor:
    """Intersection over union of all pairs: (…, N, 4) and (…, M, 4) → (…, N, M)."""
    overlap = _all_pairs("box_iou", boxes1, boxes2, fmt)[2]
    return overlap.intersection / overlap.union


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """`box_iou` less the share of the box around both that neither fills. Source: Rezatofighi et
    al. 2019, "Generalized intersection over union"."""
    intersection, union, around = _all_pairs("generalized_box_iou", boxes1, boxes2)[2]
    whole = area(clamp(around, min=0))
    return intersection / union - (whole - union) / whole


def distance_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """`box_iou` less the distance of the centres. Source: Zheng et al. 2020, "Distance-IoU
    loss"."""
    corners1, corners2, overlap = _all_pairs("distance_box_iou", boxes1, boxes2)
    iou = overlap.intersection / overlap.union
    return iou - centre_penalty(corners1, corners2, clamp(overlap.around, min=0), eps)


def complete_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """`distance_box_iou` less the difference of the aspect ratios. Source: as there."""
    corners1, corners2, overlap = _all_pairs("complete_box_iou", boxes1, boxes2)
    iou = overlap.intersection / overlap.union
    distance = iou - centre_penalty(corners1, corners2, clamp(overlap.around, min=0), eps)
    return distance - aspect_penalty(corners1, corners2, iou, eps)
