"""Operations on lists of tensors and with `out`, against torch's."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import minigrad as mg
from minigrad.ops import foreach, out

RNG = np.random.default_rng(0)
LISTS = {
    name: [RNG.uniform(0.1, 2, shape) for shape in ((2, 3), (4,), ())] for name in ("x", "y", "z")
}
NUMBERS = [0.5, 2.0, 3.0]
WITH_ONE = [((name,), {}) for name in ("y", 2.0, NUMBERS, "tensor")]
SCALED = [(("y",), {}), ((2.0,), {}), ((NUMBERS,), {}), (("y",), {"alpha": 0.5})]
FACTORED = [(("y", "z"), {}), (("y", "z", 0.3), {}), (("y", "z"), {"scalars": NUMBERS})]
ARGUMENTS: dict[str, list[Any]] = {
    **dict.fromkeys(("add", "sub"), SCALED),
    **dict.fromkeys(("mul", "div"), WITH_ONE),
    **dict.fromkeys(("pow", "maximum", "minimum", "clamp_min", "clamp_max"), WITH_ONE[:3]),
    **dict.fromkeys(("addcmul", "addcdiv"), FACTORED),
    "copy": [(("y",), {})],
    "lerp": [(("y", 0.3), {}), (("y", "z"), {}), (("y",), {"weight": 0.3})],
    "norm": [((), {}), ((1,), {}), ((float("inf"),), {})],
}


def lists(library: Any, value: Any) -> Any:
    if value == "tensor":
        return library.tensor(1.5, dtype=library.float64)
    return [library.tensor(x) for x in LISTS[value]] if isinstance(value, str) else value


@pytest.mark.parametrize("name", foreach.FUNCTIONS)
def test_lists_have_torchs_values(name: str) -> None:
    for args, options in ARGUMENTS.get(name.removeprefix("_foreach_").strip("_"), [((), {})]):
        found = []
        for library in (torch, mg):
            tensors = lists(library, "x")
            given = [lists(library, arg) for arg in args]
            result = getattr(library, name)(tensors, *given, **options)
            assert result is tensors if name.endswith("_") else isinstance(result, tuple)
            found.append([each.numpy() for each in result])
        for theirs, ours in zip(*found, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-14)
            assert ours.dtype == theirs.dtype


def test_lists_of_other_lengths_are_refused() -> None:
    x = mg.ones(2)
    with pytest.raises(mg.ShapeError, match=r"_foreach_add: .* got lengths \[2, 1\]"):
        mg._foreach_add([x, x], [x])


# out= -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args"),
    [("add", ("y", "z")), ("div", ("y", "z")), ("maximum", ("y", "z")), ("sqrt", ("y",)),
     ("lerp", ("y", "z", 0.5)), ("nan_to_num", ("y",)), ("cumsum", ("y", 0)), ("sum", ("y", 1)),
     ("max", ("y", 1)), ("topk", ("y", 2)), ("gt", ("y", "z")), ("eye", (3,)), ("zeros", (2, 3))],
)  # fmt: skip
@pytest.mark.parametrize("empty", [False, True])
def test_results_are_written_into_out(name: str, args: tuple[Any, ...], empty: bool) -> None:
    found = []
    for library in (torch, mg):
        given = [lists(library, a)[0] if isinstance(a, str) else a for a in args]
        results = getattr(library, name)(*given)
        several = isinstance(results, tuple)
        results = tuple(results) if several else (results,)
        targets = tuple(
            library.empty((0,) if empty else tuple(each.shape), dtype=each.dtype)
            for each in results
        )
        returned = getattr(library, name)(*given, out=targets if several else targets[0])
        assert several or returned is targets[0]
        found.append([each.numpy() for each in targets])
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_out_may_be_an_operand_and_takes_a_wider_dtype() -> None:
    x = mg.tensor([1.0, 2.0])
    assert mg.div(1.0, x, out=x) is x
    assert x.tolist() == [1.0, 0.5]
    assert mg.eye(2, out=mg.empty(2, 2, dtype=mg.float64)).dtype == mg.float64


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [(mg.empty(3), mg.ShapeError, r"add: out must have shape \(2,\), got \(3,\)"),
     (mg.empty(2, dtype=mg.int64), mg.DTypeError, "dtype float32, which out of dtype int64"),
     (mg.empty(2, requires_grad=True), mg.GraphError, "with out, nothing may require gradients"),
     (np.empty(2), TypeError, "out must be a Tensor, got ndarray")],
)  # fmt: skip
def test_what_out_cannot_be(target: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mg.add(mg.ones(2), 1, out=target)


def test_out_shares_no_memory_with_what_is_read() -> None:
    x = mg.arange(6.0).reshape(2, 3)
    columns = x[:, 0], x[:, 1], x[:, 2]  # interleaved, but apart
    assert mg.add(*columns[:2], out=columns[2]).tolist() == [1, 7]
    index = mg.tensor([0, 1])
    for call in (
        lambda: mg.add(x[0, :2], 1, out=x[0, 1:]),
        lambda: mg.cat([x[:1], x[1:]], out=x[:1]),
        lambda: mg.gather(x[0], 0, index, out=x[0, :2]),
        lambda: mg.add(mg.ones(3), 1, out=mg.ones(1).expand(3)),
    ):
        with pytest.raises(ValueError, match=r"(add|cat|gather): out.* of shape .* shares? memory"):
            call()
    for call in (
        lambda: mg.gather(x[0], 0, index, out=mg.empty(2, dtype=mg.float64)),
        lambda: mg.max(x, 1, out=(mg.empty(2, dtype=mg.float64), mg.empty(2, dtype=mg.int64))),
    ):
        with pytest.raises(mg.DTypeError, match="which out of dtype float64 cannot take"):
            call()


def test_functions_with_out_are_pickled_and_have_torchs_names() -> None:
    for name in out.NAMES:
        function = getattr(mg, name)
        assert pickle.loads(pickle.dumps(function)) is function
        assert "out" in getattr(torch, name).__doc__, name
        assert inspect.unwrap(function).__module__.startswith("minigrad.ops."), name
