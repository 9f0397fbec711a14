"""L-BFGS, a quasi-Newton method, and its line search by the strong Wolfe conditions.

Source: Nocedal & Wright 2006, "Numerical Optimization", §7.2 and algorithms 3.5 and 3.6; the rules
of when to stop are torch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any, NamedTuple

from ..engine import Tensor, enable_grad, no_grad, read_grad
from ..engine.grad_mode import mode
from ..ops.creation import zeros_like
from ..ops.join import cat
from .optimizer import Optimizer, Params

__all__ = ["LBFGS"]

_MAX_SEARCH = 25
_MIN_BRACKET = 1e-9


class LBFGS(Optimizer):
    """Steps along −H·g, where H, the inverse of the curvature, is known by the last history_size
    changes of parameters and gradient.

    A step takes a closure, which computes the gradients anew and returns the loss, and calls it up
    to max_eval times (1.25·max_iter unless given) in up to max_iter iterations, until the largest
    gradient is at most tolerance_grad, or parameters or loss change by less than tolerance_change.
    line_search_fn: 'strong_wolfe', or None for steps of lr. One group of parameters only.
    State, kept for the first parameter: func_evals, n_iter, d, t, old_dirs, old_stps, ro, H_diag,
    prev_flat_grad, prev_loss.
    """

    _state_numbers = ("ro", "H_diag", "t", "prev_loss")

    params: Params
    lr: float = 1
    max_iter: int = 20
    max_eval: int | None = None
    tolerance_grad: float = 1e-7
    tolerance_change: float = 1e-9
    history_size: int = 100
    line_search_fn: str | None = None
    _: KW_ONLY
    maximize: bool = False

    def _begin(self, params: Params, **options: Any) -> None:
        if options["max_eval"] is None:
            options["max_eval"] = options["max_iter"] * 5 // 4
        super()._begin(params, **options)
        if len(self.param_groups) != 1:
            raise ValueError(f"LBFGS: takes one group, got {len(self.param_groups)}")

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise ValueError(
                "LBFGS: line_search_fn must be None or 'strong_wolfe', got "
                f"{group['line_search_fn']!r}"
            )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Several iterations; returns the loss at the start."""
        if closure is None:
            raise TypeError("LBFGS: step needs a closure that computes the loss and its gradients")
        mode.observer.refuse("LBFGS: its steps cannot be captured, use SGD or Adam")
        with no_grad():
            return self._iterate(closure)

    def _iterate(self, closure: Callable[[], Any]) -> Any:
        (group,) = self.param_groups
        self._params: list[Tensor] = group["params"]
        self._sign = -1.0 if group["maximize"] else 1.0
        state = self.state[self._params[0]]
        with enable_grad():
            first = closure()
        loss, grad = self._sign * float(first), self._gradient()
        evaluations, n_iter = 1, 0
        state["func_evals"] = state.get("func_evals", 0) + 1
        if _largest(grad) <= group["tolerance_grad"]:
            return first
        while n_iter < group["max_iter"]:
            n_iter += 1
            state["n_iter"] = state.get("n_iter", 0) + 1
            direction = self._direction(state, grad, group["history_size"])
            step = group["lr"]
            if state["n_iter"] == 1:
                step *= min(1.0, 1.0 / grad.abs().sum().item())
            state |= {"d": direction, "prev_flat_grad": grad, "prev_loss": loss}
            slope = _dot(grad, direction)
            if slope > -group["tolerance_change"]:
                state["t"] = step
                break
            before, calls = loss, 0
            if group["line_search_fn"]:
                start = [param.clone() for param in self._params]

                def at(t: float, direction: Tensor = direction, start: Any = start) -> _Point:
                    for param, value in zip(self._params, start, strict=True):
                        param.copy_(value)
                    return self._evaluate(closure, direction, t)

                found, calls = _search(at, _Point(0.0, loss, grad, slope), step, direction)
                step, loss, grad = found.t, found.loss, found.grad
                for param, value in zip(self._params, start, strict=True):
                    param.copy_(value)
                self._move(direction, step)
            elif n_iter != group["max_iter"]:
                point, calls = self._evaluate(closure, direction, step), 1
                loss, grad = point.loss, point.grad
            else:  # the loss would be computed anew by the next step
                self._move(direction, step)
            state["t"] = step
            evaluations += calls
            state["func_evals"] += calls
            if (
                evaluations >= group["max_eval"]
                or _largest(grad) <= group["tolerance_grad"]
                or _largest(direction) * abs(step) <= group["tolerance_change"]
                or abs(loss - before) < group["tolerance_change"]
            ):
                break
        return first

    def _direction(self, state: dict[str, Any], grad: Tensor, history_size: int) -> Tensor:
        """−H·g by the two-loop recursion, after noting the last change."""
        if state["n_iter"] == 1:
            state |= {"old_dirs": [], "old_stps": [], "ro": [], "H_diag": 1.0}
            return -grad
        changes, steps, ro = state["old_dirs"], state["old_stps"], state["ro"]
        change, moved = grad - state["prev_flat_grad"], state["d"] * state["t"]
        curvature = _dot(change, moved)
        if curvature > 1e-10:
            if len(changes) == history_size:
                for kept in (changes, steps, ro):
                    del kept[0]
            changes.append(change)
            steps.append(moved)
            ro.append(1.0 / curvature)
            state["H_diag"] = curvature / _dot(change, change)
        direction = -grad
        factors = []
        for y, s, r in zip(changes[::-1], steps[::-1], ro[::-1], strict=True):
            factors.append(_dot(s, direction) * r)
            direction.sub_(y, alpha=factors[-1])
        direction.mul_(state["H_diag"])
        for y, s, r, factor in zip(changes, steps, ro, factors[::-1], strict=True):
            direction.add_(s, alpha=factor - _dot(y, direction) * r)
        return direction

    def _gradient(self) -> Tensor:
        """All gradients as one vector; no gradient counts as zeros."""
        grads = [read_grad(param) for param in self._params]
        parts = [
            (zeros_like(param) if grad is None else grad).reshape((-1,))
            for param, grad in zip(self._params, grads, strict=True)
        ]
        return cat(parts) * self._sign

    def _move(self, direction: Tensor, t: float) -> None:
        start = 0
        for param in self._params:
            stop = start + param.numel()
            param.add_(direction[start:stop].reshape(param.shape), alpha=t)
            start = stop

    def _evaluate(self, closure: Callable[[], Any], direction: Tensor, t: float) -> _Point:
        self._move(direction, t)
        with enable_grad():
            loss = self._sign * float(closure())
        grad = self._gradient()
        return _Point(t, loss, grad, _dot(grad, direction))


# Line search --------------------------------------------------------------------------------


class _Point(NamedTuple):
    """A place along the line: the step, the loss, its gradient, and its slope along the line."""

    t: float
    loss: float
    grad: Tensor
    slope: float


def _dot(a: Tensor, b: Tensor) -> float:
    return (a * b).sum().item()


def _largest(vector: Tensor) -> float:
    return vector.abs().max().item()


def _search(
    at: Callable[[float], _Point], start: _Point, t: float, direction: Tensor
) -> tuple[_Point, int]:
    """A point of sufficient decrease (1e-4) whose slope is at most 0.9 of the start's, and how many
    points were tried."""

    def high(point: _Point) -> bool:
        return point.loss > start.loss + 1e-4 * point.t * start.slope

    def flat(point: _Point) -> bool:
        return abs(point.slope) <= -0.9 * start.slope

    # A bracket: go further until a minimum lies between the last two points.
    low, point, calls = start, at(t), 1
    bracket = None
    for tried in range(_MAX_SEARCH):
        if high(point) or (tried > 1 and point.loss >= low.loss):
            bracket = [low, point]
        elif flat(point):
            return point, calls
        elif point.slope >= 0:
            bracket = [low, point]
        if bracket:
            break
        bounds = point.t + 0.01 * (point.t - low.t), point.t * 10
        low, point = point, at(_cubic_minimum(low, point, bounds))
        calls += 1
    else:
        tried = _MAX_SEARCH
    a, b = bracket or [start, point]

    # Zoom: a is the lower end of the two.
    stuck = False
    if a.loss > b.loss:
        a, b = b, a
    width = _largest(direction)
    for _ in range(tried, _MAX_SEARCH):
        left, right = min(a.t, b.t), max(a.t, b.t)
        if (right - left) * width < _MIN_BRACKET:
            break
        t = _cubic_minimum(a, b, (left, right))
        margin = 0.1 * (right - left)
        near = min(right - t, t - left) < margin
        if near and (stuck or t >= right or t <= left):
            # Twice at the edge of the bracket: away from it.
            t = right - margin if abs(t - right) < abs(t - left) else left + margin
            near = False
        stuck = near
        point, calls = at(t), calls + 1
        if high(point) or point.loss >= a.loss:
            b = point
            if a.loss > b.loss:
                a, b = b, a
            continue
        if flat(point):
            return point, calls
        if point.slope * (b.t - a.t) >= 0:
            b = a
        a = point
    return a, calls


def _cubic_minimum(a: _Point, b: _Point, bounds: tuple[float, float]) -> float:
    """Where the cubic through both points, with their slopes, is least, within bounds."""
    if a.t > b.t:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if square < 0:
        return (bounds[0] + bounds[1]) / 2
    d2 = math.sqrt(square)
    t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    return min(max(t, bounds[0]), bounds[1])
