"""Data-parallel training: one model a process, whose gradients are averages over all of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..arguments import check_int, check_number
from ..device import CPU, default_generator
from ..distributed.collectives import exchanged, pickled
from ..distributed.group import ProcessGroup, SharedError, get_group
from ..distributed.reducer import Reducer
from ..distributed.tree import Terms, TreeSum, cut, shard_range
from ..dtypes import float64, is_floating
from ..engine import Node, Tensor, is_grad_enabled, no_grad
from ..engine.gradient import add, full
from ..errors import GraphError, ShapeError
from ..layout import order_of
from ..ops.transfer import host, placed
from .containers import DataParallel, data_parallel
from .module import Module
from .sync_batch_norm import SyncBatchNorm

__all__ = ["DataParallel", "DistributedDataParallel", "data_parallel"]


class DistributedDataParallel(Module):
    """A model of which every process has a copy; a backward pass leaves in each parameter's `.grad`
    the average over all processes, so that equal optimizers keep the copies equal.

        model = nn.parallel.DistributedDataParallel(model)
        for images, targets in loader:           # this rank's part of the batch
            loss = F.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()                      # averages while it computes
            optimizer.step()

    module: the model. Its parameters and buffers become those of rank 0; the names in `state_dict`
        begin with "module.", as in torch.
    broadcast_buffers: at the end of every backward pass rank 0's buffers (running statistics)
        become everybody's.
    process_group: the ranks; by default all.
    bucket_cap_mb: gradients travel together in buckets of so many MB, in the order in which they
        arrive. By default 25, and less for small models, so that there are four to overlap with
        the computation.
    find_unused_parameters: parameters that the output of a forward pass does not depend on count
        as zeros on this rank, and keep their `.grad` if no rank uses them. Without it they are a
        GraphError in `forward`, on every rank.
    shards: reproducible mode, see `backward_shards`.

    device_ids, output_device, dim, gradient_as_bucket_view, static_graph: torch's; they change
    nothing. Gradients lie in the buckets always.

    Raises DistributedError on every rank if there is no process group, or the models differ.
    """

    def __init__(
        self,
        module: Module,
        device_ids: Any = None,
        output_device: Any = None,
        dim: int = 0,
        broadcast_buffers: bool = True,
        process_group: Any = None,
        bucket_cap_mb: float | None = None,
        find_unused_parameters: bool = False,
        gradient_as_bucket_view: bool = False,
        static_graph: bool = False,
        *,
        shards: int | None = None,
    ) -> None:
        super().__init__()
        name = "DistributedDataParallel"
        group = get_group(name, process_group)
        with group.checking(name):
            if not isinstance(module, Module):
                raise TypeError(f"{name}: module must be a Module, got {type(module).__name__}")
            if bucket_cap_mb is not None:
                check_number(name, "bucket_cap_mb", bucket_cap_mb)
                if not bucket_cap_mb > 0:
                    raise ValueError(f"{name}: bucket_cap_mb must be positive")
            if shards is not None:
                check_int(name, "shards", shards, group.size())
                for path, each in module.named_modules():
                    if isinstance(each, SyncBatchNorm):
                        raise ValueError(
                            f"{name}: {path} is a SyncBatchNorm, whose statistics are those of "
                            "whatever the ranks compute at a time; use BatchNorm with shards"
                        )
            named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
            if not named:
                raise ValueError(f"{name}: no parameter of the module requires gradients")
        group.agree(name, f"shards={shards}, bucket_cap_mb={bucket_cap_mb}, "
                          f"find_unused_parameters={bool(find_unused_parameters)}")  # fmt: skip
        self.module = module
        self.process_group: ProcessGroup = group
        self.broadcast_buffers = broadcast_buffers
        self.find_unused_parameters = bool(find_unused_parameters)
        self.shards = shards
        self._names = [n for n, _ in named]
        self._check_models()
        for tensor in (*module.parameters(), *module.buffers()):
            self._broadcast(tensor)
        size = None if bucket_cap_mb is None else int(bucket_cap_mb * 2**20)
        self._reducer = Reducer(group, [p for _, p in named], size, shards)
        self._reducer.may_skip = self.find_unused_parameters
        self._reducer.on_launch = self._on_launch
        self._reducer.on_finish = self._on_finish
        self._reducer.enabled = shards is None
        self._settle: Callable[[], None] = lambda: None
        self._in_shard = False

    def _check_models(self) -> None:
        module = self.module
        mine = [
            (kind, name, tuple(tensor.shape), tensor.dtype.name, tensor.device.type,
             tensor.requires_grad, order_of(tensor.array))
            for kind, named in (("parameter", module.named_parameters()),
                                ("buffer", module.named_buffers()))
            for name, tensor in named
        ]  # fmt: skip
        group = self.process_group
        models = exchanged(group, pickled("DistributedDataParallel", mine))
        for rank, model in enumerate(models):
            if len(model) != len(models[0]):
                raise SharedError(
                    f"DistributedDataParallel: rank {group.ranks[rank]} has a model of "
                    f"{len(model)} parameters and buffers, rank {group.ranks[0]} one of "
                    f"{len(models[0])}"
                )
            for theirs, first in zip(model, models[0], strict=True):
                if theirs != first:
                    raise SharedError(
                        f"DistributedDataParallel: the models differ: rank {group.ranks[rank]} has "
                        f"{_described(theirs)}, rank {group.ranks[0]} {_described(first)}"
                    )

    def _broadcast(self, tensor: Tensor) -> None:
        values = np.asarray(host(tensor), order="C")
        group = self.process_group
        if group.size() == 1 or not values.size:
            return
        vector = values.reshape(-1).view(np.uint8)
        group.wait(group.control.broadcast(vector, 0), "DistributedDataParallel: parameters")
        if group.rank():
            with no_grad():
                tensor.detach().copy_(Tensor(placed(values, tensor.device), tensor.device))

    # Steps ----------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        reducer = self._reducer
        synchronised = is_grad_enabled() and reducer.enabled and not self._in_shard
        if self.shards is not None and self.training and is_grad_enabled() and not self._in_shard:
            raise GraphError(
                "DistributedDataParallel: with shards, a training step is "
                "backward_shards(loss_fn, *batch); forward is for evaluation, or for loss_fn"
            )
        if synchronised and (missing := reducer.unfinished):
            names = ", ".join(self._names[index] for index in missing[:5])
            reducer.reset()
            with self.process_group.checking("DistributedDataParallel"):
                raise GraphError(
                    f"DistributedDataParallel: the last backward pass did not reach {names}: all "
                    "outputs of forward must take part in the loss"
                )
        output = self.module(*args, **kwargs)
        if not synchronised:
            return output
        self._settle()
        self._settle = lambda: None
        with self.process_group.checking("DistributedDataParallel.forward"):
            unused = self._unused(output)
            if unused and not self.find_unused_parameters:
                names = ", ".join(self._names[index] for index in sorted(unused)[:5])
                raise GraphError(
                    f"DistributedDataParallel: the output does not depend on {names}; use "
                    "find_unused_parameters=True, or let them require no gradients"
                )
        reducer.skipped = unused
        if self.training:
            self._settle = self.process_group.propose("DistributedDataParallel.forward")
        return output

    def _unused(self, output: Any) -> set[int]:
        """Indices of parameters that no tensor of the output was computed from."""
        pending: list[Node] = []
        found: set[Tensor] = set()
        tensors = list(_tensors(output))
        if not any(tensor.requires_grad for tensor in tensors):
            return set()
        for tensor in tensors:
            if tensor.node is not None:
                pending.append(tensor.node)
            else:
                found.add(tensor)
        seen = set(pending)
        while pending:
            for target in pending.pop().inputs:
                if isinstance(target, Tensor):
                    found.add(target)
                elif target is not None and target[0] not in seen:
                    seen.add(target[0])
                    pending.append(target[0])
        params = self._reducer.params
        return {index for index, param in enumerate(params) if param not in found}

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Backward passes of forward passes inside only add to this rank's gradients; the next one
        outside averages what has come together."""
        before = self._reducer.enabled
        self._reducer.enabled = False
        try:
            yield
        finally:
            self._reducer.enabled = before

    def _on_launch(self) -> None:
        settle, self._settle = self._settle, lambda: None
        settle()
        self._moving: Any = None
        buffers = list(self.module.buffers())
        group = self.process_group
        if self.broadcast_buffers and buffers and group.size() > 1 and self.training:
            parts = [np.ascontiguousarray(host(b)).reshape(-1).view(np.uint8) for b in buffers]
            vector = np.concatenate(parts)
            self._moving = buffers, vector, group.control.broadcast(vector, 0)

    def _on_finish(self) -> None:
        if self._moving is None:
            return
        buffers, vector, request = self._moving
        self._moving = None
        group = self.process_group
        group.wait(request, "DistributedDataParallel: buffers")
        start = 0
        for buffer in buffers if group.rank() else ():
            nbytes = buffer.array.size * buffer.dtype.itemsize
            values = vector[start : start + nbytes].view(buffer.dtype).reshape(buffer.shape)
            _store(buffer, values)
            start += nbytes

    # Reproducible mode ----------------------------------------------------------------------------

    def backward_shards(self, loss_fn: Callable[..., Any], *batch: Any) -> Any:
        """A training step's forward and backward passes; the same bits for any number of ranks.

            def loss_fn(images, targets):
                return F.cross_entropy(model(images), targets)

            model = DistributedDataParallel(net, shards=8)
            loss = model.backward_shards(loss_fn, images, targets)

        The batch of all ranks together, n samples, is cut into `shards`: sample n·s // shards and
        those after it, up to n·(s + 1) // shards, are shard s. Rank r of W computes shards
        r·shards // W … (r + 1)·shards // W − 1, one after the other, and `batch` must be their
        samples in this order (`minigrad.distributed.shard_range`): tensors are cut along
        their first axis, lists by items, tuples and dicts by their values.

        loss_fn: of a shard's part of `batch`, the mean loss over its samples, or a tuple of it and
        other tensors, such as counts. It is called once a shard, and must have no other effects.

        Gradients and loss are means over all samples, added up along one tree of shards (see
        distributed/tree.py). Every shard draws its random numbers (dropout) from a generator of
        its own, which follows from `manual_seed`, the step and the shard. Batch normalisation
        uses each shard's statistics; running statistics, and other buffers, change by the mean of
        the shards' changes. Returns the loss, detached; for a tuple, (loss, *sums of the others).

        Without `shards`, each rank's part is one shard, and sums are MPI's: close, and faster.
        Raises DistributedError on every rank if their parts are no such cut of one batch, or their
        generators differ.
        """
        group = self.process_group
        W, rank = group.size(), group.rank()
        shards = self.shards or W
        key = default_generator.next_stream()
        with group.checking("backward_shards"):
            length = _length(batch)
        group.agree("backward_shards", f"seed and stream {key}" if self.shards else "")
        sizes = np.empty(W, np.int64)
        request = group.control.all_gather(sizes, np.array([length]), [1] * W)
        group.wait(request, "backward_shards")
        n = int(sizes.sum())
        if self.shards is None:
            if not sizes.all():
                raise SharedError(
                    f"backward_shards: a rank has no sample; the ranks have {sizes.tolist()}"
                )
            return self._one_shard(loss_fn, batch, length * W / n)
        expected = [shard_range(n, shards, r, W) for r in range(W)]
        if [stop - start for start, stop in expected] != sizes.tolist() or not n:
            raise SharedError(
                f"backward_shards: {n} samples in {shards} shards are "
                f"{[stop - start for start, stop in expected]} for the ranks, which have "
                f"{sizes.tolist()}; see minigrad.distributed.shard_range"
            )
        return self._all_shards(loss_fn, batch, key, n, expected[rank][0])

    def _one_shard(self, loss_fn: Any, batch: Any, weight: float) -> Any:
        """weight: W times the share of the samples."""
        group = self.process_group
        loss, others = _loss_and_others(loss_fn(*batch))
        loss.backward(full(loss.shape, loss.dtype, loss.device, weight))
        values, kinds = _packed(loss, others, weight / group.size())
        group.wait(group.control.all_reduce(values, "sum"), "backward_shards")
        return _unpacked(values, kinds)

    def _all_shards(
        self, loss_fn: Any, batch: Any, key: tuple[int, int], n: int, first: int
    ) -> Any:
        """first: the number of this rank's first sample in the batch of all ranks."""
        group, reducer, shards = self.process_group, self._reducer, self.shards
        assert shards is not None
        low, high = cut(shards, group.size(), group.rank())
        gradients = [param.grad for param in reducer.params]
        buffers = [b for b in self.module.buffers() if b.array.size]
        start = [host(buffer).copy() for buffer in buffers]
        length = sum([values.size for values in start])
        found: list[tuple[np.ndarray, np.ndarray] | None] = []
        kinds: Any = None
        state = default_generator.get_state()
        reducer.begin_shards()
        reducer.enabled = self._in_shard = True
        try:
            for param in reducer.params:
                param.grad = None
            for shard in range(low, high):
                begin, end = cut(n, shards, shard)
                reducer.begin_shard((shard, shard + 1), shard == high - 1)
                if end > begin:
                    default_generator.manual_seed(_seed(*key, shard))
                    weight = (end - begin) / n
                    result = loss_fn(*_cut(batch, begin - first, end - first))
                    loss, others = _loss_and_others(result)
                    loss.backward(full(loss.shape, loss.dtype, loss.device, weight))
                    values, kinds = _packed(loss, others, weight)
                    found.append((values, self._changes(buffers, start, weight)))
                else:
                    found.append(None)
                reducer.end_shard()
            if n < shards:  # a rank without a sample does not know what loss_fn returns
                kinds = exchanged(group, pickled("backward_shards", kinds))[-1]
            count = sum([math.prod(shape) for shape, _ in kinds])
            terms = Terms(shards, CPU)
            for shard, parts in zip(range(low, high), found, strict=True):
                vector = np.zeros(count + length)
                if parts is not None:
                    vector[:count], vector[count:] = parts
                terms.push((shard, shard + 1), vector)
            total = reducer.end_shards(TreeSum(group, group.control, shards, terms, CPU))
        except BaseException:
            for param, gradient in zip(reducer.params, gradients, strict=True):
                param.grad = gradient
            raise
        finally:
            reducer.enabled = self._in_shard = False
            default_generator.set_state(state)
        for param, gradient in zip(reducer.params, gradients, strict=True):
            if gradient is not None:
                param.grad = gradient if param.grad is None else add(gradient, param.grad)
        place = count
        for buffer, values in zip(buffers, start, strict=True):
            change = total[place : place + values.size].reshape(values.shape)
            place += values.size
            if change.any():
                whole = is_floating(buffer.dtype)
                _store(buffer, values + (change if whole else np.rint(change)))
        return _unpacked(total[:count], kinds)

    @staticmethod
    def _changes(
        buffers: Sequence[Tensor], start: Sequence[np.ndarray], weight: float
    ) -> np.ndarray:
        """How a shard has changed the buffers, which are put back, times its weight."""
        changes = [np.zeros(0)]
        for buffer, values in zip(buffers, start, strict=True):
            change = np.subtract(host(buffer), values, dtype=float64)
            if change.any():
                _store(buffer, values)
            changes.append(weight * change.reshape(-1))
        return np.concatenate(changes)


def _seed(seed: int, stream: int, shard: int) -> int:
    """Of a shard's generator."""
    text = f"{seed}, {stream}, {shard}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _store(tensor: Tensor, values: np.ndarray) -> None:
    """tensor ← values of the host."""
    array = np.asarray(values, tensor.dtype, order="C")
    with no_grad():
        tensor.detach().copy_(Tensor(placed(array, tensor.device), tensor.device))


def _tensors(value: Any) -> Iterator[Tensor]:
    """Those in an output, through lists, tuples, dicts and objects with attributes."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, set)):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif hasattr(value, "__dict__") and not isinstance(value, Module):
        yield from _tensors(vars(value))


def _length(batch: Any) -> int:
    """How many samples a batch has: of its first tensor or list."""
    if isinstance(batch, Tensor) and batch.ndim:
        return batch.shape[0]
    if isinstance(batch, list):
        return len(batch)
    if isinstance(batch, (tuple, dict)):
        lengths = {_length(each) for each in (batch.values() if isinstance(batch, dict) else batch)}
        if len(lengths) == 1:
            return lengths.pop()
        raise ShapeError(
            f"backward_shards: all of batch must have equally many samples, got {sorted(lengths)}"
        )
    raise TypeError(
        f"backward_shards: batch must be tensors, lists, tuples and dicts of samples, got "
        f"{type(batch).__name__}"
    )


def _cut(batch: Any, start: int, stop: int) -> Any:
    if isinstance(batch, (Tensor, list)):
        return batch[start:stop]
    if isinstance(batch, dict):
        return {key: _cut(each, start, stop) for key, each in batch.items()}
    return tuple([_cut(each, start, stop) for each in batch])


def _loss_and_others(result: Any) -> tuple[Tensor, list[Tensor]]:
    loss, *others = result if isinstance(result, tuple) else (result,)
    for name, each in (("the loss", loss), *(("another result", each) for each in others)):
        if not isinstance(each, Tensor):
            raise TypeError(f"backward_shards: {name} must be a Tensor, got {type(each).__name__}")
    if loss.numel() != 1:
        raise ShapeError(
            f"backward_shards: the loss must have one element, got shape {tuple(loss.shape)}"
        )
    return loss, others


def _packed(loss: Tensor, others: list[Tensor], weight: float) -> tuple[np.ndarray, Any]:
    """The loss times its weight and the others as one vector; their shapes and dtypes."""
    tensors = [loss, *others]
    parts = [np.asarray(host(tensor), float64).reshape(-1) for tensor in tensors]
    kinds = [(tuple(tensor.shape), tensor.dtype) for tensor in tensors]
    return np.concatenate([parts[0] * weight, *parts[1:]]), kinds


def _unpacked(values: np.ndarray, kinds: Any) -> Any:
    """The sums as tensors: one, or a tuple."""
    found, start = [], 0
    for shape, dtype in kinds:
        stop = start + math.prod(shape)
        found.append(Tensor(values[start:stop].reshape(shape).astype(dtype), CPU))
        start = stop
    return found[0] if len(found) == 1 else tuple(found)


def _described(row: Any) -> str:
    kind, name, shape, dtype, device, requires_grad, _ = row
    grad = "" if kind == "buffer" or requires_grad else ", frozen"
    return f"{kind} {name!r} of shape {shape}, {dtype}, on {device}{grad}"
