"""Convolutions whose geometry takes every path of the CUDA kernels, against the definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F

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
    out.backward(mg.tensor(upstream, device=device))
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


@pytest.mark.parametrize("size", [(1, 1, 40, 1), (2, 9, 7, 10), (1, 17, 33, 9), (2, 3, 0, 4)])
def test_matrix_products_of_every_tile(size: tuple[int, int, int, int]) -> None:
    B, M, K, N = size
    draw = np.random.default_rng(0)
    left, right = draw.standard_normal((B, M, K)), draw.standard_normal((B, K, N))
    found = _run("cuda", mg.matmul, left, right)
    for mine, wanted in zip(found, _run("reference", mg.matmul, left, right), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-12, atol=1e-12)
