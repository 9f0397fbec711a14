"""Hooks and retained gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad
from minigrad import DTypeError, GraphError, ShapeError, Tensor


def leaf(*values: float) -> Tensor:
    return Tensor(np.array(values, np.float32), requires_grad=True)


def tensor(*values: float) -> Tensor:
    return Tensor(np.array(values, np.float32))


def test_a_hook_sees_the_whole_gradient_once():
    x = leaf(2)
    y = x * x
    seen: list[float] = []
    y.register_hook(lambda grad: seen.append(float(grad.array[0])))
    (y + y).backward(tensor(5))
    assert seen == [10]
    assert x.grad.array.tolist() == [40]


def test_hooks_replace_gradients_in_order():
    x = leaf(2)
    y = x * x
    y.register_hook(lambda grad: tensor(float(grad.array[0]) + 1))
    y.register_hook(lambda grad: tensor(float(grad.array[0]) * 10))
    y.backward()
    assert x.grad.array.tolist() == [80]


def test_a_hook_on_a_leaf_replaces_what_is_accumulated():
    x = leaf(1)
    x.register_hook(lambda grad: tensor(100))
    (x + x).backward()  # two gradients arrive, the hook sees their sum, as in torch
    assert x.grad.array.tolist() == [100]


def test_a_replaced_gradient_is_not_aliased_by_the_leaf():
    x, mine = leaf(1), tensor(100)
    kept: list[Tensor] = []
    x.register_hook(lambda grad: kept.append(grad) or mine)
    (x * x).backward()
    x.grad.array[...] = 0
    assert mine.array.tolist() == [100]
    assert kept[0].array.tolist() == [2]


def test_a_gradient_kept_by_a_hook_is_not_aliased_by_the_leaf():
    x = leaf(3)
    kept: list[Tensor] = []
    x.register_hook(kept.append)
    (x.relu()).backward()
    x.grad.array[...] = 0
    assert kept[0].array.tolist() == [1]


def test_hooks_can_be_removed():
    x = leaf(1)
    handle = x.register_hook(lambda grad: tensor(100))
    handle.remove()
    handle.remove()
    x.relu().backward()
    assert x.grad.array.tolist() == [1]
    y = x.relu()
    with y.register_hook(lambda grad: tensor(5)):
        y.backward(retain_graph=True)
    y.backward()
    assert x.grad.array.tolist() == [1 + 5 + 1]


def test_bad_results_of_hooks_are_refused():
    x = leaf(1, 2)
    for result, error, message in (
        (tensor(1), ShapeError, r"hook: the result must have shape \(2,\), got \(1,\)"),
        (Tensor(np.ones(2)), DTypeError, "hook: the result must have dtype float32"),
        (1.0, TypeError, "hook must return a Tensor or None, got float"),
    ):
        handle = x.register_hook(lambda grad, result=result: result)
        with pytest.raises(error, match=message):
            (x + x).backward(tensor(1, 1))
        handle.remove()
        assert x.grad is None


def test_a_hook_needs_a_gradient_to_wait_for():
    with pytest.raises(GraphError, match="register_hook: the tensor does not require gradients"):
        tensor(1).register_hook(print)


def test_retain_grad_keeps_the_gradient_of_a_computed_tensor():
    x = leaf(2)
    y = x * x
    y.retain_grad()
    z = y + y
    z.backward(tensor(3), retain_graph=True)
    assert y.grad.array.tolist() == [6]
    z.backward(tensor(3))
    assert y.grad.array.tolist() == [12]
    assert x.grad.array.tolist() == [48]


def test_a_retained_gradient_is_independent():
    x, gradient = leaf(2), tensor(3)
    y = x.clone()
    y.retain_grad()
    y.backward(gradient)
    y.grad.array[...] = 0
    assert gradient.array.tolist() == [3]
    assert x.grad.array.tolist() == [3]


def test_retain_grad_keeps_what_hooks_made_of_it():
    x = leaf(2)
    y = x * x
    y.retain_grad()
    y.register_hook(lambda grad: tensor(7))
    y.backward()
    assert y.grad.array.tolist() == [7]


def test_retain_grad_on_a_leaf_changes_nothing_and_needs_a_gradient():
    x = leaf(2)
    x.retain_grad()
    (x * x).backward()
    assert x.grad.array.tolist() == [4]
    with pytest.raises(GraphError, match="retain_grad"):
        tensor(1).retain_grad()


def test_a_retained_tensor_that_is_gone_costs_nothing():
    x = leaf(2)
    y = x * x
    y.retain_grad()
    z = y + y
    del y
    z.backward()
    assert x.grad.array.tolist() == [8]


def test_a_hook_after_accumulation_sees_the_gradient_and_may_step():
    x = leaf(2, 3)
    seen = []

    def step(parameter):
        seen.append(parameter.grad.tolist())
        parameter.data -= parameter.grad
        parameter.grad = None

    x.register_hook(lambda grad: grad * 2)
    handle = x.register_post_accumulate_grad_hook(step)
    (x * x).sum().backward()
    assert seen == [[8, 12]]
    assert (x.tolist(), x.grad) == ([-6, -9], None)
    handle.remove()
    (x * x).sum().backward()
    assert len(seen) == 1
    with pytest.raises(GraphError, match="must be a leaf"):
        (x * 2).register_post_accumulate_grad_hook(step)


def test_a_tensor_tells_whether_it_retains_its_gradient():
    x = leaf(1)
    y = x * 2
    assert not x.retains_grad
    assert not y.retains_grad
    y.retain_grad()
    assert y.retains_grad


def test_a_leaf_is_complete_as_soon_as_nobody_else_adds_to_it() -> None:
    """Its hook runs before the backward passes of what was computed earlier."""
    events: list[str] = []
    first, last = minigrad.ones(3, requires_grad=True), minigrad.ones(3, requires_grad=True)
    middle = first * 2
    middle.register_hook(lambda _: events.append("middle"))
    for name, leaf in (("first", first), ("last", last)):
        leaf.register_post_accumulate_grad_hook(lambda _, name=name: events.append(name))
    (middle * last * last).sum().backward()
    assert events == ["last", "middle", "first"]
    assert last.grad.tolist() == [4, 4, 4]


def test_a_leaf_with_hooks_that_an_unreached_node_uses_gets_its_gradient_in_the_end() -> None:
    class Dead(minigrad.Function):
        @staticmethod
        def forward(ctx: Any, input: Tensor) -> Tensor:
            return input * 1

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> None:
            return None

    leaf = minigrad.ones(2, requires_grad=True)
    seen: list[list[float]] = []
    leaf.register_hook(lambda grad: seen.append(grad.tolist()))
    (Dead.apply(leaf * 3) + leaf * 2).sum().backward()
    assert seen == [[2, 2]] == [leaf.grad.tolist()]
