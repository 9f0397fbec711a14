"""Data sets of any items: torch.utils.data's classes, and how they are put together and divided."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from math import floor, isclose
from typing import Any, Generic, TypeVar

import numpy as np

from ..device import Generator
from ..engine import Tensor
from ..errors import ShapeError
from ._random import SPLIT, check_seed, permutation
from .datasets import ImageDataset, index_array

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Items that have numbers: subclasses define __getitem__ and __len__."""

    def __getitem__(self, index: Any) -> T_co:
        raise TypeError(f"{type(self).__name__} must define __getitem__")

    def __add__(self, other: Any) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Items that come one after the other: subclasses define __iter__. In a loader with workers,
    each has a copy and iterates over it; `get_worker_info` tells which part is its own."""

    def __iter__(self) -> Iterator[T_co]:
        raise TypeError(f"{type(self).__name__} must define __iter__")

    def __add__(self, other: Any) -> Any:
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Rows of tensors, which must have one first size: item i is the tuple of their rows i."""

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors or any(not isinstance(t, Tensor) or not t.ndim for t in tensors):
            raise TypeError("TensorDataset: expects tensors of at least one axis")
        if len({len(t.array) for t in tensors}) > 1:
            raise ShapeError(
                "TensorDataset: all tensors must have one first size, got "
                f"{[tuple(t.shape) for t in tensors]}"
            )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0].array)


class StackDataset(Dataset[Any]):
    """Item i is the tuple of the items i of several data sets; a dict of them, if they are given by
    name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise TypeError("StackDataset: expects data sets, all by position or all by name")
        self.datasets: Any = kwargs or args
        sizes = [len(d) for d in self._each()]
        if len(set(sizes)) > 1:
            raise ShapeError(f"StackDataset: data sets must have one size, got {sizes}")

    def _each(self) -> list[Any]:
        named = isinstance(self.datasets, Mapping)
        return list(self.datasets.values() if named else self.datasets)

    def __getitem__(self, index: Any) -> Any:
        items = [dataset[index] for dataset in self._each()]
        if isinstance(self.datasets, Mapping):
            return dict(zip(self.datasets, items, strict=True))
        return tuple(items)

    def __len__(self) -> int:
        return len(self._each()[0])


class ConcatDataset(Dataset[Any]):
    """The items of several data sets, one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: expects at least one data set")
        if any(isinstance(d, IterableDataset) for d in self.datasets):
            raise TypeError("ConcatDataset: an IterableDataset has no numbers; see ChainDataset")
        self.cumulative_sizes = list(accumulate(len(d) for d in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        i = index + len(self) if index < 0 else index
        if not 0 <= i < len(self):
            raise IndexError(f"dataset index {index} is out of range for {len(self)} samples")
        number = bisect_right(self.cumulative_sizes, i)
        before = self.cumulative_sizes[number - 1] if number else 0
        return self.datasets[number][i - before]


class ChainDataset(IterableDataset[Any]):
    """The items of several IterableDatasets, one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = datasets

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self.datasets)

    def __len__(self) -> int:
        return sum(len(d) for d in self.datasets)


class Subset(Dataset[Any]):
    """The samples at `indices` of any data set, in that order."""

    def __init__(self, dataset: Any, indices: Iterable[int]) -> None:
        self.dataset = dataset
        self.indices = index_array("Subset", indices, len(dataset))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return [self.dataset[int(self.indices[i])] for i in index]
        return self.dataset[int(self.indices[index])]


def random_split(
    dataset: Any,
    lengths: Sequence[int | float],
    generator: Generator | int | None = None,
    *,
    seed: int | None = None,
) -> list[Any]:
    """Divide a data set at random into parts that do not overlap.

    lengths: numbers of samples, which must add up to len(dataset), or fractions, which must add up
    to 1; samples that rounding down leaves over go to the parts in turn, as in torch. seed: by
    default the generator's, and without one 0.
    """
    if isinstance(generator, Generator):
        seed = generator.seed if seed is None else seed
    elif generator is not None:
        seed = generator
    total = len(dataset)
    if not lengths:
        raise ShapeError("random_split: lengths must name at least one part")
    if all(isinstance(part, (int, np.integer)) for part in lengths) and sum(lengths) == total:
        counts = [int(part) for part in lengths]
    elif isclose(sum(lengths), 1) and all(0 <= part <= 1 for part in lengths):
        counts = [floor(total * part) for part in lengths]
        for i in range(total - sum(counts)):
            counts[i % len(counts)] += 1
    else:
        raise ShapeError(
            f"random_split: lengths must add up to the {total} samples or, as fractions, to 1, "
            f"got {list(lengths)}"
        )
    if any(count < 0 for count in counts):
        raise ShapeError(f"random_split: lengths must not be negative, got {list(lengths)}")
    order = permutation(np.arange(total), check_seed("random_split", seed or 0), 0, SPLIT)
    parts = np.split(order, np.cumsum(counts)[:-1])
    if isinstance(dataset, ImageDataset):
        return [dataset.subset(part) for part in parts]
    return [Subset(dataset, part) for part in parts]
