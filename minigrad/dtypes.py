"""Dtypes: the element types of tensors, and which NumPy types they come from.

A dtype is NumPy's own `numpy.dtype`, so `t.dtype == minigrad.float32 == numpy.float32`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DTypeError

float32 = np.dtype(np.float32)
float64 = np.dtype(np.float64)
int64 = np.dtype(np.int64)
uint8 = np.dtype(np.uint8)
bool_ = np.dtype(np.bool_)

FLOATING = (float32, float64)
SUPPORTED = (*FLOATING, int64, uint8, bool_)


def as_dtype(value: Any) -> np.dtype:
    """The supported dtype that `value` names; DTypeError for any other."""
    try:
        dtype = np.dtype(value)
    except TypeError:
        dtype = None
    # `None in SUPPORTED` holds: NumPy takes None for float64.
    if value is None or dtype is None or dtype not in SUPPORTED:
        names = ", ".join(d.name for d in SUPPORTED)
        raise DTypeError(f"dtype must be one of {names}, got {value!r}")
    return dtype


def is_floating(dtype: np.dtype) -> bool:
    return dtype in FLOATING


def same_dtype(operation: str, **dtypes: np.dtype | None) -> np.dtype:
    """The one dtype of all named operands (None is skipped), or a DTypeError that says the fix."""
    named = {name: dtype for name, dtype in dtypes.items() if dtype is not None}
    distinct = set(named.values())
    if len(distinct) > 1:
        listed = ", ".join(f"{name} {dtype.name}" for name, dtype in named.items())
        first = next(iter(named.values()))
        raise DTypeError(
            f"{operation}: operands must have one dtype, got {listed}; "
            f"convert with .to(minigrad.{first.name})"
        )
    return distinct.pop()


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
