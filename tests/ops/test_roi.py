"""roi_pool on 10,000 random regions, bit for bit torchvision's; global pools in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import Tensor, nn

REGIONS = 10_000
BOXES_PER_CALL = 20


def random_call(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, tuple, float]:
    """A map and boxes whose scaled coordinates are half-integers: inside, outside, turned round."""
    N, C, H, W = (int(generator.integers(1, high)) for high in (4, 4, 12, 12))
    scale = float(generator.choice([1.0, 0.5, 0.25, 0.125, 1 / 16]))
    x = generator.standard_normal((N, C, H, W))
    if generator.random() < 0.3:
        x = np.round(x)  # ties
    corners = generator.integers(-8, 2 * 14, (BOXES_PER_CALL, 4)) / 2
    far = generator.random(BOXES_PER_CALL) < 0.1
    corners[far] += generator.integers(-100, 100, (int(far.sum()), 4))
    images = generator.integers(0, N, BOXES_PER_CALL)
    size = int(generator.integers(1, 8)), int(generator.integers(1, 8))
    return x, np.column_stack([images, corners / scale]), size, scale


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_roi_pool_equals_torchvision_bit_for_bit_on_10000_regions(dtype) -> None:
    generator = np.random.default_rng(0)
    halves = outside = empty = 0
    for _ in range(REGIONS // BOXES_PER_CALL):
        x, boxes, size, scale = random_call(generator)
        x, boxes = x.astype(dtype), boxes.astype(dtype)
        mine = mg.tensor(x, requires_grad=True)
        theirs = torch.tensor(x, requires_grad=True)
        out = F.roi_pool(mine, mg.tensor(boxes), size, scale)
        expected = torchvision.ops.roi_pool(theirs, torch.tensor(boxes), size, scale)
        np.testing.assert_array_equal(out.array, expected.detach().numpy())
        # Whole numbers add up exactly, whatever the order in which regions overlap.
        upstream = generator.integers(-9, 9, out.shape).astype(dtype)
        out.backward(mg.tensor(upstream))
        expected.backward(torch.tensor(upstream))
        np.testing.assert_array_equal(mine.grad.array, theirs.grad.numpy())
        scaled = boxes[:, 1:] * scale
        halves += int((scaled % 1 == 0.5).any(axis=1).sum())
        outside += int(((scaled < 0) | (scaled > 12)).any(axis=1).sum())
        empty += int((expected.detach().numpy() == 0).sum())
    assert min(halves, outside, empty) > 1000


def test_a_single_region_has_torchvisions_gradient_bit_for_bit() -> None:
    generator = np.random.default_rng(1)
    for _ in range(200):
        x, boxes, size, scale = random_call(generator)
        mine = mg.tensor(x.astype(np.float32), requires_grad=True)
        theirs = torch.tensor(x.astype(np.float32), requires_grad=True)
        box = boxes[:1].astype(np.float32)
        out = F.roi_pool(mine, mg.tensor(box), size, scale)
        expected = torchvision.ops.roi_pool(theirs, torch.tensor(box), size, scale)
        upstream = generator.standard_normal(out.shape).astype(np.float32)
        out.backward(mg.tensor(upstream))
        expected.backward(torch.tensor(upstream))
        np.testing.assert_array_equal(mine.grad.array, theirs.grad.numpy())


def test_layers_are_torchvisions() -> None:
    generator = np.random.default_rng(2)
    x, boxes, size, scale = random_call(generator)
    for ours, theirs in (
        (nn.RoIPool(size, scale), torchvision.ops.RoIPool(size, scale)),
        (nn.RoIAlign(size, scale, 2, True), torchvision.ops.RoIAlign(size, scale, 2, True)),
    ):
        expected = theirs(torch.tensor(x), torch.tensor(boxes)).numpy()
        np.testing.assert_allclose(ours(Tensor(x), Tensor(boxes)).array, expected, atol=1e-12)
        assert repr(ours) == repr(theirs)


def test_unpooling_undoes_pooling_as_torchs_layer_does() -> None:
    x = np.random.default_rng(3).standard_normal((2, 3, 7, 7))
    out, indices = nn.MaxPool2d(2, return_indices=True)(Tensor(x))
    values, places = torch.nn.MaxPool2d(2, return_indices=True)(torch.tensor(x))
    ours, theirs = nn.MaxUnpool2d(2), torch.nn.MaxUnpool2d(2)
    assert repr(ours) == repr(theirs)
    for size in ((7, 7), (2, 3, 7, 7)):
        expected = theirs(values, places, output_size=size).numpy()
        np.testing.assert_array_equal(ours(out, indices, output_size=size).array, expected)


def test_boxes_changed_after_the_call_do_not_reach_backward() -> None:
    x = mg.randn(1, 2, 5, 5, requires_grad=True)
    boxes = np.array([[0, 0, 0, 3, 3]], np.float32)
    for op in (F.roi_pool, F.roi_align):
        x.grad = None
        out = op(x, mg.from_numpy(boxes), 2)
        boxes[0, 0] = 1e9
        out.sum().backward()
        assert abs(x.grad.numpy().sum() - 8) < 1e-5
        boxes[0, 0] = 0


def test_a_region_turned_round_is_empty_for_aligned_roi_align() -> None:
    out = F.roi_align(mg.ones(1, 1, 4, 4), mg.tensor([[0.0, 3, 3, 1, 1]]), 2, aligned=True)
    assert not out.numpy().any()


def test_global_pools_in_one_line() -> None:
    x = np.random.default_rng(4).standard_normal((2, 3, 5, 4))
    t = Tensor(x)
    for mean in (t.mean((2, 3)), F.adaptive_avg_pool2d(t, 1).flatten(1)):
        np.testing.assert_allclose(mean.array, x.mean((2, 3)), atol=1e-15)
    for largest in (t.amax((2, 3)), F.adaptive_max_pool2d(t, 1).flatten(1)):
        np.testing.assert_array_equal(largest.array, x.max((2, 3)))
