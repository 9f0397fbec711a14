"""What kernel bodies call: threads, barriers, shared memory (all of `cuda`), and mathematics.

The one module that imports numba.cuda for kernel bodies. Each function has a Python twin, which
the simulator runs: NumPy's, which takes overflow and division by zero as IEEE 754 does. On the GPU
each is the function of libdevice for the type of its argument, so float32 stays float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda

from ...runtime.cuda.driver import SIMULATED

Blocks = tuple[int, ...]


class Size(int):
    """A number of threads or the side of a tile. The simulator, where a thread is a thread of the
    host, takes a small one; `gpu` is what the GPU takes."""

    gpu: int


def size(gpu: int, simulated: int) -> int:
    if not SIMULATED:
        return gpu
    chosen = Size(simulated)
    chosen.gpu = gpu
    return chosen


def on_gpu(number: int) -> int:
    """What the GPU takes for a number of the simulator."""
    return getattr(number, "gpu", number)


THREADS = size(256, simulated=8)  # of a block that has no reason for another number


def device(function: Callable[..., Any]) -> Any:
    """A function that kernels call; it is compiled into each of them."""
    return cuda.jit(device=True)(function)


def _unary(name: str, twin: Callable[[Any], Any]) -> Any:
    """The function of libdevice called `name`, for float64, and `name`f, for float32."""

    def function(x):
        return twin(x)

    if not SIMULATED:
        from numba.cuda import libdevice, types
        from numba.cuda.extending import overload

        single, double = getattr(libdevice, f"{name}f"), getattr(libdevice, name)

        @overload(function)
        def choose(x):
            if x == types.float32:
                return lambda x: single(x)
            return lambda x: double(x)

    return function


def _scalar(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """A twin from Python's math."""
    return lambda x: type(x)(function(x))


exp, expm1 = _unary("exp", np.exp), _unary("expm1", np.expm1)
log, log1p = _unary("log", np.log), _unary("log1p", np.log1p)
sqrt, rsqrt = _unary("sqrt", np.sqrt), _unary("rsqrt", lambda x: type(x)(1) / np.sqrt(x))
sin, cos, tanh = _unary("sin", np.sin), _unary("cos", np.cos), _unary("tanh", np.tanh)
erf, erfc = _unary("erf", _scalar(math.erf)), _unary("erfc", _scalar(math.erfc))
sinpi = _unary("sinpi", _scalar(lambda x: math.sin(math.pi * float(x))))  # of π·x
cospi = _unary("cospi", _scalar(lambda x: math.cos(math.pi * float(x))))
floor, ceil = _unary("floor", np.floor), _unary("ceil", np.ceil)
trunc, rint = _unary("trunc", np.trunc), _unary("rint", np.rint)
absolute = _unary("fabs", np.abs)


def power(x, y):
    """x^y of two numbers of one floating type."""
    return np.power(x, y)


def product(x, y):
    """x·y rounded at once. The compiler fuses a plain product with an addition that follows, which
    shifts the result by half a unit: too much where it is rounded to an index."""
    return x * y


def _atomic(name: str) -> Any:
    """cuda.atomic knows arrays only; the instruction takes a pointer."""

    def function(array, index, value):
        getattr(cuda.atomic, name)(array, index, value)

    if SIMULATED:
        return device(function)
    from numba.cuda import types
    from numba.cuda.extending import intrinsic, overload

    @intrinsic
    def instruction(typing_context, array, index, value):
        def generate(context, builder, signature, arguments):
            pointer, at, number = arguments
            number = context.cast(builder, number, value, array.dtype)
            builder.atomic_rmw(name, builder.gep(pointer, [at]), number, "monotonic")
            return context.get_dummy_value()

        return types.void(array, index, value), generate

    @overload(function)
    def choose(array, index, value):
        return lambda array, index, value: instruction(array, index, value)

    return function


# array[index] = the smaller (larger) of itself and a value, in one step; of int32 or int64.
atomic_min, atomic_max = _atomic("min"), _atomic("max")


@device
def through_relu(g, y, zero):
    """The gradient before y = max(z, 0), whose slope is 1 where y is not 0, else 0. NaN passes:
    relu(NaN) is NaN."""
    return zero if y <= zero else g


def isnan(x):
    return x != x


if not SIMULATED:
    from numba.cuda import libdevice, types
    from numba.cuda.extending import overload, register_jitable

    isnan = register_jitable(isnan)

    @overload(power)
    def _power(x, y):
        if x == types.float32:
            return lambda x, y: libdevice.powf(x, y)
        return lambda x, y: libdevice.pow(x, y)

    @overload(product)
    def _product(x, y):
        if x == types.float32:
            return lambda x, y: libdevice.fmul_rn(x, y)
        return lambda x, y: libdevice.dmul_rn(x, y)
