"""Gradient clipping, parameters as one vector, batch norm folded into the layer before it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from copy import deepcopy
from typing import Any, TypeVar

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..device import CPU, same_device
from ..dtypes import float32, float64, same_dtype
from ..engine import Tensor, no_grad, read_grad
from ..errors import ShapeError
from ..layout import empty_array, flat, order_of
from ..ops.cast import to
from ..ops.operands import empty, scratch
from . import packed as rnn  # noqa: F401  torch.nn.utils.rnn
from .module import Module, Parameter
from .reparametrize import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm

__all__ = [
    "clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_",
    "fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights",
    "get_total_norm", "parameters_to_vector", "remove_spectral_norm", "remove_weight_norm",
    "skip_init", "spectral_norm", "vector_to_parameters", "weight_norm",
]  # fmt: skip

M = TypeVar("M", bound=Module)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients together so that their norm is at most max_norm.

    The norm is that of all gradients as one vector; it is returned as it was before. norm_type: the
    exponent, inf for the largest magnitude. error_if_nonfinite: raise if the norm is NaN or
    infinite, before anything changes. foreach changes nothing, here and below.
    """
    check_number("clip_grad_norm_", "max_norm", max_norm, low=0)
    grads = _gradients(parameters)
    norm = _total_norm("clip_grad_norm_", grads, norm_type, error_if_nonfinite)
    _clip(grads, max_norm, norm)
    return norm


def clip_grad_norm(*args: Any, **kwargs: Any) -> Tensor:
    """`clip_grad_norm_`, under its old name; deprecated."""
    warnings.warn(
        "nn.utils.clip_grad_norm is deprecated, use nn.utils.clip_grad_norm_",
        FutureWarning,
        stacklevel=2,
    )
    return clip_grad_norm_(*args, **kwargs)


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all tensors as one vector."""
    listed = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    return _total_norm("get_total_norm", listed, norm_type, error_if_nonfinite)


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    total_norm: Tensor,
    foreach: bool | None = None,
) -> None:
    """Scale all gradients by max_norm / total_norm, if that is below 1."""
    check_number("clip_grads_with_norm_", "max_norm", max_norm, low=0)
    _clip(_gradients(parameters), max_norm, total_norm)


def _total_norm(
    operation: str, grads: list[Tensor], norm_type: float, error_if_nonfinite: bool
) -> Tensor:
    if not check_number(operation, "norm_type", norm_type) > 0:
        raise ValueError(f"{operation}: norm_type must be above 0, got {norm_type!r}")
    if not grads:
        return Tensor(np.zeros((), float32), CPU)
    device = same_device(operation, **{f"gradient {i}": g.device for i, g in enumerate(grads)})
    dtype = same_dtype(operation, **{f"gradient {i}": g.dtype for i, g in enumerate(grads)})
    launch = kernels.get(device).update
    sums = scratch(len(grads), float64, device)
    for k, grad in enumerate(grads):
        values = _values(grad)
        workspace = scratch(launch.power_sum_workspace(values.size), float64, device)
        launch.power_sum(sums[k : k + 1], values, workspace, norm_type)
    norm = Tensor(empty_array((), dtype, device), device)
    launch.total_norm(norm.array.reshape(1), sums, norm_type)
    if error_if_nonfinite and not math.isfinite(norm.item()):
        raise RuntimeError(
            f"{operation}: the gradients' norm of order {norm_type} is {norm.item()}"
        )
    return norm


def _clip(grads: list[Tensor], max_norm: float, norm: Tensor) -> None:
    for grad in grads:
        array = _values(grad)
        total = to(norm, grad.device, grad.dtype).array.reshape(1)
        kernels.get(grad.device).update.clip_to_norm(array, total, max_norm)
        _write_back(grad, array)


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
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


# Folding ------------------------------------------------------------------------------------


def fuse_conv_bn_eval(conv: M, bn: Module, transpose: bool = False) -> M:
    """A copy of the convolution that does what both layers do in evaluation, one after the other.

    transpose: for a transposed convolution. Raises ValueError while either is in training.
    """
    return _fused("fuse_conv_bn_eval", conv, bn, transpose)


def fuse_linear_bn_eval(linear: M, bn: Module) -> M:
    """As `fuse_conv_bn_eval`, of a linear layer; ShapeError unless their features agree."""
    features = len(linear.weight), len(bn.running_mean)
    if features[0] != features[1]:
        raise ShapeError(
            f"fuse_linear_bn_eval: linear has {features[0]} features, bn has {features[1]}"
        )
    return _fused("fuse_linear_bn_eval", linear, bn, transpose=False)


def _fused(operation: str, layer: M, bn: Module, transpose: bool) -> M:
    if layer.training or bn.training:
        raise ValueError(f"{operation}: both layers must be in evaluation: call eval() first")
    fused = deepcopy(layer)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias,
        transpose,
    )  # fmt: skip
    return fused


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """Weight and bias of `fuse_conv_bn_eval`: with s = bn_w/√(bn_rv + eps), weight·s and
    (conv_b − bn_rm)·s + bn_b."""
    with no_grad():
        scale = (bn_rv + bn_eps).rsqrt()
        if bn_w is not None:
            scale = scale * bn_w
        shape = [1] * conv_w.ndim
        shape[1 if transpose else 0] = -1
        weight = conv_w * scale.reshape(shape)
        bias = (-bn_rm if conv_b is None else conv_b - bn_rm) * scale
        if bn_b is not None:
            bias = bias + bn_b
    trained = conv_w.requires_grad, conv_w.requires_grad if conv_b is None else conv_b.requires_grad
    return Parameter(weight, trained[0]), Parameter(bias, trained[1])


def fuse_linear_bn_weights(
    linear_w: Tensor,
    linear_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor,
    bn_b: Tensor,
) -> tuple[Parameter, Parameter]:
    """As `fuse_conv_bn_weights`, of a linear layer."""
    return fuse_conv_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)


def skip_init(module_cls: type[M], *args: Any, **kwargs: Any) -> M:
    """module_cls(*args, **kwargs). torch leaves its parameters uninitialised; here they are drawn
    as always."""
    if not (isinstance(module_cls, type) and issubclass(module_cls, Module)):
        raise TypeError(f"skip_init: expects a class of modules, got {module_cls!r}")
    return module_cls(*args, **kwargs)
