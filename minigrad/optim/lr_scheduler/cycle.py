"""Schedules that raise and lower the rate, and momentum against it, within a run of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ...arguments import check_int, check_number
from ..optimizer import Optimizer
from .base import LRScheduler, check_optimizer, per_group


class _Phase(NamedTuple):
    """A stretch of OneCycleLR: where it ends, and the group's keys of its end values."""

    end_step: float
    start_lr: str
    end_lr: str
    start_momentum: str
    end_momentum: str


class OneCycleLR(LRScheduler):
    """Up to max_lr over the first pct_start of the steps, then far down; momentum the other way.

    The first rate is max_lr / div_factor, the last the first / final_div_factor. Call `step()`
    after every batch, total_steps (or epochs · steps_per_epoch) times less one. three_phase comes
    down as it went up before the last descent. cycle_momentum moves `momentum`, or β₁ of Adam,
    between max_momentum and base_momentum. Source: Smith & Topin 2018, "Super-convergence".
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        name = "OneCycleLR"
        check_optimizer(name, optimizer)
        if total_steps is not None:
            self.total_steps = check_int(name, "total_steps", total_steps, low=1)
        elif epochs is not None and steps_per_epoch is not None:
            self.total_steps = check_int(name, "epochs", epochs, low=1) * check_int(
                name, "steps_per_epoch", steps_per_epoch, low=1
            )
        else:
            raise ValueError(f"{name}: give total_steps, or both epochs and steps_per_epoch")
        check_number(name, "pct_start", pct_start, low=0, high=1)
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"{name}: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}"
            )
        if cycle_momentum:
            _check_momentum(name, optimizer)
        self.pct_start = pct_start
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self.three_phase = three_phase
        max_lrs = per_group(name, "max_lr", optimizer, max_lr)
        max_momenta = per_group(name, "max_momentum", optimizer, max_momentum)
        base_momenta = per_group(name, "base_momentum", optimizer, base_momentum)
        if last_epoch == -1:
            for group, top, high, low in zip(
                optimizer.param_groups, max_lrs, max_momenta, base_momenta, strict=True
            ):
                group["initial_lr"] = top / div_factor
                group["max_lr"] = top
                group["min_lr"] = group["initial_lr"] / final_div_factor
                if cycle_momentum:
                    group["max_momentum"], group["base_momentum"] = high, low
        super().__init__(optimizer, last_epoch)

    def _phases(self) -> list[_Phase]:
        end, rise = self.total_steps - 1, self.pct_start * self.total_steps
        up = _Phase(rise - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        if not self.three_phase:
            return [up, _Phase(end, "max_lr", "min_lr", "base_momentum", "max_momentum")]
        return [
            up,
            _Phase(2 * rise - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum"),
            _Phase(end, "initial_lr", "min_lr", "max_momentum", "max_momentum"),
        ]

    def _anneal(self, start: float, end: float, done: float) -> float:
        """`start` at done = 0, `end` at done = 1."""
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2.0 * (math.cos(math.pi * done) + 1)
        return (end - start) * done + start

    def get_lr(self) -> list[float]:
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(f"OneCycleLR: step {step} of {self.total_steps} steps in total")
        phases = self._phases()
        start_step = 0.0
        for phase in phases:
            if step <= phase.end_step or phase is phases[-1]:
                break
            start_step = phase.end_step
        length = phase.end_step - start_step
        if length == 0:
            raise ValueError(
                f"OneCycleLR: a phase of the cycle has no steps with total_steps="
                f"{self.total_steps} and pct_start={self.pct_start}"
            )
        done = (step - start_step) / length
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._anneal(group[phase.start_lr], group[phase.end_lr], done))
            if self.cycle_momentum:
                momentum = self._anneal(
                    group[phase.start_momentum], group[phase.end_momentum], done
                )
                _set_momentum(group, momentum)
        return rates


class CyclicLR(LRScheduler):
    """Up from base_lr to max_lr in step_size_up steps and down again in step_size_down, over and
    over; momentum the other way.

    Call `step()` after every batch. mode scales the height: 'triangular' keeps it, 'triangular2'
    halves it every cycle, 'exp_range' multiplies it by gamma every step; or scale_fn does, of the
    number of the cycle or of the step, as scale_mode says ('cycle' or 'iterations').
    cycle_momentum moves `momentum`, or β₁ of Adam, between max_momentum and base_momentum.
    Source: Smith 2017, "Cyclical learning rates for training neural networks".
    """

    _not_saved = ("scale_fn",)

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        name = "CyclicLR"
        check_optimizer(name, optimizer)
        modes = ("triangular", "triangular2", "exp_range")
        if scale_fn is None and mode not in modes:
            raise ValueError(f"{name}: mode must be one of {modes}, or give scale_fn; got {mode!r}")
        up = float(check_number(name, "step_size_up", step_size_up))
        down = up if step_size_down is None else float(step_size_down)
        self.total_size = up + down
        self.step_ratio = up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self.scale_fn = scale_fn
        self.scale_mode = scale_mode
        if scale_fn is None:
            self.scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        base_lrs = per_group(name, "base_lr", optimizer, base_lr)
        self.max_lrs = per_group(name, "max_lr", optimizer, max_lr)
        self.base_momentums = per_group(name, "base_momentum", optimizer, base_momentum)
        self.max_momentums = per_group(name, "max_momentum", optimizer, max_momentum)
        if cycle_momentum:
            _check_momentum(name, optimizer)
        if last_epoch == -1:
            for group, lr, high, low in zip(
                optimizer.param_groups, base_lrs, self.max_momentums, self.base_momentums,
                strict=True,
            ):  # fmt: skip
                group["lr"] = lr
                if cycle_momentum:
                    group["max_momentum"], group["base_momentum"] = high, low
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def _scale(self, number: int) -> float:
        if self.scale_fn is not None:
            return self.scale_fn(number)
        if self.mode == "exp_range":
            return self.gamma**number
        return 1.0 if self.mode == "triangular" else 1 / 2.0 ** (number - 1)

    def get_lr(self) -> list[float]:
        step = self.last_epoch
        cycle = math.floor(1 + step / self.total_size)
        done = 1.0 + step / self.total_size - cycle
        rising = done <= self.step_ratio
        height = done / self.step_ratio if rising else (done - 1) / (self.step_ratio - 1)
        scale = self._scale(cycle if self.scale_mode == "cycle" else step)
        if self.cycle_momentum:
            for group, high, low in zip(
                self.optimizer.param_groups, self.max_momentums, self.base_momentums, strict=True
            ):
                _set_momentum(group, high - (high - low) * height * scale)
        return [
            low + (high - low) * height * scale
            for low, high in zip(self.base_lrs, self.max_lrs, strict=True)
        ]


def _check_momentum(name: str, optimizer: Optimizer) -> None:
    if not {"momentum", "betas"} & set(optimizer.defaults):
        raise ValueError(f"{name}: cycle_momentum needs an optimiser with momentum or betas")


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum
