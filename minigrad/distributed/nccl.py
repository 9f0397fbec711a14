"""NCCL: tensors go from GPU to GPU, without the host.

The ranks find one another by MPI, and agree on each call there; what moves is queued on the stream
that the kernels use, in order with them, so a request is done as soon as it is queued. (It follows
that nothing overlaps with the backward pass, as it does on CPUs.)

Never run on GPUs: no machine with several was at hand. It is typed, and tests/cuda/test_nccl.py
runs all of it with a stand-in for the library, on emulated GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from ..errors import DistributedError, DTypeError
from ..runtime.cuda.driver import Driver, driver
from .mpi import Done, Request, Transport, wait

# Members of ncclDataType_t and ncclRedOp_t.
_DTYPES = {"int8": 0, "uint8": 1, "int32": 2, "int64": 4, "float32": 7, "float64": 8}
_BYTES = _DTYPES["uint8"]
_OPS = {"sum": 0, "product": 1, "max": 2, "min": 3}


class NCCLTransport:
    """Between one GPU of each process, which `minigrad.cuda.set_device` has chosen before."""

    def __init__(self, library: Any, comm: Any, control: Transport, device: Driver) -> None:
        self._library, self._comm, self._device = library, comm, device
        self._control = control
        self.rank, self.size = control.rank, control.size

    @classmethod
    def join(cls, control: Transport, timeout: timedelta, library: Any = None) -> NCCLTransport:
        """All ranks of the control transport. library: nccl4py's bindings, or what stands in for
        them."""
        if library is None:
            try:
                from nccl.bindings import nccl as bindings
            except ImportError as error:
                raise DistributedError(
                    f"init_process_group: the backend 'nccl' needs nccl4py ({error}); pip install "
                    "'minigrad[nccl]'"
                ) from error
            library = bindings
        device = driver()
        device.make_current()
        identity = np.zeros(128, np.uint8)
        if control.rank == 0:
            identity[:] = np.frombuffer(bytes(library.get_unique_id()), np.uint8)
        wait(control.broadcast(identity, 0), "init_process_group: NCCL's identity", timeout)
        comm = library.comm_init_rank_scalable(
            control.size, control.rank, 1, bytearray(identity.tobytes()), 0
        )
        return cls(library, comm, control, device)

    def _queue(self, function: Any, *args: Any) -> None:
        self._device.queue(function, *args, self._comm)

    def _move(self, name: str, array: Any, op: str) -> tuple[int, int]:
        """NCCL's numbers of dtype and operation."""
        if array.dtype.name not in _DTYPES or op not in _OPS:
            raise DTypeError(
                f"nccl: {name} of {array.dtype.name} by {op} is not in NCCL, which has sum, "
                f"product, max and min of {', '.join(_DTYPES)}; move to the CPU with .cpu()"
            )
        return _DTYPES[array.dtype.name], _OPS[op]

    def barrier(self) -> Request:
        return self._control.barrier()

    def all_reduce(self, array: Any, op: str) -> Request:
        kind = self._move("all_reduce", array, op)
        pointer = array.pointer
        self._queue(self._library.all_reduce, pointer, pointer, array.size, *kind)
        return Done()

    def reduce(self, array: Any, op: str, root: int) -> Request:
        kind = self._move("reduce", array, op)
        pointer = array.pointer
        self._queue(self._library.reduce, pointer, pointer, array.size, *kind, root)
        return Done()

    def broadcast(self, array: Any, root: int) -> Request:
        pointer = array.pointer
        self._queue(self._library.broadcast, pointer, pointer, array.nbytes, _BYTES, root)
        return Done()

    def all_gather(self, out: Any, array: Any, counts: Sequence[int]) -> Request:
        if len(set(counts)) == 1:
            self._queue(
                self._library.all_gather, array.pointer, out.pointer, array.nbytes, _BYTES
            )  # fmt: skip
            return Done()
        return self.all_to_all(out, None, counts, [array.size] * self.size, array)

    def gather(self, out: Any | None, array: Any, root: int) -> Request:
        pointer = 0 if out is None else out.pointer
        self._queue(self._library.gather, array.pointer, pointer, array.nbytes, _BYTES, root)
        return Done()

    def scatter(self, array: Any, source: Any | None, root: int) -> Request:
        pointer = 0 if source is None else source.pointer
        self._queue(self._library.scatter, pointer, array.pointer, array.nbytes, _BYTES, root)
        return Done()

    def reduce_scatter(self, out: Any, array: Any, op: str) -> Request:
        kind = self._move("reduce_scatter", array, op)
        self._queue(self._library.reduce_scatter, array.pointer, out.pointer, out.size, *kind)
        return Done()

    def all_to_all(
        self,
        out: Any,
        array: Any,
        out_counts: Sequence[int],
        counts: Sequence[int],
        everybody: Any = None,
    ) -> Request:
        """everybody: an array that goes to every rank, in place of parts."""
        size = out.itemsize
        self._library.group_start()
        there = 0 if array is None else array.pointer
        here = out.pointer
        for rank, (arriving, leaving) in enumerate(zip(out_counts, counts, strict=True)):
            source = there if everybody is None else everybody.pointer
            if leaving:
                self._queue(self._library.send, source, leaving * size, _BYTES, rank)
            if arriving:
                self._queue(self._library.recv, here, arriving * size, _BYTES, rank)
            there += leaving * size
            here += arriving * size
        self._library.group_end()
        return Done()

    def send(self, array: Any, destination: int, tag: int) -> Request:
        self._queue(self._library.send, array.pointer, array.nbytes, _BYTES, destination)
        return Done()

    def receive(self, array: Any, source: int, tag: int) -> Request:
        self._queue(self._library.recv, array.pointer, array.nbytes, _BYTES, source)
        return Done()

    def split(self, ranks: Sequence[int]) -> NCCLTransport | None:
        inside = self.rank in ranks
        color, key = (0, ranks.index(self.rank)) if inside else (-1, 0)
        comm = self._library.comm_split(self._comm, color, key, 0)
        if not inside:
            return None
        made = NCCLTransport(self._library, comm, self._control, self._device)
        made.rank, made.size = key, len(ranks)
        return made

    def free(self) -> None:
        self._device.synchronize()
        self._library.comm_destroy(self._comm)
