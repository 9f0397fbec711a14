"""Pooling over regions of interest as layers: torchvision.ops' RoIPool and RoIAlign."""

from __future__ import annotations

from ..engine import Tensor
from ..geometry import Size2d
from ..ops.roi import Boxes
from . import functional as F
from .module import Module

__all__ = ["RoIAlign", "RoIPool"]


class RoIPool(Module):
    """The maximum over each bin of each region. See `functional.roi_pool`."""

    _shown = ("output_size", "spatial_scale")

    def __init__(self, output_size: Size2d, spatial_scale: float) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale

    def forward(self, input: Tensor, rois: Boxes) -> Tensor:
        return F.roi_pool(input, rois, self.output_size, self.spatial_scale)


class RoIAlign(Module):
    """The bilinear mean over each bin of each region. See `functional.roi_align`."""

    _shown = ("output_size", "spatial_scale", "sampling_ratio", "aligned")

    def __init__(
        self,
        output_size: Size2d,
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = False,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Boxes) -> Tensor:
        return F.roi_align(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        )
