"""torch.amp's names, for scripts that can do with mixed precision.

Everything is computed in the dtype that it has, so nothing is cast and no gradient needs a scale:
what `autocast(enabled=False)` and `GradScaler(enabled=False)` do in torch, or both without a GPU.
"""

from __future__ import annotations

from contextlib import ContextDecorator
from typing import Any

import numpy as np

from .dtypes import get_default_dtype
from .engine import Tensor
from .jit import ignore
from .optim.optimizer import Optimizer

__all__ = [
    "GradScaler", "autocast", "custom_bwd", "custom_fwd", "get_autocast_dtype",
    "get_autocast_gpu_dtype", "is_autocast_cpu_enabled", "is_autocast_enabled",
]  # fmt: skip


class autocast(ContextDecorator):
    """A block or a function in which operations keep their operands' dtypes. Takes torch's
    arguments."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __enter__(self) -> autocast:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def is_autocast_enabled(device_type: str | None = None) -> bool:
    """False, also inside `autocast`: nothing is cast."""
    return False


is_autocast_cpu_enabled = is_autocast_enabled


def get_autocast_dtype(device_type: str | None = None) -> np.dtype:
    """The default dtype: what is computed in."""
    return get_default_dtype()


get_autocast_gpu_dtype = get_autocast_dtype


def custom_fwd(fwd: Any = None, **options: Any) -> Any:
    """A Function's forward itself, or a decorator that changes nothing."""
    return ignore() if fwd is None else fwd


custom_bwd = custom_fwd


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
