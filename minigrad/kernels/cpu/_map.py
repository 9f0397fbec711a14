"""Pointwise operations: out[i] = formula(operands at i), one vectorised pass over memory.

A formula is written for scalars, and `pointwise` makes a launcher of it:

    @pointwise
    def leaky_relu_forward(x, negative_slope):
        return x if x > 0 else negative_slope * x

    leaky_relu_forward(out, input, negative_slope)

The operands are flat arrays and then numbers, which are converted to the dtype of the last array.
Constants in a formula are of its operands' type, `real = type(x)`: a float64 literal would take
float32 work through float64. Parallel over elements, each with one owner.

An operand that is one value for all elements (a number, an array of stride 0) reaches the loop as a
scalar, for which Numba compiles a variant of its own: it cannot vectorise a load whose stride it
does not know.
"""

from __future__ import annotations

import operator
from types import FunctionType

import numpy as np
from numba import types
from numba.extending import overload

from ..compiled import compiled_for
from ._erf import erf
from ._exp import exp, expm1, sigmoid, tanh
from ._jit import inlined, kernel
from ._log import log, log1p
from ._simd import whole_registers
from ._tasks import elements


def at(operand, i):
    """Element i of an array, or the value itself; only inside kernels."""
    return operand[i] if hasattr(operand, "shape") else operand


@overload(at)
def _at(operand, i):
    if isinstance(operand, types.Array):
        return lambda operand, i: operand[i]
    return lambda operand, i: operand


def number(value, dtype):
    """A number of the host as a scalar of the dtype."""
    return dtype.type(value) if dtype.kind == "f" else np.asarray(value).astype(dtype)[()]


def pointwise(formula):
    """The launcher of a formula of up to five operands."""
    loop = _LOOPS[formula.__code__.co_argcount - 1]
    # The loop, compiled as if it stood in place of the formula: Numba keeps compiled code under the
    # file, line and name of its source. A closure over the formula would miss that cache.
    code = loop.__code__.replace(
        co_filename=formula.__code__.co_filename, co_firstlineno=formula.__code__.co_firstlineno,
        co_name=formula.__name__, co_qualname=formula.__qualname__,
    )  # fmt: skip
    names = {**globals(), "__name__": formula.__module__, "formula": inlined(formula)}
    compiled = kernel(FunctionType(code, names))
    compiled.formula = formula
    if loop is _loop1:
        return compiled

    def launch(out, *operands):
        values = []
        for operand in operands:
            if isinstance(operand, np.ndarray):
                array = operand
                values.append(array if array.strides[0] or not array.size else array[0])
            else:
                values.append(number(operand, array.dtype))
        compiled(out, *values)

    launch.__module__, launch.formula, launch.kernel = formula.__module__, formula, compiled
    return launch


@inlined
def _sign(x):
    return int(x > 0) - int(x < 0)


# What formulas of compiled/ call, where NumPy's is not what Numba is to compile.
_MATHEMATICS = {
    "erf": erf, "exp": exp, "expm1": expm1, "log": log, "log1p": log1p, "power": operator.pow,
    "sigmoid": sigmoid, "sign": _sign, "tanh": tanh,
}  # fmt: skip


def launchers(family):
    """The launchers of a module of compiled/, for this backend's module of that name."""
    return compiled_for(__package__, _MATHEMATICS, family, pointwise, inlined)


# The same loop for one to five operands.


def formula(*operands):
    """What `pointwise` replaces by the formula of an operation."""
    raise TypeError("only inside kernels")


def _loop1(span, out, a):
    for i in elements(span, out.size):
        whole_registers()
        out[i] = formula(a[i])


def _loop2(span, out, a, b):
    for i in elements(span, out.size):
        whole_registers()
        out[i] = formula(at(a, i), at(b, i))


def _loop3(span, out, a, b, c):
    for i in elements(span, out.size):
        whole_registers()
        out[i] = formula(at(a, i), at(b, i), at(c, i))


def _loop4(span, out, a, b, c, d):
    for i in elements(span, out.size):
        whole_registers()
        out[i] = formula(at(a, i), at(b, i), at(c, i), at(d, i))


def _loop5(span, out, a, b, c, d, e):
    for i in elements(span, out.size):
        whole_registers()
        out[i] = formula(at(a, i), at(b, i), at(c, i), at(d, i), at(e, i))


_LOOPS = _loop1, _loop2, _loop3, _loop4, _loop5
