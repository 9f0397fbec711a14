"""Weight initialisation: initial values of parameters, written in place.

Random values are numbered by an element's place in the logical shape, not in memory: a weight gets
the same values whatever its memory order.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_int, check_number
from ..device import Generator, default_generator
from ..dtypes import float64, floating_dtype
from ..engine import Tensor, no_grad
from ..errors import ShapeError
from ..ops.compare import where
from ..ops.creation import empty, from_numpy
from ..ops.creation import eye as identity
from ..ops.overwrite import copy_, fill_
from ..ops.random import rand, randn
from ..ops.sort import argsort
from ..ops.transfer import host
from ..ops.unary import clamp, erf, exp, log1p, sign, sqrt
from ..runtime.allocation import allocate

__all__ = [
    "calculate_gain", "constant", "constant_", "dirac", "dirac_", "eye", "eye_", "kaiming_normal",
    "kaiming_normal_", "kaiming_uniform", "kaiming_uniform_", "normal", "normal_", "ones_",
    "orthogonal", "orthogonal_", "sparse", "sparse_", "trunc_normal_", "uniform", "uniform_",
    "xavier_normal", "xavier_normal_", "xavier_uniform", "xavier_uniform_", "zeros_",
]  # fmt: skip

# Whose outputs have the variance of their inputs, as far as the nonlinearity is concerned.
_LINEAR = (
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "sigmoid",
)  # fmt: skip


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """By how much a nonlinearity's input should be scaled up to keep its variance.

    param: the negative slope of 'leaky_relu' (0.01 unless given).
    """
    if nonlinearity in _LINEAR:
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "selu":
        return 3.0 / 4
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        check_number("calculate_gain", "the negative slope", slope)
        return math.sqrt(2.0 / (1 + slope**2))
    raise ValueError(
        f"calculate_gain: nonlinearity must be {', '.join(_LINEAR)}, tanh, relu, leaky_relu or "
        f"selu, got {nonlinearity!r}"
    )


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Values drawn uniformly from [a, b)."""
    if not a <= b:
        raise ValueError(f"uniform_: a must be at most b, got a={a!r} and b={b!r}")
    return _draw("uniform", tensor, a, b, generator)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Values drawn from the normal distribution."""
    if not std >= 0:
        raise ValueError(f"normal_: std must be at least 0, got {std!r}")
    return _draw("normal", tensor, mean, std, generator)


def _draw(
    kind: str, tensor: Tensor, first: float, second: float, generator: Generator | None
) -> Tensor:
    floating_dtype(f"{kind}_", tensor=tensor.dtype)
    backend = kernels.get(tensor.device)
    draw = backend.random.uniform if kind == "uniform" else backend.random.normal
    seed, stream = (generator or default_generator).next_stream()
    values = tensor.array
    if not values.flags.c_contiguous:
        values = allocate(tensor.shape, tensor.dtype, tensor.device)
    draw(values.reshape(-1), first, second, seed, stream)
    if values is not tensor.array:
        backend.elementwise.copy_strided(tensor.array, values)
    tensor.mark_changed()
    return tensor


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Values drawn from the normal distribution as far as it lies in [a, b].

    They are the quantiles of uniform numbers between the shares of the distribution below a and b.
    """
    if not (std > 0 and a < b):
        raise ValueError(f"trunc_normal_: std must be above 0 and a below b, got {std}, {a}, {b}")
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            f"trunc_normal_: the mean {mean} lies more than 2 standard deviations outside of "
            f"[{a}, {b}]; values may be distributed badly",
            UserWarning,
            stacklevel=2,
        )
    low, high = (math.erf((bound - mean) / (std * math.sqrt(2))) for bound in (a, b))
    with no_grad():
        wide = empty(*tensor.shape, dtype=float64, device=tensor.device)
        values = _erfinv(uniform_(wide, low, high, generator)) * (std * math.sqrt(2)) + mean
        return copy_(tensor, clamp(values, a, b))


def _erfinv(y: Tensor) -> Tensor:
    """The inverse of the error function, for float64: an approximation (Winitzki 2008), then three
    of Newton's steps. Finite, near ±5.8, at ±1."""
    a = 0.147
    logarithm = log1p(-(y * y))
    half = logarithm / 2 + 2 / (math.pi * a)
    x = sign(y) * sqrt(sqrt(half * half - logarithm / a) - half)
    x = clamp(x, -5.8, 5.8)
    for _ in range(3):
        x = x - (erf(x) - y) * exp(x * x) * (math.sqrt(math.pi) / 2)
    return x


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every element val."""
    with no_grad():
        return fill_(tensor, val)


def zeros_(tensor: Tensor) -> Tensor:
    """Every element 0."""
    return constant_(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Every element 1."""
    return constant_(tensor, 1)


def eye_(tensor: Tensor) -> Tensor:
    """The identity, as far as the shape (rows, columns) goes."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: the tensor must have 2 dimensions, got shape {tensor.shape}")
    rows, columns = tensor.shape
    with no_grad():
        return copy_(tensor, identity(rows, columns, dtype=tensor.dtype, device=tensor.device))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution's weight (out, in, …) that passes its input on, as many channels as there are,
    in each group."""
    if tensor.ndim not in (3, 4, 5):
        raise ShapeError(f"dirac_: the tensor must have 3 to 5 dimensions, got {tensor.shape}")
    if check_int("dirac_", "groups", groups, low=1) and tensor.shape[0] % groups:
        raise ValueError(f"dirac_: groups={groups} must divide the first of {tensor.shape}")
    out, channels = tensor.shape[0] // groups, tensor.shape[1]
    middle = tuple(size // 2 for size in tensor.shape[2:])
    with no_grad():
        fill_(tensor, 0)
        for group in range(groups):
            for channel in range(min(out, channels)):
                tensor[(group * out + channel, channel, *middle)] = 1
    return tensor


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """gain times rows, or where there are more of them columns, that are orthonormal: the Q of a
    normal matrix. Axes from the second on count as columns. Source: Saxe et al. 2014."""
    if tensor.ndim < 2:
        raise ShapeError(
            f"orthogonal_: the tensor must have at least 2 dimensions, got shape {tensor.shape}"
        )
    if not tensor.array.size:
        return tensor
    floating_dtype("orthogonal_", tensor=tensor.dtype)
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    tall = max(rows, columns), min(rows, columns)
    q, r = np.linalg.qr(host(randn(*tall, generator=generator, dtype=tensor.dtype)))
    q = q * np.where(np.diag(r) < 0, -1, 1).astype(q.dtype)  # makes Q uniformly distributed
    values = (q if rows >= columns else q.T) * gain
    with no_grad():
        return copy_(tensor, from_numpy(values.reshape(tensor.shape).astype(tensor.dtype)))


def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """Normal values, of which a share of each column is 0. Source: Martens 2010."""
    if tensor.ndim != 2:
        raise ShapeError(f"sparse_: the tensor must have 2 dimensions, got shape {tensor.shape}")
    zeros = math.ceil(check_number("sparse_", "sparsity", sparsity, low=0, high=1) * len(tensor))
    normal_(tensor, 0, std, generator)
    order = argsort(rand(*tensor.shape, generator=generator, device=tensor.device), 0)
    with no_grad():
        return copy_(tensor, where(argsort(order, 0) < zeros, 0, tensor))


def fans(operation: str, tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out): the inputs of one output of a weight (out, in, …), and the reverse."""
    if tensor.ndim < 2:
        raise ShapeError(
            f"{operation}: the tensor must have at least 2 dimensions, got shape {tensor.shape}"
        )
    window = math.prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """torch's name of `fans`, which layers that draw their own weights call."""
    return fans("_calculate_fan_in_and_fan_out", tensor)


def _kaiming_std(
    operation: str, tensor: Tensor, a: float, mode: str, nonlinearity: str
) -> float | None:
    """None if the tensor is empty."""
    fan_in, fan_out = fans(operation, tensor)
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{operation}: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    gain = calculate_gain(nonlinearity, a)
    return gain / math.sqrt(fan_in if mode == "fan_in" else fan_out) if tensor.array.size else None


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform in ±gain·√(3 / fan). Source: He et al. 2015, "Delving deep into rectifiers"."""
    std = _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    if std is None:
        return tensor
    bound = math.sqrt(3.0) * std
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with standard deviation gain / √fan. Source: as kaiming_uniform_."""
    std = _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity)
    return tensor if std is None else normal_(tensor, 0.0, std, generator)


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform in ±gain·√(6 / (fan_in + fan_out)). Source: Glorot & Bengio 2010,
    "Understanding the difficulty of training deep feedforward neural networks"."""
    fan_in, fan_out = fans("xavier_uniform_", tensor)
    bound = gain * math.sqrt(6.0 / max(fan_in + fan_out, 1))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation gain·√(2 / (fan_in + fan_out)). Source: as
    xavier_uniform_."""
    fan_in, fan_out = fans("xavier_normal_", tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / max(fan_in + fan_out, 1)), generator)


# torch's names of before 0.4 ----------------------------------------------------------------


def _deprecated(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    old = function.__name__.rstrip("_")

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Tensor:
        warnings.warn(
            f"nn.init.{old} is deprecated, use nn.init.{old}_", FutureWarning, stacklevel=2
        )
        return function(*args, **kwargs)

    call.__name__, call.__doc__ = old, f"`{old}_`, under its old name; deprecated."
    return call


constant = _deprecated(constant_)
dirac = _deprecated(dirac_)
eye = _deprecated(eye_)
kaiming_normal = _deprecated(kaiming_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
normal = _deprecated(normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)
uniform = _deprecated(uniform_)
xavier_normal = _deprecated(xavier_normal_)
xavier_uniform = _deprecated(xavier_uniform_)
