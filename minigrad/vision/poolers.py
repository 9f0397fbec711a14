"""RoI align on a pyramid of feature maps. Source: Lin et al. 2017, "Feature pyramid networks for
object detection", §4.2."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..engine import Tensor
from ..geometry import Size2d, pair
from ..nn import Module
from ..ops.creation import arange, full_like
from ..ops.join import cat
from ..ops.roi import roi_align
from ..ops.sort import argsort
from ..ops.unary import clamp, floor, log2, sqrt
from .boxes import box_area


class MultiScaleRoIAlign(Module):
    """roi_align of each box on the map whose scale suits the box's size.

    A box of canonical_scale² pixels is read at the level canonical_level, where maps are 2^level
    times smaller than images; the scale of each map is a power of 2, found from its size and the
    largest image at the first call.
    """

    _shown = ("featmap_names", "output_size", "sampling_ratio")

    def __init__(
        self,
        featmap_names: Sequence[str],
        output_size: Size2d,
        sampling_ratio: int,
        *,
        canonical_scale: int = 224,
        canonical_level: int = 4,
    ) -> None:
        super().__init__()
        self.featmap_names = featmap_names
        self.sampling_ratio = sampling_ratio
        self.output_size = pair("MultiScaleRoIAlign", "output_size", output_size, minimum=1)
        self.scales: list[float] | None = None
        self.canonical_scale = canonical_scale
        self.canonical_level = canonical_level

    def forward(
        self,
        x: Mapping[str, Tensor],
        boxes: Sequence[Tensor],
        image_shapes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Maps by name, (L, 4) boxes for each image, and the images' (height, width) → (ΣL, C,
        *output_size)."""
        maps = [each for name, each in x.items() if name in self.featmap_names]
        if self.scales is None:
            if not image_shapes:
                raise ValueError("MultiScaleRoIAlign: image_shapes must not be empty")
            tallest = max(height for height, _ in image_shapes)
            self.scales = [2.0 ** round(math.log2(each.shape[-2] / tallest)) for each in maps]
        images = [full_like(each[:, :1], n) for n, each in enumerate(boxes)]
        rois = cat([cat(images, 0), cat(list(boxes), 0)], 1)
        if len(maps) == 1:
            return self._pooled(maps[0], rois, self.scales[0])
        levels = self._levels(rois[:, 1:])
        everywhere = arange(len(rois), device=rois.device)
        parts, places = [], []
        for level, (each, scale) in enumerate(zip(maps, self.scales, strict=True)):
            places.append(everywhere[levels == level])
            parts.append(self._pooled(each, rois[places[-1]], scale))
        return cat(parts, 0)[argsort(cat(places, 0))]

    def _pooled(self, features: Tensor, rois: Tensor, scale: float) -> Tensor:
        return roi_align(features, rois, self.output_size, scale, self.sampling_ratio)

    def _levels(self, boxes: Tensor) -> Tensor:
        """The number of the map that suits each box."""
        assert self.scales is not None
        first, last = (int(-math.log2(self.scales[i])) for i in (0, -1))
        sides = sqrt(box_area(boxes.detach())) / self.canonical_scale
        wanted = floor(log2(sides) + self.canonical_level + 1e-6)
        return clamp(wanted, first, last) - first
