"""Dtypes: the element types of tensors, and which NumPy types they come from.

A dtype is NumPy's own `numpy.dtype`, so `t.dtype == minigrad.float32 == numpy.float32`.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from .errors import DTypeError

float32 = np.dtype(np.float32)
float64 = np.dtype(np.float64)
int64 = np.dtype(np.int64)
int32 = np.dtype(np.int32)
int16 = np.dtype(np.int16)
int8 = np.dtype(np.int8)
uint8 = np.dtype(np.uint8)
bool_ = np.dtype(np.bool_)

FLOATING = (float32, float64)
# What is stored, but computed with as int64: conversion back wraps around as the dtype itself does.
NARROW = frozenset((int32, int16, int8))
SUPPORTED = (*FLOATING, int64, int32, int16, int8, uint8, bool_)


class _NoNumPyType:
    """A dtype of torch that NumPy lacks: a name that is refused where it is used."""

    name = "bfloat16"

    def __repr__(self) -> str:
        return self.name


# Names for programs that ask whether a dtype is one of these; no tensor has them.
float16 = np.dtype(np.float16)
bfloat16 = _NoNumPyType()
complex64 = np.dtype(np.complex64)
complex128 = np.dtype(np.complex128)


def unsupported(owner: str, dtype: Any, way_out: str) -> DTypeError:
    """The error for a dtype that tensors cannot have. way_out: how to get one that they can."""
    names = ", ".join(d.name for d in SUPPORTED)
    said = getattr(dtype, "name", None) or repr(dtype)
    if said in ("float16", "bfloat16"):
        return DTypeError(
            f"{owner} {said} is not one of {names}: minigrad computes in float32 and float64; "
            f"convert with {way_out}"
        )
    return DTypeError(f"{owner} {said} is not one of {names}; convert with {way_out}")


def as_dtype(value: Any) -> np.dtype:
    """The supported dtype that `value` names; DTypeError for any other."""
    try:
        dtype = np.dtype(value)
    except TypeError:
        dtype = None
    # `None in SUPPORTED` holds: NumPy takes None for float64.
    if value is None or dtype is None or dtype not in SUPPORTED:
        if dtype == float16 or getattr(value, "name", value) == bfloat16.name:
            name = float16 if dtype == float16 else bfloat16
            raise unsupported("dtype", name, ".to(minigrad.float32) or array.astype(np.float32)")
        names = ", ".join(d.name for d in SUPPORTED)
        raise DTypeError(f"dtype must be one of {names}, got {value!r}")
    return dtype


def is_floating(dtype: np.dtype) -> bool:
    return dtype in FLOATING


# The default dtype ---------------------------------------------------------------------------

_default = float32


def get_default_dtype() -> np.dtype:
    """What Python floats become, and parameters and tensors that are made without a dtype."""
    return _default


def set_default_dtype(d: Any) -> None:
    """Make float32 or float64 the default dtype; DTypeError for any other."""
    global _default
    dtype = as_dtype(d)
    if not is_floating(dtype):
        raise DTypeError(
            f"set_default_dtype: the default must be float32 or float64, got {dtype.name}"
        )
    _default = dtype


# Promotion -----------------------------------------------------------------------------------


@cache
def promoted(left: np.dtype, right: np.dtype) -> np.dtype:
    """`promote_types` of dtypes that are supported."""
    if is_floating(left) != is_floating(right):
        return left if is_floating(left) else right
    # Among floats, and among integers and bool, NumPy's rule is torch's.
    return np.promote_types(left, right)


def promote_types(type1: Any, type2: Any) -> np.dtype:
    """The least dtype that holds both: int16 for int8 and uint8; a float for it and any integer."""
    return promoted(as_dtype(type1), as_dtype(type2))


def can_cast(from_: Any, to: Any) -> bool:
    """Whether a result of one dtype may be stored in the other: not floats in integers, nor numbers
    in bool."""
    source, target = as_dtype(from_), as_dtype(to)
    if is_floating(source) and not is_floating(target):
        return False
    return source == bool_ or target != bool_


def finfo(type: Any = None) -> Any:
    """Limits of a floating dtype, by default the default dtype, as Python numbers: eps, max, min,
    tiny, smallest_normal, resolution, bits."""
    dtype = _default if type is None else as_dtype(type)
    if not is_floating(dtype):
        raise DTypeError(f"finfo: expects float32 or float64, got {dtype.name}; see iinfo")
    limits = np.finfo(dtype)
    names = "eps", "max", "min", "tiny", "smallest_normal", "resolution"
    numbers = {name: float(getattr(limits, name)) for name in names}
    return SimpleNamespace(bits=limits.bits, dtype=dtype.name, **numbers)


def iinfo(type: Any) -> np.iinfo:
    """Limits of an integer dtype: max, min, bits."""
    dtype = as_dtype(type)
    if dtype.kind not in "iu":
        raise DTypeError(f"iinfo: expects an integer dtype, got {dtype.name}; see finfo")
    return np.iinfo(dtype)


# Checks --------------------------------------------------------------------------------------


def same_dtype(operation: str, **dtypes: np.dtype | None) -> np.dtype:
    """The one dtype of all named operands (None is skipped), or a DTypeError that says the fix."""
    named = {name: dtype for name, dtype in dtypes.items() if dtype is not None}
    distinct = set(named.values())
    if len(distinct) > 1:
        listed = ", ".join(f"{name} {dtype.name}" for name, dtype in named.items())
        raise DTypeError(f"{operation}: operands must have one dtype, got {listed}; {_fix(named)}")
    return distinct.pop()


def _fix(named: dict[str, np.dtype]) -> str:
    """Which operands to convert: an image of integers to the weights' dtype, never weights to that
    of an image; among floats, the others to the dtype of the first weight."""
    floats = {name: dtype for name, dtype in named.items() if is_floating(dtype)}
    candidates = {n: d for n, d in floats.items() if n == "weight"} or floats or named
    wanted = next(iter(candidates.values()))
    others = " and ".join(name for name, dtype in named.items() if dtype != wanted)
    return f"convert {others} with .to(minigrad.{wanted.name})"


def floating_dtype(operation: str, **dtypes: np.dtype | None) -> np.dtype:
    """As `same_dtype`, and the dtype must be floating."""
    dtype = same_dtype(operation, **dtypes)
    if not is_floating(dtype):
        name = next(name for name, d in dtypes.items() if d is not None)
        raise DTypeError(
            f"{operation}: {name} must be float32 or float64, got {dtype.name}; "
            f"convert with .to(minigrad.float32)"
        )
    return dtype
