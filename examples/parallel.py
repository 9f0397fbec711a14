"""One run on several processes: what each takes of a batch, and what they say and write together.

`mpiexec -n 4 python examples/train_mnist.py` trains one model on four processes. A batch is cut
into as many parts, each process computes the gradient of its part, and their mean, weighted by the
sizes of the parts, is that of the whole batch: batch size, learning rate and schedule mean what
they mean for one process, and the losses are the same up to rounding. Batch norm takes its
statistics over the whole batch.

With --shards 8 a batch is cut into 8 parts whatever the number of processes, and all sums have one
order: 1, 2, 4 or 8 processes end with the same bits. Batch norm takes its statistics of each part.

Every process draws the whole epoch's order, and of each batch renders its own part, so the data
follows from seed, epoch and sample as it does for one process.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import distributed
from minigrad.data import DistributedSampler


class Ranks:
    """The processes that train together; one, unless a launcher of MPI started several.

    shards: parts of a batch, where they are to be the same for any number of processes.
    """

    def __init__(self, shards: int | None = None) -> None:
        found = distributed.is_initialized()
        if not found:
            distributed.init_process_group("mpi")
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        if not found and self.size == 1:
            distributed.destroy_process_group()  # a single process leaves no trace
        self.shards = shards

    @property
    def alone(self) -> bool:
        """Whether this process takes whole batches."""
        return self.size == 1 and self.shards is None

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def __str__(self) -> str:
        if self.alone:
            return ""
        who = "1 process takes" if self.size == 1 else f"{self.size} processes share"
        cut = f", cut into {self.shards} shards" if self.shards else ""
        return f"{who} each batch{cut}; batch size and learning rate are the whole batch's"

    # What each takes ----------------------------------------------------------------------------

    def part(self, count: int) -> slice:
        """This process's part of a batch of `count` samples, as even as possible. Without shards,
        each takes all of a batch that has fewer samples than there are processes."""
        if self.shards is None and count < self.size:
            return slice(0, count)
        shards = self.shards or self.size
        return slice(*distributed.shard_range(count, shards, self.rank, self.size))

    def batches(self, count: int) -> set[int]:
        """The numbers of the batches that this process evaluates: each belongs to one process."""
        dealt = DistributedSampler(range(count), self.size, self.rank, shuffle=False, pad=False)
        return set(dealt)

    def check(self) -> None:
        if self.shards is not None and self.shards < self.size:
            raise SystemExit(f"--shards {self.shards} is too few for {self.size} processes")

    def use_own_cores(self) -> None:
        """Share the cores of a machine among its processes, unless a number of threads is set."""
        if self.size == 1 or {"MINIGRAD_NUM_THREADS", "OMP_NUM_THREADS"} & set(os.environ):
            return
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        mine = platform.node(), cores
        beside = self.everyones(mine).count(mine)  # all that may use the very same cores
        mg.set_num_threads(max(1, len(cores or range(os.cpu_count() or 1)) // beside))

    # What they agree on -------------------------------------------------------------------------

    def everyones(self, value: Any) -> list[Any]:
        """The value that each process has, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def any(self, flag: bool) -> bool:
        """Whether one of them says so: then all stop at the same step."""
        if self.size == 1:
            return flag
        flags = mg.tensor([int(flag)])
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags.item())

    def added(self, rows: mg.Tensor) -> mg.Tensor:
        """The rows of all, each of which one process filled and the others left 0: so that the sum
        is exact, and the order of whoever adds them up is that of the rows."""
        if self.size > 1:
            distributed.all_reduce(rows)
        return rows

    def wait(self) -> None:
        if self.size > 1:
            distributed.barrier()

    @contextmanager
    def one_after_the_first(self) -> Iterator[None]:
        """The first process goes ahead: it downloads and decodes what the others then find."""
        if not self.first:
            self.wait()
        try:
            yield
        finally:
            if self.first:
                self.wait()

    @contextmanager
    def together(self) -> Iterator[None]:
        """If it ends the program on one process, it ends it on all, and is said once."""
        message = None
        try:
            yield
        except SystemExit as end:
            if self.size == 1:
                raise
            message = str(end.code)
        found = self.everyones(message)
        said = {text: rank for rank, text in reversed(list(enumerate(found))) if text is not None}
        if said:
            if self.first:
                for text, rank in said.items():
                    whose = "" if found.count(text) == self.size else f"rank {rank}: "
                    print(f"{whose}{text}", file=sys.stderr)
            raise SystemExit(1)

    def hush(self) -> None:
        """Only the first process prints."""
        if not self.first:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the process ends

    def one_complains(self) -> AbstractContextManager[Any]:
        """About what is wrong with the command line, which is the same for all."""
        return nullcontext() if self.first else redirect_stderr(StringIO())

    @property
    def no_bar(self) -> bool | None:
        """What tqdm calls `disable`. mpiexec hands on what its processes print, so that what counts
        is whether its own standard error is a terminal."""
        if not self.first:
            return True
        return None if self.size == 1 else not _launcher_has_terminal()


def parallel_step(run: Any, tally: Any) -> Callable[..., None]:
    """A step of training on this process's part of a batch. The tally gets the whole batch's."""
    ranks, loader, optimizer = run.ranks, run.train, run.optimizer
    if not distributed.is_initialized():
        distributed.init_process_group("mpi")
    if ranks.shards is None:
        mg.nn.SyncBatchNorm.convert_sync_batchnorm(run.model)
    model = mg.nn.parallel.DistributedDataParallel(run.model, shards=ranks.shards)

    def step(samples: mg.Tensor, labels: mg.Tensor, bucket: int) -> None:
        def loss_of(samples: mg.Tensor, labels: mg.Tensor) -> tuple[mg.Tensor, ...]:
            logits = model(loader.render(samples, bucket))
            loss = F.cross_entropy(logits, labels, label_smoothing=run.label_smoothing)
            with mg.no_grad():
                correct = (logits.argmax(1) == labels).sum()
            return loss, correct, mg.tensor(len(labels))

        part = ranks.part(len(labels))
        optimizer.zero_grad()
        loss, correct, counted = model.backward_shards(loss_of, samples[part], labels[part])
        optimizer.step()
        copies = counted.item() // len(labels)  # of a batch that each process took whole
        sums = mg.stack([loss.double() * len(labels), correct.double() / copies])
        tally.add_sums(sums.to(loader.device))

    return step


def _launcher_has_terminal() -> bool:
    """Whether one of the processes that started this one writes its errors to a terminal."""
    process = os.getppid()
    try:
        while process > 1:
            if os.readlink(f"/proc/{process}/fd/2").startswith(("/dev/pts/", "/dev/tty")):
                return True
            stat = Path(f"/proc/{process}/stat").read_text()
            process = int(stat.rpartition(")")[2].split()[1])
    except OSError:  # another user's process, or a system without /proc
        pass
    return False
