"""The oracle itself: a right operation passes every check, each kind of wrong one is caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import minigrad
import minigrad.testing
from minigrad import DTypeError, ShapeError, Tensor
from minigrad.dtypes import floating_dtype
from minigrad.errors import GradcheckError
from minigrad.testing import Case, ErrorCase, OpSpec, check, checks, oracle
from minigrad.testing.snippet import reproduction
from minigrad.testing.strategies import (
    broadcastable,
    case,
    distinct,
    floats,
    integers,
    shapes,
    sizes_around,
    values,
)

Arrays = Callable[..., Any]


def elementwise_op(forward: Arrays, backward: Arrays) -> Callable[[Tensor], Tensor]:
    """An operation as a user would write it, in NumPy: backward(grad_output, x)."""

    class Custom(minigrad.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return Tensor(np.asarray(forward(x.array)), x.device)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return Tensor(np.asarray(backward(grad_output.array, x.array)), x.device)

    def function(x: Tensor) -> Tensor:
        floating_dtype("custom", x=x.dtype)
        return Custom.apply(x)

    return function


def square_spec(forward: Arrays = lambda x: x * x, backward: Arrays = lambda g, x: 2 * x * g):
    return OpSpec(
        name="square",
        function=elementwise_op(forward, backward),
        oracle=lambda torch, x: x * x,
        cases=shapes(min_dims=1).flatmap(lambda shape: case(floats(shape, nan=True, inf=True))),
        gradcheck_cases=case(distinct((3, 4))),
    )


def test_an_operation_written_by_a_user_passes_all_checks():
    check(square_spec(), examples=30)


def test_the_example_in_the_documentation_passes():
    lines = (minigrad.testing.__doc__ or "").splitlines()
    code = [line[4:] for line in lines if line.startswith("    ") or not line]
    exec("\n".join(code), {})


def test_a_wrong_value_is_caught():
    with pytest.raises(AssertionError, match="result: error"):
        check(square_spec(forward=lambda x: x * x * x.dtype.type(1.001)), examples=10)


def test_a_value_wrong_in_float32_only_is_caught():
    def half_precision(x: np.ndarray) -> np.ndarray:
        return (x.astype(np.float16) ** 2).astype(x.dtype) if x.dtype == np.float32 else x * x

    with np.errstate(over="ignore"), pytest.raises(AssertionError, match="result: error"):
        checks.run(checks.PARITY_FLOAT32, square_spec(half_precision), 10)


def test_a_float64_detour_through_float32_is_caught():
    spec = square_spec(forward=lambda x: (x.astype(np.float32) ** 2).astype(x.dtype))
    checks.run(checks.PARITY_FLOAT32, spec, 10)
    with pytest.raises(AssertionError, match="result: error"):
        checks.run(checks.PARITY_FLOAT64, spec, 10)


def test_a_lost_nan_is_caught():
    spec = square_spec(forward=lambda x: np.where(np.isnan(x), x.dtype.type(0), x * x))
    with pytest.raises(AssertionError, match=r"elements differ.*expected"):
        checks.run(checks.PARITY_FLOAT64, spec, 30)


@pytest.mark.parametrize(
    ("check_", "error"),
    [
        (checks.PARITY_FLOAT32, AssertionError),
        (checks.PARITY_FLOAT64, AssertionError),
        (checks.GRADCHECK, GradcheckError),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_wrong_backward_is_caught(check_, error):
    spec = square_spec(backward=lambda g, x: x.dtype.type(2.01) * x * g)
    with pytest.raises(error, match=r"gradient of (argument|input) 0"):
        checks.run(check_, spec, 10)


def test_a_backward_that_is_right_for_ones_only_is_caught():
    spec = square_spec(backward=lambda g, x: 2 * x * np.ones_like(g))
    with pytest.raises(AssertionError, match="gradient of argument 0"):
        checks.run(checks.PARITY_FLOAT64, spec, 10)


def test_a_missing_gradient_is_caught():
    spec = square_spec()

    class NoGradient(minigrad.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return Tensor(x.array * x.array, x.device)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> None:
            return None

    with pytest.raises(AssertionError, match="torch's is not zero"):
        checks.run(checks.PARITY_FLOAT64, replace(spec, function=NoGradient.apply), 10)


def test_a_lost_graph_is_caught():
    spec = replace(square_spec(), function=lambda x: Tensor(x.array * x.array, x.device))
    with pytest.raises(AssertionError, match="requires_grad is False"):
        checks.run(checks.PARITY_FLOAT64, spec, 10)


def test_a_wrong_dtype_is_caught():
    spec = square_spec(forward=lambda x: (x * x).astype(np.float64))
    spec = replace(spec, differentiable=False)
    with pytest.raises(AssertionError, match="dtype float64, torch gave float32"):
        checks.run(checks.PARITY_FLOAT32, spec, 10)


def test_a_wrong_shape_is_caught():
    spec = square_spec(forward=lambda x: (x * x)[None])
    with pytest.raises(AssertionError, match=r"shape .*torch gave"):
        checks.run(checks.PARITY_FLOAT64, replace(spec, differentiable=False), 10)


def test_a_mutated_input_is_caught():
    def forward(x: np.ndarray) -> np.ndarray:
        out = x * x
        x[...] = 0
        return out

    with pytest.raises(AssertionError, match="argument 0 after the call"):
        checks.run(checks.UNMUTATED, square_spec(forward), 10)


def test_a_mutated_upstream_gradient_is_caught():
    def backward(g: np.ndarray, x: np.ndarray) -> np.ndarray:
        g *= 2
        return g * x

    with pytest.raises(AssertionError, match="gradient given for result"):
        checks.run(checks.UNMUTATED, square_spec(backward=backward), 10)


def test_a_result_that_aliases_an_input_is_caught():
    spec = square_spec(forward=lambda x: x[:])
    with pytest.raises(AssertionError, match="result shares memory with argument 0"):
        checks.run(checks.NO_ALIASING, spec, 10)
    checks.run(checks.NO_ALIASING, replace(spec, view=True), 10)


def test_a_gradient_that_aliases_an_input_is_caught():
    # The engine copies gradients that alias what it saved or what arrived, so hide the memory.
    kept: list[np.ndarray] = []

    def forward(x: np.ndarray) -> np.ndarray:
        kept.append(x)
        return x * x

    class Unsaved(minigrad.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return Tensor(forward(x.array), x.device)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Tensor:
            return Tensor(kept[-1], grad_output.device)

    with pytest.raises(AssertionError, match="gradient of argument 0 shares memory with argument"):
        checks.run(checks.NO_ALIASING, replace(square_spec(), function=Unsaved.apply), 10)


def test_a_result_that_depends_on_memory_order_is_caught():
    spec = square_spec(forward=lambda x: x * x if x.flags.c_contiguous else x + x)
    with pytest.raises(AssertionError, match="result") as caught:
        checks.run(checks.LAYOUT, spec, 30)
    assert any("The inputs lay in memory as" in note for note in caught.value.__notes__)


def test_a_result_that_depends_on_the_number_of_threads_is_caught():
    from minigrad.runtime import threads

    if threads.set_num_threads(2) or threads.get_num_threads() < 2:
        pytest.skip("this machine has one core")
    spec = square_spec(forward=lambda x: x * x * threads.get_num_threads())
    with pytest.raises(AssertionError, match="with 2 threads"):
        checks.run(checks.THREADS, spec, 10)


def test_backends_that_disagree_are_caught():
    spec = square_spec()
    right = spec.function

    def function(x: Tensor) -> Tensor:
        return right(x) if x.device == "cpu" else right(right(x))

    with pytest.raises(AssertionError, match="result"):
        checks.run(checks.AGREEMENT, replace(spec, function=function), 30)


def test_accepted_integers_are_caught_unless_declared_and_right():
    spec = replace(
        square_spec(),
        function=lambda x: Tensor(x.array * x.array, x.device),
        differentiable=False,
    )
    with pytest.raises(AssertionError, match="int64 must raise DTypeError"):
        checks.run(checks.INTEGERS, spec, 30)
    checks.run(checks.INTEGERS, replace(spec, accepts_integers=True), 30)
    wrong = replace(spec, oracle=lambda torch, x: x * x + 1, accepts_integers=True)
    with pytest.raises(AssertionError, match="elements differ"):
        checks.run(checks.INTEGERS, wrong, 30)


def test_accepted_mixed_dtypes_are_caught():
    spec = OpSpec(
        name="sum of two",
        function=lambda x, y: Tensor(np.asarray(x.array + y.array), x.device),
        oracle=lambda torch, x, y: x + y,
        cases=broadcastable().flatmap(lambda pair: case(*(floats(s) for s in pair))),
        differentiable=False,
    )
    with pytest.raises(AssertionError, match="float64 in argument 0 must raise DTypeError"):
        checks.run(checks.MIXED_DTYPES, spec, 10)


def refuse(function: Callable[..., Any]) -> OpSpec:
    bad = ErrorCase((np.ones((2, 3)),), {}, ShapeError, r"square: .*\(2, 3\)")
    return replace(
        square_spec(),
        function=function,
        oracle=lambda torch, x: torch.ones(2) @ torch.ones(3),
        errors=(bad,),
    )


def raising(error: Exception, spoil: bool = False) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor) -> Tensor:
        if spoil:
            x.array[...] = 7
        raise error

    return function


def test_error_cases_pass_when_error_and_message_fit():
    checks.check_errors(refuse(raising(ShapeError("square: no shape (2, 3)"))))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x, "must raise ShapeError, nothing was raised"),
        (raising(ShapeError("no")), "message 'no' lacks"),
        (raising(KeyError("square")), r"KeyError\('square'\) instead of ShapeError"),
        (raising(ShapeError("square: (2, 3)"), spoil=True), "argument 0: 6 of 6 elements differ"),
    ],
)
def test_wrong_error_behaviour_is_caught(function, message):
    with pytest.raises(AssertionError, match=message):
        checks.check_errors(refuse(function))


def test_an_error_that_torch_does_not_raise_must_be_declared():
    spec = replace(
        refuse(raising(ShapeError("square: (2, 3)"))), oracle=lambda torch, x: torch.relu(x)
    )
    with pytest.raises(AssertionError, match="torch accepts this"):
        checks.check_errors(spec)
    checks.check_errors(replace(spec, errors=(replace(spec.errors[0], torch_raises=False),)))


def test_exact_distinguishes_signed_zeros_and_last_bits():
    spec = replace(square_spec(), differentiable=False, exact=True)
    checks.run(checks.PARITY_FLOAT32, spec, 20)
    signed = replace(spec, function=lambda x: Tensor(-(x.array * -x.array), x.device))
    checks.run(checks.PARITY_FLOAT32, signed, 20)
    flipped = replace(spec, function=lambda x: Tensor(x.array * x.array * 1 - 0.0, x.device))
    checks.run(checks.PARITY_FLOAT32, flipped, 20)
    negated = replace(
        spec,
        function=lambda x: Tensor(
            np.where(x.array == 0, -0.0, x.array**2).astype(x.dtype), x.device
        ),
    )
    with pytest.raises(AssertionError, match=r"got np.float32\(-0.0\)"):
        checks.run(checks.PARITY_FLOAT32, negated, 30)


def test_state_that_a_call_updates_is_compared():
    def count(x: Tensor, state: Tensor, wrong: float = 0.0) -> Tensor:
        state.array += x.array.sum(dtype=x.dtype) + x.dtype.type(wrong)
        return Tensor(x.array * 2, x.device)

    def torch_count(torch, x, state):
        state += x.sum()
        return x * 2

    spec = OpSpec(
        name="count",
        function=count,
        oracle=torch_count,
        cases=case(floats((2, 3)), floats((4,)), constant=(1,)),
        differentiable=False,
        mutates=frozenset({1}),
    )
    checks.run(checks.PARITY_FLOAT32, spec, 10)
    checks.run(checks.UNMUTATED, spec, 10)
    wrong = replace(spec, function=lambda x, state: count(x, state, 0.01))
    with pytest.raises(AssertionError, match="argument 1 after the call"):
        checks.run(checks.PARITY_FLOAT32, wrong, 10)
    with pytest.raises(AssertionError, match="argument 1 after the call"):
        checks.run(checks.UNMUTATED, replace(spec, mutates=frozenset()), 10)


def test_cancellation_is_judged_by_what_the_inputs_allow():
    """A float32 sum that nearly cancels may be wrong by an ULP of its terms, not of its value."""
    terms = np.array([1.0, 1e-4, -1.0, 3e-5, 1.0, -1.0]) * 1000
    spec = OpSpec(
        name="sum",
        function=lambda x: Tensor(np.asarray(np.cumsum(x.array)[-1]), x.device),
        oracle=lambda torch, x: x.double().sum().to(x.dtype),
        cases=case(terms),
        differentiable=False,
        float32_ulps=4,
    )
    checks.run(checks.PARITY_FLOAT32, spec, 1)
    off = replace(spec, function=lambda x: Tensor(np.cumsum(x.array)[-1] + x.dtype.type(0.01)))
    with pytest.raises(AssertionError, match="ULP"):
        checks.run(checks.PARITY_FLOAT32, off, 1)


def test_cancellation_inside_the_algorithm_is_judged_by_what_it_costs_torch():
    """(x + 1000) − 1000 loses ten bits in float32 and in float64, however it is computed."""
    spec = OpSpec(
        name="there and back",
        function=lambda x: Tensor(x.array - x.dtype.type(1000) + x.dtype.type(1000), x.device),
        oracle=lambda torch, x: (x + 1000) - 1000,
        cases=case(np.array([0.1, 0.7, 0.3])),
        differentiable=False,
    )
    checks.run(checks.PARITY_FLOAT32, spec, 1)
    checks.run(checks.PARITY_FLOAT64, spec, 1)
    off = replace(spec, function=lambda x: Tensor(x.array + x.dtype.type(1e-11), x.device))
    with pytest.raises(AssertionError, match="ULP"):
        checks.run(checks.PARITY_FLOAT64, off, 1)


def test_a_backward_that_cancels_is_judged_by_the_declared_scale():
    def noise(g: np.ndarray, x: np.ndarray) -> np.ndarray:
        return g * (1e-6 + 0.6e-7 * np.sign(x))

    spec = OpSpec(
        name="slight slope",
        function=elementwise_op(lambda x: x * 1e-6, lambda g, x: noise(g, x).astype(x.dtype)),
        oracle=lambda torch, x: x * 1e-6,
        cases=case(floats((4,), kinds=("normal",))),
        float32_ulps=4.0,
    )
    with pytest.raises(AssertionError, match="gradient of argument 0: error"):
        checks.run(checks.PARITY_FLOAT32, spec, 5)
    checks.run(checks.PARITY_FLOAT32, replace(spec, gradient_scale=1.0), 5)
    with pytest.raises(AssertionError, match="gradient of argument 0: error"):
        checks.run(checks.PARITY_FLOAT64, replace(spec, gradient_scale=1.0), 5)


def test_a_gradient_sent_to_the_wrong_one_of_two_ties_is_caught():
    def last_maximum(g: np.ndarray, x: np.ndarray) -> np.ndarray:
        grad = np.zeros_like(x)
        grad[len(x) - 1 - np.argmax(x[::-1])] = g[0]
        return grad

    spec = OpSpec(
        name="max",
        function=elementwise_op(lambda x: x.max(keepdims=True), last_maximum),
        oracle=lambda torch, x: torch.max(x, dim=0, keepdim=True).values,
        cases=case(np.array([1.0, 2.0, 2.0, 0.0])),
    )
    with pytest.raises(AssertionError, match="gradient of argument 0"):
        checks.run(checks.PARITY_FLOAT32, spec, 1)


@pytest.mark.parametrize("size", [(3,), (6, 7)], ids=["literal", "seed"])
def test_a_failure_prints_a_program_that_repeats_it(size, capsys):
    spec = OpSpec(
        name="relu",
        function=minigrad.ops.unary.relu,
        oracle=lambda torch, x, scale=1.0: torch.relu(x) + 0.5 * scale,
        cases=case(floats(size, kinds=("normal",))),
    )
    with pytest.raises(AssertionError) as caught:
        checks.run(checks.PARITY_FLOAT32, spec, 3)
    (note,) = (n for n in caught.value.__notes__ if "To repeat the call" in n)
    program = note.split("To repeat the call:\n\n")[1]
    assert ("values((6, 7)" in program) == (size == (6, 7))
    names: dict[str, Any] = {}
    exec(program, names)
    assert "tensor(" in capsys.readouterr().out
    np.testing.assert_allclose(
        names["theirs"].detach().numpy() - names["mine"].array, 0.5, rtol=1e-6
    )
    assert names["t_arg0"].grad is not None


def test_the_program_handles_lists_keywords_and_integers():
    def pick(tensors, index, *, scale):
        return Tensor(tensors[0].array[index.array] * scale)

    spec = OpSpec("pick", pick, lambda torch, t, i, scale: t[0][i] * scale, cases=case())
    arguments = ([values((2, 3), 0), np.zeros((0, 2))], np.array([1, 0]))
    program = reproduction(spec, Case(arguments, {"scale": 2.0}, frozenset({0})), "float64")
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["mine"].shape == (2, 3)
    np.testing.assert_array_equal(names["mine"].array, names["theirs"].numpy())


def test_layouts_hold_the_same_values():
    array = values((2, 3, 4, 5), 1)
    for layout in ("C", *checks.LAYOUTS):
        other = oracle.layout_of(array, layout)
        np.testing.assert_array_equal(other, array)
        assert type(other) is np.ndarray
    assert oracle.layout_of(array, "channels_last").transpose(0, 2, 3, 1).flags.c_contiguous
    assert not oracle.layout_of(array, "sliced").flags.forc
    for shape in ((), (0,), (1,), (2, 0)):
        for layout in checks.LAYOUTS:
            assert oracle.layout_of(np.zeros(shape), layout).shape == shape


def test_distinct_values_are_apart_and_off_zero():
    array = np.sort(np.asarray(values((4, 25), 3, "distinct")).ravel())
    assert np.diff(array).min() >= 0.1 - 1e-12
    assert np.abs(array).min() >= 0.05 - 1e-12


def test_strategies_draw_what_they_promise():
    ties = np.asarray(values((1000,), 0, "ties"))
    assert set(ties) == {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert np.signbit(ties[ties == 0]).any()
    assert not np.signbit(ties[ties == 0]).all()
    special = np.asarray(values((1000,), 0, nan=True, inf=True))
    assert np.isnan(special).any()
    assert np.isposinf(special).any()
    assert np.isneginf(special).any()
    assert eval(repr(values((2, 3), 5)), {"values": values}).tolist() == values((2, 3), 5).tolist()
    assert "recipe" not in repr(values((2,), 5) + 1)
    with pytest.raises(ValueError, match="unknown kind 'odd'"):
        values((1,), 0, "odd")  # type: ignore[arg-type]


def test_sizes_around_a_window_contain_the_edges():
    from hypothesis import find

    for wanted in (3, 4, 5, 6):
        assert find(sizes_around(3, 2), lambda size, wanted=wanted: size == wanted) == wanted
    assert find(integers((2,), 0, 3), lambda a: (a == 2).any()).dtype == np.int64


def test_dtype_error_is_what_the_integer_check_expects():
    with pytest.raises(DTypeError, match="custom: x must be float32 or float64, got int64"):
        square_spec().function(Tensor(np.ones(2, np.int64)))
