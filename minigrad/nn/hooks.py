"""Hooks: what is called before and after a module's forward pass, and when its gradients arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..engine import Function, Tensor
from ..engine.backward import RemovableHandle, add_hook
from ..engine.grad_mode import mode

_changes = 0


def changes() -> int:
    """How often any module was changed so far: an attribute, a part or a hook was set or removed.
    A change is counted when it is done: who asks before does not take it for known."""
    return _changes


def count_change() -> None:
    global _changes
    _changes += 1


class Registry(dict[Any, Any]):
    """A dict whose changes count as those of a module."""


def _counted(name: str) -> Callable[..., Any]:
    method = getattr(dict, name)

    def change(self: Registry, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        finally:
            count_change()

    return change


for _name in (
    "__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update",
):  # fmt: skip
    setattr(Registry, _name, _counted(_name))


Pair = tuple[Callable[..., Any], bool]


class Boundary(Function):
    """The identity on tensors that enter or leave a module; receive(grads) sees, and may replace,
    their gradients."""

    @staticmethod
    def forward(ctx: Any, receive: Callable[..., Any], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.receive = receive
        return tensors

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.receive(grad_outputs)


def _through(receive: Callable[..., Any], values: Any) -> tuple[Any, bool]:
    """The values, of which those that require gradients have passed a Boundary, and whether any
    did. A tensor, or a tuple or list of values of which some are tensors."""
    items = list(values) if isinstance(values, (tuple, list)) else [values]
    places = [k for k, item in enumerate(items) if isinstance(item, Tensor) and item.requires_grad]
    if not places:
        return values, False

    def spread(grads: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
        every: list[Tensor | None] = [None] * len(items)
        for place, grad in zip(places, grads, strict=True):
            every[place] = grad
        passed = receive(tuple(every))
        return tuple(passed[place] for place in places)

    passed = Boundary.apply(spread, *(items[place] for place in places))
    for place, tensor in zip(places, passed, strict=True):
        items[place] = tensor
    return (type(values)(items) if isinstance(values, (tuple, list)) else items[0]), True


class _Backward:
    """The backward hooks of one call: the output's gradients wait for those of the input."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.grad_output: Any = None
        self.has_inputs = False

    def at_output(self, grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        for hook in tuple(self.module._backward_pre_hooks.values()):
            grads = _replaced(hook(self.module, grads), grads)
        self.grad_output = grads
        if not self.has_inputs:
            self.at_input((None,))
        return grads

    def at_input(self, grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        for hook in tuple(self.module._backward_hooks.values()):
            grads = _replaced(hook(self.module, grads, self.grad_output), grads)
        return grads


def _replaced(result: Any, grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    if result is None:
        return grads
    result = result if isinstance(result, tuple) else (result,)
    if len(result) != len(grads):
        raise ValueError(
            f"a backward hook must return {len(grads)} gradients or None, got {len(result)}"
        )
    return result


class Hooks:
    """How a Module is called."""

    _forward_hooks: dict[int, Pair]
    _forward_pre_hooks: dict[int, Pair]
    _always_called: dict[int, Callable[..., Any]]
    _backward_hooks: dict[int, Callable[..., Any]]
    _backward_pre_hooks: dict[int, Callable[..., Any]]
    forward: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """forward(*args, **kwargs), with the hooks before and after it."""
        try:
            hooked = self._forward_pre_hooks or self._forward_hooks or self._backward_hooks
            hooked = hooked or self._backward_pre_hooks
        except AttributeError:
            raise AttributeError(no_init(self)) from None
        mode.observer.call(self)
        if not hooked:
            return self.forward(*args, **kwargs)
        for pre_hook, with_kwargs in tuple(self._forward_pre_hooks.values()):
            if with_kwargs:
                changed = pre_hook(self, args, kwargs)
                if changed is not None:
                    if not isinstance(changed, tuple) or len(changed) != 2:
                        raise ValueError(
                            "a forward pre-hook with kwargs must return None or (args, kwargs), "
                            f"got {changed!r:.80}"
                        )
                    args, kwargs = changed
            else:
                changed = pre_hook(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        backward = None
        if self._backward_hooks or self._backward_pre_hooks:
            backward = _Backward(self)
            args, backward.has_inputs = _through(backward.at_input, args)
        pending = dict(self._forward_hooks)
        output = None
        try:
            output = self.forward(*args, **kwargs)
            while pending:
                hook, with_kwargs = pending.pop(next(iter(pending)))
                changed = (
                    hook(self, args, kwargs, output) if with_kwargs else hook(self, args, output)
                )
                if changed is not None:
                    output = changed
        except Exception:
            for key, (hook, with_kwargs) in pending.items():
                if key in self._always_called:
                    hook(self, args, kwargs, output) if with_kwargs else hook(self, args, output)
            raise
        return output if backward is None else _through(backward.at_output, output)[0]

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call hook(module, args) before forward; what it returns, if not None, replaces args.

        prepend: before the hooks that are there. with_kwargs: hook(module, args, kwargs), which
        returns None or both.
        """
        return _add(self._forward_pre_hooks, (hook, with_kwargs), prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call hook(module, args, output) after forward; what it returns, if not None, replaces
        the output.

        prepend: before the hooks that are there. with_kwargs: hook(module, args, kwargs, output).
        always_call: also where forward raises, with the output None.
        """
        handle = _add(self._forward_hooks, (hook, with_kwargs), prepend)
        if always_call:
            self._always_called[handle.id] = hook
        return handle

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call hook(module, grad_output) when the gradients of the outputs are known; what it
        returns, if not None, replaces them. Both are tuples."""
        return _add(self._backward_pre_hooks, hook, prepend)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call hook(module, grad_input, grad_output) when the gradients of the inputs are known;
        what it returns, if not None, replaces grad_input.

        Both are tuples, with None for what requires no gradient; grad_input is of the positional
        arguments.
        """
        return _add(self._backward_hooks, hook, prepend)

    def register_backward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """The same as register_full_backward_hook, which torch recommends in its place."""
        return self.register_full_backward_hook(hook)


def _add(hooks: dict[int, Any], hook: Any, prepend: bool) -> RemovableHandle:
    handle = add_hook(hooks, hook)
    if prepend:
        others = {key: other for key, other in hooks.items() if key != handle.id}
        for key in others:
            del hooks[key]
        hooks.update(others)
    return handle


def no_init(module: object) -> str:
    return f"{type(module).__name__}.__init__ must call super().__init__() first"
