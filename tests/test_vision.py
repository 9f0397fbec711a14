"""minigrad.vision against torchvision.ops: functions, layers, their random choices and errors."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
import torchvision
from torchvision.ops import feature_pyramid_network as their_pyramids

import minigrad as mg
from minigrad import ShapeError, nn, vision
from minigrad.testing.oracle import TEST_DEVICE, values
from minigrad.vision import feature_pyramid_network as pyramids
from minigrad.vision._utils import split_normalization_params


def boxes(*shape: int, seed: int = 0, size: float = 12.0) -> np.ndarray:
    """Boxes of which many overlap."""
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, size, (*shape, 2))
    return np.concatenate([corners, corners + generator.uniform(1, size, (*shape, 2))], -1)


A, B, MANY = boxes(5), boxes(7, seed=1), boxes(2, 3, seed=2)
PAIR = boxes(5, seed=3)
TOUCHING = np.array([[0.0, 0, 2, 2]]), np.array([[2.0, 0, 4, 3]])
LOGITS = np.random.default_rng(4).standard_normal((3, 4))
TARGETS = (np.random.default_rng(5).random((3, 4)) < 0.5).astype(np.float64)
MASKS = np.zeros((4, 5, 6))
MASKS[0, 1:3, 2:5], MASKS[1, 4, 5], MASKS[3] = 1, 2, -1


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape)


# Inside the map: at its border, torchvision's ps_roi_pool clips otherwise in its backward pass.
ROIS = np.array([[0, 1, 2, 9, 8], [1, 0, 0, 10, 9], [0, 3.5, 2.5, 4, 3]])

PAIRS = ("box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou")
BOX_LOSSES = ("generalized_box_iou_loss", "distance_box_iou_loss", "complete_box_iou_loss")
FUNCTIONS = [
    *((name, (A, B), {}) for name in PAIRS),
    *((name, (MANY, boxes(2, 4)), {}) for name in PAIRS),
    *((name, (A[:0], B), {}) for name in PAIRS),
    *((name, (A, PAIR), {"reduction": how}) for name in BOX_LOSSES for how in ("none", "mean")),
    *((name, (A[0], PAIR[0]), {"reduction": "sum", "eps": 0.1}) for name in BOX_LOSSES[:2]),
    *((name, TOUCHING, {}) for name in BOX_LOSSES),
    *((name, (A[:0], B[:0]), {"reduction": "mean"}) for name in BOX_LOSSES),
    ("box_iou", (A, B, "xywh"), {}),
    ("box_iou", (A, B), {"fmt": "cxcywh"}),
    ("box_area", (MANY,), {}),
    ("box_area", (A, "cxcywh"), {}),
    *(
        ("box_convert", (A, source, target), {})
        for source in ("xyxy", "xywh", "cxcywh")
        for target in ("xyxy", "xywh", "cxcywh")
    ),
    ("clip_boxes_to_image", (MANY, (9, 11)), {}),
    ("remove_small_boxes", (A, 6.0), {}),
    ("masks_to_boxes", (MASKS,), {}),
    ("masks_to_boxes", (MASKS[:0],), {}),
    (
        "deform_conv2d",
        (noise(2, 4, 7, 8), 3 * noise(2, 24, 4, 3), noise(6, 2, 2, 3), noise(6)),
        {"stride": (2, 3), "padding": 1, "mask": noise(2, 12, 4, 3)},
    ),
    ("deform_conv2d", (noise(1, 2, 5, 5), noise(1, 18, 5, 5), noise(3, 2, 3, 3)), {"padding": 1}),
    *(
        (name, (noise(2, 12, 12, 13), ROIS, (2, 3), scale), {})
        for name in ("ps_roi_align", "ps_roi_pool")
        for scale in (1.0, 0.5)
    ),
    ("ps_roi_align", (noise(2, 8, 12, 13), ROIS, 2, 1.0, 3), {}),
    ("ps_roi_pool", (noise(1, 8, 12, 13), ROIS[::2], 2), {}),
    ("sigmoid_focal_loss", (LOGITS, TARGETS), {}),
    ("sigmoid_focal_loss", (30 * LOGITS, TARGETS, 0.6, 1.5, "sum"), {}),
    ("sigmoid_focal_loss", (LOGITS, TARGETS), {"alpha": -1, "reduction": "mean"}),
]


def given(library, array, grad):
    array = np.array(array)
    if library is mg:
        return mg.tensor(array, device=TEST_DEVICE, requires_grad=grad)
    return torch.tensor(array, requires_grad=grad)


def compare(ours, theirs, inputs):
    """Values and, of the inputs, gradients."""
    expected = theirs.detach().numpy()
    assert values(ours).dtype == expected.dtype
    np.testing.assert_allclose(values(ours), expected, rtol=1e-9, atol=1e-12)
    if theirs.requires_grad:
        upstream = np.random.default_rng(9).standard_normal(expected.shape)
        ours.backward(mg.tensor(upstream, device=TEST_DEVICE))
        theirs.backward(torch.tensor(upstream))
        for mine, other in inputs:
            np.testing.assert_allclose(values(mine.grad), other.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("name", "args", "kwargs"), FUNCTIONS)
def test_function_matches_torchvision(name, args, kwargs):
    grad = name not in ("remove_small_boxes", "masks_to_boxes")
    # Boxes and the target of the focal loss are not trained.
    fixed = name == "sigmoid_focal_loss" or name.startswith("ps_roi")
    wanted = [grad and not (fixed and i == 1) for i in range(len(args))]
    mine, theirs = (
        [given(lib, a, w) if isinstance(a, np.ndarray) else a
         for a, w in zip(args, wanted, strict=True)]
        for lib in (mg, torch)
    )  # fmt: skip
    mask = kwargs.get("mask")
    masks = {lib: {} if mask is None else {"mask": given(lib, mask, True)} for lib in (mg, torch)}
    inputs = [(a, b) for a, b in zip(mine, theirs, strict=True)
              if isinstance(a, mg.Tensor) and a.requires_grad]  # fmt: skip
    if mask is not None:
        inputs.append((masks[mg]["mask"], masks[torch]["mask"]))
    compare(
        getattr(vision, name)(*mine, **kwargs | masks[mg]),
        getattr(torchvision.ops, name)(*theirs, **kwargs | masks[torch]),
        inputs,
    )


IMAGES = (2, 4, 6, 6)


def Shifted(lib, layer):
    """A deformable convolution whose offsets a convolution finds."""

    class Both(lib.Module):
        def __init__(self):
            super().__init__()
            self.offset, self.layer = lib.Conv2d(4, 18, 3, padding=1), layer

        def forward(self, x):
            return self.layer(x, 0.01 * self.offset(x))

    return Both()


def Regions(lib, layer):
    """A layer with the regions of ROIS."""

    class Fixed(lib.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x, given(mg if lib is nn else torch, ROIS, False))

    return Fixed()


LAYERS = [
    (lambda lib, ops: ops.FrozenBatchNorm2d(4, eps=0.1), IMAGES),
    (lambda lib, ops: ops.Conv2dNormActivation(4, 3), IMAGES),
    (lambda lib, ops: ops.Conv2dNormActivation(
        4, 4, (3, 5), 2, groups=2, norm_layer=None, activation_layer=lib.SiLU, dilation=(1, 2)
    ), IMAGES),
    (lambda lib, ops: ops.Conv2dNormActivation(
        4, 3, 3, padding=0, activation_layer=None, inplace=None, bias=True
    ), IMAGES),
    (lambda lib, ops: ops.SqueezeExcitation(4, 2), IMAGES),
    (lambda lib, ops: ops.SqueezeExcitation(4, 2, lib.SiLU, lib.Sigmoid), IMAGES),
    (lambda lib, ops: ops.MLP(5, [4, 3], lib.LayerNorm, lib.GELU), (2, 5)),
    (lambda lib, ops: ops.MLP(5, [3], bias=False), (2, 5)),
    (lambda lib, ops: ops.Permute([0, 2, 3, 1]), IMAGES),
    (lambda lib, ops: ops.StochasticDepth(0.0, "row"), IMAGES),
    (lambda lib, ops: ops.DropBlock2d(0.0, 3), IMAGES),
    (lambda lib, ops: Shifted(lib, ops.DeformConv2d(4, 6, 3, padding=1, groups=2)), IMAGES),
    (lambda lib, ops: Regions(lib, ops.PSRoIAlign(2, 0.5, 2)), IMAGES),
    (lambda lib, ops: Regions(lib, ops.PSRoIPool(2, 0.5)), IMAGES),
]  # fmt: skip


def with_same_state(ours, theirs, seed=0):
    """Both layers with the same values, in float64."""
    ours, theirs = ours.to(device=TEST_DEVICE, dtype=mg.float64), theirs.double()
    generator = np.random.default_rng(seed)
    state = {
        name: generator.uniform(0.5, 1.5, tuple(tensor.shape))
        for name, tensor in theirs.state_dict().items()
        if tensor.dtype == torch.float64
    }
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({n: mg.tensor(a) for n, a in state.items()}, strict=False)
    theirs.load_state_dict({n: torch.tensor(a) for n, a in state.items()}, strict=False)
    return ours, theirs


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_layer_matches_torchvision(make, shape):
    ours, theirs = with_same_state(make(nn, vision), make(torch.nn, torchvision.ops))
    if not isinstance(theirs, torchvision.ops.Permute):  # which does not show its dims
        assert repr(ours) == repr(theirs)
    x = np.random.default_rng(1).standard_normal(shape)
    a, b = given(mg, x, True), given(torch, x, True)
    compare(ours(a), theirs(b), [(a, b)])


def test_frozen_batch_norm_takes_the_state_of_a_batch_norm():
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3))
    frozen = nn.Sequential(nn.Conv2d(1, 3, 1), vision.FrozenBatchNorm2d(3))
    frozen.load_state_dict(net.state_dict())
    assert not list(frozen[1].parameters())
    state = net.state_dict() | {"0.num_batches_tracked": mg.zeros(())}
    with pytest.raises(
        mg.CheckpointError, match=r"Unexpected key.*: \"0\.num_batches_tracked\"\.$"
    ):
        frozen.load_state_dict(state)


@pytest.mark.parametrize(
    "extra",
    [
        lambda module: None,
        lambda module: module.LastLevelMaxPool(),
        lambda module: module.LastLevelP6P7(3, 3),
    ],
    ids=["alone", "pooled", "convolved"],
)
def test_feature_pyramid_matches_torchvision(extra):
    sizes = {"a": (2, 9), "b": (4, 5), "c": (3, 2)}

    def pyramid(module):
        return module.FeaturePyramidNetwork([C for C, _ in sizes.values()], 3, extra(module))

    ours, theirs = with_same_state(pyramid(pyramids), pyramid(their_pyramids))
    generator = np.random.default_rng(2)
    maps = {name: generator.standard_normal((2, C, H, H + 1)) for name, (C, H) in sizes.items()}
    mine = {name: given(mg, each, True) for name, each in maps.items()}
    other = OrderedDict((name, given(torch, each, True)) for name, each in maps.items())
    out, expected = ours(mine), theirs(other)
    assert list(out) == list(expected)
    for name in out:
        np.testing.assert_allclose(values(out[name]), expected[name].detach(), rtol=1e-9)
    sum((each**2).sum() for each in out.values()).backward()
    sum((each**2).sum() for each in expected.values()).backward()
    for name in maps:
        np.testing.assert_allclose(values(mine[name].grad), other[name].grad, rtol=1e-8)


@pytest.mark.parametrize("names", [["0", "1", "2"], ["1"]])
def test_boxes_are_pooled_from_the_map_of_their_scale(names):
    generator = np.random.default_rng(3)
    maps = {str(k): generator.standard_normal((2, 3, 64 >> k, 48 >> k)) for k in range(3)}
    # From small to large: all three maps are read, the second image has no small ones.
    found = [boxes(6, size=90.0), 40 + boxes(4, seed=6, size=200.0)]
    make = [ops.MultiScaleRoIAlign(names, (2, 3), 2, canonical_scale=60)
            for ops in (vision, torchvision.ops)]  # fmt: skip
    assert repr(make[0]) == repr(make[1])
    shapes = [(256, 192), (250, 180)]
    mine = {k: given(mg, v, True) for k, v in maps.items()}
    other = OrderedDict((k, given(torch, v, True)) for k, v in maps.items())
    out = make[0](mine, [given(mg, each, False) for each in found], shapes)
    expected = make[1](other, [given(torch, each, False) for each in found], shapes)
    compare(out, expected, [(mine[name], other[name]) for name in names])


def test_stochastic_depth_drops_rows_or_everything():
    x = mg.ones(2000, 2, 1, device=TEST_DEVICE)
    rows = values(vision.stochastic_depth(x, 0.25, "row"))
    assert set(np.unique(rows)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (rows[:, :1] == rows).all()
    assert (rows[:, 0] == 0).mean() == pytest.approx(0.25, abs=0.05)
    drawn = [values(vision.stochastic_depth(x[:3], 0.5, "batch")) for _ in range(20)]
    assert {tuple(np.unique(each)) for each in drawn} == {(0.0,), (2.0,)}
    assert (values(vision.stochastic_depth(x, 1.0, "row")) == 0).all()
    assert vision.stochastic_depth(x, 0.5, "row", training=False) is x


def test_drop_block_drops_squares_and_keeps_the_sum():
    x = mg.ones(4, 8, 20, 20, device=TEST_DEVICE)
    out = values(vision.drop_block2d(x, 0.2, 3))
    dropped = out == 0
    assert dropped.mean() == pytest.approx(0.2, abs=0.05)
    assert out.sum() == pytest.approx(x.numel(), rel=1e-4)
    # Every dropped element lies in a dropped 3×3 square.
    whole = torch.nn.functional.max_pool2d(torch.tensor(-1.0 * dropped), 3, 1) == -1
    covered = torch.nn.functional.max_pool2d(
        torch.nn.functional.pad(1.0 * whole, (1,) * 4), 3, 1, 1
    )
    np.testing.assert_array_equal(covered.numpy() == 1, dropped)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda x: vision.box_iou(x, mg.ones(3)), ShapeError, r"boxes2 must be \(…, 4\).*\(3,\)"),
        (lambda x: vision.box_iou(x, x, "xy"), ValueError, r"fmt must be one of .*got 'xy'"),
        (lambda x: vision.box_convert(x, "xyxy", "yx"), ValueError, r"out_fmt must .*got 'yx'"),
        (lambda x: vision.box_area([1]), TypeError, r"boxes must be a Tensor, got list"),
        (lambda x: vision.masks_to_boxes(x), ShapeError, r"masks must be \(N, H, W\).*\(2, 4\)"),
        (lambda x: vision.generalized_box_iou_loss(x, x[:1]), ShapeError, r"one shape, got"),
        (lambda x: vision.distance_box_iou_loss(x, x, "max"), ValueError, r"got 'max'"),
        (lambda x: vision.sigmoid_focal_loss(x, x, alpha=2), ValueError, r"alpha .*got 2"),
        (lambda x: vision.stochastic_depth(x, 0.5, "all"), ValueError, r"mode .*got 'all'"),
        (lambda x: vision.stochastic_depth(x, 1.5, "row"), ValueError, r"p must be in"),
        (lambda x: vision.drop_block2d(x, 0.5, 3), ShapeError, r"\(N, C, H, W\)"),
        (lambda x: vision.drop_block2d(mg.ones(1, 1, 5, 4), 0.5, 5), ValueError, r"odd, got 4"),
        (lambda x: vision.ps_roi_align(x, [x], 2), ShapeError, r"C·2·2, H, W\).*\(2, 4\)"),
        (lambda x: vision.deform_conv2d(
            mg.ones(1, 2, 4, 4), mg.ones(1, 2, 4, 4), mg.ones(1, 2, 1, 1), mask=mg.ones(1, 2, 4, 4)
        ), ShapeError, r"mask must have shape \(1, 1, 4, 4\), got \(1, 2, 4, 4\)"),
        (lambda x: vision.deform_conv2d(
            mg.ones(1, 2, 4, 4), mg.ones(1, 3, 4, 4), mg.ones(1, 2, 1, 1)
        ), ShapeError, r"offset must be .*\(1, 3, 4, 4\)"),
        (lambda x: vision.DeformConv2d(3, 4, 1, groups=2), ShapeError, r"groups=2, 3 and 4"),
        (lambda x: vision.FeaturePyramidNetwork([3, 0], 2), ValueError, r"must not hold 0"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call(mg.ones(2, 4))


def test_names_are_torchvisions():
    missing = set(torchvision.ops.__all__) - set(vision.__all__)
    assert not set(vision.__all__) - set(torchvision.ops.__all__)
    assert all("3d" in name.lower() for name in missing)


def test_parameters_of_normalisations_are_told_apart() -> None:
    found = []
    for library, split in (
        (torch.nn, torchvision.ops._utils.split_normalization_params),
        (nn, split_normalization_params),
    ):
        inner = library.Sequential(library.Conv2d(1, 2, 3), library.GroupNorm(1, 2))
        model = library.Sequential(inner, library.BatchNorm2d(2), library.Linear(3, 4, bias=False))
        model[1].bias.requires_grad = False
        for classes in (None, [library.Linear]):
            found.append([[tuple(p.shape) for p in each] for each in split(model, classes)])
    assert found[:2] == found[2:]
