"""Scalar broadcasting: an operand of an elementwise kernel is an array, or one value for all
elements.

A launcher receives a scalar operand as an array of stride 0. Numba cannot vectorise a load whose
stride it does not know, so the launcher hands the kernel the value itself instead, and the kernel
reads either kind with `at`.
"""

from __future__ import annotations

from numba import types
from numba.extending import overload


def operand(array):
    """The array, or its one value if its stride is 0."""
    return array[0] if array.size and array.strides[0] == 0 else array


def at(operand, i):
    """Element i of an array, or the value itself; only inside kernels."""
    return operand[i] if hasattr(operand, "shape") else operand


@overload(at)
def _at(operand, i):
    if isinstance(operand, types.Array):
        return lambda operand, i: operand[i]
    return lambda operand, i: operand
