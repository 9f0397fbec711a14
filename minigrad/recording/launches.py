"""Launches on the host: recorded instead of run, and run again and again.

While a step is recorded, every launcher is called with placeholders (placeholder.py), and the
kernels that it calls are noted with their arguments. A launcher that does more than call kernels
(it reads a value, fills an array by NumPy, or gets numbers that the host computes anew) is noted
itself, and called at every replay. Temporary arrays are given their places when the recording is
done and their lifetimes are known (arena.py); until then, nothing touches their memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from inspect import signature
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..device import Device
from ..errors import GraphError
from ..layout import memory_order
from ..runtime import memory
from ..runtime.machine_code import Launch, clear, compiled, copy, launch
from ..runtime.recording import Recording
from . import chains
from .arena import arranged
from .placeholder import Placeholder, UnknownValueError

_FOR_EVER = 2**62
_SMALL = 1024  # bytes that are filled by copying them


@dataclass(eq=False, slots=True)
class _Memory:
    """Of one array: where it is, and between which calls it is in use."""

    address: int
    nbytes: int
    begin: int
    end: int = _FOR_EVER
    owner: weakref.ref[np.ndarray] | None = None


class _Place(NamedTuple):
    """An array's first element: so many bytes into memory of the recording, or an address."""

    memory: _Memory | None
    offset: int


class Located(NamedTuple):
    """An array argument of a launcher that is called at every replay: where, and its geometry as
    NumPy's array interface has it."""

    place: _Place
    geometry: dict[str, Any]
    read_only: bool


class _Launched(NamedTuple):
    """A launcher that is never called again: only its kernels are."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kernels: list[Launch | _Call]


class _Call(NamedTuple):
    """A Python function that is called at every replay. numbers: the last of its arguments, if the
    host computes them anew."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    numbers: list[int] | None = None


class Launches(Recording):
    """What a step of the host launches."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[_Launched | _Call] = []
        self._memory: dict[int, _Memory] = {}  # of arrays in use, by the id of their owner
        self._temporary: list[_Memory] = []
        self._kept: dict[int, np.ndarray] = {}
        self._lasting = 0
        self._inside: list[Launch | _Call] | None = None  # calls of the launcher that runs just now
        self._stand_ins: dict[int, _Place] = {}  # of arrays that lie elsewhere than they say
        self.replayed = False

    def is_older(self, array: Any) -> bool:
        return not isinstance(array, Placeholder)

    def check_device(self, device: Device, shape: tuple[int, ...]) -> None:
        if device.type == "cuda":
            raise GraphError(
                f"a captured step with arguments on the CPU must compute there only, which a "
                f"replay repeats, but it used a tensor of shape {shape} on {device}"
            )

    # Memory ---------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        owner = memory.empty(shape, dtype)
        if self._lasting:
            return owner
        noted = _Memory(_address(owner), owner.nbytes, len(self._calls))
        noted.owner = weakref.ref(owner, partial(self._end, noted))
        self._memory[id(owner)] = noted
        return owner.view(Placeholder)

    def _end(self, noted: _Memory, owner: weakref.ref[np.ndarray]) -> None:
        noted.end = len(self._calls)
        self._temporary.append(noted)

    @contextmanager
    def lasting(self) -> Iterator[None]:
        self._lasting += 1
        try:
            yield
        finally:
            self._lasting -= 1

    def keep(self, values: np.ndarray) -> None:
        owner = _owner(values)
        self._kept[id(owner)] = owner

    def _place(self, array: np.ndarray, keep: bool = False) -> _Place:
        owner = _owner(array)
        stand_in = self._stand_ins.get(id(owner))
        if stand_in is not None:
            return _Place(stand_in.memory, stand_in.offset + _address(array) - _address(owner))
        noted = self._memory.get(id(owner))
        if noted is not None and noted.owner is not None and noted.owner() is owner:
            return _Place(noted, _address(array) - noted.address)
        if keep:
            self.keep(array)
        elif id(owner) not in self._kept:
            self.note_outside(owner, array.shape)
        return _Place(None, _address(array))

    # Calls ----------------------------------------------------------------------------------------

    def observed(self, backend: Any, device: Device) -> Any:
        self.check_device(device, ())
        return _Observed(backend, self)

    def assign(self, out: np.ndarray, values: Any) -> None:
        if self._inside is None or out.dtype != getattr(values, "dtype", out.dtype):
            raise UnknownValueError(
                "a captured step must change values by minigrad's operations, not by NumPy"
            )
        whole, place = memory_order(out) is not None, self._place_inside(out)
        if not isinstance(values, np.ndarray):
            number = np.full((), values, out.dtype)
            if whole and not any(number.tobytes()):
                self._inside.append(clear(place, out.nbytes))
                return
            if whole and out.nbytes <= _SMALL:
                values = np.full(out.shape, number)
        if isinstance(values, np.ndarray) and _alike(out, values):
            self._inside.append(copy(place, self._place_inside(values), out.nbytes))
        else:
            self._inside.append(_Call(_assign, (self._located(out), self._located(values))))

    def call(self, function: Callable[..., None], *args: Any) -> None:
        self._calls.append(_Call(function, tuple([self._located(arg) for arg in args])))

    def at_replay(self, hook: Callable[[], None]) -> None:
        # In its place among the calls: one that finds a bad value ends the step there.
        self._calls.append(_Call(self._anew, (hook,)))

    def _anew(self, hook: Callable[[], None]) -> None:
        if self.replayed:
            hook()

    def launcher(self, function: Callable[..., Any], *args: Any) -> Any:
        """In place of function(*args)."""
        if not any(isinstance(arg, np.ndarray | list) for arg in args):
            return function(*args)  # a question of sizes
        located = tuple([self._located(arg) for arg in args])
        if _draws(function) and args[-2:] in self.keys:
            self._calls.append(_Call(function, located[:-2], self.keys[args[-2:]]))
            return None
        # Lists: of arrays whose addresses the launcher puts into a table, and of options.
        fixed = not any(isinstance(arg, list | tuple) and _has_arrays(arg) for arg in args)
        kernels = self._kernels_of(function, args) if fixed else None
        self._calls.append(
            _Call(function, located) if kernels is None else _Launched(function, located, kernels)
        )
        return None

    def _located(self, arg: Any) -> Any:
        """The argument, with arrays in a form that holds no memory."""
        if isinstance(arg, np.ndarray):
            geometry = {"shape": arg.shape, "strides": arg.strides, "typestr": arg.dtype.str}
            return Located(self._place(arg), geometry, not arg.flags.writeable)
        if isinstance(arg, list | tuple) and _has_arrays(arg):
            return [self._located(each) for each in arg]
        return arg

    def _kernels_of(self, function: Any, args: tuple[Any, ...]) -> list[Launch | _Call] | None:
        """The kernels that the launcher calls, if it does nothing else."""
        unread = [
            arg.view(Placeholder)
            if isinstance(arg, np.ndarray) and id(_owner(arg)) not in self._kept
            else arg
            for arg in args
        ]
        self._inside, outer = [], self._inside
        self.launching = True
        kept = dict(self._kept)
        try:
            function(*unread)
            return self._inside
        except Exception:  # also what a placeholder's refusal has become on its way
            self._kept = kept
            return None
        finally:
            self._inside = outer
            self.launching = outer is not None

    def kernel(self, kernel: Any, args: tuple[Any, ...]) -> None:
        """In place of kernel(*args)."""
        if self._inside is None:
            raise UnknownValueError("a kernel was called other than by a launcher")
        self._inside.append(launch(kernel.func, (*kernel.args, *args), self._place_inside))

    def _place_inside(self, array: np.ndarray) -> _Place:
        # A launcher gets its memory; what it makes itself are tables, which follow from sizes.
        return self._place(array, keep=not isinstance(array, Placeholder))

    # Chains ---------------------------------------------------------------------------------------

    def join_chains(self) -> None:
        """Neighbours that one launcher can do (chains.py) become one, where nobody asks for what
        lies between. All lifetimes must be known."""
        for index in range(1, len(self._calls)):
            first, second = self._calls[index - 1 : index + 1]
            if isinstance(first, _Launched) and isinstance(second, _Launched):
                self._join(index, first, second)

    def _join(self, index: int, first: _Launched, second: _Launched) -> None:
        joined = chains.joined(first.function, first.args, second.function, second.args)
        if joined is None:
            return
        between, result = first.args[0].place.memory, second.args[0].place.memory
        if between is None or result is None:
            return
        # What the first one reads must not be where the second one writes.
        if between is not result and (between.end > index + 1 or result.begin < index):
            return
        function, args = joined
        kernels = self._kernels_of(function, tuple([self._stand_in(arg) for arg in args]))
        self._stand_ins.clear()
        if kernels is None:
            return
        self._calls[index - 1] = _Launched(first.function, (), [])
        self._calls[index] = _Launched(function, args, kernels)
        for arg in args:  # of the first one, too, which are now in use for longer
            if isinstance(arg, Located) and arg.place.memory is not None:
                arg.place.memory.end = max(arg.place.memory.end, index + 1)
        if between is not result:
            between.nbytes = 0

    def _stand_in(self, arg: Any) -> Any:
        """For a located array, one like it."""
        if not isinstance(arg, Located):
            return arg
        array = _rebuilt(arg).view(Placeholder)
        self._stand_ins[id(_owner(array))] = arg.place
        return array

    # Replay ---------------------------------------------------------------------------------------

    def program(self) -> Program:
        """All calls, ready to run."""
        temporary = self._temporary
        offsets, size = arranged(
            [noted.nbytes for noted in temporary], [noted.begin for noted in temporary],
            [noted.end for noted in temporary],
        )  # fmt: skip
        arena = memory.empty((max(size, 1),), np.dtype(np.uint8))
        for noted, offset in zip(temporary, offsets, strict=True):
            noted.address = _address(arena) + offset
        alive = [noted.owner() for noted in self._memory.values() if noted.owner is not None]
        self._memory.clear()
        steps: list[tuple[Callable[..., Any], tuple[Any, ...], list[int] | None]] = []
        native: list[Launch] = []
        flat = [
            each
            for call in self._calls
            for each in (call.kernels if isinstance(call, _Launched) else [call])
        ]
        for call in [*flat, None]:
            if isinstance(call, Launch):
                native.append(call)
                continue
            steps += [(part, (), None) for part in compiled(native, _resolved)]
            native = []
            if call is not None:
                args = tuple([_rebuilt(arg) for arg in call.args])
                steps.append((call.function, args, call.numbers))
        self._calls.clear()
        return Program(steps, (arena, alive, list(self._kept.values())))


class Program:
    """Calls with all that they need. steps: function, arguments, and further arguments that may be
    others at every replay."""

    def __init__(self, steps: list[Any], memory: Any) -> None:
        self._steps, self._memory = steps, memory

    def run(self) -> None:
        for function, args, numbers in self._steps:
            if numbers is None:
                function(*args)
            else:
                function(*args, *numbers)


class _Observed:
    """A backend, or a family of its launchers, whose calls are recorded."""

    def __init__(self, module: Any, recording: Launches) -> None:
        self._module, self._recording = module, recording

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if isinstance(found, ModuleType):
            return _Observed(found, self._recording)
        return partial(self._recording.launcher, found)


@cache
def _draws(launcher: Any) -> bool:
    """Whether its last arguments are a seed and a stream."""
    return [*signature(launcher).parameters][-2:] == ["seed", "stream"]


def _has_arrays(values: list[Any] | tuple[Any, ...]) -> bool:
    return any(isinstance(each, np.ndarray) for each in values)


def _assign(out: np.ndarray, values: Any) -> None:
    out[...] = values


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether their elements lie in the same order, without gaps."""
    if one.shape != other.shape:
        return False
    both_c = one.flags.c_contiguous and other.flags.c_contiguous
    order = memory_order(one)
    return both_c or (order is not None and order == memory_order(other))


def _owner(array: np.ndarray) -> np.ndarray:
    """The array that goes last of all that share its memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _address(array: np.ndarray) -> int:
    return array.view(np.ndarray).__array_interface__["data"][0]


def _resolved(place: _Place) -> int:
    return place.offset if place.memory is None else place.memory.address + place.offset


class _Interface:
    """What NumPy makes an array of."""

    def __init__(self, array: Located) -> None:
        data = _resolved(array.place), array.read_only
        self.__array_interface__ = {**array.geometry, "data": data, "version": 3}


def _rebuilt(arg: Any) -> Any:
    if isinstance(arg, Located):
        return np.asarray(_Interface(arg))
    if isinstance(arg, list) and any(isinstance(each, Located) for each in arg):
        return [_rebuilt(each) for each in arg]
    return arg
