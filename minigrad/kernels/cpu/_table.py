"""Pointer tables: a kernel that works on many arrays gets one table of their addresses.

Numba unpacks every array argument on every call, which costs more than the step of a small
parameter. The caller keeps the arrays alive and their dtypes equal.
"""

from __future__ import annotations

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from ._jit import helper

# An array is an object of C whose first field, behind what every object begins with, is the address
# of its elements: PyArrayObject_fields, which NumPy promises to all that is compiled against it.
_ELEMENTS = object.__basicsize__


def identities(arrays) -> list[int]:
    """Where the array objects lie; 0 for None. Asking an array for the address of its elements
    takes ten times as long: see element_address."""
    return [id(array) if type(array) is np.ndarray else _zero(array) for array in arrays]


def _zero(array) -> int:
    if array is not None:  # of a step that is being recorded: it gets its place later
        raise TypeError(f"a {type(array).__name__} has no address yet")
    return 0


@intrinsic
def _load(typing_context, address):
    def codegen(context, builder, signature, arguments):
        word = context.get_value_type(types.int64)
        return builder.load(builder.inttoptr(arguments[0], word.as_pointer()))

    return types.int64(types.int64), codegen


@helper
def element_address(identity):
    """The address of the first element of the array object that lies there; 0 for 0."""
    return _load(identity + _ELEMENTS) if identity != 0 else 0


@intrinsic
def _pointer(typing_context, address, like):
    signature = types.CPointer(like.dtype)(types.int64, like)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, codegen


@helper
def array_at(address, start, stop, like):
    """Elements start to stop of the flat array at an address, of the dtype of `like`."""
    return carray(_pointer(address + start * like.itemsize, like), (stop - start,))
