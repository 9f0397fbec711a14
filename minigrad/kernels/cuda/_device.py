"""What kernel bodies call: threads, barriers, shared memory (all of `cuda`), and mathematics.

The one module that imports numba.cuda for kernel bodies. Each function is libdevice's for the type
of its argument, so float32 stays float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cuda
from numba.cuda import libdevice, types
from numba.cuda.extending import intrinsic, overload, register_jitable

from ..formulas import (
    box_overlap,
    grid_position,
    grid_tap,
    product,
    roi_axis,
    roi_cells,
    roi_corners,
    round_half_away,
)

Blocks = tuple[int, ...]


THREADS = 256  # of a block that has no reason for another number


def device(function: Callable[..., Any]) -> Any:
    """A function that kernels call; it is compiled into each of them."""
    return cuda.jit(device=True)(function)


def _unary(name: str) -> Any:
    """The function of libdevice called `name`, for float64, and `name`f, for float32."""
    single, double = getattr(libdevice, f"{name}f"), getattr(libdevice, name)

    def function(x):
        raise TypeError(f"{name} is for kernels")

    @overload(function)
    def choose(x):
        if x == types.float32:
            return lambda x: single(x)
        return lambda x: double(x)

    return function


exp, expm1, log, log1p = map(_unary, ("exp", "expm1", "log", "log1p"))
sqrt, rsqrt = map(_unary, ("sqrt", "rsqrt"))
sin, cos, atan, tanh = map(_unary, ("sin", "cos", "atan", "tanh"))
erf, erfc = map(_unary, ("erf", "erfc"))
sinpi, cospi = map(_unary, ("sinpi", "cospi"))  # of π·x
floor, ceil, trunc, rint = map(_unary, ("floor", "ceil", "trunc", "rint"))
absolute = _unary("fabs")


@register_jitable
def power(x, y):
    """x^y of two numbers of one floating type."""
    return _power(x, y)


def _binary(single: Any, double: Any, function: Any = None) -> Any:
    """The function for two numbers of the first one's type."""

    def for_kernels(x, y):
        raise TypeError(f"{double.__name__} is for kernels")

    function = function or for_kernels

    @overload(function)
    def choose(x, y):
        if x == types.float32:
            return lambda x, y: single(x, y)
        if isinstance(x, types.Integer):
            return lambda x, y: x * y
        return lambda x, y: double(x, y)

    return function


_power = _binary(libdevice.powf, libdevice.pow)
remainder = _binary(libdevice.fmodf, libdevice.fmod)
# The compiler fuses a plain product with an addition that follows, which shifts the result by half
# a unit: too much where it is rounded to an index, or where the bits must be the CPU's.
_binary(libdevice.fmul_rn, libdevice.dmul_rn, product)
for _formula in (
    round_half_away, roi_cells, roi_axis, roi_corners, grid_position, grid_tap,
    box_overlap,
):  # fmt: skip
    register_jitable(_formula)


def _atomic(name: str) -> Any:
    """cuda.atomic knows arrays only; the instruction takes a pointer."""

    @intrinsic
    def instruction(typing_context, array, index, value):
        def generate(context, builder, signature, arguments):
            pointer, at, number = arguments
            number = context.cast(builder, number, value, array.dtype)
            builder.atomic_rmw(name, builder.gep(pointer, [at]), number, "monotonic")
            return context.get_dummy_value()

        return types.void(array, index, value), generate

    return instruction


# array[index] = the smaller (larger) of itself and a value, in one step; of int32 or int64.
atomic_min, atomic_max = _atomic("min"), _atomic("max")


@device
def limited(z, low, high):
    """z in [low, high], where NaN sets no limit and stays."""
    raised = low if z < low else z
    return high if raised > high else raised


@device
def through_relu(g, y, zero):
    """The gradient before y = max(z, 0), whose slope is 1 where y is not 0, else 0. NaN passes:
    relu(NaN) is NaN."""
    return zero if y <= zero else g


@register_jitable
def isnan(x):
    return x != x
