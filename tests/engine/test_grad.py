"""autograd.grad: gradients of chosen tensors, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import minigrad as mg
from minigrad.autograd import Variable, grad
from minigrad.errors import GraphError


def network(library):
    """(x, a leaf; h and y, computed from it; w, another leaf)"""
    x = library.tensor([[1.0, -2.0], [0.5, 3.0]], requires_grad=True)
    w = library.tensor([[0.3, 2.0], [1.0, -1.0]], requires_grad=True)
    h = (x @ w).tanh()
    return x, w, h, h * h + x


@pytest.mark.parametrize("names", ["x", "h", "xw", "hx", "y", "xx"])
@pytest.mark.parametrize("roots", ["y", "hy"])
def test_gradients_are_torchs(names, roots):
    found = []
    for library in (mg, torch):
        tensors = dict(zip("xwhy", network(library), strict=True))
        outputs = [tensors[name] for name in roots]
        weights = [library.tensor([[1.0, 2.0], [3.0, 4.0]])] * len(outputs)
        gradients = library.autograd.grad(outputs, [tensors[name] for name in names], weights)
        assert all(tensors[name].grad is None for name in "xw")
        found.append([gradient.numpy() for gradient in gradients])
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)


def test_the_graph_behind_a_computed_input_stays():
    x, _, h, y = network(mg)
    grad(y.sum(), h)
    h.sum().backward()
    assert x.grad is not None


def test_hooks_change_what_is_returned():
    x, _, h, y = network(mg)
    plain = grad(y.sum(), [x, h], retain_graph=True)
    x.register_hook(lambda gradient: 2 * gradient)
    doubled = grad(y.sum(), [x, h])
    np.testing.assert_allclose(doubled[0].numpy(), 2 * plain[0].numpy(), rtol=1e-6)
    np.testing.assert_allclose(doubled[1].numpy(), plain[1].numpy())


def test_unused_inputs_and_double_backward_are_refused():
    x, _, _, y = network(mg)
    other = mg.ones(2, requires_grad=True)
    assert grad(y.sum(), [other, x], retain_graph=True, allow_unused=True)[0] is None
    for arguments, match in (
        ((y.sum(), other), r"no output depends on an input of shape \(2,\)"),
        ((y.sum(), mg.ones(3)), r"shape \(3,\) does not require"),
        ((y, x), "needs an explicit gradient"),
    ):
        with pytest.raises(GraphError, match=match):
            grad(*arguments)
    with pytest.raises(GraphError, match="double backward"):
        grad(y.sum(), x, create_graph=True)


def test_a_variable_is_its_tensor_outside_the_graph():
    _, _, h, _ = network(mg)
    variable = Variable(h, requires_grad=True)
    assert isinstance(variable, Variable)
    assert isinstance(h, Variable)
    assert variable.is_leaf
    assert variable.requires_grad
    assert not Variable(h, volatile=True).requires_grad
