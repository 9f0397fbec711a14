"""Every operation in a captured step: the replay of a call with other values has the bits of the
call itself, forward and backward; what cannot be replayed is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from opspecs import SPECS

import minigrad as mg
from minigrad.dtypes import float32, is_floating
from minigrad.testing import Case, OpSpec, checks, oracle
from minigrad.testing.oracle import TEST_DEVICE as DEVICE

# Operations of which no call can be captured: how many boxes they keep, the host must read.
_REFUSED = {"nms", "batched_nms"}
_captured: dict[str, bool] = {}


class _Call:
    """One case as a step: arrays are arguments, and results and gradients are returned."""

    def __init__(self, spec: OpSpec, case: Case) -> None:
        self.spec, self.case = spec, case
        self.inputs: list[np.ndarray] = []
        self.places: dict[Any, int] = {}
        oracle.map_arrays(case, self._note)

    def _note(self, path: Any, array: np.ndarray) -> Any:
        self.places[path] = len(self.inputs)
        dtype = float32 if array.dtype.kind == "f" else array.dtype
        self.inputs.append(np.array(array, dtype))
        return array

    def tensors(self, change: bool) -> list[mg.Tensor]:
        arrays = [_changed(array) for array in self.inputs] if change else self.inputs
        return [mg.tensor(array, device=DEVICE) for array in arrays]

    def run(self, *given: mg.Tensor) -> Any:
        leaves: dict[str, mg.Tensor] = {}

        def make(path: Any, array: np.ndarray) -> mg.Tensor:
            tensor = given[self.places[path]].detach()
            wanted = self.spec.differentiable and path[0] not in self.case.constant
            if wanted and is_floating(tensor.dtype):
                leaves[oracle.label(path)] = tensor.requires_grad_()
            return tensor

        args, kwargs = oracle.map_arrays(self.case, make)
        with oracle.default_device(mg.device(DEVICE)):
            results = oracle.flatten(self.spec.function(*args, **kwargs))
        roots = [r for r in results.values() if isinstance(r, mg.Tensor) and r.requires_grad]
        for root in roots:
            weight = mg.arange(1, 1 + root.numel(), dtype=root.dtype, device=DEVICE)
            root.backward(weight.reshape(root.shape) / 8, retain_graph=True)
        return results, {name: leaf.grad for name, leaf in leaves.items()}


def _changed(array: np.ndarray) -> np.ndarray:
    """Other values of the same kind: the rows in reverse order."""
    return np.ascontiguousarray(array[::-1]) if array.ndim else array


def _values(outcome: Any) -> dict[str, Any]:
    return {
        f"{part}{name}": oracle.values(value) if isinstance(value, mg.Tensor) else value
        for part, named in zip(("", "gradient of "), outcome, strict=True)
        for name, value in named.items()
    }


def _holds(spec: OpSpec, case: Case) -> None:
    call = _Call(spec, case)
    checks.assume(bool(call.inputs))
    expected = {}
    for change in (False, True):
        try:
            expected[change] = _values(call.run(*call.tensors(change)))
        except (ValueError, TypeError, IndexError):  # rows in this order are no valid input
            checks.assume(False)
    step = mg.capture(call.run)
    step(*call.tensors(False)), step(*call.tensors(False))
    try:
        step(*call.tensors(False))
    except mg.GraphError:
        _captured.setdefault(spec.name, False)
        return
    _captured[spec.name] = True
    for change in (True, False):
        found = _values(step(*call.tensors(change)))
        assert found.keys() == expected[change].keys()
        for name, value in found.items():
            np.testing.assert_array_equal(value, expected[change][name], err_msg=name)


_CHECK = checks.Check("a captured call gives the same bits", _holds, share=0.4)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_captured_call_gives_the_bits_of_the_call(spec: OpSpec) -> None:
    checks.run(_CHECK, spec)
    assert _captured[spec.name] is (spec.name not in _REFUSED)
