"""Modules: parameters, buffers and submodules under names, and how they are called and saved."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from ..device import Device, as_device
from ..dtypes import as_dtype, bfloat16, float16, is_floating
from ..engine import Tensor, clear_grad
from ..errors import DTypeError
from ..layout import empty_array, order_of
from ..ops.transfer import converted, share_memory
from .hooks import Hooks, Registry, count_change, no_init
from .parameter import Buffer, Parameter
from .state import State

__all__ = ["Module"]

T = TypeVar("T", bound="Module")

_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_always_called", "_backward_hooks",
    "_backward_pre_hooks", "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


REGISTRIES = ("_parameters", "_buffers", "_modules", *_HOOKS)


class Module(Hooks, State):
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
            ("_non_persistent_buffers_set", set()),
            *((name, Registry()) for name in REGISTRIES),
        ):
            object.__setattr__(self, name, value)

    # Calling ----------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} must define forward(self, ...)")

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
        self._non_persistent_buffers_set.discard(name)
        if not persistent:
            self._non_persistent_buffers_set.add(name)

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
                raise AttributeError(no_init(self))
            object.__setattr__(self, name, value)
            return
        named = any(name in registries[kind] for kind in ("_parameters", "_modules"))
        if isinstance(value, Buffer) and not named:
            registries.pop(name, None)
            self.register_buffer(name, value, value.persistent)
            return
        for kind, cls in (("_parameters", Parameter), ("_modules", Module), ("_buffers", Tensor)):
            own = isinstance(value, cls)
            if own and kind != "_buffers":
                # A new parameter or module replaces whatever had the name.
                for other in ("_parameters", "_buffers", "_modules"):
                    if other != kind:
                        registries[other].pop(name, None)
                registries["_non_persistent_buffers_set"].discard(name)
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
        count_change()

    def __getattr__(self, name: str) -> Any:
        # Called only when the ordinary look-up finds nothing.
        own = self.__dict__
        if "_parameters" in own:
            if name in (registry := own["_parameters"]):
                return registry[name]
            if name in (registry := own["_buffers"]):
                return registry[name]
            if name in (registry := own["_modules"]):
                return registry[name]
        elif not name.startswith("__"):
            raise AttributeError(f"{no_init(self)} (attribute {name!r})")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def _parameter(self, name: str) -> Any:
        """The attribute `name`, which is a parameter as a rule: in half the time of
        `__getattr__`."""
        own, cls = self.__dict__, type(self)
        registry = own["_parameters"]
        found = name in registry and name not in own
        if found and _is_looked_up(cls, name):  # type: ignore[arg-type]
            return registry[name]
        return getattr(self, name)

    def __delattr__(self, name: str) -> None:
        for kind in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__.get(kind, ()):
                del self.__dict__[kind][name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)
        count_change()

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

    def named_modules(
        self,
        memo: set[Module] | None = None,
        prefix: str = "",
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, depth first.

        memo: modules to leave out, to which those found are added. remove_duplicate: a shared one
        once, under its first name.
        """
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                path = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, path, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def _named_members(
        self,
        get_members_fn: Callable[[Module], Any],
        prefix: str = "",
        recurse: bool = True,
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(None, prefix, remove_duplicate)
        for path, module in modules if recurse else [(prefix, self)]:
            for name, member in get_members_fn(module):
                if member is not None and id(member) not in seen:
                    if remove_duplicate:
                        seen.add(id(member))
                    yield f"{path}.{name}" if path else name, member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Names and parameters; with remove_duplicate a shared one once, under its first name."""
        return self._named_members(
            lambda module: module._parameters.items(), prefix, recurse, remove_duplicate
        )

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (param for _, param in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        return self._named_members(
            lambda module: module._buffers.items(), prefix, recurse, remove_duplicate
        )

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Any:
        """The module under a path such as "layer1.0.conv"; this one for ""."""
        module: Any = self
        for name in target.split(".") if target else ():
            module = module._modules.get(name) if isinstance(module, Module) else None
            if module is None:
                raise AttributeError(f"{type(self).__name__} has no module {target!r}")
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module under a path, whose last name may be new unless strict."""
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if not name or (strict and name not in parent._modules):
            raise (AttributeError if name else ValueError)(
                f"{type(self).__name__} has no module {target!r}"
            )
        if not isinstance(module, Module):
            raise ValueError(f"set_submodule: expects a Module, got {type(module).__name__}")
        setattr(parent, name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter under a path such as "layer1.0.conv.weight"."""
        return self._member("_parameters", target, "parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer under a path such as "layer1.0.bn.running_mean"."""
        return self._member("_buffers", target, "buffer")

    def _member(self, registry: str, target: str, kind: str) -> Any:
        path, _, name = target.rpartition(".")
        member = getattr(self.get_submodule(path), registry).get(name)
        if member is None:
            raise AttributeError(f"{type(self).__name__} has no {kind} {target!r}")
        return member

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
        device: Device | str | int | None = None,
        dtype: Any = None,
        non_blocking: bool = False,
        memory_format: Any = None,
    ) -> T:
        """Move to a device, convert floating parameters and buffers to a dtype, or both.

        to(device), to(dtype), to(device, dtype), to(tensor) or by keyword. Parameters stay the same
        objects, so optimisers keep them. non_blocking and memory_format change nothing: weights
        always lie in memory as the kernels read them.
        """
        for arg in args:
            if isinstance(arg, Tensor):
                device, dtype = arg.device, arg.dtype
            elif isinstance(arg, Device) or type(arg) is int or _names_device(arg):
                device = arg
            elif arg is not None and not isinstance(arg, bool):
                dtype = arg
        to_device = None if device is None else as_device(device)
        to_dtype = None if dtype is None else as_dtype(dtype)
        if to_dtype is not None and not is_floating(to_dtype):
            raise DTypeError(f"to: dtype must be float32 or float64, got {to_dtype.name}")
        return self._each_memory(lambda tensor: _convert(tensor, to_device, to_dtype))

    def _each_memory(self: T, change: Callable[[Tensor], None], recurse: bool = True) -> T:
        """change(tensor) for every parameter and buffer, and for the gradients."""
        for tensor in (*self.parameters(recurse), *self.buffers(recurse)):
            change(tensor)
            if tensor.grad is not None:
                tensor.grad = tensor.grad.detach()
                change(tensor.grad)
        return self

    def _apply(self: T, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> T:
        """Replace the memory of every parameter, gradient and buffer by that of fn(tensor)."""

        def change(tensor: Tensor) -> None:
            new = fn(tensor.detach())
            tensor.array, tensor.device = new.array, new.device

        return self._each_memory(change, recurse)

    def to_empty(self: T, *, device: Device | str | int, recurse: bool = True) -> T:
        """Move to a device without the values."""
        to_device = as_device(device)

        def change(tensor: Tensor) -> None:
            array = tensor.array
            tensor.array = empty_array(array.shape, array.dtype, to_device, order_of(array))
            tensor.device = to_device

        return self._each_memory(change, recurse)

    def cpu(self: T) -> T:
        """Parameters and buffers in the host's memory."""
        return self.to("cpu")

    def cuda(self: T, device: Device | str | int | None = None) -> T:
        """Parameters and buffers on a GPU, the current one unless `device` names it."""
        return self.to("cuda" if device is None else device)

    def type(self: T, dst_type: Any) -> T:
        """Floating parameters and buffers as another dtype."""
        return self.to(dtype=dst_type)

    def float(self: T) -> T:
        """Floating parameters and buffers as float32."""
        return self.to(dtype=np.float32)

    def double(self: T) -> T:
        """Floating parameters and buffers as float64."""
        return self.to(dtype=np.float64)

    def half(self: T) -> T:
        """Refused: minigrad computes in float32 and float64."""
        return self.to(dtype=float16)

    def bfloat16(self: T) -> T:
        """Refused: minigrad computes in float32 and float64."""
        return self.to(dtype=bfloat16)

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


@functools.cache
def _is_looked_up(cls: Any, name: str) -> bool:
    """Whether what is registered under the name is what such a module shows under it: the class has
    no property of this name and no look-up of its own."""
    own = cls.__getattr__ is not Module.__getattr__
    return not (own or cls.__getattribute__ is not object.__getattribute__ or hasattr(cls, name))


def _names_device(arg: Any) -> bool:
    try:
        as_dtype(arg)
    except DTypeError:
        return isinstance(arg, str)
    return False


def _convert(tensor: Tensor, device: Device | None, dtype: np.dtype | None) -> None:
    """Change a tensor's memory in place, keeping its memory order. Integer tensors only move."""
    device = device or tensor.device
    if dtype is None or not is_floating(tensor.dtype):
        dtype = tensor.dtype
    if dtype != tensor.dtype or not share_memory(device, tensor.device):
        tensor.array = converted(tensor.array, dtype, tensor.device, device)
    tensor.device = device
