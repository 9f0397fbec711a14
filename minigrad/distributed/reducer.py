"""Reducer: gradients, in buckets, from all ranks; while the backward pass still computes others.

A hook on every parameter puts its gradient into a bucket when it is complete. A full bucket is sent
at once (non-blocking), in the same order on all ranks, and every further gradient that arrives asks
MPI to go on with what is under way: MPI moves data only while it is called, and a thread that did
nothing else would take the core from the computation. Source: Li et al. 2020, "PyTorch
Distributed: experiences on accelerating data parallel training".
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..device import CPU, Device
from ..engine import Tensor
from ..engine.backward import register_post_accumulate_grad_hook
from ..errors import GraphError
from ..layout import order_of
from ..ops.transfer import converted, is_cuda
from ..runtime.allocation import allocate
from .group import ProcessGroup
from .mpi import Request, Transport
from .tree import Terms, TreeSum, tree_sums

# So many buckets at least, if that leaves each so many bytes: with one there is no overlap.
_BUCKETS, _SMALLEST = 4, 2**18


class _Bucket:
    """Gradients of neighbouring arrival, of one dtype and device, as one vector."""

    def __init__(self, indices: list[int], params: Sequence[Tensor]) -> None:
        self.indices = indices
        first = params[indices[0]]
        self.dtype, self.device = first.dtype, first.device
        self._layouts: dict[int, tuple[int, int, tuple[int, ...], tuple[int, ...]]] = {}
        start = 0
        for index in indices:
            array = params[index].array
            order = order_of(array)
            stored = tuple([array.shape[axis] for axis in order])
            inverse = tuple([order.index(axis) for axis in range(len(order))])
            self._layouts[index] = start, start + array.size, stored, inverse
            start += array.size
        self.length = start
        self.vector: Any = None  # of this step
        self.waiting = set(indices)
        self.terms: Terms | None = None
        self.request: Request | None = None
        self.sum: TreeSum | None = None

    def place(self, index: int, vector: Any = None) -> Any:
        """Where a gradient lies, with the shape and memory order of its parameter."""
        start, stop, stored, inverse = self._layouts[index]
        whole = self.vector if vector is None else vector
        return whole[start:stop].reshape(stored).transpose(inverse)

    def fill(self, index: int, grad: Tensor | None) -> None:
        if self.vector is None:
            self.vector = allocate((self.length,), self.dtype, self.device)
        launch = kernels.get(self.device).elementwise
        if grad is not None:
            launch.copy_strided(self.place(index), grad.array)
        else:
            start, stop = self._layouts[index][:2]
            launch.fill(self.vector[start:stop], 0)
        self.waiting.discard(index)


class Reducer:
    """Of parameters that have hooks from now on. shards: None, or how many terms each sum has."""

    def __init__(
        self,
        group: ProcessGroup,
        params: Sequence[Tensor],
        bucket_bytes: int | None,
        shards: int | None = None,
    ) -> None:
        self.group, self.params, self.shards = group, list(params), shards
        self._bytes = bucket_bytes
        self.enabled = True
        self.on_launch: Callable[[], None] = lambda: None  # before a backward pass's first bucket
        self.on_finish: Callable[[], None] = lambda: None
        self.skipped: set[int] = set()  # indices of parameters that get no gradient in this pass
        self.may_skip = False
        self._arrived: list[int] = []
        self._rebuilt = False
        self._build(list(reversed(range(len(self.params)))))
        for index, param in enumerate(self.params):
            # The hooks of a module that is gone do nothing: they hold no reference to it.
            register_post_accumulate_grad_hook(param, self._hook(index))

    def _hook(self, index: int) -> Callable[[Tensor], None]:
        reference = weakref.ref(self)

        def arrived(param: Tensor) -> None:
            reducer = reference()
            if reducer is not None and reducer.enabled:
                reducer.arrive(index, param)

        return arrived

    def _build(self, order: Iterable[int]) -> None:
        """Buckets of gradients in this order."""
        order = list(order)
        total = sum(self.params[index].array.nbytes for index in order)
        limit = min(25 * 2**20, max(total // _BUCKETS, _SMALLEST))
        limit = limit if self._bytes is None else self._bytes
        groups: list[list[int]] = []
        filling: dict[Any, tuple[list[int], int]] = {}  # by dtype and device: a group, its bytes
        for index in order:
            param = self.params[index]
            kind = param.dtype, param.device
            group, size = filling.pop(kind, ([], 0))
            if not group:
                groups.append(group)
            group.append(index)
            size += param.array.nbytes
            if size < limit:
                filling[kind] = group, size
        self.buckets = [_Bucket(indices, self.params) for indices in groups]
        self._bucket_of = {index: b for b in self.buckets for index in b.indices}
        self.reset()

    def reset(self) -> None:
        """Forget a backward pass that came to no end."""
        self._launched = 0
        self.skipped = set()
        self._used = np.zeros(len(self.params), np.uint8)
        self._began = False
        for bucket in self.buckets:
            bucket.waiting = set(bucket.indices)
            bucket.vector = bucket.terms = bucket.request = bucket.sum = None

    # A backward pass ------------------------------------------------------------------------------

    @property
    def unfinished(self) -> list[int]:
        """Parameters without a gradient, if others have got theirs and nothing was averaged."""
        if not self._began:
            return []
        return sorted(index for bucket in self.buckets for index in bucket.waiting)

    def _transport(self, device: Device) -> Transport | None:
        """None: through the host."""
        if not is_cuda(device):
            return self.group.control
        return self.group.device

    def arrive(self, index: int, param: Tensor) -> None:
        """A gradient is complete."""
        if not self._rebuilt:
            self._arrived.append(index)
        if not self._began:
            self._begin()
        bucket = self._bucket_of[index]
        if index not in bucket.waiting:
            raise GraphError(
                f"DistributedDataParallel: parameter {index} got a second gradient before all "
                "others had one; every backward pass must reach all parameters"
            )
        bucket.fill(index, param.grad)
        self._used[index] = 1
        if self.shards is None:
            param.grad = Tensor(bucket.place(index), param.device)
        else:
            param.grad = None
        self._launch_full()

    def _begin(self) -> None:
        self.on_launch()
        self._began = True
        for index in self.skipped:
            self._bucket_of[index].fill(index, None)

    last_shard = True

    def _launch_full(self) -> None:
        for bucket in self.buckets[: self._launched]:
            if bucket.request is not None and not bucket.request.Test():
                break
        while self._launched < len(self.buckets) and self.last_shard:
            bucket = self.buckets[self._launched]
            if bucket.waiting:
                return
            self._launch(bucket)
            self._launched += 1
        if self.shards is None and self._launched == len(self.buckets):
            self._finish()

    def _launch(self, bucket: _Bucket) -> None:
        """Send a full bucket; of shards, when the last one of this rank is there."""
        transport = self._transport(bucket.device)
        if self.shards is not None:
            self._add_term(bucket)
            terms = bucket.terms
            assert terms is not None
            device = bucket.device
            if transport is None:
                transport, device = self.group.control, CPU
                terms.vectors = [
                    converted(vector, bucket.dtype, bucket.device, CPU) for vector in terms.vectors
                ]
            bucket.sum = TreeSum(self.group, transport, self.shards, terms, device)
        elif self.group.size() > 1:
            if transport is not None:
                bucket.request = transport.all_reduce(bucket.vector, "sum")
            else:
                moved = converted(bucket.vector, bucket.dtype, bucket.device, CPU)
                bucket.request = _Moved(self.group.control.all_reduce(moved, "sum"), moved)

    def _finish(self) -> None:
        """All buckets have been sent: wait, and divide by the number of ranks."""
        size = self.group.size()
        try:
            globally_used = self._globally_used()
            for bucket in self.buckets:
                if bucket.request is not None:
                    self.group.wait(bucket.request, "DistributedDataParallel: gradients")
                    if isinstance(bucket.request, _Moved):
                        back = converted(bucket.request.array, bucket.dtype, CPU, bucket.device)
                        kernels.get(bucket.device).elementwise.copy_strided(bucket.vector, back)
                    Tensor(bucket.vector, bucket.device).div_(size)
                for index in bucket.indices:
                    if not self._used[index] and globally_used[index]:
                        # Averaged over all ranks, of which this one gave zeros.
                        param, grad = self.params[index], bucket.place(index)
                        total = Tensor(grad, bucket.device)
                        param.grad = total if param.grad is None else param.grad + total
            self.on_finish()
        finally:
            self.reset()
        self._rebuild()

    def _globally_used(self) -> np.ndarray:
        """Which parameters have a gradient on some rank."""
        used = self._used.copy()
        if self.may_skip or self.shards is not None:
            request = self.group.control.all_reduce(used, "max")
            self.group.wait(request, "DistributedDataParallel: used parameters")
        return used

    def _rebuild(self) -> None:
        """After the first pass: buckets in the order in which rank 0's gradients arrived."""
        if self._rebuilt:
            return
        self._rebuilt = True
        seen = dict.fromkeys(self._arrived)
        rest = [index for index in reversed(range(len(self.params))) if index not in seen]
        order = np.array([*seen, *rest], np.int64)
        request = self.group.control.broadcast(order, 0)
        self.group.wait(request, "DistributedDataParallel: order of gradients")
        self._build(order.tolist())

    # Shards ---------------------------------------------------------------------------------------

    def begin_shards(self) -> None:
        self.reset()
        self._began = True

    def begin_shard(self, node: tuple[int, int], last: bool) -> None:
        """Gradients that arrive from now on belong to this shard."""
        self._node, self.last_shard = node, last
        for bucket in self.buckets:
            bucket.waiting = set(bucket.indices)
            bucket.vector = None

    def _add_term(self, bucket: _Bucket) -> None:
        if bucket.terms is None:
            assert self.shards is not None
            bucket.terms = Terms(self.shards, bucket.device)
        bucket.terms.push(self._node, bucket.vector)

    def end_shard(self) -> None:
        """Parameters without a gradient get zeros."""
        for bucket in self.buckets:
            for index in list(bucket.waiting):
                bucket.fill(index, None)
        if self.last_shard:
            self._launch_full()
        else:
            for bucket in self.buckets:
                self._add_term(bucket)

    def end_shards(self, extra: TreeSum) -> Any:
        """Gradients ← the sums over all shards; the result of another sum that has begun."""
        try:
            used = self._globally_used()
            sums = [bucket.sum for bucket in self.buckets if bucket.sum is not None]
            *_, result = tree_sums([*sums, extra])
            for bucket in self.buckets:
                assert bucket.sum is not None
                whole = bucket.sum.result
                if isinstance(whole, np.ndarray) and is_cuda(bucket.device):
                    whole = converted(whole, bucket.dtype, CPU, bucket.device)
                for index in bucket.indices:
                    if used[index]:
                        grad = Tensor(bucket.place(index, whole), bucket.device)
                        self.params[index].grad = grad
        finally:
            self.last_shard = True
            self.reset()
        self._rebuild()
        return result


class _Moved:
    """The request of a copy in the host's memory."""

    def __init__(self, request: Request, array: np.ndarray) -> None:
        self._request, self.array = request, array

    def Test(self) -> bool:
        return self._request.Test()
