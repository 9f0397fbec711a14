"""Pointwise operations: out[i] = formula(operands at i), one pass over memory.

A formula is written for scalars, and `pointwise` makes a launcher of it:

    @pointwise
    def leaky_relu_forward(x, negative_slope):
        return x if x > type(x)(0) else negative_slope * x

    leaky_relu_forward(out, input, negative_slope)

Constants are of the operands' type: a float64 literal would take float32 work through float64. An
operand is a flat array, an array of stride 0, or a number of the host; the last two are one value
for all elements.

Memory is what these kernels wait for. Parallel over elements, each with one owner; neighbouring
threads hold neighbouring elements.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numba.cuda import types
from numba.cuda.extending import overload

from ...runtime.cuda.array import DeviceArray
from ..compiled import compiled_for
from ._device import (
    atan,
    ceil,
    cos,
    cuda,
    device,
    erf,
    exp,
    expm1,
    floor,
    log,
    log1p,
    power,
    remainder,
    rint,
    sin,
    sqrt,
    tanh,
    trunc,
)  # fmt: skip
from ._launch import kernel, launch, over
from ._span import span


def pointwise(formula: Callable[..., Any]) -> Callable[..., None]:
    """The launcher of a formula of up to five operands. It computes in the dtype of the last array:
    only a condition before that may be of another."""
    scalar_function = device(formula)

    def factory(real: Any, arity: int) -> Callable[..., None]:
        return _LOOPS[arity](scalar_function)

    factory.__module__, factory.__name__ = formula.__module__, formula.__name__
    compiled = kernel(factory)

    def launcher(out: DeviceArray, *operands: Any) -> None:
        dtype = [x.dtype for x in operands if isinstance(x, DeviceArray)][-1]
        pairs: list[Any] = []
        for operand in operands:
            if isinstance(operand, DeviceArray):
                pairs += operand, step(operand)
            else:
                pairs += scalar(operand, dtype), None
        launch(compiled(dtype, len(operands)), over(out.size), out, *pairs, out.size)

    launcher.__module__ = formula.__module__
    launcher.formula, launcher.kernel = formula, compiled
    return launcher


@device
def _sign(x):
    real = type(x)
    return real(x > real(0)) - real(x < real(0))


# What formulas of compiled/ call.
_MATHEMATICS = {
    "atan": atan, "ceil": ceil, "cos": cos, "erf": erf, "exp": exp, "expm1": expm1, "floor": floor,
    "log": log, "log1p": log1p, "power": power, "remainder": remainder, "rint": rint,
    "sign": _sign, "sin": sin, "sqrt": sqrt, "tanh": tanh, "trunc": trunc,
}  # fmt: skip


def launchers(family: ModuleType) -> dict[str, Any]:
    """The launchers of a module of compiled/, for this backend's module of that name."""
    return compiled_for(str(__package__), _MATHEMATICS, family, pointwise, device)


def step(array: DeviceArray) -> int:
    """From one element of a flat array to the next, in elements."""
    return array.strides[0] // array.itemsize


def scalar(value: Any, dtype: np.dtype) -> Any:
    """The number as a scalar of the dtype, converted as arrays are."""
    if dtype.kind == "f" and isinstance(value, float | int) and abs(value) < 2**53:
        return float(value)  # the launch rounds it
    with np.errstate(all="ignore"):
        return np.asarray(value).astype(dtype)[()]


def at(operand, step, i):
    """Element i of an array, or the value itself, which has no step; only inside kernels."""
    return operand if step is None else operand[i * step]


@overload(at)
def _at(operand, step, i):
    if step == types.none:
        return lambda operand, step, i: operand
    return lambda operand, step, i: operand[i * step]


# The same loop for one to five operands.


def _loop1(formula):
    def loop(out, a, a_step, n):
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = formula(at(a, a_step, i))

    return loop


def _loop2(formula):
    def loop(out, a, a_step, b, b_step, n):
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = formula(at(a, a_step, i), at(b, b_step, i))

    return loop


def _loop3(formula):
    def loop(out, a, a_step, b, b_step, c, c_step, n):
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = formula(at(a, a_step, i), at(b, b_step, i), at(c, c_step, i))

    return loop


def _loop4(formula):
    def loop(out, a, a_step, b, b_step, c, c_step, d, d_step, n):
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = formula(at(a, a_step, i), at(b, b_step, i), at(c, c_step, i), at(d, d_step, i))

    return loop


def _loop5(formula):
    def loop(out, a, a_step, b, b_step, c, c_step, d, d_step, e, e_step, n):
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = formula(
                at(a, a_step, i), at(b, b_step, i), at(c, c_step, i), at(d, d_step, i),
                at(e, e_step, i),
            )  # fmt: skip

    return loop


_LOOPS = {1: _loop1, 2: _loop2, 3: _loop3, 4: _loop4, 5: _loop5}
