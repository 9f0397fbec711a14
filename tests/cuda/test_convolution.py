"""Convolutions whose geometry takes every path of the CUDA kernels, against the definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.kernels.cuda import _direct, _direct_weight, _patch

# input, weight, stride, padding, dilation, groups
CASES = [
    pytest.param((2, 3, 5, 4), (4, 3, 3, 3), 1, 1, 1, 1, id="one phase"),
    pytest.param((1, 2, 7, 6), (3, 2, 3, 2), 2, (1, 0), 1, 1, id="four phases"),
    pytest.param((1, 2, 8, 7), (2, 2, 2, 3), (3, 2), 1, (2, 1), 1, id="phases of unequal taps"),
    pytest.param((1, 3, 9, 9), (2, 3, 3, 3), 4, 0, 2, 1, id="phases without taps"),
    pytest.param((1, 2, 3, 3), (2, 2, 1, 1), 5, 0, 1, 1, id="stride beyond the image"),
    pytest.param((1, 12, 2, 3), (10, 12, 2, 2), 1, 1, 1, 1, id="a sum in spans"),
    pytest.param((2, 4, 5, 5), (8, 2, 3, 3), (2, 1), 1, 1, 2, id="groups"),
    pytest.param((1, 4, 6, 5), (4, 1, 3, 3), 2, 1, 1, 4, id="depthwise, strided"),
    pytest.param((1, 2, 6, 6), (4, 1, 2, 2), 1, 1, 2, 2, id="two filters a channel, dilated"),
    pytest.param((0, 2, 4, 4), (3, 2, 3, 3), 1, 1, 1, 1, id="no images"),
]


def _run(device: str, operation: Callable[..., mg.Tensor], *arrays: np.ndarray, **options: object):
    inputs = [mg.tensor(array, device=device, requires_grad=True) for array in arrays]
    out = operation(*inputs, **options)
    upstream = np.random.default_rng(1).standard_normal(out.shape)
    out.backward(mg.tensor(upstream.astype(arrays[0].dtype), device=device))
    return [out.detach().cpu().numpy(), *(each.grad.cpu().numpy() for each in inputs)]


@pytest.mark.parametrize(
    ("input", "weight", "stride", "padding", "dilation", "groups"), CASES
)  # fmt: skip
def test_agrees_with_the_definition(input, weight, stride, padding, dilation, groups) -> None:
    draw = np.random.default_rng(0)
    x, w, b = (draw.standard_normal(shape) for shape in (input, weight, weight[0]))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    found = _run("cuda", F.conv2d, x, w, b, **options)
    for mine, wanted in zip(found, _run("reference", F.conv2d, x, w, b, **options), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-12, atol=1e-12)


# input, weight, stride, padding
DIRECT_CASES = [
    pytest.param((2, 3, 9, 16), (16, 3, 3, 3), 1, 1, id="few channels"),
    pytest.param((1, 3, 13, 17), (10, 3, 5, 4), 2, (2, 1), id="strided, channels left over"),
    pytest.param((1, 18, 5, 6), (3, 18, 3, 3), 1, (1, 0), id="channels in portions"),
    pytest.param((2, 8, 8, 8), (12, 8, 2, 3), 1, (0, 1), id="vectors of channels"),
]


@pytest.fixture
def prefer_direct(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Direct convolution wherever it is possible. Collects the blocks that were planned."""
    planned: list[object] = []

    def preferring(plan: Callable[..., _patch.Plan | None]) -> Callable[..., _patch.Plan | None]:
        def choose(*args: object) -> _patch.Plan | None:
            found = plan(*args)
            if found is not None:
                planned.append(found.block)
                found = found._replace(cost=0.0)
            return found

        return choose

    for module in (_direct, _direct_weight):
        monkeypatch.setattr(module, "plan", preferring(module.plan))
    return planned


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("input", "weight", "stride", "padding"), DIRECT_CASES)
def test_direct_convolution_agrees_with_the_definition(
    prefer_direct, dtype, input, weight, stride, padding
) -> None:
    draw = np.random.default_rng(0)
    x, w, b = (draw.standard_normal(shape).astype(dtype) for shape in (input, weight, weight[0]))
    options = {"stride": stride, "padding": padding}
    found = _run("cuda", F.conv2d, x, w, b, **options)
    assert prefer_direct
    limit = 1e-12 if dtype == np.float64 else 2e-5
    for mine, wanted in zip(found, _run("reference", F.conv2d, x, w, b, **options), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=limit, atol=limit)


def test_infinities_reach_the_gradients_of_their_own_taps_only(prefer_direct) -> None:
    """Pixels of a tile that are not in the image read pixels that are."""
    x, w = np.ones((1, 3, 4, 12), np.float32), np.ones((4, 3, 3, 3), np.float32)
    x[..., -1] = np.inf
    *_, found, _ = _run("cuda", F.conv2d, x, w, np.zeros(4, np.float32))
    *_, wanted, _ = _run("reference", F.conv2d, x, w, np.zeros(4, np.float32))
    assert prefer_direct
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted))


def _off_by_one(array: np.ndarray, order: tuple[int, ...]) -> mg.Tensor:
    """On the GPU, its axes in this order in memory, from an odd element of a storage on."""
    stored = array.transpose(order)
    flat = mg.tensor(np.concatenate([[0], stored.reshape(-1)]).astype(array.dtype), device="cuda")
    view = flat[1:].reshape(stored.shape).permute(tuple(np.argsort(order)))
    assert view.array.pointer % 16
    return view


@pytest.mark.parametrize("way", ["tiles", "direct"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_that_start_between_vectors_convolve_to_the_same_bits(dtype, way, request) -> None:
    """Channels allow loads of 16 bytes, where the arrays begin does not."""
    if way == "direct":
        request.getfixturevalue("prefer_direct")
    draw = np.random.default_rng(0)
    shapes = (2, 8, 6, 8), (16, 8, 3, 3), (2, 16, 6, 8)
    x, w, g = (draw.standard_normal(shape).astype(dtype) for shape in shapes)
    results = []
    for make in (lambda array, _: mg.tensor(array, device="cuda"), _off_by_one):
        input, weight = make(x, (0, 2, 3, 1)), make(w, (2, 3, 1, 0))
        upstream = make(g, (0, 2, 3, 1))
        leaves = [leaf.requires_grad_() for leaf in (input, weight)]
        out = F.conv2d(*leaves, padding=1)
        out.backward(upstream)
        results.append([each.cpu().numpy() for each in (out.detach(), *(x.grad for x in leaves))])
    for found, wanted in zip(*results, strict=True):
        np.testing.assert_array_equal(found, wanted)


# The last two sum up to 46 and 140 spans.
@pytest.mark.parametrize(
    "size",
    [(1, 1, 40, 1), (2, 9, 7, 10), (1, 17, 33, 9), (2, 3, 0, 4), (1, 4, 3000, 8), (1, 5, 9000, 7)],
)
def test_matrix_products_of_every_tile(size: tuple[int, int, int, int]) -> None:
    B, M, K, N = size
    draw = np.random.default_rng(0)
    left, right = draw.standard_normal((B, M, K)), draw.standard_normal((B, K, N))
    found = _run("cuda", mg.matmul, left, right)
    for mine, wanted in zip(found, _run("reference", mg.matmul, left, right), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-12, atol=1e-12)
