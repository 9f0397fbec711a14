"""Views and in-place changes: what a tensor is a view of, and where a changed tensor stands in the
graph.

A change in place puts a new node behind the tensor. If that is a view, the new node goes behind its
base, the tensor whose memory it is, and says that a part of the base was overwritten (`WriteBack`).
The view itself, and all other views of the base, see by their version that the memory has changed
and, when they are used next, are viewed again from the base as it is now.

A view of a view has the same base and a longer path to it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, ClassVar

from .. import kernels
from ..errors import GraphError
from ..layout import empty_array, memory_order
from . import grad_mode
from .function import Function, Node
from .gradient import copy, full
from .tensor import Tensor


class View(Function):
    """Base of the functions whose result lies in the memory of their first argument.

    look(array, *arguments): the view of an array; of `several` outputs, a tuple of views. A result
    in memory of its own, as reshape makes it where strides cannot express a view, is no view.
    """

    several: ClassVar[bool] = False

    @staticmethod
    def look(array: Any, *arguments: Any) -> Any:
        raise TypeError("a View must define a static method look(array, *arguments)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        result = super().apply(*args)
        input, *arguments = args
        for output in result if isinstance(result, tuple) else (result,):
            if output._version is input._version:
                output._view = Path(cls, input, tuple(arguments))
        return result


Steps = tuple[tuple[type[View], tuple[Any, ...]], ...]


class Path:
    """From a base to its view.

    steps: the functions that view it, with their arguments. version: the memory's when the view's
    place in the graph was right. refusal: why the view must not change in place while that is
    recorded; empty if it may. base: None if it is gone, which only a view made under no_grad
    outlives: such a view has no place in the graph and must not keep that of its base.
    """

    __slots__ = ("_base", "refusal", "steps", "version")

    def __init__(self, function: type[View], input: Tensor, arguments: tuple[Any, ...]) -> None:
        before = input._view
        self.steps: Steps = ((function, arguments),)
        self.refusal = ""
        if function.several:
            self.refusal = (
                f"it is one of several views that {function.__name__} has made, of which none may "
                "change in place; index the tensor, or change a clone()"
            )
        elif not grad_mode.mode.enabled:
            self.refusal = (
                "it was made under no_grad and would change with recording on; do both under "
                "no_grad, or neither"
            )
        self._base: Any = input if grad_mode.mode.enabled else weakref.ref(input)
        if before is not None:
            base, self.steps = before.base, before.steps + self.steps
            self.refusal = before.refusal or self.refusal
            if base is None or before._base is not base or grad_mode.mode.enabled:
                self._base = before._base
            else:
                self._base = weakref.ref(base)
        self.version = input._version.value

    @property
    def base(self) -> Tensor | None:
        base = self._base
        base = base() if isinstance(base, weakref.ref) else base
        # A base that became a view of itself in place (`become`) stands for what it was.
        return base if base is None or base._view is None else base._view.base

    @property
    def follows(self) -> bool:
        """Whether the base requires a gradient, and its view with it."""
        base = self._base
        return isinstance(base, Tensor) and (
            base._requires_grad or (base._view is not None and base._view.follows)
        )

    def renew(self, tensor: Tensor) -> None:
        """The memory has changed: the place in the graph of the view of the base as it is now."""
        if self.follows:
            if self.refusal:
                raise GraphError(
                    f"a view of shape {tensor.shape} is used after its memory was changed in "
                    f"place, but {self.refusal}"
                )
            mode = grad_mode.mode
            recording, mode.enabled = mode.enabled, True
            try:
                renewed: Any = self.base
                for function, arguments in self.steps:
                    renewed = function.apply(renewed, *arguments)
            finally:
                mode.enabled = recording
            if renewed._node is not None:
                _move(tensor, renewed._node, renewed.output_index)
        self.version = tensor._version.value


class WriteBack(Function):
    """The base, part of which, a view, was overwritten by `value`: d base = grad, 0 in the part;
    d value = the part of grad."""

    @staticmethod
    def forward(ctx: Any, base: Tensor, value: Tensor, steps: Steps) -> Tensor:
        array = base.array
        by_stride = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
        ctx.order, ctx.steps = memory_order(array) or tuple(by_stride), steps
        return Tensor(array, base.device, version=base._version)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        device, launch = grad_output.device, kernels.get(grad_output.device).elementwise
        rest = empty_array(grad_output.shape, grad_output.dtype, device, ctx.order)
        launch.copy_strided(rest, grad_output.array)
        viewed = rest
        for function, arguments in ctx.steps:
            viewed = function.look(viewed, *arguments)
        part = Tensor(viewed, device)
        if not ctx.needs_input_grad[0]:
            return None, part, None
        value = copy(part) if ctx.needs_input_grad[1] else None
        launch.copy_strided(part.array, full(part.shape, part.dtype, device, 0).array)
        return Tensor(rest, device), value, None


def is_recorded(*tensors: Any) -> bool:
    """Whether an in-place change of the first tensor, computed from all of them, is recorded."""
    if not grad_mode.mode.enabled:
        return False
    if any(isinstance(tensor, Tensor) and tensor.requires_grad for tensor in tensors):
        return True
    view = tensors[0]._view
    base = None if view is None else view.base
    return base is not None and base._requires_grad


def check_change(operation: str, tensor: Tensor) -> None:
    """A change in place that is recorded must have a place in the graph."""
    view, what = tensor._view, f"{operation}: the tensor of shape {tensor.shape}"
    if view is not None and view.refusal:
        raise GraphError(f"{what} cannot change in place while recording: {view.refusal}")
    advice = (
        "which cannot change in place while recording; do it under no_grad(), or change a clone()"
    )
    if tensor.requires_grad:
        if view is not None and (base := view.base) is not None and base._node is None:
            raise GraphError(f"{what} is a view of a leaf that requires a gradient, {advice}")
        if tensor.node is None:
            raise GraphError(f"{what} is a leaf that requires a gradient, {advice}")


def stand_in(kind: type[Tensor], tensor: Tensor, array: Any) -> Tensor:
    """Another array in the place that the tensor has in the graph."""
    other = kind(array, tensor.device)
    other._node = tensor.node
    other.output_index, other._requires_grad = tensor.output_index, tensor._requires_grad
    return other


def change(tensor: Tensor, result: Tensor) -> None:
    """The tensor's memory has got the values of `result`: it takes that place in the graph."""
    tensor.mark_changed()
    node, view = result._node, tensor._view
    if node is None:
        return
    node.context.move_saved(result, tensor)
    if view is None or (base := view.base) is None:
        _move(tensor, node, result.output_index)
        return
    _move(base, WriteBack.apply(base, result, view.steps)._node, 0)
    if tensor._node is not None and tensor._node.retained:
        tensor.node  # it finds its new place at once, and retains that gradient  # noqa: B018


def become(operation: str, tensor: Tensor, view: Callable[[Tensor], Tensor]) -> None:
    """Let the tensor be what a function views of it: `x.unsqueeze_(0)`."""
    if is_recorded(tensor):
        check_change(operation, tensor)
    former = stand_in(Tensor, tensor, tensor.array)
    former._version, former._view = tensor._version, tensor._view
    result = view(former)
    tensor.array = result.array
    tensor.mark_changed()  # as in torch: who saved it for a backward pass has lost it
    if grad_mode.mode.enabled or tensor._view is not None:
        tensor._view = result._view
    if tensor._view is not None:
        tensor._view.version = tensor._version.value
    if result._node is not None:
        _move(tensor, result._node, result.output_index)


def _move(tensor: Tensor, node: Node, index: int) -> None:
    """Put the tensor behind a node; the gradient that it retains is that of its new place."""
    before = tensor._node
    if before is not None:
        kept = before.retained.get(tensor.output_index)
        if kept is not None and kept() is tensor:
            node.retained[index] = before.retained.pop(tensor.output_index)
    tensor._node, tensor.output_index, tensor._requires_grad = node, index, True
