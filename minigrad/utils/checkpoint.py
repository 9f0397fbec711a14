"""Activation checkpointing: what a part of a network computes is forgotten, and computed again in
the backward pass: one more forward pass for the memory of the part's intermediate results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..device import default_generator
from ..engine import Function, Tensor, enable_grad, is_grad_enabled
from ..ops.creation import zeros

__all__ = ["checkpoint", "checkpoint_sequential"]


class Checkpoint(Function):
    """outputs = function(*args), whose own graph lives in the backward pass only."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, function: Callable[..., Any], keep_random: bool, *args: Any
    ) -> Any:
        ctx.function = function
        ctx.random = default_generator.get_state() if keep_random else None
        ctx.places = [place for place, arg in enumerate(args) if isinstance(arg, Tensor)]
        ctx.args = [None if isinstance(arg, Tensor) else arg for arg in args]
        ctx.save_for_backward(*(args[place] for place in ctx.places))
        return function(*args)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        args, gradients = list(ctx.args), [None] * len(ctx.args)
        for place, saved in zip(ctx.places, ctx.saved_tensors, strict=True):
            args[place] = saved.detach()
            args[place].requires_grad = ctx.needs_input_grad[3 + place]
        before = default_generator.get_state()
        if ctx.random is not None:
            default_generator.set_state(ctx.random)
        try:
            with enable_grad():
                result = ctx.function(*args)
                outputs = result if isinstance(result, tuple) else (result,)
                # One number whose gradients are those of all outputs together.
                total = zeros((), dtype=grad_outputs[0].dtype, device=grad_outputs[0].device)
                for output, gradient in zip(outputs, grad_outputs, strict=True):
                    if output.requires_grad:
                        total = total + (output * gradient).sum()
        finally:
            default_generator.set_state(before)
        if total.requires_grad:
            total.backward()
        for place in ctx.places:
            gradients[place] = args[place].grad
        return (None, None, None, *gradients)


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """function(*args, **kwargs), which keeps its arguments for the backward pass and nothing else.

    function: returns a Tensor or a tuple of Tensors, the same ones each time it is called.
    preserve_rng_state: the second call draws the same random numbers. use_reentrant: torch's two
        ways of doing it, which are one here.
    """
    if not is_grad_enabled():
        return function(*args, **kwargs)

    def call(*given: Any) -> Any:
        return function(*given, **kwargs)

    # Parameters of the function may want gradients where no argument does.
    anchor = zeros(())
    anchor.requires_grad = True
    return Checkpoint.apply(anchor, call, preserve_rng_state, *args)


def checkpoint_sequential(
    functions: Sequence[Callable[..., Any]], segments: int, input: Any, **options: Any
) -> Any:
    """The functions one after the other, in `segments` parts each of which is checkpointed but the
    last."""
    functions = list(functions)
    size = max(1, len(functions) // segments)

    def part(first: int, last: int) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            for function in functions[first:last]:
                value = function(value)
            return value

        return run

    for k in range(segments - 1):
        input = checkpoint(part(k * size, (k + 1) * size), input, **options)
    return part((segments - 1) * size, len(functions))(input)
