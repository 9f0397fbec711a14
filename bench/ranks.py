"""What each process does that `bench.distributed` starts by mpiexec, on one thread.

The argument is JSON: {"out": FILE, "jobs": [[network, images of each rank, variant, seconds], …],
"messages": [bytes, …]}. Rank 0 writes to FILE what it measured:

    messages    [bytes, seconds of an all-reduce of so many]
    adding      seconds to add a byte to another, in float32
    jobs        a dict each: losses of the first steps, seconds of steps with the exchange of
                gradients and without ("no_sync"), and of the parts of one step (see `timeline`)
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import distributed, nn

from .engines import Minigrad
from .training import BATCHES, NETWORKS, batches

CHECKED_STEPS = 3
FEWEST = 5
SYNC, SHARDS = "SyncBatchNorm", "shards=8"
_SMALL = 1024  # bytes; shorter messages are agreements, not gradients


class Watched:
    """A transport that notes when its larger all-reduces began and when somebody saw them done."""

    def __init__(self, transport: Any) -> None:
        self._transport, self.events = transport, list[list[float]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def all_reduce(self, array: Any, op: str) -> Any:
        return self._noted(self._transport.all_reduce(array, op), array.nbytes)

    def _noted(self, request: Any, size: int) -> Any:
        if size < _SMALL:
            return request
        event = [size, time.perf_counter(), 0.0]
        self.events.append(event)
        return _Noted(request, event)


class _Noted:
    def __init__(self, request: Any, event: list[float]) -> None:
        self._request, self._event = request, event

    def Test(self) -> bool:
        done = self._request.Test()
        if done and not self._event[2]:
            self._event[2] = time.perf_counter()
        return done


def median_seconds(call: Callable[[], Any], budget: float) -> float:
    """Of calls for about so long, equally many on every rank."""
    call()
    distributed.barrier()
    start = time.perf_counter()
    call()
    slowest = mg.tensor([time.perf_counter() - start], dtype=mg.float64)
    distributed.all_reduce(slowest, distributed.ReduceOp.MAX)
    seconds = []
    for _ in range(max(FEWEST, int(budget / slowest.item()))):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def message(size: int) -> float:
    tensor = mg.zeros(size // 4)
    return median_seconds(lambda: distributed.all_reduce(tensor), 0.2)


def adding() -> float:
    left, right = np.zeros(2**20, np.float32), np.ones(2**20, np.float32)
    return median_seconds(lambda: np.add(left, right, out=left), 0.1) / left.nbytes


class Step:
    """A training step of a network on this rank's part of fixed batches."""

    def __init__(self, name: str, images: int, variant: str) -> None:
        engine, network = Minigrad(), NETWORKS[name]
        mg.manual_seed(0)
        model = network.build(mg)
        if variant == SYNC:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self._shards = 8 if variant == SHARDS else None
        self.model = nn.parallel.DistributedDataParallel(model, shards=self._shards)
        self._loss = lambda x, y: network.loss(engine, self.model(x), y)
        self._optimizer = network.optimizer(engine, model, images)
        rank, size = distributed.get_rank(), distributed.get_world_size()
        mine = slice(rank * images, (rank + 1) * images)
        self._batches = [
            (engine.tensor(x[mine].transpose(0, 3, 1, 2)), engine.tensor(y[mine]))
            for x, y in batches(network, size * images)
        ]
        self._calls = 0
        self.marks: list[float] = []  # of the last step: its start, and the ends of its parts

    def __call__(self, exchange: bool = True) -> mg.Tensor:
        images, labels = self._batches[self._calls % BATCHES]
        self._calls += 1
        self.marks = [time.perf_counter()]
        self._optimizer.zero_grad()
        if self._shards is not None:  # forward and backward shard by shard
            loss = self.model.backward_shards(self._loss, images, labels)
            self._mark()
        else:
            with nullcontext() if exchange else self.model.no_sync():
                loss = self._loss(images, labels)
                self._mark()
                loss.backward()
        self._mark()
        self._optimizer.step()
        self._mark()
        return loss

    def _mark(self) -> None:
        self.marks.append(time.perf_counter())


def timeline(step: Step, watched: Watched) -> dict[str, Any]:
    """Of the middle one of some steps, in seconds from its start: when forward, backward and
    optimizer ended, and [bytes, start, end] of each exchange."""
    found = []
    for _ in range(FEWEST):
        watched.events.clear()
        step()
        start, *ends = step.marks
        exchanges = [[size, begin - start, end - start] for size, begin, end in watched.events]
        found.append({"ends": [end - start for end in ends], "exchanges": exchanges})
    return sorted(found, key=lambda each: each["ends"][-1])[len(found) // 2]


def job(name: str, images: int, variant: str, budget: float, watched: Watched) -> dict[str, Any]:
    step = Step(name, images, variant)
    losses = []
    for _ in range(CHECKED_STEPS):
        loss = step().detach().clone()
        distributed.all_reduce(loss, distributed.ReduceOp.AVG)
        losses.append(loss.item())
    # In turns, so that what else the machine does meets both.
    rounds = []
    for _ in range(3):
        row = [median_seconds(step, budget / 6)]
        if variant != SHARDS:  # whose gradients are summed in any case
            row.append(median_seconds(lambda: step(False), budget / 6))
        rounds.append(row)
    seconds = [statistics.median(column) for column in zip(*rounds, strict=True)]
    distributed.barrier()
    return {
        "network": name, "images": images, "variant": variant, "losses": losses,
        "step": seconds[0], "compute": seconds[-1], **timeline(step, watched),
    }  # fmt: skip


def main() -> None:
    settings = json.loads(sys.argv[1])
    mg.set_num_threads(1)
    distributed.init_process_group("mpi")
    group = distributed.group._world
    watched = group.control = Watched(group.control)
    figures = {
        "ranks": distributed.get_world_size(),
        "messages": [[size, message(size)] for size in settings["messages"]],
        "adding": adding(),
        "jobs": [job(*each, watched) for each in settings["jobs"]],
    }
    if distributed.get_rank() == 0:
        Path(settings["out"]).write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
