"""Polynomials in kernels, written out by Horner's rule: no loop is left in the machine code."""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def polynomial(typing_context, coefficients, x):
    """coefficients[0] + x·(coefficients[1] + x·(…)); a global tuple of numbers of x's type."""
    if not isinstance(coefficients, types.UniTuple) or coefficients.dtype != x:
        return None

    def codegen(context, builder, signature, arguments):
        *rest, result = cgutils.unpack_tuple(builder, arguments[0])
        for coefficient in reversed(rest):
            result = builder.fadd(builder.fmul(result, arguments[1]), coefficient)
        return result

    return x(coefficients, x), codegen


def constants(dtype, *values):
    """The values in this type: a float64 among float32 would take the work through float64."""
    return tuple(dtype(value) for value in values)
