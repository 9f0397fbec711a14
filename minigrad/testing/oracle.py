"""Test oracle: runs one case in minigrad and in torch, and compares what came out.

How close is close enough? In float64 both libraries compute the same thing, and may differ by a few
units in the last place of the result's largest magnitude. In float32 each is compared with torch's
float64 result for the same float32 inputs: minigrad's error may be that large again, or up to four
times torch's own. Where cancellation makes a result much smaller than its terms, that is too
strict; then, and only then, the scale is how much the float64 result moves when every input is
perturbed in its last place, because no algorithm can know its inputs better than that. And where
the usual algorithm itself cancels, minigrad is granted four times torch's float32 error on nearby
inputs, scaled to the dtype.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..device import Device, as_device, get_default_device, set_default_device
from ..dtypes import float32, float64, is_floating
from ..engine import Tensor
from ..ops.transfer import host, placed
from .spec import Case, OpSpec

# torch may be this many times closer to the truth than minigrad.
_TORCH_FACTOR = 4.0

# The least that is allowed in float64, whatever the record says.
_FLOAT64_ULPS = 8.0

_EPS32 = float(np.finfo(float32).eps)

# Relative perturbations that measure conditioning: where the result is smooth, both give the same
# quotient; where it jumps (a tie, a rounding), they do not, and the place is left out.
_STEPS = (2.0**-20, 2.0**-30)
_DRAWS = 4

# What messages call the parts of an outcome.
_WHAT = {"results": "{}", "gradients": "gradient of {}", "inputs_after": "{} after the call"}


@dataclass
class Outcome:
    """What one call gave, as NumPy arrays; the labels are those of messages.

    tensors: the minigrad or torch tensors behind `results`, to look at their memory.
    """

    results: dict[str, np.ndarray] = field(default_factory=dict)
    requires_grad: dict[str, bool] = field(default_factory=dict)
    gradients: dict[str, np.ndarray | None] = field(default_factory=dict)
    inputs_after: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    result_tensors: dict[str, Any] = field(default_factory=dict)
    input_tensors: dict[str, Any] = field(default_factory=dict)
    upstream: dict[str, Any] = field(default_factory=dict)


# Cases --------------------------------------------------------------------------------------


def label(path: tuple[int | str, ...]) -> str:
    head, *rest = path
    name = f"argument {head}" if isinstance(head, int) else head
    return name + "".join(f"[{index}]" for index in rest)


def map_arrays(
    case: Case, function: Callable[[tuple[int | str, ...], np.ndarray], Any]
) -> tuple[list[Any], dict[str, Any]]:
    """(args, kwargs) with each array replaced by function(path, array), also within lists."""

    def convert(path: tuple[int | str, ...], value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return function(path, value)
        if isinstance(value, (list, tuple)) and any(isinstance(v, np.ndarray) for v in value):
            return type(value)(convert((*path, i), v) for i, v in enumerate(value))
        return value

    args = [convert((position,), value) for position, value in enumerate(case.args)]
    return args, {name: convert((name,), value) for name, value in case.kwargs.items()}


def map_case(
    case: Case, function: Callable[[tuple[int | str, ...], np.ndarray], np.ndarray]
) -> Case:
    args, kwargs = map_arrays(case, function)
    return Case(tuple(args), kwargs, case.constant)


def arrays_of(case: Case) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    map_arrays(case, lambda path, array: found.setdefault(label(path), array))
    return found


def rounded(case: Case, dtype: np.dtype) -> Case:
    """The case whose floating values are those of `dtype`, in float64."""
    return map_case(
        case,
        lambda _, a: a.astype(dtype).astype(float64) if a.dtype.kind == "f" else a,
    )


def seed_of(case: Case) -> int:
    """Fixed by the case's values as float32, so that a failure repeats in every dtype."""
    digest = 0
    for name, array in arrays_of(case).items():
        stored = array.astype(_dtype_under_test(array, float32), order="C")
        digest = zlib.crc32(name.encode() + stored.tobytes(), digest)
    return digest


def upstream_gradient(seed: int, index: int, shape: tuple[int, ...]) -> np.ndarray:
    """Random, never ones; exact in float32, so that one gradient serves both dtypes."""
    drawn = np.random.default_rng((seed, index)).standard_normal(shape)
    return np.asarray(drawn, float32).astype(float64)


# The device that the checks put to the test: MINIGRAD_TEST_DEVICE=cuda for a GPU.
TEST_DEVICE = os.environ.get("MINIGRAD_TEST_DEVICE", "cpu")


# Running ------------------------------------------------------------------------------------


def values(tensor: Tensor) -> np.ndarray:
    """A copy, on the host, of what the tensor holds."""
    return np.array(host(tensor))


def tensor_of(
    array: np.ndarray, device: Device, layout: str = "C", requires_grad: bool = False
) -> Tensor:
    """A tensor in memory of its own, laid out as `layout` says."""
    view = layout_of(array, layout)
    if device.type != "cuda":
        return Tensor(view, device, requires_grad)
    if layout != "sliced" or not view.ndim:
        return Tensor(placed(view, device), device, requires_grad)
    stored = view.base
    assert isinstance(stored, np.ndarray)
    return Tensor(placed(stored, device)[_inside(view.shape)], device, requires_grad)


def _inside(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Where an array of `shape` lies in the larger one of which it is a view with gaps."""
    return (*(slice(1, size + 1) for size in shape[:-1]), slice(1, None, 2))


def layout_of(array: np.ndarray, layout: str) -> np.ndarray:
    """A copy in C order, channels-last (reversed axes unless 4-D), or as a view with gaps."""
    if layout == "C":
        return np.array(array, order="C", subok=False)
    if layout == "channels_last":
        order = (0, 2, 3, 1) if array.ndim == 4 else tuple(reversed(range(array.ndim)))
        stored = np.array(array.transpose(order), order="C", subok=False)
        return stored.transpose(np.argsort(order)) if array.ndim else stored
    if layout == "sliced":
        if array.ndim == 0:
            return np.array(array, subok=False)
        filler = np.nan if array.dtype.kind == "f" else 77
        shape = (*(size + 2 for size in array.shape[:-1]), 2 * array.shape[-1] + 1)
        view = np.full(shape, filler).astype(array.dtype)[_inside(array.shape)]
        view[...] = array
        return view
    raise ValueError(f"unknown layout {layout!r}")


def _dtype_under_test(array: np.ndarray, dtype: np.dtype) -> np.dtype:
    return dtype if array.dtype.kind == "f" else array.dtype


@contextmanager
def default_device(device: Device) -> Iterator[None]:
    previous = get_default_device()
    set_default_device(device)
    try:
        yield
    finally:
        set_default_device(previous)


def run_minigrad(
    spec: OpSpec,
    case: Case,
    dtype: np.dtype,
    device: str = TEST_DEVICE,
    layout: str = "C",
    gradients: bool = True,
) -> Outcome:
    """Call the function on new tensors; then propagate random gradients from every result."""
    outcome = Outcome()
    where = as_device(device)

    def make(path: tuple[int | str, ...], array: np.ndarray) -> Tensor:
        wanted = gradients and spec.differentiable and path[0] not in case.constant
        array = array.astype(_dtype_under_test(array, dtype))
        tensor = tensor_of(array, where, layout, wanted and is_floating(array.dtype))
        outcome.input_tensors[label(path)] = tensor
        return tensor

    args, kwargs = map_arrays(case, make)
    with default_device(where):
        results = flatten(spec.function(*args, **kwargs))
        for index, (name, result) in enumerate(results.items()):
            if not isinstance(result, Tensor):
                outcome.values[name] = result
                continue
            outcome.result_tensors[name] = result
            outcome.requires_grad[name] = result.requires_grad
            outcome.results[name] = values(result)
            if result.requires_grad:
                drawn = upstream_gradient(seed_of(case), index, result.shape)
                outcome.upstream[name] = tensor_of(drawn.astype(result.dtype), where)
        last = len(outcome.upstream) - 1
        for index, (name, gradient) in enumerate(outcome.upstream.items()):
            outcome.result_tensors[name].backward(gradient, retain_graph=index < last)
    for name, tensor in outcome.input_tensors.items():
        outcome.inputs_after[name] = values(tensor)
        if tensor.requires_grad:
            outcome.gradients[name] = None if tensor.grad is None else values(tensor.grad)
    return outcome


def run_torch(
    spec: OpSpec,
    case: Case,
    dtype: np.dtype,
    gradients: bool = True,
    perturb: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Outcome:
    """The same with the oracle; `perturb` changes floating inputs and upstream gradients."""
    import torch

    outcome = Outcome()
    change = perturb or (lambda array: array)

    def make(path: tuple[int | str, ...], array: np.ndarray) -> Any:
        data = array.astype(_dtype_under_test(array, dtype))
        if array.dtype.kind == "f":
            data = change(data)
        wanted = gradients and spec.differentiable and path[0] not in case.constant
        tensor = torch.from_numpy(np.array(data, order="C", subok=False))
        tensor.requires_grad_(wanted and data.dtype.kind == "f")
        outcome.input_tensors[label(path)] = tensor
        return tensor

    args, kwargs = map_arrays(case, make)
    results = flatten(spec.oracle(torch, *args, **kwargs))
    for index, (name, result) in enumerate(results.items()):
        if not isinstance(result, torch.Tensor):
            outcome.values[name] = result
            continue
        outcome.result_tensors[name] = result
        outcome.requires_grad[name] = result.requires_grad
        outcome.results[name] = result.detach().numpy().copy()
        if result.requires_grad:
            drawn = change(upstream_gradient(seed_of(case), index, tuple(result.shape)))
            outcome.upstream[name] = torch.from_numpy(np.asarray(drawn)).to(result.dtype)
    if outcome.upstream:
        torch.autograd.backward(
            [outcome.result_tensors[name] for name in outcome.upstream],
            list(outcome.upstream.values()),
        )
    for name, tensor in outcome.input_tensors.items():
        outcome.inputs_after[name] = tensor.detach().numpy().copy()
        if tensor.requires_grad:
            outcome.gradients[name] = None if tensor.grad is None else tensor.grad.numpy().copy()
    return outcome


def flatten(result: Any, name: str = "result") -> dict[str, Any]:
    if not isinstance(result, (tuple, list)):
        return {name: result}
    flat: dict[str, Any] = {}
    for index, element in enumerate(result):
        flat.update(flatten(element, f"{name}[{index}]"))
    return flat


# Comparing ----------------------------------------------------------------------------------


def fail(message: str) -> NoReturn:
    raise AssertionError(message)


class Errors(NamedTuple):
    """Largest errors against the float64 result, in ULP of each array's largest magnitude."""

    minigrad: float = 0.0
    torch: float = 0.0

    def worst(self, other: Errors) -> Errors:
        return Errors(max(self.minigrad, other.minigrad), max(self.torch, other.torch))


def compare(
    spec: OpSpec,
    case: Case,
    mine: Outcome,
    torch_same: Outcome,
    truth: Outcome,
    slack: float = 1.0,
) -> Errors:
    """Assert that `mine` is as good as torch's result in the same dtype; `truth` is in float64."""
    check_structure(mine, torch_same)
    scales: dict[str, float] = {}

    def conditioning(name: str) -> float:
        if not scales:
            scales.update(_conditioning(spec, case))
            for key, error in _neighbouring_errors(spec, case).items():
                scales[key] = max(scales[key], _TORCH_FACTOR * error / ulps)
            upstream = [np.abs(values(g)).max(initial=0.0) for g in mine.upstream.values()]
            for key in (k for k in scales if k.startswith("gradients:")):
                scales[key] = max(scales[key], spec.gradient_scale * max(upstream, default=0.0))
        return scales.get(name, 0.0)

    # In float64 there is no better result to compare with: torch's own error counts as well.
    ulps = slack * max(spec.float32_ulps, _FLOAT64_ULPS if truth is torch_same else 0.0)
    worst = Errors()
    for group in _WHAT:
        actual, theirs, exact = (getattr(o, group) for o in (mine, torch_same, truth))
        for name in actual:
            if group == "inputs_after" and not is_mutated(spec, name):
                continue
            errors = _compare_array(
                _WHAT[group].format(name),
                actual[name],
                theirs[name],
                exact[name],
                ulps,
                spec.exact and group == "results",
                partial(conditioning, f"{group}:{name}"),
            )
            worst = worst.worst(errors)
    return worst


def check_structure(mine: Outcome, theirs: Outcome) -> None:
    """The same results: how many, what shapes, dtypes and flags."""
    names, wanted = [*mine.results, *mine.values], [*theirs.results, *theirs.values]
    if names != wanted:
        fail(f"minigrad returned {names or 'nothing'}, torch {wanted or 'nothing'}")
    for name, value in mine.values.items():
        if value != theirs.values[name] and value == value:  # NaN equals NaN
            fail(f"{name}: {value!r}, torch gave {theirs.values[name]!r}")
    for name, array in mine.results.items():
        other = theirs.results[name]
        if array.shape != other.shape:
            fail(f"{name}: shape {array.shape}, torch gave {other.shape}")
        if array.dtype != other.dtype:
            fail(f"{name}: dtype {array.dtype}, torch gave {other.dtype}")
        if mine.requires_grad[name] != theirs.requires_grad[name]:
            fail(
                f"{name}: requires_grad is {mine.requires_grad[name]}, "
                f"torch gave {theirs.requires_grad[name]}"
            )


def is_mutated(spec: OpSpec, name: str) -> bool:
    return any(name == label((key,)) for key in spec.mutates)


def _compare_array(
    what: str,
    actual: np.ndarray | None,
    theirs: np.ndarray | None,
    truth: np.ndarray | None,
    ulps: float,
    bitwise: bool,
    conditioning: Callable[[], float],
) -> Errors:
    if actual is None or theirs is None or truth is None:
        # No gradient at all is the same as one of zeros.
        for who, array in (("minigrad's", actual), ("torch's", theirs)):
            if array is not None and np.any(array != 0):
                fail(f"{what}: {who} is not zero, the other library has none")
        return Errors()
    if actual.shape != theirs.shape or actual.dtype != theirs.dtype:
        fail(
            f"{what}: shape {actual.shape} of {actual.dtype}, "
            f"torch gave {theirs.shape} of {theirs.dtype}"
        )
    if bitwise or actual.dtype.kind != "f":
        _compare_bits(what, actual, theirs)
        return Errors()
    finite = np.isfinite(theirs)
    _fail_where(what, ~_same(actual, theirs) & (~finite | ~np.isfinite(actual)), actual, theirs)
    # Where float32 overflows, torch's float64 result says nothing about it.
    measured = finite & np.isfinite(truth)
    if not measured.any():
        return Errors()
    precise = truth.astype(float64)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(measured, np.abs(actual.astype(float64) - precise), 0.0)
        torch_error = np.where(measured, np.abs(theirs.astype(float64) - precise), 0.0).max()
    scale = float(np.abs(precise[measured]).max())
    unit = _ulp(scale, actual.dtype)
    allowed = max(ulps * unit, _TORCH_FACTOR * torch_error)
    errors = Errors(error.max() / unit, torch_error / unit)
    if error.max() <= allowed:
        return errors
    scale = max(scale, conditioning())
    unit = _ulp(scale, actual.dtype)
    allowed = max(allowed, ulps * unit)
    _fail_where(
        f"{what}: error {error.max():.3g} is {error.max() / unit:.3g} ULP of {scale:.3g}, allowed "
        f"{allowed / unit:.3g}; torch's own error is {torch_error:.3g}",
        error > allowed,
        actual,
        precise,
    )
    return errors


def _ulp(scale: float, dtype: np.dtype) -> float:
    return float(np.spacing(np.asarray(scale, dtype)))


def _same(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left == right) | ((left != left) & (right != right))


def compare_bits(what: str, actual: np.ndarray | None, expected: np.ndarray | None) -> None:
    """Equal bit for bit; any NaN equals any other."""
    if actual is None or expected is None:
        if actual is not expected:
            fail(f"{what}: one of the two is missing")
        return
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        fail(
            f"{what}: shape {actual.shape} of {actual.dtype}, "
            f"expected {expected.shape} of {expected.dtype}"
        )
    _compare_bits(what, actual, expected)


def _compare_bits(what: str, actual: np.ndarray, expected: np.ndarray) -> None:
    differ = ~_same(actual, expected)
    if actual.dtype.kind == "f":
        differ |= (np.signbit(actual) != np.signbit(expected)) & (actual == expected)
    _fail_where(what, differ, actual, expected)


def _fail_where(what: str, bad: np.ndarray, actual: np.ndarray, expected: np.ndarray) -> None:
    if not np.any(bad):
        return
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    fail(
        f"{what}: {int(np.sum(bad))} of {bad.size} elements differ; at {index} got "
        f"{actual[index]!r}, expected {expected[index]!r}"
    )


def _conditioning(spec: OpSpec, case: Case) -> Mapping[str, float]:
    """How far each float64 result moves, per unit of relative change in all inputs at once."""
    base = _by_key(run_torch(spec, case, float64))
    quotients: dict[str, list[np.ndarray]] = {name: [] for name in base}
    for step in _STEPS:
        generator = np.random.default_rng(seed_of(case))
        squares = {name: np.zeros_like(array) for name, array in base.items()}
        for _ in range(_DRAWS):
            moved = run_torch(spec, case, float64, perturb=partial(_perturbed, step, generator))
            with np.errstate(all="ignore"):
                for name, array in _by_key(moved).items():
                    squares[name] += ((array - base[name]) / step) ** 2
        for name, square in squares.items():
            quotients[name].append(np.sqrt(square / _DRAWS))
    scales = {}
    for name, (coarse, fine) in quotients.items():
        with np.errstate(invalid="ignore"):
            smooth = (coarse <= 2 * fine) & (fine <= 2 * coarse)
        scales[name] = float(np.max(coarse, where=smooth, initial=0.0))
    return scales


def _neighbouring_errors(spec: OpSpec, case: Case) -> Mapping[str, float]:
    """torch's largest float32 error on this and some nearby inputs, in units of epsilon.

    What cancellation inside the usual algorithm costs; one case alone may be lucky.
    """
    generator = np.random.default_rng(seed_of(case))
    errors: dict[str, float] = {}
    for draw in range(1 + _DRAWS):
        step = 2.0**-10 if draw else 0.0
        near = rounded(map_case(case, partial(_nearby, step, generator)), float32)
        coarse, fine = (_by_key(run_torch(spec, near, dtype)) for dtype in (float32, float64))
        for name, array in coarse.items():
            with np.errstate(invalid="ignore"):
                difference = np.abs(array.astype(float64) - fine[name])
            largest = np.max(difference, where=np.isfinite(difference), initial=0.0)
            errors[name] = max(errors.get(name, 0.0), float(largest) / _EPS32)
    return errors


def _nearby(
    step: float, generator: np.random.Generator, _: tuple[int | str, ...], array: np.ndarray
) -> np.ndarray:
    return _perturbed(step, generator, array) if array.dtype.kind == "f" else array


def _perturbed(step: float, generator: np.random.Generator, array: np.ndarray) -> np.ndarray:
    return np.asarray(array * (1 + step * generator.standard_normal(array.shape)))


def _by_key(outcome: Outcome) -> dict[str, np.ndarray]:
    return {
        f"{group}:{name}": array
        for group in ("results", "gradients", "inputs_after")
        for name, array in getattr(outcome, group).items()
        if array is not None and array.dtype.kind == "f"
    }
