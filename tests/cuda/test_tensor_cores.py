"""Products on tensor cores equal those of the portable kernels, up to the rounding to TF32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.backends import cuda as settings


@pytest.fixture
def tensor_cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    return lambda allowed: monkeypatch.setattr(settings, "allow_tf32", allowed)


def _whole(seed: int, *shape: int) -> np.ndarray:
    """Small whole numbers, which TF32 holds and whose sums are exact."""
    return np.random.default_rng(seed).integers(-8, 9, shape).astype(np.float32)


def _with_gradients(
    operation: Callable[..., mg.Tensor], *arrays: np.ndarray, **options: object
) -> list[np.ndarray]:
    inputs = [mg.tensor(array, device="cuda", requires_grad=True) for array in arrays]
    out = operation(*inputs, **options)
    upstream = mg.tensor(_whole(9, *out.shape).astype(arrays[0].dtype), device="cuda")
    out.backward(upstream)
    results = [out.detach(), *(each.grad for each in inputs)]
    return [each.cpu().numpy() for each in results]


def _assert_equal_on_both(
    tensor_cores: Callable[[bool], None],
    operation: Callable[..., mg.Tensor],
    *arrays: np.ndarray,
    **options: object,
) -> None:
    tensor_cores(False)
    expected = _with_gradients(operation, *arrays, **options)
    tensor_cores(True)
    for found, wanted in zip(_with_gradients(operation, *arrays, **options), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 5), (5, 2)), ((40, 19), (19, 17)), ((2, 9, 8), (2, 8, 7)), ((33, 50), (50, 1))],
)
def test_matmul(
    tensor_cores: Callable[[bool], None], left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    _assert_equal_on_both(tensor_cores, mg.matmul, _whole(0, *left), _whole(1, *right))


@pytest.mark.parametrize(
    ("input", "weight", "options"),
    [
        ((2, 3, 6, 5), (4, 3, 3, 3), {"padding": 1}),
        ((1, 2, 7, 8), (17, 2, 3, 2), {"stride": (2, 3), "dilation": (1, 2)}),
        ((2, 8, 4, 4), (6, 4, 3, 3), {"padding": 1, "stride": 2, "groups": 2}),
    ],
)
def test_conv2d(
    tensor_cores: Callable[[bool], None],
    input: tuple[int, ...],
    weight: tuple[int, ...],
    options: dict[str, object],
) -> None:
    arrays = _whole(0, *input), _whole(1, *weight), _whole(2, weight[0])
    _assert_equal_on_both(tensor_cores, F.conv2d, *arrays, **options)


def test_factors_are_rounded_to_the_nearest_tf32(tensor_cores: Callable[[bool], None]) -> None:
    half = 2.0**-11  # half of the last place of TF32 at 1
    values = [1 + half, 1 + 0.99 * half, -1 - half, 1 + 3 * half, 3e38, np.inf, -np.inf, np.nan]
    rounded = [1 + 2 * half, 1.0, -1 - 2 * half, 1 + 4 * half, 3e38, np.inf, -np.inf, np.nan]
    tensor_cores(True)
    column = mg.tensor(np.array(values, np.float32)[:, None], device="cuda")
    found = mg.matmul(column, mg.tensor(np.ones((1, 1), np.float32), device="cuda"))
    found = found.cpu().numpy()[:, 0]
    np.testing.assert_allclose(found, np.array(rounded, np.float32), rtol=2**-11)
    np.testing.assert_array_equal(found[:4], np.array(rounded[:4], np.float32))


def test_float64_stays_as_it_is(tensor_cores: Callable[[bool], None]) -> None:
    draw = np.random.default_rng(0)
    arrays = draw.standard_normal((9, 20)), draw.standard_normal((20, 10))
    _assert_equal_on_both(tensor_cores, mg.matmul, *arrays)
