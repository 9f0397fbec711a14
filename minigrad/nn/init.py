"""Weight initialisation: initial values of parameters, written in place.

Random values are numbered by an element's place in the logical shape, not in memory: a weight gets
the same values whatever its memory order.
"""

from __future__ import annotations

import math
from typing import Any

from .. import kernels
from ..arguments import check_number
from ..device import Generator, default_generator
from ..dtypes import floating_dtype
from ..engine import Tensor, no_grad
from ..errors import ShapeError
from ..ops.overwrite import fill_
from ..runtime.allocation import allocate

__all__ = [
    "calculate_gain",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """By how much a nonlinearity's input should be scaled up to keep its variance.

    param: the negative slope of 'leaky_relu' (0.01 unless given).
    """
    if nonlinearity in ("linear", "conv2d", "sigmoid"):
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
        "calculate_gain: nonlinearity must be linear, conv2d, sigmoid, tanh, relu, leaky_relu or "
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


def fans(operation: str, tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out): the inputs of one output of a weight (out, in, …), and the reverse."""
    if tensor.ndim < 2:
        raise ShapeError(
            f"{operation}: the tensor must have at least 2 dimensions, got shape {tensor.shape}"
        )
    window = math.prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


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
