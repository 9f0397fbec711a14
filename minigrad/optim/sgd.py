"""Stochastic gradient descent. Source: Sutskever et al. 2013, "On the importance of
initialization and momentum in deep learning"; the form is torch's."""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import partial
from typing import Any

from .. import kernels
from ..kernels.protocol import SGDOptions
from .optimizer import Job, Optimizer, Params, fresh_at_replay, gradient_of


class SGD(Optimizer):
    """Gradient descent with momentum b and weight decay λ:

        g = grad + λ·p;  b ← momentum·b + (1 − dampening)·g, first b ← g;  p ← p − lr·b

    nesterov steps along g + momentum·b instead of b; maximize climbs the gradient.
    State: momentum_buffer.
    """

    _state_tensors = ("momentum_buffer",)
    _not_negative = ("momentum",)

    params: Params
    lr: float = 1e-3
    momentum: float = 0
    dampening: float = 0
    weight_decay: float = 0
    nesterov: bool = False
    _: KW_ONLY
    maximize: bool = False
    foreach: bool | None = None
    differentiable: bool = False
    fused: bool | None = None

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                "SGD: nesterov needs a momentum above 0 and dampening 0, got momentum "
                f"{group['momentum']} and dampening {group['dampening']}"
            )

    def _terms(self, group: dict[str, Any]) -> Any:
        return group["momentum"] != 0

    def _update(self, jobs: list[Job]) -> None:
        params, buffers, grads, kinds = [], [], [], []
        for param, group, state, flats in jobs:
            values, grad = flats.start(gradient_of(param))
            params.append(values)
            grads.append(grad)
            buffer = None
            first = False
            if group["momentum"] != 0:
                first = state.get("momentum_buffer") is None
                buffer = flats.state(state, "momentum_buffer", fill=None)
            buffers.append(buffer)
            kinds.append((group, first))
        options = fresh_at_replay(partial(_options, kinds))
        kinds[:] = [(group, False) for group, _ in kinds]  # at replays the buffers are there
        kernels.get(jobs[0].param.device).update.sgd_update(params, buffers, grads, options)
        for job in jobs:
            if job.flats.has_gaps:
                job.flats.finish()


def _options(kinds: list[tuple[dict[str, Any], bool]]) -> list[SGDOptions]:
    options: list[SGDOptions] = []
    last: tuple[dict[str, Any] | None, bool] = None, False
    for kind in kinds:
        group, first = kind
        if group is not last[0] or first != last[1]:  # neighbours mostly share theirs
            last, found = kind, SGDOptions(
                float(group["lr"]), group["momentum"], group["dampening"],
                group["weight_decay"], group["nesterov"], group["maximize"], first,
            )  # fmt: skip
        options.append(found)
    return options
