"""Averages of a model's parameters over training: stochastic weight averaging, and exponential
moving averages (EMA).

Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any

from ..arguments import check_int, check_number
from ..device import Device
from ..engine import Tensor, no_grad
from ..nn.layers import _BatchNorm
from ..nn.module import Module
from ..ops.creation import tensor
from .lr_scheduler.base import LRScheduler, check_optimizer, per_group
from .optimizer import Optimizer

__all__ = [
    "SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn",
    "get_swa_multi_avg_fn", "update_bn",
]  # fmt: skip

Average = Callable[[Tensor, Tensor, Any], Tensor]
MultiAverage = Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """decay·average + (1 − decay)·current, of one parameter."""
    check_number("get_ema_avg_fn", "decay", decay, low=0, high=1)

    def ema_update(ema_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return ema_param * decay + current_param * (1 - decay)

    return ema_update


def get_swa_avg_fn() -> Average:
    """The mean of all values so far, of one parameter."""

    def swa_update(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return averaged_param + (current_param - averaged_param) / (int(num_averaged) + 1)

    return swa_update


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """As `get_ema_avg_fn`, of many parameters in place."""
    check_number("get_ema_multi_avg_fn", "decay", decay, low=0, high=1)
    return _of_many(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> MultiAverage:
    """As `get_swa_avg_fn`, of many parameters in place."""
    return _of_many(get_swa_avg_fn())


def _of_many(average: Average) -> MultiAverage:
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Any) -> None:
        with no_grad():
            for mean, value in zip(averaged, current, strict=True):
                mean.copy_(average(mean, value, num_averaged))

    return update


class AveragedModel(Module):
    """A copy of a model that holds the average of its parameters; `update_parameters` adds to it.

    avg_fn(average, current, num_averaged) returns the new average of one parameter;
    multi_avg_fn(averages, currents, num_averaged) changes all of them in place; neither: the mean.
    use_buffers: average the buffers as well, which are otherwise those of the last update. After
    training with batch norm, `update_bn` finds the statistics of the averaged model.
    """

    def __init__(
        self,
        model: Module,
        device: Device | str | None = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: avg_fn and multi_avg_fn exclude each other")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take model's parameters into the average; the first time, as they are."""
        own, others = (
            list(chain(m.parameters(), m.buffers() if self.use_buffers else []))
            for m in (self.module, model)
        )
        with no_grad():
            currents = [
                other.detach().to(mean.device) for mean, other in zip(own, others, strict=True)
            ]
            if int(self.n_averaged) == 0:
                for mean, current in zip(own, currents, strict=True):
                    mean.copy_(current)
            elif self.avg_fn is not None:
                for mean, current in zip(own, currents, strict=True):
                    mean.copy_(self.avg_fn(mean.detach(), current, self.n_averaged))
            else:
                update = self.multi_avg_fn or get_swa_multi_avg_fn()
                update([mean.detach() for mean in own], currents, self.n_averaged)
            if not self.use_buffers:
                for kept, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
                    kept.copy_(buffer)
            self.n_averaged.add_(1)


def update_bn(loader: Iterable[Any], model: Module, device: Device | str | None = None) -> None:
    """Batch norm's running statistics anew, as cumulative averages over the loader's batches.

    A batch is the input, or a list or tuple that starts with it. device: where to move it first.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta, training = [norm.momentum for norm in norms], model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    with no_grad():
        for batch in loader:
            input = batch[0] if isinstance(batch, (list, tuple)) else batch
            model(input if device is None else input.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(training)


class SWALR(LRScheduler):
    """From the current rate to swa_lr in anneal_epochs epochs, along a cosine or a line, and then
    swa_lr. swa_lr: a number, or one a group."""

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | Sequence[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        check_optimizer("SWALR", optimizer)
        for group, lr in zip(
            optimizer.param_groups, per_group("SWALR", "swa_lr", optimizer, swa_lr), strict=True
        ):
            group["swa_lr"] = lr
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"SWALR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}"
            )
        self._anneal_strategy = anneal_strategy
        self.anneal_epochs = check_int("SWALR", "anneal_epochs", anneal_epochs, low=0)
        super().__init__(optimizer, last_epoch)

    def _done(self, step: float) -> float:
        """How far step is on the way to swa_lr, from 0 to 1."""
        t = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[float]:
        step = max(1, self.last_epoch) if self.anneal_epochs == 0 else self.last_epoch
        before, now = self._done(step - 1), self._done(step)
        rates = []
        for group in self.optimizer.param_groups:
            end, lr = group["swa_lr"], group["lr"]
            # The rate that the way began with, whoever else changes the current one.
            start = end if before == 1 else (lr - before * end) / (1 - before)
            rates.append(end * now + start * (1 - now))
        return rates
