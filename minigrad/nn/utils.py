"""Gradient clipping, and parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..device import same_device
from ..dtypes import float32, float64, same_dtype
from ..engine import Tensor, read_grad
from ..errors import ShapeError
from ..layout import empty_array, flat, order_of
from ..ops.operands import empty, scratch

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "parameters_to_vector",
    "vector_to_parameters",
]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients together so that their norm is at most max_norm.

    The norm is that of all gradients as one vector; it is returned as it was before. norm_type: the
    exponent, inf for the largest magnitude. error_if_nonfinite: raise if the norm is NaN or
    infinite, before anything changes.
    """
    if not check_number("clip_grad_norm_", "norm_type", norm_type) > 0:
        raise ValueError(f"clip_grad_norm_: norm_type must be above 0, got {norm_type!r}")
    check_number("clip_grad_norm_", "max_norm", max_norm, low=0)
    grads = _gradients(parameters)
    if not grads:
        return Tensor(np.zeros((), float32))
    device = same_device(
        "clip_grad_norm_", **{f"gradient {i}": g.device for i, g in enumerate(grads)}
    )
    dtype = same_dtype("clip_grad_norm_", **{f"gradient {i}": g.dtype for i, g in enumerate(grads)})
    launch = kernels.get(device).update
    sums = scratch(len(grads), float64, device)
    values = []
    for k, grad in enumerate(grads):
        values.append(_values(grad))
        workspace = scratch(launch.power_sum_workspace(values[k].size), float64, device)
        launch.power_sum(sums[k : k + 1], values[k], workspace, norm_type)
    norm = Tensor(empty_array((), dtype, device), device)
    launch.total_norm(norm.array.reshape(1), sums, norm_type)
    if error_if_nonfinite and not math.isfinite(norm.item()):
        raise RuntimeError(
            f"clip_grad_norm_: the gradients' norm of order {norm_type} is {norm.item()}"
        )
    for grad, array in zip(grads, values, strict=True):
        launch.clip_to_norm(array, norm.array.reshape(1), max_norm)
        _write_back(grad, array)
    return norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of the gradients to [−clip_value, clip_value]."""
    check_number("clip_grad_value_", "clip_value", clip_value, low=0)
    for grad in _gradients(parameters):
        array = _values(grad)
        kernels.get(grad.device).update.clip_to_value(array, clip_value)
        _write_back(grad, array)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters' values in one new one-dimensional tensor, outside the graph."""
    params = list(parameters)
    names = {f"parameter {i}": p for i, p in enumerate(params)}
    dtype = same_dtype("parameters_to_vector", **{n: p.dtype for n, p in names.items()})
    device = same_device("parameters_to_vector", **{n: p.device for n, p in names.items()})
    vector = empty((sum(p.array.size for p in params),), dtype, device)
    for part, param in _parts(vector, params):
        kernels.get(device).elementwise.copy_strided(part, param.array)
    return vector


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy a vector made by `parameters_to_vector` back into the parameters."""
    params = list(parameters)
    total = sum(p.array.size for p in params)
    if vec.shape != (total,):
        raise ShapeError(f"vector_to_parameters: vec must have shape ({total},), got {vec.shape}")
    for part, param in _parts(vec, params):
        kernels.get(param.device).elementwise.copy_strided(param.array, part)
        param.mark_changed()


def _parts(vector: Tensor, params: list[Tensor]) -> Iterable[tuple[np.ndarray, Tensor]]:
    start = 0
    for param in params:
        stop = start + param.array.size
        yield vector.array[start:stop].reshape(param.shape), param
        start = stop


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    params = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [grad for param in params if (grad := read_grad(param)) is not None]


def _values(grad: Tensor) -> np.ndarray:
    """The elements as a flat array: a view unless the memory has gaps."""
    return flat(grad.array, order_of(grad.array), grad.device)


def _write_back(grad: Tensor, array: np.ndarray) -> None:
    if not np.may_share_memory(array, grad.array):
        kernels.get(grad.device).elementwise.copy_strided(grad.array, array.reshape(grad.shape))
    grad.mark_changed()
