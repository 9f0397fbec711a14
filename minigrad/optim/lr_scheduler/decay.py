"""Schedules that lower the rate: by steps, lines, powers and cosines, or by a function given.

Most multiply the current rate, as torch's do, so that two schedules can work on one optimiser.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from ...arguments import check_int, check_number
from ..optimizer import Optimizer
from .base import LRScheduler, check_optimizer, per_group, refuse_in_captured_step


class _ByFunction(LRScheduler):
    """lr_lambda: a function, or a list of one a group."""

    _not_saved = ("lr_lambdas",)

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        name = type(self).__name__
        check_optimizer(name, optimizer)
        self.lr_lambdas = per_group(name, "lr_lambda", optimizer, lr_lambda)
        super().__init__(optimizer, last_epoch)


class LambdaLR(_ByFunction):
    """base_lr · lr_lambda(epoch). lr_lambda: a function, or a list of one a group."""

    def get_lr(self) -> list[float]:
        return [
            base * scale(self.last_epoch)
            for base, scale in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]


class MultiplicativeLR(_ByFunction):
    """Multiply by lr_lambda(epoch) every epoch. lr_lambda: a function, or a list of one a group."""

    def get_lr(self) -> list[float]:
        if self._starting:
            return self._rates()
        return [
            lr * scale(self.last_epoch)
            for lr, scale in zip(self._rates(), self.lr_lambdas, strict=True)
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

    def _closed_form(self) -> list[float]:
        return [b * self.gamma ** (self.last_epoch // self.step_size) for b in self.base_lrs]


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

    def _closed_form(self) -> list[float]:
        passed = bisect_right(self.milestones, self.last_epoch)
        return [base * self.gamma**passed for base in self.base_lrs]


class ExponentialLR(LRScheduler):
    """Multiply by gamma every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._starting:
            return self._rates()
        return [lr * self.gamma for lr in self._rates()]

    def _closed_form(self) -> list[float]:
        return [base * self.gamma**self.last_epoch for base in self.base_lrs]


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

    def _closed_form(self) -> list[float]:
        done = min(self.total_iters, self.last_epoch) / self.total_iters
        factor = self.start_factor + (self.end_factor - self.start_factor) * done
        return [base * factor for base in self.base_lrs]


class ConstantLR(LRScheduler):
    """base_lr·factor for total_iters epochs, then base_lr."""

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        check_number("ConstantLR", "factor", factor, low=0, high=1)
        self.factor = factor
        self.total_iters = check_int("ConstantLR", "total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [lr * self.factor for lr in self._rates()]
        if self.last_epoch != self.total_iters:
            return self._rates()
        return [lr * (1.0 / self.factor) for lr in self._rates()]

    def _closed_form(self) -> list[float]:
        factor = 1 if self.last_epoch >= self.total_iters else self.factor
        return [base * factor for base in self.base_lrs]


class PolynomialLR(LRScheduler):
    """base_lr·(1 − epoch/total_iters)^power, down to 0 in total_iters epochs."""

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int = 5,
        power: float = 1.0,
        last_epoch: int = -1,
    ) -> None:
        self.total_iters = check_int("PolynomialLR", "total_iters", total_iters, low=1)
        self.power = power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._starting or self.last_epoch > self.total_iters:
            return self._rates()
        now, before = (1.0 - n / self.total_iters for n in (self.last_epoch, self.last_epoch - 1))
        return [lr * (now / before) ** self.power for lr in self._rates()]

    def _closed_form(self) -> list[float]:
        left = 1.0 - min(self.total_iters, self.last_epoch) / self.total_iters
        return [base * left**self.power for base in self.base_lrs]


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

    def _closed_form(self) -> list[float]:
        up = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * up for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """From base_lr to eta_min along half a cosine of T_0 epochs, then again from base_lr, each time
    T_mult times as long. `step(epoch)` goes to any epoch, and to fractions of one.
    Source: Loshchilov & Hutter 2017, "SGDR".

    T_i: how long the current cosine is; T_cur: how far along it is.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        name = "CosineAnnealingWarmRestarts"
        self.T_0 = self.T_i = check_int(name, "T_0", T_0, low=1)
        self.T_mult = check_int(name, "T_mult", T_mult, low=1)
        check_number(name, "eta_min", eta_min)
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        low, done = self.eta_min, math.cos(math.pi * self.T_cur / self.T_i)
        return [low + (base - low) * (1 + done) / 2 for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Set the next rates, or those at an epoch from 0 on, which may be a fraction."""
        self._advance(epoch)

    def _advance(self, epoch: float | None) -> None:
        refuse_in_captured_step(type(self).__name__)
        if epoch is None and self.last_epoch >= 0:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            epoch = 0 if epoch is None else epoch
            check_number(type(self).__name__, "epoch", epoch, low=0)
            start, self.T_i = 0, self.T_0
            if self.T_mult == 1:
                start = self.T_0 * math.floor(epoch / self.T_0)
            while self.T_mult > 1 and epoch >= start + self.T_i:
                start, self.T_i = start + self.T_i, self.T_i * self.T_mult
            self.T_cur = epoch - start
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())
