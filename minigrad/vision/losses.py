"""Losses of detectors: the focal loss, and what boxes lack of overlapping."""

from __future__ import annotations

from ..engine import Tensor
from ..errors import ShapeError
from ..ops.divergence import binary_cross_entropy_with_logits
from ..ops.unary import sigmoid
from .boxes import area, aspect_penalty, centre_penalty, check_boxes, overlap_of

__all__ = [
    "complete_box_iou_loss", "distance_box_iou_loss", "generalized_box_iou_loss",
    "sigmoid_focal_loss",
]  # fmt: skip

_REDUCTIONS = ("none", "mean", "sum")


def _check_reduction(operation: str, reduction: str) -> None:
    if reduction not in _REDUCTIONS:
        raise ValueError(
            f"{operation}: reduction must be one of {', '.join(_REDUCTIONS)}, got {reduction!r}"
        )


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


def sigmoid_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    alpha: float = 0.25,
    gamma: float = 2,
    reduction: str = "none",
) -> Tensor:
    """−α_t·(1 − p_t)^γ·log p_t, p_t the probability that the logit gives to the target (0 or 1).

    alpha: α_t of targets 1, 1 − alpha of others; −1 for no weights. Source: Lin et al. 2017, "Focal
    loss for dense object detection". Raises ValueError for a bad alpha or reduction.
    """
    if not 0 <= alpha <= 1 and alpha != -1:
        raise ValueError(f"sigmoid_focal_loss: alpha must be in [0, 1], or −1, got {alpha!r}")
    _check_reduction("sigmoid_focal_loss", reduction)
    losses = binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    p = sigmoid(inputs)
    wrong = p + targets - p * targets * 2  # 1 − p_t
    losses = losses * wrong**gamma
    if alpha >= 0:
        losses = losses * (targets * (2 * alpha - 1) + (1 - alpha))
    return _reduced(losses, reduction)


def _box_loss(operation: str, boxes1: Tensor, boxes2: Tensor, reduction: str, eps: float) -> Tensor:
    check_boxes(operation, boxes1=boxes1, boxes2=boxes2)
    _check_reduction(operation, reduction)
    if boxes1.shape != boxes2.shape:
        raise ShapeError(
            f"{operation}: boxes must have one shape, got {boxes1.shape} and {boxes2.shape}"
        )
    corners1, corners2 = ((boxes[..., :2], boxes[..., 2:]) for boxes in (boxes1, boxes2))
    intersection, union, around = overlap_of(corners1, corners2)
    iou = intersection / (union + eps)
    losses = 1 - iou
    if operation == "generalized_box_iou_loss":
        whole = area(around)
        losses = losses + (whole - union) / (whole + eps)
    else:
        losses = losses + centre_penalty(corners1, corners2, around, eps)
    if operation == "complete_box_iou_loss":
        losses = losses + aspect_penalty(corners1, corners2, iou, eps)
    if reduction == "mean" and losses.numel() == 0:
        return losses.sum()
    return _reduced(losses, reduction)


def generalized_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7
) -> Tensor:
    """1 − `generalized_box_iou` of boxes1[i] and boxes2[i], (…, 4) each; the mean of none is 0."""
    return _box_loss("generalized_box_iou_loss", boxes1, boxes2, reduction, eps)


def distance_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7
) -> Tensor:
    """1 − `distance_box_iou` of boxes1[i] and boxes2[i], (…, 4) each; the mean of none is 0."""
    return _box_loss("distance_box_iou_loss", boxes1, boxes2, reduction, eps)


def complete_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7
) -> Tensor:
    """1 − `complete_box_iou` of boxes1[i] and boxes2[i], (…, 4) each; the mean of none is 0."""
    return _box_loss("complete_box_iou_loss", boxes1, boxes2, reduction, eps)
