"""What ranks do wrong: one clear error on every rank, and the next call works."""

from collections.abc import Callable
from typing import Any

import pytest

import minigrad as mg
import minigrad.distributed as dist
import minigrad.nn as nn
from minigrad.nn.parallel import DistributedDataParallel


def refuses(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(Exception, match=message):
        call()
    if dist.is_initialized():
        tensor = mg.ones(2)
        dist.all_reduce(tensor)
        assert tensor.tolist() == [W, W]


W = 2
ones = mg.ones(2)
refuses("all_reduce: there is no process group; call", lambda: dist.all_reduce(ones))
refuses("there is no process group", lambda: DistributedDataParallel(nn.Linear(1, 1)))
refuses(
    "backend must be 'mpi', 'nccl' or None, got 'gloo'", lambda: dist.init_process_group("gloo")
)
refuses("world_size is 2, got 3", lambda: dist.init_process_group(world_size=3))
dist.init_process_group()
rank = dist.get_rank()
refuses("the process group exists already", dist.init_process_group)

shape = r"rank 0: all_reduce\(shape \(2,\), float32, on cpu, sum\); rank 1: all_reduce\(shape \(3,"
refuses(shape, lambda: dist.all_reduce(mg.ones(2 + rank)))
kinds = mg.float32, mg.int64
refuses("rank 1: all_reduce.*int64", lambda: dist.all_reduce(mg.ones(2, dtype=kinds[rank])))
devices = "cpu", "reference"
refuses("on reference", lambda: dist.all_reduce(mg.ones(2, device=devices[rank])))
ops = dist.ReduceOp.SUM, dist.ReduceOp.MAX
refuses("sum.*max", lambda: dist.all_reduce(ones, ops[rank]))
refuses("src=0.*src=1", lambda: dist.broadcast(ones, rank))
refuses(
    r"rank 0: barrier\(\); rank 1: all_reduce" if rank else r"rank 0: barrier\(\)",
    lambda: dist.all_reduce(ones) if rank else dist.barrier(),
)
# One rank's own mistake is shown on the others, too.
refuses("tensor must be a Tensor, got list", lambda: dist.all_reduce([1] if rank else ones))
refuses(r"src must be one of the ranks \[0, 1\], got 2", lambda: dist.broadcast(ones, 1 + rank))
refuses("must be a list of 2 tensors", lambda: dist.all_gather([ones] * (1 + rank), ones))
refuses(
    "AVG needs a floating", lambda: dist.all_reduce(mg.ones(2, dtype=mg.int64), dist.ReduceOp.AVG)
)
refuses("dst=. is this rank itself", lambda: dist.send(ones, rank))
refuses(
    r"output_split_sizes must be 2 sizes|raised on rank 1",
    lambda: dist.all_to_all_single(ones, ones, [1, 1 + rank], [1, 1]),
)
refuses(
    r"has \[2, 0\] elements|raised on rank",
    lambda: dist.all_to_all_single(ones, ones, [2, 0], [2, 0]),
)
refuses("ranks must be different ones", lambda: dist.new_group([0, 2]))

widths = 4, 5
refuses(
    r"the models differ: rank 1 has parameter 'weight' of shape \(5, 3\).*rank 0 parameter",
    lambda: DistributedDataParallel(nn.Linear(3, widths[rank])),
)
refuses(
    "rank 1 has a model of 2 parameters and buffers, rank 0 one of 1",
    lambda: DistributedDataParallel(nn.Linear(3, 3, bias=rank == 1)),
)
refuses("no parameter of the module", lambda: DistributedDataParallel(nn.ReLU()))
refuses("SyncBatchNorm", lambda: DistributedDataParallel(nn.SyncBatchNorm(3), shards=2))


class Switch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, input: mg.Tensor, both: bool = True) -> mg.Tensor:
        out = self.one(input)
        return self.two(out) if both else out


model = DistributedDataParallel(Switch())
# Rank 0 hears of it in its backward pass.
refuses(
    "does not depend on two.weight, two.bias; use find_unused",
    lambda: model(mg.ones(2, 3), rank == 0).sum().backward(),
)
# One rank has a batch more than the other.
refuses(
    r"rank 0: DistributedDataParallel.forward\(\); rank 1: barrier\(\)",
    lambda: dist.barrier() if rank else model(mg.ones(2, 3)).sum().backward(),
)
shards = DistributedDataParallel(nn.Linear(3, 3), shards=4)
refuses("with shards, a training step is", lambda: shards(mg.ones(2, 3)))


def step(count: int) -> None:
    shards.backward_shards(lambda x: shards(x).sum(), mg.ones(count, 3))


mg.manual_seed(rank)
refuses("seed and stream", lambda: step(4))
mg.manual_seed(0)
refuses(r"6 samples in 4 shards are \[3, 3\].*have \[2, 4\]", lambda: step(2 + 2 * rank))
step(4)
model(mg.ones(2, 3)).sum().backward()
