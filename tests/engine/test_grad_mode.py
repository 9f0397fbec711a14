"""no_grad, enable_grad, set_grad_enabled: nested, as decorators, across exceptions, by thread."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import minigrad
from minigrad import Tensor, enable_grad, is_grad_enabled, no_grad, set_grad_enabled


@pytest.fixture(autouse=True)
def _recording_is_on_before_and_after():
    assert is_grad_enabled()
    yield
    assert is_grad_enabled()


def leaf() -> Tensor:
    return Tensor(np.ones(1, np.float32), requires_grad=True)


def test_nothing_is_recorded_under_no_grad():
    x = leaf()
    with no_grad():
        y = x + x
    assert not y.requires_grad
    assert y.is_leaf
    assert (x + x).requires_grad


def test_a_function_sees_that_no_gradient_is_needed_under_no_grad():
    seen = []

    class Look(minigrad.Function):
        @staticmethod
        def forward(ctx, x):
            seen.append((ctx.needs_input_grad, is_grad_enabled()))
            return x.clone()

    Look.apply(leaf())
    with no_grad():
        Look.apply(leaf())
    assert seen == [((True,), False), ((False,), False)]


def test_blocks_nest():
    with no_grad():
        with enable_grad():
            assert is_grad_enabled()
            with no_grad():
                assert not is_grad_enabled()
            assert is_grad_enabled()
        assert not is_grad_enabled()


def test_one_block_object_can_be_entered_twice():
    block = no_grad()
    with block, block:
        assert not is_grad_enabled()
    assert is_grad_enabled()


@pytest.mark.parametrize(
    ("block", "inside"),
    [(no_grad, False), (lambda: set_grad_enabled(False), False), (enable_grad, True)],
)
def test_an_exception_restores_the_mode(block, inside):
    seen = []

    def fail() -> None:
        with block():
            seen.append(is_grad_enabled())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [inside]
    assert is_grad_enabled()


@pytest.mark.parametrize(
    ("decorator", "inside"),
    [
        (lambda f: no_grad()(f), False),
        (no_grad, False),
        (lambda f: enable_grad()(f), True),
        (lambda f: set_grad_enabled(False)(f), False),
    ],
)
def test_decorators_hold_for_each_call_and_keep_the_name(decorator, inside):
    def function(depth: int) -> list[bool]:
        """What it does."""
        return [is_grad_enabled()] + (decorated(depth - 1) if depth else [])

    decorated = decorator(function)
    assert is_grad_enabled()
    assert decorated.__doc__ == "What it does."
    assert decorated(2) == [inside] * 3
    with no_grad():
        assert decorated(0) == [inside]
        assert not is_grad_enabled()

    def failing() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        decorator(failing)()
    assert is_grad_enabled()


def test_set_grad_enabled_works_as_a_plain_call():
    set_grad_enabled(False)
    try:
        assert not is_grad_enabled()
    finally:
        set_grad_enabled(True)


def test_set_grad_enabled_follows_a_condition_in_a_block():
    for enabled in (True, False):
        with set_grad_enabled(enabled):
            assert (leaf() + leaf()).requires_grad is enabled


def test_each_thread_has_its_own_mode():
    seen: list[bool] = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append(is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_backward_under_no_grad_works_and_is_not_recorded():
    x = leaf()
    y = x * x
    with no_grad():
        y.backward()
    assert x.grad.array.tolist() == [2]
    assert not x.grad.requires_grad
