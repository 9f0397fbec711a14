"""Process group: the ranks that work together, what they agree on, and how they end.

Before a collective call moves data, the ranks compare what each is about to do: one all-reduce of
16 bytes (2 µs between two processes of one machine, tens of µs through a network). If they differ,
if one of them has refused its arguments, or has reached the end of its program, then every rank
raises one error that says what each was doing, and none waits for ever.
"""

from __future__ import annotations

import atexit
import hashlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy as np

from ..arguments import check_int
from ..engine.grad_mode import mode
from ..errors import DistributedError
from .mpi import Alone, Request, Transport, connect, wait

default_timeout = timedelta(minutes=30)
_DESCRIPTION = 400  # bytes of what a rank says of itself when ranks differ


class ProcessGroup:
    """Some ranks and the transports between them. control: of the host; for small things."""

    def __init__(
        self,
        control: Transport,
        ranks: Sequence[int],
        backend: str,
        timeout: timedelta = default_timeout,
        device: Transport | None = None,
    ) -> None:
        self.control, self.ranks, self.backend = control, list(ranks), backend
        self.timeout, self.device = timeout, device
        self.spin: int = getattr(control, "spin", 0)

    def rank(self) -> int:
        return self.control.rank

    def size(self) -> int:
        return self.control.size

    def wait(self, request: Request, what: str) -> None:
        wait(request, what, self.timeout, self.spin)

    @cached_property
    def side(self) -> ProcessGroup:
        """The same ranks, whose calls need not be in order with the calls of this group. All ranks
        must ask for it at the same point."""
        control = self.control.split(range(self.size()))
        assert control is not None
        return ProcessGroup(control, self.ranks, self.backend, self.timeout)

    # Agreement --------------------------------------------------------------------------------

    def propose(self, operation: str, details: str = "") -> Callable[[], None]:
        """Begin to compare what this rank does with the others; the result, when called, waits, and
        raises DistributedError on every rank if they differ."""
        mode.observer.refuse(f"{operation}: ranks cannot exchange anything inside a captured step")
        if self.size() == 1:
            return lambda: None
        said = f"{operation}({details})"
        digest = int.from_bytes(hashlib.blake2b(said.encode(), digest_size=7).digest(), "little")
        extremes = np.array([digest, -digest])  # the minima are equal to these only if all are
        request = self.control.all_reduce(extremes, "min")

        def settle() -> None:
            self.wait(request, said)
            if extremes[0] != -extremes[1]:
                self._report(operation, said)

        return settle

    def agree(self, operation: str, details: str = "") -> None:
        """DistributedError on every rank unless all do the same with equal details."""
        self.propose(operation, details)()

    @contextmanager
    def checking(self, operation: str) -> Iterator[None]:
        """What is raised inside, on some ranks, ends the operation on all ranks."""
        try:
            yield
        except Exception as error:
            if self.size() > 1 and not isinstance(error, DistributedError):
                said = f"{type(error).__name__}: {error}"
                settle = self.propose(operation, f"raised on rank {self.rank()}: {said}")
                try:
                    settle()
                except DistributedError:
                    raise error from None
            raise

    def _report(self, operation: str, said: str) -> None:
        mine = np.zeros(_DESCRIPTION, np.uint8)
        text = said.encode()[:_DESCRIPTION]
        mine[: len(text)] = np.frombuffer(text, np.uint8)
        everyone = np.empty(self.size() * _DESCRIPTION, np.uint8)
        counts = [_DESCRIPTION] * self.size()
        self.wait(self.control.all_gather(everyone, mine, counts), said)
        rows = everyone.reshape(self.size(), _DESCRIPTION)
        texts = [bytes(row).rstrip(b"\0").decode(errors="replace") for row in rows]
        ranks: dict[str, list[int]] = {}
        for rank, each in enumerate(texts):
            ranks.setdefault(each, []).append(self.ranks[rank])
        listed = "; ".join(f"{_named(where)} {each}" for each, where in ranks.items())
        raise SharedError(f"{operation}: the ranks do not do the same: {listed}")


class SharedError(DistributedError):
    """Raised on every rank of a group, so one of them is enough to show it."""


SharedError.__name__ = SharedError.__qualname__ = "DistributedError"


def _named(ranks: list[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}:"
    return f"ranks {', '.join(map(str, ranks[:8]))}{' …' if len(ranks) > 8 else ''}:"


# The default group ----------------------------------------------------------------------------

_world: ProcessGroup | None = None


class _NoMember:
    """What `new_group` returns on ranks that are not in the group."""

    def __repr__(self) -> str:
        return "GroupMember.NON_GROUP_MEMBER"


class GroupMember:
    NON_GROUP_MEMBER = _NoMember()


def is_available() -> bool:
    """Always: a single process needs nothing, and several say what they lack."""
    return True


def is_initialized() -> bool:
    return _world is not None


def is_mpi_available() -> bool:
    """Whether mpi4py can be imported."""
    from importlib.util import find_spec

    return find_spec("mpi4py") is not None


def is_nccl_available() -> bool:
    """Whether nccl4py can be imported."""
    from importlib.util import find_spec

    return find_spec("nccl") is not None


def init_process_group(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: timedelta | None = None,
    world_size: int = -1,
    rank: int = -1,
) -> None:
    """Join the processes that `mpiexec -n 4 python train.py` has started; alone, a group of one.

    backend: "mpi" (the default), or "nccl" to move tensors of GPUs without the host, after
        `minigrad.cuda.set_device`; the processes find one another by MPI either way. A single
        process needs neither.
    timeout: how long a call waits for the other ranks before it raises; 30 minutes by default.
    init_method: "env://" or None, the launcher decides. world_size, rank: if given, they must be
        what MPI says.

    From here on an exception that nobody catches is printed with its rank, and ends all ranks.
    Raises DistributedError if the group exists already, mpi4py is missing in a process that was
    started as one of several, or belongs to another MPI than the launcher.
    """
    global _world
    if _world is not None:
        raise DistributedError("init_process_group: the process group exists already")
    if backend not in (None, "mpi", "nccl", "cpu:mpi,cuda:nccl"):
        raise ValueError(
            f"init_process_group: backend must be 'mpi', 'nccl' or None, got {backend!r}"
        )
    if init_method not in (None, "env://"):
        raise ValueError(
            f"init_process_group: init_method must be None or 'env://', got {init_method!r}: "
            "processes find one another by MPI"
        )
    if timeout is not None and not (isinstance(timeout, timedelta) and timeout > timedelta(0)):
        raise ValueError(f"init_process_group: timeout must be a timedelta above 0, got {timeout}")
    control = connect()
    for name, given, actual in (
        ("world_size", world_size, control.size),
        ("rank", rank, control.rank),
    ):
        if given not in (-1, actual):
            raise DistributedError(f"init_process_group: {name} is {actual}, got {given}")
    limit = timeout or default_timeout
    device: Transport | None = None
    if backend is not None and "nccl" in backend and control.size > 1:
        from .nccl import NCCLTransport

        device = NCCLTransport.join(control, limit)
    name = backend or "mpi"
    _world = ProcessGroup(control, range(control.size), name, limit, device)
    _world.agree("init_process_group", f"backend={name!r}")
    if control.size > 1:
        _install_faults()


def destroy_process_group(group: Any = None) -> None:
    """Leave: all ranks must do so. At the end of a program it happens by itself."""
    global _world
    leaving = get_group("destroy_process_group", group)
    leaving.agree("destroy_process_group")
    for transport in (leaving.device, leaving.control):
        if transport is not None:
            transport.free()
    if leaving is _world:
        _world = None
        _remove_faults()


def get_group(operation: str, group: Any = None) -> ProcessGroup:
    """The group, by default the one of all ranks; DistributedError if there is none."""
    if group is None:
        group = _world
        if group is None:
            raise DistributedError(
                f"{operation}: there is no process group; call "
                "minigrad.distributed.init_process_group() first"
            )
    if isinstance(group, _NoMember):
        raise DistributedError(f"{operation}: this rank is no member of the group")
    if not isinstance(group, ProcessGroup):
        raise TypeError(f"{operation}: group must be a ProcessGroup, got {type(group).__name__}")
    return group


def get_rank(group: Any = None) -> int:
    """This process's number in the group, from 0; −1 outside it."""
    return -1 if isinstance(group, _NoMember) else get_group("get_rank", group).rank()


def get_world_size(group: Any = None) -> int:
    """The number of processes in the group; −1 outside it."""
    return -1 if isinstance(group, _NoMember) else get_group("get_world_size", group).size()


def get_backend(group: Any = None) -> str:
    return get_group("get_backend", group).backend


def get_process_group_ranks(group: Any = None) -> list[int]:
    """The ranks, in the group of all, of the group's members."""
    return list(get_group("get_process_group_ranks", group).ranks)


def get_global_rank(group: ProcessGroup, group_rank: int) -> int:
    ranks = get_group("get_global_rank", group).ranks
    return ranks[check_int("get_global_rank", "group_rank", group_rank, 0, len(ranks) - 1)]


def get_group_rank(group: ProcessGroup, global_rank: int) -> int:
    ranks = get_group("get_group_rank", group).ranks
    if global_rank not in ranks:
        raise ValueError(f"get_group_rank: rank {global_rank!r} is not in the group")
    return ranks.index(global_rank)


def new_group(
    ranks: Sequence[int] | None = None, timeout: timedelta | None = None, backend: Any = None
) -> Any:
    """A group of some ranks (default: all). Every rank must call it, with the same ranks; those not
    in it get GroupMember.NON_GROUP_MEMBER."""
    world = get_group("new_group")
    with world.checking("new_group"):
        members = sorted(range(world.size()) if ranks is None else ranks)
        if len(set(members)) != len(members) or not set(members) <= set(world.ranks):
            raise ValueError(
                f"new_group: ranks must be different ones of 0 … {world.size() - 1}, got {ranks}"
            )
    world.agree("new_group", f"ranks={members}")
    control = world.control.split(members)
    device = None if world.device is None else world.device.split(members)
    if control is None:
        return GroupMember.NON_GROUP_MEMBER
    return ProcessGroup(control, members, world.backend, timeout or world.timeout, device)


# The end ----------------------------------------------------------------------------------------

_previous_hook: Any = None


def _install_faults() -> None:
    global _previous_hook
    _previous_hook = sys.excepthook
    sys.excepthook = _on_exception
    atexit.register(_leave)


def _remove_faults() -> None:
    global _previous_hook
    if _previous_hook is not None:
        sys.excepthook, _previous_hook = _previous_hook, None
        atexit.unregister(_leave)


def _on_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Show it once, with the rank, and end all ranks: the others wait for this one."""
    world = _world
    if world is None:  # pragma: no cover - the hook is gone then
        return
    # Where several ranks fail alike, the first one shows it, and ends the others before they do.
    late = world.rank() * 0.05 + isinstance(error, SharedError) * 0.5
    time.sleep(min(late, 2.0) if world.rank() else 0.0)
    text = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(f"rank {world.rank()} of {world.size()} ends all ranks:\n{text}")
    sys.stderr.flush()
    from mpi4py import MPI

    MPI.COMM_WORLD.Abort(1)


def _leave() -> None:
    """A rank that comes to the end of its program says so to those that wait for it."""
    if _world is not None and not isinstance(_world.control, Alone):
        try:
            _world.agree("destroy_process_group")
        except DistributedError as error:
            _on_exception(type(error), error, error.__traceback__)
