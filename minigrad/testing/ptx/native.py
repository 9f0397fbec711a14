"""Loads and stores at addresses, and arithmetic that Numba's operators do not have.

The interpreter's registers and memories hold values of every type side by side, so it reads and
writes them by address. Division is C's and never traps; a fused multiply-add rounds once.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from ...runtime.cache import cache_folder


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """A part of the interpreter."""
    return njit(nogil=True, error_model="numpy", **options)(function)


def compiled_once(function: Callable[..., Any]) -> Any:
    """What the host calls, kept on disk under a digest of all that it is made of."""
    digest = hashlib.sha256(f"{numba.__version__} {sys.version_info[:2]}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    outer = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_folder(f"ptx-{digest.hexdigest()[:16]}"))
    try:
        return compiled(function, cache=True)
    finally:
        numba.config.CACHE_DIR = outer


def _load(kind: Any) -> Any:
    @intrinsic
    def load(typing_context, address):
        def generate(context, builder, signature, args):
            pointer = builder.inttoptr(args[0], context.get_data_type(kind).as_pointer())
            return builder.load(pointer)

        return kind(types.int64), generate

    return load


def _store(kind: Any) -> Any:
    @intrinsic
    def store(typing_context, address, value):
        def generate(context, builder, signature, args):
            number = context.cast(builder, args[1], value, kind)
            pointer = builder.inttoptr(args[0], context.get_data_type(kind).as_pointer())
            builder.store(number, pointer)
            return context.get_dummy_value()

        return types.void(types.int64, value), generate

    return store


load_u8, store_u8 = _load(types.uint8), _store(types.uint8)
load_u16, store_u16 = _load(types.uint16), _store(types.uint16)
load_u32, store_u32 = _load(types.uint32), _store(types.uint32)
load_u64, store_u64 = _load(types.uint64), _store(types.uint64)
load_s8, load_s16 = _load(types.int8), _load(types.int16)
load_s32, load_s64 = _load(types.int32), _load(types.int64)
load_f32, load_f64 = _load(types.float32), _load(types.float64)
store_s64, store_f64 = _store(types.int64), _store(types.float64)


@intrinsic
def fma(typing_context, a, b, c):
    """a·b + c of one floating type, rounded once."""

    def generate(context, builder, signature, args):
        return builder.fma(*args)

    return a(a, a, a), generate


def _reinterpret(source, target):
    """Of a number of type source, the number of type target with the same bits."""

    @intrinsic
    def reinterpret(typing_context, number):
        def generate(context, builder, signature, args):
            given = context.cast(builder, args[0], number, source)
            return builder.bitcast(given, context.get_value_type(target))

        return target(number), generate

    return reinterpret


bits_of_f32 = _reinterpret(types.float32, types.uint32)
f32_of_bits = _reinterpret(types.uint32, types.float32)
bits_of_f64 = _reinterpret(types.float64, types.uint64)
f64_of_bits = _reinterpret(types.uint64, types.float64)


@compiled
def divide_signed(a, b):
    """a / b truncated; all ones for b = 0, which PTX leaves open. The most negative number by −1
    wraps."""
    if b == 0:
        return np.int64(-1)
    if b == -1:
        return np.int64(0) - a
    quotient = a // b
    return quotient + 1 if quotient < 0 and quotient * b != a else quotient


@compiled
def divide_unsigned(a, b):
    return a // b if b != np.uint64(0) else ~np.uint64(0)


@compiled
def high_unsigned(a, b):
    """The upper 64 bits of a·b."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a0, a1, b0, b1 = a & mask, a >> half, b & mask, b >> half
    middle = a1 * b0 + (a0 * b0 >> half)
    other = a0 * b1 + (middle & mask)
    return a1 * b1 + (middle >> half) + (other >> half)
