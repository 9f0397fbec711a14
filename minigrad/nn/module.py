"""Modules: parameters, buffers and submodules under names, and how they are called and saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .. import kernels
from ..device import Device, as_device
from ..dtypes import as_dtype, is_floating
from ..engine import Tensor, clear_grad
from ..engine.backward import RemovableHandle, add_hook
from ..errors import CheckpointError, DTypeError
from ..ops.transfer import converted, readable, share_memory

__all__ = ["Module", "Parameter"]

T = TypeVar("T", bound="Module")


class Parameter(Tensor):
    """A tensor that a Module lists among its parameters. It shares the memory of `data`."""

    __slots__ = ()

    def __init__(self, data: Tensor, requires_grad: bool = True) -> None:
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter: data must be a Tensor, got {type(data).__name__}")
        super().__init__(data.array, data.device, requires_grad, version=data._version)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` left alone."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base of all layers and networks.

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(4, 2)

            def forward(self, x):
                return self.fc(x)

    Parameters and modules set as attributes are registered under the attribute's name.
    """

    training: bool

    def __init__(self) -> None:
        # Set through object: __setattr__ below needs these to exist.
        for name, value in (
            ("training", True),
            ("_parameters", {}),
            ("_buffers", {}),
            ("_modules", {}),
            ("_non_persistent", set()),
            ("_forward_hooks", {}),
            ("_forward_pre_hooks", {}),
        ):
            object.__setattr__(self, name, value)

    # Calling ----------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} must define forward(self, ...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """forward(*args, **kwargs), with the hooks before and after it."""
        try:
            pre_hooks, hooks = self._forward_pre_hooks, self._forward_hooks
        except AttributeError:
            raise AttributeError(_no_init(self)) from None
        for hook in tuple(pre_hooks.values()):
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        output = self.forward(*args, **kwargs)
        for hook in tuple(hooks.values()):
            changed = hook(self, args, output)
            if changed is not None:
                output = changed
        return output

    def register_forward_pre_hook(self, hook: Callable[[Any, Any], Any]) -> RemovableHandle:
        """Call hook(module, args) before forward; what it returns, if not None, replaces args."""
        return add_hook(self._forward_pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[[Any, Any, Any], Any]) -> RemovableHandle:
        """Call hook(module, args, output) after forward; what it returns, if not None, replaces
        the output."""
        return add_hook(self._forward_hooks, hook)

    # Registering ------------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter; None keeps the name for one that is absent, as a bias may be."""
        self._check_name("parameter", name, self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"{type(self).__name__}: parameter {name!r} must be a Parameter or None, got "
                f"{type(param).__name__}"
            )
        if param is not None and not param.is_leaf:
            raise ValueError(
                f"{type(self).__name__}: parameter {name!r} must be a leaf, but {param.node} "
                "computed it"
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is part of the module's state but not trained.

        persistent=False keeps it out of the state dict.
        """
        self._check_name("buffer", name, self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"{type(self).__name__}: buffer {name!r} must be a Tensor or None, got "
                f"{type(tensor).__name__}"
            )
        self._buffers[name] = tensor
        self._non_persistent.discard(name)
        if not persistent:
            self._non_persistent.add(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a submodule."""
        self._check_name("module", name, self._modules)
        if module is not None and not isinstance(module, Module):
            raise TypeError(
                f"{type(self).__name__}: module {name!r} must be a Module or None, got "
                f"{type(module).__name__}"
            )
        self._modules[name] = module

    def add_module(self, name: str, module: Module | None) -> None:
        """The same as register_module."""
        self.register_module(name, module)

    def _check_name(self, kind: str, name: str, registry: dict[str, Any]) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name must be a string, got {type(name).__name__}")
        if not name or "." in name:
            raise KeyError(f"{kind} name must be a non-empty string without dots, got {name!r}")
        if name not in registry and hasattr(self, name):
            raise KeyError(f"{type(self).__name__} has an attribute {name!r} already")

    def __setattr__(self, name: str, value: Any) -> None:
        registries = self.__dict__
        if "_parameters" not in registries:
            if isinstance(value, (Parameter, Module)):
                raise AttributeError(_no_init(self))
            object.__setattr__(self, name, value)
            return
        for kind, cls in (("_parameters", Parameter), ("_modules", Module), ("_buffers", Tensor)):
            own = isinstance(value, cls)
            if own and kind != "_buffers":
                # A new parameter or module replaces whatever had the name.
                for other in ("_parameters", "_buffers", "_modules"):
                    if other != kind:
                        registries[other].pop(name, None)
                registries["_non_persistent"].discard(name)
                registries.pop(name, None)
                if kind == "_parameters":
                    self.register_parameter(name, value)
                else:
                    self.register_module(name, value)
                return
            if name in registries[kind]:
                if not own and value is not None:
                    wanted = {"_parameters": "parameter", "_modules": "module"}.get(kind, "buffer")
                    raise TypeError(
                        f"{type(self).__name__}: {name!r} is a registered {wanted} and takes a "
                        f"{cls.__name__} or None, got {type(value).__name__}"
                    )
                registries[kind][name] = value
                return
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # Called only when the ordinary look-up finds nothing.
        for kind in ("_parameters", "_buffers", "_modules"):
            registry = self.__dict__.get(kind)
            if registry is not None and name in registry:
                return registry[name]
        if "_parameters" not in self.__dict__ and not name.startswith("__"):
            raise AttributeError(f"{_no_init(self)} (attribute {name!r})")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for kind in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__.get(kind, ()):
                del self.__dict__[kind][name]
                self._non_persistent.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    # Walking ----------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Direct submodules, a shared one once."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, depth first, a shared one once."""
        seen: set[int] = set()
        for name, module in self._walk(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        """Every module under every name that it has."""
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module._walk(f"{prefix}.{name}" if prefix else name)

    def _named_members(self, kind: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name, member in getattr(module, kind).items():
                if member is not None and id(member) not in seen:
                    seen.add(id(member))
                    yield f"{path}.{name}" if path else name, member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Names and parameters, a shared one once under its first name."""
        return self._named_members("_parameters", prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (param for _, param in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        return self._named_members("_buffers", prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    # State ------------------------------------------------------------------------------------

    def _state_tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """What the state dict holds, in torch's order; a shared tensor under each of its names."""
        for path, module in self._walk(prefix):
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None and name not in module._non_persistent:
                    yield f"{path}.{name}" if path else name, tensor

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Parameters and persistent buffers by name; they share memory with the module."""
        root = prefix.removesuffix(".")
        return {name: tensor.detach() for name, tensor in self._state_tensors(root)}

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True
    ) -> IncompatibleKeys:
        """Copy values into the parameters and buffers, converted to their dtypes.

        strict: every name must be on both sides. Raises CheckpointError that lists all missing and
        unexpected names and all wrong shapes; nothing is changed then.
        """
        result = self._check_state_dict(state_dict, strict)
        for name, tensor in self._state_tensors():
            if name in state_dict:
                value = state_dict[name]
                source = readable(value, tensor.device)
                kernels.get(tensor.device).elementwise.copy_strided(tensor.array, source)
                tensor.mark_changed()
        return result

    def _check_state_dict(self, state_dict: Any, strict: bool) -> IncompatibleKeys:
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"load_state_dict: state_dict must be a dict, got {type(state_dict).__name__}"
            )
        own = dict(self._state_tensors())
        missing = [name for name in own if name not in state_dict]
        skipped = {
            f"{path}.{name}".lstrip(".")
            for path, module in self._walk("")
            for name in module._skipped_state
        }
        unexpected = [name for name in state_dict if name not in own and name not in skipped]
        problems = []
        if strict and missing:
            problems.append(f"missing: {', '.join(missing)}")
        if strict and unexpected:
            problems.append(f"unexpected: {', '.join(map(str, unexpected))}")
        for name, tensor in own.items():
            value = state_dict.get(name, tensor)
            if not isinstance(value, Tensor):
                problems.append(f"{name} must be a Tensor, got {type(value).__name__}")
            elif value.shape != tensor.shape:
                problems.append(f"{name} must have shape {tensor.shape}, got {value.shape}")
        if problems:
            raise CheckpointError(
                f"{type(self).__name__}: the state dict does not fit\n  " + "\n  ".join(problems)
            )
        return IncompatibleKeys(missing, unexpected)

    # Modes and conversions --------------------------------------------------------------------

    def train(self: T, mode: bool = True) -> T:
        """Training behaviour (dropout drops, batch norm uses the batch) on or off, all the way
        down."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: mode must be a bool, got {mode!r}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: T) -> T:
        """The same as train(False)."""
        return self.train(False)

    def requires_grad_(self: T, requires_grad: bool = True) -> T:
        """Let all parameters require gradients, or freeze them."""
        for param in self.parameters():
            param.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or with set_to_none=False fill them with zeros."""
        for param in self.parameters():
            clear_grad(param, set_to_none)

    def apply(self: T, fn: Callable[[Module], Any]) -> T:
        """Call fn on every submodule, children first, and on this one."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def to(
        self: T,
        *args: Any,
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> T:
        """Move to a device, convert floating parameters and buffers to a dtype, or both.

        to(device), to(dtype), to(device, dtype) or by keyword. Parameters stay the same objects, so
        optimisers keep them.
        """
        for arg in args:
            if isinstance(arg, Device) or (isinstance(arg, str) and not _names_dtype(arg)):
                device = arg
            elif arg is not None:
                dtype = arg
        to_device = None if device is None else as_device(device)
        to_dtype = None if dtype is None else as_dtype(dtype)
        if to_dtype is not None and not is_floating(to_dtype):
            raise DTypeError(f"to: dtype must be float32 or float64, got {to_dtype.name}")
        for tensor in (*self.parameters(), *self.buffers()):
            _convert(tensor, to_device, to_dtype)
            if tensor.grad is not None:
                tensor.grad = tensor.grad.detach()
                _convert(tensor.grad, to_device, to_dtype)
        return self

    def float(self: T) -> T:
        """Floating parameters and buffers as float32."""
        return self.to(dtype=np.float32)

    def double(self: T) -> T:
        """Floating parameters and buffers as float64."""
        return self.to(dtype=np.float64)

    # Names that a state dict may hold for this module, and that are not loaded.
    _skipped_state: tuple[str, ...] = ()

    # Printing ---------------------------------------------------------------------------------

    # Attributes that the default extra_repr shows.
    _shown: tuple[str, ...] = ()

    def extra_repr(self) -> str:
        """The arguments that repr shows; for subclasses to define."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in self._shown)

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [
            f"({name}): " + repr(module).replace("\n", "\n  ")
            for name, module in self._modules.items()
        ]
        if not children and len(lines) <= 1:
            return f"{self._get_name()}({extra})"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines + children) + "\n)"


def _no_init(module: Module) -> str:
    return f"{type(module).__name__}.__init__ must call super().__init__() first"


def _names_dtype(text: str) -> bool:
    try:
        as_dtype(text)
    except DTypeError:
        return False
    return True


def _convert(tensor: Tensor, device: Device | None, dtype: np.dtype | None) -> None:
    """Change a tensor's memory in place, keeping its memory order. Integer tensors only move."""
    device = device or tensor.device
    if dtype is None or not is_floating(tensor.dtype):
        dtype = tensor.dtype
    if dtype != tensor.dtype or not share_memory(device, tensor.device):
        tensor.array = converted(tensor.array, dtype, tensor.device, device)
    tensor.device = device
