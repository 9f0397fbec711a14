"""Worker processes of a DataLoader: batches made beside the training, in the order asked for.

Each worker has a pipe of its own, by which it gets the numbers of its batches in turn, so no lock
is shared that a killed worker could hold. What it makes is pickled; the pickle and its arrays go
through blocks of shared memory that the parent makes, hands out, takes back and removes: whatever
happens to a worker, none is left. A worker ends when its pipe is closed, and ignores Ctrl-C, which
is its parent's to hear. One whose parent is gone ends in the middle of a sample, too.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np

from ..device import CPU, manual_seed
from ..engine import Tensor
from ..layout import order_of
from ..ops.transfer import host
from ..runtime import memory

_ALIGNMENT = 64
_PATIENCE = 0.5  # seconds that workers have to end by themselves
_WATCH = 1.0  # seconds after which a worker looks whether its parent is there

# The parent's ends of all workers' pipes: a fork's copies would keep them open.
_pipes: weakref.WeakSet[Any] = weakref.WeakSet()
_starting = threading.Lock()  # and so would copies of a worker's end, made at the same time


@dataclass(frozen=True)
class WorkerInfo:
    """What `get_worker_info` tells in a worker."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """In a worker its number, how many there are, its seed and its copy of the data set; None in
    the main process."""
    return _info


class _RemoteError(Exception):
    """The traceback of an error in a worker, as the error's cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


# Batches as bytes -----------------------------------------------------------------------------


def _tensor(stored: np.ndarray, order: tuple[int, ...], requires_grad: bool) -> Tensor:
    return Tensor(stored.transpose(np.argsort(order)), CPU, requires_grad=requires_grad)


class _Pickler(pickle.Pickler):
    """Tensors as arrays in the order in which they lie in memory, which are not copied."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is Tensor:
            array = host(value)
            order = order_of(array)
            return _tensor, (array.transpose(order), order, value.requires_grad)
        return NotImplemented


def _pickled(value: Any) -> list[Any]:
    """The pickle, and the memory of the arrays in it."""
    buffers: list[pickle.PickleBuffer] = []
    file = BytesIO()
    _Pickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
    return [file.getbuffer(), *(buffer.raw() for buffer in buffers)]


def _offsets(lengths: Iterable[int]) -> list[int]:
    """Where each part begins, and where the last one ends."""
    places = [0]
    for length in lengths:
        places.append(places[-1] + -(-length // _ALIGNMENT) * _ALIGNMENT)
    return places


def _view(block: SharedMemory, length: int, place: int) -> np.ndarray:
    return np.ndarray((length,), np.uint8, block.buf, place)


def _unpickled(block: SharedMemory, count: int) -> Any:
    """A copy of what lies in the block behind its lengths, so that the worker may have it back."""
    lengths = _view(block, 8 * count, 0).view(np.int64).tolist()
    _, *places = _offsets([8 * count, *lengths])
    parts: list[Any] = []
    for place, length in zip(places, lengths, strict=False):
        part = memory.empty((length,), np.dtype(np.uint8))
        part[:] = _view(block, length, place)
        parts.append(part)
    return pickle.loads(parts[0], buffers=parts[1:])


# In the worker ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """What all workers do.

    fetch(dataset, numbers): the batch of these samples. batches(dataset): an iterator over those
    of an IterableDataset. init(number): called once in each worker.
    """

    dataset: Any
    fetch: Callable[[Any, list[int]], Any]
    batches: Callable[[Any], Iterator[Any]] | None
    init: Callable[[int], None] | None


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    manual_seed(seed)


def _leave_with_parent() -> None:
    """Without it nobody wants the samples, one of which may never be done."""
    parent = os.getppid()
    sentinel = multiprocessing.parent_process().sentinel  # type: ignore[union-attr]
    # Siblings may hold a fork's copy of the sentinel; then the parent's number tells.
    while not wait([sentinel], _WATCH) and os.getppid() == parent:
        pass
    os._exit(1)


def _work(number: int, count: int, job: Job, pipe: Any) -> None:
    """A worker's life: messages ("task", epoch, seed, numbers, freed block), ("block", name)."""
    global _info
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a script's handler is for the parent
    for other in list(_pipes):
        other.close()
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with suppress(ImportError):
        from ..runtime.threads import set_num_threads

        set_num_threads(1)
    waiting: deque[Any] = deque()
    blocks: dict[str, SharedMemory] = {}
    free: list[str] = []
    current, stream = None, iter(())

    def receive(kind: str) -> Any:
        """The next message of that kind; others wait."""
        for i, message in enumerate(waiting):
            if message[0] == kind:
                del waiting[i]
                return message
        while (message := pipe.recv())[0] != kind:
            waiting.append(message)
        return message

    def block_of(size: int) -> SharedMemory:
        for name in free:
            if blocks[name].size >= size:
                free.remove(name)
                return blocks[name]
        pipe.send(("room", size, list(free)))  # with what is too small, to be removed
        for name in free:
            blocks.pop(name).close()
        free.clear()
        name = receive("block")[1]
        blocks[name] = SharedMemory(name)
        return blocks[name]

    try:
        while True:
            _, epoch, seed, numbers, freed = receive("task")
            free += freed
            # Errors of the pipe are met outside this: the data set's may be of the same types.
            try:
                if current != epoch:
                    _info = WorkerInfo(number, count, seed + number, job.dataset)
                    _seed_everything(seed + number)
                    if job.init is not None and current is None:
                        job.init(number)
                    current = epoch
                    stream = iter(()) if job.batches is None else job.batches(job.dataset)
                if job.batches is None:
                    made = job.fetch(job.dataset, numbers)
                else:
                    made = next(stream, _END)
                stored = [] if made is _END else _pickled(made)
            except BaseException as error:
                pipe.send(("error", *_portable(error, number)))
                if not isinstance(error, Exception):
                    return
                continue
            if made is _END:
                pipe.send(("end",))
                continue
            # No long message: the parent may be sending one, too, and neither would read.
            lengths = np.array([part.nbytes for part in stored], np.int64)
            parts = [np.frombuffer(part, np.uint8) for part in (lengths, *stored)]
            places = _offsets(part.nbytes for part in parts)
            block = block_of(places[-1])
            for part, place in zip(parts, places, strict=False):
                _view(block, part.nbytes, place)[:] = part
            pipe.send(("batch", block.name, len(lengths)))
    except (EOFError, OSError):
        pass  # the parent has closed the pipe, or is gone
    finally:
        for block in blocks.values():
            with suppress(BufferError):
                block.close()
        for output in (sys.stdout, sys.stderr):
            with suppress(Exception):  # it may be closed, or None
                output.flush()
        os._exit(0)  # what the parent has registered to do at its exit is not the worker's to do


_END = object()


def _portable(error: BaseException, number: int) -> tuple[bytes, str]:
    text = f"in worker {number} of a DataLoader:\n{''.join(traceback.format_exception(error))}"
    if isinstance(error, StopIteration):
        error = RuntimeError("DataLoader: a data set raised StopIteration")
    elif not isinstance(error, Exception):  # SystemExit would end the parent without a word
        error = RuntimeError(f"DataLoader: {error!r} ended worker {number}")
    try:
        pickled = pickle.dumps(error)  # without its traceback and causes, of which `text` tells
        pickle.loads(pickled)
    except Exception:
        pickled = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return pickled, text


# In the parent ----------------------------------------------------------------------------------


class _Worker:
    def __init__(self, process: Any, pipe: Any) -> None:
        self.process, self.pipe = process, pipe
        self.blocks: dict[str, SharedMemory] = {}
        self.freed: list[str] = []
        self.asked = 0  # tasks without an answer yet


class Workers:
    """Processes that make batches; `run` gives them in order."""

    def __init__(
        self, job: Job, count: int, ahead: int, timeout: float, context: Any, persistent: bool
    ) -> None:
        if isinstance(context, str) or context is None:
            # As torch's, workers are forked where that is possible: scripts need no main guard, and
            # data sets need not be pickled.
            methods = multiprocessing.get_all_start_methods()
            context = multiprocessing.get_context(
                context or ("fork" if "fork" in methods and sys.platform != "darwin" else "spawn")
            )
        if multiprocessing.current_process().daemon:
            raise RuntimeError(
                "DataLoader: a worker, or another daemonic process, cannot have workers of its "
                "own; give the loader in it num_workers=0"
            )
        # One tracker for all: a worker with one of its own would remove the parent's blocks.
        resource_tracker.ensure_running()
        self._ahead, self._timeout, self._persistent = ahead, timeout or None, persistent
        self._epoch = 0
        self._workers: list[_Worker] = []
        self.close = weakref.finalize(self, _shut_down, self._workers, os.getpid())
        for number in range(count):
            with _starting:
                mine, theirs = context.Pipe()
                _pipes.add(mine)
                process = context.Process(
                    target=_work, args=(number, count, job, theirs), daemon=True,
                    name=f"minigrad-worker-{number}",
                )  # fmt: skip
                try:
                    process.start()
                except BaseException:
                    self.close()
                    raise
                theirs.close()
            self._workers.append(_Worker(process, mine))

    def run(self, tasks: Iterable[list[int] | None], seed: int, in_order: bool) -> Iterator[Any]:
        """The batches of one epoch: of each task, or (None) of streams until all have ended. It is
        the last one, unless the workers are persistent."""
        try:
            yield from self._run(tasks, seed, in_order)
        finally:
            if not self._persistent:
                self.close()

    def _run(self, tasks: Iterable[list[int] | None], seed: int, in_order: bool) -> Iterator[Any]:
        for worker in self._workers:  # the answers to an epoch that was abandoned
            self._discard(worker)
        self._epoch += 1
        epoch, source = self._epoch, iter(tasks)
        open_workers = list(self._workers)

        def ask(worker: _Worker) -> None:
            numbers = next(source, _END)
            if numbers is not _END:
                self._send(worker, ("task", epoch, seed, numbers, worker.freed))
                worker.freed = []
                worker.asked += 1

        for _ in range(self._ahead):
            for worker in open_workers:
                ask(worker)
        turn = 0
        while any(worker.asked for worker in open_workers):
            if in_order:
                worker = open_workers[turn % len(open_workers)]
                if not worker.asked:
                    turn += 1
                    continue
            else:
                worker = self._ready([worker for worker in open_workers if worker.asked])
            answer = self._receive(worker)
            if answer[0] == "end":
                self._discard(worker)
                open_workers.remove(worker)  # the next one has this turn
                continue
            turn += 1
            _, name, count = answer
            batch = _unpickled(worker.blocks[name], count)
            worker.freed.append(name)
            ask(worker)
            yield batch
            if self._epoch != epoch:
                raise RuntimeError(
                    "DataLoader: persistent_workers serve one pass at a time; this one ended when "
                    "another began"
                )

    def _send(self, worker: _Worker, message: Any) -> None:
        try:
            worker.pipe.send(message)
        except OSError:
            raise self._dead(worker) from None

    def _ready(self, workers: list[_Worker]) -> _Worker:
        """The first that has an answer, or has died."""
        found = wait([worker.pipe for worker in workers], self._timeout)
        if not found:
            self.close()
            raise RuntimeError(
                f"DataLoader: no batch came within timeout={self._timeout:g} seconds"
            )
        return next(worker for worker in workers if worker.pipe is found[0])

    def _receive(self, worker: _Worker) -> Any:
        """The answer to a task: ("batch", block, arrays) or ("end",); errors are raised."""
        while True:
            self._ready([worker])
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                raise self._dead(worker) from None
            if message[0] != "room":
                break
            _, size, small = message
            for name in small:
                _remove(worker.blocks.pop(name))
            block = SharedMemory(create=True, size=size + size // 4)
            worker.blocks[block.name] = block
            self._fill(block)
            self._send(worker, ("block", block.name))
        worker.asked -= 1
        if message[0] == "error":
            raise pickle.loads(message[1]) from _RemoteError(message[2])
        return message

    def _fill(self, block: SharedMemory) -> None:
        """Take the block's memory now; where there is none, whoever wrote to it would be killed."""
        path = Path("/dev/shm", block.name)
        if not path.is_file():  # no Linux
            return
        with open(path, "rb+") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, block.size)
            except OSError as error:
                self.close()
                raise RuntimeError(
                    f"DataLoader: no shared memory is left for a batch of {block.size:,} bytes "
                    f"({error}); give /dev/shm more (docker run --shm-size), or take smaller "
                    "batches, fewer workers or num_workers=0"
                ) from None

    def _discard(self, worker: _Worker) -> None:
        """Take the answers that are under way, and want none of them."""
        while worker.asked:
            try:
                answer = self._receive(worker)
            except Exception:
                if not self.close.alive:  # it was no error of the data set
                    raise
                continue
            if answer[0] == "batch":
                worker.freed.append(answer[1])

    def _dead(self, worker: _Worker) -> RuntimeError:
        worker.process.join(_PATIENCE)
        number, code = self._workers.index(worker), worker.process.exitcode
        how = f"was killed by signal {-code}" if code and code < 0 else f"ended with code {code}"
        self.close()
        return RuntimeError(
            f"DataLoader: worker {number} {how}; with num_workers=0 its error, if it has one, is "
            "raised here"
        )


def _remove(block: SharedMemory) -> None:
    with suppress(BufferError):
        block.close()
    with suppress(FileNotFoundError):
        block.unlink()


def _shut_down(workers: list[_Worker], parent: int) -> None:
    if os.getpid() != parent:  # a fork, whose collector has met its copy
        return
    for worker in workers:
        worker.pipe.close()
    for end in (None, BaseProcess.terminate, BaseProcess.kill):
        left = [worker.process for worker in workers if worker.process.exitcode is None]
        if end is not None:
            for process in left:
                end(process)
        limit = time.monotonic() + _PATIENCE
        for process in left:
            process.join(max(0.0, limit - time.monotonic()))
    for worker in workers:
        for block in worker.blocks.values():
            _remove(block)
    workers.clear()
