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
# Where one of the two is stricter on purpose, there is nothing to compare. torch refuses to read a
# view made under no_grad, which there is a leaf of its own and here a constant, as all that is
# computed under no_grad. An operand that overlaps it refuses or reads while it changes; here it is
# read first. minigrad refuses to fill an expanded tensor,
# or to change a part of one.
STRICTER = (
    "was created in no_grad mode and its base", "some elements of the input tensor and the written",
    "share memory (expand",
)  # fmt: skip


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


@st.composite
def steps(draw: st.DrawFn) -> Step:
    kind = draw(st.sampled_from(("unary", "binary", "view", "view", "change", "change", "change")))
    of, other, quiet = draw(places), draw(places), draw(st.integers(0, 9)) == 0
    if kind == "view":
        name = draw(st.sampled_from(sorted(VIEWS)))
        return Step(kind, name, of, other, draw(VIEWS[name]), quiet and name != "detach")
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
        return x.permute(tuple(reversed(range(x.ndim))))
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


def incomparable(tensors: list[Any], step: Step) -> bool:
    """Whether the step reads a view made under no_grad, or changes what its operand overlaps."""
    places = [step.of % len(tensors)]
    if step.kind in ("binary", "change_binary"):
        places.append(step.other % len(tensors))
    used = [tensors[i] for i in places]
    if not step.quiet and any(
        t.requires_grad and t.is_leaf for i, t in zip(places, used, strict=True) if i >= LEAVES
    ):
        return True
    if step.kind != "change_binary":
        return False
    x, y = (t.detach() for t in used)
    x, y = (t.array if isinstance(t, mg.Tensor) else t.numpy() for t in (x, y))
    same = (x.shape, x.strides, x.ctypes.data) == (y.shape, y.strides, y.ctypes.data)
    return np.may_share_memory(x, y) and (step.name == "set" or not same)


def perform(lib: Any, tensors: list[Any], step: Step) -> None:
    x, y = tensors[step.of % len(tensors)], tensors[step.other % len(tensors)]
    x.grad_fn  # until then, torch takes a view whose base has joined the graph for a leaf  # noqa: B018
    if step.kind == "unary":
        tensors.append(getattr(x, step.name)())
    elif step.kind == "binary":
        tensors.append(getattr(x, step.name)(y))
    elif step.kind == "view":
        tensors.append(viewed(lib, x, step.name, step.args))
    elif step.kind == "change_unary":
        getattr(x, step.name)()
    else:
        changed(lib, x, step.name, y if step.kind == "change_binary" else step.args[0])


def run(lib: Any, make: Any, program: Any, values: list[np.ndarray]) -> Any:
    """The numbers of the steps that are refused, the values of all tensors, and the gradients of
    the leaves, of which there are none if backward is refused. None where the two differ on
    purpose."""
    wanted, statements, _ = program
    leaves = [make(v.copy()) for v in values]
    for leaf, needs in zip(leaves, wanted, strict=True):
        leaf.requires_grad_(needs)
    tensors, refused = list(leaves), []
    for number, step in enumerate(statements):
        try:
            if incomparable(tensors, step):
                return None
            with lib.set_grad_enabled(not step.quiet):
                perform(lib, tensors, step)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if any(text in str(error) for text in STRICTER):
                return None
            refused.append(number)
    try:
        total = sum((t * (i + 1)).sum() for i, t in enumerate(tensors))
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
