"""Position-sensitive pooling over regions: each bin has channels of its own.

(N, C·h·w, H, W) and K regions → (K, C, h, w); bin (i, j) of channel c reads input channel
(c·h + i)·w + j. Source: Dai et al. 2016, "R-FCN".
"""

from __future__ import annotations

from ..engine import Tensor
from ..errors import ShapeError
from ..geometry import Size2d, pair
from ..nn.layer import Layer
from ..ops.arithmetic import mul
from ..ops.cast import to
from ..ops.compare import bitwise_and, ge, lt
from ..ops.creation import arange
from ..ops.division import div
from ..ops.join import cat
from ..ops.products import einsum
from ..ops.rearrange import diagonal
from ..ops.reduce import sum
from ..ops.roi import Boxes, region_rows, roi_align
from ..ops.search import nonzero
from ..ops.select import index_select
from ..ops.shape import reshape
from ..ops.sort import argsort
from ..ops.unary import abs, ceil, clamp, floor, sign

__all__ = ["PSRoIAlign", "PSRoIPool", "ps_roi_align", "ps_roi_pool"]


def _bins(operation: str, input: Tensor, output_size: Size2d) -> tuple[int, int]:
    h, w = pair(operation, "output_size", output_size, minimum=1)
    if input.ndim != 4 or input.shape[1] % (h * w):
        raise ShapeError(
            f"{operation}: input must be (N, C·{h}·{w}, H, W) for {h}×{w} bins, got shape "
            f"{input.shape}"
        )
    return h, w


def ps_roi_align(
    input: Tensor,
    boxes: Boxes,
    output_size: Size2d,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
) -> Tensor:
    """The mean over points of each bin, in the channels of that bin. Raises what roi_align does."""
    h, w = _bins("ps_roi_align", input, output_size)
    every = roi_align(input, boxes, (h, w), spatial_scale, sampling_ratio, aligned=True)
    split = reshape(every, (len(every), -1, h, w, h, w))
    return diagonal(diagonal(split, 0, 2, 4), 0, 2, 3)  # each bin of its own channels


def ps_roi_pool(
    input: Tensor, boxes: Boxes, output_size: Size2d, spatial_scale: float = 1.0
) -> Tensor:
    """The mean over the pixels of each bin, in the channels of that bin; 0 for an empty one.

    Coordinates are rounded, halves away from zero. Waits for a GPU. Raises what roi_pool does.
    """
    h, w = _bins("ps_roi_pool", input, output_size)
    rows = region_rows("ps_roi_pool", input, boxes, (h, w), spatial_scale)
    scaled = mul(rows[:, 1:], spatial_scale)
    corners = mul(sign(scaled), floor(abs(scaled) + 0.5))
    N, _, H, W = input.shape
    inside = [
        _inside(corners[:, axis], corners[:, axis + 2], bins, size, input)
        for axis, bins, size in ((1, h, H), (0, w, W))
    ]
    maps = reshape(input, (N, -1, h, w, H, W))
    areas = [sum(each, -1) for each in inside]  # (K, h) and (K, w)
    results, places = [], []
    for n in range(N):
        here = nonzero(rows[:, 0] == n, as_tuple=True)[0]
        tall, wide = (index_select(each, 0, here) for each in inside)
        results.append(einsum("cijyx,kiy,kjx->kcij", maps[n], tall, wide))
        places.append(here)
    total = index_select(cat(results), 0, argsort(cat(places)))
    area = mul(areas[0][:, None, :, None], areas[1][:, None, None, :])
    return div(total, clamp(area, 1, None))


def _inside(start: Tensor, end: Tensor, bins: int, size: int, like: Tensor) -> Tensor:
    """(K, bins, size): 1 where a pixel lies in the bin, along one axis, else 0."""
    kind = {"dtype": like.dtype, "device": like.device}
    step = div(clamp(end - start, 1, None), bins)[:, None]
    numbers = arange(bins, **kind)
    first = clamp(floor(numbers * step) + start[:, None], 0, size - 1)[:, :, None]
    last = clamp(ceil((numbers + 1) * step) + start[:, None], 0, size - 1)[:, :, None]
    pixels = arange(size, **kind)
    return to(bitwise_and(ge(pixels, first), lt(pixels, last)), like.dtype)


class PSRoIPool(Layer):
    """See `ps_roi_pool`."""

    output_size: int
    spatial_scale: float

    def forward(self, input: Tensor, rois: Boxes) -> Tensor:
        return ps_roi_pool(input, rois, self.output_size, self.spatial_scale)


class PSRoIAlign(Layer):
    """See `ps_roi_align`."""

    output_size: int
    spatial_scale: float
    sampling_ratio: int

    def forward(self, input: Tensor, rois: Boxes) -> Tensor:
        return ps_roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio)
