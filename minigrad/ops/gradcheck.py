"""Gradient check: is a backward pass right? Central differences tell, in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..device import CPU
from ..dtypes import float64, is_floating
from ..engine import Tensor, enable_grad, no_grad
from ..errors import DTypeError, GradcheckError, GraphError

__all__ = ["gradcheck"]


def gradcheck(
    function: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    *,
    directions: int = 3,
    raise_exception: bool = True,
    seed: int = 0,
) -> bool:
    """Compare the backward pass of `function` with central differences, in random directions.

    For each input x_i that requires a gradient, a random unit-scale direction v and random output
    gradients g_k, the two sides of

        Σ_k ⟨g_k, f_k(x + eps·v) − f_k(x − eps·v)⟩ / (2·eps)  =  ⟨∂(Σ_k ⟨g_k, f_k⟩)/∂x_i, v⟩

    must agree to atol + rtol·|numeric|. A direction sees every element of the gradient at once, so
    few of them suffice, whatever the size of the input.

    function: called as function(*inputs); returns a floating Tensor or several. It must give the
        same values each time, and no kink may lie within eps of the inputs.
    inputs: a Tensor or a sequence of arguments; those that require gradients must be float64
        leaves. Their data and their `.grad` are left as they were.
    Returns True; on a difference raises GradcheckError, or returns False if not raise_exception.
    Raises DTypeError for an input of another dtype, GraphError if no input requires a gradient.
    """
    arguments = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = _inputs_to_check(arguments)
    generator = np.random.default_rng(seed)

    kept = {index: arguments[index].grad for index in checked}
    try:
        for _ in range(directions):
            for index in checked:
                arguments[index].grad = None
            with enable_grad():
                outputs = _floating_outputs(function(*_call_arguments(arguments, checked)))
            weights = [generator.standard_normal(output.shape) for output in outputs]
            _backward(outputs, weights)
            for index in checked:
                problem = _difference(
                    function, arguments, index, weights, generator, eps, atol, rtol
                )
                if problem is not None and not raise_exception:
                    return False
                if problem is not None:
                    raise GradcheckError(problem)
    finally:
        for index, grad in kept.items():
            arguments[index].grad = grad
    return True


def _inputs_to_check(arguments: tuple[Any, ...]) -> list[int]:
    checked = []
    for index, argument in enumerate(arguments):
        if not isinstance(argument, Tensor) or not argument.requires_grad:
            continue
        if argument.dtype != float64:
            raise DTypeError(
                f"gradcheck: input {index} must be float64, got {argument.dtype.name}; differences "
                "in float32 are too coarse. Make it with dtype=minigrad.float64"
            )
        if not argument.is_leaf:
            raise GraphError(f"gradcheck: input {index} must be a leaf; pass it through .detach()")
        checked.append(index)
    if not checked:
        raise GraphError("gradcheck: no input requires a gradient")
    return checked


def _call_arguments(arguments: tuple[Any, ...], checked: list[int]) -> list[Any]:
    """The arguments, with copies of all that are not checked: a function may update its state."""
    return [a if i in checked else _copy(a) for i, a in enumerate(arguments)]


def _floating_outputs(result: Any) -> list[Tensor]:
    outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    for output in outputs:
        if not isinstance(output, Tensor):
            raise TypeError(
                f"gradcheck: the function must return Tensors, got {type(output).__name__}"
            )
    floating = [output for output in outputs if is_floating(output.dtype)]
    if not any(output.requires_grad for output in floating):
        raise GraphError("gradcheck: no output of the function requires a gradient")
    return floating


def _backward(outputs: list[Tensor], weights: list[np.ndarray]) -> None:
    pairs = [(o, w) for o, w in zip(outputs, weights, strict=True) if o.requires_grad]
    for left, (output, weight) in zip(itertools.count(len(pairs) - 1, -1), pairs, strict=False):
        gradient = Tensor(np.asarray(weight, output.dtype), CPU).to(output.device)
        output.backward(gradient, retain_graph=left > 0)


def _difference(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    index: int,
    weights: list[np.ndarray],
    generator: np.random.Generator,
    eps: float,
    atol: float,
    rtol: float,
) -> str | None:
    """None, or what is wrong with the gradient of argument `index`."""
    tensor = arguments[index]
    direction = generator.standard_normal(tensor.shape)
    gradient = None if tensor.grad is None else _values(tensor.grad)
    if gradient is not None and not np.all(np.isfinite(gradient)):
        return f"gradcheck: the gradient of input {index} of shape {tensor.shape} is not finite"
    analytic = 0.0 if gradient is None else float(np.sum(gradient * direction))
    sides = []
    for sign in (1.0, -1.0):
        values = np.asarray(_values(tensor) + sign * eps * direction)
        moved = Tensor(values, CPU).to(tensor.device)
        copies = [_copy(a) for a in arguments]
        copies[index] = moved
        with no_grad():
            outputs = _floating_outputs_no_grad(function(*copies))
        if len(outputs) != len(weights):
            return "gradcheck: the function returned another number of outputs when called again"
        pairs = zip(weights, outputs, strict=True)
        sides.append(sum(float(np.sum(weight * _values(output))) for weight, output in pairs))
    numeric = (sides[0] - sides[1]) / (2 * eps)
    if not math.isfinite(numeric):
        return f"gradcheck: the function is not finite at, or next to, input {index}"
    if abs(numeric - analytic) <= atol + rtol * abs(numeric):
        return None
    return (
        f"gradcheck: wrong gradient of input {index} of shape {tensor.shape}: along a random "
        f"direction backward gives {analytic:.9g}, central differences {numeric:.9g} "
        f"(difference {abs(numeric - analytic):.3g}, allowed {atol + rtol * abs(numeric):.3g})"
    )


def _floating_outputs_no_grad(result: Any) -> list[Tensor]:
    outputs = result if isinstance(result, (tuple, list)) else [result]
    return [output for output in outputs if is_floating(output.dtype)]


def _copy(argument: Any) -> Any:
    if not isinstance(argument, Tensor):
        return argument
    return argument.detach().clone()


def _values(tensor: Tensor) -> np.ndarray:
    """On the host, whatever the device."""
    return tensor.detach().to("cpu").array
