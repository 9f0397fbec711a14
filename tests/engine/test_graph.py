"""What backward() does: leaves, accumulation, order, sharing, freeing."""

from __future__ import annotations

import gc
import sys
import weakref

import numpy as np
import pytest
import torch

import minigrad
import minigrad as mg
from minigrad import DTypeError, Function, GraphError, ShapeError, Tensor
from minigrad.engine import clear_grad
from minigrad.runtime import memory


def leaf(*values: float, dtype: type = np.float32) -> Tensor:
    return Tensor(np.array(values, dtype), requires_grad=True)


def tensor(*values: float, dtype: type = np.float32) -> Tensor:
    return Tensor(np.array(values, dtype))


def grad_of(t: Tensor) -> list[float]:
    assert t.grad is not None
    return t.grad.array.tolist()


# Leaves -------------------------------------------------------------------------------------


def test_only_leaves_that_require_gradients_receive_them():
    x, constant = leaf(1, 2), tensor(3, 4)
    y = x * constant
    z = y + y
    z.backward(tensor(1, 10))
    assert grad_of(x) == [6, 80]
    assert constant.grad is None
    assert y.grad is None
    assert z.grad is None


def test_leaves_and_computed_tensors_know_what_they_are():
    x, constant = leaf(1), tensor(1)
    y = x + constant
    assert x.is_leaf
    assert constant.is_leaf
    assert not y.is_leaf
    assert y.requires_grad
    assert y.grad_fn is not None
    assert x.grad_fn is None
    assert (constant + constant).is_leaf
    assert not (constant + constant).requires_grad


def test_detach_shares_memory_and_leaves_the_graph():
    x = leaf(1, 2)
    y = (x + x).detach()
    assert y.is_leaf
    assert not y.requires_grad
    assert np.shares_memory(x.detach().array, x.array)


def test_data_is_a_tensor_outside_the_graph_that_can_be_changed_and_replaced():
    weight = leaf(1, 2)
    weight.data += tensor(10, 20)  # the idiom of a hand-written optimizer
    assert type(weight.data) is Tensor
    assert not weight.data.requires_grad
    assert weight.requires_grad
    assert weight.array.tolist() == [11, 22]
    loss = (weight * weight).sum()
    weight.data = tensor(5, 6)
    loss.backward()  # torch's rule: what changes through data is not noticed
    assert weight.array.tolist() == [5, 6]
    with pytest.raises(TypeError, match=r"data must be a Tensor, got ndarray"):
        weight.data = np.zeros(2)
    with pytest.raises(DTypeError, match="requires gradients must be floating"):
        weight.data = Tensor(np.zeros(2, np.int64))
    assert weight.array.tolist() == [5, 6]


def test_a_leaf_is_its_own_root():
    x, gradient = leaf(1, 2), tensor(3, 4)
    x.backward(gradient)
    x.backward(gradient)
    assert grad_of(x) == [6, 8]
    assert gradient.array.tolist() == [3, 4]


def test_requires_grad_can_be_switched_on_leaves_only():
    x = tensor(1)
    x.requires_grad = True
    y = x + x
    with pytest.raises(GraphError, match="leaf tensors only"):
        y.requires_grad = False
    x.requires_grad = False
    assert not (x + x).requires_grad


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integer_tensors_never_require_gradients(dtype):
    with pytest.raises(DTypeError, match="only floating tensors can require gradients"):
        Tensor(np.zeros(2, dtype), requires_grad=True)


# Accumulation -------------------------------------------------------------------------------


def test_gradients_accumulate_over_backward_calls():
    x = leaf(2)
    (x * x).backward()
    (x * x).backward()
    assert grad_of(x) == [8]


def test_gradients_of_a_diamond_add_up():
    x = leaf(3)
    a = x * x
    b, c = a * a, a + a
    (b * c).backward()  # 2·x⁶
    assert grad_of(x) == [12 * 3**5]


def test_each_node_is_visited_once_however_many_paths_lead_to_it():
    visits = 0

    class Count(minigrad.Function):
        @staticmethod
        def forward(ctx, x):
            return Tensor(x.array + 0)

        @staticmethod
        def backward(ctx, grad_output):
            nonlocal visits
            visits += 1
            return grad_output

    x = leaf(1)
    y = Count.apply(x)
    for _ in range(20):  # 2²⁰ paths
        y = y + y
    y.backward()
    assert visits == 1
    assert grad_of(x) == [2**20]


def test_an_operand_used_twice_gets_both_gradients():
    x = leaf(5)
    (x + x).backward()
    assert grad_of(x) == [2]


# Sharing ------------------------------------------------------------------------------------


def test_gradients_of_one_sum_are_independent():
    a, b = leaf(1, 2), leaf(3, 4)
    gradient = tensor(5, 6)
    (a + b).backward(gradient)
    a.grad.array[...] = 0
    assert grad_of(b) == [5, 6]
    assert gradient.array.tolist() == [5, 6]
    b.grad.array[...] = 7
    assert grad_of(a) == [0, 0]


def test_accumulation_leaves_a_gradient_that_was_taken_alone():
    x = leaf(1)
    (x + x).backward()
    first = x.grad
    (x + x).backward()
    assert first.array.tolist() == [2]
    assert grad_of(x) == [4]


def test_accumulation_does_not_change_a_gradient_that_two_leaves_share():
    a, b, c = leaf(1), leaf(2), leaf(3)
    s = a + b  # Add hands one gradient to both
    (s + a + c).backward(tensor(10))
    assert (grad_of(a), grad_of(b), grad_of(c)) == ([20], [10], [10])
    assert not np.shares_memory(b.grad.array, c.grad.array)


def test_a_gradient_that_is_a_saved_tensor_is_copied():
    class Product(minigrad.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(weight)
            return Tensor(x.array * weight.array)

        @staticmethod
        def backward(ctx, grad_output):
            return ctx.saved_tensors[0], None

    x, weight = leaf(1, 2), tensor(3, 4)
    Product.apply(x, weight).backward(tensor(1, 1))
    x.grad.array[...] = 0
    assert weight.array.tolist() == [3, 4]


def test_a_broadcast_gradient_gets_memory_of_its_own():
    class Total(minigrad.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.shape = x.shape
            return Tensor(np.asarray(x.array.sum()))

        @staticmethod
        def backward(ctx, grad_output):
            return Tensor(np.broadcast_to(np.array(grad_output.array), ctx.shape))

    x = leaf(1, 2, 3)
    Total.apply(x).backward()
    x.grad.array[0] = 5
    assert grad_of(x) == [5, 1, 1]


# Arguments of backward ----------------------------------------------------------------------


def test_backward_needs_a_gradient_unless_there_is_one_element():
    x = leaf(1, 2)
    with pytest.raises(GraphError, match=r"shape \(2,\) needs an explicit gradient"):
        (x + x).backward()
    assert x.grad is None


def test_backward_checks_the_shape_and_dtype_of_its_gradient():
    x = leaf(1, 2)
    y = x + x
    with pytest.raises(ShapeError, match=r"must have shape \(2,\), got \(1,\)"):
        y.backward(tensor(1))
    with pytest.raises(DTypeError, match="must have dtype float32, got float64"):
        y.backward(tensor(1, 1, dtype=np.float64))
    with pytest.raises(TypeError, match="must be a Tensor, got ndarray"):
        y.backward(np.ones(2, np.float32))
    assert x.grad is None
    y.backward(tensor(1, 1))
    assert grad_of(x) == [2, 2]


def test_backward_without_a_graph_is_an_error():
    with pytest.raises(GraphError, match="does not require gradients"):
        tensor(1).backward()


def test_create_graph_is_refused_with_the_reason():
    x = leaf(1)
    with pytest.raises(GraphError, match="double backward"):
        (x * x).backward(create_graph=True)
    assert x.grad is None


def test_a_second_backward_needs_retain_graph():
    x = leaf(3)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert grad_of(x) == [12]
    with pytest.raises(GraphError, match="retain_graph=True"):
        y.backward()
    assert grad_of(x) == [12]


class Reversed(Function):
    """A reversal layer: it keeps a number and no tensor."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -ctx.factor * grad, None


def test_a_part_that_saved_no_tensor_needs_no_retain_graph():
    def gradients(x, other, function, cat):
        shared = cat([function(x + 1, 3.0).reshape(4) - 1, other]).sum(0)
        for power in (2, 3):
            (shared * power).backward()
        return [x.grad.tolist(), other.grad.tolist()]

    class TorchReversed(torch.autograd.Function):
        forward, backward = Reversed.forward, Reversed.backward

    x = np.arange(4.0).reshape(2, 2)
    ours = [mg.tensor(each, requires_grad=True) for each in (x, x[0])]
    theirs = [torch.tensor(each, requires_grad=True) for each in (x, x[0])]
    expected = gradients(*theirs, TorchReversed.apply, torch.cat)
    assert gradients(*ours, Reversed.apply, mg.cat) == expected


# Freeing ------------------------------------------------------------------------------------


@pytest.fixture
def no_collector():
    """Only reference counts free memory."""
    # Compiling a kernel leaves cycles that hold the frames of its caller: compile beforehand.
    x = Tensor(np.ones(1000, np.float32), requires_grad=True)
    y = x.relu() * x
    (y + y).relu().backward(Tensor(np.ones(1000, np.float32)))
    del x, y
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_graph_is_freed_without_the_garbage_collector(no_collector):
    start = memory.memory_allocated()
    x = Tensor(memory.empty((1000,), np.dtype(np.float32)), requires_grad=True)
    x.array[...] = 1
    before = memory.memory_allocated()
    y = x.relu() * x
    z = (y + y).relu()
    nodes = [weakref.ref(t.node) for t in (y, z)]
    tensors = [weakref.ref(t) for t in (y, z)]
    del y, z
    assert all(ref() is None for ref in nodes + tensors)
    assert memory.memory_allocated() == before
    del x
    assert memory.memory_allocated() == start


def test_backward_frees_what_was_saved(no_collector):
    x = Tensor(memory.empty((1000,), np.dtype(np.float32)), requires_grad=True)
    x.array[...] = 1
    gradient = Tensor(np.ones(1000, np.float32))
    before = memory.memory_allocated()
    y = (x.relu() * x).relu()
    node = weakref.ref(y.node)
    y.backward(gradient)
    assert y.node.context._saved is None
    del y
    assert node() is None
    assert memory.memory_allocated() - before == x.grad.array.nbytes
    x.grad = None
    assert memory.memory_allocated() == before


def test_the_gradient_of_each_node_is_freed_as_the_walk_goes(no_collector):
    """A long chain's backward needs a few arrays at once, not one a node."""
    x = Tensor(memory.empty((10_000,), np.dtype(np.float32)), requires_grad=True)
    x.array[...] = 1
    y = x
    for _ in range(50):
        y = y.relu()
    gradient = Tensor(np.ones(10_000, np.float32))
    memory.reset_peak_memory_stats()
    before = memory.memory_allocated()
    y.backward(gradient)
    assert memory.max_memory_allocated() - before <= 4 * x.array.nbytes


@pytest.mark.parametrize(
    ("found", "error", "message"),
    [
        (tensor(1), ShapeError, r"the gradient so far must have shape \(2,\), got \(1,\)"),
        (tensor(1, 2, dtype=np.float64), DTypeError, "so far must have dtype float32, got float64"),
        (np.ones(2, np.float32), TypeError, "the gradient so far must be a Tensor, got ndarray"),
    ],
)
def test_accumulating_onto_something_that_is_no_gradient_of_the_leaf_is_refused(
    found, error, message
):
    x = leaf(1, 2)
    x.grad = found
    with pytest.raises(error, match=message):
        (x + x).backward(tensor(1, 1))
    assert x.grad is found


class Step(minigrad.Function):
    """Costs nothing but its node."""

    visits = 0

    @staticmethod
    def forward(ctx, x):
        return Tensor(x.array)

    @staticmethod
    def backward(ctx, grad_output):
        Step.visits += 1
        return grad_output


class First(minigrad.Function):
    """The first of two, with a gradient for both."""

    @staticmethod
    def forward(ctx, x, other):
        return Tensor(x.array)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output, grad_output


def test_the_engine_computes_gradients_without_the_methods_of_operations(monkeypatch):
    x = leaf(1, 2)
    y = Step.apply(x)
    z = First.apply(y, y)
    z.retain_grad()
    for name in ("__add__", "clone", "fill_"):
        monkeypatch.delattr(Tensor, name)
    z.backward(tensor(1, 2), retain_graph=True)
    z.backward(tensor(1, 2))
    assert grad_of(z) == [2, 4]
    assert grad_of(x) == [4, 8]
    clear_grad(x, set_to_none=False)
    assert grad_of(x) == [0, 0]


LONG = 100_000


def long_chain(x: Tensor) -> Tensor:
    assert sys.getrecursionlimit() < LONG
    for _ in range(LONG):
        x = Step.apply(x)
    return x


def test_a_chain_of_100_000_nodes_is_walked_once_without_recursion():
    x = leaf(1)
    y = long_chain(x)
    node, Step.visits = weakref.ref(y.node), 0
    y.backward()
    assert Step.visits == LONG
    assert grad_of(x) == [1]
    del y
    assert node() is None


def test_a_long_chain_can_be_dropped_without_backward(no_collector):
    y = long_chain(leaf(1))
    first, node = y.node, weakref.ref(y.node)
    while first.inputs[0].__class__ is tuple:
        first = first.inputs[0][0]
    first = weakref.ref(first)
    del y
    assert node() is None
    assert first() is None


def test_the_graph_can_be_walked_with_torchs_names():
    def walk(library):
        x = library.ones(2, requires_grad=True)
        y = (2 * x.exp() + library.ones(2)).sum()
        found, functions = [], y.grad_fn
        while functions is not None:
            ends = [each for each, _ in functions.next_functions if each is not None]
            found.append(len(ends))
            leaf = functions
            functions = ends[0] if ends else None
        return found, leaf.variable is x, leaf.next_functions, "AccumulateGrad" in repr(leaf)

    assert walk(minigrad) == walk(torch) == ([1, 1, 1, 1, 0], True, (), True)
    x = leaf(1)
    (first, _), (second, _) = (x * x).grad_fn.next_functions
    assert first == second
    assert len({first, second, (leaf(1) * 2).grad_fn.next_functions[0][0]}) == 2
    assert first != (x * 2).grad_fn
