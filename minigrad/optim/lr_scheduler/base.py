"""The base of learning-rate schedules, and checks of what they are given."""

from __future__ import annotations

import warnings
from typing import Any

from ...engine.grad_mode import mode
from ...errors import CheckpointError
from ..optimizer import Optimizer


class LRScheduler:
    """Base of the schedules: a subclass defines `get_lr()`, the rates at `last_epoch`.

    base_lrs: the optimiser's rates when the schedule was made, one a group.
    last_epoch: how many times `step()` ran.
    """

    # What state_dict leaves out, besides the optimiser.
    _not_saved: tuple[str, ...] = ()
    # Whether `step` is asking get_lr, of which get_lr of scripts' own schedules warn if it is not.
    _get_lr_called_within_step = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(type(self).__name__, optimizer)
        self.optimizer = optimizer
        for position, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"{type(self).__name__}: last_epoch={last_epoch} resumes a schedule, but group "
                    f"{position} has no 'initial_lr'; load the optimiser's state first"
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._last_lr = [group["lr"] for group in optimizer.param_groups]
        self._first_step()

    def _first_step(self) -> None:
        self._starting = True
        self.step()  # which a subclass may define anew
        self._starting = False

    def get_lr(self) -> list[float]:
        raise TypeError(f"{type(self).__name__} must define get_lr()")

    def get_last_lr(self) -> list[float]:
        """The rates set last, one a group."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Set the next rates. Call it after `optimizer.step()`, outside of captured steps.

        epoch: go there instead, at once; deprecated.
        """
        if epoch is not None:
            warnings.warn(
                f"{type(self).__name__}: step(epoch) is deprecated, use step()",
                UserWarning,
                stacklevel=2,
            )
        self._advance(epoch)

    def _advance(self, epoch: int | None) -> None:
        """To the next epoch, or to the one given."""
        refuse_in_captured_step(type(self).__name__)
        before = self.last_epoch
        self.last_epoch = before + 1 if epoch is None else epoch
        self._get_lr_called_within_step = True
        try:
            rates = self.get_lr() if epoch is None else self._closed_form()
        except Exception:
            self.last_epoch = before
            raise
        finally:
            del self._get_lr_called_within_step
        self._set(rates)

    def _set(self, rates: list[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._last_lr = self._rates()

    def _undo_step(self) -> None:
        self.last_epoch -= 1

    def _closed_form(self) -> list[float]:
        """The rates at `last_epoch`, whatever the current ones are."""
        return self.get_lr()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimiser, as plain numbers and lists."""
        skip = {"optimizer", "_starting", *self._not_saved}
        return {key: value for key, value in self.__dict__.items() if key not in skip}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a schedule. The rates themselves are in the optimiser's state dict."""
        self._check_state_dict(state_dict)
        own = self.state_dict()
        self.__dict__.update({key: value for key, value in state_dict.items() if key in own})

    def _check_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = self.state_dict()
        missing = sorted(set(own) - set(state_dict))
        unknown = sorted(set(state_dict) - set(own) - _TORCHS_OWN)
        if missing or unknown:
            raise CheckpointError(
                f"{type(self).__name__}: the saved state is another schedule's: missing {missing}, "
                f"unknown {unknown}"
            )
        if len(own["_last_lr"]) != len(state_dict["_last_lr"]):
            raise CheckpointError(
                f"{type(self).__name__}: the saved state has {len(state_dict['_last_lr'])} groups, "
                f"this optimiser {len(own['_last_lr'])}"
            )

    def _rates(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]


# What torch's schedules keep besides, by version.
_TORCHS_OWN = {"_step_count", "_is_initial", "_get_lr_called_within_step", "verbose"}


def refuse_in_captured_step(name: str) -> None:
    mode.observer.refuse(
        f"{name}: a scheduler must step outside of the captured step, which would not repeat it"
    )


def check_optimizer(name: str, optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{name}: optimizer must be an Optimizer, got {type(optimizer).__name__}")


def per_group(name: str, option: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """One value a group: `value` itself if it is a list, else repeated."""
    count = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name}: {option} must have {count} values, one a group, got {value!r}")
    return list(value)
