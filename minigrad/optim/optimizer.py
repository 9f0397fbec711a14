"""Optimizer base class: what all optimisers share, groups of parameters, per-parameter state, and
its saving."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeVar, dataclass_transform

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..dtypes import is_floating
from ..engine import Tensor, clear_grad, enable_grad, read_grad
from ..engine.grad_mode import mode
from ..errors import CheckpointError, DeviceError, DTypeError, ShapeError
from ..layout import Order, c_axes, empty_array, flat, memory_order, order_of
from ..nn.layer import Fields, constructor, own_fields
from ..ops.operands import check_writable
from ..ops.transfer import readable
from ..runtime.allocation import lasting

Options = TypeVar("Options")
Params = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]
ParamsT = Params  # torch's name
required: Any = object()  # a default, of an optimiser of one's own, that every group must replace
Values = dict[str, Any]  # a group's options, or a parameter's state


@dataclass_transform()
class Optimizer:
    """Base of the optimisers.

    params: tensors; pairs (name, tensor), as of named_parameters(); or dicts {"params": tensors,
        option: value, …}, each a group with options of its own, where `defaults` fills in the rest.
    param_groups: the groups, as such dicts; change group["lr"] and the like at any time. Keys that
        are no options are kept: a group's name, its factor for a schedule of one's own.
    state: what the optimiser keeps for each parameter, {parameter: {name: Tensor or number}}.

    A subclass defines `_update(jobs)`, which does the step of all parameters of one dtype on one
    device, and may extend `_check_group(group)`, which raises for bad options.
    """

    # Names of the per-parameter tensors that a subclass keeps; all have the parameter's shape.
    _state_tensors: tuple[str, ...] = ()
    # Names of per-parameter numbers, which torch keeps as tensors of one element.
    _state_numbers: tuple[str, ...] = ("step",)
    # Options that must be at least 0, beside lr and weight_decay.
    _not_negative: tuple[str, ...] = ()

    # The constructor's arguments: this package's optimisers list them as nn/layer.py's layers do.
    # One that a subclass fixes is an attribute of the class.
    _fields: ClassVar[Fields] = {}

    def __init_subclass__(cls) -> None:
        if own := own_fields(cls):
            fields = cls._fields | own
            cls._fields = {name: fields[name] for name in fields if name not in vars(cls)}
            cls.__init__ = constructor(cls._fields)  # type: ignore[method-assign]

    def _begin(self, params: Params, **options: Any) -> None:
        Optimizer.__init__(self, params, options)

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        name = type(self).__name__
        if isinstance(params, (Tensor, dict, str)) or not isinstance(params, Iterable):
            raise TypeError(
                f"{name}: params must be an iterable of tensors or of dicts, got "
                f"{type(params).__name__}"
            )
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError(f"{name}: params is empty; was model.parameters() used up already?")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self._flats: dict[Tensor, Flats] = {}
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add {"params": tensors, option: value, …}; options left out take the defaults."""
        name = type(self).__name__
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(f"{name}: a group must be a dict with key 'params', got {param_group}")
        given = param_group["params"]
        params = [given] if isinstance(given, Tensor) else list(given)
        if params and all(isinstance(each, tuple) for each in params):  # named_parameters()
            names, params = (list(each) for each in zip(*params, strict=True))
            param_group = {**param_group, "param_names": names}
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(f"{name}: can optimise Tensors only, got {type(param).__name__}")
            if not param.is_leaf:
                raise ValueError(
                    f"{name}: can optimise leaf tensors only; one of shape {param.shape} was "
                    f"computed by {param.node}"
                )
            if not is_floating(param.dtype):
                raise DTypeError(
                    f"{name}: can optimise floating tensors only, got dtype {param.dtype.name}"
                )
            if id(param) in known:
                raise ValueError(
                    f"{name}: a parameter of shape {param.shape} appears more than once"
                )
            known.add(id(param))
        group = {**self.defaults, **param_group, "params": params}
        if left_out := [option for option, value in group.items() if value is required]:
            raise ValueError(f"{name}: a group must have the options {left_out}")
        if group.get("differentiable"):
            raise ValueError(f"{name}: differentiable=True is not possible: steps are not recorded")
        if group.get("foreach") and group.get("fused"):
            raise ValueError(f"{name}: foreach and fused exclude each other")
        self._check_group(group)
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or with set_to_none=False fill them with zeros."""
        for group in self.param_groups:
            for param in group["params"]:
                clear_grad(param, set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        closure: computes the gradients anew and returns the loss, which step then returns.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        # Of every parameter in every step: plain loops, no calls that can be avoided.
        observer = mode.observer
        params: list[Tensor] = []
        jobs: defaultdict[Any, list[Job]] = defaultdict(list)
        device = dtype = None
        for group in self.param_groups:
            for param in group["params"]:
                grad = read_grad(param)
                if grad is None:
                    continue
                self._check(param, grad)
                array = param.array
                if param.device is not device or array.dtype is not dtype:  # neighbours share them
                    device, dtype = param.device, array.dtype
                    batch = jobs[device, dtype]
                flats = self._flats.get(param)
                if flats is None or flats.source is not array:
                    flats = self._flats[param] = Flats(param)
                batch.append(Job(param, group, self.state[param], flats))
                params.append(param)
        observer.on_failure(partial(self._save, params))
        for batch in jobs.values():
            self._update(batch)
        observer.valid_while(partial(self._condition, params))
        for param in params:
            param.mark_changed()
        return loss

    def _check(self, param: Tensor, grad: Any) -> None:
        """Raises if gradient or state do not fit the parameter."""
        array = param.array
        if not (
            isinstance(grad, Tensor)
            and grad.array.shape == array.shape
            and grad.array.dtype == array.dtype
            and grad.device is param.device
            and array.flags.writeable
        ):
            _check_grad(type(self).__name__, param, grad)
        # Kernels walk parameter and state together: no step once the parameter was resized.
        if state := self.state.get(param):
            for key in self._state_tensors:
                if key in state and state[key].array.shape != array.shape:
                    raise ShapeError(
                        f"{type(self).__name__}: a parameter of shape {param.shape} has a {key} "
                        f"of shape {state[key].shape}; make a new optimiser for parameters that "
                        "changed"
                    )

    def _save(self, params: list[Tensor]) -> Callable[[], None]:
        """Notes the state; the result puts it back."""
        before = [(self.state[param], dict(self.state[param])) for param in params]

        def put_back() -> None:
            for state, copy in before:
                state.clear()
                state.update(copy)

        return put_back

    def _condition(self, params: list[Tensor]) -> Callable[[], bool]:
        """Whether a step that was recorded just now is still the one that `step` would do: for as
        many parameters, with the same tensors, and the same terms."""

        def terms() -> list[Any]:
            return [(len(group["params"]), self._terms(group)) for group in self.param_groups]

        recorded = terms()
        states = [(param, self.state[param]) for param in params]
        kept = [
            (state, key, value)
            for _, state in states for key, value in state.items()
            if isinstance(value, Tensor)
        ]  # fmt: skip
        mode.observer.use([*params, *[value for _, _, value in kept]])

        def holds() -> bool:  # asked before every replay: loops, which are faster than `all`
            for param, state in states:
                if self.state.get(param) is not state:
                    return False
            for state, key, value in kept:
                if state.get(key) is not value:
                    return False
            return recorded == terms()

        return holds

    def _terms(self, group: dict[str, Any]) -> Any:
        """Of the options what decides which state there is. Numbers may change between replays."""
        return None

    def _check_group(self, group: dict[str, Any]) -> None:
        """Raise ValueError for options outside their range. In an optimiser of one's own options
        may mean anything."""
        if not self._fields:
            return
        name = type(self).__name__
        for option in ("lr", "weight_decay", *self._not_negative):
            if option in group:
                check_range(name, option, group[option], 0)
        if "betas" in group:
            betas = group["betas"]
            if not isinstance(betas, (tuple, list)) or len(betas) != 2:
                raise ValueError(f"{name}: betas must be a pair, got {betas!r}")
            for position in range(2):
                check_range(name, f"betas[{position}]", betas[position], 0, 1)

    def _update(self, jobs: list[Job]) -> None:
        raise TypeError(f"{type(self).__name__} must define _update(jobs)")

    # Saving -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """{"state": {index: {name: value}}, "param_groups": […]}; a group's "params" are indices,
        counted through all groups. The tensors are the optimiser's own, not copies."""
        indices: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for param in group["params"]:
                indices[id(param)] = len(indices)
            groups.append({**group, "params": [indices[id(p)] for p in group["params"]]})
        state = {
            indices[id(param)]: dict(values)
            for param, values in self.state.items()
            if id(param) in indices and values
        }
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over options and state, matched by position. Tensors are copied, into those that
        are there if they fit, so that captured steps go on with them.

        Raises CheckpointError, before anything changes, if the groups or shapes do not fit.
        """
        self._check_state_dict(state_dict)
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            for key, value in saved.items():
                if key != "params":
                    # JSON knows no tuples.
                    known = isinstance(value, list) and isinstance(group.get(key), tuple)
                    group[key] = tuple(value) if known else value
        params = [p for group in self.param_groups for p in group["params"]]
        # All copies come before the first change: the tensors may be those of another parameter.
        loaded = {
            int(index): {
                key: self._own_value(key, value, params[int(index)])
                for key, value in values.items()
            }
            for index, values in state_dict["state"].items()
        }
        for param in [param for param in self.state if not any(param is p for p in params)]:
            del self.state[param]
        for index, param in enumerate(params):
            if index in loaded:
                _take_over(self.state[param], loaded[index])
            else:
                self.state.pop(param, None)
        self.__setstate__({"state": self.state, "param_groups": self.param_groups})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Where an optimiser of one's own gives options that an older file lacks their values."""
        self.__dict__.update(state)

    def _own_value(self, key: str, value: Any, param: Tensor) -> Any:
        """What is kept of a loaded value: copies of tensors."""
        if isinstance(value, list):
            return [self._own_value(key, each, param) for each in value]
        if not isinstance(value, Tensor):
            return value
        if key in self._state_numbers:
            return int(value.item()) if key == "step" else value.item()
        return _like_param(value, param)

    def _check_state_dict(self, state_dict: dict[str, Any]) -> None:
        name = type(self).__name__
        if not isinstance(state_dict, dict) or not {"state", "param_groups"} <= set(state_dict):
            raise CheckpointError(f"{name}: a state dict needs the keys 'state' and 'param_groups'")
        own = [len(group["params"]) for group in self.param_groups]
        saved = [len(group["params"]) for group in state_dict["param_groups"]]
        if own != saved:
            raise CheckpointError(
                f"{name}: the saved groups have {saved} parameters, this optimiser's have {own}"
            )
        for position, other in enumerate(state_dict["param_groups"]):
            missing = sorted(set(self.defaults) - set(other) - _OPTIONAL)
            if missing and self._fields:
                raise CheckpointError(
                    f"{name}: saved group {position} is another optimiser's: missing options "
                    f"{missing}"
                )
        params = [p for group in self.param_groups for p in group["params"]]
        for index, values in state_dict["state"].items():
            if not 0 <= int(index) < len(params):
                raise CheckpointError(f"{name}: state for parameter {index} of {len(params)}")
            param = params[int(index)]
            for key, value in values.items():
                if key in self._state_tensors and (
                    not isinstance(value, Tensor) or value.shape != param.shape
                ):
                    found = value.shape if isinstance(value, Tensor) else value
                    raise CheckpointError(
                        f"{name}: {key} of parameter {index} must have shape {param.shape}, "
                        f"got {found}"
                    )

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for position, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {position}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


# Options that a saved group may have or lack, by the version of torch or minigrad that saved it.
# Those of the first line but the last two choose among torch's implementations: nothing here.
_OPTIONAL = {
    "foreach", "fused", "capturable", "differentiable", "maximize", "decoupled_weight_decay",
    "param_names",
}  # fmt: skip


def check_range(name: str, option: str, value: Any, low: float, below: float = math.inf) -> None:
    """ValueError unless low ≤ value < below."""
    if not low <= check_number(name, option, value) < below:
        rule = f"at least {low}" if below == math.inf else f"in [{low}, {below})"
        raise ValueError(f"{name}: {option} must be {rule}, got {value!r}")


def gradient_of(param: Tensor) -> Tensor:
    """The gradient, of a parameter that has one."""
    assert param.grad is not None
    return param.grad


def _check_grad(name: str, param: Tensor, grad: Any) -> None:
    if not isinstance(grad, Tensor):
        raise TypeError(f"{name}: a gradient must be a Tensor, got {type(grad).__name__}")
    check_writable(f"{name}: parameter", param)
    if grad.shape != param.shape:
        raise ShapeError(
            f"{name}: a parameter of shape {param.shape} has a gradient of shape {grad.shape}"
        )
    if grad.dtype != param.dtype:
        raise DTypeError(f"{name}: a {param.dtype.name} parameter has a {grad.dtype.name} gradient")
    if grad.device != param.device:
        raise DeviceError(f"{name}: a parameter on {param.device} has a gradient on {grad.device}")


def _flat(array: np.ndarray, order: Order) -> np.ndarray:
    return array.transpose(order).reshape(-1)


def _like_param(value: Tensor, param: Tensor) -> Tensor:
    """A copy of a state tensor in the parameter's dtype, device and memory order."""
    order = memory_order(param.array) if value.shape == param.shape else None
    dtype = param.dtype if value.shape == param.shape else value.dtype
    copy = empty_array(value.shape, dtype, param.device, order)
    kernels.get(param.device).elementwise.copy_strided(copy, readable(value, param.device))
    return Tensor(copy, param.device)


def _take_over(state: dict[str, Any], loaded: dict[str, Any]) -> None:
    for key in set(state) - set(loaded):
        del state[key]
    for key, value in loaded.items():
        own = state.get(key)
        if (
            isinstance(own, Tensor)
            and isinstance(value, Tensor)
            and (own.shape, own.dtype, own.device) == (value.shape, value.dtype, value.device)
        ):
            kernels.get(own.device).elementwise.copy_strided(own.array, value.array)
            own.mark_changed()
        else:
            state[key] = value


def fresh_at_replay(compute: Callable[[], list[Options]]) -> list[Options]:
    """The options of a step. While the step is recorded for a GPU: a list whose items are computed
    anew before each replay."""
    options = compute()

    def again() -> None:
        options[:] = compute()

    mode.observer.at_replay(again)
    return options


class Flats:
    """The flat arrays of one parameter, in its memory order, that update kernels work on.

    Nearly always these are views, found once and kept. A parameter whose memory has gaps (a slice
    of another tensor) is copied out at every step, and `finish` copies it back.
    """

    def __init__(self, param: Tensor) -> None:
        self.source = param.array
        self._device = param.device
        self.has_gaps = memory_order(param.array) is None
        self._order = order_of(param.array)
        self._c_order = self._order == c_axes(param.array.ndim)
        self._views: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._param = flat(self.source, self._order, self._device)

    def start(self, grad: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The parameter's values and the gradient."""
        if self.has_gaps:
            self._param = flat(self.source, self._order, self._device)
        array = grad.array
        if self._c_order and array.flags.c_contiguous:
            return self._param, array.reshape(-1)  # as `flat` would, in half the time
        return self._param, flat(array, self._order, self._device)

    def state(self, state: dict[str, Any], name: str, fill: float | None = 0.0) -> np.ndarray:
        """A state tensor's array: made if there is none, laid out anew if the parameter was.

        fill: what a new one holds; None leaves it uninitialised.
        """
        tensor = state.get(name)
        if tensor is None:
            data = self._empty()
            tensor = state[name] = Tensor(data, self._device)
            if fill is not None:
                kernels.get(self._device).elementwise.fill(_flat(data, self._order), fill)
        stored, view = self._views.get(name, (None, None))
        if stored is not tensor.array or view is None:
            stored = tensor.array
            in_order = stored.transpose(self._order).flags.c_contiguous
            if stored.dtype != self.source.dtype or not in_order:
                data = self._empty()
                kernels.get(self._device).elementwise.copy_strided(data, stored)
                tensor.array = stored = data
            view = _flat(stored, self._order)
            self._views[name] = stored, view
        return view

    def _empty(self) -> np.ndarray:
        with lasting(self._device):
            return empty_array(self.source.shape, self.source.dtype, self._device, self._order)

    def finish(self) -> None:
        """Copy back what a parameter with gaps was copied to."""
        stored = self.source.transpose(self._order)
        values = self._param.reshape(stored.shape)
        kernels.get(self._device).elementwise.copy_strided(stored, values)


class Job(NamedTuple):
    """One parameter's part of a step."""

    param: Tensor
    group: dict[str, Any]
    state: dict[str, Any]
    flats: Flats
