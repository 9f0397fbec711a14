"""Adam and AdamW. Sources: Kingma & Ba 2015, "Adam"; Loshchilov & Hutter 2019, "Decoupled weight
decay regularization"; Reddi et al. 2018, "On the convergence of Adam and beyond" (amsgrad)."""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import partial
from typing import Any

from .. import kernels
from ..kernels.protocol import AdamOptions
from .optimizer import Job, Optimizer, Params, fresh_at_replay, gradient_of


class Adam(Optimizer):
    """Steps scaled by running means m of the gradient and v of its square; at step t

        m ← β₁·m + (1 − β₁)·g;  v ← β₂·v + (1 − β₂)·g²
        p ← p − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + eps)

    with g = grad + weight_decay·p; decoupled_weight_decay makes it AdamW. amsgrad uses the largest
    v so far; maximize climbs the gradient.
    State: step, exp_avg (m), exp_avg_sq (v), max_exp_avg_sq.
    """

    _state_tensors = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    _not_negative = ("eps",)

    params: Params
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0
    amsgrad: bool = False
    _: KW_ONLY
    foreach: bool | None = None
    maximize: bool = False
    capturable: bool = False
    differentiable: bool = False
    fused: bool | None = None
    decoupled_weight_decay: bool = False

    def _terms(self, group: dict[str, Any]) -> Any:
        return bool(group["amsgrad"])

    def _update(self, jobs: list[Job]) -> None:
        params, averages, squares, maxima, grads = [], [], [], [], []
        for param, group, state, flats in jobs:
            values, grad = flats.start(gradient_of(param))
            params.append(values)
            grads.append(grad)
            averages.append(flats.state(state, "exp_avg"))
            squares.append(flats.state(state, "exp_avg_sq"))
            maxima.append(flats.state(state, "max_exp_avg_sq") if group["amsgrad"] else None)
        options = fresh_at_replay(partial(self._advance, jobs))
        launch = kernels.get(jobs[0].param.device).update
        launch.adam_update(params, averages, squares, maxima, grads, options)
        for job in jobs:
            if job.flats.has_gaps:
                job.flats.finish()

    def _advance(self, jobs: list[Job]) -> list[AdamOptions]:
        """Counts the step, and what it takes."""
        options: list[AdamOptions] = []
        kind: tuple[dict[str, Any] | None, int] = None, 0
        for _, group, state, _ in jobs:
            step = state["step"] = state.get("step", 0) + 1
            if group is not kind[0] or step != kind[1]:  # neighbours mostly share theirs
                kind, found = (group, step), self._options(group, step)
            options.append(found)
        return options

    def _options(self, group: dict[str, Any], step: int) -> AdamOptions:
        beta1, beta2 = group["betas"]
        return AdamOptions(
            float(group["lr"]), beta1, beta2, group["eps"], group["weight_decay"],
            1 - beta1**step, 1 - beta2**step, group["decoupled_weight_decay"], group["maximize"],
        )  # fmt: skip


class AdamW(Adam):
    """Adam with decoupled weight decay: p ← (1 − lr·weight_decay)·p, and g is the gradient alone.

    Arguments and state as Adam's; weight_decay is 0.01 unless given.
    """

    weight_decay: float = 1e-2
    decoupled_weight_decay = True

    def _begin(self, params: Params, **options: Any) -> None:
        super()._begin(params, **options, decoupled_weight_decay=self.decoupled_weight_decay)
