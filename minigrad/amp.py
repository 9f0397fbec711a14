"""torch.amp's names, for scripts that can do with mixed precision.

Everything is computed in the dtype that it has, so nothing is cast and no gradient needs a scale:
what `autocast(enabled=False)` and `GradScaler(enabled=False)` do in torch, or both without a GPU.
"""

from __future__ import annotations

from contextlib import ContextDecorator
from typing import Any

from .engine import Tensor
from .optim.optimizer import Optimizer

__all__ = ["GradScaler", "autocast"]


class autocast(ContextDecorator):
    """A block or a function in which operations keep their operands' dtypes. Takes torch's
    arguments."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __enter__(self) -> autocast:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class GradScaler:
    """Calls of torch's scaler around a step, where the scale is 1. Takes torch's arguments."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def is_enabled(self) -> bool:
        """False: losses are not scaled."""
        return False

    def get_scale(self) -> float:
        """1."""
        return 1.0

    def scale(self, outputs: Any) -> Any:
        """The loss, or the losses, as they are."""
        return outputs

    def unscale_(self, optimizer: Optimizer) -> None:
        """Nothing: gradients have no scale."""

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """optimizer.step(…)"""
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Nothing: the scale stays 1."""

    def state_dict(self) -> dict[str, Any]:
        """Empty, as that of a scaler that is not enabled."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing: there is no state."""
