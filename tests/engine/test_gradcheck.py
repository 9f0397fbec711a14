"""gradcheck finds wrong gradients and accepts right ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad
from minigrad import DTypeError, Function, GradcheckError, GraphError, Tensor, gradcheck


def leaf(*shape: int, dtype: type = np.float64, seed: int = 0) -> Tensor:
    data = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return Tensor(data, requires_grad=True)


def power(exponent: float, derivative: float | None = None) -> Any:
    """|x|^exponent, with a factor in its derivative that may be wrong."""
    factor = exponent if derivative is None else derivative

    class Power(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return Tensor(np.abs(x.array) ** exponent)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            slope = factor * np.abs(x.array) ** (exponent - 1) * np.sign(x.array)
            return Tensor(grad_output.array * slope)

    return Power.apply


class MulAdd(Function):
    """x·y + z with broadcasting of z; `wrong` breaks the gradient of one argument."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, z: Tensor, wrong: int | None) -> Any:
        ctx.save_for_backward(x, y)
        ctx.wrong = wrong
        return Tensor(x.array * y.array + z.array), Tensor(np.array([3]))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, _: Tensor) -> Any:
        x, y = ctx.saved_tensors
        g = grad_output.array
        grads = [g * y.array, g * x.array, g.sum(0)]
        if ctx.wrong is not None:
            grads[ctx.wrong] = grads[ctx.wrong] * 1.01
        return (*map(Tensor, grads), None)


def test_right_gradients_pass():
    assert gradcheck(power(3), leaf(4, 5))
    assert gradcheck(power(2), [leaf()])
    assert gradcheck(power(2), (leaf(0, 3),))
    assert gradcheck(MulAdd.apply, (leaf(2, 3), leaf(2, 3, seed=1), leaf(3, seed=2), None))


def test_a_wrong_factor_fails_with_both_values():
    pattern = (
        r"wrong gradient of input 0 of shape \(4,\): .* backward gives \S+, "
        r"central differences \S+ \(difference"
    )
    with pytest.raises(GradcheckError, match=pattern):
        gradcheck(power(3, derivative=3.02), leaf(4))


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_the_message_names_the_input(wrong):
    inputs = (leaf(2, 3), leaf(2, 3, seed=1), leaf(3, seed=2), wrong)
    with pytest.raises(GradcheckError, match=f"wrong gradient of input {wrong}"):
        gradcheck(MulAdd.apply, inputs)
    assert gradcheck(MulAdd.apply, inputs, raise_exception=False) is False


def test_inputs_that_need_no_gradient_are_not_checked():
    inputs = (leaf(2, 3), Tensor(np.ones((2, 3))), leaf(3), 1)
    assert gradcheck(MulAdd.apply, inputs)


def test_one_wrong_element_of_many_is_found():
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return Tensor(x.array * 2)

    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        grad = grad_output.array * 2
        grad[-1] = 0
        return Tensor(grad)

    broken = type("Broken", (Function,), {"forward": staticmethod(forward),
                                          "backward": staticmethod(backward)})  # fmt: skip
    with pytest.raises(GradcheckError):
        gradcheck(broken.apply, leaf(100))


def test_a_missing_gradient_and_a_nan_are_found():
    class Missing(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return Tensor(x.array * 2)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> None:
            return None

    class NotANumber(Missing):
        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Tensor:
            return Tensor(grad_output.array * np.nan)

    with pytest.raises(GradcheckError, match="backward gives 0,"):
        gradcheck(Missing.apply, leaf(3))
    with pytest.raises(GradcheckError, match=r"the gradient of input 0 .* is not finite"):
        gradcheck(NotANumber.apply, leaf(3))


def test_a_function_that_is_not_finite_says_so():
    with pytest.raises(GradcheckError, match="the function is not finite at, or next to, input 0"):
        gradcheck(lambda x: power(2)(x) + Tensor(np.full(3, np.nan)), leaf(3))


def test_operators_and_mixed_graphs_can_be_checked():
    assert gradcheck(lambda x, y: x * y + x, (leaf(3), leaf(3, seed=1)))
    assert gradcheck(lambda x: (x + x, x * x), leaf(3))


def test_inputs_and_their_gradients_are_left_as_they_were():
    x = leaf(3)
    kept = Tensor(np.ones(3))
    x.grad = kept
    before = x.array.copy()
    state = Tensor(np.zeros(1))

    def with_state(x: Tensor, state: Tensor) -> Tensor:
        state.array += 1
        return power(2)(x)

    assert gradcheck(with_state, (x, state))
    assert x.grad is kept
    assert kept.array.tolist() == [1, 1, 1]
    assert state.array.tolist() == [0]
    np.testing.assert_array_equal(x.array, before)


def test_float32_is_refused_with_the_fix():
    with pytest.raises(DTypeError, match=r"input 0 must be float64, got float32.*minigrad.float64"):
        gradcheck(power(2), leaf(3, dtype=np.float32))


def test_a_check_of_nothing_is_refused():
    with pytest.raises(GraphError, match="no input requires a gradient"):
        gradcheck(power(2), Tensor(np.ones(3)))
    with pytest.raises(GraphError, match="input 0 must be a leaf"):
        gradcheck(power(2), leaf(3) + leaf(3))
    with pytest.raises(GraphError, match="no output of the function requires a gradient"):
        gradcheck(lambda x: x.detach(), leaf(3))
    with pytest.raises(TypeError, match="must return Tensors, got float"):
        gradcheck(lambda x: 1.0, leaf(3))


def test_it_works_under_no_grad():
    with minigrad.no_grad():
        assert gradcheck(power(2), leaf(3))
