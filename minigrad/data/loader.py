"""The loader: batches of a data set, epoch by epoch, reproducible and resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..arguments import check_int
from ..device import Device, as_device
from ..engine import Tensor
from ..errors import CheckpointError, DataError
from ..ops.transfer import placed
from . import _random
from .collate import default_collate
from .datasets import ImageDataset
from .prefetch import Prefetcher
from .samplers import Batch, batch_count, epoch_batches, epoch_orders
from .transforms import Compose, Plan, Renderer, Transform, packed

# Samples for which random numbers are drawn at once: NumPy costs microseconds a call, so a few
# thousand samples share it.
_DRAW = 4096


class DataLoader:
    """Batches of a data set.

    An ImageDataset gives (images, labels): float32 (N, C, H, W), stored channels-last, and int64
    (N,). Images of different sizes are never in one batch; the batches of all sizes are mixed. Any
    other object with __len__ and __getitem__ gives what collate_fn makes of a list of its items,
    by default `default_collate`.

    batch_size: samples of a batch; the last one (of each size) may be smaller, unless drop_last.
    shuffle: a new order every epoch. transform: for an ImageDataset, see transforms.
    prefetch: batches that a background thread prepares ahead; 0 prepares each when it is asked for.
    device: where the tensors live.

    The order and every augmentation follow from (seed, epoch, sample index) alone. Each full or
    abandoned pass is one epoch; `set_epoch` chooses the next, `state_dict` resumes in the middle.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        seed: int = 0,
        drop_last: bool = False,
        transform: Transform | Compose | Sequence[Transform] | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        prefetch: int = 0,
        device: Device | str | None = None,
    ) -> None:
        check_int("DataLoader", "batch_size", batch_size, low=1)
        check_int("DataLoader", "prefetch", prefetch, low=0)
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                f"DataLoader: a data set needs __len__ and __getitem__, got "
                f"{type(dataset).__name__}"
            )
        by_item = collate_fn is not None or not isinstance(dataset, ImageDataset)
        if by_item and transform is not None:
            raise TypeError(
                "DataLoader: transform works on image data sets without collate_fn; transform the "
                "items of other data sets in their __getitem__ or in collate_fn"
            )
        self.dataset = dataset
        self.batch_size = int(batch_size)
        self.shuffle = bool(shuffle)
        self.seed = _random.check_seed("DataLoader", seed)
        self.drop_last = bool(drop_last)
        self.prefetch = prefetch
        self.device = as_device(device)
        self.collate_fn = collate_fn
        self.transform: Compose | None = None
        if not by_item:
            if isinstance(transform, (Transform, Compose)):
                transform = [transform]  # type: ignore[list-item]
            self.transform = Compose(transform or [])
            for bucket in dataset.buckets:  # images that do not fit are an error now, not later
                self._plan(bucket.images)
        self._made: list[Renderer] | None = None
        self._epoch = 0
        self._position = 0  # batches of the epoch that were handed out
        self._resume = False
        # Marks the pass that moves the loader. Not the pass itself: it holds the loader, and in a
        # cycle an abandoned pass would keep its thread until the collector comes by.
        self._running = object()

    def _plan(self, images: np.ndarray) -> Plan:
        assert self.transform is not None
        H, W, C = images.shape[1:]
        return self.transform.plan(H, W, C, self.dataset.max_value)

    def _bucket_indices(self) -> list[np.ndarray]:
        """Sample indices of each bucket; a data set of another kind is one bucket."""
        if self.transform is not None:
            return [bucket.indices for bucket in self.dataset.buckets]
        return [np.arange(len(self.dataset))]

    def __len__(self) -> int:
        """Batches of an epoch."""
        sizes = [len(indices) for indices in self._bucket_indices()]
        return batch_count(sizes, self.batch_size, self.drop_last)

    # Epochs -----------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch that is running, or else the next one."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """The next pass is this epoch, from its start."""
        self._epoch = _random.check_epoch("set_epoch", epoch)
        self._position, self._resume, self._running = 0, False, object()

    def __iter__(self) -> Iterator[Any]:
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
                for bucket in self.dataset.buckets
            ]
        return self._made

    def _begin(self) -> None:
        if self._position and not self._resume:
            self._epoch, self._position = self._epoch + 1, 0  # the pass before was abandoned
        self._resume = False
        self._running = object()

    def _facts(self) -> dict[str, Any]:
        return {
            "samples": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "drop_last": self.drop_last,
        }

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: the epoch, and how many of its batches were handed out."""
        epoch, position = self._epoch, self._position
        if position and position == len(self):
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
        if not isinstance(position, int) or not 0 <= position <= len(self):
            raise CheckpointError(
                f"DataLoader.load_state_dict: position must be in [0, {len(self)}], got "
                f"{position!r}"
            )
        self.set_epoch(state["epoch"])
        self._position, self._resume = position, True


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
        indices = loader._bucket_indices()
        sizes = [len(i) for i in indices]
        orders = epoch_orders(indices, loader.shuffle, loader.seed, self._epoch)
        batches = epoch_batches(
            sizes, loader.batch_size, loader.shuffle, loader.drop_last, loader.seed, self._epoch
        )[self._position :]
        # A GPU works by itself, and all of its work is queued by one thread.
        prefetch = 0 if loader.device.type == "cuda" else loader.prefetch
        make: Callable[[Batch], Any]
        if loader.transform is not None:
            kernels.get(loader.device)  # imported here and not in the background thread
            make = _ImageBatches(loader, self._epoch, orders, rendered, serial=prefetch > 0)
        else:
            make = _ItemBatches(loader, orders[0])
        self._batches: Iterator[Any]
        if prefetch:
            self._batches = Prefetcher(make, batches, prefetch)
        else:
            self._batches = map(make, batches)

    def __iter__(self) -> _Epoch:
        return self

    def __next__(self) -> Any:
        loader = self._loader
        try:
            batch = next(self._batches)
        except StopIteration:
            if loader._running is self._mark:
                loader._epoch, loader._position = self._epoch + 1, 0
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
        self._dataset = loader.dataset
        self._seed, self._epoch, self._orders = loader.seed, epoch, orders
        self._device, self._rendered, self._serial = loader.device, rendered, serial
        self._chunk_size = loader.batch_size * max(_DRAW // loader.batch_size, 1)
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


class _ItemBatches:
    """What collate_fn makes of the items of a batch."""

    def __init__(self, loader: DataLoader, order: np.ndarray) -> None:
        self._dataset, self._order = loader.dataset, order
        self._collate, self._device = loader.collate_fn, loader.device

    def __call__(self, batch: Batch) -> Any:
        items = [self._dataset[i] for i in self._order[batch.start : batch.stop].tolist()]
        if self._collate is not None:
            return self._collate(items)
        try:
            return default_collate(items, self._device)
        except (TypeError, ValueError) as error:
            raise DataError(f"DataLoader: cannot stack the items of a batch: {error}") from error
