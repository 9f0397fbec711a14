"""Random programs: ordinary, view and in-place operations on a few tensors, in minigrad and in
torch. Both give the same values and gradients, or both refuse.

MINIGRAD_PROGRAMS=10000 draws that many instead of what CI has time for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import minigrad as mg

EXAMPLES = int(os.environ.get("MINIGRAD_PROGRAMS", "100"))
SHAPE = (2, 3, 4)
LEAVES = 4
LONGEST = 10
LARGE = 1e3  # beyond which exp and sin leave nothing to compare
# Where one of the two is stricter on purpose, there is nothing to compare. torch refuses to read a
# view made under no_grad, which there is a leaf of its own and here a constant, as all that is
# computed under no_grad. minigrad refuses to fill an expanded tensor, or to change a part of one.
STRICTER = ("was created in no_grad mode and its base", "share memory (expand")


@dataclass(frozen=True)
class Step:
    """One statement. of, other: numbers of earlier tensors, modulo how many there are; args: of a
    view, or of an in-place operation that takes some. quiet: under no_grad."""

    kind: str
    name: str
    of: int
    other: int
    args: tuple[Any, ...] = ()
    quiet: bool = False


UNARY = ("exp", "sigmoid", "tanh", "relu", "neg", "abs", "sin", "cos", "square", "clone", "detach")
BINARY = ("add", "sub", "mul", "div", "maximum")
CHANGE_UNARY = ("exp_", "sigmoid_", "tanh_", "relu_", "neg_", "abs_", "sin_", "cos_", "square_",
                "zero_", "floor_", "sign_", "log1p_")  # fmt: skip
CHANGE_BINARY = ("add_", "sub_", "mul_", "div_", "copy_", "set", "set_picked", "set_masked")
CHANGE_NUMBER = ("add_", "mul_", "div_", "fill_", "pow_", "clamp_")
numbers = st.sampled_from((2.0, -0.5, 3.0))
places = st.integers(0, 30)
VIEWS: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    "transpose": st.tuples(st.integers(-1, 1), st.integers(-1, 1)),
    "permute": st.just(()),
    "flatten": st.just(()),
    "reshape": st.just((-1,)),
    "unsqueeze": st.integers(-1, 1).map(lambda d: (d,)),
    "squeeze": st.just(()),
    "first": st.just(()),
    "row": st.integers(0, 1).map(lambda i: (i,)),
    "tail": st.just(()),
    "strided": st.just(()),
    "narrow": st.just((-1, 0, 1)),
    "select": st.just((-1, 0)),
    "split": st.integers(0, 1).map(lambda i: (i,)),
    "chunk": st.integers(0, 1).map(lambda i: (i,)),
    "unbind": st.integers(0, 1).map(lambda i: (i,)),
    "expand": st.just(()),
    "detach": st.just(()),
}


# A tensor becomes a view of itself.
BECOME: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    "transpose_": VIEWS["transpose"], "unsqueeze_": VIEWS["unsqueeze"], "squeeze_": st.just(()),
    "t_": st.just(()),
}  # fmt: skip


@st.composite
def steps(draw: st.DrawFn) -> Step:
    kinds = "unary", "binary", "view", "view", "become", "change", "change", "change"
    kind = draw(st.sampled_from(kinds))
    of, other, quiet = draw(places), draw(places), draw(st.integers(0, 9)) == 0
    if kind == "view":
        name = draw(st.sampled_from(sorted(VIEWS)))
        return Step(kind, name, of, other, draw(VIEWS[name]), quiet and name != "detach")
    if kind == "become":
        name = draw(st.sampled_from(sorted(BECOME)))
        return Step(kind, name, of, other, draw(BECOME[name]))
    if kind == "change":
        kind = draw(st.sampled_from(("change_unary", "change_binary", "change_number")))
        names = {"change_unary": CHANGE_UNARY, "change_binary": CHANGE_BINARY,
                 "change_number": CHANGE_NUMBER}[kind]  # fmt: skip
        return Step(kind, draw(st.sampled_from(names)), of, other, (draw(numbers),), quiet)
    names = UNARY if kind == "unary" else BINARY
    return Step(kind, draw(st.sampled_from(names)), of, other)


programs = st.tuples(
    st.lists(st.booleans(), min_size=LEAVES, max_size=LEAVES),
    st.lists(steps(), min_size=2, max_size=LONGEST),
    st.integers(0, 2**16),
)


def viewed(lib: Any, x: Any, name: str, args: tuple[Any, ...]) -> Any:
    if name == "permute":
        return x.permute(*reversed(range(x.ndim)))
    if name == "first":
        return x[0]
    if name == "row":
        return x[args[0], ..., None]
    if name == "tail":
        return x[..., 1:]
    if name == "strided":
        return x[..., ::2]
    if name == "split":
        return x.split(1, 0)[args[0]]
    if name == "chunk":
        return x.chunk(2, -1)[args[0]]
    if name == "unbind":
        return x.unbind(0)[args[0]]
    if name == "expand":
        return x.expand(2, *x.shape)
    return getattr(x, name)(*args)


def changed(lib: Any, x: Any, name: str, other: Any) -> None:
    if name == "set":
        x[..., 1:] = other
    elif name == "set_picked":
        x[lib.tensor([1, 0])] = other
    elif name == "set_masked":
        x[x.detach() > 0.5] = other
    elif name == "clamp_":
        x.clamp_(-other, other)
    else:
        getattr(x, name)(other)


def perform(lib: Any, tensors: list[Any], quiet: set[int], step: Step) -> None:
    """quiet: numbers of views made under no_grad, and of their views, which count as constants."""
    of, other = step.of % len(tensors), step.other % len(tensors)
    x, y = tensors[of], tensors[other].detach() if other in quiet else tensors[other]
    x.grad_fn  # until then, torch takes a view whose base has joined the graph for a leaf  # noqa: B018
    read = x.detach() if of in quiet else x
    if step.kind == "unary":
        tensors.append(getattr(read, step.name)())
    elif step.kind == "binary":
        tensors.append(getattr(read, step.name)(y))
    elif step.kind == "view":
        tensors.append(viewed(lib, x, step.name, step.args))
        if step.quiet or of in quiet:
            quiet.add(len(tensors) - 1)
    elif step.kind == "become":
        getattr(x, step.name)(*step.args)
    elif step.kind == "change_unary":
        getattr(x, step.name)()
    elif step.kind == "change_number":
        changed(lib, x, step.name, step.args[0])
    else:
        # torch refuses some operands that overlap, and reads others while it writes.
        changed(lib, x, step.name, y.clone() if overlap(x, y, step.name) else y)


def overlap(x: Any, y: Any, name: str) -> bool:
    """Whether they share memory other than element by element."""
    a, b = (t.array if isinstance(t, mg.Tensor) else t.detach().numpy() for t in (x, y))
    same = a.shape == b.shape and a.strides == b.strides and a.ctypes.data == b.ctypes.data
    return np.may_share_memory(a, b) and (not same or name.startswith("set"))


def run(lib: Any, make: Any, program: Any, values: list[np.ndarray]) -> Any:
    """The numbers of the steps that are refused, the values of all tensors, and the gradients of
    the leaves, of which there are none if backward is refused. None where something is refused for
    a reason that the other does not have, or numbers become too large."""
    wanted, statements, _ = program
    leaves = [make(v.copy()) for v in values]
    for leaf, needs in zip(leaves, wanted, strict=True):
        leaf.requires_grad_(needs)
    tensors, quiet, refused = list(leaves), set(), []
    for number, step in enumerate(statements):
        try:
            with lib.set_grad_enabled(not step.quiet):
                perform(lib, tensors, quiet, step)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if any(text in str(error) for text in STRICTER):
                return None
            refused.append(number)
        if not all((t.detach().abs() < LARGE).all() for t in tensors):
            return None
    try:
        read = [t.detach() if i in quiet else t for i, t in enumerate(tensors)]
        total = sum((t * (i + 1)).sum() for i, t in enumerate(read))
        if any(wanted):
            total.backward()
    except RuntimeError as error:
        if any(text in str(error) for text in STRICTER):
            return None
        return refused, [], []
    grads = [leaf.grad if needs else None for leaf, needs in zip(leaves, wanted, strict=True)]
    return refused, [t.detach() for t in tensors], grads


def numpy_of(tensor: Any) -> np.ndarray:
    return np.array(tensor.array if isinstance(tensor, mg.Tensor) else tensor.numpy())


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(programs)
def test_random_programs_do_what_torch_does(program: Any) -> None:
    chance = np.random.default_rng(program[2])
    values = [chance.uniform(0.25, 1.5, SHAPE[i % 2 :]) for i in range(LEAVES)]
    mine = run(mg, lambda v: mg.Tensor(v), program, values)
    theirs = run(torch, torch.from_numpy, program, values)
    assume(mine is not None and theirs is not None)
    assert mine[0] == theirs[0]
    for ours, torchs in zip(mine[1] + mine[2], theirs[1] + theirs[2], strict=True):
        assert (ours is None) == (torchs is None)
        if ours is not None:
            np.testing.assert_allclose(numpy_of(ours), numpy_of(torchs), rtol=1e-9, atol=1e-12)
