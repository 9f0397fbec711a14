"""Functions that users write: what forward and backward may do, and what is refused."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import minigrad as mg
from minigrad import DTypeError, Function, GraphError, ShapeError, Tensor, no_grad


def leaf(*values: float, dtype: type = np.float32) -> Tensor:
    return Tensor(np.array(values, dtype), requires_grad=True)


def tensor(*values: float, dtype: type = np.float32) -> Tensor:
    return Tensor(np.array(values, dtype))


class Scale(Function):
    """factor·x, with an argument that is no tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return Tensor(x.array * x.dtype.type(factor))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return Tensor(grad_output.array * grad_output.dtype.type(ctx.factor)), None


class Product(Function):
    asked: tuple[bool, ...] = ()

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, None, y)
        return Tensor(x.array * y.array)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, nothing, y = ctx.saved_tensors
        assert nothing is None
        Product.asked = ctx.needs_input_grad
        return (
            Tensor(grad_output.array * y.array) if ctx.needs_input_grad[0] else None,
            Tensor(grad_output.array * x.array) if ctx.needs_input_grad[1] else None,
        )


class Kept(Function):
    """The identity; contexts: of all its calls."""

    contexts: ClassVar[list[Any]] = []

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        Kept.contexts.append(ctx)
        return Tensor(x.array * 1)


def test_nothing_is_kept_where_no_gradient_will_be_needed():
    Kept.contexts.clear()
    with no_grad():
        Kept.apply(leaf(1.0))
    Kept.apply(tensor(1.0))
    Kept.apply(leaf(1.0))
    assert [len(ctx.saved_tensors) for ctx in Kept.contexts] == [0, 0, 1]
    Kept.contexts.clear()


class SplitSign(Function):
    """Positive part, negative part, and where x is positive (int64)."""

    received: tuple[list[float], ...] = ()

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        where = x.array > 0
        ctx.save_for_backward(Tensor(where))
        return (
            Tensor(np.where(where, x.array, 0)),
            Tensor(np.where(where, 0, x.array)),
            Tensor(where.astype(np.int64)),
        )

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        SplitSign.received = tuple(g.array.tolist() for g in grad_outputs)
        (where,) = ctx.saved_tensors
        return Tensor(np.where(where.array, grad_outputs[0].array, grad_outputs[1].array))


def test_arguments_that_are_no_tensors_get_no_gradient():
    x = leaf(1, 2)
    Scale.apply(x, 3.0).backward(tensor(1, 10))
    assert x.grad.array.tolist() == [3, 30]


def test_backward_learns_which_gradients_are_wanted():
    x, y = leaf(2), tensor(3)
    Product.apply(x, y).backward()
    assert Product.asked == (True, False)
    assert x.grad.array.tolist() == [3]
    assert y.grad is None
    Product.apply(y, x).backward()
    assert Product.asked == (False, True)


def test_a_gradient_nobody_asked_for_is_ignored():
    class Both(Product):
        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor]:
            return grad_output, Tensor(np.ones(17))

    x, y = leaf(2), tensor(3)
    Both.apply(x, y).backward()
    assert x.grad.array.tolist() == [1]
    assert y.grad is None


def test_nothing_is_recorded_when_no_argument_requires_a_gradient():
    out = Product.apply(tensor(1), tensor(2))
    assert out.is_leaf
    assert not out.requires_grad


def test_several_outputs_share_one_backward():
    x = leaf(-1, 2, 3)
    positive, negative, where = SplitSign.apply(x)
    assert where.dtype == np.int64
    assert not where.requires_grad
    (positive + negative + negative).backward(tensor(1, 10, 100))
    assert SplitSign.received == ([1, 10, 100], [2, 20, 200], [0, 0, 0])
    assert x.grad.array.tolist() == [2, 10, 100]


def test_an_output_that_is_not_used_gets_zeros():
    x = leaf(-1, 2)
    _, negative, _ = SplitSign.apply(x)
    negative.backward(tensor(5, 7))
    assert SplitSign.received == ([0, 0], [5, 7], [0, 0])
    assert x.grad.array.tolist() == [5, 0]


def test_outputs_marked_non_differentiable_require_no_gradient():
    class WithRank(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
            rank = Tensor(np.argsort(x.array).astype(x.dtype))
            ctx.mark_non_differentiable(rank)
            return Tensor(x.array * 2), rank

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor, _: Tensor) -> Tensor:
            return Tensor(grad_output.array * 2)

    doubled, rank = WithRank.apply(leaf(3, 1))
    assert doubled.requires_grad
    assert not rank.requires_grad
    assert rank.is_leaf


def test_an_input_handed_through_becomes_a_tensor_of_the_graph():
    class Identity(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Tensor:
            return Tensor(grad_output.array * 2)

    x = leaf(1)
    y = Identity.apply(x)
    assert y is not x
    assert x.is_leaf
    y.backward()
    assert x.grad.array.tolist() == [2]


def test_an_input_handed_through_can_be_marked_non_differentiable():
    class Stop(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
            ctx.mark_non_differentiable(x)
            return x, x.clone()

        @staticmethod
        def backward(ctx: Any, _: Tensor, grad_output: Tensor) -> Tensor:
            return grad_output

    stopped, passed = Stop.apply(leaf(1))
    assert not stopped.requires_grad
    assert passed.requires_grad


def test_what_forward_computes_with_operators_is_not_recorded():
    class Cube(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            assert not x.requires_grad
            square = x * x
            return grad_output * (square + square + square)

    x = leaf(2)
    y = Cube.apply(x)
    assert y.grad_fn.name == "Cube"
    y.backward()
    assert x.grad.array.tolist() == [12]
    assert not x.grad.requires_grad


def returning(*grads: Any) -> type[Function]:
    class Bad(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
            return Tensor(x.array + y.array)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Any:
            return grads if len(grads) != 1 else grads[0]

    return Bad


@pytest.mark.parametrize("through", [False, True], ids=["to a leaf", "to a computed tensor"])
@pytest.mark.parametrize(
    ("grads", "error", "message"),
    [
        ((), GraphError, "Bad.backward must return 2 gradients, one for each argument.*got 0"),
        ((tensor(1, 1),), GraphError, "Bad.backward must return 2 gradients.*got 1"),
        ((tensor(1, 1),) * 3, GraphError, "Bad.backward must return 2 gradients.*got 3"),
        ((tensor(1), None), ShapeError, r"Bad.backward: .* must have shape \(2,\), got \(1,\)"),
        (
            (tensor(1, 1, dtype=np.float64), None),
            DTypeError,
            "Bad.backward: .* must have dtype float32, got float64",
        ),
        ((np.ones(2), None), TypeError, "Bad.backward must return Tensors or None, got ndarray"),
    ],
)
def test_wrong_gradients_are_refused(grads, error, message, through):
    x = leaf(1, 2)
    operand = x.clone() if through else x
    with pytest.raises(error, match=message):
        returning(*grads).apply(operand, tensor(1, 2)).backward(tensor(1, 1))
    assert x.grad is None


def test_forward_must_return_tensors():
    class Bad(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Any:
            return x.array

    with pytest.raises(TypeError, match=r"Bad.forward must return Tensors, got ndarray"):
        Bad.apply(leaf(1))


def test_a_function_without_forward_or_backward_says_so():
    class Empty(Function):
        pass

    class NoBackward(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

    with pytest.raises(TypeError, match=r"must define a static method forward\(ctx, \*args\)"):
        Empty.apply(leaf(1))
    with pytest.raises(TypeError, match="must define a static method backward"):
        NoBackward.apply(leaf(1)).backward()


# Version counters ---------------------------------------------------------------------------


def change_in_place(t: Tensor) -> None:
    """What every in-place operation does."""
    t.array[...] = 0
    t.mark_changed()


def test_a_saved_input_changed_in_place_is_noticed():
    x, y = leaf(2), tensor(3)
    z = Product.apply(x, y)
    change_in_place(y)
    with pytest.raises(GraphError, match=r"Product: a tensor of shape \(1,\) saved .* changed"):
        z.backward()
    assert x.grad is None


def test_a_saved_output_changed_in_place_is_noticed():
    x = leaf(2)
    y = x.relu()
    change_in_place(y)
    with pytest.raises(GraphError, match="saved for backward was changed in place"):
        y.backward()


def test_a_change_through_detach_is_noticed():
    x, y = leaf(2), tensor(3)
    z = Product.apply(x, y)
    change_in_place(y.detach())
    with pytest.raises(GraphError, match=r"version 1, saved at 0"):
        z.backward()


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.reshape(2, 1),
        lambda t: t[1:],
        lambda t: t.reshape(1, 2).transpose(0, 1),
    ],
    ids=["reshape", "slice", "transpose"],
)
def test_a_change_through_a_view_is_noticed(view):
    x, y = leaf(1, 2), tensor(3, 4)
    z = Product.apply(x, y)
    change_in_place(view(y))
    with pytest.raises(GraphError, match="changed in place"):
        z.backward(tensor(1, 1))


def test_a_change_of_the_base_is_noticed_where_a_view_was_saved():
    x, base = leaf(1, 2), tensor(3, 4, 5, 6)
    z = Product.apply(x, base[1:3])
    change_in_place(base)
    with pytest.raises(GraphError, match="changed in place"):
        z.backward(tensor(1, 1))


def test_a_change_of_a_tensor_that_was_not_saved_is_allowed():
    x, y = leaf(2), tensor(3)
    z = x + y
    change_in_place(y)
    z.backward()
    assert x.grad.array.tolist() == [1]


def test_a_change_before_saving_is_allowed():
    x, y = leaf(2), tensor(3)
    change_in_place(y)
    z = Product.apply(x, y)
    z.backward()
    assert x.grad.array.tolist() == [0]


def test_a_copy_has_a_version_of_its_own():
    x, y = leaf(2), tensor(3)
    z = Product.apply(x, y)
    change_in_place(y.clone())
    z.backward()
    assert x.grad.array.tolist() == [3]


def test_a_context_that_is_set_up_apart_from_forward():
    def made(base):
        class Scaled(base):
            @staticmethod
            def forward(x, factor):
                return x * factor, x + 1

            @staticmethod
            def setup_context(ctx, inputs, output):
                ctx.set_materialize_grads(True)
                ctx.save_for_backward(inputs[0], output[0])
                ctx.factor = inputs[1]

            @staticmethod
            def backward(ctx, grad, other):
                x, y = ctx.saved_tensors
                return grad * ctx.factor + y * x + other, None

        return Scaled

    found = []
    for library, base in ((torch, torch.autograd.Function), (mg, mg.Function)):
        x = library.tensor([1.0, 2.0], requires_grad=True)
        y, _ = made(base).apply(x, 3.0)
        y.sum().backward()
        found.append((y.tolist(), x.grad.tolist()))
    assert found[0] == found[1]


@pytest.mark.parametrize("materialize", [True, False])
def test_outputs_without_a_gradient_give_zeros_or_none(materialize):
    seen = []

    def made(base):
        class Two(base):
            @staticmethod
            def forward(ctx, x):
                ctx.set_materialize_grads(materialize)
                return x * 1, x * 2, x * 3

            @staticmethod
            def backward(ctx, *grads):
                seen.append([None if grad is None else grad.tolist() for grad in grads])
                return sum(grad for grad in grads if grad is not None)

        return Two

    for library, base in ((torch, torch.autograd.Function), (mg, mg.Function)):
        x = library.tensor([1.0, 2.0], requires_grad=True)
        _, y, _ = made(base).apply(x)
        for _ in range(2):  # what needs no memory can run again
            y.sum().backward(retain_graph=True)
        y.sum().backward()
        y.sum().backward()
        seen.append(x.grad.tolist())
    assert seen[:5] == seen[5:]
    assert seen[0] == [[0, 0] if materialize else None, [1, 1], [0, 0] if materialize else None]
