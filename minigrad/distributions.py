"""torch.distributions, as far as scripts of reinforcement learning and of variational autoencoders
use it: Bernoulli, Categorical, Normal, and their divergences.

Parameters are tensors or numbers, and broadcast; gradients flow to them through `log_prob`,
`entropy` and `rsample`.
"""

from __future__ import annotations

import math
from typing import Any

from .engine import Tensor, no_grad
from .nn import functional as F
from .ops.creation import tensor
from .ops.random import bernoulli, multinomial, randn
from .ops.rearrange import broadcast_tensors
from .ops.softmax import log_softmax

__all__ = ["Bernoulli", "Categorical", "Distribution", "Normal", "kl_divergence"]


class Distribution:
    """What can be drawn from: `sample(sample_shape)` gives values of sample_shape + batch_shape."""

    batch_shape: tuple[int, ...]
    event_shape: tuple[int, ...] = ()

    def _extended(self, sample_shape: Any) -> tuple[int, ...]:
        return (*sample_shape, *self.batch_shape)


class Normal(Distribution):
    """Mean loc and deviation scale."""

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_tensors(*_floats(loc, scale))
        self.batch_shape = tuple(self.loc.shape)
        if not (self.scale.detach() > 0).all():
            raise ValueError(f"Normal: scale must be positive, got {self.scale.tolist()}")

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def stddev(self) -> Tensor:
        return self.scale

    @property
    def variance(self) -> Tensor:
        return self.scale**2

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Values drawn, as a function of loc and scale: gradients flow."""
        shape, like = self._extended(sample_shape), self.loc
        return self.loc + self.scale * randn(*shape, dtype=like.dtype, device=like.device)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Any) -> Tensor:
        """−((v − μ)/σ)²/2 − log σ − log √2π"""
        z = (value - self.loc) / self.scale
        return z**2 * -0.5 - self.scale.log() - 0.5 * math.log(2 * math.pi)

    def entropy(self) -> Tensor:
        return self.scale.log() + 0.5 * (1 + math.log(2 * math.pi))


class Bernoulli(Distribution):
    """1 with probability probs, or sigmoid(logits)."""

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        (given,) = _floats(_either("Bernoulli", probs, logits))
        if probs is not None:
            _check_probabilities("Bernoulli", given)
            self.probs = given
            inside = _inside(given)
            self.logits = inside.log() - (-inside).log1p()
        else:
            self.logits, self.probs = given, given.sigmoid()
        self.batch_shape = tuple(given.shape)

    @property
    def mean(self) -> Tensor:
        return self.probs

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            return bernoulli(self.probs.expand(self._extended(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        logits, value = broadcast_tensors(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")


class Categorical(Distribution):
    """Classes 0 … K − 1 with probabilities probs (…, K), which are divided by their sum, or
    softmax(logits)."""

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        (given,) = _floats(_either("Categorical", probs, logits))
        if given.ndim < 1:
            raise ValueError("Categorical: expects probabilities (…, K), got a number")
        if probs is not None:
            if not (given.detach() >= 0).all():
                raise ValueError(f"Categorical: probs must not be negative, got {given.tolist()}")
            self.probs = given / given.sum(-1, keepdim=True)
            self.logits = _inside(self.probs).log()
        else:
            self.logits = log_softmax(given, -1)
            self.probs = self.logits.exp()
        self.batch_shape = tuple(given.shape[:-1])

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended(sample_shape)
        with no_grad():
            rows = self.probs.reshape(-1, self.probs.shape[-1])
            count = math.prod(sample_shape)
            return multinomial(rows, count, True).t().reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        value, logits = broadcast_tensors(value.long().unsqueeze(-1), self.logits)
        return logits.gather(-1, value[..., :1]).squeeze(-1)

    def entropy(self) -> Tensor:
        return -(self.probs * self.logits).sum(-1)


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """KL(p‖q) of two distributions of one kind. Raises TypeError."""
    if isinstance(p, Normal) and isinstance(q, Normal):
        ratio = (p.scale / q.scale) ** 2
        return 0.5 * (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1 - ratio.log())
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        return (p.probs * (p.logits - q.logits)).sum(-1)
    if isinstance(p, Bernoulli) and isinstance(q, Bernoulli):
        # p·log(p/q) + (1 − p)·log((1 − p)/(1 − q)), each logarithm from logits.
        return p.probs * (p.logits - q.logits) + F.softplus(q.logits) - F.softplus(p.logits)
    raise TypeError(
        "kl_divergence: expects two Normal, Bernoulli or Categorical, got "
        f"{type(p).__name__} and {type(q).__name__}"
    )


def _floats(*values: Any) -> list[Tensor]:
    return [each if isinstance(each, Tensor) else tensor(float(each)) for each in values]


def _either(name: str, probs: Any, logits: Any) -> Any:
    if (probs is None) == (logits is None):
        raise ValueError(f"{name}: expects either probs or logits")
    return logits if probs is None else probs


def _check_probabilities(name: str, probs: Tensor) -> None:
    found = probs.detach()
    if not ((found >= 0) & (found <= 1)).all():
        raise ValueError(f"{name}: probs must be from 0 to 1, got {probs.tolist()}")


def _inside(probs: Tensor) -> Tensor:
    """Neither 0 nor 1, whose logarithms have no end: as torch does it."""
    eps = 1.1920928955078125e-07 if probs.dtype.itemsize == 4 else 2.220446049250313e-16
    return probs.clamp(eps, 1 - eps)
