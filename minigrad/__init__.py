"""minigrad: tape-based autograd with hand-written Numba kernels."""

from .device import Device, manual_seed
from .dtypes import bool_, float32, float64, int64, uint8
from .engine import Function, Tensor, enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from .ops import methods as _methods  # noqa: F401  attaches the methods of Tensor

__all__ = [
    "Device",
    "Function",
    "Tensor",
    "bool_",
    "enable_grad",
    "float32",
    "float64",
    "int64",
    "is_grad_enabled",
    "manual_seed",
    "no_grad",
    "set_grad_enabled",
    "uint8",
]
