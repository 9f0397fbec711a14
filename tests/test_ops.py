"""Every operation of the table, put through every check."""

from __future__ import annotations

from functools import partial

import pytest
from opspecs import SPECS

from minigrad.testing import OpSpec, checks

# The scope makes pytest run an operation's checks one after the other, which share drawn cases.
every_op = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name, scope="module")


@every_op
def test_float32_values_and_gradients_match_torch(spec: OpSpec, float32_errors) -> None:
    checks.run(checks.PARITY_FLOAT32, spec, observe=partial(float32_errors, spec.name))


@every_op
def test_float64_values_and_gradients_match_torch(spec: OpSpec) -> None:
    checks.run(checks.PARITY_FLOAT64, spec)


@pytest.mark.parametrize(
    "spec", [s for s in SPECS if checks.GRADCHECK.applies(s)], ids=lambda spec: spec.name
)
def test_gradients_match_numerical_differentiation(spec: OpSpec) -> None:
    checks.run(checks.GRADCHECK, spec)


@every_op
def test_reference_backend_agrees_with_cpu_backend(spec: OpSpec) -> None:
    checks.run(checks.AGREEMENT, spec)


@every_op
def test_memory_order_of_inputs_does_not_matter(spec: OpSpec) -> None:
    checks.run(checks.LAYOUT, spec)


@every_op
def test_inputs_are_left_alone(spec: OpSpec) -> None:
    checks.run(checks.UNMUTATED, spec)


@every_op
def test_results_and_gradients_have_their_own_memory(spec: OpSpec) -> None:
    checks.run(checks.NO_ALIASING, spec)


@pytest.mark.skipif(checks.TEST_DEVICE != "cpu", reason="of the CPU's threads")
@every_op
def test_number_of_threads_does_not_matter(spec: OpSpec) -> None:
    checks.run(checks.THREADS, spec)


@every_op
def test_integer_tensors_give_torchs_values_or_dtype_error(spec: OpSpec) -> None:
    checks.run(checks.INTEGERS, spec)


@every_op
def test_mixed_dtypes_raise_dtype_error(spec: OpSpec) -> None:
    checks.run(checks.MIXED_DTYPES, spec)


@every_op
def test_mixed_devices_raise_device_error(spec: OpSpec) -> None:
    checks.run(checks.MIXED_DEVICES, spec)


@pytest.mark.parametrize(
    ("spec", "error_case"),
    [pytest.param(s, e, id=f"{s.name}-{i}") for s in SPECS for i, e in enumerate(s.errors)],
)
def test_bad_input_is_refused_before_any_work(spec, error_case) -> None:
    checks.check_error(spec, error_case)


def test_names_in_the_table_are_unique() -> None:
    names = [spec.name for spec in SPECS]
    assert sorted(names) == sorted(set(names))
