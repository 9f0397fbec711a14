"""Samplers: in which order an epoch visits the samples, and in which batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from . import _random


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
