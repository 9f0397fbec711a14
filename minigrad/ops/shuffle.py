"""Sub-pixel rearrangement: elements moved between channels and places. Source: Shi et al. 2016,
"Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural
network"; channel shuffle: Zhang et al. 2018, "ShuffleNet".

Each is: split axes, exchange the parts, merge. The parts are merged with the channels last, as
results of other layers lie in memory.
"""

from __future__ import annotations

from ..arguments import check_int
from ..engine import Tensor
from ..errors import ShapeError
from .cast import clone
from .operands import takes_tensor
from .shape import permute, reshape

__all__ = ["channel_shuffle", "pixel_shuffle", "pixel_unshuffle"]


def _sizes(operation: str, name: str, input: Tensor, factor: int) -> tuple[int, ...]:
    check_int(operation, name, factor, low=1)
    if input.ndim < 3:
        raise ShapeError(f"{operation}: input must be (…, C, H, W), got shape {input.shape}")
    return input.shape


@takes_tensor
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels become places: (…, C·r², H, W) → (…, C, H·r, W·r), r = upscale_factor.

    out[c, h·r + i, w·r + j] = input[c·r² + i·r + j, h, w]. Raises ShapeError if r² does not divide
    the channels.
    """
    r = upscale_factor
    *batch, C, H, W = _sizes("pixel_shuffle", "upscale_factor", input, r)
    if C % (r * r):
        raise ShapeError(
            f"pixel_shuffle: the channels must be a multiple of {r}·{r}, got shape {input.shape}"
        )
    b, C = len(batch), C // (r * r)
    split = reshape(input, *batch, C, r, r, H, W)
    moved = permute(split, *range(b), b + 3, b + 1, b + 4, b + 2, b)  # (…, H, r, W, r, C)
    return _channels_first(reshape(moved, *batch, H * r, W * r, C))


@takes_tensor
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Places become channels: (…, C, H·r, W·r) → (…, C·r², H, W), r = downscale_factor.

    The inverse of `pixel_shuffle`, but that an empty tensor keeps its shape, as in torch. Raises
    ShapeError if r does not divide height and width.
    """
    r = downscale_factor
    *batch, C, H, W = _sizes("pixel_unshuffle", "downscale_factor", input, r)
    if H % r or W % r:
        raise ShapeError(
            f"pixel_unshuffle: height and width must be multiples of {r}, got shape {input.shape}"
        )
    if input.array.size == 0:
        return clone(input)
    b, H, W = len(batch), H // r, W // r
    split = reshape(input, *batch, C, H, r, W, r)
    moved = permute(split, *range(b), b + 1, b + 3, b, b + 2, b + 4)  # (…, H, W, C, r, r)
    return _channels_first(reshape(moved, *batch, H, W, C * r * r))


def _channels_first(input: Tensor) -> Tensor:
    """(…, H, W, C) → (…, C, H, W)"""
    b = input.ndim - 3
    return permute(input, *range(b), b + 2, b, b + 1)


@takes_tensor
def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Interleave groups of channels.  (N, C, …) → the same shape.

    out[:, k·groups + j] = input[:, j·C/groups + k]. Raises ShapeError if groups does not divide C.
    """
    N, C, *places = _sizes("channel_shuffle", "groups", input, groups)
    if C % groups:
        raise ShapeError(
            f"channel_shuffle: groups={groups} must divide the channels of shape {input.shape}"
        )
    last = permute(input, 0, *range(2, input.ndim), 1)
    split = reshape(last, N, *places, groups, C // groups)
    mixed = reshape(split.transpose(-1, -2), N, *places, C)
    return permute(mixed, 0, input.ndim - 1, *range(1, input.ndim - 1))
