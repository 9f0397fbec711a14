"""Learning-rate schedules.

Each takes an optimiser, sets the learning rate of step 0, and sets the next one at every `step()`.
Most multiply the current rate, as torch's do, so that two schedules can work on one optimiser.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ..arguments import check_int, check_number
from ..engine.grad_mode import mode
from ..errors import CheckpointError
from .optimizer import Optimizer

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "StepLR",
]


class LRScheduler:
    """Base of the schedules: a subclass defines `get_lr()`, the rates at `last_epoch`.

    base_lrs: the optimiser's rates when the schedule was made, one a group.
    last_epoch: how many times `step()` ran.
    """

    # What state_dict leaves out, besides the optimiser.
    _not_saved: tuple[str, ...] = ()

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        _check_optimizer(type(self).__name__, optimizer)
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
        self._starting = True
        self.step()
        self._starting = False

    def get_lr(self) -> list[float]:
        raise TypeError(f"{type(self).__name__} must define get_lr()")

    def get_last_lr(self) -> list[float]:
        """The rates set last, one a group."""
        return self._last_lr

    def step(self) -> None:
        """Set the next rates. Call it after `optimizer.step()`, outside of captured steps."""
        _refuse_in_captured_step(type(self).__name__)
        self.last_epoch += 1
        try:
            rates = self.get_lr()
        except Exception:
            self.last_epoch -= 1
            raise
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._last_lr = self._rates()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimiser, as plain numbers and lists."""
        skip = {"optimizer", "_starting", *self._not_saved}
        return {key: value for key, value in self.__dict__.items() if key not in skip}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a schedule. The rates themselves are in the optimiser's state dict."""
        self._check_state_dict(state_dict)
        self.__dict__.update(state_dict)

    def _check_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = self.state_dict()
        if set(own) != set(state_dict):
            raise CheckpointError(
                f"{type(self).__name__}: the saved state is another schedule's: missing "
                f"{sorted(set(own) - set(state_dict))}, unknown "
                f"{sorted(set(state_dict) - set(own))}"
            )
        if len(own["_last_lr"]) != len(state_dict["_last_lr"]):
            raise CheckpointError(
                f"{type(self).__name__}: the saved state has {len(state_dict['_last_lr'])} groups, "
                f"this optimiser {len(own['_last_lr'])}"
            )

    def _rates(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]


def _refuse_in_captured_step(name: str) -> None:
    mode.observer.refuse(
        f"{name}: a scheduler must step outside of the captured step, which would not repeat it"
    )


def _check_optimizer(name: str, optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{name}: optimizer must be an Optimizer, got {type(optimizer).__name__}")


def _per_group(name: str, option: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """One value a group: `value` itself if it is a list, else repeated."""
    count = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name}: {option} must have {count} values, one a group, got {value!r}")
    return list(value)


class LambdaLR(LRScheduler):
    """base_lr · lr_lambda(epoch). lr_lambda: a function, or a list of one a group."""

    _not_saved = ("lr_lambdas",)

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        _check_optimizer("LambdaLR", optimizer)
        self.lr_lambdas = _per_group("LambdaLR", "lr_lambda", optimizer, lr_lambda)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [
            base * scale(self.last_epoch)
            for base, scale in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]


class StepLR(LRScheduler):
    """Multiply by gamma every step_size epochs."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = check_int("StepLR", "step_size", step_size, low=1)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0 or self.last_epoch % self.step_size != 0:
            return self._rates()
        return [lr * self.gamma for lr in self._rates()]


class MultiStepLR(LRScheduler):
    """Multiply by gamma at each milestone, once for every time it is listed."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        times = Counter(self.milestones)[self.last_epoch]
        return [lr * self.gamma**times if times else lr for lr in self._rates()]


class ExponentialLR(LRScheduler):
    """Multiply by gamma every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._starting:
            return self._rates()
        return [lr * self.gamma for lr in self._rates()]


class LinearLR(LRScheduler):
    """From base_lr·start_factor to base_lr·end_factor along a line of total_iters epochs."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"LinearLR: start_factor must be in (0, 1], got {start_factor!r}")
        check_number("LinearLR", "end_factor", end_factor, low=0, high=1)
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = check_int("LinearLR", "total_iters", total_iters, low=1)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [lr * self.start_factor for lr in self._rates()]
        if self._starting or self.last_epoch > self.total_iters:
            return self._rates()
        # The factor's value at the last epoch, times total_iters, and its slope times the same.
        slope = self.end_factor - self.start_factor
        value = self.total_iters * self.start_factor + (self.last_epoch - 1) * slope
        return [lr * (1 + slope / value) for lr in self._rates()]


class CosineAnnealingLR(LRScheduler):
    """From base_lr to eta_min along half a cosine of T_max epochs, then back up.
    Source: Loshchilov & Hutter 2017, "SGDR", without restarts."""

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max = check_int("CosineAnnealingLR", "T_max", T_max, low=1)
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._starting:
            return self._rates()
        t, T, low = self.last_epoch, self.T_max, self.eta_min
        if (t - 1 - T) % (2 * T) == 0:
            # The last rate was eta_min, which no factor leads away from.
            rise = (1 - math.cos(math.pi / T)) / 2
            return [
                lr + (base - low) * rise
                for lr, base in zip(self._rates(), self.base_lrs, strict=True)
            ]
        ratio = (1 + math.cos(math.pi * t / T)) / (1 + math.cos(math.pi * (t - 1) / T))
        return [ratio * (lr - low) + low for lr in self._rates()]


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
        _check_optimizer(name, optimizer)
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
        if cycle_momentum and not {"momentum", "betas"} & set(optimizer.defaults):
            raise ValueError(f"{name}: cycle_momentum needs an optimiser with momentum or betas")
        self.pct_start = pct_start
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self.three_phase = three_phase
        max_lrs = _per_group(name, "max_lr", optimizer, max_lr)
        max_momenta = _per_group(name, "max_momentum", optimizer, max_momentum)
        base_momenta = _per_group(name, "base_momentum", optimizer, base_momentum)
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
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return rates


class ReduceLROnPlateau(LRScheduler):
    """Multiply by factor when a metric has not improved for more than patience epochs.

    mode 'min' or 'max': which way is better. threshold: what counts as an improvement, relative to
    the best ('rel') or absolute ('abs'). cooldown: epochs to wait after a reduction. min_lr: a
    bound, or one a group. eps: reductions smaller than this are left out.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        name = "ReduceLROnPlateau"
        _check_optimizer(name, optimizer)
        if factor >= 1.0:
            raise ValueError(f"{name}: factor must be below 1, got {factor!r}")
        if mode not in ("min", "max"):
            raise ValueError(f"{name}: mode must be 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"{name}: threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}"
            )
        # No super().__init__: that would take a first step, and here a step needs a metric.
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lrs = _per_group(name, "min_lr", optimizer, min_lr)
        self.eps = eps
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self._last_lr = self._rates()

    def step(self, metrics: Any) -> None:  # type: ignore[override]
        """Take note of the metric (a number or a tensor of one element) after an epoch,
        outside of captured steps."""
        _refuse_in_captured_step(type(self).__name__)
        current = float(metrics.item() if hasattr(metrics, "item") else metrics)
        self.last_epoch += 1
        if self._is_better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, low in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                reduced = max(group["lr"] * self.factor, low)
                if group["lr"] - reduced > self.eps:
                    group["lr"] = reduced
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = self._rates()

    def _is_better(self, current: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        if self.threshold_mode == "rel":
            bound = self.best * (1 + sign * self.threshold)
        else:
            bound = self.best + sign * self.threshold
        return current < bound if self.mode == "min" else current > bound
