"""Operations that rearrange elements without computing on them."""

from __future__ import annotations

from collections.abc import Callable

from ..engine import Tensor
from ..errors import ShapeError


def unbatched(operation: str, input: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Give a (C, H, W) input a batch of one; the second value takes it off the result again."""
    if input.ndim == 4:
        return input, lambda out: out
    raise ShapeError(
        f"{operation}: input must be (N, C, H, W) or (C, H, W), got shape {input.shape}"
    )
