"""Every operation with arguments that make no sense: a clear error, or torch's own result.

Each example takes a drawn case and spoils one or two of its arguments. Where torch refuses what
minigrad takes (a number for a tensor, say), there is nothing to compare.
"""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from opspecs import SPECS

from minigrad import MinigradError, Tensor
from minigrad.testing import Case, OpSpec
from minigrad.testing.oracle import flatten

HOSTILE: list[Any] = [
    None, -1, 0, 1, 3, 7, 2**31, 2**40, -(2**63), 2**62, float("nan"), float("inf"), 1.5, "x", "",
    True, False, (), (1,), (1, 2, 3), (0, 0), (-1, 2), [2, 2], (1.5, 2), b"x", object(), {},
    np.float32(2), np.int64(2), np.array([1, 2]),
]  # fmt: skip
REFUSED = (MinigradError, TypeError, ValueError, OverflowError, MemoryError)


def spoiled(value: Any, chance: random.Random) -> Any:
    """Another shape, dtype or values for an array; anything for the rest."""
    if not isinstance(value, np.ndarray):
        return chance.choice(HOSTILE)
    array = np.array(value, subok=False)
    whole = array.dtype.kind != "f"
    changes = [
        lambda: array[..., None],
        lambda: array[..., :0] if array.ndim else array,
        lambda: array.swapaxes(0, -1) if array.ndim else array,
        lambda: array[0] if array.ndim and len(array) else array,
        lambda: array * 1000003 if whole else array.astype(np.int64),
        lambda: array - 7 if whole else array.astype(np.float32),
        lambda: np.zeros([chance.randrange(4) for _ in range(chance.randrange(5))], array.dtype),
        lambda: array > 0,
        lambda: chance.choice(HOSTILE),
    ]
    result = chance.choice(changes)()
    return np.asarray(result) if isinstance(result, np.generic) else result


def spoil(case: Case, seed: int) -> tuple[list[Any], dict[str, Any]]:
    chance = random.Random(seed)
    args, kwargs = list(case.args), dict(case.kwargs)
    for _ in range(chance.choice([1, 1, 2])):
        key = chance.choice([*range(len(args)), *kwargs])
        place: Any = args if isinstance(key, int) else kwargs
        place[key] = spoiled(place[key], chance)
    return args, kwargs


def converted(value: Any, make: Any) -> Any:
    if isinstance(value, np.ndarray):
        return make(np.array(value, subok=False))
    if isinstance(value, (list, tuple)) and any(isinstance(v, np.ndarray) for v in value):
        return type(value)(converted(v, make) for v in value)
    return value


def equal(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, Tensor) and isinstance(theirs, torch.Tensor):
        left, right = mine.array, theirs.detach().numpy()
        if left.shape != right.shape or left.dtype != right.dtype:
            return False
        # Of what is repeated, once: an expanded dimension may have more elements than fit.
        steps = zip(left.strides, right.strides, strict=True)
        once = tuple(slice(1 if a == b == 0 else None) for a, b in steps)
        return np.allclose(left[once], right[once], 1e-4, 1e-5, equal_nan=True)
    return type(mine) is type(theirs) and (mine == theirs or mine != mine)


# Their oracles are several calls of torch, which take what one call would refuse.
COMPOSED = {"var of many, far from zero"}


@pytest.mark.parametrize(
    "spec", [s for s in SPECS if s.name not in COMPOSED], ids=lambda spec: spec.name
)
def test_nonsense_ends_with_an_error_or_torchs_result(spec: OpSpec) -> None:
    @settings(
        max_examples=max(8, settings().max_examples // 2),
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(spec.cases, st.integers(0, 2**32))
    def holds(case: Case, seed: int) -> None:
        args, kwargs = spoil(case, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                mine = spec.function(
                    *(converted(a, Tensor) for a in args),
                    **{name: converted(a, Tensor) for name, a in kwargs.items()},
                )
            except REFUSED:
                return
            try:
                theirs = spec.oracle(
                    torch,
                    *(converted(a, torch.from_numpy) for a in args),
                    **{name: converted(a, torch.from_numpy) for name, a in kwargs.items()},
                )
            except Exception:
                return
        left, right = flatten(mine), flatten(theirs)
        assert list(left) == list(right)
        for name in left:
            assert equal(left[name], right[name]), f"{left[name]} against torch's {right[name]}"

    holds()
