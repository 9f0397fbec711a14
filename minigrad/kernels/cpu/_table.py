"""Arrays by address: a kernel that works on many arrays gets one table of their addresses.

Numba unpacks every array argument on every call, which costs more than the step of a small
parameter. The caller keeps the arrays alive and their dtypes equal.
"""

from __future__ import annotations

from numba import carray, types
from numba.extending import intrinsic

from ._jit import helper


def address(array) -> int:
    return array.__array_interface__["data"][0]


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
