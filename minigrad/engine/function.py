"""Functions: a forward pass, its backward pass, and the Node that links them on the tape.

    class Square(minigrad.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            return 2 * x * grad_output

    y = Square.apply(x)

Every operation of minigrad is such a Function.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from ..device import Device
from ..dtypes import is_floating
from ..errors import GraphError
from . import grad_mode
from .tensor import Size, Tensor

_sequence = itertools.count()


class Context:
    """What a forward pass keeps for its backward pass. Any attribute may be set on it."""

    _saved: tuple[tuple[Tensor, int] | None, ...] | None = ()
    _non_differentiable: tuple[Tensor, ...] = ()
    materializes_grads = True

    def __init__(self, function: type[Function], needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._function = function

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors (inputs, outputs or temporaries) for backward, if there will be one; None is
        kept as None."""
        if True not in self.needs_input_grad:
            return
        # Saved without their place in the graph: a node that held its own output would be a
        # reference cycle, and its memory would wait for the garbage collector.
        self._saved = tuple(
            [None if t is None else (t.detach(), t._version.value) for t in tensors]
        )

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        if self._saved is None:
            raise GraphError(
                f"{self._function.__name__}: backward ran already and freed what it saved; use "
                "backward(retain_graph=True) to run it again"
            )
        tensors: list[Tensor | None] = []
        for saved in self._saved:
            if saved is None:
                tensors.append(None)
                continue
            tensor, version = saved
            if tensor._version.value != version:
                raise GraphError(
                    f"{self._function.__name__}: a tensor of shape {tensor.shape} saved for "
                    f"backward was changed in place since (version {tensor._version.value}, "
                    f"saved at {version})"
                )
            tensors.append(tensor)
        return tuple(tensors)

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Outputs that have no gradient, as indices do. Integer outputs need not be marked."""
        self._non_differentiable = outputs

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros for outputs that received no gradient, as it does unless told
        otherwise, or None."""
        self.materializes_grads = value

    def move_saved(self, output: Tensor, tensor: Tensor) -> None:
        """The output, if it was saved, lies in the tensor's memory now."""
        kept = []
        for saved in self._saved or ():
            if saved is not None and saved[0]._version is output._version:
                saved[0].array, saved[0]._version = tensor.array, tensor._version
                saved = saved[0], tensor._version.value
            kept.append(saved)
        self._saved = tuple(kept)

    def release(self) -> None:
        """Free everything that was kept. Of numbers, sizes and the like there is nothing to free:
        as in torch, backward can run again without retain_graph."""
        if self._saved == () and _holds_no_memory(self.__dict__.values()):
            return
        keep = self.needs_input_grad, self._function, self.materializes_grads
        self.__dict__.clear()
        self.needs_input_grad, self._function, self.materializes_grads = keep
        self._saved = None


_PLAIN = frozenset((bool, int, float, str, slice, type, type(None), Device))


def _holds_no_memory(values: Iterable[Any]) -> bool:
    """Whether these are numbers, sizes, records of such (geometry.py's), and nothing else."""
    for value in values:  # of every node of a backward pass
        kind = type(value)
        if kind in _PLAIN:
            continue
        if kind is tuple or kind is list or kind is Size:
            parts = value
        elif hasattr(kind, "__dataclass_fields__"):
            parts = [getattr(value, name) for name in kind.__dataclass_fields__]
        elif isinstance(value, (type, np.dtype)):
            continue
        else:
            return False
        if not (_PLAIN.issuperset(map(type, parts)) or _holds_no_memory(parts)):
            return False
    return True


class Node:
    """One recorded call of a Function.

    inputs[i]: where the gradient of argument i goes: (Node, output index) for a computed tensor,
        the Tensor itself for a leaf, None where none is needed.
    outputs: (shape, dtype) of each output, for gradients that never arrive.
    hooks[k]: hooks of output k; retained[k]: a tensor whose `.grad` shall be kept.
    """

    __slots__ = (
        "__weakref__", "context", "device", "function", "hooks", "inputs", "outputs", "retained",
        "sequence",
    )  # fmt: skip

    def __init__(self, function: type[Function], context: Context, args: tuple[Any, ...]) -> None:
        self.function = function
        self.context = context
        self.inputs = tuple(
            [
                (arg._node, arg.output_index)
                if needed and arg._node is not None and arg._view is None
                else _place(arg)
                if needed
                else None
                for arg, needed in zip(args, context.needs_input_grad, strict=True)
            ]
        )
        # Numbered after its inputs, of which views may just have found new nodes.
        self.sequence = next(_sequence)
        self.outputs: list[tuple[tuple[int, ...], np.dtype]] = []
        self.device: Device  # of the outputs, set with them
        self.hooks: dict[int, dict[int, Any]] = {}
        self.retained: dict[int, Any] = {}

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def next_functions(self) -> tuple[tuple[Node | AccumulateGrad | None, int], ...]:
        """torch's form of `inputs`: for each argument the node that its gradient goes to, or what
        keeps the gradient of a leaf, and which output of it the argument is; (None, 0) without."""
        return tuple(
            [
                (AccumulateGrad(place), 0)
                if isinstance(place, Tensor)
                else (None, 0)
                if place is None
                else place
                for place in self.inputs
            ]
        )

    def __repr__(self) -> str:
        return f"<{self.name}>"


class AccumulateGrad:
    """Where a walk along `next_functions` ends: a leaf, which adds up its gradients in `.grad`."""

    name = "AccumulateGrad"
    next_functions = ()

    def __init__(self, variable: Tensor) -> None:
        self.variable = variable

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.variable is self.variable

    def __hash__(self) -> int:
        return hash(self.variable)


def _place(tensor: Tensor) -> Any:
    """Where the gradient of a tensor goes; a view whose base has changed finds its place anew."""
    node = tensor.node
    return tensor if node is None else (node, tensor.output_index)


def _refuse_arrays(name: str, args: tuple[Any, ...]) -> None:
    """Of arguments among which there is no Tensor."""
    for arg in args:
        if isinstance(arg, np.ndarray):
            raise TypeError(
                f"{name}: expects a Tensor, got {type(arg).__name__}; "
                "minigrad.from_numpy(...) makes one of it"
            )


class Function:
    """Base of all operations: subclass it and define static `forward` and `backward`.

    forward(ctx, *args) gets the arguments of `apply` and returns a Tensor or a tuple of Tensors;
    nothing inside is recorded. backward(ctx, *grad_outputs) gets a gradient for every output and
    returns a gradient or None for every argument; `ctx.needs_input_grad` says which are wanted.
    """

    # joined[F](ctx of F, ctx, *grad_outputs): the backward pass and that of F, which made the first
    # argument, as one; the gradients of F's arguments, or None if it cannot. See backward.py.
    joined: ClassVar[Mapping[type[Function], Callable[..., Any]]] = {}

    # setup_context(ctx, inputs, output), if there is one, keeps what backward needs: forward gets
    # no ctx then.
    setup_context: ClassVar[Callable[..., None] | None] = None

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        raise TypeError("a Function must define a static method forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise TypeError("a Function must define a static method backward(ctx, *grad_outputs)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run forward and, if an argument requires a gradient, record the call."""
        # Every operation passes here: plain loops, no calls that can be avoided.
        mode = grad_mode.mode
        recording = mode.enabled
        needs: tuple[bool, ...] = (False,) * len(args)
        if recording:
            needs = tuple(
                [
                    isinstance(arg, Tensor)
                    and (arg._requires_grad or (arg._view is not None and arg._view.follows))
                    for arg in args
                ]
            )
        recorded = True in needs
        if not recorded:
            for arg in args:
                if isinstance(arg, Tensor):
                    break
            else:
                _refuse_arrays(cls.__name__, args)
        context = Context(cls, needs)
        if recording:
            mode.enabled = False
        try:
            if cls.setup_context is None:
                result = cls.forward(context, *args)
            else:
                result = cls.forward(*args)
                cls.setup_context(context, args, result)
        finally:
            mode.enabled = recording
        mode.observer.use(args)
        outputs = result if isinstance(result, tuple) else (result,)
        for output in outputs:
            if not isinstance(output, Tensor):
                raise TypeError(
                    f"{cls.__name__}.forward must return Tensors, got {type(output).__name__}"
                )
            if output._view is not None and not any(output is arg for arg in args):
                output._view = None  # of a temporary of forward's
        if not recorded:
            return result
        node = Node(cls, context, args)
        results = []
        for index, output in enumerate(outputs):
            shape, dtype = output.array.shape, output.array.dtype
            differentiable = is_floating(dtype)
            for tensor in context._non_differentiable:
                differentiable = differentiable and tensor is not output
            for arg in args:
                if arg is output:
                    # An input handed through becomes a tensor of its own in the graph.
                    output = output.detach()
                    break
            node.outputs.append((shape, dtype))
            node.device = output.device
            if differentiable:
                output._node, output.output_index = node, index
                output._requires_grad = True
            results.append(output)
        context._non_differentiable = ()
        return tuple(results) if isinstance(result, tuple) else results[0]
