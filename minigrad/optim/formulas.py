"""Optimisers that are formulas of tensors: each class is its options, its state and its update.

They run as tensor operations outside the graph, several a parameter, on every device; SGD and Adam,
which most networks are trained with, have kernels of their own. Their steps cannot be captured,
because numbers that change from step to step go into the operations.

In all of them g is the gradient plus weight_decay·p, and maximize climbs it.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any

from ..arguments import check_number
from ..engine import Tensor, no_grad
from ..engine.grad_mode import mode
from ..ops.arithmetic import maximum
from ..ops.compare import where
from ..ops.operands import empty_like
from ..ops.overwrite import fill_
from ..runtime.allocation import lasting
from .optimizer import Job, Optimizer, Params, Values, gradient_of

__all__ = [
    "ASGD", "Adadelta", "Adagrad", "Adamax", "FormulaOptimizer", "NAdam", "RAdam", "RMSprop",
    "Rprop",
]  # fmt: skip


class FormulaOptimizer(Optimizer):
    """Base: a subclass defines `_formula`, which changes param and state; step is counted here."""

    def _update(self, jobs: list[Job]) -> None:
        mode.observer.refuse(
            f"{type(self).__name__}: its steps cannot be captured, use SGD or Adam"
        )
        with no_grad():
            for param, group, state, _ in jobs:
                grad = -gradient_of(param) if group["maximize"] else gradient_of(param)
                if decay := group.get("weight_decay", 0):
                    if group.get("decoupled_weight_decay"):
                        param.mul_(1 - group["lr"] * decay)
                    else:
                        grad = grad + param * decay
                state["step"] = state.get("step", 0) + 1
                self._formula(param, grad, state, group)

    def _formula(self, param: Tensor, grad: Tensor, state: Values, group: Values) -> None:
        raise TypeError(f"{type(self).__name__} must define _formula(param, grad, state, group)")


def _kept(state: Values, name: str, param: Tensor, fill: float = 0.0) -> Tensor:
    """A state tensor of the parameter's shape: made if there is none, or of another dtype."""
    tensor = state.get(name)
    if tensor is None:
        with lasting(param.device):
            tensor = fill_(empty_like(param), fill)
    elif tensor.dtype != param.dtype or tensor.device != param.device:
        tensor = tensor.to(param.device, param.dtype)
    state[name] = tensor
    return tensor


def _mean(state: Values, name: str, param: Tensor, value: Tensor, beta: float) -> Tensor:
    """A running mean, moved to m ← β·m + (1 − β)·value."""
    return _kept(state, name, param).mul_(beta).add_(value, alpha=1 - beta)


class RMSprop(FormulaOptimizer):
    """Steps scaled by the root of a running mean v of the squared gradient:

        v ← α·v + (1 − α)·g²;  u = g / (√v + eps);  p ← p − lr·u

    centered takes the square of the gradient's mean off v. With momentum, b ← momentum·b + u is the
    step.
    State: step, square_avg (v), momentum_buffer (b), grad_avg. Source: Tieleman & Hinton 2012,
    lecture 6.5.
    """

    _state_tensors = ("square_avg", "momentum_buffer", "grad_avg")
    _not_negative = ("alpha", "eps", "momentum")

    params: Params
    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0
    momentum: float = 0
    centered: bool = False
    capturable: bool = False
    foreach: bool | None = None
    maximize: bool = False
    differentiable: bool = False

    def _formula(self, param: Tensor, grad: Tensor, state: Values, group: Values) -> None:
        alpha = group["alpha"]
        mean = _mean(state, "square_avg", param, grad * grad, alpha)
        if group["centered"]:
            center = _mean(state, "grad_avg", param, grad, alpha)
            mean = mean - center * center
        step = grad / (mean.sqrt() + group["eps"])
        if group["momentum"] > 0:
            buffer = _kept(state, "momentum_buffer", param)
            step = buffer.mul_(group["momentum"]).add_(step)
        param.sub_(step, alpha=group["lr"])


class Adagrad(FormulaOptimizer):
    """Steps scaled by the root of the sum s of all squared gradients:

        s ← s + g²;  p ← p − lr/(1 + (t − 1)·lr_decay) · g / (√s + eps)

    State: step (t), sum (s), which is there from the start. Source: Duchi et al. 2011.
    """

    _state_tensors = ("sum",)
    _not_negative = ("lr_decay", "initial_accumulator_value", "eps")

    params: Params
    lr: float = 1e-2
    lr_decay: float = 0
    weight_decay: float = 0
    initial_accumulator_value: float = 0
    eps: float = 1e-10
    foreach: bool | None = None
    _: KW_ONLY
    maximize: bool = False
    differentiable: bool = False
    fused: bool | None = None

    def _begin(self, params: Params, **options: Any) -> None:
        super()._begin(params, **options)
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param]["step"] = 0
                _kept(self.state[param], "sum", param, group["initial_accumulator_value"])

    def _formula(self, param: Tensor, grad: Tensor, state: Values, group: Values) -> None:
        total = _kept(state, "sum", param, group["initial_accumulator_value"]).add_(grad * grad)
        lr = group["lr"] / (1 + (state["step"] - 1) * group["lr_decay"])
        param.sub_(grad / (total.sqrt() + group["eps"]), alpha=lr)


class Adadelta(FormulaOptimizer):
    """Steps scaled by the ratio of two running means, of squared steps (a) and gradients (v):

        v ← ρ·v + (1 − ρ)·g²;  u = √(a + eps)/√(v + eps)·g;  a ← ρ·a + (1 − ρ)·u²;  p ← p − lr·u

    State: step, square_avg (v), acc_delta (a). Source: Zeiler 2012.
    """

    _state_tensors = ("square_avg", "acc_delta")
    _not_negative = ("eps",)

    params: Params
    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0
    foreach: bool | None = None
    _: KW_ONLY
    capturable: bool = False
    maximize: bool = False
    differentiable: bool = False

    def _check_group(self, group: Values) -> None:
        super()._check_group(group)
        check_number("Adadelta", "rho", group["rho"], low=0, high=1)

    def _formula(self, param: Tensor, grad: Tensor, state: Values, group: Values) -> None:
        rho, eps = group["rho"], group["eps"]
        mean = _mean(state, "square_avg", param, grad * grad, rho)
        steps = _kept(state, "acc_delta", param)
        step = (steps + eps).sqrt() / (mean + eps).sqrt() * grad
        steps.mul_(rho).add_(step * step, alpha=1 - rho)
        param.sub_(step, alpha=group["lr"])


class Adamax(FormulaOptimizer):
    """Adam with the largest, decaying, magnitude u of the gradient instead of the mean square:

        m ← β₁·m + (1 − β₁)·g;  u ← max(β₂·u, |g| + eps);  p ← p − lr/(1 − β₁ᵗ)·m/u

    State: step (t), exp_avg (m), exp_inf (u). Source: Kingma & Ba 2015, §7.1.
    """

    _state_tensors = ("exp_avg", "exp_inf")
    _not_negative = ("eps",)

    params: Params
    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0
    foreach: bool | None = None
    _: KW_ONLY
    maximize: bool = False
    differentiable: bool = False
    capturable: bool = False

    def _formula(self, param: Tensor, grad: Tensor, state: Values, group: Values) -> None:
        beta1, beta2 = group["betas"]
        mean = _mean(state, "exp_avg", param, grad, beta1)
        largest = _kept(state, "exp_inf", param)
        largest.copy_(maximum(largest * beta2, grad.abs() + group["eps"]))
        param.sub_(mean / largest, alpha=group["lr"] / (1 - beta1 ** state["step"]))


class NAdam(FormulaOptimizer):
    """Adam with Nesterov's momentum, whose factor μₜ = β₁·(1 − 0.96^(t·momentum_decay)/2) grows:

        p ← p − lr·((1 − μₜ)/(1 − Πμ)·g + μₜ₊₁/(1 − Πμ·μₜ₊₁)·m) / (√(v/(1 − β₂ᵗ)) + eps)

    with m and v as in Adam and Πμ the product of all μ up to t. decoupled_weight_decay as in AdamW.
    State: step (t), mu_product (Πμ), exp_avg (m), exp_avg_sq (v). Source: Dozat 2016.
    """

    _state_tensors = ("exp_avg", "exp_avg_sq")
    _state_numbers = ("step", "mu_product")
    _not_negative = ("eps", "momentum_decay")

    params: Params
    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False
    _: KW_ONLY
    foreach: bool | None = None
    maximize: bool = False
    capturable: bool = False
    differentiable: bool = False

    def _formula(self, param: Tensor, grad: Tensor, state: Values, group: Values) -> None:
        (beta1, beta2), lr, t = group["betas"], group["lr"], state["step"]
        now, next_one = (
            beta1 * (1 - 0.5 * 0.96 ** (step * group["momentum_decay"])) for step in (t, t + 1)
        )
        product = state["mu_product"] = state.get("mu_product", 1.0) * now
        mean = _mean(state, "exp_avg", param, grad, beta1)
        square = _mean(state, "exp_avg_sq", param, grad * grad, beta2)
        scale = (square / (1 - beta2**t)).sqrt() + group["eps"]
        param.sub_(grad / scale, alpha=lr * (1 - now) / (1 - product))
        param.sub_(mean / scale, alpha=lr * next_one / (1 - product * next_one))


class RAdam(FormulaOptimizer):
    """Adam that scales its steps once the mean square is of enough gradients, and only then:

        p ← p − lr·m/(1 − β₁ᵗ)·r·√(1 − β₂ᵗ)/(√v + eps)   where ρₜ > 5, else   p ← p − lr·m/(1 − β₁ᵗ)

    with ρ∞ = 2/(1 − β₂) − 1, ρₜ = ρ∞ − 2t·β₂ᵗ/(1 − β₂ᵗ) and
    r² = (ρₜ − 4)(ρₜ − 2)ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)ρₜ). decoupled_weight_decay as in AdamW.
    State: step (t), exp_avg (m), exp_avg_sq (v). Source: Liu et al. 2020.
    """

    _state_tensors = ("exp_avg", "exp_avg_sq")
    _not_negative = ("eps",)

    params: Params
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0
    decoupled_weight_decay: bool = False
    _: KW_ONLY
    foreach: bool | None = None
    maximize: bool = False
    capturable: bool = False
    differentiable: bool = False

    def _formula(self, param: Tensor, grad: Tensor, state: Values, group: Values) -> None:
        (beta1, beta2), t = group["betas"], state["step"]
        mean = _mean(state, "exp_avg", param, grad, beta1)
        square = _mean(state, "exp_avg_sq", param, grad * grad, beta2)
        lr, left = group["lr"] / (1 - beta1**t), 1 - beta2**t
        limit = 2 / (1 - beta2) - 1
        length = limit - 2 * t * beta2**t / left
        if length <= 5:
            param.sub_(mean, alpha=lr)
            return
        ratio = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
        param.sub_(mean / (square.sqrt() + group["eps"]), alpha=lr * math.sqrt(ratio * left))


class Rprop(FormulaOptimizer):
    """Steps along the gradient's sign alone, of a length for each element: times etas[1] while the
    sign stays, times etas[0], and no step, when it changes; within step_sizes.

    State: step, prev (the last gradient), step_size. Source: Riedmiller & Braun 1993.
    """

    _state_tensors = ("prev", "step_size")

    params: Params
    lr: float = 1e-2
    etas: tuple[float, float] = (0.5, 1.2)
    step_sizes: tuple[float, float] = (1e-6, 50)
    _: KW_ONLY
    capturable: bool = False
    foreach: bool | None = None
    maximize: bool = False
    differentiable: bool = False

    def _check_group(self, group: Values) -> None:
        super()._check_group(group)
        if not 0 < group["etas"][0] < 1 < group["etas"][1]:
            raise ValueError(f"Rprop: etas must lie on both sides of 1, got {group['etas']}")

    def _formula(self, param: Tensor, grad: Tensor, state: Values, group: Values) -> None:
        previous = _kept(state, "prev", param)
        size = _kept(state, "step_size", param, group["lr"])
        turn, (shrink, grow) = grad * previous, group["etas"]
        size.mul_(where(turn > 0, grow, where(turn < 0, shrink, empty_like(size).fill_(1))))
        size.clamp_(*group["step_sizes"])
        grad = where(turn < 0, 0, grad)
        param.sub_(grad.sign() * size)
        previous.copy_(grad)


class ASGD(FormulaOptimizer):
    """Gradient descent with a falling rate η, and the mean of the parameters from step t0 on:

        p ← (1 − lambd·η)·p − η·g;  ax ← ax + μ·(p − ax)
        η ← lr/(1 + lambd·lr·t)^alpha;  μ ← 1/max(1, t − t0)

    State: step (t), eta (η), mu (μ), ax (the mean). Source: Polyak & Juditsky 1992.
    """

    _state_tensors = ("ax",)
    _state_numbers = ("step", "eta", "mu")

    params: Params
    lr: float = 1e-2
    lambd: float = 1e-4
    alpha: float = 0.75
    t0: float = 1e6
    weight_decay: float = 0
    foreach: bool | None = None
    maximize: bool = False
    differentiable: bool = False
    capturable: bool = False

    def _formula(self, param: Tensor, grad: Tensor, state: Values, group: Values) -> None:
        lr, lambd, t = group["lr"], group["lambd"], state["step"]
        eta: Any = state.get("eta", lr)
        mean = _kept(state, "ax", param)
        param.mul_(1 - lambd * eta).sub_(grad, alpha=eta)
        mean.add_(param - mean, alpha=state.get("mu", 1.0))
        state["eta"] = lr / (1 + lambd * lr * t) ** group["alpha"]
        state["mu"] = 1 / max(1, t - group["t0"])
