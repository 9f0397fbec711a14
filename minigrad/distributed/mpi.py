"""MPI: what carries arrays between processes, and what stands in for it where there is one process.

Every call is non-blocking, and `wait` asks whether it is done. So Ctrl-C works, a rank that never
comes is noticed after the timeout, and a waiting process leaves its core to others.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

import numpy as np

from ..device import available_cores
from ..errors import DistributedError

# What launchers set: the number of processes, or only a rank.
_SIZES = "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"
_RANKS = "PMI_RANK", "PMIX_RANK"

# How many times an unfinished call is asked about before the process sleeps in between: a small
# exchange takes 2 µs, and 30 times that if the other rank first has to be woken. Where ranks share
# cores, who waits awake takes the core from the rank that it waits for.
_AWAKE = 2000
_SLEEP = 20e-6


class Request(Protocol):
    def Test(self) -> bool: ...


class Done:
    """A request that nobody waits for."""

    def Test(self) -> bool:
        return True


class Transport(Protocol):
    """Between `size` processes, of which this is number `rank`. Arrays are vectors without gaps, of
    one dtype and, where nothing else is said, one length on all ranks. They must stay as they are
    until the request is done. op: "sum", "product", "min", "max", "band", "bor", "bxor"."""

    rank: int
    size: int

    def barrier(self) -> Request: ...
    def all_reduce(self, array: Any, op: str) -> Request:
        """In place."""

    def reduce(self, array: Any, op: str, root: int) -> Request:
        """In place on the root; others keep theirs."""

    def broadcast(self, array: Any, root: int) -> Request: ...
    def all_gather(self, out: Any, array: Any, counts: Sequence[int]) -> Request:
        """out: all arrays, by rank; counts: how many elements each rank gives."""

    def gather(self, out: Any | None, array: Any, root: int) -> Request: ...
    def scatter(self, array: Any, source: Any | None, root: int) -> Request: ...
    def reduce_scatter(self, out: Any, array: Any, op: str) -> Request:
        """out: this rank's of the `size` parts of the sum."""

    def all_to_all(
        self, out: Any, array: Any, out_counts: Sequence[int], counts: Sequence[int]
    ) -> Request:
        """counts[r] elements of `array` go to rank r, out_counts[r] come from there."""

    def send(self, array: Any, destination: int, tag: int) -> Request: ...
    def receive(self, array: Any, source: int, tag: int) -> Request: ...
    def split(self, ranks: Sequence[int]) -> Transport | None:
        """Of these ranks alone; None on others. All ranks must call it."""

    def free(self) -> None: ...


class Alone:
    """The transport of a single process: everything is its own copy."""

    rank, size, spin = 0, 1, _AWAKE

    def barrier(self) -> Request:
        return Done()

    def all_reduce(self, array: Any, op: str) -> Request:
        return Done()

    def reduce(self, array: Any, op: str, root: int) -> Request:
        return Done()

    def broadcast(self, array: Any, root: int) -> Request:
        return Done()

    def all_gather(self, out: Any, array: Any, counts: Sequence[int] = ()) -> Request:
        out[...] = array
        return Done()

    def gather(self, out: Any, array: Any, root: int) -> Request:
        return self.all_gather(out, array)

    def scatter(self, array: Any, source: Any, root: int) -> Request:
        return self.all_gather(array, source)

    def reduce_scatter(self, out: Any, array: Any, op: str) -> Request:
        return self.all_gather(out, array)

    def all_to_all(
        self, out: Any, array: Any, out_counts: Sequence[int], counts: Sequence[int]
    ) -> Request:
        return self.all_gather(out, array)

    def send(self, array: Any, destination: int, tag: int) -> Request:
        raise DistributedError("send: a single process has nobody to send to")

    def receive(self, array: Any, source: int, tag: int) -> Request:
        raise DistributedError("recv: a single process has nobody to receive from")

    def split(self, ranks: Sequence[int]) -> Alone | None:
        return Alone() if ranks else None

    def free(self) -> None:
        """Nothing is held."""


class MPITransport:
    """Of mpi4py's communicator, for arrays of the host."""

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self.comm, self.rank, self.size = comm, comm.rank, comm.size
        self._ops = {
            "sum": MPI.SUM, "product": MPI.PROD, "min": MPI.MIN, "max": MPI.MAX,
            "band": MPI.BAND, "bor": MPI.BOR, "bxor": MPI.BXOR,
        }  # fmt: skip
        self._in_place = MPI.IN_PLACE
        here = comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.spin = _AWAKE if here.size <= available_cores() else 0
        here.Free()

    def barrier(self) -> Request:
        return self.comm.Ibarrier()

    def all_reduce(self, array: np.ndarray, op: str) -> Request:
        return self.comm.Iallreduce(self._in_place, array, self._ops[op])

    def reduce(self, array: np.ndarray, op: str, root: int) -> Request:
        if self.rank == root:
            return self.comm.Ireduce(self._in_place, array, self._ops[op], root)
        return self.comm.Ireduce(array, None, self._ops[op], root)

    def broadcast(self, array: np.ndarray, root: int) -> Request:
        return self.comm.Ibcast(array, root)

    def all_gather(self, out: np.ndarray, array: np.ndarray, counts: Sequence[int]) -> Request:
        return self.comm.Iallgatherv(array, [out, list(counts)])

    def gather(self, out: np.ndarray | None, array: np.ndarray, root: int) -> Request:
        return self.comm.Igather(array, out, root)

    def scatter(self, array: np.ndarray, source: np.ndarray | None, root: int) -> Request:
        return self.comm.Iscatter(source, array, root)

    def reduce_scatter(self, out: np.ndarray, array: np.ndarray, op: str) -> Request:
        return self.comm.Ireduce_scatter_block(array, out, self._ops[op])

    def all_to_all(
        self, out: np.ndarray, array: np.ndarray, out_counts: Sequence[int], counts: Sequence[int]
    ) -> Request:
        return self.comm.Ialltoallv([array, list(counts)], [out, list(out_counts)])

    def send(self, array: np.ndarray, destination: int, tag: int) -> Request:
        return self.comm.Isend(array, destination, tag)

    def receive(self, array: np.ndarray, source: int, tag: int) -> Request:
        return self.comm.Irecv(array, source, tag)

    def split(self, ranks: Sequence[int]) -> MPITransport | None:
        from mpi4py import MPI

        inside = self.rank in ranks
        color, key = (0, ranks.index(self.rank)) if inside else (MPI.UNDEFINED, 0)
        comm = self.comm.Split(color, key)
        return MPITransport(comm) if inside else None

    def free(self) -> None:
        self.comm.Free()


def wait(request: Request, what: str, timeout: timedelta, spin: int = _AWAKE) -> None:
    """Until the request is done; DistributedError after the timeout."""
    tests = 0
    started = None
    while not request.Test():
        tests += 1
        if tests <= spin:
            continue
        now = time.monotonic()
        started = started or now
        if now - started > timeout.total_seconds():
            raise DistributedError(
                f"{what}: not all ranks took part within {timeout}; one of them is late, waits for "
                "something else, or has ended"
            )
        time.sleep(_SLEEP)


def launched_size() -> int:
    """How many processes the environment speaks of; 0: more than one, but it does not say."""
    sizes = [int(os.environ[name]) for name in _SIZES if os.environ.get(name, "").isdecimal()]
    if sizes:
        return max(sizes)
    if any(name in os.environ for name in _RANKS):
        return 0
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if size.isdecimal() else 1


def connect() -> Transport:
    """Between the processes that a launcher of MPI has started, or the transport of a single one.

    mpi4py is imported in the first case only. DistributedError if it is missing, or belongs to
    another MPI than the launcher, which it shows by seeing one process only.
    """
    expected = launched_size()
    if expected == 1 and "mpi4py.MPI" not in sys.modules:
        return Alone()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise DistributedError(
            "init_process_group: this process was started as one of several, and mpi4py or its MPI "
            f"is missing ({error}); pip install 'minigrad[mpi]'"
        ) from error
    size = MPI.COMM_WORLD.size
    if expected > 1 and size != expected:
        raise DistributedError(
            f"init_process_group: {expected} processes were started, but mpi4py sees {size}; start "
            "with the mpiexec of the MPI that mpi4py uses: " + MPI.Get_library_version().split()[0]
        )
    if size == 1:
        return Alone()
    return MPITransport(MPI.COMM_WORLD.Dup())
