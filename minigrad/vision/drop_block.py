"""DropBlock: squares of feature maps dropped at random. Source: Ghiasi et al. 2018, "DropBlock: a
regularization method for convolutional networks"."""

from __future__ import annotations

from ..arguments import check_int, check_number
from ..engine import Tensor
from ..errors import ShapeError
from ..nn.layer import Layer
from ..ops.cast import to
from ..ops.pad import pad
from ..ops.pool import max_pool2d
from ..ops.random import rand

__all__ = ["DropBlock2d", "drop_block2d"]


def drop_block2d(
    input: Tensor,
    p: float,
    block_size: int,
    inplace: bool = False,
    eps: float = 1e-06,
    training: bool = True,
) -> Tensor:
    """In training, zero squares of an input (N, C, H, W), so that about a share p of it is dropped,
    and scale what remains to the same sum of weights.

    block_size: the odd side of a square, at most that of the map. inplace is taken for torch's
    sake; the input stays as it is either way. Raises ShapeError or ValueError.
    """
    check_number("drop_block2d", "p", p, low=0, high=1)
    check_int("drop_block2d", "block_size", block_size, low=1)
    if input.ndim != 4:
        raise ShapeError(f"drop_block2d: input must be (N, C, H, W), got shape {input.shape}")
    if not training or p == 0:
        return input
    N, C, H, W = input.shape
    side = min(block_size, H, W)
    if side % 2 == 0:
        raise ValueError(f"drop_block2d: block_size must be odd, got {side} for {input.shape}")
    centres = H - side + 1, W - side + 1
    share = p * H * W / (side**2 * centres[0] * centres[1])
    drawn = rand(N, C, *centres, dtype=input.dtype, device=input.device) < share
    dropped = pad(to(drawn, input.dtype), (side // 2,) * 4)
    kept = 1 - max_pool2d(dropped, side, 1, side // 2)
    return input * kept * (kept.numel() / (eps + kept.sum()))


class DropBlock2d(Layer):
    """Drop squares at random. See `drop_block2d`."""

    p: float
    block_size: int
    inplace: bool = False
    eps: float = 1e-06

    _shown = ("p", "block_size", "inplace")

    def forward(self, input: Tensor) -> Tensor:
        return drop_block2d(input, self.p, self.block_size, self.inplace, self.eps, self.training)
