"""Random tensors and dropout. All draw their next stream from a Generator.

The same seed gives the same values on every device, whatever the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_int, check_number
from ..device import Generator, default_generator
from ..dtypes import as_dtype, bool_, float32, float64, floating_dtype, int64
from ..engine import Function, Tensor
from ..errors import DTypeError, ShapeError
from ..layout import memory_order
from ..runtime.recording import drawn as drawn_while_recording
from .arithmetic import add, div, mul, neg
from .cast import to
from .compare import ge, gt, isfinite, le, logical_and, lt, where
from .creation import _kind, in_order_of, like_tensor, new_tensor, ones, zeros
from .extrema import all as all_
from .extrema import amax
from .functions import tan
from .operands import (
    broadcast_shape,
    elementwise,
    empty_like,
    floating_operands,
    takes_other_names,
    takes_tensor,
)
from .overwrite import applied, copy_, overwrite
from .promotion import check_fits
from .reduce import cumsum, sum
from .search import searchsorted
from .shape import broadcast_to, sizes_of
from .sort import topk
from .unary import activated, ceil, clamp, exp, log1p

__all__ = [
    "bernoulli", "get_rng_state", "multinomial", "normal", "poisson", "rand", "rand_like",
    "randint", "randint_like", "randn", "randn_like", "randperm", "set_rng_state",
]  # fmt: skip


def _stream(generator: Generator | None) -> tuple[int, int]:
    if generator is not None and not isinstance(generator, Generator):
        raise TypeError(f"generator must be a Generator, got {type(generator).__name__}")
    source = generator or default_generator
    key = source.next_stream()
    drawn_while_recording(key, source.next_stream)
    return key


def get_rng_state() -> dict[str, int]:
    """Where the default generator stands; `set_rng_state` returns to it."""
    return default_generator.get_state()


def set_rng_state(state: dict[str, int]) -> None:
    """Draw from here on what was drawn after `get_rng_state` returned `state`."""
    default_generator.set_state(state)


@takes_other_names
def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform numbers in [0, 1), of shape `size`."""
    out = new_tensor("rand", size, dtype, device)
    floating_dtype("rand", dtype=out.dtype)
    seed, stream = _stream(generator)
    kernels.get(out.device).random.uniform(out.array.reshape(-1), 0.0, 1.0, seed, stream)
    out.requires_grad = requires_grad
    return out


@takes_other_names
def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal numbers of mean 0 and variance 1, of shape `size`."""
    out = new_tensor("randn", size, dtype, device)
    floating_dtype("randn", dtype=out.dtype)
    seed, stream = _stream(generator)
    kernels.get(out.device).random.normal(out.array.reshape(-1), 0.0, 1.0, seed, stream)
    out.requires_grad = requires_grad
    return out


def randint(
    low: int = 0,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Integers in [low, high), of shape `size`: randint(high, size) or randint(low, high, size)."""
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if isinstance(high, (tuple, list)) or not isinstance(size, (tuple, list)):
        raise DTypeError(
            f"randint: expects (high, size) or (low, high, size) with a tuple as size, got "
            f"low={low!r}, high={high!r}, size={size!r}"
        )
    if not all(isinstance(bound, (int, np.integer)) for bound in (low, high)):
        raise DTypeError(f"randint: low and high must be ints, got {low!r} and {high!r}")
    low, high = int(low), int(high)
    if low >= high:
        raise ValueError(f"randint: low must be less than high, got low={low} and high={high}")
    out = new_tensor("randint", (tuple(size),), dtype, device, int64)
    for bound in (low, high - 1):
        check_fits("randint", bound, int64)
        check_fits("randint", bound, out.dtype)
    seed, stream = _stream(generator)
    kernels.get(out.device).random.randint(out.array.reshape(-1), low, high, seed, stream)
    return out


def randperm(
    n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = None
) -> Tensor:
    """The integers 0 … n − 1 in random order, each order equally likely."""
    wanted = int64 if dtype is None else as_dtype(dtype)
    (n,) = sizes_of("randperm", (n,))
    # The largest whole number up to which the dtype holds all of them.
    limit = {bool_: 2, float32: 2**24}.get(wanted, 2**32 - 1)
    if wanted.kind in "iu":
        limit = min(limit, int(np.iinfo(wanted).max) + 1)
    if n > limit:
        raise ValueError(f"randperm: n must be at most {limit} for {wanted.name}, got {n}")
    out = new_tensor("randperm", (n,), wanted, device)
    seed, stream = _stream(generator)
    kernels.get(out.device).random.permutation(out.array, seed, stream)
    return out


rand_like = like_tensor("rand_like", rand, "As `rand`,")
randn_like = like_tensor("randn_like", randn, "As `randn`,")


def randint_like(
    input: Tensor, low: int, high: int | None = None, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """Integers in [low, high), or [0, low), with the shape, and if not given the dtype, device and
    memory order, of `input`."""
    bounds = (0, low) if high is None else (low, high)
    return in_order_of(input, partial(randint, *bounds), **_kind(input, dtype, device))


# Distributions ------------------------------------------------------------------------------


@takes_tensor
def bernoulli(
    input: Tensor, p: float | None = None, *, generator: Generator | None = None
) -> Tensor:
    """1 with the probability that each element is (or with probability p), else 0."""
    dtype = floating_dtype("bernoulli", input=input.dtype)
    chance: Any = input.detach()
    if p is not None:
        chance = check_number("bernoulli", "p", p, low=0, high=1)
    elif input.array.size and not bool(all_(logical_and(ge(chance, 0), le(chance, 1)))):
        raise RuntimeError("bernoulli: probabilities must be from 0 to 1")
    drawn = rand(input.shape, generator=generator, dtype=dtype, device=input.device)
    return to(lt(drawn, chance), dtype)


def normal(
    mean: Any,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal numbers of the given mean and standard deviation: of shape `size` for numbers, one an
    element (both broadcast) for tensors."""
    tensors = [each.detach() for each in (mean, std) if isinstance(each, Tensor)]
    if tensors:
        size = broadcast_shape("normal", *(each.shape for each in tensors))
        dtype, device = tensors[0].dtype, tensors[0].device
    elif size is None:
        raise TypeError("normal: size must be given where neither mean nor std is a Tensor")
    if isinstance(std, Tensor):
        if std.array.size and not bool(all_(ge(std, 0))):
            raise RuntimeError("normal: std must be at least 0")
    elif check_number("normal", "std", std) < 0:
        raise RuntimeError(f"normal: std must be at least 0, got {std!r}")
    drawn = randn(size, generator=generator, dtype=dtype, device=device)
    scale, shift = (each.detach() if isinstance(each, Tensor) else each for each in (std, mean))
    out = add(mul(drawn, scale), shift)
    out.requires_grad = requires_grad
    return out


@takes_tensor
def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Indices (int64) drawn from each row (C,) or (N, C) of weights, which need not add up to 1.

    Waits for a GPU. RuntimeError for weights that are negative, NaN, infinite or all 0, and for too
    few that are not 0 where none may be drawn twice.
    """
    floating_dtype("multinomial", input=input.dtype)
    check_int("multinomial", "num_samples", num_samples, 1)
    if input.ndim not in (1, 2):
        raise ShapeError(f"multinomial: input must be (C,) or (N, C), got shape {input.shape}")
    weights = to(input.detach(), float64)
    needed = 1 if replacement else num_samples
    valid = logical_and(isfinite(weights), ge(weights, 0))
    enough = ge(sum(gt(weights, 0), -1), needed)
    if not (bool(all_(valid)) and bool(all_(enough))):
        raise RuntimeError(
            f"multinomial: weights must be finite and at least 0, and {needed} of each row not 0"
        )
    kind: Any = {"generator": generator, "dtype": float64, "device": input.device}
    if not replacement:
        # The smallest of exponential waiting times, each at the rate of its weight.
        waits = mul(log1p(neg(rand(input.shape, **kind))), -1)
        return topk(div(weights, clamp(waits, 1e-300, None)), num_samples, -1).indices
    sums = cumsum(weights, -1)
    places = rand((*input.shape[:-1], num_samples), **kind) * sums[..., -1:]
    return searchsorted(sums, places, right=True)


# Filling in place ---------------------------------------------------------------------------


@takes_tensor
def uniform_(
    input: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """input ← uniform numbers in [from, to). Returns input."""
    low, high = check_number("uniform_", "from", from_), check_number("uniform_", "to", to)
    if not low <= high:
        raise RuntimeError(f"uniform_: from must be at most to, got {low!r} and {high!r}")
    return _filled(input, "uniform_", rand, lambda drawn: drawn * (high - low) + low, generator)


@takes_tensor
def normal_(
    input: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """input ← normal numbers. Returns input."""
    if check_number("normal_", "std", std) < 0:
        raise RuntimeError(f"normal_: std must be at least 0, got {std!r}")
    check_number("normal_", "mean", mean)
    return _filled(input, "normal_", randn, lambda drawn: drawn * std + mean, generator)


@takes_tensor
def exponential_(
    input: Tensor, lambd: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """input ← exponentially distributed numbers of rate lambd. Returns input."""
    if check_number("exponential_", "lambd", lambd) <= 0:
        raise RuntimeError(f"exponential_: lambd must be positive, got {lambd!r}")
    return _filled(input, "exponential_", rand, lambda drawn: log1p(neg(drawn)) / -lambd, generator)


@takes_tensor
def log_normal_(
    input: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None
) -> Tensor:
    """input ← e^x of normal numbers x of this mean and standard deviation. Returns input."""
    if check_number("log_normal_", "std", std) <= 0:
        raise RuntimeError(f"log_normal_: std must be positive, got {std!r}")
    check_number("log_normal_", "mean", mean)
    return _filled(input, "log_normal_", randn, lambda drawn: exp(drawn * std + mean), generator)


@takes_tensor
def cauchy_(
    input: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """input ← numbers of the Cauchy distribution. Returns input."""
    if check_number("cauchy_", "sigma", sigma) <= 0:
        raise RuntimeError(f"cauchy_: sigma must be positive, got {sigma!r}")
    check_number("cauchy_", "median", median)

    def change(drawn: Tensor) -> Tensor:
        return tan((drawn - 0.5) * math.pi) * sigma + median

    return _filled(input, "cauchy_", rand, change, generator)


@takes_tensor
def geometric_(input: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """input ← how many trials of success p it takes to succeed, from 1. Returns input."""
    if not 0 < check_number("geometric_", "p", p) < 1:
        raise RuntimeError(f"geometric_: p must be between 0 and 1, got {p!r}")
    drawn = rand(input.shape, generator=generator, dtype=float64, device=input.device)
    return copy_(input, clamp(ceil(log1p(neg(drawn)) / math.log1p(-p)), 1, None))


@takes_tensor
def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Counts of the Poisson distributions whose rates the elements are.

    By inversion: as many steps as the largest rate has, and more, on all elements. Waits for a GPU.
    """
    dtype = floating_dtype("poisson", input=input.dtype)
    if input.array.size and not bool(all_(logical_and(ge(input, 0), isfinite(input)))):
        raise RuntimeError("poisson: rates must be finite and at least 0")
    rates = to(input.detach(), float64)
    largest = float(amax(rates)) if rates.array.size else 0.0
    # The counts of several shares of a rate add up; e^−rate of one share is no denormal number.
    shares = int(largest // 500) + 1
    rate, counts = rates / shares, zeros(rates.shape, dtype=float64, device=rates.device)
    steps = int(largest / shares + 10 * (largest / shares) ** 0.5) + 20
    for _ in range(shares):
        left = rand(rates.shape, generator=generator, dtype=float64, device=rates.device)
        chance = exp(neg(rate))  # of 0, 1, 2, …
        for count in range(1, steps):
            left = left - chance
            counts = counts + to(ge(left, 0), float64)
            chance = chance * rate / count
    return to(counts, dtype)


def _filled(
    input: Tensor,
    operation: str,
    draw: Callable[..., Tensor],
    change: Callable[[Tensor], Tensor],
    generator: Generator | None,
) -> Tensor:
    """input ← change of random numbers, numbered by their place in the logical shape."""
    dtype = floating_dtype(operation, input=input.dtype)
    drawn = draw(input.shape, generator=generator, dtype=dtype, device=input.device)
    return copy_(input, change(drawn))


@takes_tensor
def bernoulli_(
    input: Tensor, p: float | Tensor = 0.5, *, generator: Generator | None = None
) -> Tensor:
    """input ← 1 with probability p (a number, or one an element), else 0. Returns input."""
    if isinstance(p, Tensor):
        return copy_(input, bernoulli(broadcast_to(p, input.shape), generator=generator))
    chances = new_tensor("bernoulli_", (input.shape,), float32, input.device)
    return copy_(input, bernoulli(chances, p, generator=generator))


@takes_tensor
def random_(
    input: Tensor, from_: int = 0, to: int | None = None, *, generator: Generator | None = None
) -> Tensor:
    """input ← whole numbers in [from, to), or [0, from) for one number; without, from all that the
    dtype holds from 0 on (of a floating dtype: exactly). Returns input."""
    if to is None:
        largest = {bool_: 1, float32: 2**24, float64: 2**53}
        limit = largest.get(input.dtype) or int(np.iinfo(input.dtype).max)
        from_, to = (0, from_) if from_ else (0, limit)
    return copy_(input, randint(from_, to, input.shape, generator=generator, device=input.device))


# Dropout ------------------------------------------------------------------------------------


class Dropout(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, p: float, seed: int, stream: int) -> Tensor:
        ctx.p = p
        # Elements are numbered in memory order, which the mask has too.
        out, out_flat, (input_flat,) = elementwise("dropout", input)
        mask = empty_like(out, bool_)
        mask_flat = mask.array.transpose(memory_order(mask.array)).reshape(-1)
        kernels.get(input.device).random.dropout_forward(
            out_flat, mask_flat, input_flat, p, seed, stream
        )
        ctx.save_for_backward(mask)
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # y = m·x/(1 − p), so dx = m·dy/(1 − p).
        (mask,) = ctx.saved_tensors
        grad_input, grad_flat, (mask_flat, grad_output_flat) = elementwise(
            "dropout", mask, grad_output, dtype=grad_output.dtype
        )
        kernels.get(mask.device).random.dropout_backward_input(
            grad_flat, grad_output_flat, mask_flat, ctx.p
        )
        return grad_input, None, None, None


def _checked(operation: str, input: Tensor, p: float) -> None:
    floating_operands(operation, "input", input)
    check_number(operation, "p", p, low=0, high=1)


@takes_tensor
def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, zero each element with probability p and scale the others by 1/(1 − p).

    inplace: the result takes the place of the input, in memory and in the graph.
    """
    _checked("dropout", input, p)
    if not training or p == 0:
        return input
    return activated("dropout", Dropout, input, p, *_stream(None), inplace=inplace)


@takes_tensor
def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """As `dropout`, for whole channels of (N, C, H, W) or (C, H, W)."""
    return _channel_dropout("dropout2d", "H, W", 2, input, p, training, inplace)


@takes_tensor
def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """As `dropout`, for whole channels of (N, C, L) or (C, L)."""
    return _channel_dropout("dropout1d", "L", 1, input, p, training, inplace)


@takes_tensor
def dropout3d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """As `dropout`, for whole channels of (N, C, D, H, W) or (C, D, H, W)."""
    return _channel_dropout("dropout3d", "D, H, W", 3, input, p, training, inplace)


def _channel_dropout(
    operation: str, axes: str, count: int, input: Tensor, p: float, training: bool, inplace: bool
) -> Tensor:
    """axes: names of the `count` axes after the channels."""
    _checked(operation, input, p)
    if input.ndim not in (count + 1, count + 2):
        raise ShapeError(
            f"{operation}: input must be (N, C, {axes}) or (C, {axes}), got shape {input.shape}"
        )
    if not training or p == 0:
        return input
    kept = ones((*input.shape[:-count], *(1,) * count), dtype=input.dtype, device=input.device)
    scale = Dropout.apply(kept, p, *_stream(None))
    if inplace:
        return overwrite(operation + "_", input, mul, scale, direct=True)
    return mul(input, scale)


@takes_tensor
def alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """In training, set each element with probability p to SELU's limit −1.7581, and scale and
    shift all so that mean 0 and variance 1 stay.

    Source: Klambauer et al. 2017, "Self-normalizing neural networks".
    """
    return _alpha_dropout("alpha_dropout", input, input.shape, p, training, inplace)


@takes_tensor
def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """As `alpha_dropout`, for whole channels of (N, C, …)."""
    shape = (*input.shape[:2], *(1 for _ in input.shape[2:]))
    if len(shape) < 2:
        raise ShapeError(f"feature_alpha_dropout: input must be (N, C, …), got shape {input.shape}")
    return _alpha_dropout("feature_alpha_dropout", input, shape, p, training, inplace)


_SELU_LIMIT = -1.7580993408473766


def _alpha_dropout(
    operation: str, input: Tensor, shape: tuple[int, ...], p: float, training: bool, inplace: bool
) -> Tensor:
    """shape: of what is drawn, which broadcasts to the input's."""
    _checked(operation, input, p)
    if not training or p == 0:
        return input
    if inplace:
        return overwrite(
            operation + "_", input, lambda x: _alpha_dropout(operation, x, shape, p, True, False)
        )
    if p == 1:
        return applied(operation, lambda x: mul(x, 0), input, inplace)
    kept = ge(rand(shape, dtype=input.dtype, device=input.device), p)
    # Kept with probability q, the rest at L: mean p·L, variance q + q·p·L².
    scale = ((1 - p) * (1 + p * _SELU_LIMIT**2)) ** -0.5

    def apply(x: Tensor) -> Tensor:
        return add(mul(where(kept, x, _SELU_LIMIT), scale), -scale * p * _SELU_LIMIT)

    return applied(operation, apply, input, inplace)
