"""Basic and advanced indexing: selecting elements by position, `x[...]`; and `x[...] = y`.

An index is taken apart as torch does it. Ints, slices, None and Ellipsis make a view, first. Then
the index arrays (tensors, NumPy arrays, lists; a mask counts as the array of its true positions)
broadcast together and pick from the axes they stand at. The axes of their common shape come where
the first of them stood if they stood side by side, else in front.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import kernels
from ..device import Device, same_device
from ..dtypes import bool_, int8, int16, int64, same_dtype, uint8
from ..engine import Function, Tensor, View
from ..engine.gradient import copy, full
from ..errors import DTypeError, ShapeError, TargetError
from ..layout import broadcast, contiguous, empty_array, memory_order
from ..runtime.allocation import allocate
from .arithmetic import add
from .cast import clone, to
from .compare import where
from .creation import tensor
from .operands import check_writable, scratch, takes_tensor, widened
from .overwrite import Write, overwrite
from .promotion import fitting, scalar
from .reduction import unbroadcast
from .shape import broadcast_to, reshape, view_of
from .transfer import check_rows, constant, host, read_count

# Basic indexing -----------------------------------------------------------------------------


class Slice(View):
    """The view that an index of ints, slices and None selects."""

    @staticmethod
    def look(array: np.ndarray, index: tuple[Any, ...]) -> np.ndarray:
        return array[index]

    @staticmethod
    def forward(ctx: Any, input: Tensor, index: tuple[Any, ...]) -> Tensor:
        ctx.shape, ctx.order, ctx.index = input.shape, memory_order(input.array), index
        return view_of(input, input.array[index])

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # y = x[index]: dx[index] = dy, and 0 where nothing was selected.
        grad_input = empty_array(ctx.shape, grad_output.dtype, grad_output.device, ctx.order)
        launch = kernels.get(grad_output.device).elementwise
        if grad_output.array.size != grad_input.size:
            order = ctx.order or tuple(range(grad_input.ndim))
            launch.fill(grad_input.transpose(order).reshape(-1), 0)
        launch.copy_strided(grad_input[ctx.index], grad_output.array)
        return Tensor(grad_input, grad_output.device), None


@dataclass(frozen=True)
class Picker:
    """An index array and the axes of the view that it picks from: several for a mask.

    wrap: a negative index counts from the end.
    """

    axes: tuple[int, ...]
    array: np.ndarray
    mask: bool = False
    wrap: bool = True


def _lists_axes(index: Any) -> bool:
    """Whether torch takes a list for the tuple of its items: where one of them is more than an int,
    in short lists, with a warning."""
    if type(index) is not list or len(index) >= 32:
        return False
    more = (Tensor, list, tuple, np.ndarray, slice, type(None), type(Ellipsis))
    if not any(isinstance(item, more) for item in index):
        return False
    warnings.warn(
        "indexing by a list of lists or tensors is deprecated: x[tuple(index)] has these values, "
        "x[tensor(index)] others",
        UserWarning,
        stacklevel=5,
    )
    return True


def _parse(input: Tensor, index: Any) -> tuple[tuple[Any, ...], list[Picker]]:
    """The basic part of an index, for NumPy, and the pickers on the view that it makes."""
    items = list(index) if isinstance(index, tuple) or _lists_axes(index) else [index]
    items = [_as_array(item, input.device) for item in items]
    consumed = sum(_axes_used(item) for item in items)
    if consumed > input.ndim:
        raise TargetError(
            f"indexing: too many indices for a tensor of shape {input.shape}: {consumed} for "
            f"{input.ndim} axes"
        )
    ellipses = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(ellipses) > 1:
        raise TargetError("indexing: an index can hold only one Ellipsis (...)")
    full = [slice(None)] * (input.ndim - consumed)
    at = ellipses[0] if ellipses else len(items)
    items[at : at + 1] = full

    basic: list[Any] = []
    pickers: list[Picker] = []
    axis = axis_out = 0
    for item in items:
        used = _axes_used(item)
        if _is_array(item):
            mask = item.dtype == bool_
            if mask and item.shape != input.shape[axis : axis + used]:
                raise TargetError(
                    f"indexing: a mask of shape {item.shape} does not fit axes {axis} to "
                    f"{axis + used - 1} of a tensor of shape {input.shape}"
                )
            width = item.ndim if mask else 1
            pickers.append(Picker(tuple(range(axis_out, axis_out + width)), item, mask))
            basic += [slice(None)] * width
            axis_out += width
        elif isinstance(item, bool):
            # True and False are masks without axes: they pick all or nothing of a new axis.
            pickers.append(Picker((axis_out,), constant(np.array([item]), input.device), mask=True))
            basic.append(None)
            axis_out += 1
        elif item is None:
            basic.append(None)
            axis_out += 1
        elif isinstance(item, slice):
            basic.append(_checked_slice(item))
            axis_out += 1
        else:
            basic.append(_checked_position(item, axis, input.shape))
        axis += used
    # With Ellipsis NumPy returns an array, never a number.
    return (*basic, Ellipsis), pickers


def _axes_used(item: Any) -> int:
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    return item.ndim if _is_array(item) and item.dtype == bool_ else 1


def _is_array(item: Any) -> bool:
    return hasattr(item, "dtype")


def _as_array(item: Any, device: Device) -> Any:
    """Anything array-like as an array on the device; one element of it as an int or a bool."""
    if item is None or item is Ellipsis or isinstance(item, (slice, bool, int)):
        return item
    if isinstance(item, Tensor):
        same_device("indexing", tensor=device, index=item.device)
        if item.dtype in (int8, int16):
            raise DTypeError(
                f"indexing: an index tensor must be int64, int32 or bool, got {item.dtype.name}; "
                "convert with .to(minigrad.int64)"
            )
        item = widened(item)
        return _checked_array(item.array if item.ndim else host(item))
    if isinstance(item, (list, tuple, range)):
        try:
            item = np.asarray(item if len(item) else np.empty(0, np.int64))
        except ValueError:
            raise ShapeError(
                f"indexing: a list of unequal lengths cannot be an index: {item!r}"
            ) from None
    elif isinstance(item, np.generic):
        item = np.asarray(item)
    elif hasattr(item, "__index__") and not isinstance(item, np.ndarray):
        return item.__index__()
    item = _checked_array(item)
    if isinstance(item, np.ndarray):
        item = constant(item if item.dtype in (bool_, int64) else item.astype(np.int64), device)
    return item


def _checked_array(item: Any) -> Any:
    """The array, or its only value."""
    if not _is_array(item):
        raise DTypeError(
            "indexing: an index must be an int, a slice, None, Ellipsis, or a tensor, array or "
            f"list of ints or bools, got {type(item).__name__}"
        )
    if item.dtype == uint8:
        raise DTypeError(
            "indexing: a uint8 index may mean a mask or positions; convert with "
            ".to(minigrad.bool_) or .to(minigrad.int64)"
        )
    if item.dtype.kind not in "iub":
        raise DTypeError(f"indexing: an index must hold ints or bools, got dtype {item.dtype}")
    return item.item() if item.ndim == 0 else item


def _checked_slice(item: slice) -> slice:
    def bound(value: Any) -> int | None:
        if isinstance(value, Tensor):
            value = value.item()
        if value is not None and not hasattr(value, "__index__"):
            raise DTypeError(f"indexing: the bounds of a slice must be ints, got {value!r}")
        return None if value is None else value.__index__()

    start, stop, step = bound(item.start), bound(item.stop), bound(item.step)
    if step is not None and step < 1:
        raise ValueError(
            f"indexing: the step of a slice must be positive, got {step}; flip reverses an axis"
        )
    return slice(start, stop, step)


def _checked_position(index: int, axis: int, shape: tuple[int, ...]) -> int:
    if not -shape[axis] <= index < shape[axis]:
        raise TargetError(
            f"indexing: index {index} is out of range for axis {axis} of size {shape[axis]} of a "
            f"tensor of shape {shape}"
        )
    return index


# Index arrays -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Where index arrays pick from a tensor, as positions on the axis J of a form (B, J, A).

    source: the tensor's axes as the form lays them out: before, picked, after.
    target: the same for the result, whose axes are those of `shape`.
    """

    positions: np.ndarray
    form: tuple[int, int, int]
    source: tuple[int, ...]
    target: tuple[int, ...]
    shape: tuple[int, ...]

    def input_array(self, data: np.ndarray, device: Device) -> np.ndarray:
        return contiguous(data.transpose(self.source), device).reshape(self.form)

    def output_array(self, data: np.ndarray, device: Device) -> np.ndarray:
        B, _, A = self.form
        stored = contiguous(data.transpose(self.target), device)
        return stored.reshape(B, self.positions.size, A)


def plan_picks(input: Tensor, pickers: list[Picker]) -> Plan:
    data, device = input.array, input.device
    arrays = [_true_positions(p.array, device) if p.mask else p.array for p in pickers]
    try:
        picked_shape = np.broadcast_shapes(*(array.shape for array in arrays))
    except ValueError:
        listed = ", ".join(str(array.shape) for array in arrays)
        raise ShapeError(
            f"indexing: index arrays of shapes {listed} do not broadcast together"
        ) from None

    picked = [axis for p in pickers for axis in p.axes]
    together = picked == list(range(picked[0], picked[0] + len(picked)))
    place = picked[0] if together else 0
    before = list(range(place))
    after = [axis for axis in range(place, data.ndim) if axis not in picked]
    # Along other axes the order is free: that of memory, so that whole rows are copied.
    inner_to_outer = sorted(range(data.ndim), key=lambda axis: data.strides[axis])
    source_before = [axis for axis in reversed(inner_to_outer) if axis in before]
    source_after = [axis for axis in reversed(inner_to_outer) if axis in after]

    sizes = data.shape
    positions = _positions(pickers, arrays, picked_shape, input)
    form = (
        math.prod(sizes[axis] for axis in before),
        math.prod(sizes[axis] for axis in picked),
        math.prod(sizes[axis] for axis in after),
    )
    # The result's axes: before, those of the index arrays, after.
    moved = {axis: axis if axis in before else place + len(picked_shape) + after.index(axis)
             for axis in (*before, *after)}  # fmt: skip
    target = (
        *(moved[axis] for axis in source_before),
        *range(place, place + len(picked_shape)),
        *(moved[axis] for axis in source_after),
    )
    shape = (*(sizes[a] for a in before), *picked_shape, *(sizes[a] for a in after))
    return Plan(positions, form, (*source_before, *picked, *source_after), target, shape)


def _true_positions(mask: np.ndarray, device: Device) -> np.ndarray:
    """The flat numbers of the true elements of a mask."""
    positions = allocate((mask.size,), int64, device)
    count = allocate((1,), int64, device)
    kernels.get(device).indexing.mask_positions(
        positions, count, contiguous(mask, device).reshape(-1)
    )
    return positions[: read_count(count, device)]


def _positions(
    pickers: list[Picker], arrays: list[np.ndarray], shape: tuple[int, ...], input: Tensor
) -> np.ndarray:
    """Row-major numbers on the picked axes; an index out of range raises TargetError."""
    backend, device = kernels.get(input.device), input.device
    positions = allocate((math.prod(shape),), int64, device)
    backend.elementwise.fill(positions, 0)
    step = math.prod(input.shape[axis] for p in pickers for axis in p.axes)
    for picker, array in zip(pickers, arrays, strict=True):
        size = math.prod(input.shape[axis] for axis in picker.axes)
        step = step // size if size else 0
        spread = contiguous(broadcast(array, shape), device).reshape(-1)
        low = -size if picker.wrap else 0
        bad = allocate((1,), int64, device)
        backend.indexing.accumulate_index(positions, bad, spread, low, size, step)
        check_index("indexing", bad, spread, picker.axes[0], input)
    return positions


def check_index(operation: str, bad: Any, indices: Any, axis: int, input: Tensor) -> None:
    """TargetError where `bad` numbers one of the indices: the first out of range."""
    shape = input.shape

    def refuse(_: int, values: Sequence[float]) -> None:
        raise TargetError(
            f"{operation}: index {values[0]} is out of range for axis {axis} of size {shape[axis]} "
            f"of a tensor of shape {shape}"
        )

    check_rows(bad, indices.reshape(-1), input.device, refuse)


class Pick(Function):
    """What index arrays pick from a tensor."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, plan: Plan) -> Tensor:
        ctx.plan, ctx.shape = plan, input.shape
        # Laid out so that its form is a view.
        out = empty_array(plan.shape, input.dtype, input.device, plan.target)
        kernels.get(input.device).indexing.index_forward(
            plan.output_array(out, input.device),
            plan.input_array(input.array, input.device),
            plan.positions,
        )
        return Tensor(out, input.device)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # y[m] = x[p(m)]: dx[j] = Σ_{m: p(m) = j} dy[m].
        return _sums(grad_output, ctx.plan, ctx.shape), None


def _sums(picked: Tensor, plan: Plan, shape: tuple[int, ...]) -> Tensor:
    """Of what a plan picks, summed at the positions it comes from; 0 elsewhere."""
    device = picked.device
    launch = kernels.get(device).indexing
    sums = empty_array(shape, picked.dtype, device, plan.source)
    size = launch.index_backward_input_workspace(plan.form[1], plan.positions.size)
    launch.index_backward_input(
        plan.input_array(sums, device),
        plan.output_array(picked.array, device),
        plan.positions,
        scratch(size, int64, device),
    )
    return Tensor(sums, device)


def _is_whole(basic: tuple[Any, ...]) -> bool:
    return all(item is Ellipsis or item == slice(None) for item in basic)


@takes_tensor
def get_item(input: Tensor, index: Any) -> Tensor:
    """`input[index]`: a view for ints, slices, None and Ellipsis; a copy with index arrays."""
    basic, pickers = _parse(input, index)
    view = input if pickers and _is_whole(basic) else Slice.apply(input, basic)
    return Pick.apply(view, plan_picks(view, pickers)) if pickers else view


class Put(Function):
    """Values at the positions of a plan, in place; of equal positions the last wins:
    dx = grad, 0 at the positions; d value = grad there."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, value: Tensor, plan: Plan) -> Tensor:
        ctx.plan, ctx.shape = plan, value.shape
        _put(input, value, plan)
        return Tensor(input.array, input.device, version=input._version)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_input = grad_value = None
        if ctx.needs_input_grad[0]:
            grad_input = copy(grad_output)
            _put(grad_input, full((), grad_output.dtype, grad_output.device, 0), ctx.plan)
        if ctx.needs_input_grad[1]:
            grad_value = unbroadcast(Pick.apply(grad_output, ctx.plan), ctx.shape)
        return grad_input, grad_value, None


class AddAt(Function):
    """x + Σ values at the positions of a plan: dx = grad; d value = grad there."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, value: Tensor, plan: Plan) -> Tensor:
        ctx.plan, ctx.shape = plan, value.shape
        return add(input, _sums(broadcast_to(value, plan.shape), plan, input.shape))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return grad_output, unbroadcast(Pick.apply(grad_output, ctx.plan), ctx.shape), None


def _put(input: Tensor, value: Tensor, plan: Plan) -> None:
    """input[plan] ← value, which broadcasts to the plan's shape."""
    backend, device = kernels.get(input.device), input.device
    values = empty_array(plan.shape, input.dtype, device, plan.target)
    backend.elementwise.copy_strided(values, np.broadcast_to(value.array, plan.shape))
    placed = plan.input_array(input.array, device)
    backend.indexing.put(placed, plan.output_array(values, device), plan.positions)
    if not np.may_share_memory(placed, input.array):
        # The form was a copy of a view with gaps: put it back.
        stored = placed.reshape([input.shape[axis] for axis in plan.source])
        backend.elementwise.copy_strided(input.array.transpose(plan.source), stored)


def _filled(input: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    """One value at many places, which need not be counted for that."""
    return where(mask, value, input)


@takes_tensor
def set_item(input: Tensor, index: Any, value: Any) -> None:
    """`input[index] = value`, in place; of equal positions the last wins.

    value: a number, or a tensor, array or list that broadcasts to the selection. A tensor is
    converted, but beside index tensors; there one element is, if one mask selects.
    """
    check_writable("__setitem__", input)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (bool, int, float)):
        # Filled by a kernel: a captured step may do that, and not copy from the host.
        number = fitting("__setitem__", value, input.dtype)
        value = scalar("__setitem__", number, input.dtype, input.device)
    elif not isinstance(value, Tensor):
        value = tensor(value, dtype=input.dtype, device=input.device)
    basic, pickers = _parse(input, index)
    selected = input if pickers and _is_whole(basic) else Slice.apply(input, basic)
    if len(pickers) == 1 and pickers[0].mask and value.numel() == 1:
        mask = Tensor(pickers[0].array, input.device)
        mask = reshape(mask, (*mask.shape, *(1,) * (selected.ndim - pickers[0].axes[-1] - 1)))
        value = reshape(to(value, input.device, input.dtype), ())
        overwrite("__setitem__", selected, _filled, mask, value, direct=True)
        return
    if pickers:
        same_dtype("__setitem__", tensor=input.dtype, value=value.dtype)
        same_device("__setitem__", tensor=input.device, value=value.device)
    if not pickers:
        overwrite(
            "__setitem__", selected, Write.apply, _fitting(value, selected.shape), direct=True
        )
        return
    plan = plan_picks(selected, pickers)
    value = _fitting(value, plan.shape)
    overwrite("__setitem__", selected, Put.apply, value, plan, direct=True)


def index_put_(
    input: Tensor, indices: tuple[Any, ...], values: Tensor, accumulate: bool = False
) -> Tensor:
    """input[indices] ← values; accumulate: input[indices] + the values that fall there. Returns
    input."""
    if not accumulate:
        set_item(input, tuple(indices), values)
        return input
    basic, pickers = _parse(input, tuple(indices))
    selected = input if pickers and _is_whole(basic) else get_item(input, basic)
    if not pickers:
        overwrite("index_put_", selected, add, values)
    else:
        plan = plan_picks(selected, pickers)
        overwrite("index_put_", selected, AddAt.apply, _fitting(values, plan.shape), plan)
    return input


@takes_tensor
def index_put(
    input: Tensor, indices: tuple[Any, ...], values: Tensor, accumulate: bool = False
) -> Tensor:
    """`index_put_` on a copy."""
    return index_put_(clone(input), indices, values, accumulate)


def _fitting(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The value without leading axes of size 1 that the selection does not have."""
    extra = max(value.ndim - len(shape), 0)
    kept = value.shape[extra:]
    broadcasts = all(n in (1, m) for n, m in zip(kept[::-1], shape[::-1], strict=False))
    if any(n != 1 for n in value.shape[:extra]) or not broadcasts:
        raise ShapeError(
            f"__setitem__: a value of shape {value.shape} does not broadcast to the selection of "
            f"shape {shape}"
        )
    return reshape(value, kept) if extra else value
