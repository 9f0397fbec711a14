"""State dicts: what a module saves, and how it is loaded again.

Loading is in two passes. The first asks every module what fits; only where all of it does, the
second changes anything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from .. import kernels
from ..engine import Tensor
from ..engine.backward import RemovableHandle, add_hook
from ..errors import CheckpointError
from ..ops.exchange import borrowed
from ..ops.transfer import readable
from .parameter import Parameter, is_lazy

_EXTRA = "_extra_state"


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` left alone."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not any(self):
            return "<All keys matched successfully>"
        return (
            f"IncompatibleKeys(missing_keys={self.missing_keys}, "
            f"unexpected_keys={self.unexpected_keys})"
        )


class StateDict(OrderedDict[str, Any]):
    """Tensors by name, and of each module the version of its class."""

    _metadata: dict[str, Any]


class _Loading(StateDict):
    """A state dict while it is loaded: its own copy, which hooks may change."""

    def __init__(self, values: Mapping[str, Any], assign: bool) -> None:
        super().__init__(values)
        self.assign = assign
        self.pending: list[Callable[[], None]] = []


class State:
    """How a Module is saved and loaded."""

    _version = 1
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]
    _state_dict_hooks: dict[int, Callable[..., Any]]
    _state_dict_pre_hooks: dict[int, Callable[..., Any]]
    _load_state_dict_pre_hooks: dict[int, Callable[..., Any]]
    _load_state_dict_post_hooks: dict[int, Callable[..., Any]]

    # Saving -----------------------------------------------------------------------------------

    def _own_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and persistent buffers of this module, in torch's order."""
        for name, tensor in (*self._parameters.items(), *self._buffers.items()):
            if tensor is not None and name not in self._non_persistent_buffers_set:
                yield name, tensor

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Put what this module itself holds into `destination`; for subclasses to extend."""
        for name, tensor in self._own_tensors():
            kept = keep_vars or is_lazy(tensor)
            destination[prefix + name] = tensor if kept else tensor.detach()
        if type(self).get_extra_state is not State.get_extra_state:
            destination[prefix + _EXTRA] = self.get_extra_state()

    def get_extra_state(self) -> Any:
        """What else the state dict shall hold; for subclasses to define, with set_extra_state."""
        raise RuntimeError(f"{type(self).__name__} must define get_extra_state")

    def set_extra_state(self, state: Any) -> None:
        """Take what get_extra_state returned."""
        raise RuntimeError(f"{type(self).__name__} must define set_extra_state")

    def state_dict(
        self,
        destination: dict[str, Any] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Any]:
        """Parameters and persistent buffers by name; they share memory with the module.

        destination: the dict to fill. keep_vars: the parameters themselves, not outside the graph.
        """
        if destination is None:
            destination = StateDict()
            destination._metadata = {}
        elif not isinstance(destination, dict):
            raise TypeError(
                f"state_dict: destination must be a dict or None, got {destination!r:.80}; "
                "pass the prefix by keyword"
            )
        for hook in tuple(self._state_dict_pre_hooks.values()):
            hook(self, prefix, keep_vars)
        metadata = {"version": self._version}
        if isinstance(destination, StateDict):
            destination._metadata[prefix[:-1]] = metadata
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(
                    destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars
                )
        for hook in tuple(self._state_dict_hooks.values()):
            changed = hook(self, destination, prefix, metadata)
            destination = destination if changed is None else changed
        return destination

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call hook(module, prefix, keep_vars) before state_dict."""
        return add_hook(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call hook(module, state_dict, prefix, local_metadata) at the end of state_dict, to change
        the dict in place."""
        return add_hook(self._state_dict_hooks, hook)

    _register_state_dict_hook = register_state_dict_post_hook

    # Loading ----------------------------------------------------------------------------------

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take what this module itself holds; for subclasses to extend, as torch's.

        state_dict may be changed. Names that are missing, that are not known and what else does not
        fit are appended to the lists.
        """
        for hook in tuple(self._load_state_dict_pre_hooks.values()):
            hook(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
                error_msgs,
            )  # fmt: skip
        known = {_EXTRA}
        todo: list[Callable[[], None]] = []
        for name, tensor in self._own_tensors():
            known.add(name)
            key = prefix + name
            if key not in state_dict:
                missing_keys.append(key)
                continue
            try:
                value = borrowed(state_dict[key])
            except TypeError as error:
                error_msgs.append(f"{key} must be a Tensor: {error}")
                continue
            if tensor.array.shape == () and value.array.shape == (1,):
                value = value[0]  # as files of old releases of torch have it
            if not is_lazy(tensor) and value.array.shape != tensor.shape:
                error_msgs.append(
                    f"size mismatch for {key}: must have shape {tensor.shape}, got "
                    f"{value.array.shape}"
                )
                continue
            assign = isinstance(state_dict, _Loading) and state_dict.assign
            todo.append(partial(_change, self, name, tensor, value, assign))
        if type(self).set_extra_state is not State.set_extra_state:
            if prefix + _EXTRA in state_dict:
                extra = state_dict[prefix + _EXTRA]
                todo.append(lambda: self.set_extra_state(extra))
            else:
                missing_keys.append(prefix + _EXTRA)
        elif prefix + _EXTRA in state_dict:
            unexpected_keys.append(prefix + _EXTRA)
        for key in state_dict:
            if key.startswith(prefix):
                first, *rest = key[len(prefix) :].split(".", 1)
                if first not in (self._modules if rest else known):
                    unexpected_keys.append(key)
        if isinstance(state_dict, _Loading):
            state_dict.pending += todo
        else:
            for change in todo:
                change()

    def _plan(self, state_dict: Any, strict: bool, assign: bool) -> tuple[_Loading, Any, list[str]]:
        """What loading would change, what it would leave alone, and what speaks against it."""
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"load_state_dict: state_dict must be a dict, got {type(state_dict).__name__}"
            )
        loading = _Loading({k: v for k, v in state_dict.items() if isinstance(k, str)}, assign)
        metadata = getattr(state_dict, "_metadata", None) or {}
        missing: list[str] = []
        unexpected = [str(key) for key in state_dict if not isinstance(key, str)]
        problems: list[str] = []
        result = IncompatibleKeys(missing, unexpected)

        def visit(module: State, prefix: str) -> None:
            local = dict(metadata.get(prefix[:-1], {}))
            if assign:
                local["assign_to_params_buffers"] = True
            module._load_from_state_dict(
                loading, prefix, local, True, missing, unexpected, problems
            )
            for name, child in module._modules.items():
                if child is not None:
                    visit(child, f"{prefix}{name}.")
            for hook in tuple(module._load_state_dict_post_hooks.values()):
                loading.pending.append(partial(_call_post_hook, hook, module, result))

        visit(self, "")
        return loading, result, problems

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy values into the parameters and buffers, converted to their dtypes. Values may be
        NumPy arrays and other libraries' tensors (DLPack), in half precision, too.

        strict: every name must be on both sides. assign: the values themselves become parameters
        and buffers. Raises CheckpointError that lists all missing and unexpected names and all
        wrong shapes; nothing is changed then.
        """
        loading, result = self._check_state_dict(state_dict, strict, assign)
        for change in loading.pending:
            change()
        return result

    def _check_state_dict(
        self, state_dict: Any, strict: bool, assign: bool = False
    ) -> tuple[_Loading, IncompatibleKeys]:
        loading, result, errors = self._plan(state_dict, strict, assign)
        problems = []
        listed = ("Missing", result.missing_keys), ("Unexpected", result.unexpected_keys)
        for kind, keys in listed if strict else ():
            if keys:  # in torch's words, which scripts look for
                names = ", ".join(f'"{key}"' for key in keys)
                problems.append(f"{kind} key(s) in state_dict: {names}.")
        problems += errors
        if problems:
            if prefix := _only_prefix(result):
                problems.append(f"All names begin with {prefix!r}: take it off them.")
            raise CheckpointError(
                f"Error(s) in loading state_dict for {type(self).__name__}:\n\t"
                + "\n\t".join(problems)
            )
        return loading, result

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], with_module: bool = False
    ) -> RemovableHandle:
        """Call hook([module,] state_dict, prefix, local_metadata, strict, missing_keys,
        unexpected_keys, error_msgs) before this module takes its values; it may change the dict."""
        called = (lambda *args: hook(self, *args)) if with_module else hook
        return add_hook(self._load_state_dict_pre_hooks, called)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call hook(module, state_dict, prefix, local_metadata, strict, missing_keys,
        unexpected_keys, error_msgs) before this module takes its values; it may change the dict."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call hook(module, incompatible_keys) after loading."""
        return add_hook(self._load_state_dict_post_hooks, hook)


def _only_prefix(keys: IncompatibleKeys) -> str:
    """What every unexpected name has before a missing one, as from a model in a DataParallel."""
    missing, unexpected = set(keys.missing_keys), keys.unexpected_keys
    if not unexpected or not missing:
        return ""
    prefix = unexpected[0].partition(".")[0] + "."
    rest = [key.removeprefix(prefix) for key in unexpected if key.startswith(prefix)]
    return prefix if len(rest) == len(unexpected) and missing == set(rest) else ""


def _call_post_hook(hook: Callable[..., Any], module: State, keys: IncompatibleKeys) -> None:
    result = hook(module, keys)
    if result is not None:
        raise TypeError(
            f"a load_state_dict post-hook must change its argument and return None, got {result!r}"
        )


def _change(module: State, name: str, tensor: Tensor, value: Tensor, assign: bool) -> None:
    """Give one tensor of a module its new values."""
    if assign:
        if isinstance(tensor, Parameter) and not isinstance(value, Parameter):
            value = Parameter(value.detach(), tensor.requires_grad)
        setattr(module, name, value)
        return
    if is_lazy(tensor):
        if is_lazy(value):
            return
        tensor.materialize(value.array.shape)
    source = readable(value, tensor.device)
    kernels.get(tensor.device).elementwise.copy_strided(tensor.array, source)
    tensor.mark_changed()
