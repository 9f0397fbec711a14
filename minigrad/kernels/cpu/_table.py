"""Pointer tables: a kernel that works on many arrays gets one table of their addresses.

Numba unpacks every array argument on every call, which costs more than the step of a small
parameter. The caller keeps the arrays alive and their dtypes equal.
"""

from __future__ import annotations

import ctypes
import weakref

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from ._jit import helper

# What a table holds step after step is asked for its address once: by the array's identity, as long
# as the array lives.
_known: dict[int, tuple[weakref.ref, int]] = {}


def address(array) -> int:
    if type(array) is not np.ndarray:  # of a step that is being recorded: it gets its place later
        raise TypeError(f"a {type(array).__name__} has no address yet")
    try:  # three times as fast as asking the array, but it must be C-ordered and not empty
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):
        return array.__array_interface__["data"][0]


def kept_address(array) -> int:
    """The address of an array that will be asked for again; 0 for None."""
    if array is None:
        return 0
    key = id(array)
    known = _known.get(key)
    if known is None or known[0]() is not array:
        known = weakref.ref(array, lambda _: _known.pop(key, None)), address(array)
        _known[key] = known
    return known[1]


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
