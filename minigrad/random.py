"""The state of randomness, under torch.random's names. One generator serves all devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .device import initial_seed, manual_seed, seed
from .ops.random import get_rng_state, set_rng_state

__all__ = ["fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state"]


@contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, **options: Any) -> Iterator[None]:
    """What is drawn, or seeded, inside changes nothing of what is drawn afterwards.

    devices and the options change nothing: there is one state to put back.
    """
    state = get_rng_state()
    try:
        yield
    finally:
        if enabled:
            set_rng_state(state)
