"""Samplers: in which order an epoch visits the samples, and in which batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from ..arguments import check_int
from ..device import Generator, default_generator
from ..engine import Tensor
from ..ops.transfer import host
from . import _random

T = TypeVar("T")


class Batch(NamedTuple):
    """Positions [start, stop) in the order of one bucket."""

    bucket: int
    start: int
    stop: int


def batch_count(sizes: Sequence[int], batch_size: int, drop_last: bool) -> int:
    """Batches of an epoch over buckets of these sizes."""
    spare = 0 if drop_last else batch_size - 1
    return sum((size + spare) // batch_size for size in sizes)


def epoch_orders(
    buckets: Sequence[np.ndarray], shuffle: bool, seed: int, epoch: int
) -> list[np.ndarray]:
    """For each bucket, given by its sample indices, the order of its positions."""
    if not shuffle:
        return [np.arange(len(indices)) for indices in buckets]
    return [_random.permutation(indices, seed, epoch, _random.ORDER) for indices in buckets]


def epoch_batches(
    sizes: Sequence[int], batch_size: int, shuffle: bool, drop_last: bool, seed: int, epoch: int
) -> list[Batch]:
    """The batches of an epoch, each from one bucket.

    Shuffling mixes the buckets: which one comes next is random, and each is walked from its start.
    """
    counts = [batch_count([size], batch_size, drop_last) for size in sizes]
    turns = np.repeat(np.arange(len(sizes)), counts)
    if shuffle and len(sizes) > 1:
        turns = turns[_random.permutation(np.arange(len(turns)), seed, epoch, _random.BUCKETS)]
    starts = [0] * len(sizes)
    batches = []
    for bucket in turns.tolist():
        start = starts[bucket]
        starts[bucket] = stop = min(start + batch_size, sizes[bucket])
        batches.append(Batch(bucket, start, stop))
    return batches


# torch.utils.data's samplers -----------------------------------------------------------------
#
# An order at random follows from a seed and from how often it was drawn, so that a loader can go on
# in the middle of an epoch.


class Sampler(Generic[T]):
    """Gives the numbers of the samples of an epoch: subclasses define __iter__, and __len__ where
    it is known."""

    def __init__(self, data_source: Any = None) -> None:
        pass

    def __iter__(self) -> Iterator[T]:
        raise TypeError(f"{type(self).__name__} must define __iter__")


class SequentialSampler(Sampler[int]):
    """0 … n − 1."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class DrawnSampler(Sampler[int]):
    """Another order every epoch. generator: its seed decides, else the default generator's."""

    def __init__(self, generator: Generator | None) -> None:
        self.generator = generator
        self._seed = (generator or default_generator).seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The next order is this epoch's."""
        self._epoch = _random.check_epoch("set_epoch", epoch)

    def _draw(self, draws: np.random.Generator) -> np.ndarray:
        """The numbers of one epoch."""
        raise TypeError(f"{type(self).__name__} must define _draw")

    def __iter__(self) -> Iterator[int]:
        key = np.random.SeedSequence(self._seed, spawn_key=(_random.SAMPLER, self._epoch))
        self._epoch += 1
        return iter(self._draw(np.random.Generator(np.random.Philox(key))).tolist())


class RandomSampler(DrawnSampler):
    """The samples in random order, or num_samples of them; replacement: each may come again."""

    def __init__(
        self,
        data_source: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(generator)
        if num_samples is not None:
            check_int("RandomSampler", "num_samples", num_samples, low=1)
        self.data_source, self.replacement, self._count = data_source, replacement, num_samples

    @property
    def num_samples(self) -> int:
        return len(self.data_source) if self._count is None else self._count

    def _draw(self, draws: np.random.Generator) -> np.ndarray:
        total, count = len(self.data_source), self.num_samples
        if self.replacement:
            return draws.integers(total, size=count)
        orders = [draws.permutation(total) for _ in range(-(-count // max(1, total)))]
        return np.concatenate([np.empty(0, np.int64), *orders])[:count]

    def __len__(self) -> int:
        return self.num_samples


class OrderSampler(RandomSampler):
    """The order in which a loader that shuffles visits the samples."""

    def __init__(self, data_source: Any, seed: int, epoch: int) -> None:
        super().__init__(data_source)
        self._seed, self._epoch = seed, epoch

    def __iter__(self) -> Iterator[int]:
        (order,) = epoch_orders([np.arange(len(self))], True, self._seed, self._epoch)
        self._epoch += 1
        return iter(order.tolist())


class SubsetRandomSampler(DrawnSampler):
    """The given numbers in random order."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        super().__init__(generator)
        self.indices = indices

    def _draw(self, draws: np.random.Generator) -> np.ndarray:
        return np.asarray(self.indices, np.int64)[draws.permutation(len(self.indices))]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(DrawnSampler):
    """num_samples numbers, i with a probability in proportion to weights[i]."""

    def __init__(
        self,
        weights: Any,
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(generator)
        check_int("WeightedRandomSampler", "num_samples", num_samples, low=1)
        values = np.asarray(host(weights) if isinstance(weights, Tensor) else weights, np.float64)
        if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(
                "WeightedRandomSampler: weights must be a list of finite numbers ≥ 0, got shape "
                f"{values.shape}"
            )
        possible = np.count_nonzero(values)
        if not possible or (not replacement and num_samples > possible):
            raise ValueError(
                f"WeightedRandomSampler: {num_samples} samples cannot be drawn from {possible} "
                "weights above 0 without replacement"
            )
        self.weights, self.num_samples, self.replacement = weights, num_samples, replacement
        self._shares = values / values.sum()

    def _draw(self, draws: np.random.Generator) -> np.ndarray:
        return draws.choice(
            len(self._shares), self.num_samples, replace=self.replacement, p=self._shares
        )

    def __len__(self) -> int:
        return self.num_samples


class DistributedSampler(Sampler[int]):
    """Every num_replicas-th number of an epoch's order, from `rank` on: what one process of several
    visits.

    num_replicas, rank: by default those of the process group. shuffle: another order every epoch,
    which follows from seed and epoch and is the same on every rank. drop_last: the order is cut so
    that all ranks get equally many; otherwise it is padded for that, by its own beginning. pad:
    False gives each number to one rank, once, so that some ranks get one less: for evaluation.

    The ranks' batches of equal number together are the next samples of the order. So a loader's
    state counts samples of the whole order, and may be loaded with another number of ranks.

    Raises ValueError for a rank that is not in [0, num_replicas), RuntimeError without a group.
    Source: torch.utils.data.DistributedSampler, which has the same rules and orders of its own.
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        *,
        pad: bool = True,
    ) -> None:
        if num_replicas is None or rank is None:
            # Imported here: a loader needs no process group.
            from .. import distributed

            num_replicas = distributed.get_world_size() if num_replicas is None else num_replicas
            rank = distributed.get_rank() if rank is None else rank
        check_int("DistributedSampler", "num_replicas", num_replicas, low=1)
        check_int("DistributedSampler", "rank", rank, low=0, high=num_replicas - 1)
        if drop_last and not pad:
            raise ValueError("DistributedSampler: drop_last drops samples, which pad=False keeps")
        self.dataset, self.num_replicas, self.rank = dataset, num_replicas, rank
        self.shuffle, self.drop_last, self.pad = bool(shuffle), bool(drop_last), bool(pad)
        self.seed = _random.check_seed("DistributedSampler", seed)
        self.epoch = 0
        self.chosen = False  # by set_epoch, since a loader looked
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """The next order is this epoch's, on every rank that says so. A DataLoader counts on from
        there by itself; iterated without one, the sampler gives the same order again."""
        self.epoch, self.chosen = _random.check_epoch("set_epoch", epoch), True

    def start_at(self, samples: int) -> None:
        """Leave out what all ranks together visited before: the order's first samples."""
        self.start = check_int("start_at", "samples", samples, 0, len(self.dataset))

    @property
    def total_size(self) -> int:
        """Numbers that all ranks get together."""
        left, K = len(self.dataset) - self.start, self.num_replicas
        if not self.pad:
            return left
        return (left // K if self.drop_last else -(-left // K)) * K

    @property
    def num_samples(self) -> int:
        """Numbers that this rank gets."""
        return len(range(self.rank, self.total_size, self.num_replicas))

    def __iter__(self) -> Iterator[int]:
        everything = np.arange(len(self.dataset))
        (order,) = epoch_orders([everything], self.shuffle, self.seed, self.epoch)
        left = order[self.start :]
        missing = max(self.total_size - len(left), 0)
        padded = np.concatenate([left, np.resize(order, missing)])[: self.total_size]
        return iter(padded[self.rank :: self.num_replicas].tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of batch_size numbers of another sampler; the last may be shorter, unless drop_last."""

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        check_int("BatchSampler", "batch_size", batch_size, low=1)
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, bool(drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        numbers = iter(self.sampler)
        while batch := list(islice(numbers, self.batch_size)):
            if self.drop_last and len(batch) < self.batch_size:
                return
            yield batch

    def __len__(self) -> int:
        count = len(self.sampler)  # type: ignore[arg-type]
        return batch_count([count], self.batch_size, self.drop_last)
