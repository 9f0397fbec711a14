"""Trace of a captured step: what it finds in tensors, and what it leaves in them.

A replay repeats the GPU's work, at the addresses of the recording. That a parameter has this tensor
as its gradient, or that memory, is Python's business: it is noted while the step is recorded,
checked before every replay and put right after it, so that a replay leaves what the step leaves.

A gradient that is there before the step and that the step uses (it accumulates onto it, or an
optimizer or clipping reads it) gets a place that stays. A replay finds it there: if something else
has become the gradient meanwhile, that is copied to the place first.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from typing import Any

from ..device import Device
from ..engine import Tensor
from ..engine.observer import Observer
from ..engine.tensor import Version
from ..errors import GraphError
from ..nn.hooks import changes
from ..nn.module import REGISTRIES, Module
from ..ops.operands import empty_like
from ..runtime.allocation import lasting
from ..runtime.recording import Recording, current, on_replay


@dataclass(slots=True)
class _Gradient:
    """of: a leaf. before, after: its gradient when the recording began, and when it ended.
    place: where the recorded work finds the gradient that is there before, if it uses it.
    is_read: by more than an accumulation, for which zeros are as good as no gradient.
    must_be_missing: the recorded work is that of a leaf without a gradient."""

    of: Tensor
    before: Tensor | None
    after: Tensor | None = None
    place: Tensor | None = None
    is_read: bool = False
    must_be_missing: bool = False


_PLAIN = bool, int, float, str, type(None)
_MISSING = object()


class _Found:
    """What a step finds in a module that it calls: all but what it changes there itself."""

    def __init__(self, module: Module) -> None:
        self._module, self._facts = module, _facts(module)

    def finish(self, used: Container[int]) -> None:
        """used: the tensors that the step has computed with, by id."""
        now = _facts(self._module)
        self._facts = {
            name: value
            for name, value in self._facts.items()
            if _same(now.get(name, _MISSING), value)
            and (name[0] != "attribute" or not isinstance(value, Tensor) or id(value) in used)
        }

    def is_still_so(self) -> bool:
        now = _facts(self._module)
        return all(_same(now.get(name, _MISSING), fact) for name, fact in self._facts.items())


def _facts(module: Module) -> dict[tuple[str, str], Any]:
    """Class, parts, hooks, and attributes that are numbers, names or tensors."""
    own = vars(module)
    facts = {("", "class"): type(module), ("", "forward"): own.get("forward")}
    for registry in REGISTRIES:
        facts["", registry] = len(own[registry])
        facts |= {(registry, name): value for name, value in own[registry].items()}
    for name, value in own.items():
        if isinstance(value, (*_PLAIN, tuple, Tensor)):
            facts["attribute", name] = value
    return facts


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and type(one) in _PLAIN and one == other)


class Trace(Observer):
    """Of one recorded step. start: leaves that may have gradients already, as far as known."""

    def __init__(self, start: list[Tensor]) -> None:
        self._start = {id(leaf): (leaf, leaf.grad) for leaf in start}
        self._gradients: dict[int, _Gradient] = {}
        self._tensors: dict[int, tuple[weakref.ref[Tensor], weakref.ref[Any], bool, Device]] = {}
        self._versions: dict[int, Version] = {}
        self._modules: dict[int, _Found] = {}  # called, and those in them
        self._changes = 0

    # While the step is recorded ---------------------------------------------------------------

    def use(self, args: Iterable[Any]) -> None:
        """Leaves from outside must keep their memory."""
        if current.recording is not None:
            for arg in args:
                if isinstance(arg, tuple):
                    self.use(arg)
                elif isinstance(arg, Tensor) and arg.node is None:
                    self._use_leaf(arg, current.recording)

    def _use_leaf(self, tensor: Tensor, recording: Recording) -> None:
        recording.check_device(tensor.device, tensor.shape)
        if recording.is_older(tensor.array):
            refs = weakref.ref(tensor), weakref.ref(tensor.array)
            self._tensors[id(tensor)] = *refs, tensor._requires_grad, tensor.device

    def change(self, version: Version) -> None:
        """So does every replay."""
        self._versions[id(version)] = version

    def call(self, module: Module) -> None:
        if current.recording is not None and id(module) not in self._modules:
            self._modules |= {id(each): _Found(each) for each in module.modules()}

    def clear_grad(self, leaf: Tensor) -> None:
        if id(leaf) not in self._gradients:
            before = None if current.recording is None else leaf.grad
            self._gradients[id(leaf)] = _Gradient(leaf, before)

    def read_grad(self, leaf: Tensor) -> None:
        self._use_gradient(leaf, read=True)

    def _use_gradient(self, leaf: Tensor, read: bool) -> None:
        """The step is about to accumulate onto the leaf's gradient, or to read it."""
        if id(leaf) in self._gradients:
            return
        _, before = self._start.get(id(leaf), (leaf, None))
        noted = self._gradients[id(leaf)] = _Gradient(leaf, before, is_read=read)
        grad = leaf.grad
        if grad is None:
            noted.must_be_missing = before is None  # otherwise the step has cleared it
        elif _is_older(grad):
            noted.before = grad
            with lasting(grad.device):
                noted.place = leaf.grad = empty_like(grad)

    def accumulate(self, leaf: Tensor, grad: Tensor) -> bool:
        """Add to a gradient that is there before the step, at its place; False if there is none."""
        self.use((grad,))
        self._use_gradient(leaf, read=False)
        place = self._gradients[id(leaf)].place
        if place is None or place is not leaf.grad:
            return False
        place.add_(grad)
        return True

    def refuse(self, message: str) -> None:
        raise GraphError(message)

    def on_failure(self, save: Callable[[], Callable[[], None]]) -> None:
        if current.recording is not None:
            current.recording.undo.append(save())

    def valid_while(self, condition: Callable[[], Callable[[], bool]]) -> None:
        if current.recording is not None:
            current.recording.conditions.append(condition())

    def at_replay(self, refresh: Callable[[], None]) -> None:
        on_replay(refresh)

    def read_values(self, shape: tuple[int, ...]) -> None:
        if current.recording is not None:
            raise GraphError(
                "a captured step is not computed while it is recorded: it must not read values, "
                f"but it read those of a tensor of shape {shape}"
            )

    def take_values(self, shape: tuple[int, ...]) -> None:
        if current.recording is not None:
            raise GraphError(
                "a captured step must not copy from the host, which a replay would not repeat, but "
                f"it made a tensor of shape {shape} of a list, a number or an array: make it "
                "outside, or pass it as an argument"
            )

    def finish(self) -> None:
        """The recording has succeeded, and nothing of it was computed yet."""
        for noted in self._gradients.values():
            noted.after, noted.of.grad, noted.before = noted.of.grad, noted.before, None
        self._start.clear()
        self._changes = changes()
        for found in self._modules.values():
            found.finish(self._tensors)

    def undo(self) -> None:
        """The recording has failed: its gradients were never computed."""
        for noted in self._gradients.values():
            noted.of.grad = noted.before

    # Around a replay --------------------------------------------------------------------------

    def is_valid(self) -> bool:
        """Whether a replay does what the step would do: modules have the parts and attributes that
        they had, tensors are where they were, and there are gradients where there
        were some."""
        if (now := changes()) != self._changes:
            if not all(found.is_still_so() for found in self._modules.values()):
                return False
            self._changes = now
        for tensor, data, requires_grad, device in self._tensors.values():
            if (found := tensor()) is not None and (
                found.array is not data()
                or found._requires_grad is not requires_grad
                or found.device is not device
            ):
                return False
        for noted in self._gradients.values():
            grad, place = noted.of.grad, noted.place
            if grad is None:
                if noted.is_read and place is not None:
                    return False
            elif noted.must_be_missing or (place is not None and not _fits(grad, place)):
                return False
        return True

    def accumulating(self) -> list[Tensor]:
        """Leaves that had no gradient before the step, and have one now."""
        return [
            noted.of for noted in self._gradients.values()
            if noted.must_be_missing and noted.of.grad is not None
        ]  # fmt: skip

    def leaves(self) -> list[Tensor]:
        return [noted.of for noted in self._gradients.values()]

    def gradients(self) -> list[Tensor]:
        """Those that there are after the step."""
        return [noted.after for noted in self._gradients.values() if noted.after is not None]

    def before_replay(self) -> None:
        """Bring gradients from before to their places."""
        for noted in self._gradients.values():
            grad, place = noted.of.grad, noted.place
            if place is not None and grad is not place:
                if grad is None:
                    place.fill_(0)
                else:
                    place.copy_(grad)

    def after_replay(self) -> None:
        """Gradients are what they are after the step, and what has changed says so."""
        for noted in self._gradients.values():
            noted.of.grad = noted.after
        for version in self._versions.values():
            version.value += 1


def _is_older(grad: Tensor) -> bool:
    """Than the recording, if there is one."""
    return current.recording is not None and current.recording.is_older(grad.array)


def _fits(grad: Tensor, place: Tensor) -> bool:
    data, own = grad.array, place.array
    return grad.device == place.device and (data.shape, data.dtype) == (own.shape, own.dtype)
