"""Reverse-mode differentiation: the walk back along the tape.

Nodes are numbered in the order in which they were recorded, and an operation is always recorded
after those that made its inputs. So visiting the reachable nodes by descending number meets every
node after all of its consumers: a heap does that, without recursion and without a first pass to
count consumers.
"""

from __future__ import annotations

import heapq
import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..device import same_device
from ..errors import GraphError
from .function import Node
from .grad_mode import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from .gradient import accumulate, add, check_gradient, copy, full
from .tensor import Tensor

__all__ = ["backward", "enable_grad", "grad", "is_grad_enabled", "no_grad", "set_grad_enabled"]


def backward(
    root: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> None:
    """Accumulate the gradient of `root` into its leaves. See `Tensor.backward`."""
    if create_graph:
        raise GraphError("backward: create_graph=True (double backward) is not supported")
    if not root.requires_grad:
        raise GraphError("backward: the tensor does not require gradients and was not computed "
                         "from any that does")  # fmt: skip
    with no_grad():
        _walk([(root, _root_gradient(root, gradient))], retain_graph)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
) -> tuple[Tensor | None, ...]:
    """The gradients of the sum of `outputs` to `inputs`, leaves or not; no `.grad` changes.

    grad_outputs: gradients of the outputs; None for those of one element. allow_unused: give None
    for an input that no output depends on, instead of a GraphError.
    """
    if create_graph:
        raise GraphError("grad: create_graph=True (double backward) is not supported")
    sources, targets = _listed(outputs), _listed(inputs)
    given = [None] * len(sources) if grad_outputs is None else _listed(grad_outputs)
    for tensor in (*sources, *targets):
        if not tensor.requires_grad:
            raise GraphError(f"grad: a tensor of shape {tensor.shape} does not require gradients")
    with no_grad():
        pairs = zip(sources, given, strict=True)
        roots = [(root, _root_gradient(root, gradient)) for root, gradient in pairs]
        wanted = _Wanted(sources, targets)
        _walk(roots, bool(retain_graph), wanted)
    found = tuple([wanted.found.get(_place(tensor)) for tensor in targets])
    for tensor, gradient in zip(targets, found, strict=True):
        if gradient is None and not allow_unused:
            raise GraphError(
                f"grad: no output depends on an input of shape {tensor.shape}; allow_unused=True "
                "gives None for it"
            )
    return found


def _listed(tensors: Any) -> list[Any]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _place(tensor: Tensor) -> Any:
    """Where a gradient of the tensor arrives: at the leaf itself, or at an output of a node."""
    return tensor if tensor.node is None else (tensor.node, tensor.output_index)


class _Wanted:
    """Which gradients `grad` asks for. found: those that arrived. nodes: those on the way; no other
    runs, so that their graph stays for another backward pass."""

    def __init__(self, roots: list[Tensor], inputs: list[Tensor]) -> None:
        self.found: dict[Any, Tensor] = {}
        self.places = {_place(tensor) for tensor in inputs}
        self.nodes: set[Node] = set()
        pending = [root.node for root in roots if root.node is not None]
        reachable = set(pending)
        while pending:
            targets = pending.pop().inputs
            producers = {target[0] for target in targets if isinstance(target, tuple)} - reachable
            reachable |= producers
            pending += producers
        for node in sorted(reachable, key=lambda node: node.sequence):
            for target in node.inputs:
                if target in self.places or (isinstance(target, tuple) and target[0] in self.nodes):
                    self.nodes.add(node)

    def waits_at(self, node: Node) -> bool:
        outputs = range(len(node.outputs))
        return node in self.nodes or any((node, index) in self.places for index in outputs)

    def catch(self, place: Any, gradient: Tensor) -> None:
        if place in self.places:
            before = self.found.get(place)
            self.found[place] = copy(gradient) if before is None else add(before, gradient)


def _root_gradient(root: Tensor, gradient: Tensor | None) -> Tensor:
    if gradient is None:
        if root.array.size != 1:
            raise GraphError(
                f"backward: a tensor of shape {root.shape} needs an explicit gradient; only a "
                "tensor of one element has the default 1"
            )
        return full(root.shape, root.dtype, root.device, 1)
    check_gradient("backward: gradient", gradient, root.shape, root.dtype)
    same_device("backward", tensor=root.device, gradient=gradient.device)
    return gradient


def _walk(
    roots: list[tuple[Tensor, Tensor]], retain_graph: bool, wanted: _Wanted | None = None
) -> None:
    # Gradients that have arrived at the outputs of the nodes still to visit.
    arrived: dict[Node, list[Tensor | None]] = {}
    # Hooks of leaves see the whole gradient, when all of it is there: what has arrived so far, and
    # how often a leaf is used by nodes still to visit, counted when the first such leaf is met.
    hooked: dict[Tensor, Tensor] = {}
    uses: Counter[Tensor] | None = None
    heap: list[tuple[int, Node]] = []

    def arrive(producer: Node, index: int, grad: Tensor) -> None:
        slots = arrived.get(producer)
        if slots is None:
            if wanted is not None and not wanted.waits_at(producer):
                return
            slots = arrived[producer] = [None] * len(producer.outputs)
            heapq.heappush(heap, (-producer.sequence, producer))
        before = slots[index]
        slots[index] = grad if before is None else add(before, grad)

    for root, gradient in roots:
        if root.node is None:
            _accumulate_leaf(root, gradient, True, wanted)
        else:
            arrive(root.node, root.output_index, gradient)
    while heap:
        _, node = heapq.heappop(heap)
        grads = arrived.pop(node)
        grad_outputs = _complete(node, grads)
        if wanted is not None:
            for index, grad in enumerate(grads):
                if grad is not None:
                    wanted.catch((node, index), grad_outputs[index])
            if node not in wanted.nodes:
                continue
        producer = _joined_with(node, arrived) if wanted is None and _joining else None
        grad_inputs = None
        if producer is not None:
            join = node.function.joined[producer.function]
            grad_inputs = join(producer.context, node.context, *grad_outputs)
        if producer is None or grad_inputs is None:
            grad_inputs = _call_backward(node, grad_outputs)
        else:
            if not retain_graph:
                node.context.release()
            node = producer
        # Memory that a gradient may share with another tensor; a leaf gets its own copy then.
        shared: set[int] = set()
        reaches_leaf = True in [isinstance(target, Tensor) for target in node.inputs]
        if reaches_leaf:
            shared.update([_owner(grad) for grad in grad_outputs if grad is not None])
            shared.update([_owner(saved[0]) for saved in node.context._saved or () if saved])
        if not retain_graph:
            node.context.release()
        for target, grad in zip(node.inputs, grad_inputs, strict=True):
            awaited = False
            if isinstance(target, Tensor) and target._hooks:
                awaited = True
                uses = _uses(node, heap) if uses is None else uses
                uses[target] -= 1
                if grad is None and not uses[target] and target in hooked:
                    _accumulate_leaf(target, hooked.pop(target), False, wanted)
            if target is None or grad is None:
                continue
            owner = _owner(grad) if reaches_leaf else 0
            if isinstance(target, Tensor):
                _check_returned(node, grad, target.array.shape, target.array.dtype)
                before = hooked.pop(target, None) if awaited else None
                if awaited and uses is not None and uses[target]:  # more will arrive
                    hooked[target] = copy(grad) if before is None else add(before, grad)
                    continue
                grad = grad if before is None else add(before, grad)
                _accumulate_leaf(target, grad, before is None and owner in shared, wanted)
            else:
                producer, index = target
                _check_returned(node, grad, *producer.outputs[index])
                arrive(producer, index, grad)
            shared.add(owner)
    for leaf, grad in hooked.items():
        _accumulate_leaf(leaf, grad, False, wanted)


def _uses(node: Node, heap: list[tuple[int, Node]]) -> Counter[Tensor]:
    """How often a node and all that are reached from it, or still to visit, use each leaf."""
    pending = [node, *(waiting for _, waiting in heap)]
    reachable = set(pending)
    found: Counter[Tensor] = Counter()
    while pending:
        for target in pending.pop().inputs:
            if isinstance(target, Tensor):
                found[target] += 1
            elif target is not None and target[0] not in reachable:
                reachable.add(target[0])
                pending.append(target[0])
    return found


_joining = True


def set_joining(enabled: bool) -> None:
    """Whether backward passes that can run as one do; on by default."""
    global _joining
    _joining = enabled


def _joined_with(node: Node, arrived: dict[Node, Any]) -> Node | None:
    """The node that made this one's first argument, if their backward passes can run as one.

    Nobody else may see the gradient between them, or add to it. What was recorded after this node
    has been walked through; that nothing was recorded between the two, their numbers tell.
    """
    if not node.function.joined or not isinstance(node.inputs[0], tuple):
        return None
    producer = node.inputs[0][0]
    private = not (producer in arrived or producer.hooks or producer.retained)
    adjacent = producer.sequence + 1 == node.sequence and producer.context._saved is not None
    return producer if private and adjacent and producer.function in node.function.joined else None


def _complete(node: Node, grads: list[Tensor | None]) -> list[Any]:
    """Zeros, or None if it wants that, for outputs that received no gradient; then hooks and
    retained gradients."""
    if len(grads) == 1 and not node.hooks and not node.retained:
        return grads  # one has arrived
    complete = []
    for index, ((shape, dtype), grad) in enumerate(zip(node.outputs, grads, strict=True)):
        if grad is None:
            if node.context.materializes_grads:
                grad = full(shape, dtype, node.device, 0)
        else:
            if index in node.hooks:
                grad = _run_hooks(node.hooks[index], grad)
            tensor = node.retained[index]() if index in node.retained else None
            if tensor is not None:
                # A copy: the gradient itself goes on to the node and may end in a leaf.
                tensor.grad = copy(grad) if tensor.grad is None else add(tensor.grad, grad)
        complete.append(grad)
    return complete


def _call_backward(node: Node, grad_outputs: list[Any]) -> tuple[Tensor | None, ...]:
    if node.context._saved is None:
        node.context.saved_tensors  # raises: freed by an earlier backward  # noqa: B018
    result = node.function.backward(node.context, *grad_outputs)
    grads = result if isinstance(result, tuple) else (result,)
    if len(grads) != len(node.inputs):
        raise GraphError(
            f"{node.name}.backward must return {len(node.inputs)} gradients, one for each argument "
            f"of forward, got {len(grads)}"
        )
    for grad in grads:
        if grad is not None and not isinstance(grad, Tensor):
            raise TypeError(
                f"{node.name}.backward must return Tensors or None, got {type(grad).__name__}"
            )
    return grads


def _check_returned(node: Node, grad: Tensor, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if grad.array.shape != shape or grad.array.dtype != dtype:
        what = f"{node.name}.backward: the gradient returned for an input"
        check_gradient(what, grad, shape, dtype)


def _owner(tensor: Tensor) -> int:
    """Identity of the memory behind a tensor."""
    array = tensor.array
    while (base := array.base) is not None:
        if not isinstance(base, np.ndarray):
            return id(base)
        array = base
    return id(array)


def _accumulate_leaf(
    leaf: Tensor, grad: Tensor, shared: bool, wanted: _Wanted | None = None
) -> None:
    if wanted is not None and leaf not in wanted.places:
        return
    if leaf._hooks and not all(isinstance(hook, _After) for hook in leaf._hooks.values()):
        grad = _run_hooks(leaf._hooks, grad)
        shared = True  # hooks may have kept, or returned, memory of somebody else
    if wanted is not None:
        wanted.catch(leaf, grad)
        return
    accumulate(leaf, grad, shared)
    for hook in list(leaf._hooks.values()) if leaf._hooks else ():
        if isinstance(hook, _After):
            hook.call(leaf)


# Hooks --------------------------------------------------------------------------------------

_hook_ids = itertools.count()


class RemovableHandle:
    """Returned by functions that register a hook; `remove()` takes the hook away again."""

    def __init__(self, hooks: dict[int, Any], key: int) -> None:
        self._hooks, self.id = hooks, key

    def remove(self) -> None:
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def add_hook(hooks: dict[int, Any], hook: Any) -> RemovableHandle:
    """Append `hook` to an ordered dict of hooks."""
    key = next(_hook_ids)
    hooks[key] = hook
    return RemovableHandle(hooks, key)


def register_hook(tensor: Tensor, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Call `hook(grad)` when the gradient of `tensor` is known; what it returns replaces it."""
    if not tensor.requires_grad:
        raise GraphError("register_hook: the tensor does not require gradients")
    if tensor.node is not None:
        return add_hook(tensor.node.hooks.setdefault(tensor.output_index, {}), hook)
    if tensor._hooks is None:
        tensor._hooks = {}
    return add_hook(tensor._hooks, hook)


class _After(NamedTuple):
    """Among the hooks of a leaf: one that is called when its `.grad` is complete."""

    call: Callable[[Tensor], Any]


def register_post_accumulate_grad_hook(
    tensor: Tensor, hook: Callable[[Tensor], None]
) -> RemovableHandle:
    """Call `hook(tensor)` whenever a backward pass has added to the `.grad` of this leaf."""
    if tensor.node is not None or not tensor.requires_grad:
        raise GraphError(
            "register_post_accumulate_grad_hook: the tensor must be a leaf that requires gradients"
        )
    if tensor._hooks is None:
        tensor._hooks = {}
    return add_hook(tensor._hooks, _After(hook))


def retains_grad(tensor: Tensor) -> bool:
    """Whether `retain_grad` was called on this computed tensor."""
    node = tensor.node
    kept = None if node is None else node.retained.get(tensor.output_index)
    return kept is not None and kept() is tensor


def retain_grad(tensor: Tensor) -> None:
    """Keep the gradient of a computed tensor in its `.grad`, as leaves do. No effect on a leaf."""
    if not tensor.requires_grad:
        raise GraphError("retain_grad: the tensor does not require gradients")
    if tensor.node is not None:
        tensor.node.retained[tensor.output_index] = weakref.ref(tensor)


def _run_hooks(hooks: dict[int, Any], grad: Tensor) -> Tensor:
    for hook in list(hooks.values()):
        if isinstance(hook, _After):
            continue
        replaced = hook(grad)
        if replaced is not None:
            if not isinstance(replaced, Tensor):
                raise TypeError(
                    f"a gradient hook must return a Tensor or None, got {type(replaced).__name__}"
                )
            check_gradient("a gradient hook: the result", replaced, grad.shape, grad.dtype)
            grad = replaced
    return grad
