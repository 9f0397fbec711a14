"""Type promotion: what may stand beside a tensor in an operation, and the common dtype.

Operands come in three categories: tensors that have axes, tensors of none, and Python numbers. The
highest category decides, and a lower one counts only where it is of a higher kind: a float beside
integers, an integer beside bools. A Python float then counts as the default dtype, an int as int64.
A NumPy array counts as a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from .. import kernels
from ..device import CPU, Device
from ..dtypes import as_dtype, bool_, get_default_dtype, int64, is_floating, promoted
from ..engine import Tensor
from ..errors import DTypeError
from ..runtime.allocation import allocate
from .cast import to
from .transfer import is_cuda, placed

__all__ = ["result_type"]

Operand = Tensor | np.ndarray | np.generic | float
OPERAND_TYPES = (Tensor, int, float, np.ndarray, np.generic)


def operands(
    operation: str, left: Operand, right: Operand, floating: bool = False
) -> tuple[Tensor, Tensor]:
    """Both as tensors of the common dtype, of the default dtype if `floating` asks for a floating
    one and it is not.

    What is converted gets its gradient in its own dtype. Raises TypeError if none is a tensor.
    """
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        dtype = left.array.dtype
        same = dtype is right.array.dtype and left.device is right.device
        if same and (not floating or is_floating(dtype)):
            return left, right
        left, right = _beside(left, right), _beside(right, left)
    device = next((t.device for t in (left, right) if isinstance(t, Tensor)), None)
    if device is None:
        raise TypeError(f"{operation}: at least one operand must be a Tensor")
    a = _tensor_or_number(operation, left, device)
    b = _tensor_or_number(operation, right, device)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        dtype = _promoted_dtype((a, b))
    elif isinstance(a, Tensor):
        dtype = common_dtype(a.dtype, b)
    else:
        dtype = common_dtype(b.dtype, a)
    if floating and not is_floating(dtype):
        dtype = get_default_dtype()
    return _as_tensor(operation, a, dtype, device), _as_tensor(operation, b, dtype, device)


def _beside(tensor: Tensor, other: Tensor) -> Tensor:
    """The tensor; of the host's memory, if it has no axes, on the GPU where the other one is."""
    if tensor.array.ndim or tensor.device is not CPU or not is_cuda(other.device):
        return tensor
    return to(tensor, device=other.device)


def as_common_dtype(tensors: list[Tensor]) -> list[Tensor]:
    """Tensors converted to their common dtype."""
    first = tensors[0].array.dtype
    if all(tensor.array.dtype is first for tensor in tensors):
        return tensors
    dtype = _promoted_dtype(tensors)
    return [to(tensor, dtype) for tensor in tensors]


def as_common_floating(*values: Any) -> tuple[Any, ...]:
    """Tensors (None may be among them) converted to their common dtype if that is floating; all as
    they are otherwise, for the check that follows to say what is wrong."""
    given = [value for value in values if value is not None]
    if not all(isinstance(value, Tensor) for value in given):
        return values
    if not is_floating(dtype := _promoted_dtype(given)):
        return values
    return tuple(None if value is None else to(value, dtype) for value in values)


def result_type(tensor1: Operand, tensor2: Operand) -> np.dtype:
    """The dtype of an arithmetic operation on two tensors or numbers."""
    for value in (tensor1, tensor2):
        if not isinstance(value, OPERAND_TYPES):
            raise TypeError(f"result_type: expects tensors or numbers, got {type(value).__name__}")
    return _promoted_dtype((tensor1, tensor2))


def _promoted_dtype(operands: Iterable[Any]) -> np.dtype:
    # Of each category the promoted dtype of its members: 0 tensors with axes, 1 without, 2 numbers.
    found: list[np.dtype | None] = [None, None, None]
    for value in operands:
        category, dtype = 2, None
        if isinstance(value, (Tensor, np.ndarray)):
            category, dtype = (0 if value.ndim else 1), value.dtype
        elif isinstance(value, (float, np.floating)):
            dtype = get_default_dtype()
        else:
            dtype = bool_ if isinstance(value, (bool, np.bool_)) else int64
        before = found[category]
        found[category] = dtype if before is None else promoted(before, dtype)
    common = None
    for dtype in reversed(found):
        if dtype is None:
            continue
        if (
            common is not None
            and (dtype == bool_ or is_floating(common))
            and not is_floating(dtype)
        ):
            common = promoted(dtype, common)
        else:
            common = dtype
    assert common is not None
    return common


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
        return value if value.array.dtype is dtype else to(value, dtype)
    return scalar(operation, value, dtype, device)


def common_dtype(dtype: np.dtype, *numbers: float | None) -> np.dtype:
    """The dtype of an operation on a tensor of `dtype` and Python numbers (None is skipped)."""
    if not is_floating(dtype) and any(isinstance(number, float) for number in numbers):
        return get_default_dtype()
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
    """The tensor, an integer one converted to the default dtype: for functions such as exp."""
    return input if is_floating(input.dtype) else to(input, get_default_dtype())
