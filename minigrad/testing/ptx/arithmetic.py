"""Arithmetic of single PTX instructions that takes more than one of Numba's operators.

Source: PTX ISA, https://docs.nvidia.com/cuda/parallel-thread-execution/
"""

from __future__ import annotations

import numpy as np

from . import operations as op
from . import state as st
from .access import bytes_of
from .native import (
    bits_of_f32,
    bits_of_f64,
    compiled,
    f64_of_bits,
    fma,
    high_unsigned,
    load_s64,
    store_s64,
    store_u64,
)

NAN32 = 0x7FFFFFFF  # what float32 results that are NaN are


@compiled
def put_f32(d, value):
    store_u64(d, np.uint64(NAN32) if value != value else np.uint64(bits_of_f32(value)))


@compiled
def compare(d, x, y, relations):
    """Whether how x lies to y is one of the relations, of which each is a bit."""
    found = op.UNORDERED
    if x < y:
        found = op.LESS
    elif x == y:
        found = op.EQUAL
    elif x > y:
        found = op.GREATER
    store_u64(d, np.uint64(found & relations != 0))


@compiled
def round_whole(x, rounding):
    """x rounded to a whole number."""
    if rounding == op.ZERO:
        return np.trunc(x)
    if rounding == op.DOWN:
        return np.floor(x)
    if rounding == op.UP:
        return np.ceil(x)
    return np.rint(x)


@compiled
def to_int(x, from_double, rounding, kind):
    """x rounded to `kind`, clamped to its range. NaN: 0 if neither type has 64 bits, else the
    number with the sign bit alone."""
    bits = 8 * bytes_of(kind)
    signed = kind == op.S8 or kind == op.S16 or kind == op.S32 or kind == op.S64
    if x != x:
        if not from_double and bits < 64:
            return np.int64(0)
        lowest = np.int64(-1) << (bits - 1)
        return lowest if signed or bits == 64 else -lowest
    x = round_whole(x, rounding)
    if signed:
        high = 2.0 ** (bits - 1)
        if x >= high:
            return ~(np.int64(-1) << (bits - 1))
        if x < -high:
            return np.int64(-1) << (bits - 1)
        return np.int64(x)
    if x <= 0.0:
        return np.int64(0)
    if x >= 2.0**bits:
        return np.int64(-1) if bits == 64 else (np.int64(1) << bits) - 1
    return np.int64(np.uint64(x))


@compiled
def _two_sum_error(a, b, total):
    """What rounding took from a + b = total, exactly."""
    share = total - a
    return (a - (total - share)) + (b - share)


@compiled
def directed_fma_f64(a, b, c, rounding):
    """a·b + c rounded to zero, down or up: the nearest result, and its neighbour where the exact
    one lies on the other side. The sign of the rest decides: a·b is split into two exact parts."""
    nearest = fma(a, b, c)
    if not np.isfinite(nearest):
        return nearest
    product = a * b
    low = fma(a, b, -product)
    total = product + c
    error = _two_sum_error(product, c, total)
    rest = ((total - nearest) + error) + low
    if rounding == op.ZERO:
        rounding = op.DOWN if nearest > 0 else op.UP
    if rounding == op.DOWN and rest < 0:
        return np.nextafter(nearest, -np.inf)
    if rounding == op.UP and rest > 0:
        return np.nextafter(nearest, np.inf)
    return nearest


@compiled
def round_to_f32(x, rounding):
    """A float64 as float32, rounded as asked."""
    near = np.float32(x)
    if rounding == op.NEAREST or not np.isfinite(x) or np.float64(near) == x:
        return near
    if rounding == op.ZERO:
        rounding = op.DOWN if x > 0 else op.UP
    if rounding == op.DOWN and np.float64(near) > x:
        return np.nextafter(near, np.float32(-np.inf))
    if rounding == op.UP and np.float64(near) < x:
        return np.nextafter(near, np.float32(np.inf))
    return near


@compiled
def directed_fma_f32(a, b, c, rounding):
    """As above. In float64 the product is exact; if the sum is not, its last bit is made odd, which
    keeps it on the exact result's side of every float32."""
    product, addend = np.float64(a) * np.float64(b), np.float64(c)
    total = product + addend
    error = _two_sum_error(product, addend, total)
    if np.isfinite(total) and error != 0.0:
        bits = np.int64(bits_of_f64(total))
        if bits & 1 == 0:
            away = (error > 0) == (total > 0)
            total = f64_of_bits(bits + 1 if away else bits - 1)
    return round_to_f32(total, rounding)


@compiled
def least(x, y):
    """The smaller number; the other one if one is NaN. −0 is smaller than 0."""
    if x != x:
        return y
    if y != y:
        return x
    if x == y:
        return x if np.signbit(x) else y
    return min(x, y)


@compiled
def most(x, y):
    if x != x:
        return y
    if y != y:
        return x
    if x == y:
        return y if np.signbit(x) else x
    return max(x, y)


@compiled
def permute_bytes(a, b, selector):
    """prmt: four bytes chosen among the eight of b:a, or copies of their sign."""
    pool = np.int64(b) << 32 | np.int64(a)
    result = np.int64(0)
    for i in range(4):
        choice = (np.int64(selector) >> (4 * i)) & 15
        byte = pool >> (8 * (choice & 7)) & 255
        if choice & 8:
            byte = np.int64(255) if byte & 128 else np.int64(0)
        result |= byte << (8 * i)
    return result


@compiled
def ones_mask(bits):
    """As many ones."""
    return ~np.uint64(0) if bits >= 64 else (np.uint64(1) << np.uint64(bits)) - np.uint64(1)


@compiled
def extract_field(a, position, length, width, signed):
    """bfe: `length` bits of a from `position` on, extended by their highest bit if signed."""
    position, length = position & 255, length & 255
    if length == 0:
        return np.uint64(0)
    highest = min(position + length - 1, width - 1)
    shifted = a >> np.uint64(position) if position < 64 else np.uint64(0)
    field = shifted & ones_mask(min(length, max(width - position, 0)))
    if signed and (a >> np.uint64(highest)) & np.uint64(1):
        field |= ~ones_mask(min(length, max(width - position, 0)))
    return field & ones_mask(width)


@compiled
def insert_field(a, b, position, length, width):
    """bfi: b with `length` bits from `position` on replaced by a's lowest."""
    position, length = position & 255, length & 255
    if position >= width:
        return b
    mask = (ones_mask(min(length, width - position)) << np.uint64(position)) & ones_mask(width)
    return (b & ~mask) | ((a << np.uint64(position)) & mask)


@compiled
def count_ones(x):
    count = 0
    while x:
        x &= x - np.uint64(1)
        count += 1
    return count


@compiled
def count_leading_zeros(x, width):
    count = 0
    while count < width and not (x >> np.uint64(width - 1 - count)) & np.uint64(1):
        count += 1
    return count


@compiled
def reverse_bits(x, width):
    result = np.uint64(0)
    for i in range(width):
        if (x >> np.uint64(i)) & np.uint64(1):
            result |= np.uint64(1) << np.uint64(width - 1 - i)
    return result


@compiled
def compute_with_carry(state, code, flags, a, b, c):
    """The result of an addition, subtraction or multiplication with carries of `width` bits."""
    wide = (code - op.ADD_CARRY32) & 1 == 1
    mask = ~np.uint64(0) if wide else np.uint64(0xFFFFFFFF)
    entry = np.uint64(load_s64(state + st.CARRY)) if flags & op.CARRY_IN else np.uint64(0)
    if code == op.SUB_CARRY32 or code == op.SUB_CARRY64:
        result = (a - b - entry) & mask
        out = a < b or (a == b and entry != np.uint64(0))
    else:
        if code == op.MAD_LOW_CARRY32 or code == op.MAD_LOW_CARRY64:
            a, b = (a * b) & mask, c
        elif code == op.MAD_HIGH_CARRY64:
            a, b = high_unsigned(a, b), c
        elif code == op.MAD_HIGH_CARRY32:
            a, b = (a * b) >> np.uint64(32), c
        total = (a + b) & mask
        result = (total + entry) & mask
        out = total < a or result < total
    if flags & op.CARRY_OUT:
        store_s64(state + st.CARRY, 1 if out else 0)
    return result
