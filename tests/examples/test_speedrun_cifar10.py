"""The CIFAR-10 speedrun: its pieces, and tiny runs of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from examples import datasets, networks, speedrun_cifar10
from examples.datasets import Data
from minigrad import serialization
from minigrad.data import ArrayDataset
from minigrad.files import held_alone

BATCH = 16


def photographs(count: int, seed: int) -> np.ndarray:
    """(N, H, W, 3) bytes whose neighbours are alike, as in photographs."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return small.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Data:
    """Ten colours to tell apart."""
    labels = np.arange(80) % 10
    images = photographs(80, 0) // 4 + (19 * labels[:, None, None, None]).astype(np.uint8)
    every = Data(ArrayDataset(images, labels), ArrayDataset(images[:20], labels[:20]), 0, "made up")
    monkeypatch.setattr(datasets, "load", lambda *arguments: every)
    return every


def run(out: Path, *arguments: str) -> dict[str, float]:
    options = ["--batch-size", str(BATCH), "--epochs", "0.5", "--out", str(out)]
    speedrun_cifar10.main([*options, *arguments])
    return json.loads((out / "metrics.json").read_text())


def test_responses_of_the_whitening_layer_have_the_identity_as_covariance() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((3, 3))  # of the channels
    images = mg.from_numpy(
        np.einsum("nchw,cd->ndhw", rng.standard_normal((64, 3, 9, 8)), mixing).astype(np.float32)
    )
    filters = speedrun_cifar10.whitening_filters(images, eps=0.0)
    assert filters.shape == (24, 3, 2, 2)
    responses = F.conv2d(images, filters).permute(1, 0, 2, 3).reshape(24, -1).numpy()
    covariance = responses @ responses.T / responses.shape[1]
    identity = np.eye(12)
    np.testing.assert_allclose(covariance[:12, :12], identity, atol=1e-3)
    np.testing.assert_allclose(covariance[12:, 12:], identity, atol=1e-3)
    np.testing.assert_array_equal(filters[12:].numpy(), -filters[:12].numpy())


def test_directions_of_hardly_any_variance_are_not_blown_up() -> None:
    flat = mg.from_numpy(photographs(16, 0).mean(axis=(1, 2), keepdims=True).repeat(4, 1).repeat(
        4, 2).astype(np.float32).transpose(0, 3, 1, 2) / 255)  # fmt: skip
    filters = speedrun_cifar10.whitening_filters(flat, eps=5e-4).numpy()
    assert np.abs(filters).max() <= 5e-4**-0.5 * (1 + 1e-4)


def test_convolutions_start_by_passing_on_what_comes_in() -> None:
    model = networks.speedrun()
    assert sum(p.numel() for p in model.parameters()) == 1_972_792
    images = mg.randn(4, 3, 32, 32)
    speedrun_cifar10.initialise(model, images)
    second = next(layer for layer in list(model)[2:] if isinstance(layer, mg.nn.Conv2d))
    x = mg.randn(2, 24, 5, 5)
    np.testing.assert_array_equal(second(x)[:, :24].detach().numpy(), x.numpy())
    assert np.abs(second(x)[:, 24:].detach().numpy()).max() > 0
    expected = speedrun_cifar10.whitening_filters(images).numpy()
    np.testing.assert_array_equal(model[0].weight.detach().numpy(), expected)
    assert not model[0].weight.requires_grad


def test_flips_alternate_and_shifts_reflect() -> None:
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(64)
    labels = np.arange(64)
    places: list[dict[int, tuple[bool, int, int]]] = []
    for epoch in (0, 1, 2):
        found = {}
        for batch, chosen in speedrun_cifar10.batches(images, labels, 16, seed=3, epoch=epoch):
            for image, label in zip(batch, chosen, strict=True):
                (found[int(label)],) = (
                    (mirrored, down, right)
                    for mirrored in (False, True)
                    for down in range(5)
                    for right in range(5)
                    if (image == moved(images[label], mirrored, down, right)).all()
                )
        assert found.keys() == set(range(64))
        places.append(found)
    mirrored = [[found[label][0] for label in range(64)] for found in places]
    assert 16 < sum(mirrored[0]) < 48
    assert mirrored[0] == mirrored[2] == [not each for each in mirrored[1]]
    assert {place[1:] for place in places[0].values()} > {(0, 1), (4, 2), (2, 4)}
    assert places[0] != places[2]


def moved(image: np.ndarray, mirrored: bool, down: int, right: int) -> np.ndarray:
    padded = np.pad(image[:, ::-1] if mirrored else image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    return padded[down : down + 8, right : right + 8]


def test_decay_does_not_depend_on_the_rate() -> None:
    model = networks.speedrun()
    optimizer = speedrun_cifar10.optimizer(model, batch_size=1024)
    biases, others = optimizer.param_groups
    assert len(biases["params"]) == 6
    assert len(others["params"]) == 1 + 6 + 1
    assert biases["lr"] == pytest.approx(64 * others["lr"])
    assert biases["lr"] * biases["weight_decay"] == pytest.approx(
        others["lr"] * others["weight_decay"]
    )
    # 1 / (1024 · (1 + 1 / 0.15))
    assert others["lr"] == pytest.approx(11.5 / 7850.667, rel=1e-6)
    assert others["lr"] * others["weight_decay"] == pytest.approx(0.0153 / 7.666667, rel=1e-6)


def test_lookahead_returns_to_the_slow_copy() -> None:
    model = mg.nn.Sequential(mg.nn.Linear(2, 2), mg.nn.BatchNorm1d(2))
    slow = speedrun_cifar10.Lookahead(model)
    start = model[0].weight.detach().clone()
    with mg.no_grad():
        model[0].weight.add_(1.0)
        model[1].running_mean.add_(2.0)
    slow.update(0.75)
    np.testing.assert_allclose(model[0].weight.detach().numpy(), start.numpy() + 0.25, rtol=1e-6)
    np.testing.assert_allclose(model[1].running_mean.numpy(), 0.5)
    with mg.no_grad():
        model[0].weight.add_(1.0)
    slow.update(1.0)
    np.testing.assert_allclose(model[0].weight.detach().numpy(), start.numpy() + 0.25, rtol=1e-6)


def test_predictions_do_not_tell_an_image_from_its_mirror_image() -> None:
    mg.manual_seed(0)
    model = networks.speedrun().eval()
    images = mg.randn(2, 3, 32, 32)
    with mg.no_grad():
        plain, mean = speedrun_cifar10.predictions(model, images)
        mirrored_plain, mirrored_mean = speedrun_cifar10.predictions(model, images.flip(3))
        constant = speedrun_cifar10.predictions(model, mg.ones(2, 3, 32, 32))
    scale = np.abs(plain.numpy()).max()
    # Moved up and left, an image's mirror image was moved up and right: only nearly the same.
    assert np.abs(mean.numpy() - mirrored_mean.numpy()).max() < 0.5 * scale
    assert np.abs(plain.numpy() - mirrored_plain.numpy()).max() > 0
    np.testing.assert_allclose(constant[0].numpy(), constant[1].numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("data")
def test_run_leaves_metrics_and_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = run(tmp_path, "--seed", "1", "--limit", "48", "--epochs", "1.5")
    assert 0 <= metrics["test_accuracy_plain"] <= 1
    assert 0 <= metrics["test_accuracy"] <= 1
    assert metrics["seed"] == 1
    assert metrics["epochs"] == 1.5
    assert metrics["settings"]["images"] == "made up"
    assert metrics["settings"]["train_images"] == 48
    assert [entry["images"] for entry in metrics["history"]] == [48, 32]  # ⌈1.5 · 3⌉ = 5 steps
    assert metrics["train_images_per_second"] == pytest.approx(80 / metrics["seconds"])
    model = networks.speedrun()
    model.load_state_dict(serialization.load_file(tmp_path / "last.safetensors"))
    assert "test accuracy" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="holds a run: name another --out"):
        run(tmp_path)


@pytest.mark.usefixtures("data")
def test_a_folder_has_one_run_at_a_time(tmp_path: Path) -> None:
    with held_alone(tmp_path), pytest.raises(SystemExit, match="in use by another process"):
        run(tmp_path)


def test_a_limit_is_one_of_the_test_images_too(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[list[int]] = []

    def test(model: mg.nn.Module, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        tested.append(labels.tolist())
        return {"test_accuracy": 0.5, "test_accuracy_plain": 0.5}

    monkeypatch.setattr(speedrun_cifar10, "test", test)
    run(tmp_path, "--limit", "16")
    expected = data.test.labels[np.linspace(0, len(data.test) - 1, 16).astype(int)]
    assert tested == [expected.tolist()]


@pytest.mark.usefixtures("data")
def test_a_run_that_diverges_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speedrun_cifar10, "LEARNING_RATE", 1e30)
    with pytest.raises(SystemExit, match=r"^The run diverged: the loss of epoch 1 is no number"):
        run(tmp_path, "--epochs", "3")

    def refuse(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    metrics = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert metrics["diverged"]
    assert [entry["train_loss"] for entry in metrics["history"]] == [None]


@pytest.mark.usefixtures("data")
def test_loss_falls(tmp_path: Path) -> None:
    history = run(tmp_path, "--epochs", "3")["history"]
    assert history[-1]["train_loss"] < history[0]["train_loss"] - 0.1


@pytest.mark.usefixtures("data")
def test_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(tmp_path / name)
    left, right = (
        serialization.load_file(tmp_path / name / "last.safetensors") for name in ("one", "two")
    )
    for name in left:
        np.testing.assert_array_equal(left[name].numpy(), right[name].numpy(), err_msg=name)


@pytest.mark.parametrize("epochs", ["0", "-1", "inf", "nan"])
def test_epochs_must_be_above_zero(epochs: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        speedrun_cifar10.main(["--epochs", epochs])
    assert "argument --epochs: must be above 0" in capsys.readouterr().err
