"""Devices, the number of threads, and the seed of all randomness."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cache

from .arguments import check_int
from .errors import DeviceError

_KNOWN = ("cpu", "cuda", "reference")


@dataclass(frozen=True, eq=False, repr=False)
class Device:
    """Where a tensor lives and which kernels work on it.

    "cpu": compiled Numba kernels. "reference": the same memory, plain Python loops, slow and meant
    to be read. "cuda:1", or Device("cuda", 1): kernels on the second NVIDIA GPU, and its memory.

    "cuda" is the current GPU (`minigrad.cuda.set_device`), whichever that is when it is used; a
    tensor's device always has its number. As in torch, Device("cuda") and Device("cuda:0") are
    therefore different. A string counts as the device that it names.
    """

    type: str
    index: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.type, str):  # a GPU's number, or a Device
            named = as_device(self.type)
            object.__setattr__(self, "type", named.type)
            object.__setattr__(self, "index", named.index)
        name, colon, number = self.type.partition(":")
        if name == "cuda" and colon and number.isdecimal() and self.index is None:
            object.__setattr__(self, "type", name)
            object.__setattr__(self, "index", int(number))
        if self.type not in _KNOWN or not (
            self.index is None or (self.type == "cuda" and self.index >= 0)
        ):
            known = ", ".join(repr(name) for name in _KNOWN)
            raise DeviceError(
                f"device must be one of {known}, or 'cuda:1' for the second GPU, got {str(self)!r}"
            )

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type={self.type!r}{index})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Device):
            return (self.type, self.index) == (other.type, other.index)
        return str(self) == other

    def __hash__(self) -> int:
        return hash(self.type if self.index is None else str(self))


class _CurrentCuda(threading.local):
    """The number of the GPU that "cuda" is in this thread."""

    index = 0


CPU = Device("cpu")
current_cuda = _CurrentCuda()
_default = CPU


def as_device(value: Device | str | int | None) -> Device:
    """The device that `value` names; None is the default device, a number that GPU, "cuda" the
    current one."""
    if value is None:
        value = _default
    elif isinstance(value, str):
        value = _named(value)
    elif isinstance(value, int):
        value = _named(f"cuda:{value}")
    elif not isinstance(value, Device):
        raise DeviceError(f"device must be a name or a Device, got {value!r}")
    if value.type == "cuda" and value.index is None:
        return _named(f"cuda:{current_cuda.index}")
    return value


@cache  # one object a name: many comparisons are `is`
def _named(name: str) -> Device:
    return Device(name)


def set_default_device(device: Device | str | int) -> None:
    """Where tensors are created when no device is named. "cuda" goes on to be the current GPU."""
    global _default
    as_device(device)
    _default = Device(device) if isinstance(device, str) else as_device(device)


def get_default_device() -> Device:
    return as_device(None)


def same_device(operation: str, **devices: Device | None) -> Device:
    """The one device of all named operands (None is skipped), or a DeviceError."""
    given = [device for device in devices.values() if device is not None]
    if given.count(given[0]) == len(given):  # one object nearly always: no names to hash
        return given[0]
    named = {name: device for name, device in devices.items() if device is not None}
    distinct = set(named.values())
    if len(distinct) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in named.items())
        raise DeviceError(
            f"{operation}: operands must be on one device, got {listed}; move with .to(device)"
        )
    return distinct.pop()


# Threads ------------------------------------------------------------------------------------


def default_num_threads() -> int:
    """MINIGRAD_NUM_THREADS, or else OMP_NUM_THREADS, or else the cores this process may use.

    OMP_NUM_THREADS is what schedulers of clusters and pools of processes set so that the processes
    of one machine do not take each other's cores; NumPy's BLAS and torch obey it too.
    """
    if text := os.environ.get("MINIGRAD_NUM_THREADS"):
        if not text.isdecimal() or int(text) < 1:
            raise DeviceError(f"MINIGRAD_NUM_THREADS must be a positive integer, got {text!r}")
        return int(text)
    # OpenMP allows a list, one number a level of nesting.
    outermost = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if outermost.isdecimal() and int(outermost) >= 1:
        return int(outermost)
    return available_cores()


def available_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# Seeds --------------------------------------------------------------------------------------


class Generator:
    """A seed and the number of streams drawn from it.

    Every random operation takes one (seed, stream) pair and derives each element's value from it
    and the element's index alone, so results depend neither on threads nor on the device.
    """

    def __init__(self, seed: int = 0) -> None:
        self.unlock()
        self.manual_seed(seed)

    def unlock(self) -> None:
        """No thread draws: a fork's child does not have those of its parent."""
        self._lock = threading.Lock()

    def manual_seed(self, seed: int) -> Generator:
        self.seed, self.stream = check_int("manual_seed", "seed", seed, 0, 2**64 - 1), 0
        return self

    def next_stream(self) -> tuple[int, int]:
        """The (seed, stream) of the next random operation."""
        with self._lock:
            self.stream += 1
            return self.seed, self.stream

    def get_state(self) -> dict[str, int]:
        return {"seed": self.seed, "stream": self.stream}

    def set_state(self, state: dict[str, int]) -> None:
        seed, stream = state.get("seed", -1), state.get("stream", -1)
        if not isinstance(stream, int) or not 0 <= stream < 2**63:
            raise ValueError(f"set_state: expects what get_state returned, got {state!r}")
        self.manual_seed(seed)
        self.stream = stream


default_generator = Generator(int.from_bytes(os.urandom(4), "little"))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=default_generator.unlock)


def manual_seed(seed: int) -> Generator:
    """Seed all randomness of minigrad. The same seed gives the same bits on one machine."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed all randomness of minigrad by chance; the seed."""
    return manual_seed(int.from_bytes(os.urandom(8), "little")).seed


def initial_seed() -> int:
    """The seed of minigrad's randomness."""
    return default_generator.seed
