"""Schedules made of schedules: one after the other, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ..optimizer import Optimizer
from .base import LRScheduler
from .plateau import ReduceLROnPlateau


class _Combined(LRScheduler):
    """Schedules of one optimiser."""

    _not_saved = ("_schedulers",)

    def _take(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> None:
        name = type(self).__name__
        if len(schedulers) < 1:
            raise ValueError(f"{name}: needs at least one scheduler")
        for position, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(
                    f"{name}: schedulers[{position}] must be a scheduler, got "
                    f"{type(scheduler).__name__}"
                )
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(
                    f"{name}: schedulers[{position}] is a ReduceLROnPlateau, whose steps need a "
                    "metric"
                )
            if scheduler.optimizer is not (optimizer or schedulers[0].optimizer):
                raise ValueError(f"{name}: schedulers[{position}] has another optimizer")
        self._schedulers = list(schedulers)
        self.optimizer = schedulers[0].optimizer

    def _undo_step(self) -> None:
        for scheduler in self._schedulers:
            scheduler._undo_step()

    def state_dict(self) -> dict[str, Any]:
        """As of every schedule, with theirs in a list."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue all of them."""
        self._check_state_dict(state_dict)
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)
        rest = {key: value for key, value in state_dict.items() if key != "_schedulers"}
        self.__dict__.update(rest)

    def _check_state_dict(self, state_dict: dict[str, Any]) -> None:
        super()._check_state_dict(state_dict)
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=False):
            scheduler._check_state_dict(state)


class SequentialLR(_Combined):
    """schedulers[0] up to the epoch milestones[0], then schedulers[1], and so on: each starts as if
    that epoch were its first."""

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        self._take(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedulers need {len(schedulers) - 1} "
                f"milestones, got {list(milestones)}"
            )
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        # The schedulers have all taken their first step: back to before it, then only one of them.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self._undo_step()
        self._first_step()

    def _first_step(self) -> None:
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._first_step()
        self._last_lr = first.get_last_lr()

    def _advance(self, epoch: int | None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        position = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[position]
        start = self._milestones[position - 1] if position else 0
        if epoch is not None or (position and self.last_epoch == start):
            scheduler._advance(self.last_epoch - start)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


class ChainedScheduler(_Combined):
    """All schedulers at every step, each on the rates that the one before left."""

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        self._take(schedulers, optimizer)
        self._last_lr = self._rates()

    def _first_step(self) -> None:
        for scheduler in self._schedulers:
            scheduler._first_step()

    def _advance(self, epoch: int | None) -> None:
        for scheduler in self._schedulers:
            if epoch is None:
                scheduler.step()
            else:
                scheduler._advance(epoch)
        self._last_lr = self._rates()
