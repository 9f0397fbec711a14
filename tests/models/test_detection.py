"""torchvision's detection models on minigrad, as in test_torchvision.py: losses and gradients in
training; boxes, scores, labels, masks and keypoints in evaluation.

All on one small pyramid, with few proposals. What is drawn at random, the subset of the proposals
that counts in a loss, is the first of them on both sides.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from models.on_minigrad import twins

import minigrad as mg

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

Get = Callable[[str], types.ModuleType]
CLASSES, SIZE, KEYPOINTS = 4, 64, 3
FEW = {"detections_per_img": 6, "topk_candidates": 20, "score_thresh": 0.0}
RCNN = {
    "rpn_pre_nms_top_n_train": 40, "rpn_pre_nms_top_n_test": 40,
    "rpn_post_nms_top_n_train": 20, "rpn_post_nms_top_n_test": 10,
    "box_score_thresh": 0.0, "box_detections_per_img": 6,
}  # fmt: skip


def _file(get: Get, name: str) -> Any:
    return get(f"torchvision.models.detection.{name}")


def _pyramid(get: Get, channels: int = 8, extra: str = "LastLevelMaxPool") -> Any:
    """Maps of a fourth and an eighth of the image's side, and what `extra` adds."""
    blocks = get("torchvision.ops.feature_pyramid_network")
    options = (channels, channels) if extra == "LastLevelP6P7" else ()
    features = get("torchvision.models.mobilenetv2").mobilenet_v2(width_mult=0.25).features
    return _file(get, "backbone_utils").BackboneWithFPN(
        features[:6], {"3": "0", "5": "1"}, [8, 8], channels, getattr(blocks, extra)(*options)
    )


def _anchors(get: Get, levels: int, ratios: tuple[float, ...] = (0.5, 1.0, 2.0)) -> Any:
    sizes = tuple((8.0 * 2**level,) for level in range(levels))
    return _file(get, "anchor_utils").AnchorGenerator(sizes, (ratios,) * levels)


def _rcnn(get: Get, name: str, **heads: Any) -> Any:
    faster = _file(get, "faster_rcnn")
    return getattr(_file(get, name), name.replace("_rcnn", "").capitalize() + "RCNN")(
        _pyramid(get), min_size=SIZE, max_size=2 * SIZE, **RCNN, **heads,
        rpn_anchor_generator=_anchors(get, 3),
        box_head=faster.TwoMLPHead(8 * 7 * 7, 16),
        box_predictor=faster.FastRCNNPredictor(16, CLASSES),
    )  # fmt: skip


def _mask_rcnn(get: Get) -> Any:
    file = _file(get, "mask_rcnn")
    return _rcnn(
        get, "mask_rcnn", mask_head=file.MaskRCNNHeads(8, (8,), 1),
        mask_predictor=file.MaskRCNNPredictor(8, 8, CLASSES),
    )  # fmt: skip


def _keypoint_rcnn(get: Get) -> Any:
    file = _file(get, "keypoint_rcnn")
    return _rcnn(
        get, "keypoint_rcnn", keypoint_head=file.KeypointRCNNHeads(8, (8,)),
        keypoint_predictor=file.KeypointRCNNPredictor(8, KEYPOINTS),
    )  # fmt: skip


def _one_stage(get: Get, name: str, kind: str, ratios: tuple[float, ...], channels: int) -> Any:
    backbone = _pyramid(get, channels, "LastLevelP6P7")
    return getattr(_file(get, name), kind)(
        backbone, CLASSES, min_size=SIZE, max_size=2 * SIZE,
        anchor_generator=_anchors(get, 4, ratios), **FEW,
    )  # fmt: skip


def _ssd(get: Get, lite: bool = False) -> Any:
    generator = _file(get, "anchor_utils").DefaultBoxGenerator([[2], [2, 3], [2]])
    boxes = generator.num_anchors_per_location()
    norm = (get("torchvision.models.mobilenetv2").nn.BatchNorm2d,) if lite else ()
    kind = _file(get, "ssdlite").SSDLiteHead if lite else _file(get, "ssd").SSDHead
    head = kind([8] * 3, boxes, CLASSES, *norm)
    backbone = _pyramid(get)
    return _file(get, "ssd").SSD(backbone, generator, (SIZE, SIZE), CLASSES, head=head, **FEW)


CASES: dict[str, Callable[[Get], Any]] = {
    "faster_rcnn": lambda get: _rcnn(get, "faster_rcnn"),
    "mask_rcnn": _mask_rcnn,
    "keypoint_rcnn": _keypoint_rcnn,
    "retinanet": lambda get: _one_stage(get, "retinanet", "RetinaNet", (0.5, 1.0, 2.0), 8),
    "fcos": lambda get: _one_stage(get, "fcos", "FCOS", (1.0,), 32),
    "ssd": _ssd,
    "ssdlite": lambda get: _ssd(get, lite=True),
}


def scene(library: Any, name: str) -> tuple[list[Any], list[dict[str, Any]]]:
    """Two images of different sizes and the boxes in them."""
    chance = np.random.default_rng(0)
    images, targets = [], []
    for height, width, count in ((SIZE, SIZE - 8, 3), (SIZE - 16, SIZE, 2)):
        images.append(chance.uniform(0, 1, (3, height, width)))
        corners = chance.uniform(0.05, 0.5, (count, 2)) * (width, height)
        sides = chance.uniform(0.2, 0.45, (count, 2)) * (width, height)
        target = {
            "boxes": np.concatenate([corners, corners + sides], 1),
            "labels": chance.integers(1, CLASSES, count),
        }
        if name == "mask_rcnn":
            target["masks"] = (chance.random((count, height, width)) < 0.5).astype(np.uint8)
        if name == "keypoint_rcnn":
            places = corners[:, None] + chance.uniform(0, 1, (count, KEYPOINTS, 2)) * sides[:, None]
            seen = np.ones((count, KEYPOINTS, 1))
            target["keypoints"] = np.concatenate([places, seen], 2).astype(np.float32)
        targets.append({key: library.from_numpy(value) for key, value in target.items()})
    return [library.from_numpy(image) for image in images], targets


def run(library: Any, model: Any, name: str) -> dict[str, np.ndarray]:
    images, targets = scene(library, name)
    losses = model.train()(images, targets)
    found = {key: loss.detach().numpy() for key, loss in losses.items()}
    sum(losses.values()).backward()
    for key, parameter in model.named_parameters():
        found[f"gradient of {key}"] = parameter.grad.numpy()
    with library.no_grad():
        results = model.eval()(images)
    for number, result in enumerate(results):
        for key, value in result.items():
            found[f"{key} of image {number}"] = value.numpy()
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_detector_of_torchvision_computes_what_it_does_on_torch(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in (torch, mg):
        monkeypatch.setattr(library, "randperm", library.arange)
    theirs, ours = twins(CASES[name])
    expected, found = run(torch, theirs, name), run(mg, ours, name)
    assert list(found) == list(expected)
    assert all(len(found[f"boxes of image {number}"]) for number in (0, 1))
    # torchvision keeps labels of proposals and keypoints in float32.
    gradients = [np.abs(v).max() for key, v in expected.items() if key.startswith("gradient")]
    for key, values in expected.items():
        assert (found[key].dtype, found[key].shape) == (values.dtype, values.shape), key
        np.testing.assert_allclose(
            found[key], values, rtol=1e-6, atol=1e-6 * np.abs(values).max() + 1e-9 * max(gradients),
            err_msg=f"{name}: {key}",
        )  # fmt: skip
