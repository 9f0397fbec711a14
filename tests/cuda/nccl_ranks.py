"""Two emulated GPUs, one a process, and a stand-in for NCCL that moves their memory by MPI."""

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

import minigrad as mg
import minigrad.distributed as dist
import minigrad.nn as nn
from minigrad.distributed import group as groups
from minigrad.distributed.nccl import NCCLTransport
from minigrad.runtime.cuda.driver import driver
from minigrad.testing import ptx

ptx.install()
DTYPES = {0: np.int8, 1: np.uint8, 2: np.int32, 4: np.int64, 7: np.float32, 8: np.float64}
OPS = {0: MPI.SUM, 1: MPI.PROD, 2: MPI.MAX, 3: MPI.MIN}


class Library:
    """nccl4py's bindings: the same names and arguments. calls: what was called."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.group: list[Any] | None = None

    def get_unique_id(self) -> bytes:
        return bytes(range(128))

    def comm_init_rank_scalable(
        self, nranks: int, myrank: int, n_id: int, comm_ids: bytearray, config: int
    ) -> Any:
        assert bytes(comm_ids) == bytes(range(128))
        assert (n_id, config) == (1, 0)
        comm = MPI.COMM_WORLD.Dup()
        assert (comm.size, comm.rank) == (nranks, myrank)
        return comm

    def comm_split(self, comm: Any, color: int, key: int, config: int) -> Any:
        return comm.Split(MPI.UNDEFINED if color == -1 else color, key)

    def comm_destroy(self, comm: Any) -> None:
        comm.Free()

    def _read(self, pointer: int, count: int, datatype: int, stream: int) -> np.ndarray:
        assert stream == driver().stream
        out = np.empty(count, DTYPES[datatype])
        driver().download(out.ctypes.data, pointer, out.nbytes)
        driver().synchronize()
        return out

    def _write(self, pointer: int, values: np.ndarray) -> None:
        driver().upload(pointer, values.ctypes.data, values.nbytes)
        driver().synchronize()

    def all_reduce(
        self, s: int, r: int, count: int, kind: int, op: int, comm: Any, stream: int
    ) -> None:
        self.calls.append("all_reduce")
        values = self._read(s, count, kind, stream)
        comm.Allreduce(MPI.IN_PLACE, values, OPS[op])
        self._write(r, values)

    def reduce(
        self, s: int, r: int, count: int, kind: int, op: int, root: int, comm: Any, stream: int
    ) -> None:
        self.calls.append("reduce")
        values = self._read(s, count, kind, stream)
        out = np.empty_like(values)
        comm.Reduce(values, out, OPS[op], root)
        if comm.rank == root:
            self._write(r, out)

    def broadcast(
        self, s: int, r: int, count: int, kind: int, root: int, comm: Any, stream: int
    ) -> None:
        self.calls.append("broadcast")
        values = self._read(s, count, kind, stream)
        comm.Bcast(values, root)
        self._write(r, values)

    def all_gather(self, s: int, r: int, count: int, kind: int, comm: Any, stream: int) -> None:
        self.calls.append("all_gather")
        out = np.empty(count * comm.size, DTYPES[kind])
        comm.Allgather(self._read(s, count, kind, stream), out)
        self._write(r, out)

    def reduce_scatter(
        self, s: int, r: int, count: int, kind: int, op: int, comm: Any, stream: int
    ) -> None:
        self.calls.append("reduce_scatter")
        out = np.empty(count, DTYPES[kind])
        comm.Reduce_scatter_block(self._read(s, count * comm.size, kind, stream), out, OPS[op])
        self._write(r, out)

    def gather(
        self, s: int, r: int, count: int, kind: int, root: int, comm: Any, stream: int
    ) -> None:
        self.calls.append("gather")
        out = np.empty(count * comm.size, DTYPES[kind])
        comm.Gather(self._read(s, count, kind, stream), out, root)
        if comm.rank == root:
            self._write(r, out)

    def scatter(
        self, s: int, r: int, count: int, kind: int, root: int, comm: Any, stream: int
    ) -> None:
        self.calls.append("scatter")
        out = np.empty(count, DTYPES[kind])
        source = None
        if comm.rank == root:
            source = self._read(s, count * comm.size, kind, stream)
        comm.Scatter(source, out, root)
        self._write(r, out)

    # Messages of a group begin together.

    def group_start(self) -> None:
        self.group = []

    def group_end(self) -> None:
        requests, self.group = self.group or [], None
        for request, pointer, values in requests:
            request.Wait()
            if pointer:
                self._write(pointer, values)

    def send(self, s: int, count: int, kind: int, peer: int, comm: Any, stream: int) -> None:
        self.calls.append("send")
        values = self._read(s, count, kind, stream)
        self._put(comm.Isend(values, peer), 0, values)

    def recv(self, r: int, count: int, kind: int, peer: int, comm: Any, stream: int) -> None:
        values = np.empty(count, DTYPES[kind])
        self._put(comm.Irecv(values, peer), r, values)

    def _put(self, request: Any, pointer: int, values: np.ndarray) -> None:
        alone = self.group is None
        self.group = self.group or []
        self.group.append((request, pointer, values))
        if alone:
            self.group_end()


library = Library()
join = NCCLTransport.join
NCCLTransport.join = lambda control, timeout: join(control, timeout, library)  # type: ignore
dist.init_process_group("nccl")
rank, W = dist.get_rank(), dist.get_world_size()
assert dist.get_backend() == "nccl"
assert groups.get_group("test").device is not None


def on_gpu(values: Any, dtype: Any = mg.float32) -> mg.Tensor:
    return mg.tensor(values, dtype=dtype, device="cuda")


tensor = on_gpu([[1.0, 2.0], [3.0, 4.0]]) * (rank + 1)
dist.all_reduce(tensor)
assert tensor.tolist() == [[3, 6], [9, 12]]
tensor = on_gpu([1, 5 - rank], mg.int64)
dist.all_reduce(tensor, dist.ReduceOp.MIN)
assert tensor.tolist() == [1, 4]
tensor = on_gpu([1.0, 2.0]) + rank
dist.reduce(tensor, 1)
assert tensor.tolist() == [[1, 2], [3, 5]][rank]
tensor = on_gpu([[1.0, 2.0]]).T + rank
dist.broadcast(tensor, 1)
assert tensor.tolist() == [[2], [3]]
parts = [mg.zeros(2, device="cuda") for _ in range(W)]
dist.all_gather(parts, on_gpu([rank, 7]))
assert [part.tolist() for part in parts] == [[0, 7], [1, 7]]
out = mg.zeros(2, device="cuda")
dist.reduce_scatter_tensor(out, on_gpu([1, 2, 3, 4]) + rank)
assert out.tolist() == [[3, 5], [7, 9]][rank]
dist.gather(on_gpu([rank, 7]), parts if rank == 0 else None)
assert [part.tolist() for part in parts] == [[0, 7], [1, 7]]
dist.scatter(out, [on_gpu([1, 2]), on_gpu([3, 4])] if rank == 0 else None)
assert out.tolist() == [[1, 2], [3, 4]][rank]
out = mg.zeros(3, device="cuda")
dist.all_to_all_single(
    out, on_gpu([1, 2, 3]) + 10 * rank, [[1, 2], [2, 1]][rank], [[1, 2], [2, 1]][rank]
)
assert out.tolist() == [[1, 11, 12], [2, 3, 13]][rank]
if rank == 0:
    dist.send(on_gpu([4.0, 5.0]), 1)
else:
    out = mg.zeros(2, device="cuda")
    dist.recv(out, 0)
    assert out.tolist() == [4, 5]
dist.barrier()
with pytest.raises(mg.DTypeError, match="nccl: all_reduce of int16 by sum"):
    dist.all_reduce(on_gpu([1], mg.int16))
alone = dist.new_group([1])
if rank:
    tensor = on_gpu([2.0])
    dist.all_reduce(tensor, group=alone)
    assert tensor.tolist() == [2]

for shards in (None, 4):
    mg.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Linear(3, 2).cuda(), shards=shards)
    whole = nn.Linear(3, 2)
    whole.load_state_dict(model.module.cpu().state_dict())
    model.module.cuda()
    x = mg.tensor(np.random.default_rng(0).standard_normal((8, 3)), dtype=mg.float32)
    mine = x[4 * rank : 4 * rank + 4].cuda()
    for _ in range(2):
        model.zero_grad()
        model.backward_shards(lambda part: model(part).square().mean(), mine)  # noqa: B023
    whole(x).square().mean().backward()
    assert model.module.weight.grad.device.type == "cuda"
    np.testing.assert_allclose(
        model.module.weight.grad.cpu().numpy(), whole.weight.grad.numpy(), rtol=1e-5
    )
used = {"all_reduce", "reduce", "broadcast", "all_gather", "reduce_scatter", "gather", "scatter"}
assert used | {"send"} == set(library.calls)
dist.destroy_process_group()
