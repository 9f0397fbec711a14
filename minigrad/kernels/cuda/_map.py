"""Elementwise kernels: out[i] = formula(operands at i).

A formula is written for scalars, and `pointwise` makes a kernel of it:

    @pointwise
    def _leaky_relu(real):
        def leaky_relu(x, slope):
            return x if x > real(0) else slope * x
        return leaky_relu

    apply(_leaky_relu, out, input, negative_slope)

An operand is a flat array, an array of stride 0, or a number of the host; the last two are one
value for all elements.

One pass over memory, which is what these kernels wait for. Parallel over elements, each with one
owner; neighbouring threads hold neighbouring elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.cuda import types
from numba.cuda.extending import overload

from ...runtime.cuda.array import DeviceArray
from ._device import cuda, device
from ._launch import Kernel, kernel, launch, over
from ._span import span


def pointwise(make: Callable[[Any], Callable[..., Any]]) -> Kernel:
    """Decorates a factory of formulas; its argument is the scalar type to compute in."""

    def factory(real: Any, arity: int) -> Callable[..., None]:
        return _LOOPS[arity](device(make(real)))

    factory.__module__, factory.__name__ = make.__module__, make.__name__
    return kernel(factory)


def apply(formula: Kernel, out: DeviceArray, *operands: Any) -> None:
    """Compute in the dtype of the last array: only a condition before it may be of another."""
    dtype = [x.dtype for x in operands if isinstance(x, DeviceArray)][-1]
    pairs: list[Any] = []
    for operand in operands:
        if isinstance(operand, DeviceArray):
            pairs += operand, step(operand)
        else:
            pairs += scalar(operand, dtype), None
    launch(formula(dtype, len(operands)), over(out.size), out, *pairs, out.size)


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
