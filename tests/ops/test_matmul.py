"""Matrix products that fill blocks of columns, chunks of terms and several parts, against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.kernels.cpu import matmul

# (rows, terms, columns): around the sizes of tiles (8, 32), blocks (128) and chunks (512); then few
# results of many terms, products of hardly anything, and of few rows.
SHAPES = (
    (64, 1024, 1024), (300, 600, 140), (17, 513, 129), (16, 100, 200), (128, 576, 10),
    (33, 31, 65), (1, 700, 300), (260, 7, 64), (5, 1, 1), (4100, 20, 12), (2048, 3, 1), (9, 0, 70),
    (5, 3, 0), (3, 19, 1100), (6, 8, 7),
    (40, 1100, 96),
)  # fmt: skip
TOLERANCES = {np.float32: 2e-5, np.float64: 1e-12}


def results(library: Any, function: Any, arrays: list[Any]) -> list[np.ndarray]:
    """The result and all gradients, for one upstream gradient."""
    operands = [library.tensor(a, requires_grad=True) for a in arrays]
    out = function(*operands)
    drawn = np.random.default_rng(1).standard_normal(tuple(out.shape)).astype(arrays[0].dtype)
    out.backward(library.tensor(drawn))
    return [np.array(t.detach().numpy()) for t in (out, *(t.grad for t in operands))]


def compare(ours: Any, theirs: Any, arrays: list[Any]) -> None:
    """Ours in the arrays' dtype beside torch's in float64."""
    mine = results(mg, ours, arrays)
    exact = results(torch, theirs, [a.astype(np.float64) for a in arrays])
    tolerance = TOLERANCES[arrays[0].dtype.type]
    for label, a, b in zip(("result", "left", "right", "bias"), mine, exact, strict=False):
        assert a.dtype == arrays[0].dtype
        scale = max(1, abs(b).max()) if b.size else 1
        np.testing.assert_allclose(a, b, 0, tolerance * scale, err_msg=label)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_linear_equals_torch(shape: tuple[int, int, int], dtype: Any) -> None:
    M, K, N = shape
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(dtype) for s in ((M, K), (N, K), (N,))]
    compare(F.linear, torch.nn.functional.linear, arrays)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(3, 40, 70, 90), (5, 130, 20, 33), (2, 2100, 5, 6), (3, 2, 21, 40)]
)
def test_batches_equal_torch(shape: tuple[int, ...], dtype: Any) -> None:
    B, M, K, N = shape
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(dtype) for s in ((B, M, K), (B, K, N))]
    compare(mg.matmul, torch.matmul, arrays)


def test_the_shapes_take_every_path() -> None:
    plans = []
    for M, K, N in SHAPES:
        dims = matmul.MatmulDims(1, M, K, N)
        plans.append(matmul._plan(1, M, N, K, ""))
        assert matmul.matmul_forward_workspace(dims) % matmul.MAX_THREADS == 0
    assert {matmul._has_few_rows(M, "") for M, _, _ in SHAPES} == {False, True}
    assert {plan.pack_right for plan in plans} == {False, True}
    assert {plan.row_parts > 1 for plan in plans} == {False, True}
    assert {matmul._few_results(matmul.MatmulDims(1, *shape)) for shape in SHAPES} == {False, True}


def test_infinity_and_nan_stay_in_their_row_and_column() -> None:
    left, right = np.ones((20, 40), np.float32), np.ones((40, 200), np.float32)
    left[3, 5], right[7, 150] = np.inf, np.nan
    out = mg.matmul(mg.tensor(left), mg.tensor(right)).numpy()
    np.testing.assert_array_equal(out, (torch.tensor(left) @ torch.tensor(right)).numpy())


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("columns", [40, 512, 1100])
def test_bits_of_a_product_of_few_rows_do_not_depend_on_the_threads(
    rows: int, columns: int
) -> None:
    mg.manual_seed(0)
    left, right, before = mg.randn(rows, 700), mg.randn(700, columns), mg.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            mg.set_num_threads(threads)
            results.append((left @ right).numpy())
    finally:
        mg.set_num_threads(before)
    np.testing.assert_array_equal(*results)
    exact = left.numpy().astype(np.float64) @ right.numpy().astype(np.float64)
    np.testing.assert_allclose(results[0], exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 5, 12])
@pytest.mark.parametrize("transposed", ["", "left", "right"])
def test_sums_of_many_terms_keep_their_digits(transposed: str, rows: int) -> None:
    """By sums of parts. Added one by one, 400,000 terms would be wrong by 1e-5."""
    draw = np.random.default_rng(0)
    left = 1 + 0.3 * draw.standard_normal((rows, 400_000)).astype(np.float32)
    right = 1 + 0.3 * draw.standard_normal((70, 400_000)).astype(np.float32)
    exact = left.astype(np.float64) @ right.T.astype(np.float64)
    a = mg.tensor(left.T.copy()).T if transposed == "left" else mg.tensor(left)
    b = mg.tensor(right).T if transposed == "right" else mg.tensor(right.T.copy())
    np.testing.assert_allclose((a @ b).numpy(), exact, rtol=3e-6)
