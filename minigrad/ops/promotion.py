"""Type promotion: what may stand beside a tensor in an operation, and the common dtype.

Two tensors must have one dtype. A Python number takes the tensor's, except that a float beside an
integer tensor turns both into float32, and an int beside a bool tensor turns both into int64, as in
torch. A NumPy array counts as a tensor.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from .. import kernels
from ..device import Device
from ..dtypes import as_dtype, bool_, float32, int64, is_floating, same_dtype
from ..engine import Tensor
from ..errors import DTypeError
from ..runtime.allocation import allocate
from .cast import to
from .transfer import placed

Operand = Tensor | np.ndarray | np.generic | float
OPERAND_TYPES = (Tensor, int, float, np.ndarray, np.generic)


def operands(
    operation: str, left: Operand, right: Operand, floating: bool = False
) -> tuple[Tensor, Tensor]:
    """Both as tensors of one dtype, which is made float32 if `floating` asks for a floating one.

    Raises DTypeError for tensors of two dtypes, TypeError if none is a tensor.
    """
    device = next((t.device for t in (left, right) if isinstance(t, Tensor)), None)
    if device is None:
        raise TypeError(f"{operation}: at least one operand must be a Tensor")
    a = _tensor_or_number(operation, left, device)
    b = _tensor_or_number(operation, right, device)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        dtype = same_dtype(operation, left=a.dtype, right=b.dtype)
    elif isinstance(a, Tensor):
        dtype = common_dtype(a.dtype, b)
    else:
        dtype = common_dtype(b.dtype, a)
    if floating and not is_floating(dtype):
        dtype = float32
    return _as_tensor(operation, a, dtype, device), _as_tensor(operation, b, dtype, device)


def _tensor_or_number(operation: str, value: Operand, device: Device) -> Any:
    if isinstance(value, (Tensor, bool, int, float)):
        return value
    if isinstance(value, np.generic):
        return _tensor_or_number(operation, value.item(), device)
    if isinstance(value, np.ndarray):
        as_dtype(value.dtype)
        return Tensor(placed(np.asarray(value), device), device)
    raise TypeError(
        f"{operation}: an operand must be a Tensor, a number or a NumPy array, "
        f"got {type(value).__name__}"
    )


def _as_tensor(operation: str, value: Tensor | float, dtype: np.dtype, device: Device) -> Tensor:
    if isinstance(value, Tensor):
        return to(value, dtype)
    return scalar(operation, value, dtype, device)


def common_dtype(dtype: np.dtype, *numbers: float | None) -> np.dtype:
    """The dtype of an operation on a tensor of `dtype` and Python numbers (None is skipped)."""
    if not is_floating(dtype) and any(isinstance(number, float) for number in numbers):
        return float32
    integer = any(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
    return int64 if dtype == bool_ and integer else dtype


@cache
def _limits(dtype: np.dtype) -> tuple[int, int]:
    """The least and the greatest number of an integer dtype."""
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def check_fits(operation: str, value: float, dtype: np.dtype) -> None:
    """An integer dtype must be able to hold the number."""
    if dtype.kind in "iu":
        least, most = _limits(dtype)
        if not least <= value <= most:
            raise DTypeError(f"{operation}: {value!r} does not fit dtype {dtype.name}")


def fitting(operation: str, value: float, dtype: np.dtype) -> float:
    """A number to fill memory of `dtype` with: integers cut off its decimals, as in torch."""
    if isinstance(value, np.generic):
        value = value.item()
    if dtype.kind in "iu" and math.isfinite(value):
        value = int(value)
    check_fits(operation, value, dtype)
    return value


def scalar(operation: str, value: float, dtype: np.dtype, device: Device) -> Tensor:
    """A zero-dimensional tensor."""
    check_fits(operation, value, dtype)
    data = allocate((), dtype, device)
    kernels.get(device).elementwise.fill(data.reshape(-1), value)
    return Tensor(data, device)


def as_floating(input: Tensor) -> Tensor:
    """The tensor, an integer one converted to float32: for functions such as exp."""
    return input if is_floating(input.dtype) else to(input, float32)
