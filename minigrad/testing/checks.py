"""Property checks: those that every record is put through. Each takes a spec and one drawn case.

`run(check, spec)` draws the cases with Hypothesis; its settings come from the profile in force, or
from `examples`. A failure carries a program that repeats the call in torch and in minigrad.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import UnsatisfiedAssumption

from ..cuda import synchronize
from ..device import Device, as_device
from ..dtypes import float32, float64
from ..engine import Tensor, no_grad
from ..errors import DeviceError, DTypeError
from ..ops.gradcheck import gradcheck
from . import oracle
from .oracle import (
    TEST_DEVICE,
    Errors,
    Outcome,
    arrays_of,
    compare,
    compare_bits,
    fail,
    label,
    map_arrays,
    map_case,
)
from .snippet import reproduction
from .spec import Case, ErrorCase, OpSpec

DEVICES = (TEST_DEVICE, "reference")
LAYOUTS = ("channels_last", "sliced")


@dataclass(frozen=True)
class Check:
    """run: raises AssertionError, or lets an error through, where the property does not hold; what
        it returns goes to the observer of `checks.run`.

    applies: whether the property makes sense for this record; share: of the usual examples.
    """

    name: str
    run: Callable[[OpSpec, Case], Any]
    applies: Callable[[OpSpec], bool] = lambda spec: True
    share: float = 1.0
    dtype: str = "float32"
    cases: Callable[[OpSpec], st.SearchStrategy[Case]] = lambda spec: spec.cases


def run(
    check: Check,
    spec: OpSpec,
    examples: int | None = None,
    observe: Callable[[Any], object] | None = None,
) -> None:
    """Put `spec` through one check with drawn cases. Does nothing where it does not apply.

    observe: called after each case with what the check returned: parity checks return Errors.
    """
    if not check.applies(spec):
        return

    def holds(case: Case) -> None:
        try:
            result = check.run(spec, case)
        except UnsatisfiedAssumption:
            raise
        except Exception as error:
            error.add_note(
                f"\nThe property '{check.name}' of {spec.name} fails. To repeat the call:\n\n"
                + reproduction(spec, case, check.dtype)
            )
            raise
        if observe is not None:
            observe(result)

    wanted = settings().max_examples if examples is None else examples
    count, cases, failure = max(1, round(wanted * check.share)), check.cases(spec), None
    # Where every run draws the same cases, the checks of a record share them. Hypothesis draws for
    # those that need others, or that fail: it finds a smaller case.
    if check in CHECKS and settings().derandomize and cases is spec.cases:
        drawn, held = _drawn(cases, wanted), 0
        try:
            for case in drawn:
                with suppress(UnsatisfiedAssumption):
                    holds(case)
                    held += 1
                if held == min(count, len(drawn)):
                    return
        except Exception as error:
            failure, count = error, wanted
    _with_hypothesis(holds, cases, count)
    if failure is not None:
        raise failure


@lru_cache(maxsize=8)
def _drawn(cases: st.SearchStrategy[Case], count: int) -> list[Case]:
    drawn: list[Case] = []
    _with_hypothesis(lambda case: drawn.append(case), cases, count)
    return drawn


def _with_hypothesis(
    holds: Callable[[Case], None], cases: st.SearchStrategy[Case], count: int
) -> None:
    configured = settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    configured(given(case=cases)(holds))()


def assume(condition: bool) -> None:
    """Pass over the case unless this holds; Hypothesis' own works inside of its tests only."""
    if not condition:
        raise UnsatisfiedAssumption


def check(spec: OpSpec, examples: int = 100) -> None:
    """All checks of one record; raises at the first that fails."""
    for each in CHECKS:
        run(each, spec, examples)
    check_errors(spec)


# Values and gradients -----------------------------------------------------------------------


def _parity(spec: OpSpec, case: Case, dtype: np.dtype) -> Errors:
    mine = oracle.run_minigrad(spec, case, dtype)
    case = oracle.rounded(case, dtype)
    theirs = oracle.run_torch(spec, case, dtype)
    truth = theirs if dtype == float64 else oracle.run_torch(spec, case, float64)
    return compare(spec, case, mine, theirs, truth)


def _parity_float32(spec: OpSpec, case: Case) -> Errors:
    return _parity(spec, case, float32)


def _parity_float64(spec: OpSpec, case: Case) -> Errors:
    return _parity(spec, case, float64)


def _agreement(spec: OpSpec, case: Case) -> None:
    """Plain loops add one term after the other, so they get a little more room."""
    case = oracle.rounded(case, float32)
    for dtype in (float64, float32):
        mine = oracle.run_minigrad(spec, case, dtype)
        reference = oracle.run_minigrad(spec, case, dtype, "reference")
        truth = mine if dtype == float64 else oracle.run_minigrad(spec, case, float64)
        compare(spec, case, reference, mine, truth, slack=4.0)


def _gradcheck(spec: OpSpec, case: Case) -> None:
    arrays = arrays_of(case)
    floating = {name: a for name, a in arrays.items() if a.dtype.kind == "f"}
    assume(all(np.isfinite(a).all() for a in floating.values()))
    tensors: dict[str, Tensor] = {}

    def make(path: tuple[int | str, ...], array: np.ndarray) -> Tensor:
        wanted = array.dtype.kind == "f" and path[0] not in case.constant
        tensor = oracle.tensor_of(array, as_device(TEST_DEVICE), requires_grad=wanted)
        tensors[label(path)] = tensor
        return tensor

    map_arrays(case, make)
    names = list(tensors)
    assume(any(t.requires_grad for t in tensors.values()))

    def function(*given_tensors: Tensor) -> Any:
        by_name = dict(zip(names, given_tensors, strict=True))
        args, kwargs = map_arrays(case, lambda path, _: by_name[label(path)])
        return spec.function(*args, **kwargs)

    inputs = [tensors[name] for name in names]
    with no_grad(), oracle.default_device(Device(TEST_DEVICE)):
        results = oracle.flatten(function(*map(_detached, inputs)))
    # The mean of nothing is NaN, and has no slope.
    assume(
        all(np.isfinite(oracle.values(r)).all() for r in results.values() if isinstance(r, Tensor))
    )
    with oracle.default_device(Device(TEST_DEVICE)):
        gradcheck(function, inputs, seed=oracle.seed_of(case))


def _detached(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


# Memory -------------------------------------------------------------------------------------


def _layouts(spec: OpSpec, case: Case) -> None:
    """The same values in another memory order give the same results and gradients."""
    case = oracle.rounded(case, float32)
    plain = oracle.run_minigrad(spec, case, float32)
    truth = oracle.run_minigrad(spec, case, float64)
    for layout in LAYOUTS:
        other = oracle.run_minigrad(spec, case, float32, layout=layout)
        try:
            compare(spec, case, other, plain, truth)
        except AssertionError as error:
            error.add_note(f"The inputs lay in memory as {layout!r}.")
            raise


def _unmutated(spec: OpSpec, case: Case) -> None:
    """Neither forward nor backward changes an input or a gradient given to backward."""
    mine = oracle.run_minigrad(spec, case, float32)
    for name, array in arrays_of(case).items():
        if oracle.is_mutated(spec, name):
            continue
        before = np.array(array.astype(float32) if array.dtype.kind == "f" else array, subok=False)
        compare_bits(f"{name} after the call", mine.inputs_after[name], before)
        if mine.input_tensors[name]._version.value:
            fail(f"{name}: the call marked it as changed")
    for index, (name, tensor) in enumerate(mine.result_tensors.items()):
        if name in mine.upstream:
            drawn = oracle.upstream_gradient(oracle.seed_of(case), index, tensor.shape)
            gradient = oracle.values(mine.upstream[name])
            compare_bits(f"gradient given for {name}", gradient, drawn.astype(tensor.dtype))
        compare_bits(f"{name} after backward", oracle.values(tensor), mine.results[name])


def _no_aliasing(spec: OpSpec, case: Case) -> None:
    """Results share no memory with inputs or one another; gradients share none with anything."""
    mine = oracle.run_minigrad(spec, case, float32)
    inputs = {name: t.array for name, t in mine.input_tensors.items()}
    results = {name: t.array for name, t in mine.result_tensors.items()}
    upstream = {f"gradient given for {name}": t.array for name, t in mine.upstream.items()}
    gradients = {
        f"gradient of {name}": t.grad.array
        for name, t in mine.input_tensors.items()
        if t.grad is not None
    }
    if not spec.view:
        _apart(results, inputs)
        _apart(results, results)
    _apart(gradients, inputs | results | upstream | gradients)


def _apart(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    for name, array in left.items():
        for other_name, other in right.items():
            if name != other_name and array.size and np.may_share_memory(array, other):
                fail(f"{name} shares memory with {other_name}")


def _threads(spec: OpSpec, case: Case) -> None:
    """The same bits whatever the number of threads."""
    from ..runtime import threads

    before = threads.get_num_threads()
    outcomes: list[Outcome] = []
    try:
        for count in (1, 2):
            threads.set_num_threads(count)
            outcomes.append(oracle.run_minigrad(spec, case, float32))
    finally:
        threads.set_num_threads(before)
    one, two = outcomes
    for group in ("results", "gradients", "inputs_after"):
        for name, array in getattr(two, group).items():
            compare_bits(f"{group} {name} with 2 threads", array, getattr(one, group)[name])


# Element types ------------------------------------------------------------------------------


def _integers(spec: OpSpec, case: Case) -> None:
    """Integer tensors in place of floating ones: torch's values, or DTypeError."""
    if all(a.dtype.kind != "f" for a in arrays_of(case).values()):
        return
    case = map_case(case, lambda _, a: _as_integers(a) if a.dtype.kind == "f" else a)
    if not spec.accepts_integers:
        _raises_dtype_error(spec, case, "int64")
        return
    mine = oracle.run_minigrad(spec, case, float32)
    theirs = oracle.run_torch(spec, case, float32)
    compare(spec, case, mine, theirs, theirs)


def _as_integers(array: np.ndarray) -> np.ndarray:
    return np.asarray(np.nan_to_num(array, nan=0, posinf=1, neginf=-1)).astype(np.int64)


def _mixed_dtypes(spec: OpSpec, case: Case) -> None:
    """float64 for each floating argument in turn, float32 for the others."""
    names = [name for name, a in arrays_of(case).items() if a.dtype.kind == "f"]
    for other in names if len(names) > 1 else ():
        mixed = map_case(case, partial(_all_float32_but, other))
        _raises_dtype_error(spec, mixed, f"float64 in {other}")


def _all_float32_but(other: str, path: tuple[int | str, ...], array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":
        return array
    return array.astype(float64 if label(path) == other else float32)


def _raises_dtype_error(spec: OpSpec, case: Case, what: str) -> None:
    for device in DEVICES:
        args, kwargs, _ = _own_dtypes(case, device)
        try:
            with oracle.default_device(Device(device)):
                spec.function(*args, **kwargs)
        except DTypeError as error:
            if not str(error):
                fail("the DTypeError has no message")
        else:
            fail(f"{what} must raise DTypeError on {device}, nothing was raised")


def _mixed_devices(spec: OpSpec, case: Case) -> None:
    """Each tensor in turn on another device than the others."""
    names = list(arrays_of(case))
    for other in names if len(names) > 1 else ():
        args, kwargs, _ = _own_dtypes(case, DEVICES[0], {other: DEVICES[1]})
        try:
            spec.function(*args, **kwargs)
        except DeviceError as error:
            if not re.search("|".join(DEVICES), str(error)):
                fail(f"the DeviceError must name the devices, got {str(error)!r}")
        else:
            fail(f"{other} on another device must raise DeviceError, nothing was raised")


def _own_dtypes(
    case: Case | ErrorCase, device: str, elsewhere: Mapping[str, str] | None = None
) -> tuple[list[Any], dict[str, Any], dict[str, Tensor]]:
    """The arguments as tensors of their own dtypes, all on one device but those named."""
    tensors: dict[str, Tensor] = {}

    def make(path: tuple[int | str, ...], array: np.ndarray) -> Tensor:
        where = as_device((elsewhere or {}).get(label(path), device))
        return tensors.setdefault(label(path), oracle.tensor_of(array, where))

    args, kwargs = map_arrays(Case(case.args, case.kwargs), make)
    return args, kwargs, tensors


# Bad input ----------------------------------------------------------------------------------


def check_errors(spec: OpSpec) -> None:
    """Each bad call of the record; see check_error."""
    for error_case in spec.errors:
        check_error(spec, error_case)


def check_error(spec: OpSpec, error_case: ErrorCase) -> None:
    """The call fails with the stated error, changes nothing, and fails in torch as well."""
    arrays = arrays_of(Case(error_case.args, error_case.kwargs))
    call = f"{spec.name}{_signature(error_case)}"
    for device in DEVICES:
        args, kwargs, tensors = _own_dtypes(error_case, device)
        try:
            with oracle.default_device(Device(device)):
                spec.function(*args, **kwargs)
                if device == "cuda":
                    synchronize()  # value checks are made there
        except error_case.error as error:
            if not re.search(error_case.match, str(error)):
                fail(f"{call} on {device}: message {str(error)!r} lacks {error_case.match!r}")
        except Exception as error:
            fail(f"{call} on {device}: {error!r} instead of {error_case.error.__name__}")
        else:
            fail(f"{call} on {device} must raise {error_case.error.__name__}, nothing was raised")
        for name, tensor in tensors.items():
            before = np.array(arrays[name], subok=False)
            compare_bits(f"{call} on {device}: {name}", oracle.values(tensor), before)
    if error_case.torch_raises:
        _torch_raises(spec, error_case, call)


def _torch_raises(spec: OpSpec, error_case: ErrorCase, call: str) -> None:
    import torch

    case = Case(error_case.args, error_case.kwargs)
    args, kwargs = map_arrays(case, lambda _, a: torch.from_numpy(np.array(a, subok=False)))
    try:
        spec.oracle(torch, *args, **kwargs)
    except Exception:
        return
    fail(f"{call}: torch accepts this; if minigrad refuses on purpose, set torch_raises=False")


def _signature(case: ErrorCase) -> str:
    def short(value: Any) -> str:
        if isinstance(value, np.ndarray):
            return f"{value.dtype.name}{list(value.shape)}"
        if isinstance(value, (list, tuple)) and any(isinstance(v, np.ndarray) for v in value):
            return f"[{', '.join(map(short, value))}]"
        return repr(value)

    shown = [*map(short, case.args), *(f"{k}={short(v)}" for k, v in case.kwargs.items())]
    return f"({', '.join(shown)})"


# The list -----------------------------------------------------------------------------------

PARITY_FLOAT32 = Check("float32 values and gradients match torch", _parity_float32)
PARITY_FLOAT64 = Check("float64 values and gradients match torch", _parity_float64, dtype="float64")
GRADCHECK = Check(
    "gradients match numerical differentiation",
    _gradcheck,
    applies=lambda spec: (
        spec.differentiable and (spec.gradcheck or spec.gradcheck_cases is not None)
    ),
    share=0.5,
    dtype="float64",
    cases=lambda spec: spec.cases if spec.gradcheck_cases is None else spec.gradcheck_cases,
)
AGREEMENT = Check("the reference backend agrees with the cpu backend", _agreement, share=0.35)
LAYOUT = Check("memory order does not matter", _layouts, share=0.5)
UNMUTATED = Check("inputs are left alone", _unmutated, share=0.35)
NO_ALIASING = Check("results and gradients have their own memory", _no_aliasing, share=0.35)
THREADS = Check("the number of threads does not matter", _threads, share=0.35)
INTEGERS = Check("integer tensors give torch's values or DTypeError", _integers, share=0.35)
MIXED_DTYPES = Check(
    "mixed dtypes raise DTypeError",
    _mixed_dtypes,
    applies=lambda spec: not spec.accepts_mixed_dtypes,
    share=0.35,
)

MIXED_DEVICES = Check(
    "mixed devices raise DeviceError",
    _mixed_devices,
    applies=lambda spec: not spec.accepts_mixed_devices,
    share=0.2,
)

CHECKS: Sequence[Check] = (
    PARITY_FLOAT32,
    PARITY_FLOAT64,
    GRADCHECK,
    AGREEMENT,
    LAYOUT,
    UNMUTATED,
    NO_ALIASING,
    THREADS,
    INTEGERS,
    MIXED_DTYPES,
    MIXED_DEVICES,
)
