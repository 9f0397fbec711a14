"""Where an element lies, in 32 bits if they suffice: division takes many instructions and registers
in 64, of which a GPU emulates every one.

A kernel that computes places takes as a constant how many bits they need, `index_bits` of all that
it counts, and gets its arithmetic from `arithmetic(bits)` or, if it never divides, `index_type`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ._device import device
from ._span import quotient

WIDE_FROM = 2**31  # the first size that 32 bits do not hold


def index_bits(*sizes: int) -> int:
    return 32 if max(sizes) < WIDE_FROM else 64


def index_type(bits: int) -> type:
    """For places that are only added up and multiplied: unsigned, so that a pointer takes them
    without extending a sign."""
    return np.uint32 if bits == 32 else np.int64


@cache
def arithmetic(bits: int) -> tuple[type, Callable[..., Any], Callable[..., Any]]:
    """(index, divide, unravel): the integer type, and device functions. Numba computes with at
    least 64 bits; where only `index` of a result counts, the compiler does it in 32."""
    index = np.int32 if bits == 32 else np.int64

    @device
    def divide(a, b):
        """a // b of numbers that are not negative; b is not 0."""
        return quotient(index(a), index(b))

    @device
    def unravel(i, H, W, C):
        """(n, h, w, c) of element i of a C-ordered (N, H, W, C)."""
        pixel = divide(i, C)
        row = divide(pixel, W)
        n = divide(row, H)
        return n, index(row - n * H), index(pixel - row * W), index(i - pixel * C)

    return index, divide, unravel
