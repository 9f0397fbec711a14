"""Pooling over regions of interest as layers: torchvision.ops' RoIPool and RoIAlign."""

from __future__ import annotations

from ..engine import Tensor
from ..geometry import Size2d
from ..ops.roi import Boxes
from . import functional as F
from .layer import Layer

__all__ = ["RoIAlign", "RoIPool"]


class RoIPool(Layer):
    """The maximum over each bin of each region. See `functional.roi_pool`."""

    output_size: Size2d
    spatial_scale: float

    def forward(self, input: Tensor, rois: Boxes) -> Tensor:
        return F.roi_pool(input, rois, self.output_size, self.spatial_scale)


class RoIAlign(Layer):
    """The bilinear mean over each bin of each region. See `functional.roi_align`."""

    output_size: Size2d
    spatial_scale: float
    sampling_ratio: int
    aligned: bool = False

    def forward(self, input: Tensor, rois: Boxes) -> Tensor:
        return F.roi_align(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        )
