"""The MNIST example, run on the embedded digits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples import train_mnist
from minigrad import serialization
from minigrad.recording import CapturedStep
from minigrad.vision import datasets

ROOT = Path(__file__).resolve().parents[2]


def train(out: Path, *arguments: str) -> None:
    train_mnist.main(["--out", str(out), *arguments])


def weights(out: Path) -> dict[str, np.ndarray]:
    tensors = serialization.load_file(out / "last.safetensors")
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def assert_same_bits(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs that nothing interrupted."""
    out = tmp_path_factory.mktemp("two_epochs")
    train(out, "--epochs", "2")
    return out


def test_run_leaves_metrics_curves_and_checkpoints(two_epochs: Path) -> None:
    metrics = json.loads((two_epochs / "metrics.json").read_text())
    assert metrics["test_accuracy"] > 0.85
    assert metrics["train_images_per_second"] > 0
    assert metrics["epochs"] == len(metrics["history"]) == 2
    assert metrics["seconds"] > 0
    assert metrics["seed"] == 0
    assert metrics["settings"]["parameters"] == 29_066
    assert (two_epochs / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (two_epochs / "best.safetensors").exists()


def test_resumed_run_ends_with_the_same_bits(two_epochs: Path, tmp_path: Path) -> None:
    train(tmp_path, "--epochs", "1")
    train(tmp_path, "--epochs", "2", "--resume")
    assert_same_bits(weights(tmp_path), weights(two_epochs))


def test_interrupted_run_resumes_to_the_same_bits(
    two_epochs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = 0
    step = CapturedStep.__call__

    def interrupted_step(self: CapturedStep, *args: Any) -> None:
        nonlocal steps
        step(self, *args)
        steps += 1
        if steps == 50:  # in the second epoch of 36 steps
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(CapturedStep, "__call__", interrupted_step)
        with pytest.raises(SystemExit) as ended:
            train(tmp_path, "--epochs", "2")
    assert ended.value.code == 130
    assert steps == 50
    assert "Interrupted in epoch 2" in capsys.readouterr().out
    assert not (tmp_path / "metrics.json").exists()
    train(tmp_path, "--epochs", "2", "--resume")
    assert_same_bits(weights(tmp_path), weights(two_epochs))


def test_resume_refuses_other_settings(two_epochs: Path) -> None:
    with pytest.raises(SystemExit, match=r"lr was 0\.001, is 0\.5"):
        train(two_epochs, "--resume", "--lr", "0.5")


def test_resume_without_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no checkpoint"):
        train(tmp_path, "--resume")


def test_missing_mnist_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", ("http://127.0.0.1:9/",))  # nobody answers
    with pytest.raises(SystemExit, match=r"(?s)MNIST is not in .*could not download.*--data-root"):
        train(tmp_path / "out", "--dataset", "mnist", "--data-root", str(tmp_path))


def test_training_leaves_torch_unimported(tmp_path: Path) -> None:
    program = (
        "import sys; from examples import train_mnist; "
        f"train_mnist.main(['--epochs', '1', '--out', {str(tmp_path)!r}]); "
        "assert not {'torch', 'torchvision'} & set(sys.modules), 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
