"""torch.autograd's names: gradients of chosen tensors, functions with a backward pass of their own,
grad modes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from .engine import Function, Tensor, backward, enable_grad, grad, no_grad, set_grad_enabled
from .ops.gradcheck import gradcheck

__all__ = [
    "Function", "Variable", "backward", "detect_anomaly", "enable_grad", "grad", "gradcheck",
    "no_grad", "once_differentiable", "set_detect_anomaly", "set_grad_enabled",
]  # fmt: skip


F = TypeVar("F", bound=Callable[..., Any])


class detect_anomaly(contextlib.nullcontext[None]):
    """For scripts that ask for it: errors in backward passes name their operation in any case. NaN
    is not looked for."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()


set_detect_anomaly = detect_anomaly


def once_differentiable(fn: F) -> F:
    """The backward pass of a Function itself: none here can be differentiated."""
    return fn


class _Wrapped(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=_Wrapped):
    """What scripts older than torch 0.4 wrap tensors in: Variable(x) is x outside the graph, and
    every Tensor counts as one. `volatile` has no effect, as in torch."""

    def __new__(cls, data: Tensor, requires_grad: bool = False, volatile: bool = False) -> Any:
        return data.detach().requires_grad_(requires_grad)
