"""In-place operations and views: where a changed tensor stands in the graph, and what is refused.

Each program runs in minigrad and in torch. tests/test_programs.py draws more of them.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import minigrad as mg
import minigrad.nn as nn
import minigrad.nn.functional as F
from minigrad import DTypeError, GraphError, ShapeError, Tensor
from minigrad.runtime import memory

VALUES = np.linspace(-1.5, 2, 12).reshape(3, 4)
Program = Callable[[Any, Any, Any], Any]


def outcome(lib: Any, make: Callable[[np.ndarray], Any], program: Program) -> Any:
    """program(lib, computed, leaf): the result's sum of squares and the leaf's gradient."""
    leaf = make(VALUES.copy()).requires_grad_()
    result = program(lib, leaf * 1, leaf)
    total = (result * result).sum()
    total.backward()
    return float(total.item()), np.asarray(leaf.grad.detach())


def picked(lib: Any, x: Any, w: Any) -> Any:
    x[lib.tensor([0, 2, 0])] = w[1] * 2
    return x


def masked(lib: Any, x: Any, w: Any) -> Any:
    x[x.detach() > 0] = w[0, 0]
    return x


def loop(lib: Any, x: Any, w: Any) -> Any:
    out = lib.zeros(3, 4, dtype=lib.float64)
    for i in range(3):
        out[i] = x[i] * w[0]
    return out


def view_made_before(lib: Any, x: Any, w: Any) -> Any:
    row, corner = x[1], x.t()[2:, 1:]
    x.mul_(w)
    row.exp_()
    return x.sum() + row * 2 + corner.sum()


def view_of_a_constant(lib: Any, x: Any, w: Any) -> Any:
    buffer = lib.zeros(4, 3, dtype=lib.float64)
    column = buffer[:, 1]
    buffer.t().add_(w)
    return column * 3 + buffer.sum()


def strided(lib: Any, x: Any, w: Any) -> Any:
    x[:, ::2].mul_(w[:, 1:3])
    x[..., 1::2].permute(1, 0).sigmoid_()
    return x


def reshaped(lib: Any, x: Any, w: Any) -> Any:
    x.view(-1)[3:7] = w.reshape(-1)[:4]
    x.unsqueeze(0).flatten(1).squeeze()[-1:].mul_(5)
    return x


def operators(lib: Any, x: Any, w: Any) -> Any:
    y = x
    x += w
    x -= 0.5
    x *= w
    x /= 2
    x **= 2
    x[0] += w[1]
    assert y is x
    return y


def through_detach(lib: Any, x: Any, w: Any) -> Any:
    x.detach().mul_(2)
    return x


def overwritten(lib: Any, x: Any, w: Any) -> Any:
    x.fill_(3).add_(w)
    w2 = w * 2
    w2.zero_()
    return x + w2


def broadcast_source(lib: Any, x: Any, w: Any) -> Any:
    x.copy_(w[0])
    return x * w


def from_the_input(lib: Any, x: Any, w: Any) -> Any:
    return x.silu_() if hasattr(x, "silu_") else lib.nn.functional.silu(x, inplace=True).add_(1)


def chain(lib: Any, x: Any, w: Any) -> Any:
    f = lib.nn.functional
    x = f.relu(x, inplace=True)
    x = f.leaky_relu(x - 1, 0.1, inplace=True)
    x = f.hardtanh(x + w, -1.0, 0.75, inplace=True)
    x = f.elu(x * w, inplace=True)
    return f.hardswish(f.relu6(x * 4, inplace=True) + 1, inplace=True)


def comparison(lib: Any, x: Any, w: Any) -> Any:
    x.gt_(0)
    return x + w


def filled(lib: Any, x: Any, w: Any) -> Any:
    return x.masked_fill_(lib.tensor([True, False, False, True]), 7.0).clamp_(-1, 5)


def filled_with_a_tensor(lib: Any, x: Any, w: Any) -> Any:
    mask = lib.tensor([True, False, False, True])
    x[:, mask] = w[0, 1] * 3
    x[0, mask] = w[1:2, 0]
    x[lib.tensor(False)] = 7
    return x.masked_fill(~mask, w.sum()) * x


@pytest.mark.parametrize(
    "program",
    [
        picked, masked, loop, view_made_before, view_of_a_constant, strided, reshaped, operators,
        through_detach, overwritten, broadcast_source, from_the_input, chain, comparison, filled,
        filled_with_a_tensor,
    ],
)  # fmt: skip
def test_values_and_gradients_are_torchs(program: Program) -> None:
    ours, theirs = outcome(mg, Tensor, program), outcome(torch, torch.from_numpy, program)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-12, atol=1e-15)


# Refused --------------------------------------------------------------------------------------


def under_no_grad(lib: Any, x: Any, w: Any) -> None:
    with lib.no_grad():
        view = x[0]
    view.mul_(2)


def no_grad_view_times_leaf(lib: Any, x: Any, w: Any) -> None:
    with lib.no_grad():
        view = lib.zeros(4, dtype=lib.float64)[:2]
    view.add_(w[0, :2])


def stale_split(lib: Any, x: Any, w: Any) -> None:
    first, _ = x.split(2, 1)
    x.mul_(2)
    first * 2


def saved(lib: Any, x: Any, w: Any) -> None:
    y = x.exp()
    y[0] = 1
    y.sum().backward()


def saved_by_in_place(lib: Any, x: Any, w: Any) -> None:
    x.relu_()
    x.add_(1)
    x.sum().backward()


REFUSED: list[tuple[Program, str]] = [
    (lambda lib, x, w: w.add_(1), r"add_: .*\(3, 4\) is a leaf that requires a gradient.*clone"),
    (lambda lib, x, w: w[0].add_(1), r"add_: .*\(4,\) is a view of a leaf that requires"),
    (lambda lib, x, w: w.view(-1).__setitem__(0, 1), "__setitem__: .* view of a leaf"),
    (lambda lib, x, w: x.split(2, 1)[0].mul_(2), "mul_: .*several views that Split has made"),
    (lambda lib, x, w: x.chunk(2)[0][0].mul_(2), "mul_: .*several views that Split has made"),
    (lambda lib, x, w: x.unbind()[1].zero_(), "zero_: .*several views that Unbind has made"),
    (lambda lib, x, w: next(iter(x)).add_(w[0]), "add_: .*several views"),
    (lambda lib, x, w: x[:1].expand(3, 4).add_(1), r"add_: elements of this tensor .* share mem"),
    (under_no_grad, "mul_: .*made under no_grad and would change with recording on"),
    (no_grad_view_times_leaf, "add_: .*made under no_grad"),
    (stale_split, r"view of shape \(3, 2\) is used after its memory was changed in place"),
    (saved, "Exp: a tensor of shape .* was changed in place since"),
    (saved_by_in_place, r"ReLU: .* changed in place since \(version 2, saved at 1\)"),
    (lambda lib, x, w: x[0].detach_(), "detach_: a view .*detach()"),
    (lambda lib, x, w: x[0].add_(x), r"add_: the result has shape \(3, 4\).* shape \(4,\)"),
    (lambda lib, x, w: x.gt(0).add_(x), "dtype"),
]


@pytest.mark.parametrize(("program", "message"), REFUSED, ids=lambda value: getattr(value, "", ""))
def test_what_torch_refuses_is_refused_with_what_to_write(program: Program, message: str) -> None:
    leaf = Tensor(VALUES.copy(), requires_grad=True)
    before, computed = leaf.array.copy(), leaf * 1
    with pytest.raises((GraphError, ValueError, DTypeError), match=message):
        program(mg, computed, leaf)
    np.testing.assert_array_equal(leaf.array, before)
    theirs = torch.from_numpy(VALUES.copy()).requires_grad_()
    with pytest.raises(RuntimeError):
        program(torch, theirs * 1, theirs)


def test_without_recording_leaves_and_all_views_may_change() -> None:
    leaf = Tensor(VALUES.copy(), requires_grad=True)
    with mg.no_grad():
        leaf.mul_(2)
        leaf[0].zero_()
        leaf.unbind()[1].fill_(1)
        leaf[2][leaf[2] > 0] = 5
    np.testing.assert_array_equal(leaf.array[:2], [[0] * 4, [1] * 4])
    assert leaf.is_leaf
    assert leaf._version.value == 4


def test_a_dtype_that_cannot_hold_the_result_is_refused_and_a_wider_one_is_not() -> None:
    whole = mg.tensor([1, 2, 3])
    with pytest.raises(DTypeError, match=r"mul_: the result has dtype float32.*int64 cannot hold"):
        whole *= 0.5
    with pytest.raises(DTypeError, match="exp_: the result has dtype float32"):
        whole.exp_()
    with pytest.raises(ShapeError, match=r"copy_: shapes \(3,\) and \(2,\)"):
        whole.copy_(mg.tensor([1, 2]))
    assert whole.tolist() == [1, 2, 3]
    real = mg.tensor([0.0, 2.0])
    real.logical_not_()
    assert real.tolist() == [1.0, 0.0]


# Hooks, retained gradients ---------------------------------------------------------------------


def seen(lib: Any, make: Callable[[np.ndarray], Any]) -> list[Any]:
    """Gradients that hooks see and that tensors retain, around changes of the base and of views."""
    leaf = make(VALUES.copy()).requires_grad_()
    x = leaf * 1
    noted: list[Any] = []
    x.register_hook(lambda grad: noted.append(np.array(grad.detach().tolist())))
    x.retain_grad()
    x.mul_(3)
    row = x[1]
    row.retain_grad()
    x.register_hook(lambda grad: noted.append(np.array(grad.detach().tolist())))
    x[0].mul_(4)
    row.mul_(5)
    (x * x).sum().backward()
    return [*noted, np.asarray(x.grad), row.grad, np.asarray(leaf.grad)]


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_hooks_stay_with_the_values_they_were_put_on_and_retained_gradients_follow() -> None:
    for ours, theirs in zip(seen(mg, Tensor), seen(torch, torch.from_numpy), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs)


# Memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.relu_(), lambda x: x.exp_(), lambda x: x.mul_(2), lambda x: x.div_(3),
        lambda x: x.add_(x.detach()),
        lambda x: F.leaky_relu_(x), lambda x: nn.ReLU6(inplace=True)(x), lambda x: x.sigmoid_(),
        lambda x: x[:, ::2].fill_(1), lambda x: x.clamp_(0, 1) if not x.requires_grad else x,
    ],
)  # fmt: skip
@pytest.mark.parametrize("recorded", [True, False])
def test_a_change_in_place_takes_no_memory_of_the_tensors_size(change, recorded) -> None:
    leaf = mg.ones(100, 300, requires_grad=recorded)
    x = leaf * 1
    change(x.detach().clone())  # compiled, and small numbers made
    memory.reset_peak_memory_stats()
    before, address = memory.memory_allocated(), x.array.ctypes.data
    change(x)
    assert x.array.ctypes.data == address
    assert memory.max_memory_allocated() - before < x.array.nbytes // 2


def test_dropout_in_place_keeps_its_mask_only() -> None:
    x = mg.ones(100, 300, requires_grad=True) * 1
    F.dropout(x.clone(), inplace=True)
    memory.reset_peak_memory_stats()
    before = memory.memory_allocated()
    assert F.dropout(x, inplace=True) is x
    assert memory.max_memory_allocated() - before <= x.array.size + 1024
    assert F.dropout(x, training=False, inplace=True) is x
    assert nn.Dropout2d(inplace=True)(x.view(3, 100, 10, 10)).node is not None
    assert x._version.value == 2


def test_a_view_made_under_no_grad_does_not_keep_the_graph_of_its_base() -> None:
    y = (mg.ones(4, requires_grad=True) * 2).exp()
    node = weakref.ref(y.node)
    with mg.no_grad():
        part = y[:2]
    del y
    assert node() is None
    part.add_(1)


def test_tensors_changed_in_place_are_freed_without_the_garbage_collector() -> None:
    _ = (mg.ones(4, 4, requires_grad=True) * 2)[0].exp_().add_(1)  # compiled beforehand
    gc.collect()
    gc.disable()
    try:
        x = mg.ones(4, 4, requires_grad=True) * 2
        row = x[0]
        x.mul_(2)
        row.exp_()
        x[1:].add_(row)
        nodes = [weakref.ref(t.node) for t in (x, row)]
        del x, row
        assert all(ref() is None for ref in nodes)
    finally:
        gc.enable()


# Threads --------------------------------------------------------------------------------------


def test_gradients_that_threads_accumulate_onto_one_leaf_are_all_counted() -> None:
    leaf = mg.zeros(64, requires_grad=True)

    def work() -> None:
        for _ in range(300):
            (leaf * 2).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (leaf.grad.array == 2 * 1200).all()


# A tensor that becomes a view of itself --------------------------------------------------------


def transposed(lib: Any, x: Any, w: Any) -> Any:
    x.t_().mul_(lib.ones(4, 1, dtype=lib.float64) * 3)
    return x


def viewed_before(lib: Any, x: Any, w: Any) -> Any:
    flat = x.view(-1)
    x.unsqueeze_(0).transpose_(0, 2)
    x[1] = w[0, 0]
    return flat * x.sum()


def view_of_a_view(lib: Any, x: Any, w: Any) -> Any:
    row = x[1].unsqueeze_(1)
    row += w[0, :1]
    return x


def constant(lib: Any, x: Any, w: Any) -> Any:
    c = lib.zeros(1, 4, dtype=lib.float64).squeeze_(0)
    c[1:] += w[0, 1:]
    return c.unsqueeze_(-1).t_()


@pytest.mark.parametrize("program", [transposed, viewed_before, view_of_a_view, constant])
def test_a_tensor_that_becomes_a_view_stays_in_the_graph(program: Program) -> None:
    mine = outcome(mg, mg.from_numpy, program)
    theirs = outcome(torch, torch.from_numpy, program)
    np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-12)
    np.testing.assert_allclose(mine[1], theirs[1], rtol=1e-12)


def test_a_leaf_becomes_a_view_without_recording_only() -> None:
    leaf = mg.ones(2, 3, requires_grad=True)
    with pytest.raises(GraphError, match=r"t_: .* is a leaf that requires a gradient"):
        leaf.t_()
    with mg.no_grad():
        leaf.t_()
    assert leaf.shape == (3, 2)
    leaf.sum().backward()
    assert leaf.grad.shape == (3, 2)
