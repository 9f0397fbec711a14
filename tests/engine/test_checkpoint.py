"""Activation checkpointing: the same numbers as without, and less memory in between."""

from __future__ import annotations

import numpy as np

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.runtime import memory
from minigrad.utils.checkpoint import checkpoint, checkpoint_sequential


def network() -> nn.Sequential:
    mg.manual_seed(0)
    layers = [nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8), nn.Sigmoid()]
    return nn.Sequential(*layers).double()


def passes(call, x: np.ndarray, needs_grad: bool) -> list[np.ndarray]:
    model, input = network(), mg.from_numpy(x)
    input.requires_grad = needs_grad
    mg.manual_seed(1)  # for dropout
    out = call(model, input)
    following = mg.rand(3)
    (out * out).sum().backward()
    given = [input.grad] if needs_grad else []
    return [t.numpy() for t in (out.detach(), following, *given)] + [
        parameter.grad.numpy() for parameter in model.parameters()
    ]


def test_a_checkpointed_part_gives_the_same_results_and_gradients() -> None:
    x = np.random.default_rng(0).standard_normal((4, 8))
    for needs_grad in (True, False):
        plain = passes(lambda model, x: model(x), x, needs_grad)
        for call in (
            lambda model, x: checkpoint(model, x, use_reentrant=False),
            lambda model, x: checkpoint_sequential(model, 2, x, use_reentrant=True),
        ):
            for left, right in zip(passes(call, x, needs_grad), plain, strict=True):
                np.testing.assert_array_equal(left, right)


def test_several_outputs_and_arguments_that_are_no_tensors() -> None:
    def part(a, power, b, scale):
        return a**power * scale, a + b, power

    a = mg.tensor([1.0, 2.0], requires_grad=True)
    b = mg.tensor([3.0, 4.0])
    first, second = checkpoint(lambda *args: part(*args, scale=10)[:2], a, 2, b)
    (first + 100 * second).sum().backward()
    assert a.grad.tolist() == [120, 140]
    assert b.grad is None


def test_without_recording_the_function_is_called_and_nothing_else() -> None:
    with mg.no_grad():
        assert checkpoint(lambda x: x, 3) == 3


def test_what_is_between_is_forgotten() -> None:
    def part(x):
        for _ in range(20):
            x = F.softplus(x)
        return x

    def kept(call) -> int:
        x = mg.zeros(1 << 16, requires_grad=True)
        before = memory.memory_allocated()
        out = call(part, x)
        size = memory.memory_allocated() - before
        out.sum().backward()
        return size

    assert kept(checkpoint) < 2 * (1 << 18) < 10 * (1 << 18) < kept(lambda part, x: part(x))
