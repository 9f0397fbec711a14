"""The loader: batches of a data set, epoch by epoch, reproducible and resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice, repeat
from types import GenericAlias
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..arguments import check_int, check_number
from ..device import Device, Generator, as_device, default_generator
from ..engine import Tensor
from ..errors import CheckpointError, DataError
from ..ops.transfer import placed
from . import _random
from .collate import default_collate, default_convert, moved
from .datasets import Batched, ImageDataset
from .generic import IterableDataset, Subset
from .prefetch import Prefetcher
from .samplers import (
    Batch,
    BatchSampler,
    DistributedSampler,
    DrawnSampler,
    OrderSampler,
    SequentialSampler,
    batch_count,
    epoch_batches,
    epoch_orders,
)
from .transforms import Compose, Plan, Renderer, Transform, packed
from .workers import Job, Workers

# Samples for which random numbers are drawn at once: NumPy costs microseconds a call, so a few
# thousand samples share it.
_DRAW = 4096


class DataLoader:
    """Batches of a data set.

    An ImageDataset, or a Subset of one, gives (images, labels): float32 (N, C, H, W), stored
    channels-last, and int64 (N,), each batch by one kernel. Images of different sizes are never in
    one batch; the batches of all sizes are mixed. So do vision.datasets that hold their images, as
    MNIST and CIFAR10, if their transform is of steps that a batch has, too: ToTensor (or ToImage
    and ToDtype), Normalize, RandomCrop, RandomHorizontalFlip. Any other object with __len__ and
    __getitem__ gives what collate_fn makes of a list of its items, by default `default_collate`;
    an IterableDataset is cut into batches as it comes.

    batch_size: samples of a batch; the last one (of each size) may be smaller, unless drop_last;
    None gives the items themselves. shuffle: a new order every epoch. sampler, batch_sampler: the
    numbers, or lists of numbers, in their order, instead.
    num_workers: processes that make batches (of items; images need none, and get a thread).
    prefetch_factor: batches that each prepares ahead, 2 by default. persistent_workers: they live
    on from epoch to epoch. worker_init_fn(number) is called in each. timeout: seconds to wait for a
    batch; 0 for ever. multiprocessing_context: as torch, workers are forked where that is possible.
    in_order: False hands out batches as they come.
    seed: of order and augmentation; by default the generator's, or the default generator's.
    pin_memory changes nothing: what goes to a GPU is staged in pinned memory anyhow.
    transform: for an ImageDataset, see transforms. prefetch: batches that a background thread
    prepares ahead; 0 prepares each when it is asked for. device: where the tensors live.

    The order and every augmentation of images follow from (seed, epoch, sample index) alone. Each
    full or abandoned pass is one epoch; `set_epoch` chooses the next, `state_dict` resumes in the
    middle. With a DistributedSampler the state counts samples of the whole epoch's order: it is the
    same on every rank, and may be loaded with another number of ranks and another batch_size.
    """

    # Annotations say of what: DataLoader[Tensor].
    __class_getitem__: Any = classmethod(GenericAlias)

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = False,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        seed: int | None = None,
        transform: Transform | Compose | Sequence[Transform] | None = None,
        prefetch: int = 0,
        device: Device | str | None = None,
    ) -> None:
        check_int("DataLoader", "prefetch", prefetch, low=0)
        check_int("DataLoader", "num_workers", num_workers, low=0)
        if prefetch_factor is not None:
            check_int("DataLoader", "prefetch_factor", prefetch_factor, low=1)
        check_number("DataLoader", "timeout", timeout, low=0)
        if not num_workers and (prefetch_factor or persistent_workers or timeout):
            raise ValueError(
                "DataLoader: prefetch_factor, persistent_workers and timeout are for workers; "
                "num_workers is 0"
            )
        chosen = sampler is not None or batch_sampler is not None
        self._streams = isinstance(dataset, IterableDataset)
        if self._streams and (shuffle or chosen):
            raise ValueError(
                "DataLoader: an IterableDataset gives its items in its own order; shuffle, sampler "
                "and batch_sampler are for data sets with numbers"
            )
        if chosen and shuffle:
            raise ValueError("DataLoader: a sampler gives the order; leave shuffle out")
        if batch_sampler is not None and (batch_size != 1 or sampler is not None or drop_last):
            raise ValueError(
                "DataLoader: a batch_sampler gives whole batches; leave batch_size, sampler and "
                "drop_last out"
            )
        if batch_size is not None:
            check_int("DataLoader", "batch_size", batch_size, low=1)
        elif drop_last:
            raise ValueError("DataLoader: without a batch_size there is no batch to drop")
        needed = ["__getitem__"] if chosen else ["__len__", "__getitem__"]
        if not self._streams and not all(hasattr(dataset, name) for name in needed):
            raise TypeError(
                f"DataLoader: a data set needs __len__ and __getitem__, got "
                f"{type(dataset).__name__}"
            )
        self.dataset = dataset
        self.batch_size = batch_size if batch_size is None else int(batch_size)
        self.shuffle = bool(shuffle)
        self._sampler, self._batch_sampler = sampler, batch_sampler
        inner = getattr(batch_sampler, "sampler", None) if sampler is None else sampler
        self._share = inner if isinstance(inner, DistributedSampler) else None
        self.generator = generator
        self.seed = _random.check_seed(
            "DataLoader", (generator or default_generator).seed if seed is None else seed
        )
        self.drop_last = bool(drop_last)
        self.num_workers = num_workers
        self.timeout, self.worker_init_fn = timeout, worker_init_fn
        self.multiprocessing_context, self.in_order = multiprocessing_context, bool(in_order)
        self.prefetch_factor = prefetch_factor or (2 if num_workers else None)
        self.persistent_workers = bool(persistent_workers)
        self.pin_memory, self.pin_memory_device = pin_memory, pin_memory_device
        self.prefetch = prefetch
        self.device = as_device(device)
        self.collate_fn = collate_fn
        self._by_item = collate_fn is not None or chosen or batch_size is None
        if isinstance(transform, (Transform, Compose)):
            transform = [transform]  # type: ignore[list-item]
        self._given = None if transform is None else Compose(transform)
        self._images: ImageDataset
        self.transform: Compose | None = None
        self._made: list[Renderer] | None = None
        self._choose()
        if transform is not None and self.transform is not self._given:
            raise TypeError(
                "DataLoader: transform works on image data sets without collate_fn or sampler; "
                "transform the items of other data sets in their __getitem__ or in collate_fn"
            )
        self._workers: Workers | None = None
        self._epoch = 0
        self._position = 0  # batches of the epoch that were handed out
        self._resume = False
        # Marks the pass that moves the loader. Not the pass itself: it holds the loader, and in a
        # cycle an abandoned pass would keep its thread until the collector comes by.
        self._running = object()

    def _choose(self) -> None:
        """Kernels make the batches if they can, of what the data set is now."""
        found = None if self._by_item else _as_images(self.dataset)
        if found is None or (found.transform is not None and self.worker_init_fn is not None):
            self.transform = None
            return
        if self.transform is not None and found.transform is None:
            return  # these do not change
        self._images, self._made = found.images, None
        self.transform = found.transform or self._given or Compose()
        for bucket in self._images.buckets:  # images that do not fit are an error now, not later
            self._plan(bucket.images)

    def _plan(self, images: np.ndarray) -> Plan:
        assert self.transform is not None
        H, W, C = images.shape[1:]
        return self.transform.plan(H, W, C, self._images.max_value)

    def __len__(self) -> int:
        """Batches of an epoch."""
        if self._batch_sampler is not None:
            return len(self._batch_sampler)  # type: ignore[arg-type]
        if self.transform is not None:
            sizes = [len(bucket.indices) for bucket in self._images.buckets]
        else:
            sizes = [len(self.dataset if self._sampler is None else self._sampler)]  # type: ignore[arg-type]
        return batch_count(sizes, self.batch_size or 1, self.drop_last)

    def _count(self) -> int | None:
        """Batches of an epoch, if that is known."""
        with suppress(TypeError):  # a sampler may have no length
            return None if self._streams else len(self)
        return None

    @property
    def sampler(self) -> Any:
        """The sampler given, or one that gives the samples in this loader's order."""
        if self._sampler is not None or self._streams:
            return self._sampler
        if self.shuffle:
            return OrderSampler(self.dataset, self.seed, self._epoch)
        return SequentialSampler(self.dataset)

    @property
    def batch_sampler(self) -> Any:
        """The sampler of batches given, or one that gives this loader's; None without batches."""
        if self._batch_sampler is not None or self._streams or self.batch_size is None:
            return self._batch_sampler
        return BatchSampler(self.sampler, self.batch_size, self.drop_last)

    def _tasks(self, epoch: int) -> Iterable[Any]:
        """The samples of each batch of an epoch; None for each of a stream."""
        if self._streams:
            return repeat(None)
        if self._batch_sampler is not None:
            _follow(self._batch_sampler, epoch)
            return self._batch_sampler
        numbers: Iterable[int]
        if self._sampler is not None:
            _follow(self._sampler, epoch)
            numbers = iter(self._sampler)
        else:
            everything = [np.arange(len(self.dataset))]
            (order,) = epoch_orders(everything, self.shuffle, self.seed, epoch)
            numbers = order.tolist()
        if self.batch_size is None:
            return numbers
        return BatchSampler(numbers, self.batch_size, self.drop_last)

    def _job(self) -> Job:
        """What makes batches of items, here or in workers."""
        collate = self.collate_fn or (default_convert if self.batch_size is None else _stacked)
        fetch = partial(_fetch, collate, self.batch_size is None)
        cut = partial(_cut, collate, self.batch_size, self.drop_last) if self._streams else None
        return Job(self.dataset, fetch, cut, self.worker_init_fn)

    # Epochs -----------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch that is running, or else the next one."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """The next pass is this epoch, from its start."""
        self._start_epoch(_random.check_epoch("set_epoch", epoch))
        self._resume, self._running = False, object()

    def _start_epoch(self, epoch: int, samples: int = 0) -> None:
        """The next batch is this epoch's first; of a DistributedSampler's, after so many samples of
        its order."""
        self._epoch, self._position = epoch, 0
        if self._share is not None:
            self._share.start_at(samples)

    def __iter__(self) -> Iterator[Any]:
        self._choose()
        self._begin()
        return _Epoch(self)

    def draws(self) -> Iterator[Draw]:
        """The same epoch for a captured step, which makes its images itself, on the GPU:

        @minigrad.capture
        def step(samples, labels, bucket):
            images = loader.render(samples, bucket)
            …

        for draw in loader.draws():
            step(*draw)
        """
        if self.transform is None:
            raise TypeError("DataLoader.draws: only image data sets without collate_fn have draws")
        self._begin()
        return _Epoch(self, rendered=False)

    def render(self, samples: Tensor, bucket: int = 0) -> Tensor:
        """The images (N, C, H, W) of a Draw: gathered, augmented and normalised by one kernel."""
        if self.transform is None:
            raise TypeError("DataLoader.render: only image data sets without collate_fn have draws")
        return self._renderers()[bucket].unpacked(samples)

    def _renderers(self) -> list[Renderer]:
        """One a bucket. They keep the images on the device, so a GPU gets them once."""
        if self._made is None:
            self._made = [
                self._plan(bucket.images).renderer(bucket.images, self.device)
                for bucket in self._images.buckets
            ]
        return self._made

    def _begin(self) -> None:
        share = self._share
        if share is not None and share.chosen and not (self._resume and share.epoch == self._epoch):
            self._start_epoch(share.epoch)
        elif self._position and not self._resume:
            self._start_epoch(self._epoch + 1)  # the pass before was abandoned
        self._resume = False
        self._running = object()

    def _facts(self) -> dict[str, Any]:
        if (share := self._share) is not None:
            # The sampler decides the order. Batches follow from the ranks, which may be others.
            decided = {"shuffle": share.shuffle, "seed": share.seed, "drop_last": share.drop_last}
            return {"samples": len(share.dataset), "batch_size": None, **decided}
        return {
            "samples": len(self.dataset) if hasattr(self.dataset, "__len__") else None,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "drop_last": self.drop_last,
        }

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: the epoch, and how many of its batches were handed out; with a
        DistributedSampler, how many samples of its order, on all ranks."""
        epoch, position = self._epoch, self._position
        at_end = bool(position) and position == self._count()
        if (share := self._share) is not None:
            size = getattr(self._batch_sampler, "batch_size", self.batch_size) or 1
            position = share.start + position * size * share.num_replicas
            if not share.pad:  # another rank may have a sample more
                at_end = position >= len(share.dataset)
        if at_end:
            epoch, position = epoch + 1, 0
        return {"epoch": epoch, "position": position, **self._facts()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken: the next pass yields the batches that were left.

        Raises CheckpointError if the loader differs in what decides the batches.
        """
        expected = {"epoch", "position", *self._facts()}
        if set(state) != expected:
            raise CheckpointError(
                f"DataLoader.load_state_dict: expected keys {sorted(expected)}, got {sorted(state)}"
            )
        for name, mine in self._facts().items():
            if state[name] != mine:
                raise CheckpointError(
                    f"DataLoader.load_state_dict: the state has {name}={state[name]!r}, this "
                    f"loader {name}={mine!r}"
                )
        position = state["position"]
        most = self._count() if self._share is None else len(self._share.dataset)
        most = 2**63 if most is None else most
        if not isinstance(position, int) or not 0 <= position <= most:
            raise CheckpointError(
                f"DataLoader.load_state_dict: position must be in [0, {most}], got {position!r}"
            )
        self.set_epoch(state["epoch"])
        self._resume = True
        if self._share is None:
            self._position = position
        else:
            self._start_epoch(self._epoch, position)
            self._share.chosen = False


class Draw(NamedTuple):
    """A batch before its images are made: what `DataLoader.render` needs, and the labels."""

    samples: Tensor
    """(N, 4) int64: rows, and what was drawn for each sample."""
    labels: Tensor
    bucket: int


class _Epoch:
    """One pass over the data, from the loader's epoch and position."""

    def __init__(self, loader: DataLoader, rendered: bool = True) -> None:
        self._loader, self._mark = loader, loader._running
        self._epoch, self._position = loader._epoch, loader._position
        self._workers: Workers | None = None
        self._batches: Iterator[Any]
        if loader.transform is not None:
            self._batches = self._of_images(rendered)
        else:
            self._batches = self._of_items()

    def _of_images(self, rendered: bool) -> Iterator[Any]:
        loader, epoch = self._loader, self._epoch
        indices = [bucket.indices for bucket in loader._images.buckets]
        orders = epoch_orders(indices, loader.shuffle, loader.seed, epoch)
        sizes = [len(i) for i in indices]
        assert loader.batch_size is not None
        batches = epoch_batches(
            sizes, loader.batch_size, loader.shuffle, loader.drop_last, loader.seed, epoch
        )[self._position :]
        # A GPU works by itself, and all of its work is queued by one thread.
        ahead = max(loader.prefetch, loader.prefetch_factor or 0)
        prefetch = 0 if loader.device.type == "cuda" else ahead
        kernels.get(loader.device)  # imported here and not in the background thread
        make = _ImageBatches(loader, epoch, orders, rendered, serial=prefetch > 0)
        return Prefetcher(make, batches, prefetch) if prefetch else map(make, batches)

    def _of_items(self) -> Iterator[Any]:
        loader, done = self._loader, self._position
        tasks, job = loader._tasks(self._epoch), loader._job()
        batches: Iterator[Any]
        if loader.num_workers:
            seed = int(_random.words(np.array([0]), loader.seed, self._epoch, _random.WORKER)[0, 0])
            self._workers = loader._workers
            if self._workers is None or not self._workers.close.alive:
                self._workers = Workers(
                    job, loader.num_workers, loader.prefetch_factor or 2, loader.timeout,
                    loader.multiprocessing_context, loader.persistent_workers,
                )  # fmt: skip
                loader._workers = self._workers if loader.persistent_workers else None
            ahead = islice(tasks, done if job.batches is None else 0, None)
            batches = self._workers.run(ahead, seed, loader.in_order)
        elif job.batches is not None:
            batches = job.batches(loader.dataset)
        else:
            batches = map(partial(job.fetch, loader.dataset), islice(tasks, done, None))
        if job.batches is not None:
            batches = islice(batches, done, None)
        if loader.device.type == "cuda":
            return (moved(batch, loader.device) for batch in batches)
        if loader.prefetch and not loader.num_workers:
            return Prefetcher(_same, batches, loader.prefetch)
        return batches

    def __iter__(self) -> _Epoch:
        return self

    def __next__(self) -> Any:
        loader = self._loader
        try:
            batch = next(self._batches)
        except StopIteration:
            if loader._running is self._mark:
                loader._start_epoch(self._epoch + 1)
                loader._running = object()
            raise
        self._position += 1
        if loader._running is self._mark:  # an abandoned pass does not move the loader
            loader._position = self._position
        return batch


class _Chunk(NamedTuple):
    """A run of whole batches in the order of one bucket, with what was drawn for its samples."""

    start: int
    stop: int
    rows: np.ndarray
    labels: np.ndarray
    drawn: tuple[np.ndarray, ...]


class _ImageBatches:
    """(images, labels) of a batch, by one kernel call; or the Draw that they are made of."""

    def __init__(
        self, loader: DataLoader, epoch: int, orders: list[np.ndarray], rendered: bool, serial: bool
    ) -> None:
        self._dataset = loader._images
        self._seed, self._epoch, self._orders = loader.seed, epoch, orders
        self._device, self._rendered, self._serial = loader.device, rendered, serial
        size = loader.batch_size or 1
        self._chunk_size = size * max(_DRAW // size, 1)
        self._renderers = loader._renderers()
        self._chunks: dict[int, _Chunk] = {}

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor] | Draw:
        number, start, stop = batch
        chunk = self._chunks.get(number)
        if chunk is None or not chunk.start <= start < chunk.stop:
            chunk = self._chunks[number] = self._draw(number, start)
        here = slice(start - chunk.start, stop - chunk.start)
        device = self._device
        labels = Tensor(placed(chunk.labels[here].copy(), device), device)
        rows, drawn = chunk.rows[here], tuple(array[here] for array in chunk.drawn)
        if not self._rendered:
            samples = Tensor(placed(packed(rows, drawn), device), device)
            return Draw(samples, labels, number)
        arrays = tuple(placed(array, device) for array in drawn)
        return self._renderers[number](placed(rows, device), arrays, self._serial), labels

    def _draw(self, number: int, start: int) -> _Chunk:
        bucket, order = self._dataset.buckets[number], self._orders[number]
        start -= start % self._chunk_size
        places = order[start : start + self._chunk_size]
        samples = bucket.indices[places]
        return _Chunk(
            start,
            start + len(places),
            bucket.rows[places],
            self._dataset.labels[samples],
            self._renderers[number].plan.draw(samples, self._seed, self._epoch),
        )


# Items --------------------------------------------------------------------------------------


class _Images(NamedTuple):
    """Images that kernels batch, and the data set's own transform, if it has one."""

    images: ImageDataset
    transform: Compose | None


def _as_images(dataset: Any) -> _Images | None:
    """The data set, if it or what it is a part of are images that kernels batch."""
    if isinstance(dataset, ImageDataset):
        return _Images(dataset, None)
    if isinstance(dataset, Batched) and (made := dataset.batched()) is not None:
        return _Images(*made)
    if type(dataset) is Subset and (whole := _as_images(dataset.dataset)) is not None:
        return whole._replace(images=whole.images.subset(dataset.indices))
    return None


def _follow(sampler: Any, epoch: int) -> None:
    """Sets the epoch of minigrad's own samplers."""
    if isinstance(sampler, BatchSampler):
        _follow(sampler.sampler, epoch)
    elif isinstance(sampler, DrawnSampler):
        sampler.set_epoch(epoch)
    elif isinstance(sampler, DistributedSampler):
        sampler.set_epoch(epoch)
        sampler.chosen = False


def _same(batch: Any) -> Any:
    return batch


def _stacked(items: list[Any]) -> Any:
    try:
        return default_collate(items)
    except (TypeError, ValueError) as error:
        raise DataError(f"DataLoader: cannot stack the items of a batch: {error}") from error


def _fetch(collate: Callable[[Any], Any], single: bool, dataset: Any, numbers: Any) -> Any:
    """The batch of these samples."""
    try:
        if single:
            return collate(dataset[numbers])
        if hasattr(dataset, "__getitems__"):
            return collate(dataset.__getitems__(numbers))
        return collate([dataset[i] for i in numbers])
    except StopIteration as error:  # which would end the epoch
        raise RuntimeError("DataLoader: the data set raised StopIteration") from error


def _cut(
    collate: Callable[[Any], Any], size: int | None, drop_last: bool, dataset: Any
) -> Iterator[Any]:
    """The batches of a stream."""
    items = iter(dataset)
    if size is None:
        for item in items:
            yield collate(item)
        return
    while batch := list(islice(items, size)):
        if len(batch) == size or not drop_last:
            yield collate(batch)
